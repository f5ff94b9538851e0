"""Which project this is, where its cases lie, and who renders its runs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.doors import project
from harness.doors.project import builtin_cases, find_project, load_renderer, renderers
from harness.paper.errors import SameopError


def write(folder: Path, text: str) -> Path:
    """Write a pyproject.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path) -> str:
    """Return the sentence with which a project is refused."""
    with pytest.raises(SameopError) as caught:
        find_project(folder)
    return str(caught.value)


def test_nearest_settings_count(tmp_path: Path) -> None:
    """The project is the nearest folder upwards that has the settings; files without them do not matter."""
    write(tmp_path, '[tool.sameop]\ncases = ["ops", "more/ops"]\n')
    write(tmp_path / "inner", "[tool.other]\n")
    (tmp_path / "inner" / "deep").mkdir()
    found = find_project(tmp_path / "inner" / "deep")
    assert found.root == tmp_path
    assert found.is_configured
    assert found.folders == (tmp_path / "ops", tmp_path / "more/ops")
    assert found.runs == tmp_path / "reports" / "runs"


def test_without_settings_ours_are_all_there_is(tmp_path: Path) -> None:
    """In a folder that belongs to no project the command line shows our own cases."""
    found = find_project(tmp_path)
    assert not found.is_configured
    assert found.folders == tuple(builtin_cases())
    assert (found.folders[0] / "comparisons.py").is_file()


def test_builtin_cases_are_added_once(tmp_path: Path) -> None:
    """Ours are left out unless they are asked for, and never listed twice."""
    (ours,) = builtin_cases()
    write(tmp_path, f"[tool.sameop]\ncases = {json.dumps(['ops', str(ours)])}\n")
    assert find_project(tmp_path, builtin=True).folders == (tmp_path / "ops", ours)
    write(tmp_path, '[tool.sameop]\ncases = ["ops"]\n')
    assert find_project(tmp_path).folders == (tmp_path / "ops",)
    assert find_project(tmp_path, builtin=True).folders == (tmp_path / "ops", ours)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[tool.sameop\n", "{path} cannot be read ({error}): correct the file."),
        (
            '[tool.sameop]\ncase = ["ops"]\n',
            "[tool.sameop] in {path} has the unknown key 'case': known is cases.",
        ),
        (
            '[tool.sameop]\ncases = "ops"\n',
            "`cases` of [tool.sameop] in {path} is 'ops': give a list of folders, such as [\"cases\"].",
        ),
        (
            "[tool.sameop]\n",
            '`cases` of [tool.sameop] in {path} is None: give a list of folders, such as ["cases"].',
        ),
        (
            "[tool.sameop]\ncases = [1]\n",
            '`cases` of [tool.sameop] in {path} is [1]: give a list of folders, such as ["cases"].',
        ),
        (
            "[tool]\nsameop = 3\n",
            '[tool.sameop] in {path} is 3 and no table: write [tool.sameop] and below it cases = ["cases"].',
        ),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path: Path, text: str, wanted: str) -> None:
    """A mistake in the settings names the file, what was found and what to write."""
    path = write(tmp_path, text)
    found = refusal(tmp_path)
    error = found.partition("cannot be read (")[2].partition("): correct")[0]
    assert found == wanted.format(path=path, error=error)


@pytest.mark.parametrize("text", ["[broken\n", "tool = 3\n", 'name = "sameop"\n', "\x00"])
def test_files_of_others_are_left_alone(tmp_path: Path, text: str) -> None:
    """A file that does not set sameop up, broken or not, is not its business."""
    write(tmp_path, text)
    assert not find_project(tmp_path).is_configured


def test_folder_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """Something else of that name is not read."""
    (tmp_path / "pyproject.toml").mkdir()
    assert not find_project(tmp_path).is_configured


class Distribution:
    """A distribution installed in a folder, or from it."""

    def __init__(self, folder: Path, origin: dict[str, Any] | None = None) -> None:
        self.folder, self.origin = folder, origin

    def read_text(self, name: str) -> str | None:
        """Return direct_url.json."""
        return json.dumps(self.origin) if self.origin else None

    def locate_file(self, name: str) -> Path:
        """Return where a file of the distribution lies."""
        return self.folder / name


class Entry:
    """An entry point of a distribution."""

    def __init__(self, value: str, dist: Distribution | None) -> None:
        self.name = "html"
        self.module, _, self.attr = value.partition(":")
        self.dist = dist


def offer(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    """Pretend that these entry points are installed."""
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: list(entries))


def renderer_package(folder: Path, text: str) -> Path:
    """Write a package ``reports`` whose module ``page`` holds the text."""
    package = folder / "reports"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "page.py").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def fresh_alias() -> Iterator[None]:
    """Forget renderers that other tests loaded, and afterwards those of this test."""
    forget_renderers()
    yield
    forget_renderers()


def forget_renderers() -> None:
    """Let the next one be loaded from its distribution."""
    for name in [name for name in sys.modules if name.startswith("sameop_renderer_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("fresh_alias")
@pytest.mark.parametrize("editable", [False, True])
def test_renderer_is_loaded_from_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editable: bool
) -> None:
    """The package is found where its distribution lies, not by a name that others may use too."""
    home = renderer_package(tmp_path / "home folder", "def render(runs): return 'theirs'\n")
    other = renderer_package(tmp_path / "other", "def render(runs): return 'mine'\n")
    monkeypatch.syspath_prepend(str(other))
    origin = {"url": home.as_uri(), "dir_info": {"editable": True}}
    distribution = Distribution(tmp_path if editable else home, origin if editable else None)
    offer(monkeypatch, Entry("reports.page:render", distribution))
    assert load_renderer("html")([]) == "theirs"


@pytest.mark.usefixtures("fresh_alias")
@pytest.mark.parametrize(
    ("text", "value", "wanted"),
    [
        (
            "import nothing_like_it\n",
            "reports.page:render",
            "The renderer for 'html' cannot be imported (No module named 'nothing_like_it'): reinstall it.",
        ),
        (
            "",
            "reports.page:render",
            "The renderer for 'html' cannot be imported "
            "(module 'sameop_renderer_reports.page' has no attribute 'render'): reinstall it.",
        ),
        (
            "",
            "absent.page:render",
            "The package absent of the entry point 'html' was not found: reinstall it.",
        ),
    ],
)
def test_broken_renderer_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, value: str, wanted: str
) -> None:
    """A renderer that is broken is named with its mistake."""
    offer(monkeypatch, Entry(value, Distribution(renderer_package(tmp_path, text))))
    with pytest.raises(SameopError) as caught:
        load_renderer("html")
    assert str(caught.value) == wanted


def test_unknown_format_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A format that nothing writes is answered with those that are known, or with what to install."""
    offer(monkeypatch)
    with pytest.raises(SameopError) as caught:
        load_renderer("odt")
    assert str(caught.value) == "No renderer writes 'odt': none is installed: `pip install sameop`."
    offer(monkeypatch, Entry("reports.page:render", None))
    with pytest.raises(SameopError) as caught:
        load_renderer("odt")
    assert str(caught.value) == "No renderer writes 'odt': known are html."


def test_installed_renderer_is_found() -> None:
    """The distribution offers the page."""
    assert "html" in renderers()
    assert callable(load_renderer("html"))
    assert os.path.isdir(project.builtin_cases()[0])
