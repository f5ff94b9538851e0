"""Plants: extra work of a chosen kind and size, written into the source of what a case times."""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from harness.validation.gate.suite import SUITE, Entry

ARITHMETIC, COPY, ALLOCATION, SLEEP, FORMAT = "arithmetic", "copy", "allocation", "sleep", "format"
NULL = "nothing"
# By kind, the shares by which a case is made slower: of its time, and for an allocation of its peak memory.
# A negative size is a speed-up: the work is in base. The rule for the wall allows 10 %, so that sleeps are
# larger; the kernel wakes a sleeper some 60 µs late, so that a short case sleeps longer than it is told.
SIZES: Mapping[str, tuple[float, ...]] = {
    ARITHMETIC: (0.005, 0.01, 0.02, 0.025, 0.03, 0.05, 0.10, -0.02, -0.05),
    COPY: (0.01, 0.02, 0.03, 0.05, 0.10, -0.05),
    ALLOCATION: (0.005, 0.01, 0.05, 0.10),
    SLEEP: (0.05, 0.10, 0.30, 0.50),
    # What a change of the memory format costs is what it costs.
    FORMAT: (0.0,),
}
# A third of a suite has nothing planted, and each kind is in every suite.
_NULLS = 1 / 3
_ALWAYS = (ARITHMETIC, ARITHMETIC, COPY, ALLOCATION, SLEEP, FORMAT)


@dataclass(frozen=True)
class Plant:
    """What is planted into a case. size: nominal; what it truly costs is measured."""

    kind: str = NULL
    size: float = 0.0

    @property
    def is_null(self) -> bool:
        """Whether nothing is planted."""
        return self.kind == NULL

    @property
    def is_timed(self) -> bool:
        """Whether its true size is a time; the bytes of an allocation are known."""
        return self.kind not in (NULL, ALLOCATION)

    @property
    def is_speed_up(self) -> bool:
        """Whether the work is in base."""
        return self.size < 0


@dataclass(frozen=True)
class Scale:
    """What sizes are reckoned by on this machine: of a case, and of the work that is planted.

    seconds: of one call. peak_bytes: of one call. copy_seconds: of copying the first input, which has so many
    elements. touch_seconds: of copying one of them. step_seconds: of one step of arithmetic in Python.
    """

    seconds: float
    peak_bytes: int
    copy_seconds: float
    touch_seconds: float
    elements: int
    step_seconds: float


def draw(seed: str) -> dict[Entry, Plant]:
    """Draw what becomes of each case of the suite in one trial."""
    dice = random.Random(seed)  # noqa: S311  # a lot, no secret
    exact = _NULLS * len(SUITE)
    nulls = int(exact) + (dice.random() < exact - int(exact))
    rest = len(SUITE) - nulls - len(_ALWAYS)
    kinds = [NULL] * nulls + list(_ALWAYS) + dice.choices((ARITHMETIC, COPY), k=rest)
    dice.shuffle(kinds)
    return {entry: _sized(dice, kind) for entry, kind in zip(SUITE, kinds, strict=True)}


def _sized(dice: random.Random, kind: str) -> Plant:
    return Plant() if kind == NULL else Plant(kind, dice.choice(SIZES[kind]))


def write(text: str, function: str, plant: Plant, scale: Scale) -> str:
    """Return a page whose function does what was planted before anything else."""
    node = _find(text, function)
    body = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    argument = node.args.args[0].arg
    lines = text.splitlines(keepends=True)
    indent = " " * body.col_offset
    planted = [f"{indent}{line}\n" for line in _statements(plant, scale, argument)]
    lines[body.lineno - 1 : body.lineno - 1] = planted
    return "".join(lines)


def _find(text: str, function: str) -> ast.FunctionDef:
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return node
    raise ValueError(f"There is no function {function}.")


def _statements(plant: Plant, scale: Scale, x: str) -> Sequence[str]:
    extra = abs(plant.size) * scale.seconds
    if plant.kind == NULL:
        # The text of a page changes where nothing is planted too.
        return ["# Nothing is planted here."]
    if plant.kind == ARITHMETIC:
        steps = max(1, round(extra / scale.step_seconds))
        return ["_number = 1.0", f"for _step in range({steps}):", "    _number = _number * 0.999 + 0.001"]
    if plant.kind == COPY:
        times, elements = _copies(extra, scale)
        return [f"for _ in range({times}):", f"    {x}.reshape(-1)[:{elements}].clone()"]
    if plant.kind == ALLOCATION:
        return [f"_held = {x}.new_empty({max(1, allocated_bytes(plant, scale) // 4)})"]
    if plant.kind == SLEEP:
        return [f'__import__("time").sleep({extra!r})']
    return [f'{x} = {x}.contiguous(memory_format=__import__("torch").channels_last)']


def _copies(seconds: float, scale: Scale) -> tuple[int, int]:
    """Return how often how many elements are copied in so many seconds; once one of them at least."""
    times = ceil(seconds / scale.copy_seconds)
    growing = max(scale.copy_seconds - scale.touch_seconds, 1e-9)
    share = (seconds / times - scale.touch_seconds) / growing
    return times, max(1, min(scale.elements, round(share * scale.elements)))


def allocated_bytes(plant: Plant, scale: Scale) -> int:
    """Return the bytes that an allocation holds while the case computes."""
    return round(plant.size * scale.peak_bytes)
