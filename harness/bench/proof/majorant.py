"""The majorant of a torch program: its polynomial with the absolute values of all coefficients.

A program is recorded as it runs, operation by operation, and replayed on non-negative numbers, with
differences turned into sums and constants into their absolute values. By induction over the operations
every coefficient of what is replayed bounds that of the program, monomial by monomial; so a monomial that
the majorant lacks is one that the program lacks. Many points are replayed at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from harness.bench.inputs import Tensors
from harness.bench.proof.operation import facts_of
from harness.bench.proof.refusal import RefusedError, key_of

# How many numbers the largest tensor of one replay may hold; more points are replayed in portions.
_PORTION = 2**21


@dataclass(frozen=True)
class _Slot:
    """A tensor of the recording; in a replay another tensor stands for it."""

    number: int


@dataclass(frozen=True)
class _Step:
    """One operation of the recording. views: the storage of which its results are views, if they are."""

    op: Callable[..., Any]
    args: Any
    kwargs: Any
    made: tuple[_Slot, ...]
    views: int | None


class Majorant(TorchDispatchMode):
    """Records a program that runs inside it, and evaluates its majorant.

    A slot stands for a piece of memory, so that views, in-place edits and the copies that autograd makes
    of saved tensors are met again.
    """

    def __init__(self, inputs: Tensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.operations: list[str] = []
        self._steps: list[_Step] = []
        self._constants: dict[_Slot, Tensor] = {}
        self._slots: dict[tuple[Any, ...], _Slot] = {}
        self._holds_data: dict[int, bool] = {}  # by storage
        self._from_outside: set[int] = set()
        self._edited: set[int] = set()
        self._kept: list[Tensor] = []  # so that no memory is used twice
        self._elements = 1
        self._inputs = {name: self._add(tensor, data=True) for name, tensor in inputs.items()}
        self._results: list[_Slot] = []

    def conclude(self, results: Tensors) -> None:
        """Note what the program returned."""
        self._results = [self._slot(result) for result in results.values()]
        self._steps = [self._relaxed(step) for step in self._steps]

    def _relaxed(self, step: _Step) -> _Step:
        """Let a view copy where that makes no difference: many points at once lie otherwise in memory."""
        if step.op is torch.ops.aten.view.default and step.views not in self._edited:
            return replace(step, op=torch.ops.aten.reshape.default)
        return step

    def at(self, points: Tensors) -> Tensor:
        """Evaluate the majorant at many points, which the first axis of every input counts.

        Return all results side by side [points, elements].
        """
        return self._many(lambda point, zero: self._replay(point, zero), points)

    def largest_at(self, points: Tensors) -> Tensor:
        """Return the largest number on the way to the results, at many points [points]."""

        def largest(point: Tensors, zero: Tensor) -> Tensor:
            met = [zero]
            met.append(_largest(self._replay(point, zero, met)))
            return torch.stack(met).amax()

        return self._many(largest, points)

    def _many(self, function: Callable[[Tensors, Tensor], Tensor], points: Tensors) -> Tensor:
        count = len(next(iter(points.values())))
        batched = torch.func.vmap(function, chunk_size=max(1, _PORTION // self._elements))
        with torch.no_grad(), _quietly():
            try:
                found: Tensor = batched(points, torch.zeros(count, dtype=torch.float64))
            except RuntimeError as error:
                said = str(error).splitlines()[0]
                raise RefusedError(f"a majorant of the program cannot be evaluated: {said}") from error
        return found

    def _replay(self, point: Tensors, zero: Tensor, met: list[Tensor] | None = None) -> Tensor:
        """Run the recording at one point; note in ``met`` the largest element of every new tensor."""
        # Constants gain the axis of the points by the zero, so that data can be written into them.
        held = {slot: _fresh(value, zero) for slot, value in self._constants.items()}
        held |= {slot: point[name] for name, slot in self._inputs.items()}
        for step in self._steps:
            made = _tensors(step.op(*_filled(step.args, held), **_filled(step.kwargs, held)))
            held.update(zip(step.made, made, strict=True))
            if met is not None and step.views is None:
                met += map(_largest, made)
        return torch.cat([zero[None][:0], *(held[slot].flatten() for slot in self._results)])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():
            return self._record(func, args, kwargs or {})

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = facts_of(func).name
        self.operations.append(name)
        slots = tree_map(self._look, (args, kwargs))
        data = any(self._holds_data[key_of(tensor)] for tensor in _tensors((args, kwargs)))
        result = func(*args, **kwargs)
        aliases = any(argument.alias_info is not None for argument in func._schema.arguments)
        if name in _CONSTANT or not (data or aliases):
            for tensor in _tensors(result):
                self._add_constant(tensor, blank=name in _BLANK)
            return result
        if func._schema.is_mutable:
            self._demand_own(name, args[0])
            self._edited.add(key_of(args[0]))
        views = key_of(args[0]) if aliases and not func._schema.is_mutable else None
        made = tuple(self._add(tensor, data=data) for tensor in _tensors(result))
        self._steps.append(_Step(_positive(name, func), *_coefficients(func, *slots), made, views))
        return result

    def _look(self, leaf: Any) -> Any:
        return self._slot(leaf) if isinstance(leaf, Tensor) else leaf

    def _slot(self, tensor: Tensor) -> _Slot:
        """Return the slot of a tensor; one that was never seen is a constant."""
        known = self._slots.get(_place(tensor))
        if known is not None:
            return known
        if self._holds_data.get(key_of(tensor), False):
            raise RefusedError("memory is read in a way that cannot be followed")
        self._from_outside.add(key_of(tensor))
        return self._add_constant(tensor)

    def _add(self, tensor: Tensor, *, data: bool) -> _Slot:
        slot = self._slots.setdefault(_place(tensor), _Slot(len(self._slots)))
        self._holds_data[key_of(tensor)] = data or self._holds_data.get(key_of(tensor), False)
        self._kept.append(tensor)
        self._elements = max(self._elements, tensor.numel())
        return slot

    def _add_constant(self, tensor: Tensor, *, blank: bool = False) -> _Slot:
        """Note a constant by its absolute value; memory that holds nothing yet counts as zero."""
        value = torch.zeros_like(tensor) if blank else tensor.detach().clone()
        if value.is_floating_point():
            value = torch.where(value.isfinite(), value.abs(), 0.0).double()
        slot = self._add(tensor, data=False)
        self._constants[slot] = value
        return slot

    def _demand_own(self, name: str, edited: Tensor) -> None:
        # Other views of it may have been noted as constants of their own.
        if key_of(edited) in self._from_outside:
            raise RefusedError(f"{name} edits a tensor that the program did not make")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Let torch loop over what it cannot batch, without a warning for every call."""
    warn = torch._C._functorch._set_vmap_fallback_warning_enabled  # type: ignore[attr-defined]
    warn(False)
    try:
        yield
    finally:
        warn(True)  # torch's default


