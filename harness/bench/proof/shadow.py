"""A shadow of a torch program: for every tensor a bound on its terms, its degree and its roundings.

The shadow of a tensor lives in float64 and mirrors the *storage* of the tensor, so views, in-place
edits and the copies that autograd makes of saved tensors need no rule of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from harness.bench.proof.degree import Degree, Extremes
from harness.bench.proof.nesting import leaves, mapped
from harness.bench.proof.operation import Call, Effect, Rule, Seen, described, facts_of, whole_memory
from harness.bench.proof.refusal import (
    Guarded,
    RefusedError,
    are_kept,
    demand_finite,
    demand_grain,
    demand_kept,
    demand_returned,
    key_of,
)

__all__ = [
    "Call",
    "Effect",
    "Layer",
    "RefusedError",
    "Replacement",
    "Rule",
    "Seen",
    "Shadow",
    "TooLargeError",
]


class TooLargeError(Exception):
    """The terms of a tensor reach the limit that was set for them."""


@dataclass
class Layer:
    """What is known of one storage.

    terms: a bound of the sum of absolute terms, element by element; NaN where nothing was written yet.
    roundings: how many roundings an element has gone through, in units of the roundoff.
    """

    storage: StorageWeakRef
    dtype: torch.dtype
    terms: Tensor
    degree: Degree
    roundings: float


class Replacement(Protocol):
    """What computes other values in place of operations that are no polynomials."""

    def run(self, func: Any, given: tuple[Any, Any], seen: tuple[Any, Any]) -> Any:
        """Run an operation on its arguments, or what takes its place; both are positional and named."""

    def bound(self, call: Call) -> Effect | None:
        """Return what is known of the result that ran last, or None where a rule tells it."""


class Shadow(Extremes, Guarded):
    """Follows a program and keeps the shadow of every tensor that it makes.

    rules: operation name (``aten.mul``) to rule. unit: the unit roundoff, zero where only degrees and
    terms are wanted. exact: demand coefficients that are exact in binary and refuse every operation
    on inputs that has no rule; such a program computes a polynomial. replacement: what stands in for
    operations that are none. below: what terms have to stay below; :class:`TooLargeError` ends the program
    where they do not.
    ``operations`` lists what was called, with every argument that is no tensor; ``largest`` counts terms
    in units of the grain.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        unit: float = 0.0,
        exact: bool = True,
        replacement: Replacement | None = None,
        below: float = math.inf,
    ) -> None:
        super().__init__()
        self._rules = rules
        self._unit = unit
        self._exact = exact
        self._replacement = replacement
        self._below = below
        # Values are no larger than their terms, so an infinite one comes from a constant or a plain number.
        self._may_be_infinite = False
        self._layers: dict[int, Layer] = {}
        self._held = 0
        self.operations: list[str] = []
        self.constants: list[Tensor] = []
        self.backends: set[str] = set()

    def track(self, name: str, tensor: Tensor, terms: Tensor | float) -> None:
        """Declare an input: a variable of the given name whose absolute values ``terms`` bounds."""
        self._may_be_infinite |= not math.isfinite(float(tensor.detach().sum()))
        bound = torch.as_tensor(terms, dtype=torch.float64, device=tensor.device).expand(tensor.shape)
        self._write(tensor, bound, Degree.variable(name), 0.0)

    def see(self, tensor: Tensor) -> Seen:
        """Return what is known of a tensor; one that was never seen is a constant."""
        layer = self._layers.get(key_of(tensor)) or self._add_constant(tensor)
        if layer.dtype != tensor.dtype:
            raise RefusedError(f"memory is written as {layer.dtype} and read as {tensor.dtype}")
        terms = layer.terms.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        return Seen(tensor, terms, layer.degree, layer.roundings)

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._held > _WORTH_LOOKING:
            self._forget_freed()
        facts = facts_of(func)
        name = facts.name
        done = described(name, args, kwargs)
        self.operations.append(done)
        self._may_be_infinite |= any(number in done for number in _NOT_FINITE)
        if facts.is_random:
            raise RefusedError(f"{name} draws random numbers")
        see = self._look
        seen_args, seen_kwargs = mapped(see, args), mapped(see, kwargs) if kwargs else {}
        result = self._run(func, (args, kwargs), (seen_args, seen_kwargs))
        self._note_backend(name, args)
        outputs = [leaf for leaf in leaves(result) if isinstance(leaf, Tensor)]
        if facts.is_mutable:
            demand_returned(name, func, args, kwargs, outputs)
        if facts.is_mutable or any(key_of(out) not in self._layers for out in outputs):
            self._apply(name, Call(func, seen_args, seen_kwargs, result, self._unit, self._exact), outputs)
        if not are_kept(outputs) and any(map(_is_data, leaves((seen_args, seen_kwargs)))):
            demand_kept(name, outputs)
        return result

    def _run(self, func: Any, given: tuple[Any, Any], seen: tuple[Any, Any]) -> Any:
        if self._replacement is not None:
            return self._replacement.run(func, given, seen)
        args, kwargs = given
        return func(*args, **kwargs)

    def _look(self, leaf: Any) -> Any:
        return self.see(leaf) if isinstance(leaf, Tensor) else leaf

    def _apply(self, name: str, call: Call, outputs: list[Tensor]) -> None:
        effect = self._effect(name, call, outputs)
        # What takes the place of functions keeps terms for later, and is asked about small tensors only.
        met = _memory(call, outputs) if self._replacement is None else None
        for index, out in enumerate(outputs):
            terms = effect.terms[index]
            if terms is not None:
                own = met is not None and key_of(terms) not in met
                if met is not None:
                    met.add(key_of(terms))
                largest = self._write(out, terms, effect.degrees[index], effect.roundings, own=own)
                if math.isnan(largest) and not _may_leave_unwritten(name, call):
                    unwritten = any(_is_unwritten(seen.terms) for seen in call.seen)
                    why = "reads memory that was never written" if unwritten else "gives what is no number"
                    raise RefusedError(f"{name} {why}")

    def _effect(self, name: str, call: Call, outputs: list[Tensor]) -> Effect:
        rule = self._rules.get(name)
        constant = all(seen.is_constant for seen in call.seen)
        if rule is not None and (name in UNWRITTEN or name in OVERWRITES):
            return rule(name, call)
        if constant and (self._exact or rule is None or not call.seen):
            return self._constants(name, call, outputs)
        if self._exact and (self._may_be_infinite or self.largest > _LARGE):
            _demand_taken(name, call, outputs)
        try:
            replaced = self._replacement and self._replacement.bound(call)
            if replaced:
                return replaced
            if rule is None:
                raise RefusedError(f"{name} has no rule")
            return rule(name, call)
        except (TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            # A form of the operation that the rule was not written for.
            raise RefusedError(f"{name} is called in a form that has no rule ({error})") from error

    def _constants(self, name: str, call: Call, outputs: list[Tensor]) -> Effect:
        """Constants made of constants are read from the program itself."""
        if any(_is_unwritten(seen.terms) for seen in call.seen):
            raise RefusedError(f"{name} reads memory that was never written")
        roundings = max(map(_constant_roundings, outputs), default=0.0)
        return Effect([self._size(out) for out in outputs], [self._degree(out) for out in outputs], roundings)

    def _size(self, constant: Tensor) -> Tensor:
        """Return the terms of a constant; an infinite one marks what a softmax leaves out, without error."""
        size = constant.double().abs()
        # A finite sum tells in one pass that every element is a finite number.
        if math.isfinite(float(size.sum())):
            return size
        if bool(size.isnan().any()):
            raise RefusedError("a constant of the program is not a number")
        self._may_be_infinite = True
        return torch.where(size.isinf(), 0.0, size)

    def _degree(self, constant: Tensor) -> Degree:
        return Degree.of(constant, demand_grain(constant) if self._exact else 0)

    def _add_constant(self, tensor: Tensor) -> Layer:
        """Note a tensor that was made elsewhere, with all of its storage: other views of it may follow."""
        whole = whole_memory(tensor)
        self._write(whole, self._size(whole), self._degree(whole), _constant_roundings(whole), own=True)
        self.constants.append(whole.clone())
        return self._layers[key_of(tensor)]

    def _write(
        self, tensor: Tensor, terms: Tensor, degree: Degree, roundings: float, *, own: bool = False
    ) -> float:
        """Note what is known of a tensor and return its largest terms, NaN where some were never written.

        own: whether nobody else holds the memory of the terms, so that it may be kept.
        """
        largest = float(terms.amax()) if terms.numel() else 0.0
        self.note_extremes(float(terms.nan_to_num().max()) if math.isnan(largest) else largest, degree)
        if self.largest >= self._below < math.inf:
            raise TooLargeError(f"terms reach {self.largest:g}, the limit is {self._below:g}")
        layer = self._layers.get(key_of(tensor))
        if layer is None:
            self._add_layer(tensor, terms, degree, roundings, own=own)
            return largest
        if tensor.numel() == layer.terms.numel() and not torch._debug_has_internal_overlap(tensor):
            layer.degree, layer.roundings = degree, roundings
        else:
            layer.degree = layer.degree.join(degree)
            layer.roundings = max(layer.roundings, roundings)
        view = layer.terms.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        if view.data_ptr() != terms.data_ptr() or view.stride() != terms.stride():
            view.copy_(terms)
        return largest

    def _add_layer(
        self, tensor: Tensor, terms: Tensor, degree: Degree, roundings: float, *, own: bool
    ) -> None:
        storage = tensor.untyped_storage()
        count = storage.nbytes() // tensor.element_size()
        if own and _mirrors(terms, tensor, count):
            flat = terms.as_strided((count,), (1,), 0)
        else:
            blank = torch.empty if tensor.numel() == count else torch.zeros
            flat = blank(count, dtype=torch.float64, device=tensor.device)
            flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(terms)
        self._held += count
        self._layers[key_of(tensor)] = Layer(StorageWeakRef(storage), tensor.dtype, flat, degree, roundings)

    def _forget_freed(self) -> None:
        """Forget the layers of freed memory."""
        # The weak reference keeps the storage's identity from being used again, so no later tensor
        # can be taken for a freed one; the memory of both is free.
        freed = [key for key, layer in self._layers.items() if layer.storage.expired()]
        for key in freed:
            self._held -= self._layers.pop(key).terms.numel()

    def _note_backend(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "aten.convolution":
            backend = torch._C._select_conv_backend(*args)
            self.backends.add(backend.name)


# What Python writes for numbers that are not finite; a few names hold these letters too, and do no harm.
_NOT_FINITE = ("inf", "nan")
# So many elements are little memory to keep, and many operations on small tensors.
_WORTH_LOOKING = 2**16
# Integers times terms as large as this may overflow.
_LARGE = 1e100
# The first make memory that holds nothing yet; the second replace whatever their target held.
UNWRITTEN = frozenset(
    f"aten.{name}" for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
)
OVERWRITES = frozenset({"aten.copy_", "aten.fill_", "aten.zero_"})
# What minus infinity may meet on its way to a softmax, which leaves it out.
TAKES_INFINITY = """
    view _unsafe_view expand permute transpose t squeeze unsqueeze slice select clone cat stack as_strided
    unfold diagonal flip roll repeat unbind split split_with_sizes detach alias index index_select gather
    copy_ lift_fresh _to_copy add add_ masked_fill masked_fill_ where fill_ _softmax _safe_softmax exp sigmoid
"""


def _memory(call: Call, outputs: list[Tensor]) -> set[int]:
    """Return the memory that an operation met: of arguments and results, and of what is known of them."""
    met = {key_of(tensor) for seen in call.seen for tensor in (seen.value, seen.terms)}
    met.update(map(key_of, outputs))
    return met


def _mirrors(terms: Tensor, tensor: Tensor, count: int) -> bool:
    """Whether terms fill memory of so many elements, and lie in it as the tensor lies in its own."""
    return (
        terms.dtype == torch.float64
        and terms.device == tensor.device
        and terms.numel() == tensor.numel() == count
        and terms.untyped_storage().nbytes() == count * terms.element_size()
        and terms.shape == tensor.shape
        and terms.stride() == tensor.stride()
    )


def _is_data(leaf: Any) -> bool:
    return isinstance(leaf, Seen) and not leaf.is_constant


def _may_leave_unwritten(name: str, call: Call) -> bool:
    """Whether an operation may give memory that holds nothing: a new one, or one that edits a part of it."""
    return name in UNWRITTEN or bool(call.op._schema.is_mutable)


def _is_unwritten(terms: Tensor) -> bool:
    return bool(terms.isnan().any())


def _demand_taken(name: str, call: Call, outputs: list[Tensor]) -> None:
    """Let minus infinity only reach a softmax, or whatever takes it for a number that is very small."""
    values = [seen.value for seen in call.seen]
    taken = name.removeprefix("aten.") in TAKES_INFINITY.split()
    if not taken or not all(map(_is_below_infinity, outputs)):
        demand_finite(name, values)


def _is_below_infinity(value: Tensor) -> bool:
    """Whether every element is a number and less than infinity."""
    # The largest of elements of which one is no number is none either.
    return not value.is_floating_point() or not value.numel() or float(value.amax()) < math.inf


def _constant_roundings(constant: Tensor) -> float:
    """Count the roundings of a constant: four cover what computes it and what casts it."""
    if not constant.is_floating_point() or torch.equal(constant, constant.round()):
        return 0.0
    return 4.0
