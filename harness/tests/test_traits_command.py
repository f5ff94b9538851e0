"""``sameop traits`` holds declarations against programs, and says what it could not probe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.doors import cli
from harness.doors.project import TRAITS, load_renderer, renderers
from harness.paper.errors import SameopError

Command = Callable[..., tuple[int, str, str]]

PAGE = '''
"""Operators of one factor per channel, that declare their traits in different ways."""

from harness import Cost, Dims, Operator, Traits, Workload, activation, generated, parameter

RIGHT = Traits(space="position", channels="own", sharing=("positions",))
WRONG = Traits(space="local", channels="own", sharing=("positions",), degree=2)


def make(name, traits, factor=parameter):
    operator = Operator(name, family="tiny", source="made for a test", traits=traits)

    def reference(x, factor):
        """y[b,c,t] = factor[c] · x[b,c,t]."""
        return x * factor[:, None]

    operator.scope(
        "core",
        reference=reference,
        inputs=lambda d: {"x": activation(d.B, d.C, d.T), "factor": factor(d.C)},
        output=lambda d: (d.B, d.C, d.T),
        cost=lambda d: Cost(params=0, macs=0, elements_read=0, elements_written=0),
        workloads=[Workload("tiny/one", Dims(B=1, C=2, T=3), "made for a test")],
        proof_dims=(Dims(B=2, C=3, T=4),),
        polynomial=True,
    )
    return operator


OPERATORS = [
    make("right", RIGHT), make("wrong", WRONG), make("silent", None), make("made", RIGHT, generated)
]
'''


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a way to run ``sameop traits`` on a project with four operators."""
    package = tmp_path / "ops"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "page.py").write_text(PAGE, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.sameop]\ncases = ["ops"]\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["traits", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def entries(command: Command, *names: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the entries of the document by operator."""
    code, out, _ = command(*names, "--json")
    return code, {entry["operator"]: entry for entry in json.loads(out)["traits"]}


def test_the_document_holds_declared_and_probed_traits(command: Command) -> None:
    """Every operator has an entry with the verdict and the fields that are wrong."""
    code, found = entries(command)
    assert code == 1
    assert {name: (entry["verdict"], entry["contradicts"]) for name, entry in found.items()} == {
        "right": ("confirmed", []),
        "wrong": ("contradicted", ["space", "degree"]),
        "silent": ("undeclared", []),
        "made": ("not probed", []),
    }
    traits = {
        "space": "position",
        "channels": "own",
        "sharing": ["positions"],
        "dynamic": "static",
        "low_rank": [],
        "degree": 1,
    }
    assert found["wrong"]["declared"] == {**traits, "space": "local", "degree": 2}
    assert [found[name]["probed"] for name in ("right", "wrong", "silent", "made")] == [traits] * 3 + [{}]
    assert found["silent"]["declared"] == {}
    assert found["right"]["dims"] == {"B": 1, "C": 3, "T": 4}
    assert found["right"]["measured"]["read"] == ["0000", "0010", "0000"]
    assert found["made"]["reason"].startswith("made/core was probed, but nothing says how its generated ")


@pytest.mark.parametrize(("name", "wanted"), [("right", 0), ("silent", 0), ("wrong", 1), ("made", 1)])
def test_only_what_is_wrong_or_untold_fails(command: Command, name: str, wanted: int) -> None:
    """A declaration that is wrong, or that nothing can be held against, ends with 1."""
    code, found = entries(command, name)
    assert (code, list(found)) == (wanted, [name])


def test_the_table_shows_what_differs(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person reads the probed trait, beside the declared one where that is another; reasons follow."""
    monkeypatch.setattr("harness.doors.commands._WIDE", 300)
    code, out, err = command("wrong", "made")
    assert code == 1
    assert "declared local, probed position" in out
    assert "declared 2, probed 1" in out
    assert err.splitlines() == [
        "made: made/core was probed, but nothing says how its generated inputs factor come from x: "
        "add a linear generator with @core.generator(inputs=…).",
        "exit 1: tests, agreement or a claim failed",
    ]


def test_an_unknown_operator_is_told(command: Command) -> None:
    """Nothing is probed where one of the names is wrong."""
    assert command("right", "nope", "--json") == (
        4,
        "",
        "sameop: No operator is named 'nope': `sameop list` shows the 4 that are.\n"
        "exit 4: usage: an unknown option, name or file\n",
    )


@pytest.mark.parametrize("ending", ["html", "svg", "md"])
def test_a_file_is_written(command: Command, ending: str) -> None:
    """Table and drawings go into a file, whose ending tells the format."""
    code, _, err = command("right", "--out", f"traits.{ending}")
    assert (code, err) == (0, f"traits.{ending}\nexit 0: pass\n")
    text = Path(f"traits.{ending}").read_text(encoding="utf-8")
    assert "right" in text
    assert "(d) point-wise MLP or convolution" in text


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("traits.pdf", "--out traits.pdf has an unknown ending: choose one of .html, .svg, .md."),
        ("no/traits.md", "no/traits.md cannot be written (No such file or directory): name another file."),
    ],
)
def test_a_file_that_cannot_be_written_is_told(command: Command, out: str, said: str) -> None:
    """A wrong name is one sentence."""
    code, _, err = command("right", "--out", out)
    assert (code, err.splitlines()[0]) == (4, f"sameop: {said}")


def test_the_drawings_come_from_whatever_is_installed() -> None:
    """They are looked up as the renderers of runs are, in a group of their own."""
    assert sorted(renderers(TRAITS)) == ["html", "markdown", "svg"]
    with pytest.raises(SameopError) as caught:
        load_renderer("latex", TRAITS)
    assert str(caught.value) == "No renderer writes 'latex': known are html, markdown, svg."