def _fresh(constant: Tensor, zero: Tensor) -> Tensor:
    return constant + zero if constant.is_floating_point() else constant.clone()


def _positive(name: str, func: Any) -> Callable[..., Any]:
    """Return the operation that takes the place of one whose terms may be negative."""
    if name in _MADE_POSITIVE:
        return _MADE_POSITIVE[name]
    if name not in _POSITIVE:
        raise RefusedError(f"{name} is no operation whose majorant is known")
    operation: Callable[..., Any] = func
    return operation


def _unfold_backward(grad: Tensor, sizes: Sequence[int], axis: int, size: int, step: int) -> Tensor:
    """Add windows back to where they came from, by an operation that torch can batch."""
    places = step * torch.arange(grad.shape[axis])[:, None] + torch.arange(size)
    windows = grad.movedim(-1, axis + 1).flatten(axis, axis + 1)
    return torch.zeros(sizes, dtype=grad.dtype).index_add(axis, places.flatten(), windows)


def _coefficients(func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Make the coefficients that are plain numbers positive."""
    names = [argument.name for argument in func._schema.arguments]
    given = [_size(name, value) for name, value in zip(names, args, strict=False)]
    return given, {name: _size(name, value) for name, value in kwargs.items()}


def _size(name: str, value: Any) -> Any:
    if name not in ("alpha", "beta", "other", "value") or isinstance(value, _Slot):
        return value
    return abs(value) if math.isfinite(value) else 0


def _filled(value: Any, held: Mapping[_Slot, Tensor]) -> Any:
    """Put the tensors of a replay in the place of their slots."""
    if isinstance(value, _Slot):
        return held[value]
    if isinstance(value, dict):
        return {name: _filled(one, held) for name, one in value.items()}
    return [_filled(one, held) for one in value] if isinstance(value, list | tuple) else value


def _largest(tensor: Tensor) -> Tensor:
    return tensor.amax() if tensor.numel() else tensor.sum()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return key_of(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _names(text: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in text.split())


_BLANK = _names("empty empty_like empty_strided new_empty new_empty_strided")
_CONSTANT = _BLANK | _names(
    "zeros_like ones_like new_zeros new_ones new_full full_like arange zeros ones full"
)
_MADE_POSITIVE: Mapping[str, Callable[..., Any]] = {
    "aten.sub": torch.add,
    "aten.sub_": torch.Tensor.add_,
    "aten.rsub": lambda first, second, alpha=1: second + alpha * first,
    "aten.neg": torch.clone,
    "aten.lift_fresh": lambda tensor: tensor,
    "aten.unfold_backward": _unfold_backward,
}
# On non-negative numbers, with positive coefficients, these are their own majorants.
_POSITIVE = _names(
    """
    add add_ mul mul_ pow addcmul addcmul_ mm bmm mv dot addmm baddbmm addmv sum trace
    convolution convolution_backward col2im im2col where masked_fill masked_fill_ fill_ zero_ copy_
    constant_pad_nd view _unsafe_view expand permute transpose t squeeze unsqueeze slice select clone
    cat stack as_strided unfold diagonal diag_embed flip roll repeat unbind split split_with_sizes detach
    alias slice_backward select_backward slice_scatter select_scatter index index_select gather lift_fresh
    _to_copy tril triu reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d unsafe_split
    pixel_shuffle pixel_unshuffle channel_shuffle diagonal_backward
    reflection_pad1d_backward reflection_pad2d_backward replication_pad1d_backward
    replication_pad2d_backward div mean avg_pool2d _adaptive_avg_pool2d avg_pool2d_backward
    _adaptive_avg_pool2d_backward index_put index_put_ _index_put_impl_ index_add scatter_add
    """
)
