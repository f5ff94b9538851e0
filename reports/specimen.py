"""A made-up run with everything a page can meet: numbers, reasons, red cases, claims; for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from harness.paper.account import SessionAccount
from harness.paper.record import Agreement, CaseId, ClaimRecord, Reading, Record, Status
from harness.paper.roofline import CopyPoint, PeakPoint, SpeedLimit
from harness.paper.stats import estimate, summarise
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
_MODES = [{"median": 6.4e-4, "processes": 2}, {"median": 2.3e-3, "processes": 1}]
_THREE = "95 % Student's t over the logarithms of the medians of 3 processes"

RED = CaseId("involution", "core", "grouped", "rednet50/stage3", "float32", "cpu", "forward")
DEAD = CaseId("conv2d", "core", "grouped", "rednet50/stage3", "float32", "cpu", "forward")
UNREAD = CaseId("conv2d", "core", "shifted", "shared/stage1", "float32", "cpu", "forward")
FICKLE = CaseId("conv2d", "core", "grouped", "shared/stage1", "float32", "cpu", "forward")
LARGE = CaseId("sliding_attention2d", "core", "grouped", "rednet50/stage3", "float32", "cpu", "forward")
LOOSE = CaseId("sliding_attention2d", "core", "shifted", "shared/stage1", "float32", "cpu", "forward")
# Reads far more than it writes, so that it is faster than copying would be.
SWIFT = CaseId("conv2d", "core", "shifted", "rednet50/stage3", "float32", "cpu", "forward")
NEVER = "involution/core/native/shared-stage1/float32/cpu/forward"


def make_run() -> Run:
    """Return the run; it is the same at every call."""
    records = list(_records())
    return Run(
        folder=Path("specimen"),
        header=make_header(tuple(str(record.case) for record in records)),
        records=records,
        claims=[make_claim()],
        limits=[make_limit()],
        sessions=[make_session(len(records))],
    )


def make_limit() -> SpeedLimit:
    """Return a speed limit with one and two threads, one of whose peaks could not be measured."""
    return SpeedLimit(
        device="cpu",
        copy=tuple(
            CopyPoint(2**power, threads, threads * 1.05e11 / (1 + power / 20))
            for threads in (1, 2)
            for power in (15, 19, 23, 27)
        ),
        peak=(PeakPoint("float32", 1, 1.03e11),),
        reasons={"peak float32 2": "a matrix product with 2 threads was not faster than the clock"},
        started="2031-05-06T07:08:09+00:00",
        seconds=2.5,
    )


def make_session(cases: int) -> SessionAccount:
    """Return where the time of a session went."""
    return SessionAccount(
        phases={"start-up": 3.0, "speed limit": 2.5, "agreeing": 11.0, "measuring": 42.0},
        seconds=60.0,
        started="2031-05-06T07:08:09+00:00",
        ended="2031-05-06T07:09:09+00:00",
        cases=cases,
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
            "options": {"preset": "quick", "device": "all", "operator": "*", "processes": [3, 6]},
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
            "latency": make_latency(milliseconds, str(case)),
            "latency_cold": make_latency(1.4 * milliseconds, f"{case} cold", cache="cold"),
            "latency_all_threads": _on_two(make_latency(0.6 * milliseconds, f"{case} two"), milliseconds),
            "memory": Reading(Unit.BYTES, bytes_needed, facts={"output_bytes": bytes_needed / 3}),
            "energy": Reading.missing(Unit.JOULES_PER_CALL, _NO_ENERGY),
            "macs": Reading(Unit.MACS_PER_CALL, macs, facts={"params": 0, "witnesses": _witnesses(macs)}),
        },
        inputs={"seed": 7, "tensors": {"x": {"shape": [1, 64, 56, 56], "role": "activation"}}},
        worker={"threads": 1, "allocator": "pinned", "tf32": False, "kernels": _kernels()},
        started="2031-05-06T07:08:10+00:00",
        seconds=1.2,
    )


def make_latency(milliseconds: float, seed: str, cache: str = "hot") -> Reading:
    """Return a latency of three processes, whose samples lie around a median, a little to its right."""
    random = Random(seed)  # noqa: S311 (nothing here is secret)
    processes = [
        [milliseconds * shift * 1e-3 * (1 + 0.02 * random.expovariate(1.0)) for _ in range(41)]
        for shift in (1.0, 1.004, 0.998)
    ]
    whole = [summarise(samples) for samples in processes]
    found = estimate([part.median for part in whole])
    facts = {
        "clock": "thread CPU time",
        "cache": cache,
        "threads": 1,
        "launch": "included",
        "calls_per_sample": 4,
        "blocks": 123,
        "low_quartile": min(part.low_quartile for part in whole),
        "high_quartile": max(part.high_quartile for part in whole),
        "interval": _THREE,
        "stopped": "half the interval is at most 1.0% of the median",
        "faults_per_call": 0.0,
        "preempted_share": 0.3,
        "warm_up_stable": True,
        "modes": None,
        "processes": [_process(part.median) for part in whole],
        "deterministic": True,
        "roofline": _roofline(milliseconds),
    }
    samples = tuple(sample for part in processes for sample in part)
    return Reading(Unit.SECONDS_PER_CALL, found.value, found.low, found.high, samples, facts)


def _process(median: float) -> dict[str, Any]:
    return {
        "median": median,
        "samples": 41,
        "wall": 1.01 * median,
        "cpu": median,
        "faults_per_call": 0.0,
        "preempted_share": 0.3,
        "warm_up_calls": 12,
        "warm_up_stable": True,
        "cpus": [1],
    }


def _roofline(milliseconds: float) -> dict[str, Any]:
    seconds = 0.2e-3
    told = {"seconds": seconds, "share": seconds / (milliseconds * 1e-3), "bound": "bytes", "reason": None}
    return {**told, "bytes": 2.4e6, "macs": 9.0e6}


def _on_two(reading: Reading, milliseconds: float) -> Reading:
    """Return a latency with two threads, beside that with one."""
    value = reading.value or 1.0
    scaling = {"1": milliseconds * 1e-3, "2": value}
    facts = {
        **reading.facts,
        "clock": "wall",
        "preempted_share": 0.02,
        "threads": 2,
        "scaling": scaling,
        "speedup": milliseconds * 1e-3 / value,
    }
    return replace(reading, facts=facts)


def _kernels() -> dict[str, Any]:
    return {
        "operators": {"aten::conv2d": 1},
        "native": ["aten::copy_"],
        "kernels": [{"library": "oneDNN", "name": "convolution jit:avx2", "calls": 2, "seconds": 3.7e-4}],
        "compiled_regions": 0,
        "attention": [],
        "libraries": ["ATen", "oneDNN"],
        "builds": {"oneDNN": "oneDNN v3.12.0"},
        "reasons": {},
    }


def _records() -> Iterator[Record]:
    for operator, (milliseconds, macs) in _OPERATORS.items():
        for workload, (size, _) in _WORKLOADS.items():
            for implementation, share in _SPEEDS.items():
                if (operator, implementation) == ("conv2d", "authors"):
                    continue
                case = CaseId(operator, "core", implementation, workload, "float32", "cpu", "forward")
                yield _spoil(make_record(case, milliseconds * size * share, macs * size))


def _spoil(record: Record) -> Record:
    """Turn some of the cases into ones without a number, or with something said against it."""
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
    if record.case == FICKLE:
        differs = "It is not deterministic: two calls on the same inputs differ by up to 1.5, "
        found = Agreement(agrees=False, level="L0", reason="output[0, 0, 0, 0] is 2.5 and not 1")
        return replace(
            record,
            status=Status.NONDETERMINISTIC,
            reason=f"{differs}which rounding does not explain. {found.reason}",
            agreement=found,
        )
    if record.case == LARGE:
        reason = "It ran out of memory at attention.py:31: 1 TiB was asked for"
        return replace(record, status=Status.OUT_OF_MEMORY, reason=reason, agreement=None, readings={})
    if record.case == LOOSE:
        loose = with_facts(record, deterministic=False, modes=_MODES)
        return with_facts(loose, "latency_all_threads", preempted_share=0.4)
    if record.case == SWIFT:
        return with_facts(record, roofline={**_roofline(0.2), "share": 1.12})
    if record.case == UNREAD:
        silent = Reading.missing(Unit.SECONDS_PER_CALL, "the page faults per call never became stable")
        return replace(record, readings={**record.readings, "latency": silent})
    return record


def with_facts(record: Record, meter: str = "latency", **facts: Any) -> Record:
    """Return a record with other facts of a reading."""
    reading = record.readings[meter]
    changed = replace(reading, facts={**reading.facts, **facts})
    return replace(record, readings={**record.readings, meter: changed})


def make_older(run: Run) -> Run:
    """Return a run as it was when a case took one process, and nobody knew the speed of the machine."""
    return replace(run, records=[_older(record) for record in run.records], limits=[], sessions=[])


def _older(record: Record) -> Record:
    kept = ("low_quartile", "high_quartile", "calls_per_sample", "faults_per_call", "warm_up_stable")
    readings = {
        name: replace(reading, facts={key: reading.facts[key] for key in kept if key in reading.facts})
        if name == "latency"
        else reading
        for name, reading in record.readings.items()
        if not name.startswith("latency_")
    }
    worker = {key: value for key, value in record.worker.items() if key != "kernels"}
    return replace(record, readings=readings, worker=worker)


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
