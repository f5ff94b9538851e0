"""Follows a torch program as it runs, and keeps the symbolic value of every element beside every tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from harness.bench.proof.operation import facts_of
from harness.bench.proof.refusal import Guarded, RefusedError, demand_returned
from harness.bench.proof.shadow import OVERWRITES
from harness.bench.proof.shadow import UNWRITTEN as ALLOCATIONS
from harness.bench.proof.symbolic.memory import Memory
from harness.bench.proof.symbolic.operation import Call, Marked, Rule
from harness.bench.proof.symbolic.polynomials import NoFormError
from harness.bench.proof.symbolic.rules import RULES
from harness.bench.proof.symbolic.symbols import NO_NUMBER, UNDECIDED, UNWRITTEN, Symbols

# New tensors of constants, whatever they are shaped like; their values are read from the program.
_CONSTANTS = frozenset(
    f"aten.{name}" for name in ("zeros_like", "ones_like", "new_zeros", "new_ones", "new_full", "full_like")
)


class Following(Guarded):
    """The mode under which a program is followed.

    Float64 is followed; every other dtype holds constants, which are read from the program, and data that
    turns into one is refused. ``operations`` names what was called on data.
    """

    def __init__(self, symbols: Symbols) -> None:
        super().__init__()
        self._symbols = symbols
        self._memory = Memory(UNWRITTEN)
        self.operations: set[str] = set()

    def track(self, tensor: Tensor, marks: Tensor) -> None:
        """Declare an input by the numbers of its elements."""
        self._memory.write(tensor, marks)

    def marks(self, tensor: Tensor) -> Tensor:
        """Return the numbers of the values of a tensor; one that was never seen holds constants."""
        if not self._memory.knows(tensor):
            # All of its storage, for other views of it may follow.
            count = tensor.untyped_storage().nbytes() // tensor.element_size()
            whole = tensor.detach().as_strided((count,), (1,), 0)
            self._memory.write(whole, self._constants(whole))
        return self._memory.read(tensor)

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = facts_of(func).name
        if torch.Tag.nondeterministic_seeded in func.tags and name not in RULES:
            raise RefusedError(f"{name} draws random numbers")
        look = self._look
        call = Call.of(func, tree_map(look, args), tree_map(look, kwargs), self._symbols)
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        if func._schema.is_mutable:
            demand_returned(name, func, args, kwargs, outputs)
        if self._is_of_data(call):
            self.operations.add(name)
            if not outputs:
                raise RefusedError(f"{name} carries data out of torch")
        if func._schema.is_mutable or not all(map(self._memory.knows, outputs)):
            self._note(name, call, outputs)
        return result

    def _look(self, leaf: Any) -> Any:
        return Marked(leaf, self.marks(leaf)) if isinstance(leaf, Tensor) else leaf

    def _is_of_data(self, call: Call) -> bool:
        marks = {mark for marked in call.marked for mark in marked.marks.unique().tolist()}
        return UNDECIDED in marks or any(map(self._is_value, marks))

    def _is_value(self, mark: float) -> bool:
        """Tell whether a mark is that of a value that depends on the inputs."""
        return mark >= 0 and self._symbols.constant(int(mark)) is None

    def _note(self, name: str, call: Call, outputs: list[Tensor]) -> None:
        """Mark what an operation returned."""
        for output, marks in zip(outputs, self._marks_of(name, call, outputs), strict=True):
            if output.dtype != torch.float64 and any(map(self._is_value, marks.unique().tolist())):
                raise RefusedError(f"{name} turns the data into {output.dtype}")
            self._memory.write(output, marks)

    def _marks_of(self, name: str, call: Call, outputs: list[Tensor]) -> list[Tensor]:
        if name in ALLOCATIONS:
            return [torch.full(output.shape, float(UNWRITTEN)) for output in outputs]
        constant = name in _CONSTANTS or not self._is_of_data(call)
        rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
        is_followed = rule is not None and all(output.dtype == torch.float64 for output in outputs)
        if constant and not is_followed:
            return self._read(name, call, outputs)
        if rule is None:
            raise RefusedError(f"{name} has no rule")
        try:
            return _applied(name, rule, call)
        except NoFormError as error:
            if constant:
                return self._read(name, call, outputs)
            raise RefusedError(f"{name} {error}") from error

    def _read(self, name: str, call: Call, outputs: list[Tensor]) -> list[Tensor]:
        """Read constants that are made of constants from the program itself."""
        read = call.marked[1:] if name in OVERWRITES else call.marked
        if any(bool((marked.marks == UNWRITTEN).any()) for marked in read):
            raise RefusedError(f"{name} reads memory that was never written")
        return [self._constants(output) for output in outputs]

    def _constants(self, tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return torch.full(tensor.shape, float(NO_NUMBER))
        numbers = [self._symbols.number(value) for value in tensor.detach().flatten().tolist()]
        return torch.tensor(numbers, dtype=torch.float64).reshape(tensor.shape)


def _applied(name: str, rule: Rule, call: Call) -> list[Tensor]:
    try:
        found = rule(call)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError) as error:
        # A form of the operation that the rule was not written for.
        raise RefusedError(f"{name} is called in a form that has no rule ({error})") from error
    return [found] if isinstance(found, Tensor) else list(found)
