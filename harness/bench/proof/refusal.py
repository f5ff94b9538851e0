"""What no analysis can follow: it ends in a refusal that names it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.bench.proof.grain import FINEST, grain_of, grain_of_all
from harness.bench.proof.nesting import leaves
from harness.bench.proof.operation import facts_of


class RefusedError(Exception):
    """The program does something that the analysis has no exact rule for; the message names it."""


class Escapes(TorchFunctionMode):
    """Refuses calls that carry data out of torch, where no rule could follow it."""

    _NAMES = frozenset(
        {"numpy", "tolist", "item", "__array__", "data_ptr", "__dlpack__", "__float__", "__int__", "__bool__"}
        | {"__index__", "__complex__", "untyped_storage", "storage", "__repr__", "__format__"}
        | {"__deepcopy__", "__reduce_ex__"}
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in self._NAMES:
            raise RefusedError(f"Tensor.{name} carries data out of torch")
        if name == "__invert__" and args[0].is_floating_point():
            # A mask that is made of data holds numbers, of which torch does not take the complement.
            return torch.logical_not(args[0])
        return func(*args, **(kwargs or {}))


class Guarded(TorchDispatchMode):
    """A mode that refuses escapes while it is entered, and gives every operation to ``_follow``."""

    def __init__(self) -> None:
        super().__init__()
        self._escapes = Escapes()

    def __enter__(self) -> Self:
        self._escapes.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._escapes.__exit__(kind, error, trace)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():
            return self._follow(func, args, kwargs or {})

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, and note what it does."""
        raise NotImplementedError


def edited(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors that an operation writes into."""
    written = [
        args[position] if position < len(args) else kwargs.get(name)
        for position, name in facts_of(func).written
    ]
    return [leaf for leaf in leaves(written) if isinstance(leaf, Tensor)]


def demand_returned(
    name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], outputs: list[Tensor]
) -> None:
    """Refuse an operation that edits a tensor which it does not return."""
    returned = set(map(key_of, outputs))
    if any(key_of(tensor) not in returned for tensor in edited(func, args, kwargs)):
        raise RefusedError(f"{name} edits a tensor that it does not return")


def are_kept(outputs: list[Tensor]) -> bool:
    """Whether the results of an operation may hold data: they are tensors, and of float64."""
    return bool(outputs) and all(out.dtype == torch.float64 for out in outputs)


def demand_kept(name: str, outputs: list[Tensor]) -> None:
    """Refuse an operation on the data whose result is no tensor, or is one of another dtype."""
    if not outputs:
        raise RefusedError(f"{name} carries data out of torch")
    for out in outputs:
        if out.dtype != torch.float64:
            raise RefusedError(f"{name} turns the data into {out.dtype}")


def demand_finite(name: str, values: Iterable[Tensor]) -> None:
    """Refuse an operation on minus infinity."""
    if any(value.is_floating_point() and _has_infinity(value) for value in values):
        raise RefusedError(f"{name} meets minus infinity, which only a softmax or an exponential can take")


def _has_infinity(value: Tensor) -> bool:
    """Whether a value is infinite; a finite sum tells in one pass that nothing is."""
    return not math.isfinite(float(value.sum())) and bool(value.isinf().any())


def demand_grain(constant: Tensor) -> int:
    """Return the grain of a constant, or refuse one that is too fine."""
    grain = grain_of_all(constant)
    if grain is None:
        wrong = next(number for number in constant.flatten().tolist() if grain_of(number) is None)
        raise RefusedError(f"a constant of the program is {wrong}, which is no multiple of 1/{2**FINEST}")
    return grain


def demand_coefficient(name: str, value: float) -> None:
    """Refuse a coefficient that is too fine."""
    if grain_of(value) is None:
        raise RefusedError(f"{name} with the coefficient {value}, which is no multiple of 1/{2**FINEST}")


def key_of(tensor: Tensor) -> int:
    """Return what tells the memory of a tensor from any other."""
    return int(tensor.untyped_storage()._cdata)
