"""Sentences about results that both doors print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.paper.account import SessionAccount
from harness.paper.errors import Exit
from harness.paper.record import Record
from harness.paper.units import format_clock, format_seconds


def claim_failure(result: Mapping[str, Any]) -> str:
    """Say why a claim, or the judgement of one of its mutants, is not as expected."""
    lines = []
    if result["verdict"] != result["expected"]:
        lines.append(
            f"The claim {result['name']} was expected to be {result['expected']} and is {result['verdict']}."
        )
        lines.append(_because(result))
    for mutant in result["mutants"]:
        if mutant["verdict"] != mutant["expected"]:
            lines.append(
                f"Its mutant {mutant['name']} was expected to be {mutant['expected']} "
                f"and is {mutant['verdict']}."
            )
            lines.append(_because(mutant))
    return "\n".join(line for line in lines if line)


def _because(result: Mapping[str, Any]) -> str:
    found = result.get("counterexample")
    if found:
        return (
            f"At {found['shape']} {found['result']}{found['index']} is {found['left']} on the left and "
            f"{found['right']} on the right."
        )
    return result.get("reason") or ""


def claim_line(result: Mapping[str, Any]) -> str:
    """Tell in one line what a claim reached."""
    chances = [entry["log10_p"] for entry in result["evidence"] if entry.get("log10_p") is not None]
    certainty = f", error probability at most 1e{max(chances):.0f}" if chances else ""
    gradients = ", values and gradients" if any(entry["vjp"] for entry in result["evidence"]) else ""
    said = f"{result['name']}: {result['verdict']}{_how(result)}"
    return f"{said}{certainty}{gradients}{_mutants(result['mutants'])}"


def _how(result: Mapping[str, Any]) -> str:
    """Name the counterexample, or every level that was reached; draws that violate nothing reach none."""
    if result["verdict"] == "refuted" and result.get("counterexample"):
        return " by a counterexample"
    shown = (entry for entry in result["evidence"] if entry.get("method") != "draws")
    levels = sorted({entry.get("level", result["level"]) for entry in shown}, reverse=True)
    return f" at {' and '.join(levels)}" if result["level"] else ""


def _mutants(mutants: Sequence[Mapping[str, Any]]) -> str:
    wrong = [mutant for mutant in mutants if mutant["expected"] == "refuted"]
    if not wrong:
        return ""
    refuted = sum(mutant["verdict"] == "refuted" for mutant in wrong)
    equal = len(mutants) - len(wrong)
    more = f", {equal} equivalent" if equal else ""
    return f"; {refuted} of {len(wrong)} mutants refuted{more}"


def record_line(record: Record) -> str:
    """Tell in one line how a case ended."""
    latency = record.readings.get("latency")
    if latency is None or latency.value is None:
        return f"{record.case}  {record.status}: {record.reason}"
    half = ((latency.high or 0) - (latency.low or 0)) / 2 / latency.value
    return f"{record.case}  {latency} ±{half:.1%}"


def exit_line(code: int) -> str:
    """Tell an exit code with its meaning."""
    try:
        return f"exit {code}: {Exit(code).meaning}"
    except ValueError:
        return f"exit {code}"


def summary_lines(records: Iterable[Record]) -> list[str]:
    """Tell, for every group of cases that compute the same, the fastest and how the others compare."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(str(record.case.group), []).append(record)
    return [line for members in groups.values() for line in _group_lines(members)]


def plan_line(cases: int, claims: int, seconds: float) -> str:
    """Tell what is to come and how long it will take."""
    return (
        f"plan  {_count(cases, 'case')} to measure and {_count(claims, 'claim')} to prove: "
        f"about {format_clock(seconds)} minutes"
    )


def account_line(account: SessionAccount) -> str:
    """Tell where the time of a session went."""
    parts = [f"{phase} {format_seconds(seconds)}" for phase, seconds in account.phases.items() if seconds]
    share = account.overhead_share
    beside = "" if share is None else f"; {share:.0%} of it was not measuring"
    return f"time  {format_clock(account.seconds)} minutes: {', '.join(parts)}{beside}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def left_out_of_claims(results: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Tell what the proofs of claims left out, and of which claim."""
    return [
        {"what": f"{entry['what']} of {result['name']}", "reason": entry["reason"]}
        for result in results
        for entry in result["left_out"]
    ]


def left_out_lines(left_out: Iterable[Mapping[str, Any]]) -> list[str]:
    """Tell what was left out, one line a reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in left_out:
        by_reason.setdefault(entry["reason"], []).append(entry["what"])
    return [
        f"left out: {what[0]}{f' and {len(what) - 1} more' if len(what) > 1 else ''} ({reason})"
        for reason, what in by_reason.items()
    ]


def resume_line(missing: int, planned: int, command: str) -> str:
    """Tell how to measure what a run set out to measure and did not."""
    return f"{missing} of {planned} cases have no record yet. To measure the rest: {command}"


def _group_lines(members: list[Record]) -> list[str]:
    timed = sorted((record for record in members if _seconds(record) is not None), key=_seconds)
    case = members[0].case
    head = f"{case.operator}/{case.scope} {case.workload} {case.dtype} {case.device} {case.direction}"
    lines = [head]
    for record in timed:
        latency, memory = record.readings["latency"], record.readings.get("memory")
        held = str(memory) if memory and memory.value is not None else "no memory"
        factor = _seconds(record) / _seconds(timed[0])
        lines.append(f"    {record.case.implementation:<16}{latency!s:>10}{factor:>8.2f}×{held:>12}")
    lines += [
        f"    {record.case.implementation:<16}{record.status}: {record.reason}"
        for record in members
        if _seconds(record) is None
    ]
    return lines


def _seconds(record: Record) -> Any:
    latency = record.readings.get("latency")
    return latency.value if latency else None
