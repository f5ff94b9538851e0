"""The catalogue: what is found in case packages, and what is told about mistakes in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.bench.catalog import Catalogue, describe, load_catalogue
from harness.paper.errors import SameopError

OPERATOR = '''
from harness import Comparison, Cost, Dims, Operator, Workload, activation

operator = Operator("{name}", family="tiny", source="made for a test")


def reference(x):
    """y = 2 · x."""
    return 2 * x


core = operator.scope(
    "core",
    reference=reference,
    inputs=lambda d: {{"x": activation(d.B, d.C)}},
    output=lambda d: (d.B, d.C),
    cost=lambda d: Cost(params=0, macs=d.B * d.C, elements_read=d.B * d.C, elements_written=d.B * d.C),
    workloads=[Workload("tiny/one", Dims(B=2, C=3), "made for a test")],
    proof_dims=(Dims(B=2, C=3),),
)
'''
CLAIM = '''
from harness import Claim, Dims


class {kind}(Claim):
    """Twice is twice."""

    name = "{name}"
    source = "made for a test"
    shapes = (Dims(B=2),)
'''
COMPARISON = """
from harness import Comparison, Dims, Workload

both = Comparison(
    name="both at one",
    scope="core",
    operators=({names}),
    workload=Workload("{workload}", Dims(B=4, C={channels}), "made for a test"),
    matched="the input",
    particulars={{"left": Dims(G=2)}},
)
"""


def package(folder: Path, **pages: str) -> Path:
    """Write a case package; two underscores in a page's name stand for a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refusal(*folders: Path) -> str:
    """Return what loading these folders is refused with."""
    with pytest.raises(SameopError) as refused:
        load_catalogue(folders)
    return str(refused.value)


def test_pages_are_found_in_every_folder(tmp_path: Path) -> None:
    """Operators, claims and comparisons are found wherever they lie, in the order of the files."""
    folder = package(
        tmp_path / "cases",
        deep__deeper__right=OPERATOR.format(name="right"),
        left=OPERATOR.format(name="left"),
        claims__twice=CLAIM.format(kind="Twice", name="twice"),
        comparisons=COMPARISON.format(names='"left", "right"', workload="shared/one", channels=3),
    )
    found = load_catalogue([folder])
    assert list(found.operators) == ["right", "left"]
    assert (list(found.claims), list(found.comparisons)) == (["twice"], ["both at one"])
    assert [path.name for path in found.sources] == ["twice.py", "comparisons.py", "right.py", "left.py"]


def test_tests_are_no_pages(tmp_path: Path) -> None:
    """Tests and conftest.py are left to pytest."""
    folder = package(tmp_path / "cases", page=OPERATOR.format(name="a"), test_page="1 / 0", conftest="1 / 0")
    assert list(load_catalogue([folder]).operators) == ["a"]


def test_packages_of_one_name_live_side_by_side(tmp_path: Path) -> None:
    """Two projects may both call their package ``cases`` and a page ``page``."""
    folders = [
        package(tmp_path / project / "cases", __init__="", page=OPERATOR.format(name=project))
        for project in ("a-1", "b_1", "b 1")
    ]
    assert list(load_catalogue(folders).operators) == ["a-1", "b_1", "b 1"]


def test_pages_import_each_other(tmp_path: Path) -> None:
    """What a page imports from another page is not declared a second time."""
    folder = package(
        tmp_path / "cases",
        a=OPERATOR.format(name="left") + CLAIM.format(kind="Twice", name="twice"),
        b="from .a import Twice, core, operator\n" + OPERATOR.format(name="right").replace("core", "second"),
        c=COMPARISON.format(names='"left",', workload="shared/one", channels=3),
        d="from .c import both\n",
    )
    found = load_catalogue([folder])
    assert (len(found.operators), len(found.claims), len(found.comparisons)) == (2, 1, 1)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """A wrong path in the configuration is one sentence."""
    folder = tmp_path / "nowhere"
    assert refusal(folder) == (
        f"There is no case package {folder}: correct `cases` in [tool.sameop] of pyproject.toml."
    )


def test_a_page_that_fails_names_its_line(tmp_path: Path) -> None:
    """The line of the page is named, not that of the library in which it failed."""
    folder = package(tmp_path / "cases", page="import json\n\njson.loads('{')\n")
    assert refusal(folder) == (
        f"The page {folder / 'page.py'}:3 cannot be imported (JSONDecodeError: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1))."
    )


def test_a_page_that_is_no_python_is_told(tmp_path: Path) -> None:
    """A syntax error is one sentence too."""
    folder = package(tmp_path / "cases", page="x = \n")
    assert refusal(folder) == (
        f"The page {folder / 'page.py'} cannot be imported (SyntaxError: invalid syntax (page.py, line 1))."
    )


def test_a_sentence_of_ours_is_passed_on(tmp_path: Path) -> None:
    """What the page language itself refuses is not wrapped in a second sentence."""
    text = OPERATOR.format(name="a") + "core.workload('tiny/two')\n"
    assert refusal(package(tmp_path / "cases", page=text)) == (
        "The workload 'tiny/two' was asked of a/core, which has tiny/one: name one of these."
    )


def test_two_operators_of_one_name_name_both_places(tmp_path: Path) -> None:
    """The places of both pages are told, with the line of an operator."""
    page = OPERATOR.format(name="same")
    folder = package(tmp_path / "cases", a=page, b=page)
    assert refusal(folder) == (
        f"Two pages declare the operator 'same', {folder / 'a.py'}:4 and {folder / 'b.py'}:4: rename one."
    )


