"""The pytest plugin: light where nobody uses sameop, and one sentence for every mistake."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.tests.projects import Done, Project, implementation, make_project, run, without

WEIGHTY = ("torch", "typer", "rich", "numpy", "fvcore", "jinja2")
USAGE = "exit 4: usage: an unknown option, name or file"
NOTHING = "exit 13: nothing was measured"


def test_import_of_the_plugin_is_light() -> None:
    """Every pytest of an environment loads the plugin, so it imports neither torch nor a terminal library."""
    program = f"import sys, harness.doors.plugin; print([n for n in {WEIGHTY} if n in sys.modules])"
    done = run(Path.cwd(), [sys.executable, "-c", program])
    assert (done.out, done.err) == ("[]\n", "")


OTHERS_TEST = """
import sys


def test_theirs(benchmark):
    assert benchmark(lambda: 1) == 1


def test_nothing_was_imported():
    assert [name for name in %r if name in sys.modules] == []
"""


def test_project_without_sameop_is_untouched(tmp_path: Path) -> None:
    """A project that does not set sameop up collects, runs and benchmarks as if it were not installed."""
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n", encoding="utf-8")
    (tmp_path / "test_theirs.py").write_text(OTHERS_TEST % (WEIGHTY,), encoding="utf-8")
    project = Project(tmp_path)
    done = project.pytest("-q", "--benchmark-json=theirs.json")
    assert done.code == 0, done.out
    assert "2 passed" in done.out
    assert "sameop" not in done.out
    assert json.loads((tmp_path / "theirs.json").read_text(encoding="utf-8"))["benchmarks"]
    listed = project.pytest("--collect-only", "-q")
    assert listed.lines[:2] == ["test_theirs.py::test_theirs", "test_theirs.py::test_nothing_was_imported"]


def test_fixture_of_the_suite_without_a_project_is_empty(tmp_path: Path) -> None:
    """A test that asks for our cases where there are none ranges over nothing."""
    (tmp_path / "test_theirs.py").write_text("def test_it(sameop_claim): assert 0\n", encoding="utf-8")
    done = Project(tmp_path).pytest("-q")
    assert done.code == 0
    assert "1 skipped" in done.out


def summary(done: Done) -> list[str]:
    """Return the lines of our section of the terminal, up to pytest's own next heading."""
    lines = done.lines
    start = next(place for place, line in enumerate(lines) if line.strip("= ") == "sameop")
    rest = lines[start + 1 :]
    end = next(place for place, line in enumerate(rest) if line.startswith("==="))
    return rest[:end]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a sound project in which nothing is ever measured."""
    return make_project(tmp_path_factory.mktemp("plugin"), implementation("good", "return factor * x"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--bench-precision=0"],
            "--bench-precision=0 is no share of a median: give one such as 1% or 0.01.",
        ),
        (["--bench-operator=nope"], "No operator is named 'nope': `sameop list` shows the 1 that are."),
        (
            ["--bench-run=ops/scale.py"],
            "The run folder {root}/ops/scale.py cannot be written (Not a directory): "
            "name another one with --bench-run.",
        ),
        (
            ["--bench-run=ops"],
            "{root}/ops is not empty and holds no run.json: name a new folder, or one that holds a run.",
        ),
    ],
)
def test_mistake_is_one_sentence_and_exit_4(project: Project, arguments: list[str], sentence: str) -> None:
    """A mistake is one sentence and the code with its meaning; there is no traceback and no run folder."""
    done = project.pytest("--benchmark", "--bench-processes=1", *arguments)
    assert done.code == 4
    assert summary(done) == [sentence.format(root=project.root), USAGE]
    assert "Traceback" not in done.out + done.err
    assert "!!!" not in done.out
    assert project.runs == []


def test_absent_device_is_exit_13(project: Project) -> None:
    """A device that was asked for by name and is absent is told without the looks of a crash."""
    done = project.pytest("--benchmark", "--bench-device=cuda", variables={"CUDA_VISIBLE_DEVICES": ""})
    assert done.code == 13
    sentence, meaning = summary(done)
    assert sentence.startswith("The device cuda was asked for, but ")
    assert sentence.endswith(": leave --bench-device out.")
    assert meaning == NOTHING
    assert "!!!" not in done.out
    assert "_pytest" not in done.out


def test_empty_selection_is_exit_13(project: Project) -> None:
    """Where the options of pytest leave nothing, the run says that nothing was measured."""
    done = project.pytest("--benchmark", "-k", "nothing_like_it")
    assert done.code == 13
    assert summary(done) == [NOTHING]
    assert project.runs == []


def test_collecting_measures_nothing(project: Project) -> None:
    """--collect-only lists the cases by stable ids, measures nothing and makes no folder."""
    first, second = (project.pytest("--benchmark", "--collect-only", "-q") for _ in range(2))
    names = [f"scale/core/{name}/tiny-one/float32/cpu/forward" for name in ("reference", "good")]
    wanted = [f"sameop::test_speed[{name}]" for name in names]
    assert [line for line in first.lines if "::" in line and "/cpu/" in line] == wanted
    assert [line for line in second.lines if "::" in line and "/cpu/" in line] == wanted
    assert project.runs == []
    assert not (project.root / "reports").exists()


def test_measuring_without_a_project_is_one_sentence(tmp_path: Path) -> None:
    """--benchmark where no case is configured says what to write."""
    done = Project(tmp_path).pytest("--benchmark", "--bench-processes=1")
    assert done.code == 4
    assert summary(done) == [
        f"No [tool.sameop] was found at or above {tmp_path}, so there is no case to measure: "
        'add [tool.sameop] cases = ["folder"] to pyproject.toml, or pass --bench-builtin for '
        "sameop's own cases.",
        USAGE,
    ]


@pytest.mark.parametrize("measured", [False, True])
def test_bad_settings_are_one_sentence(tmp_path: Path, measured: bool) -> None:
    """A mistake in the settings stops every pytest of the project, measuring or not."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.sameop]\ncases = 3\n", encoding="utf-8")
    done = Project(tmp_path).pytest(*(["--benchmark", "--bench-processes=1"] if measured else []))
    assert done.code == 4
    assert summary(done) == [
        f'`cases` of [tool.sameop] in {path} is 3: give a list of folders, such as ["cases"].',
        USAGE,
    ]


