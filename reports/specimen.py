"""A made-up run with everything a page can meet: numbers, reasons, red cases, claims; for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from harness.paper.record import Agreement, CaseId, ClaimRecord, Reading, Record, Status
from harness.paper.stats import summarise
from harness.paper.store import Header, Run
from harness.paper.units import Unit

# Milliseconds of the reference and MACs of one call, by operator.
_OPERATORS: Mapping[str, tuple[float, float]] = {
    "sliding_attention2d": (14.2, 9.83e6),
    "involution": (15.1, 9.83e6),
    "dynamic_depthwise_conv2d": (9.4, 9.83e6),
    "conv2d": (1.9, 4.62e8),
}
# Time as a share of the reference's.
_SPEEDS: Mapping[str, float] = {"reference": 1.0, "authors": 0.62, "shifted": 0.21, "grouped": 0.34}
_WORKLOADS: Mapping[str, tuple[float, Mapping[str, int]]] = {
    "shared/stage1": (1.0, {"B": 1, "C": 64, "H": 56, "W": 56, "K": 7, "G": 4}),
    "rednet50/stage3": (0.31, {"B": 1, "C": 256, "H": 14, "W": 14, "K": 7, "G": 16}),
}
_NO_PRODUCTS = "the taps are multiplied and added elementwise, which product counters do not see"
_NO_ENERGY = "on the CPU energy is not read by this version"

RED = CaseId("involution", "core", "grouped", "rednet50/stage3", "float32", "cpu", "forward")
DEAD = CaseId("conv2d", "core", "grouped", "rednet50/stage3", "float32", "cpu", "forward")
UNREAD = CaseId("conv2d", "core", "shifted", "shared/stage1", "float32", "cpu", "forward")
NEVER = "involution/core/native/shared-stage1/float32/cpu/forward"


def make_run() -> Run:
    """Return the run; it is the same at every call."""
    records = list(_records())
    return Run(
        folder=Path("specimen"),
        header=make_header(tuple(str(record.case) for record in records)),
        records=records,
        claims=[make_claim()],
    )


def make_header(plan: tuple[str, ...]) -> Header:
    """Return a header with machine, commit, options and a catalogue of four operators."""
    machine = {
        "cpu": "Example CPU 3000 @ 2.50GHz",
        "cpus": 2,
        "gpus": [],
        "torch": "2.13.0",
        "memory_gib": 7.8,
    }
    return Header(
        identity={
            "machine": machine,
            "commit": {"commit": "5b1a6c5d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b", "dirty": False},
            "options": {"preset": "quick", "device": "all", "operator": "*"},
        },
        machine={
            "identity": machine,
            "libraries": {"torch": "2.13.0", "numpy": "2.4.6", "triton": None},
            "torch": {"threads": 2, "blas": "mkl", "onednn": True},
            "load_average": [0.4, 0.3, 0.2],
        },
        catalogue=make_catalogue(),
        plan=(*plan, NEVER),
        left_out=(
            {"what": "every case on cuda", "reason": "this build of torch (2.13.0+cpu) has no CUDA"},
            {"what": "conv2d/core/compiled/shared/stage1 on cpu", "reason": "quick compiles nothing"},
            {"what": "involution/core/compiled/shared/stage1 on cpu", "reason": "quick compiles nothing"},
        ),
        started="2031-05-06T07:08:09+00:00",
    )


def make_catalogue() -> dict[str, Any]:
    """Return a catalogue in the shape of ``sameop list --json``."""
    return {
        "operators": [_operator(name) for name in _OPERATORS],
        "claims": [{"name": "local-attention-is-dynamic-depthwise-conv"}, {"name": "not-yet-checked"}],
        "comparisons": [
            {
                "name": "local-operators-56",
                "scope": "core",
                "operators": list(_OPERATORS),
                "workloads": ["shared/stage1"],
                "dims": dict(_WORKLOADS["shared/stage1"][1]),
                "matched": "the same map, channels and window; MACs but for conv2d, which mixes channels",
            }
        ],
    }


def make_claim(level: str = "L1", log10_p: float | None = -30.8) -> ClaimRecord:
    """Return a claim that holds, with refuted mutants and an equivalent one."""
    shape = {"B": 2, "C": 4, "H": 7, "W": 6, "K": 3, "G": 2}
    passes = [
        {"vjp": vjp, "degree": 2 + vjp, "magnitude": 4095 >> vjp, "trials": 9 + vjp, "log10_p": log10_p}
        for vjp in (False, True)
    ]
    evidence = {"level": level, "shape": shape, "log10_p": log10_p, "backend": "im2col", "passes": passes}
    result = {
        "name": "local-attention-is-dynamic-depthwise-conv",
        "statement": "With its attention weights given, local attention is a dynamic depthwise convolution "
        "whose kernels are shared by the channels of a head.",
        "kind": "identity",
        "operators": ["sliding_attention2d", "dynamic_depthwise_conv2d"],
        "source": "Han et al. 2021, section 3",
        "conditions": ["the window is centred", "outside the map the values are zero"],
        "expected": "holds",
        "verdict": "holds",
        "level": level,
        "evidence": [evidence],
        "mutants": [
            _mutant("flipped-kernel", "The kernel is flipped.", None, 0.94),
            _mutant("circular-padding", "The map is continued periodically.", "zero outside the map", 0.032),
            {
                **_mutant("taps-in-another-order", "The taps are summed by columns.", None, 0.0),
                "expected": "holds",
                "verdict": "holds",
                "equivalent_because": "a sum does not depend on its order",
                "counterexample": None,
            },
        ],
        "seconds": 1.93,
    }
    return ClaimRecord(result["name"], result)  # type: ignore[arg-type]  # the name is text


def make_record(case: CaseId, milliseconds: float, macs: float = 9.83e6) -> Record:
    """Return a measured record with every meter."""
    bytes_needed = 4.0 * macs / 3
    return Record(
        case=case,
        status=Status.MEASURED,
        agreement=Agreement(agrees=True, level="exact on integers", evidence={"before": {"checks": []}}),
        readings={
            "latency": make_latency(milliseconds, seed=str(case)),
            "memory": Reading(Unit.BYTES, bytes_needed, facts={"output_bytes": bytes_needed / 3}),
            "energy": Reading.missing(Unit.JOULES_PER_CALL, _NO_ENERGY),
            "macs": Reading(Unit.MACS_PER_CALL, macs, facts={"params": 0, "witnesses": _witnesses(macs)}),
        },
        inputs={"seed": 7, "tensors": {"x": {"shape": [1, 64, 56, 56], "role": "activation"}}},
        worker={"threads": 1, "allocator": "pinned", "tf32": False},
        started="2031-05-06T07:08:10+00:00",
        seconds=1.2,
    )


def make_latency(milliseconds: float, seed: str) -> Reading:
    """Return a latency whose samples lie around a median, a little to its right."""
    random = Random(seed)  # noqa: S311 (nothing here is secret)
    samples = tuple(milliseconds * 1e-3 * (1 + 0.02 * random.expovariate(1.0)) for _ in range(101))
    found = summarise(samples)
    facts = {
        "low_quartile": found.low_quartile,
        "high_quartile": found.high_quartile,
        "clock": "perf_counter and thread_time",
        "calls_per_sample": 4,
        "faults_per_call": 0.0,
        "warm_up_stable": True,
    }
    return Reading(Unit.SECONDS_PER_CALL, found.median, found.low, found.high, samples, facts)


def _records() -> Iterator[Record]:
    for operator, (milliseconds, macs) in _OPERATORS.items():
        for workload, (size, _) in _WORKLOADS.items():
            for implementation, share in _SPEEDS.items():
                if (operator, implementation) == ("conv2d", "authors"):
                    continue
                case = CaseId(operator, "core", implementation, workload, "float32", "cpu", "forward")
                yield _spoil(make_record(case, milliseconds * size * share, macs * size))


def _spoil(record: Record) -> Record:
    """Turn three of the cases into ones without a number."""
    if record.case == RED:
        wrong = "output[0, 3, 0, 1] is 17, the reference has 12: the error is 5, the limit 0"
        return replace(
            record,
            status=Status.DISAGREED,
            reason=f"It disagrees with the reference before timing: {wrong}",
            agreement=Agreement(agrees=False, level="exact on integers", reason=wrong),
        )
    if record.case == DEAD:
        return replace(record, status=Status.CRASHED, reason="signal 11", agreement=None, readings={})
    if record.case == UNREAD:
        silent = Reading.missing(Unit.SECONDS_PER_CALL, "the page faults per call never became stable")
        return replace(record, readings={**record.readings, "latency": silent})
    return record


def _witnesses(macs: float) -> dict[str, Any]:
    return {
        "ones_probe": {
            "macs": macs * 0.9,
            "verdict": "explained",
            "reason": "taps on padding are not counted",
        },
        "flop_counter": {"macs": macs, "verdict": "agrees", "reason": "equal to the formula"},
        "fvcore": {"macs": None, "verdict": "not counted", "reason": _NO_PRODUCTS},
    }


def _operator(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "family": "example",
        "source": "Example et al. 2021, eq. (3)",
        "note": "",
        "scopes": ["core"],
        "formulas": {"core": "y[b,c,i,j] = Σ_uv kernel[b,g,u,v,i,j] · x[b,c,i+u,j+v]"},
        "implementations": [
            {"name": kind, "scopes": ["core"]} for kind in _SPEEDS if (name, kind) != ("conv2d", "authors")
        ],
        "workloads": list(_WORKLOADS),
        "dims": {workload: dict(dims) for workload, (_, dims) in _WORKLOADS.items()},
        "traits": {"connectivity": "local"},
    }


def _mutant(name: str, statement: str, drops: str | None, share: float) -> dict[str, Any]:
    shape = {"B": 2, "C": 4, "H": 7, "W": 6, "K": 3, "G": 2}
    found = {"shape": shape, "index": [1, 0, 3, 2], "result": "output", "left": 1204.0, "right": -77.0}
    return {
        "name": name,
        "statement": statement,
        "drops": drops,
        "expected": "refuted",
        "verdict": "refuted",
        "reason": None,
        "equivalent_because": None,
        "differing_share": share,
        "counterexample": {**found, "script": f"show('local-attention', mutant='{name}')"},
    }
