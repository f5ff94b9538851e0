"""MACs: the operator's own formula, and three witnesses that must agree with it or be explained.

Counters run under dispatch modes and tracers, which leave compiled functions eager for the rest of a
process, so they have a process of their own.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from harness.bench.expectation import bind
from harness.bench.inputs import Tensors
from harness.bench.measure.subject import Subject
from harness.bench.pages import Scope
from harness.bench.proof.certificate import follow
from harness.bench.proof.shadow import RefusedError
from harness.paper.record import Reading
from harness.paper.units import Unit

# Two counts are the same when they differ by less than this share.
_SAME_WITHIN = 1e-3
# fvcore counts these as well, at a cost per element of its own; they are elementwise, not MACs.
_NO_PRODUCTS = frozenset({"batch_norm", "layer_norm", "group_norm", "adaptive_avg_pool2d"})


def read_macs(subject: Subject) -> Reading:
    """Return the nominal MACs of one forward call with the witnesses' counts."""
    cost = subject.scope.cost(subject.dims)
    bytes_per_element: int = getattr(torch, subject.dtype).itemsize
    forward = subject.direction == "forward"
    return Reading(
        unit=Unit.MACS_PER_CALL,
        value=float(cost.macs) if forward else None,
        reason=None if forward else "the formula counts a forward call; see the forward case",
        facts={
            "means": "nominal: taps on padding included, 1 MAC counts as 1, forward",
            "params": cost.params,
            "in_bounds": cost.macs_in_bounds,
            "elementwise": cost.elementwise,
            "transcendental": cost.transcendental,
            "minimal_bytes": cost.minimal_bytes(bytes_per_element),
            "witnesses": count_by_witnesses(subject),
        },
    )


def count_by_witnesses(subject: Subject) -> dict[str, Mapping[str, Any]]:
    """Let independent counters count one forward call, and judge each against the formula."""
    counted = _declared(subject)
    inputs = subject.inputs()
    function = bind(subject.scope, subject.implementation, subject.dims)
    found: dict[str, Mapping[str, Any]] = {}
    for name, counter in (("flop_counter", _flop_counter), ("fvcore", _fvcore)):
        try:
            macs = counter(function, inputs)
        except ModuleNotFoundError as error:
            found[name] = _not_counted(f"{error.name} is not installed")
            continue
        except Exception as error:  # a counter that cannot follow a program is a reason, not a crash
            found[name] = _not_counted(f"it cannot follow the program ({type(error).__name__})")
            continue
        found[name] = _judge(macs, float(subject.scope.cost(subject.dims).macs), *counted)
    return found


def _not_counted(reason: str) -> Mapping[str, Any]:
    return {"macs": None, "verdict": "not counted", "reason": reason}


def _declared(subject: Subject) -> tuple[float | None, str]:
    """Return what the page says that counters of products see, and why."""
    counted = subject.implementation.counted
    return (float(counted(subject.dims)) if counted else None), subject.implementation.counted_because


def _judge(macs: float, nominal: float, declared: float | None, because: str) -> Mapping[str, Any]:
    if _same(macs, nominal):
        return {"macs": macs, "verdict": "agrees", "reason": "equal to the formula"}
    if declared is not None and _same(macs, declared):
        return {"macs": macs, "verdict": "explained", "reason": because}
    return {"macs": macs, "verdict": "unexplained", "reason": f"the formula gives {nominal:.0f}"}


def _same(first: float, second: float) -> bool:
    return abs(first - second) <= _SAME_WITHIN * max(first, second)


def probe_with_ones(subject: Subject) -> Mapping[str, Any]:
    """With every input one, a bilinear operator sums exactly its in-bounds products."""
    scope = subject.scope
    if not _is_bilinear(scope):
        return _not_counted("the scope is not bilinear in its inputs")
    shapes = {name: spec.shape for name, spec in scope.inputs(subject.dims).items()}
    ones = {name: torch.ones(shape, dtype=torch.float64) for name, shape in shapes.items()}
    macs = float(bind(scope, scope.reference, subject.dims)(ones).sum())
    cost = subject.scope.cost(subject.dims)
    return _judge(macs, float(cost.macs), cost.macs_in_bounds, "taps on padding are not counted")


def _is_bilinear(scope: Scope) -> bool:
    """Whether the reference is of degree two, which its smallest shape tells as well as any other."""
    if not scope.polynomial:
        return False
    dims = scope.proof_dims[0]
    shapes = {name: spec.shape for name, spec in scope.inputs(dims).items()}
    try:
        return follow(bind(scope, scope.reference, dims), shapes, 0, vjp=False).degree == 2
    except RefusedError:
        return False


def _flop_counter(function: Callable[[Tensors], Tensor], inputs: Tensors) -> float:
    # torch has no formula for attention on the CPU and counts nothing there.
    missing = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=missing) as counter:
        function(inputs)
    return float(counter.get_total_flops()) / 2


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


class _AsModule(torch.nn.Module):
    """The wrapper that fvcore, which knows only modules, needs."""

    def __init__(self, function: Callable[[Tensors], Tensor], names: list[str]) -> None:
        super().__init__()
        self._function, self._names = function, names

    def forward(self, *tensors: Tensor) -> Tensor:
        return self._function(dict(zip(self._names, tensors, strict=True)))


def load_witness() -> None:
    """Import fvcore, where it is installed, so that processes forked later need not."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")
        import fvcore.nn  # noqa: F401


def _fvcore(function: Callable[[Tensors], Tensor], inputs: Tensors) -> float:
    with warnings.catch_warnings():
        # Unmaintained: it warns on import and while tracing.
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        logging.getLogger("fvcore").setLevel(logging.ERROR)
        analysis = FlopCountAnalysis(_AsModule(function, list(inputs)), tuple(inputs.values()))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts = analysis.by_operator()
        return float(sum(count for name, count in counts.items() if name not in _NO_PRODUCTS))
