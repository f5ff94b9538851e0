"""What of a project is installed, and by whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.doors.gate.installed import installed_from


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a project named `my-own`."""
    root = tmp_path / "repo"
    root.mkdir()
    (root / "pyproject.toml").write_text('[project]\nname = "My_Own"\n')
    return root


def install(site: Path, name: str, files: list[str], origin: object = None) -> None:
    """Write what an installer records."""
    about = site / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{about.name}/RECORD"]))
    if origin is not None:
        (about / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only place where distributions are looked for."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.setattr("sys.path", [str(place)])
    return place


def test_packages_and_files(repository: Path, site: Path) -> None:
    """A package is named whole, a module or a part of a shared package by itself; scripts are not."""
    files = ["own/__init__.py", "own/deep/a.py", "single.py", "shared/mine.py", "../bin/own", "_own.abi3.so"]
    install(site, "other", files, {"url": repository.as_uri(), "dir_info": {}})
    found = sorted(str(path.relative_to(site)) for path in installed_from(repository, repository))
    assert found == ["_own.abi3.so", "own", "shared/mine.py", "single.py"]


def test_by_the_name_of_the_project(repository: Path, site: Path) -> None:
    """What bears the project's name is the project, wherever it was installed from."""
    install(site, "my.own", ["own/__init__.py"])
    install(site, "theirs", ["theirs/__init__.py"])
    assert installed_from(repository, repository) == (site / "own",)


def test_what_leads_to_the_sources_is_no_part_of_them(repository: Path, site: Path) -> None:
    """An editable install leaves a signpost, which every process passes."""
    install(site, "my.own", ["__editable__.my_own-1.0.pth", "__editable___my_own_1_0_finder.py", "own.pth"])
    assert installed_from(repository, repository) == ()


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "no JSON",
        "[]",
        {"url": "https://example.com/own", "vcs_info": {}},
        {"url": "file:///elsewhere", "dir_info": {}},
        {"url": "REPO/wheels/theirs.whl", "archive_info": {}},
    ],
)
def test_others_are_free(repository: Path, site: Path, origin: object) -> None:
    """A distribution from elsewhere is the same for both sides, and may be."""
    if isinstance(origin, dict):
        origin = {**origin, "url": origin["url"].replace("REPO", repository.as_uri())}
    install(site, "theirs", ["theirs/__init__.py"], origin)
    assert installed_from(repository, repository) == ()


def test_part_of_a_larger_repository(repository: Path, site: Path) -> None:
    """A neighbour that was installed from the same repository changes with it, too; no name is needed."""
    (repository / "pyproject.toml").write_text("not = [toml")
    (repository / "my own").mkdir()
    install(
        site,
        "neighbour",
        ["neighbour/__init__.py"],
        {"url": (repository / "my own").as_uri(), "dir_info": {}},
    )
    assert installed_from(repository, repository) == (site / "neighbour",)
    (repository / "pyproject.toml").unlink()
    assert installed_from(repository, repository) == (site / "neighbour",)
