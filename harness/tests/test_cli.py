"""The ``sameop`` command: one sentence and the documented code for every mistake, documents kept apart."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.doors import cli, doctor
from harness.doors.doctor import examine, trial
from harness.doors.doctor.examination import Patient
from harness.paper.errors import Exit
from harness.tests.projects import make_project, run, without
from harness.tests.test_doctor_noise import a_trial

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a way to run the command in a folder of its own; it answers with code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


USAGE = "exit 4: usage: an unknown option, name or file"
NO_RUN = "(it holds no run.json): name a folder that `pytest --benchmark` wrote."


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nope"], "'nope'"),
        (["lis"], "'lis'"),
        (["list", "--nope"], "--nope"),
        (["list", "extra"], "extra"),
        (["compare", "one"], "AFTER"),
        (["report", "one"], "--out"),
        (["report", "--out", "x.html"], "RUN"),
    ],
)
def test_arguments_that_no_command_takes(command: Command, arguments: list[str], named: str) -> None:
    """What the parser refuses is one line that names it and says where to look, with exit 4 and never 2."""
    code, out, err = command(*arguments)
    assert (code, out) == (4, "")
    sentence, meaning = err.splitlines()
    assert sentence.startswith("sameop: ")
    assert named in sentence
    assert sentence.endswith((".", "?"), 0, sentence.index(" `sameop --help` lists commands and options."))
    assert meaning == USAGE


@pytest.mark.parametrize(
    "arguments", [["report", "nowhere", "--out", "x.html"], ["compare", "nowhere", "two"]]
)
def test_run_that_cannot_be_read(command: Command, arguments: list[str]) -> None:
    """A folder without a run is named, with what makes one."""
    assert command(*arguments) == (4, "", f"sameop: No run was found in nowhere {NO_RUN}\n{USAGE}\n")


def test_unknown_claim(command: Command, tmp_path: Path) -> None:
    """A claim that no page states is answered with where to look."""
    make_project(tmp_path, claim=True)
    for extra in ([], ["--json"]):
        code, out, err = command("prove", "nope", *extra)
        assert (code, out) == (4, "")
        assert err == (f"sameop: No claim is named 'nope': `sameop list` shows the 1 that are.\n{USAGE}\n")


@pytest.mark.parametrize("name", ["list", "prove"])
def test_bad_settings(command: Command, tmp_path: Path, name: str) -> None:
    """A mistake in pyproject.toml is one sentence in every command that reads it."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.sameop]\ncases = []\n", encoding="utf-8")
    code, out, err = command(name)
    assert (code, out) == (4, "")
    assert err.splitlines() == [
        f'sameop: `cases` of [tool.sameop] in {path} is []: give a list of folders, such as ["cases"].',
        USAGE,
    ]


def test_page_that_does_not_import(command: Command, tmp_path: Path) -> None:
    """A mistake in a page names the page and its line."""
    project = make_project(tmp_path)
    project.page.write_text("\n\nimport not_there\n", encoding="utf-8")
    code, _, err = command("list")
    assert code == 4
    assert err.startswith(f"sameop: The page {project.page}:3 cannot be imported (ModuleNotFoundError: ")
    assert "Traceback" not in err


def test_page_that_wants_to_leave(command: Command, tmp_path: Path) -> None:
    """A page that calls sys.exit while it is imported does not end the command without a word."""
    project = make_project(tmp_path)
    project.page.write_text("import sys\n\nsys.exit(0)\n", encoding="utf-8")
    code, _, err = command("list")
    assert code == 4
    assert err.startswith(f"sameop: The page {project.page}:3 cannot be imported (SystemExit: 0)")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_reader_who_has_seen_enough(tmp_path: Path) -> None:
    """A pipe that is closed early is no failure."""
    make_project(tmp_path)
    program = f"{sys.executable} -m harness list | true; echo ${{PIPESTATUS[0]}}"
    done = run(tmp_path, ["bash", "-c", program])
    assert (done.out, done.err) == ("0\n", "exit 0: pass\n")


def test_unknown_ending(command: Command, tmp_path: Path, sound_run: Path) -> None:
    """A report is written only in a form that something renders."""
    code, _, err = command("report", str(sound_run), "--out", "page.odt")
    assert code == 4
    assert err.splitlines()[-2] == (
        "sameop: --out page.odt has an unknown ending: choose one of .html, .csv, .md, .tex."
    )


def test_place_that_cannot_be_written(command: Command, tmp_path: Path, sound_run: Path) -> None:
    """A place that cannot be written is named with the reason of the system."""
    code, _, err = command("report", str(sound_run), "--out", "nowhere/page.html")
    assert code == 4
    assert err.splitlines()[-2] == (
        "sameop: nowhere/page.html cannot be written (No such file or directory): name another file."
    )


