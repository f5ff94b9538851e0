"""A side: one version of a project, and what keeps it apart from the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

# Compilers keep what they made by name or by source; neither side may find what the other made.
_CACHES = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "extensions",
    "TRITON_CACHE_DIR": "triton",
    "NUMBA_CACHE_DIR": "numba",
    "PYTHONPYCACHEPREFIX": "bytecode",
}
_INSTRUMENT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Side:
    """Where one version lies.

    name: what it is called in sentences. root: its checkout. folders: its case packages. paths: the folders
    that come first on ``sys.path``. caches: a folder of its own for what compilers keep. foreign: folders
    that nothing of it may come from, such as the other checkout and the user's worktree. like: the side whose
    references it computes with, where it is a copy of one.
    """

    name: str
    root: Path
    folders: tuple[Path, ...]
    paths: tuple[Path, ...]
    caches: Path
    foreign: tuple[Path, ...] = ()
    like: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the side as a line of a channel takes it."""
        return {
            name: [str(path) for path in value] if isinstance(value, tuple) else str(value)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read a side back."""
        paths = {name: tuple(map(Path, content[name])) for name in ("folders", "paths", "foreign")}
        return cls(
            name=content["name"],
            root=Path(content["root"]),
            caches=Path(content["caches"]),
            like=content["like"],
            **paths,
        )

    def enter(self) -> None:
        """Let this process see this version alone, and stand where its user would."""
        os.chdir(self.root)
        os.environ.update(cache_variables(self.caches))
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]
        kept = [path for path in sys.path if not self._is_foreign(path)]
        sys.path[:] = [*map(str, self.paths), *kept]
        # What an earlier import found in a folder may be another version of it.
        sys.path_importer_cache.clear()

    def strays(self) -> list[str]:
        """Say what this process holds of a place that it may hold nothing of."""
        held = [
            (f"the module {name}", str(path))
            for name, module in list(sys.modules.items())
            if (path := getattr(module, "__file__", None)) and not _is_instrument(name)
        ]
        held += [("a mapped file", path) for path in sorted(_mapped_files())]
        return [f"{what} from {path}" for what, path in held if self._is_foreign(path)]

    def _is_foreign(self, path: str) -> bool:
        if not path:
            # The folder that the process happens to stand in.
            return True
        place = Path(path).resolve()
        own = (self.root, Path(sys.prefix).resolve(), _INSTRUMENT)
        # An environment may lie in a worktree, and packages of a project in an environment.
        return _depth(place, self.foreign) > _depth(place, own)

    def shadowed(self) -> list[str]:
        """Name what this process has imported already and would be served in place of this side's own."""
        imported = {name.partition(".")[0] for name in sys.modules} - {"harness"}
        return sorted(imported & {name for path in self.paths for name in _importable(path)})


def cache_variables(caches: Path) -> dict[str, str]:
    """Return the variables by which compilers keep what they made below a folder."""
    return {name: str(caches / folder) for name, folder in _CACHES.items()}


def _is_instrument(name: str) -> bool:
    """Whether a module belongs to the harness, which measures both sides and is the same for both."""
    return name.partition(".")[0] == "harness"


def _depth(place: Path, folders: Iterable[Path]) -> int:
    """Return how deep the deepest of these folders that holds a place lies; 0 where none does."""
    return max((len(folder.parts) for folder in folders if place.is_relative_to(folder)), default=0)


def _importable(folder: Path) -> Iterator[str]:
    """Name the modules and packages of a folder."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.suffix in (".py", ".so", ".pyd"):
            yield entry.name.partition(".")[0]
        elif entry.is_dir() and (entry / "__init__.py").exists():
            yield entry.name


def _mapped_files() -> set[str]:
    """Return the files that this process has mapped, such as libraries; none where nobody tells."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    fields = (line.split(maxsplit=5) for line in lines)
    return {field[5] for field in fields if len(field) == 6 and field[5].startswith("/")}
