"""The catalogue: every operator, claim, comparison and network found in the case packages of a project."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard, TypeVar

from harness.bench.claims import Claim
from harness.bench.comparison import Comparison
from harness.bench.dims import Workload
from harness.bench.drawn import DrawnEdge
from harness.bench.network import Network
from harness.bench.packages import load_package
from harness.bench.pages import Operator, Scope
from harness.bench.published import Books, Figure, Formula
from harness.paper.errors import SameopError

Declared = TypeVar("Declared")


@dataclass
class Catalogue:
    """What the pages declare, by name, in the order in which they were read."""

    operators: dict[str, Operator] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    formulas: list[Formula] = field(default_factory=list)
    drawn: list[DrawnEdge] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    _places: dict[tuple[str, str], str] = field(default_factory=dict)

    def operators_like(self, pattern: str) -> list[Operator]:
        """Return the operators whose name matches a glob, or raise :class:`SameopError`."""
        found = [operator for name, operator in self.operators.items() if fnmatchcase(name, pattern)]
        if not found:
            raise SameopError(
                f"No operator is named {pattern!r}: `sameop list` shows the {len(self.operators)} that are."
            )
        return found

    @cached_property
    def books(self) -> Books:
        """What there is to count."""
        return Books(self.operators, self.networks)

    def workload(self, scope: Scope, name: str) -> Workload:
        """Return a workload of the scope's own or of a network's layers, or raise :class:`SameopError`."""
        network = name.partition("/")[0]
        if network.partition("+")[0] in self.networks and all(own.name != name for own in scope.workloads):
            for layer, workload in self.books.network(network).workloads():
                if workload.name == name and layer.operator == scope.operator.name:
                    return workload
        return scope.workload(name)

    def claims_named(self, names: Iterable[str]) -> list[Claim]:
        """Return the claims of these names, all of them for none, or raise :class:`SameopError`."""
        return _named("claim", self.claims, names)

    def operators_named(self, names: Iterable[str]) -> list[Operator]:
        """Return the operators of these names, all of them for none, or raise :class:`SameopError`."""
        return _named("operator", self.operators, names)

    def add(self, value: object, place: str) -> None:
        """Add what a page declares; a second thing of the same kind and name is refused."""
        if isinstance(value, list | tuple):
            for item in value:
                self.add(item, place)
        elif isinstance(value, Operator):
            self._demand_new("operator", value.name, value.place)
            self.operators[value.name] = value
        elif isinstance(value, Comparison) and self.comparisons.get(value.name) is not value:
            self._demand_new("comparison", value.name, _file(place))
            self.comparisons[value.name] = value
        elif isinstance(value, Network) and self.networks.get(value.name) is not value:
            self._demand_new("network", value.name, _file(place))
            self.networks[value.name] = value
        elif isinstance(value, Figure) and value not in self.figures:
            self.figures.append(value)
        elif isinstance(value, Formula) and value not in self.formulas:
            self.formulas.append(value)
        elif isinstance(value, DrawnEdge) and value not in self.drawn:
            self.drawn.append(value)
        elif _is_claim(value) and value.__module__ == place:
            self._demand_new("claim", value.name, f"{_file(place)}:{value.__qualname__}")
            self.claims[value.name] = value()

    def _demand_new(self, kind: str, name: str, place: str) -> None:
        known = self._places.setdefault((kind, name), place)
        if known != place:
            raise SameopError(f"Two pages declare the {kind} {name!r}, {known} and {place}: rename one.")


def _named(kind: str, known: Mapping[str, Declared], names: Iterable[str]) -> list[Declared]:
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise SameopError(f"No {kind} is named {name!r}: `sameop list` shows the {len(known)} that are.")
    return [known[name] for name in wanted] or list(known.values())


def load_catalogue(folders: Iterable[Path]) -> Catalogue:
    """Read every page below the given case packages, tests excepted.

    Raises :class:`SameopError` for a folder that is absent, a page that does not import, and two
    declarations of one name.
    """
    catalogue = Catalogue()
    for folder in folders:
        for path, module in _pages(folder):
            catalogue.sources.append(path)
            for value in list(vars(module).values()):
                catalogue.add(value, module.__name__)
    for comparison in catalogue.comparisons.values():
        _join_operators(catalogue, comparison)
    return catalogue


def _pages(folder: Path) -> Iterator[tuple[Path, ModuleType]]:
    if not folder.is_dir():
        raise SameopError(
            f"There is no case package {folder}: correct `cases` in [tool.sameop] of pyproject.toml."
        )
    # The name stands for the place, so that two packages called `cases` can be loaded side by side.
    root = "sameop_pages_" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    _importing(folder, load_package, folder, root)
    for path in sorted(folder.rglob("*.py")):
        if path.name.startswith("test_") or path.name == "conftest.py":
            continue
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join((root, *(part for part in parts if part != "__init__")))
        yield path, _importing(path, importlib.import_module, name)


def _importing(path: Path, load: Any, *arguments: Any) -> Any:
    try:
        return load(*arguments)
    except SameopError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if Path(frame.filename) == path), None)
        where = f"{path}:{line}" if line else str(path)
        raise SameopError(
            f"The page {where} cannot be imported ({type(error).__name__}: {error})."
        ) from error


def _join_operators(catalogue: Catalogue, comparison: Comparison) -> None:
    for name in comparison.operators:
        operator = catalogue.operators.get(name)
        if operator is None or comparison.scope not in operator.scopes:
            raise SameopError(
                f"The comparison {comparison.name!r} names {name}/{comparison.scope}, "
                "which no page declares: correct the name, or add the page."
            )
        _add_workload(operator.scopes[comparison.scope], comparison, comparison.workload_of(name))


def _add_workload(scope: Scope, comparison: Comparison, workload: Workload) -> None:
    """Add a shared workload to a scope, unless the scope has it already."""
    known = next((found for found in scope.workloads if found.name == workload.name), None)
    if known is None:
        scope.workloads.append(workload)
    elif known.dims != workload.dims:
        raise SameopError(
            f"The workload {workload.name!r} of the comparison {comparison.name!r} has {workload.dims!r}, "
            f"but {known.dims!r} in {scope.operator.name}/{scope.name}: rename one."
        )


def _is_claim(value: object) -> TypeGuard[type[Claim]]:
    return isinstance(value, type) and issubclass(value, Claim) and hasattr(value, "name")


def _file(module: str) -> str:
    return str(sys.modules[module].__file__)


def describe(catalogue: Catalogue) -> dict[str, Any]:
    """Return the catalogue as ``sameop list --json`` prints it."""
    return {
        "operators": [_describe_operator(operator) for operator in catalogue.operators.values()],
        "claims": [_describe_claim(claim) for claim in catalogue.claims.values()],
        "comparisons": [
            {
                "name": comparison.name,
                "scope": comparison.scope,
                "operators": list(comparison.operators),
                "workloads": [comparison.workload.name],
                "dims": dict(comparison.workload.dims),
                "particulars": {name: dict(dims) for name, dims in comparison.particulars.items()},
                "matched": comparison.matched,
            }
            for comparison in catalogue.comparisons.values()
        ],
    }


def _describe_operator(operator: Operator) -> dict[str, Any]:
    scopes = operator.scopes.values()
    named = {name: found for scope in scopes for name, found in scope.implementations.items()}
    return {
        "name": operator.name,
        "family": operator.family,
        "source": operator.source,
        "note": operator.note,
        "scopes": list(operator.scopes),
        "formulas": {scope.name: scope.formula for scope in scopes},
        "implementations": [
            {
                "name": name,
                "devices": list(found.devices),
                "dtypes": list(found.dtypes),
                "kind": found.kind,
                "scopes": [scope.name for scope in scopes if name in scope.implementations],
            }
            for name, found in named.items()
        ],
        "workloads": list(dict.fromkeys(work.name for scope in scopes for work in scope.workloads)),
        "dims": {work.name: dict(work.dims) for scope in scopes for work in scope.workloads},
        "traits": operator.traits.as_dict() if operator.traits else {},
    }


def _describe_claim(claim: Claim) -> dict[str, Any]:
    return {
        "name": claim.name,
        "statement": claim.statement,
        "kind": claim.kind,
        "operators": list(claim.operators),
        "conditions": list(claim.conditions.values()),
        "source": claim.source,
    }