@pytest.fixture
def sound_run(tmp_path: Path) -> Path:
    """Write the least run that can be read."""
    folder = tmp_path / "run"
    folder.mkdir()
    identity: dict[str, Any] = {
        "machine": {"cpu": "a"},
        "commit": {"commit": "b"},
        "options": {"preset": "c"},
    }
    header = {
        "schema": 1,
        "identity": identity,
        "machine": {"identity": identity["machine"], "libraries": {}, "torch": {}, "load_average": None},
        "catalogue": {"operators": [], "claims": [], "comparisons": []},
        "plan": [],
        "left_out": [],
        "started": "2026-01-01T00:00:00+00:00",
    }
    (folder / "run.json").write_text(json.dumps(header), encoding="utf-8")
    (folder / "records.jsonl").write_text("half a rec", encoding="utf-8")
    return folder


def test_damage_is_told_and_does_not_stop_a_report(command: Command, sound_run: Path) -> None:
    """A line that cannot be read is named; what can be read is reported."""
    code, _, err = command("report", str(sound_run), "--out", "page.html")
    assert code == 0
    assert err.splitlines() == [
        f"{sound_run}: records.jsonl line 1 is not a whole record and was left out.",
        "page.html",
        "exit 0: pass",
    ]
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!")


def test_no_command_shows_the_commands(command: Command) -> None:
    """Without a command the help is shown and the code is that of a usage mistake."""
    code, out, err = command()
    assert code == 4
    assert "compare" in out
    assert err == f"{USAGE}\n"


@pytest.mark.parametrize("name", ["list", "prove", "report", "compare", "doctor"])
def test_help_is_no_mistake(command: Command, name: str) -> None:
    """Every command explains itself with exit 0."""
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    assert f"sameop {name}" in out