def test_page_that_does_not_import_is_one_sentence(tmp_path: Path) -> None:
    """A mistake in a page stops every pytest of the project before anything is collected."""
    project = make_project(tmp_path)
    project.page.write_text("\n1 / 0\n", encoding="utf-8")
    done = project.pytest()
    assert done.code == 4
    sentence, meaning = summary(done)
    assert sentence == (
        f"The page {project.page}:2 cannot be imported (ZeroDivisionError: division by zero)."
    )
    assert meaning == USAGE


def test_plain_pytest_proves_and_measures_nothing(tmp_path: Path) -> None:
    """Plain pytest proves the claims, checks agreement and costs, and times nothing, ours or theirs."""
    sound, wrong = implementation("sound", "return factor * x"), implementation("wrong", "return x + factor")
    project = make_project(tmp_path, sound, wrong, claim=True)
    theirs = "def test_theirs(benchmark):\n    assert benchmark(lambda: 1) == 1\n"
    (tmp_path / "test_theirs.py").write_text(theirs, encoding="utf-8")
    done = project.pytest("-v", "--benchmark-json=theirs.json")
    assert done.code == 1
    shown = [line.partition("::")[2].split() for line in done.lines if line.endswith("%]")]
    assert {name: outcome for name, outcome, *_ in shown} == {
        "test_theirs": "PASSED",
        "test_claim[scale-is-a-diagonal-matrix]": "PASSED",
        "test_agreement[scale/core/reference/float32/cpu]": "PASSED",
        "test_agreement[scale/core/sound/float32/cpu]": "PASSED",
        "test_agreement[scale/core/wrong/float32/cpu]": "FAILED",
        "test_cost[scale/core/tiny-one]": "PASSED",
    }
    assert "scale/core/wrong/float32/cpu at B=2 C=3: output[" in done.out
    assert project.runs == []
    assert not (tmp_path / "theirs.json").exists()


def test_collection_error_is_exit_1(tmp_path: Path) -> None:
    """A test file that does not import fails a measuring run with 1, never with 2, and measures nothing."""
    project = make_project(tmp_path)
    (tmp_path / "test_broken.py").write_text("1 / 0\n", encoding="utf-8")
    done = project.pytest("--benchmark", "--bench-processes=1")
    assert done.code == 1
    assert summary(done)[-1] == "exit 1: tests, agreement or a claim failed"
    assert project.runs == []


def test_pages_are_read_only_where_they_are_needed(tmp_path: Path) -> None:
    """A test file of its own runs while a page is broken; one that asks for our cases names the page."""
    project = make_project(tmp_path)
    project.page.write_text("\n1 / 0\n", encoding="utf-8")
    (tmp_path / "test_theirs.py").write_text("def test_theirs(): pass\n", encoding="utf-8")
    (tmp_path / "test_asking.py").write_text("def test_asking(sameop_claim): pass\n", encoding="utf-8")
    alone = project.pytest("-q", "test_theirs.py")
    assert (alone.code, "1 passed" in alone.out) == (0, True)
    asking = project.pytest("-q", "test_asking.py")
    sentence = f"The page {project.page}:2 cannot be imported (ZeroDivisionError: division by zero)."
    assert asking.code == 2
    assert sentence in asking.lines
    assert "Traceback" not in asking.out


def test_missing_torch_is_one_sentence(tmp_path: Path) -> None:
    """Where torch is not installed a project's pytest says so, and not where it was looked for."""
    done = make_project(tmp_path).pytest(variables=without(tmp_path, "torch"))
    assert done.code == 4
    assert summary(done) == [
        "Proving and measuring need torch, which is not installed: pip install torch.",
        USAGE,
    ]
