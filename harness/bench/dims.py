"""Dimensions and workloads: named sizes, taken from networks or made for proofs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.paper.errors import SameopError


class Dims(Mapping[str, Any]):
    """An immutable set of dimension letters and named options, read as attributes.

    Example: ``Dims(B=1, C=64, H=56, W=56, K=7)`` has ``d.C == 64``.
    """

    def __init__(self, **values: int | float | str) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_values":
            raise AttributeError(name)
        if name not in self._values:
            raise SameopError(
                f"The dimension {name} was asked for, the workload has {', '.join(self._values)}: "
                f"add {name} to the workload."
            )
        return self._values[name]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self._values.items())))

    def __repr__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self._values.items())

    def replace(self, **values: int | float | str) -> Dims:
        """Return the same dimensions with some of them changed or added."""
        return Dims(**{**self._values, **values})

    def without(self, *names: str) -> Dims:
        """Return the same dimensions without some of them."""
        return Dims(**{name: value for name, value in self._values.items() if name not in names})


@dataclass(frozen=True)
class Workload:
    """Dimensions under a name, such as ``swin_t/stage1``, and the network that they come from.

    sweep: the letter that the workload varies from a base, measured in the preset full alone.
    """

    name: str
    dims: Dims
    source: str
    sweep: str = ""


def sweep(base: Workload, **letters: Iterable[int | float | str]) -> list[Workload]:
    """Vary one letter of a workload at a time: ``sweep(stage1, K=(3, 5))`` gives K at 3 and at 5.

    A workload of a sweep is named after its base, letter and value, ``rednet50/stage1_sweep_k3``;
    the base's own value is left out, because the base is measured itself.
    """
    batch = f"_b{base.dims.get('B')}"
    stem, ending = (base.name.removesuffix(batch), batch) if base.name.endswith(batch) else (base.name, "")
    return [
        Workload(
            f"{stem}_sweep_{letter.lower()}{value}{ending}",
            base.dims.replace(**{letter: value}),
            f"{base.source}; {letter} varied",
            sweep=letter,
        )
        for letter, values in letters.items()
        for value in values
        if base.dims.get(letter) != value
    ]
