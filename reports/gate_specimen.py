"""A made-up outcome of the gate with every verdict, and one whose every name is an attack; for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, sqrt
from random import Random
from statistics import fmean, stdev
from typing import Any

from harness.paper.gate.outcome import (
    Bounds,
    CaseOutcome,
    ControlOutcome,
    GateOutcome,
    TwinNumber,
    Verdict,
)

from .poison import poison

POLICY: Mapping[str, Any] = {
    "margin": 0.005,
    "detect": 0.02,
    "sensitivity": 0.05,
    "false_alarms": 0.001,
    "wall_margin": 0.1,
    "memory_margin": 0.02,
    "insensitive_share": 0.1,
    "processes": [4, 12, 12],
    "seconds_per_case": 5.0,
    "counts": "explain",
    "build": [],
    "paths": ["."],
    "plant": 0.05,
    "cases": [
        {"match": "sliding_attention2d/*", "reason": "its softmax is bimodal", "detect": 0.03},
    ],
    "accepts": [
        {
            "match": "conv2d/core/grouped/*",
            "up_to": 1.08,
            "reason": "the odd widths are computed right now",
            "expires": "2031-08-01",
        }
    ],
    "digest": "5f3a1c0b7e9d2468ace013579bdf02468ace13579bdf0248ace1357902468ace",
}
_CPU = "thread CPU time"
_COUNTS = {"aten_operators": 12.0, "bytes_allocated": 802816.0, "macs": 9.83e6, "peak_bytes": 1605632.0}


def make_outcome() -> GateOutcome:
    """Return an outcome that holds every verdict; it is the same at every call."""
    return GateOutcome(
        base={"ref": "origin/main", "commit": "5b1a6c5d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b", "dirty": False},
        head={"ref": "HEAD", "commit": "c0ffee5d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b", "dirty": True},
        machine={"cpu": "Example CPU 3000 @ 2.50GHz", "cpus": 2, "torch": "2.13.0", "memory_gib": 7.8},
        policy=POLICY,
        twins={"how": "forked", "reason": ""},
        cases=make_cases(),
        controls=make_controls(),
        insensitive_share=0.1,
        started="2031-05-06T07:08:09+00:00",
        seconds=83.0,
        notes=("The accepted slowdown of dcd/* expired on 2031-05-01 and accepts nothing.",),
    )


def make_passing(cases: int = 20) -> GateOutcome:
    """Return an outcome in which every case passes."""
    found = [_timed(_name(f"involution_{number}"), Verdict.PASS, 0.0002, (4,)) for number in range(cases)]
    return replace(make_outcome(), cases=found, controls=make_controls(), notes=())


def make_cases() -> list[CaseOutcome]:
    """Return one case or more for every verdict, passes first."""
    forward = [
        _timed(_name("involution"), Verdict.PASS, 0.0004, (4,)),
        _timed(_name("dynamic_depthwise_conv2d"), Verdict.PASS, -0.041, (4,)),
        _timed(_name("conv2d", "compiled"), Verdict.PASS, 0.0021, (4, 12)),
    ]
    forward[1] = replace(forward[1], notes=("Head is faster: 0.960 (0.957 to 0.963).",))
    slow = _timed(_name("sliding_attention2d"), Verdict.FAIL, 0.0312, (4, 12))
    slow = replace(
        slow,
        reason="3.2 % slower (at least 2.4 %, 95 % interval 2.8 to 3.5 %) in 12 pairs of processes.",
        counts={"base": _COUNTS, "head": {**_COUNTS, "aten_operators": 14.0, "bytes_allocated": 1605632.0}},
        notes=("Head runs 2 ATen operators more.",),
    )
    asleep = _timed(_name("involution", "native"), Verdict.FAIL, 0.31, (4, 12), clock="wall")
    asleep = replace(asleep, reason="37 % slower by the wall in 12 pairs of processes.")
    loud = _timed(_name("sliding_attention2d", "authors"), Verdict.INSENSITIVE, 0.004, (4, 12, 12), 0.06)
    vague = _timed(_name("involution", "authors"), Verdict.INCONCLUSIVE, 0.0135, (4, 12, 12), 0.011)
    accepted = _timed(_name("conv2d", "grouped"), Verdict.ACCEPTED, 0.061, (4, 12))
    return [
        *forward,
        slow,
        asleep,
        replace(loud, reason="A slowdown of 5 % could have been missed: processes differ by 6 %."),
        replace(vague, reason="1.4 % slower, but a false alarm cannot be excluded in 24 pairs."),
        replace(accepted, reason="Accepted up to 1.08 until 2031-08-01: the odd widths are computed right."),
        CaseOutcome(_name("dcd"), Verdict.MISSING, "Base has this case and head has not."),
        CaseOutcome(_name("condconv"), Verdict.CHANGED, "The workload's H is 56 in base and 28 in head."),
        CaseOutcome(_name("odconv"), Verdict.NEW, "Base has no such case, so nothing was compared."),
        CaseOutcome(_name("conv2d", "shifted"), Verdict.DISAGREED, "y[0, 1, 2, 3] is off by 0.5."),
        CaseOutcome(_name("conv2d", "unfold"), Verdict.BROKEN, "Head's process ended with signal 11."),
    ]


def make_controls() -> list[ControlOutcome]:
    """Return base against itself, and against itself made slower."""
    same = _timed(_name("involution"), Verdict.PASS, 0.0003, (4,))
    slower = _timed(_name("involution"), Verdict.FAIL, 0.0489, (4, 12))
    return [
        ControlOutcome("A/A", same.name, 0.0, same, is_sound=True, reason=""),
        ControlOutcome("plant", slower.name, 0.05, slower, is_sound=True, reason=""),
    ]


def make_poisoned_outcome(text: str) -> GateOutcome:
    """Return the specimen with an attack at the end of every name, reason and fact."""
    outcome = make_outcome()
    return replace(
        outcome,
        **{name: poison(getattr(outcome, name), text) for name in ("base", "head", "twins", "notes")},
        machine={**poison(outcome.machine, text), text: {text: text}},
        policy={**poison(outcome.policy, text), text: text},
        cases=[_poison_case(case, text) for case in outcome.cases],
        controls=[
            replace(
                control,
                case=control.case + text,
                outcome=_poison_case(control.outcome, text),
                is_sound=False,
                reason=text,
            )
            for control in outcome.controls
        ],
        started=outcome.started + text,
    )


def _poison_case(case: CaseOutcome, text: str) -> CaseOutcome:
    return replace(
        case,
        name=case.name + text,
        reason=case.reason + text,
        clock=case.clock + text,
        counts={side: {**numbers, text: float(side == "head")} for side, numbers in case.counts.items()},
        notes=[*case.notes, text],
    )


def _name(operator: str, implementation: str = "reference") -> str:
    return f"{operator}/core/{implementation}/rednet50-stage2/float32/cpu/forward"


def _timed(
    name: str,
    verdict: Verdict,
    shift: float,
    stages: Sequence[int],
    spread: float = 0.004,
    clock: str = _CPU,
) -> CaseOutcome:
    """Return a case whose pairs of processes lie around ``shift``, the logarithm of the ratio."""
    random = Random(f"{name} {shift}")  # noqa: S311 (nothing here is secret)
    found = [[_pair(random, shift, spread) for _ in range(number)] for number in stages]
    logs = [
        number.wall if clock == "wall" or number.cpu is None else number.cpu
        for stage in (found[1:] or found)
        for number in stage
    ]
    walls = [number.wall for stage in found for number in stage]
    return CaseOutcome(
        name=name,
        verdict=verdict,
        reason="No slowdown of 2 % or more." if verdict is Verdict.PASS else "",
        bounds=_bounds(logs),
        clock=clock,
        stages=found,
        wall=None if clock == "wall" else _bounds(walls),
        counts={"base": _COUNTS, "head": _COUNTS},
        seconds=1.7 * len(walls) / 4,
    )


def _pair(random: Random, shift: float, spread: float) -> TwinNumber:
    cpu = random.gauss(shift, spread)
    return TwinNumber(cpu, cpu + random.gauss(0.0, 2 * spread), 40, 0.008, 1.23e-4)


def _bounds(logs: Sequence[float]) -> Bounds:
    # Rough quantiles of Student's t, 95 % on two sides and 99.99 % on one.
    error = stdev(logs) / sqrt(len(logs))
    middle, half, far = fmean(logs), 2.4 * error, 5.0 * error
    return Bounds(
        ratio=exp(middle),
        low=exp(middle - far),
        interval=(exp(middle - half), exp(middle + half)),
        detectable=exp(0.005 + far + 2.7 * error) - 1,
        processes=len(logs),
    )
