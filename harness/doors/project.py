"""Which project this is, where its cases lie, and who renders its runs."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from harness.bench.packages import load_package
from harness.paper.errors import SameopError

if TYPE_CHECKING:
    from harness.bench.catalog import Catalogue

Render = Callable[[Any], str]
# What renderers of runs and of traits are found by; the first get runs, the others a document.
RUNS, TRAITS = "sameop.renderers", "sameop.renderers.traits"
_KNOWN_KEYS = ("cases",)


@dataclass(frozen=True)
class Project:
    """A project with sameop cases: its root, and the folders of its case packages."""

    root: Path
    folders: tuple[Path, ...]
    is_configured: bool

    def load(self) -> Catalogue:
        """Read the catalogue, which imports torch."""
        from harness.bench.catalog import load_catalogue

        return load_catalogue(self.folders)

    @property
    def runs(self) -> Path:
        """Where its runs lie unless another place is named."""
        return self.root / "reports" / "runs"


def find_project(start: Path, *, builtin: bool = False) -> Project:
    """Find the nearest ``[tool.sameop]`` at or above ``start``; without one our own cases are all there is.

    builtin: add our own cases to the project's.
    """
    for folder in (start, *start.parents):
        names = _configured_cases(folder / "pyproject.toml")
        if names is not None:
            folders = [folder / name for name in names]
            folders += [extra for extra in (builtin_cases() if builtin else ()) if extra not in folders]
            return Project(folder, tuple(folders), is_configured=True)
    return Project(start, tuple(builtin_cases()), is_configured=False)


def _configured_cases(path: Path) -> list[str] | None:
    settings = _settings(path)
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise SameopError(
            f"[tool.sameop] in {path} is {settings!r} and no table: "
            'write [tool.sameop] and below it cases = ["cases"].'
        )
    unknown = sorted(set(settings) - set(_KNOWN_KEYS))
    if unknown:
        raise SameopError(
            f"[tool.sameop] in {path} has the unknown key {unknown[0]!r}: known is {', '.join(_KNOWN_KEYS)}."
        )
    names = settings.get("cases")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise SameopError(
            f'`cases` of [tool.sameop] in {path} is {names!r}: give a list of folders, such as ["cases"].'
        )
    return names


def _settings(path: Path) -> Any:
    """Return [tool.sameop] of a file, None for a file that has none or cannot be opened."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # Most projects above and around this one do not use sameop, and their mistakes are not its business.
    if b"sameop" not in content:
        return None
    try:
        tool = tomllib.loads(content.decode("utf-8")).get("tool")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SameopError(f"{path} cannot be read ({error}): correct the file.") from None
    return tool.get("sameop") if isinstance(tool, dict) else None


def builtin_cases() -> list[Path]:
    """Locate the case packages that installed distributions offer under ``sameop.cases``."""
    found = importlib.metadata.entry_points(group="sameop.cases")
    return list(dict.fromkeys(_locate(entry) for entry in found))


def renderers(group: str = RUNS) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the installed renderers by format."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=group)}


def load_renderer(format_name: str, group: str = RUNS) -> Render:
    """Return the renderer of a format, or raise :class:`SameopError`.

    It is loaded from where its distribution lies, under a name of its own: the project at hand may
    have a package of the same name.
    """
    known = renderers(group)
    if format_name not in known:
        offered = (
            f"known are {', '.join(sorted(known))}" if known else "none is installed: `pip install sameop`"
        )
        raise SameopError(f"No renderer writes {format_name!r}: {offered}.")
    entry = known[format_name]
    package, _, rest = entry.module.partition(".")
    alias = f"sameop_renderer_{package}"
    folder = _locate(entry)
    try:
        load_package(folder, alias)
        module: Any = importlib.import_module(f"{alias}.{rest}" if rest else alias)
        render: Render = reduce(getattr, entry.attr.split("."), module)
    except (ImportError, AttributeError) as error:
        raise SameopError(
            f"The renderer for {format_name!r} cannot be imported ({error}): reinstall it."
        ) from None
    return render


def _locate(entry: importlib.metadata.EntryPoint) -> Path:
    """Find the folder of an entry point's top-level package without importing it by name."""
    package = entry.module.partition(".")[0]
    distribution = entry.dist
    if distribution is not None:
        for root in (_editable_root(distribution), Path(str(distribution.locate_file("")))):
            if root is not None and (root / package).is_dir():
                return root / package
    raise SameopError(f"The package {package} of the entry point {entry.name!r} was not found: reinstall it.")


def _editable_root(distribution: importlib.metadata.Distribution) -> Path | None:
    text = distribution.read_text("direct_url.json")
    origin = json.loads(text) if text else {}
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(origin["url"]).path))
