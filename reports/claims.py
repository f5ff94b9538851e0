"""Claims in words that promise no more than their level gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.paper.record import ClaimRecord
from harness.paper.store import Run
from harness.paper.units import format_seconds

from .facts import write_dims
from .prose import count
from .view import ClaimView, EvidenceRow, MutantView

_SPECIFIED = "proved for the specification at all sizes, which does not look into the programs"
_COMPLETE = "proved for the programs at {}, completely: no input was left to chance"
_CERTIFIED = "certified: a false identity would pass with probability {}"
_COUNTERED = "shown by a counterexample at every shape"
_CONSTRUCTED = "shown by a construction, for which no probability is stated"
_ROUNDING = "the float difference is explained by rounding; this is agreement, and no more than that"
# Of more claims the scripts of mutants that were refuted as expected would weigh as much as all else.
SCRIPTS_UP_TO = 100
_METHODS = {"basis": "complete, on a basis", "symbolic": "complete, by symbols", "draws": "draws"}


def list_claims(run: Run, prefix: str) -> tuple[ClaimView, ...]:
    """Build the latest result of every claim of a run."""
    latest = {claim.name: claim for claim in run.claims}
    with_scripts = len(latest) <= SCRIPTS_UP_TO
    return tuple(_view(claim, prefix, with_scripts) for claim in latest.values())


def say_level(result: Mapping[str, Any]) -> str:
    """Say what the level of a claim establishes."""
    if result.get("verdict") == "refused":
        return str(result.get("reason") or "no reason was recorded")
    if result.get("verdict") == "refuted":
        return "by a counterexample"
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for entry in result.get("evidence", ()):
        entries.setdefault(str(entry.get("level", result.get("level", ""))), []).append(entry)
    sentences = [_say_one_level(level, entries[level]) for level in sorted(entries, reverse=True)]
    return "; ".join(dict.fromkeys(sentences))


def _say_one_level(level: str, entries: list[Mapping[str, Any]]) -> str:
    if level == "L3":
        return _SPECIFIED
    if level == "L0":
        return _ROUNDING
    if any(entry.get("method") == "counterexample" for entry in entries):
        return _COUNTERED
    shapes = count(len({write_dims(entry.get("shape", {})) for entry in entries}), "shape")
    chances = [entry["log10_p"] for entry in entries if entry.get("log10_p") is not None]
    if level == "L2":
        return _COMPLETE.format(shapes)
    return _CERTIFIED.format(say_chance(max(chances))) if chances else _CONSTRUCTED


def say_chance(log10_p: float) -> str:
    """Write a probability by its power of ten: ``below 1e-30``."""
    power = math.ceil(log10_p)
    return f"{'at most' if power == log10_p else 'below'} 1e{power}"


def _view(claim: ClaimRecord, prefix: str, with_scripts: bool) -> ClaimView:
    result = claim.result
    mutants = [_mutant(mutant, with_scripts) for mutant in result.get("mutants", ())]
    found = result.get("counterexample")
    return ClaimView(
        name=claim.name,
        anchor=f"{prefix}claim/{claim.name}",
        statement=str(result.get("statement", "")),
        kind=str(result.get("kind", "identity")),
        source=str(result.get("source") or ""),
        operators=tuple(str(name) for name in result.get("operators", ())),
        conditions=tuple(str(condition) for condition in result.get("conditions", ())),
        verdict=_say_verdict(result),
        fine=claim.as_expected,
        level=str(result.get("level", "")) if result.get("verdict") == "holds" else "",
        words=say_level(result),
        corrects=str(result.get("corrects") or ""),
        counterexample=_say_counterexample(found),
        script=str(found.get("script") or "") if found else "",
        evidence=tuple(row for entry in result.get("evidence", ()) for row in _list_evidence(entry)),
        refuted=tuple(mutant for mutant in mutants if not mutant.because),
        equivalent=tuple(mutant for mutant in mutants if mutant.because),
        seconds=format_seconds(result["seconds"]) if result.get("seconds") is not None else "",
    )


def _say_verdict(result: Mapping[str, Any]) -> str:
    verdict, expected = str(result.get("verdict", "")), result.get("expected")
    if verdict == "refused":
        return "not decided"
    if verdict != expected:
        return f"{verdict}, though expected to be {'refuted' if expected == 'refuted' else 'true'}"
    return "refuted, as expected" if verdict == "refuted" else verdict


def _list_evidence(entry: Mapping[str, Any]) -> Iterator[EvidenceRow]:
    shape = write_dims(entry.get("shape", {}))
    for lemma in entry.get("lemmas", ()):
        yield EvidenceRow("all sizes", str(lemma["statement"]), ("–",) * 5, "z3")
    if entry.get("method") in _METHODS:
        yield EvidenceRow(shape, _METHODS[entry["method"]], ("–",) * 5, str(entry.get("backend") or ""))
    if entry.get("method") in ("lemmas", *_METHODS):
        return
    for found in entry.get("passes") or (entry,):
        what = "vector-Jacobian product" if found.get("vjp") else "values"
        numbers = (
            _number(found.get("degree")),
            f"±{_number(found['magnitude'])}" if found.get("magnitude") is not None else "–",
            _number(found.get("trials")),
            _number(found.get("log10_p"), ".1f"),
            _share(found.get("majorant_ratio")),
        )
        yield EvidenceRow(shape, what, numbers, str(entry.get("backend") or ""))


def _number(value: float | None, form: str = "") -> str:
    return "–" if value is None else format(value, form)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"


def _mutant(mutant: Mapping[str, Any], with_script: bool) -> MutantView:
    found = mutant.get("counterexample")
    verdict, expected = str(mutant.get("verdict", "")), mutant.get("expected")
    words = {
        "holds": "equal, as declared" if expected == "holds" else "not refuted",
        "refused": "not decided",
    }
    return MutantView(
        name=str(mutant.get("name", "")),
        statement=str(mutant.get("statement") or ""),
        drops=str(mutant.get("drops") or ""),
        verdict=words.get(verdict, verdict) + (f": {mutant['reason']}" if mutant.get("reason") else ""),
        fine=verdict == expected,
        share=_share(mutant.get("differing_share")),
        counterexample=_say_counterexample(found),
        script=str(found.get("script") or "") if found and (with_script or verdict != expected) else "",
        because=str(mutant.get("equivalent_because") or ("declared" if expected == "holds" else "")),
    )


def _say_counterexample(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    index = ", ".join(str(place) for place in found.get("index", ()))
    left, right = (_exact(found.get(side)) for side in ("left", "right"))
    place = f"{found.get('result', 'output')}[{index}]"
    return f"{place}: left {left}, right {right}, at {write_dims(found.get('shape', {}))}"


def _exact(value: Any) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)