def test_two_claims_of_one_name_name_both_places(tmp_path: Path) -> None:
    """Two classes in one file are two places."""
    page = CLAIM.format(kind="First", name="same") + CLAIM.format(kind="Second", name="same")
    path = package(tmp_path / "cases", a=page) / "a.py"
    assert refusal(path.parent) == (
        f"Two pages declare the claim 'same', {path}:First and {path}:Second: rename one."
    )


def test_two_comparisons_of_one_name_name_both_places(tmp_path: Path) -> None:
    """Comparisons are told by their files."""
    page = COMPARISON.format(names='"left",', workload="shared/one", channels=3)
    folder = package(tmp_path / "cases", a=page, b=page)
    a, b = folder / "a.py", folder / "b.py"
    assert refusal(folder) == (f"Two pages declare the comparison 'both at one', {a} and {b}: rename one.")


def test_a_comparison_adds_its_workload(tmp_path: Path) -> None:
    """Operators that meet get the shared workload, each with the dimensions that it alone has."""
    folder = package(
        tmp_path / "cases",
        left=OPERATOR.format(name="left"),
        right=OPERATOR.format(name="right"),
        z=COMPARISON.format(names='"left", "right"', workload="shared/one", channels=3),
    )
    for _ in range(2):  # a second load finds the same pages and adds nothing
        found = load_catalogue([folder])
    names = [
        [work.name for work in found.operators[name].scopes["core"].workloads] for name in ("left", "right")
    ]
    assert names == [["tiny/one", "shared/one"]] * 2
    shared = [found.operators[name].scopes["core"].workload("shared/one").dims for name in ("left", "right")]
    assert [dict(dims) for dims in shared] == [{"B": 4, "C": 3, "G": 2}, {"B": 4, "C": 3}]


def test_a_comparison_of_an_unknown_operator_is_told(tmp_path: Path) -> None:
    """A typing mistake in a comparison is not a row that is silently missing."""
    page = COMPARISON.format(names='"left",', workload="shared/one", channels=3)
    assert refusal(package(tmp_path / "cases", z=page)) == (
        "The comparison 'both at one' names left/core, which no page declares: "
        "correct the name, or add the page."
    )


def test_a_shared_workload_means_the_same_everywhere(tmp_path: Path) -> None:
    """Operators never meet on workloads of one name and different dimensions."""
    folder = package(
        tmp_path / "cases",
        left=OPERATOR.format(name="left"),
        z=COMPARISON.format(names='"left",', workload="tiny/one", channels=5),
    )
    assert refusal(folder) == (
        "The workload 'tiny/one' of the comparison 'both at one' has B=4 C=5 G=2, "
        "but B=2 C=3 in left/core: rename one."
    )


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two operators, a claim and a comparison."""
    folder = package(
        tmp_path / "cases",
        left=OPERATOR.format(name="left"),
        right=OPERATOR.format(name="right"),
        y=CLAIM.format(kind="Twice", name="twice"),
        z=COMPARISON.format(names='"left", "right"', workload="shared/one", channels=3),
    )
    return load_catalogue([folder])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*", ["left", "right"]), ("l*", ["left"]), ("?ight", ["right"]), ("left", ["left"])],
)
def test_a_glob_selects_operators(catalogue: Catalogue, pattern: str, names: list[str]) -> None:
    """Operators are selected as files are by a shell."""
    assert [operator.name for operator in catalogue.operators_like(pattern)] == names


@pytest.mark.parametrize("pattern", ["involutoin", "Left", ""])
def test_a_glob_that_selects_nothing_is_told(catalogue: Catalogue, pattern: str) -> None:
    """A typing mistake never selects nothing in silence."""
    with pytest.raises(SameopError) as refused:
        catalogue.operators_like(pattern)
    assert str(refused.value) == f"No operator is named {pattern!r}: `sameop list` shows the 2 that are."


def test_claims_are_named_one_by_one_or_not_at_all(catalogue: Catalogue) -> None:
    """Without a name all claims are meant."""
    assert [claim.name for claim in catalogue.claims_named([])] == ["twice"]
    assert [claim.name for claim in catalogue.claims_named(["twice"])] == ["twice"]


def test_an_unknown_claim_is_told(catalogue: Catalogue) -> None:
    """A typing mistake never proves nothing in silence."""
    with pytest.raises(SameopError) as refused:
        catalogue.claims_named(["twice", "thrice"])
    assert str(refused.value) == "No claim is named 'thrice': `sameop list` shows the 1 that are."


def test_the_description_is_json_with_its_documented_keys(catalogue: Catalogue) -> None:
    """Tools rely on these keys of ``sameop list --json``."""
    found = json.loads(json.dumps(describe(catalogue)))
    assert list(found) == ["operators", "claims", "comparisons"]
    operator = found["operators"][0]
    keys = {"name", "family", "source", "scopes", "implementations", "workloads", "traits"}
    assert keys <= set(operator)
    assert {"name", "devices", "dtypes"} <= set(operator["implementations"][0])
    assert operator["workloads"] == ["tiny/one", "shared/one"]
    assert {"name", "statement", "kind", "conditions", "source"} <= set(found["claims"][0])
    assert {"name", "operators", "workloads"} <= set(found["comparisons"][0])
