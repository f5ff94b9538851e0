"""Drawing: Hypothesis strategies over the shapes of a scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.bench.dims import Dims
from harness.bench.pages import Scope
from harness.bench.shapes.letters import Letter, Value, lacking, letters_of

Check = Callable[[Dims], None]
Drawn = TypeVar("Drawn")

# Beyond these a shape costs more than some milliseconds.
_MOST_ELEMENTS, _MOST_MACS = 30_000, 300_000
# How often a shape is drawn anew before one that is not defined is mended.
_ATTEMPTS = 3


def any_shapes(scope: Scope) -> st.SearchStrategy[Dims]:
    """Return the strategy of shapes that differ from one of the page's in some letters, or in all.

    The formula defines nothing for many of them.
    """
    return _changed_shapes(scope, letters_of(scope))


def defined_shapes(scope: Scope) -> st.SearchStrategy[Dims]:
    """Return the strategy of small shapes for which the formula defines something.

    Where it defines nothing at what is drawn again and again, letters of a shape of the page take the place
    of drawn ones, in an order that is drawn too, until it does; as many drawn ones as possible stay.
    """
    return _defined_shapes(scope, letters_of(scope))


def for_all(strategy: st.SearchStrategy[Dims], examples: int, check: Check) -> None:
    """Call a check with so many shapes; it fails with the simplest one at which the check does.

    The shapes are the same ones in every run, on every machine, and all different; there are fewer where
    too many are drawn twice.
    """
    passed: set[Dims] = set()
    deterministic = settings(
        max_examples=2 * examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    def holds(dims: Dims) -> None:
        if len(passed) < examples and dims not in passed:
            check(dims)
            passed.add(dims)

    deterministic(given(strategy)(holds))()


@st.composite
def _changed_shapes(draw: st.DrawFn, scope: Scope, letters: Sequence[Letter]) -> Dims:
    page = draw(_one_of(*scope.proof_dims))
    # Channels and what they are cut into belong together: half of the shapes keep them all.
    free = [letter for letter in letters if letter.is_free] or letters
    pool = draw(_one_of(free, letters))
    changed = draw(st.permutations(pool))[: draw(st.integers(1, len(pool)))]
    kept = {letter.name: page[letter.name] for letter in letters if letter.name in page}
    return draw(_drawn_shapes(scope, letters, changed, kept))


@st.composite
def _drawn_shapes(
    draw: st.DrawFn,
    scope: Scope,
    letters: Sequence[Letter],
    changed: Sequence[Letter],
    kept: Mapping[str, Value],
) -> Dims:
    drawn = {name: value for name, value in kept.items() if all(letter.name != name for letter in changed)}
    for letter in (letter for letter in letters if letter in changed):
        # Two of three times: what an option does matters more than that it is left out.
        if not letter.optional or draw(_one_of(True, True, False)):
            drawn[letter.name] = draw(_values(letter, drawn))
    # An option may be what allows to leave a letter out.
    for letter in _left_out(scope, letters, drawn):
        drawn[letter.name] = draw(_values(letter, drawn))
    return Dims(**drawn)


def _left_out(scope: Scope, letters: Sequence[Letter], drawn: Mapping[str, Value]) -> list[Letter]:
    if len(drawn) == len(letters):
        return []
    names = lacking(scope, Dims(**drawn))
    return [letter for letter in letters if letter.name in names]


def _values(letter: Letter, drawn: Mapping[str, Value]) -> st.SearchStrategy[Value]:
    if not letter.parts:
        return _one_of(*letter.values)
    # Mostly what its parts divide, because most formulas ask for that.
    multiples = letter.multiples(drawn)
    return _one_of(multiples, multiples, multiples, letter.values).flatmap(st.sampled_from)


def _one_of(*values: Drawn) -> st.SearchStrategy[Drawn]:
    return st.sampled_from(values)


@st.composite
def _defined_shapes(draw: st.DrawFn, scope: Scope, letters: Sequence[Letter]) -> Dims:
    for _ in range(_ATTEMPTS):
        shape = draw(_drawn_shapes(scope, letters, letters, {}))
        if _fits(scope, shape):
            return shape
    page = draw(st.sampled_from(scope.proof_dims))
    names = [letter.name for letter in draw(st.permutations(letters))]
    return _mended(scope, shape, page, names)


def _mended(scope: Scope, shape: Dims, page: Dims, names: Sequence[str]) -> Dims:
    """Take letters from the page until the shape is defined, and give back those that need not be taken."""
    mended, taken = shape, []
    for name in names:
        mended = _with_letter_of(page, name, mended)
        taken.append(name)
        if _fits(scope, mended):
            break
    for name in taken:
        restored = _with_letter_of(shape, name, mended)
        if _fits(scope, restored):
            mended = restored
    return mended


def _with_letter_of(other: Dims, name: str, shape: Dims) -> Dims:
    """Give a letter of a shape the value that it has in another one, or none."""
    values = {**shape, name: other.get(name)}
    return Dims(**{letter: value for letter, value in values.items() if value is not None})


def _fits(scope: Scope, shape: Dims) -> bool:
    """Tell whether the formula defines something there that is computed at once."""
    try:
        if scope.refusal(shape) is not None:
            return False
        elements = sum(spec.elements for spec in scope.inputs(shape).values())
        return elements <= _MOST_ELEMENTS and scope.cost(shape).macs <= _MOST_MACS
    except Exception:
        # Whatever fails here is told by the check of the shape itself.
        return True
