"""Drawing: Hypothesis strategies over the shapes of a scope."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.bench.dims import Dims
from harness.bench.pages import Scope
from harness.bench.shapes.letters import Letter, Value, lacking, letters_of

Check = Callable[[Dims], None]
Letters = tuple[Letter, ...]

# Beyond these a shape costs more than some milliseconds.
_MOST_ELEMENTS, _MOST_MACS = 30_000, 300_000
# How often a shape is drawn anew before one that is not defined is mended.
_ATTEMPTS = 3


def any_shapes(scope: Scope) -> st.SearchStrategy[Dims]:
    """Return the strategy of shapes that differ from one of the page's in some letters, or in all.

    The formula defines nothing for many of them.
    """
    return _changed_shapes(scope, tuple(letters_of(scope)))


def defined_shapes(scope: Scope) -> st.SearchStrategy[Dims]:
    """Return the strategy of small shapes for which the formula defines something.

    Where it defines nothing at what is drawn again and again, letters of a shape of the page take the place
    of drawn ones, in an order that is drawn too, until it does; as many drawn ones as possible stay.
    """
    return _defined_shapes(scope, tuple(letters_of(scope)))


def for_all(strategy: st.SearchStrategy[Dims], examples: int, check: Check) -> None:
    """Call a check with so many shapes; it fails with the simplest one at which the check does.

    The shapes are the same ones in every run, on every machine. They are all different, and a few less
    where many are drawn twice.
    """
    passed: set[Dims] = set()
    deterministic = settings(
        max_examples=examples + examples // 4,
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
def _changed_shapes(draw: st.DrawFn, scope: Scope, letters: Letters) -> Dims:
    page = draw(st.sampled_from(scope.proof_dims))
    # Channels and what they are cut into belong together: half of the shapes keep them all.
    free = tuple(letter for letter in letters if letter.is_free) or letters
    pool = draw(st.sampled_from((free, letters)))
    chosen = draw(_numbers(2 ** len(pool) - 1)) + 1
    changed = {letter.name for place, letter in enumerate(pool) if chosen >> place & 1}
    kept = {letter.name: page[letter.name] for letter in letters if letter.name in page}
    return _drawn(draw, scope, letters, {name: kept[name] for name in kept if name not in changed}, changed)


@st.composite
def _defined_shapes(draw: st.DrawFn, scope: Scope, letters: Letters) -> Dims:
    names = [letter.name for letter in letters]
    for _ in range(_ATTEMPTS):
        shape = _drawn(draw, scope, letters, {}, names)
        if _fits(scope, shape):
            return shape
    first = draw(_numbers(len(names)))
    return _mended(scope, shape, draw(st.sampled_from(scope.proof_dims)), names[first:] + names[:first])


def _drawn(
    draw: st.DrawFn, scope: Scope, letters: Letters, kept: Mapping[str, Value], changed: Collection[str]
) -> Dims:
    """Draw the letters that change, and those that cannot be left out beside the others."""
    shape = dict(kept)
    for letter in letters:
        if letter.name in changed:
            # Left out once in three: what an option does matters more than that it can be.
            values = _pool(letter, shape)
            value = draw(st.sampled_from(values + (None,) * (len(values) // 2 * letter.optional)))
            if value is not None:
                shape[letter.name] = value
    needed = lacking(scope, Dims(**shape)) if len(shape) < len(letters) else ()
    # An option may be what allows to leave a letter out.
    for letter in (letter for letter in letters if letter.name in needed):
        shape[letter.name] = draw(st.sampled_from(_pool(letter, shape)))
    return Dims(**shape)


def _pool(letter: Letter, drawn: Mapping[str, Value]) -> tuple[Value, ...]:
    """Return what to draw from: mostly what the parts divide, because most formulas ask for that."""
    multiples = letter.multiples(drawn) if letter.parts else ()
    often = 3 * len(letter.values) // max(1, len(multiples))
    return multiples * often + letter.values


@functools.cache
def _numbers(count: int) -> st.SearchStrategy[int]:
    return st.sampled_from(range(count))


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
