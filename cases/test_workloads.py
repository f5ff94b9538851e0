"""A workload's name means one layer on one batch, on whatever page it stands.

Workloads of one name agree in batch, channels, map, kernel and stride, as far as their operators have these
letters; a name ends in the batch where that is not one; and one layer of a network has no two names that
differ in more than what is added at the end, those of a sweep excepted.
"""

from itertools import combinations
from pathlib import Path

from harness import Workload
from harness.bench.catalog import load_catalogue

LETTERS = ("B", "C", "Co", "H", "W", "T", "K", "direction")
OPERATORS = load_catalogue([Path(__file__).parent]).operators.values()
# Every workload once, with the pages that have it.
PAGES: dict[Workload, set[str]] = {}
for operator in OPERATORS:
    for scope in operator.scopes.values():
        for found in scope.workloads:
            PAGES.setdefault(found, set()).add(operator.name)


def same_layer(one: Workload, other: Workload) -> bool:
    """Tell whether two workloads agree in the letters that both have, and in the stride, by default one."""
    shared = [letter for letter in LETTERS if letter in one.dims and letter in other.dims]
    sizes = all(one.dims[letter] == other.dims[letter] for letter in shared)
    return sizes and one.dims.get("stride", 1) == other.dims.get("stride", 1)


def stem(workload: Workload) -> str:
    """Return the name without the batch."""
    return workload.name.removesuffix(f"_b{workload.dims.B}")


def test_one_name_is_one_layer() -> None:
    """Workloads of one name agree in batch, channels, map, kernel and stride."""
    for one, other in combinations(PAGES, 2):
        if one.name == other.name:
            assert same_layer(one, other), f"{PAGES[one]}: {one}; {PAGES[other]}: {other}"


def test_name_ends_in_the_batch() -> None:
    """A name ends in ``_b`` and the batch exactly where the batch is not one."""
    for workload, pages in PAGES.items():
        assert (stem(workload) == workload.name) == (workload.dims.B == 1), f"{pages}: {workload}"


def test_one_layer_has_one_name() -> None:
    """Of two names for one layer of a network, one is the other with something added."""
    for one, other in combinations(PAGES, 2):
        shorter, longer = sorted((stem(one), stem(other)), key=len)
        network = shorter.partition("/")[0] == longer.partition("/")[0]
        if network and same_layer(one, other) and not (one.sweep or other.sweep):
            assert longer.startswith(shorter), f"{PAGES[one]}: {one}; {PAGES[other]}: {other}"