def test_documents_stand_alone(
    command: Command, tmp_path: Path, sound_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --json standard output holds exactly one document, whatever a page prints."""
    # This machine is really examined, by the fewest processes that have a scatter, for a shorter time.
    monkeypatch.setattr(trial, "_TRIAL_SECONDS", 0.1)
    monkeypatch.setattr(trial, "PROCESSES", 3)
    monkeypatch.setattr(trial, "DEFAULT_PROCESSES", 1)
    project = make_project(tmp_path, claim=True)
    with project.page.open("a", encoding="utf-8") as page:
        page.write("\nprint('hello from the page')\n")
    assert [entry["name"] for entry in _document(command("list", "--json"))["operators"]] == ["scale"]
    (claim,) = _document(command("prove", "--json"))["claims"]
    assert (claim["name"], claim["verdict"]) == ("scale-is-a-diagonal-matrix", "holds")
    assert _document(command("compare", str(sound_run), str(sound_run), "--json"))["cases"] == []
    assert _document(command("doctor", "--json"))["findings"]


def _document(answer: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = answer
    assert code == 0
    assert err.endswith("exit 0: pass\n")
    document: dict[str, Any] = json.loads(out)
    return document


def test_claim_that_fails_is_exit_1(command: Command, tmp_path: Path) -> None:
    """A claim whose verdict is not the expected one fails the command and shows where the sides differ."""
    project = make_project(tmp_path, claim=True)
    claims = project.page.with_name("claims.py")
    wrong = claims.read_text(encoding="utf-8").replace("x @ torch.diag(factor)\n", "x + factor\n", 1)
    claims.write_text(wrong, encoding="utf-8")
    code, out, err = command("prove", "--json")
    assert code == 1
    assert json.loads(out)["claims"][0]["verdict"] == "refuted"
    assert "The claim scale-is-a-diagonal-matrix was expected to be holds and is refuted." in err
    assert err.endswith("exit 1: tests, agreement or a claim failed\n")


def test_lemmas_without_z3_are_left_out_aloud(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without z3 a claim with lemmas reaches the other levels, and the command says what it leaves out."""
    project = make_project(tmp_path, claim=True)
    with project.page.with_name("claims.py").open("a", encoding="utf-8") as claims:
        claims.write(_LEMMA)
    monkeypatch.setitem(sys.modules, "z3", None)
    code, _, err = command("prove", "scale-with-a-lemma")
    assert code == 0
    assert "scale-with-a-lemma: holds at L2 and L1" in err
    assert "\nleft out: L3 of scale-with-a-lemma (z3-solver is not installed: " in err


_LEMMA = """

from harness import Lemma, lemma


class ScaleWithALemma(ScaleIsADiagonalMatrix):
    \"\"\"Scaling channels is a product with a diagonal matrix, for every size.\"\"\"

    name = "scale-with-a-lemma"
    algebra = "diagonal"

    @lemma
    def order(self, z3):
        \"\"\"What is at least one is positive.\"\"\"
        n, = z3.Ints("n")
        return Lemma({"n": n >= 1}, n > 0)
"""


def test_tables_keep_names_whole(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a table a name can be copied: it is never broken."""
    make_project(tmp_path, claim=True)
    _, out, _ = command("list")
    assert "scale-is-a-diagonal-matrix" in out
    # The table is looked at, and not how this machine is measured for it.
    monkeypatch.setattr(doctor, "examine", lambda: examine(Patient(measure=a_trial)))
    _, out, _ = command("doctor")
    assert "noise floor" in out


def test_interrupted_is_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command in one sentence."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.doors.project.find_project", interrupt)
    code, out, err = command("list")
    assert (code, out) == (130, "")
    assert err == "sameop: interrupted; what was finished is kept.\nexit 130: interrupted\n"


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_missing_library_is_one_sentence(tmp_path: Path, name: str) -> None:
    """Without a library that a command needs the command names it."""
    done = _without(tmp_path, name, "doctor" if name == "rich" else "list")
    assert done == (
        4,
        "",
        f"sameop: This command needs {name}, which is not installed: pip install {name}.\n{USAGE}\n",
    )


@pytest.mark.parametrize("arguments", [["report", "run", "--out", "page.html"], ["compare", "run", "run"]])
def test_reading_runs_needs_no_torch(tmp_path: Path, sound_run: Path, arguments: list[str]) -> None:
    """Reports and comparisons of runs work on a machine that has no torch."""
    code, _, err = _without(tmp_path, "torch", *arguments)
    assert (code, err.splitlines()[-1]) == (0, "exit 0: pass")


def _without(folder: Path, module: str, *arguments: str) -> tuple[int, str, str]:
    """Run the command where a module cannot be imported."""
    done = run(folder, [sys.executable, "-m", "harness", *arguments], without(folder, module))
    return done.code, done.out, done.err


def test_codes_are_those_of_the_gate() -> None:
    """The commands use the documented codes and never 2, 3 or 5."""
    assert {int(code) for code in Exit} == {0, 1, 4, 10, 11, 12, 13, 14, 130}


NETWORK = '''
"""A network of the page beside it, and what a paper prints of it."""

from harness import Blueprint, Dims, Figure, Formula, Network


def build(net: Blueprint) -> None:
    """Lay the layer twice."""
    with net.stage("stage1"):
        for _ in range(2):
            net.layer("scale", "gate", net.input(6))


NETWORKS = [Network("net", "a paper", build)]
FIGURES = [Figure("net", "params", "{printed}", "a paper", lambda books: books.network("net").params)]
FORMULAS = [
    Formula(
        "C",
        "parameters of scale",
        "a paper",
        stated=lambda d: d.C,
        counted=lambda books, d: books.params("scale", "core", **d),
        dims=[Dims(B=1, C=C) for C in (3, 5)],
    )
]
'''


def add_network(root: Path, printed: str) -> None:
    """Write a project with a network of twelve parameters."""
    make_project(root)
    (root / "ops" / "networks.py").write_text(NETWORK.replace("{printed}", printed), encoding="utf-8")


def test_network(command: Command, tmp_path: Path) -> None:
    """Names without an argument, layers with one; a document alone on standard output."""
    add_network(tmp_path, "12")
    code, out, _ = command("network", "--json")
    assert (code, json.loads(out)) == (0, {"networks": ["net"]})
    code, out, _ = command("network", "net", "--json")
    found = json.loads(out)
    assert (code, found["params"], found["published"]["verdict"]) == (0, 12, "params matched")
    layer = found["layers"][0]
    assert (layer["operator"], layer["workload"], layer["count"]) == ("scale", "net/stage1_gate", 2)
    code, out, _ = command("network", "net")
    assert code == 0
    assert "net/stage1_gate" in out


def test_network_that_is_none(command: Command, tmp_path: Path) -> None:
    """An unknown network and a mixer without a place are one sentence each."""
    add_network(tmp_path, "12")
    code, out, err = command("network", "nte")
    assert (code, out) == (4, "")
    assert err.startswith("sameop: No network is named 'nte': `sameop network` without a name lists the 1")
    code, out, err = command("network", "net", "--mixer", "scale")
    assert (code, out) == (4, "")
    assert "its mixing layers have no other operator's shape" in err


@pytest.mark.parametrize(("printed", "expected"), [("12", 0), ("13", 1)])
def test_published(command: Command, tmp_path: Path, printed: str, expected: int) -> None:
    """Figures that are reproduced end in 0; too many that are not, in 1."""
    add_network(tmp_path, printed)
    code, out, _ = command("published", "--json")
    found = json.loads(out)
    assert code == expected
    assert found["figures"][0]["verdict"] == ("not reproduced" if expected else "matched")
    assert found["formulas"][0]["verdict"] == "holds"
    code, out, err = command("published")
    assert code == expected
    assert "parameters of scale" in out
    assert "1 figures: " in err
