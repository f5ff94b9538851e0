"""What of a project is installed: neither side may run it, since both would run the same."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlparse

_NO_CODE = (".dist-info", ".egg-info", ".pth")
# An editable install leaves a module that leads to the sources; these lie in the repository.
_SIGNPOST = "__editable__"


def installed_from(project: Path, repository: Path) -> tuple[Path, ...]:
    """Return the packages and files that were installed from a repository, or under a project's name.

    With a layout in which the package lies in ``src``, an import finds what is installed unless the policy's
    ``paths`` name that folder; every slowdown would pass.
    """
    name = _project_name(project)
    found = (
        place
        for distribution in distributions()
        if _normal(distribution.name) == name or _comes_from(distribution, repository)
        for place in _places(distribution)
    )
    return tuple(dict.fromkeys(found))


def _project_name(project: Path) -> str | None:
    try:
        settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = settings.get("project", {}).get("name")
    return _normal(name) if isinstance(name, str) else None


def _normal(name: str | None) -> str:
    """Return a name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name or "").lower()


def _comes_from(distribution: Distribution, repository: Path) -> bool:
    """Whether it was installed from a folder of the repository; a wheel that lies there is no source."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        url = urlparse(origin.get("url", ""))
        return "dir_info" in origin and Path(unquote(url.path)).resolve().is_relative_to(repository)
    except (ValueError, AttributeError):
        return False


def _places(distribution: Distribution) -> Iterator[Path]:
    """Name the packages whole, and one by one what lies in no package of this distribution's own."""
    files = distribution.files or []
    packages = {file.parts[0] for file in files if len(file.parts) == 2 and file.name == "__init__.py"}
    for file in files:
        top = file.parts[0]
        if top in packages:
            yield Path(str(distribution.locate_file(top))).resolve()
        elif not top.endswith(_NO_CODE) and not top.startswith(_SIGNPOST) and ".." not in file.parts:
            yield Path(str(file.locate())).resolve()
