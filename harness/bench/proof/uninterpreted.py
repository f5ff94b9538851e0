"""Uninterpreted functions in a running program: an oracle answers in place of what is no polynomial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from harness.bench.proof.bending import BENDING
from harness.bench.proof.bounds import Bounds
from harness.bench.proof.formula import Formula, Function
from harness.bench.proof.nesting import leaves, mapped
from harness.bench.proof.operation import Call, Effect, Seen, described, facts_of, whole_memory
from harness.bench.proof.oracle import Oracle
from harness.bench.proof.refusal import Guarded, RefusedError, demand_finite, edited, key_of
from harness.bench.proof.smooth import POLYNOMIALS, SMOOTH

FUNCTIONS: Mapping[str, Function] = {**BENDING, **SMOOTH}
# Arguments by which an operation becomes another one.
_SPECIAL = {"out", "rounding_mode"}


class Uninterpreted:
    """Replaces operations of a program that a :class:`Shadow` follows.

    plan: for every operation that may be replaced, in order, whether it was. titles: the functions that
    were taken as arbitrary.
    """

    def __init__(self, oracle: Oracle, *, vjp: bool = False) -> None:
        self.bounds = Bounds()
        self._vjp = vjp
        self._jump: str | None = None
        self.plan: list[bool] = []
        self.titles: set[str] = set()
        self._oracle = oracle
        self._replaced = False

    def run(self, func: Any, given: tuple[Any, Any], seen: tuple[Any, Any]) -> Any:
        """Run an operation on its arguments, or what takes its place."""
        facts = facts_of(func)
        function = FUNCTIONS.get(facts.name)
        plain = not _SPECIAL & seen[1].keys()
        self._replaced = function is not None and plain and function.applies(self.bounds, seen[0])
        if function is not None:
            self.plan.append(self._replaced)
            if self._replaced and function.jumps and not self._vjp:
                self._note_jump(facts.name, seen[0])
        for tensor in edited(func, *given) if facts.is_mutable else ():
            self.bounds.forget(tensor)
        return perform(self._oracle, func, *given, replaced=self._replaced)

    def _note_jump(self, name: str, args: Sequence[Any]) -> None:
        if any(isinstance(arg, Seen) and arg.degree.bends for arg in args):
            self._jump = self._jump or name

    def demand_apart(self) -> None:
        """Refuse to have compared what may stay equal, such as a sum of rectifiers with zero.

        A step is known beside its jump, which polynomials and smooth functions meet at single points only.
        Gradients are compared beside the bends of what they are gradients of.
        """
        if self._jump is not None:
            raise RefusedError(
                f"{self._jump} compares what bends or jumps itself, which may stay at the jump"
            )

    def bound(self, call: Call) -> Effect | None:
        """Return what is known of the result of a replaced operation, or of a polynomial of such results."""
        name = self.bounds.operation = facts_of(call.op).name
        formula = FUNCTIONS[name].formula if self._replaced else POLYNOMIALS.get(name)
        if formula is None:
            return None
        if self._replaced and name in BENDING:
            demand_finite(name, [seen.value for seen in call.seen])
        asked = self.bounds.asked.total()
        found = _evaluate(self.bounds, formula, call.args, call.kwargs)
        if self._replaced and self.bounds.asked.total() > asked:
            self.titles.add(FUNCTIONS[name].title)
        outputs = [leaf for leaf in leaves(call.result) if isinstance(leaf, Tensor)]
        self.bounds.note(outputs)
        parts = [part for part in (found if isinstance(found, tuple) else (found,)) if part is not None]
        terms = [part.terms.expand(out.shape) for part, out in zip(parts, outputs, strict=True)]
        return Effect(terms, [part.degree for part in parts], 0.0)


class Trial(Guarded):
    """Lets an oracle answer for the operations that were replaced when the program was followed."""

    def __init__(self, oracle: Oracle, plan: Sequence[bool]) -> None:
        super().__init__()
        self._oracle = oracle
        self._steps: Iterator[bool] = iter(plan)

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        facts = facts_of(func)
        is_function = facts.name in FUNCTIONS
        if not is_function and not facts.is_mutable:
            return func(*args, **kwargs)
        replaced = is_function and self._step()
        return perform(self._oracle, func, args, kwargs, replaced=replaced)

    def _step(self) -> bool:
        step = next(self._steps, None)
        if step is None:
            raise RefusedError(_OTHERWISE)
        return step

    def demand_finished(self) -> None:
        """Refuse a program that did less than when it was followed."""
        if next(self._steps, None) is not None:
            raise RefusedError(_OTHERWISE)


class Repetition(Trial):
    """A trial that notes what is done, and to what besides the data.

    operations: what was called, with every argument that is no tensor. constants: the tensors that were made
    elsewhere, with all of their memory.
    """

    def __init__(self, oracle: Oracle, plan: Sequence[bool]) -> None:
        super().__init__(oracle, plan)
        self.operations: list[str] = []
        self.constants: list[Tensor] = []
        # The weak references keep the identity of freed memory from being used again.
        self._met: dict[int, StorageWeakRef] = {}

    def meet(self, tensor: Tensor) -> None:
        """Note that the memory of a tensor is known."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._met:
            self._met[storage._cdata] = StorageWeakRef(storage)

    def see(self, tensor: Tensor) -> None:
        """Note a tensor that is read; one that was never met is a constant."""
        if key_of(tensor) not in self._met:
            self.meet(tensor)
            self.constants.append(whole_memory(tensor).clone())

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.operations.append(described(facts_of(func).name, args, kwargs))
        for leaf in leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        result = super()._follow(func, args, kwargs)
        for leaf in leaves(result):
            if isinstance(leaf, Tensor):
                self.meet(leaf)
        return result


_OTHERWISE = "the program calls other functions than when it was followed"


def perform(
    oracle: Oracle, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, replaced: bool
) -> Any:
    """Run an operation, or what takes its place."""
    facts = facts_of(func)
    function = FUNCTIONS.get(facts.name) if replaced else None
    result = _evaluate(oracle, function.formula, args, kwargs) if function else None
    for tensor in edited(func, args, kwargs) if facts.is_mutable else ():
        oracle.forget(tensor)
    if function is None:
        return func(*args, **kwargs)
    like = None if function.in_rows else args[0]
    result = args[0].copy_(result) if facts.is_mutable else mapped(lambda out: _laid_out(out, like), result)
    oracle.note([leaf for leaf in leaves(result) if isinstance(leaf, Tensor)])
    return result


def _laid_out(result: Any, like: Any) -> Any:
    """Lay a result out as torch does: as the first argument of an elementwise operation is, or in rows."""
    if not isinstance(result, Tensor):
        return result
    if isinstance(like, Tensor) and result.shape == like.shape:
        return torch.empty_like(like, dtype=result.dtype).copy_(result)
    return result.contiguous()


def _evaluate(k: Oracle | Bounds, formula: Formula, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return formula(k, *map(k.of, args), **{name: k.of(value) for name, value in kwargs.items()})
