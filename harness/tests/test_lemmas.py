"""The judge of lemmas: what holds, what is refuted, and what it does not accept."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from harness.bench.claims import Lemma, StatedLemma
from harness.bench.proof.lemmas import LemmaFinding, describe, prove_lemma

z3 = pytest.importorskip("z3", reason="lemmas are decided by z3: pip install -e '.[test]'")


def find(write: Callable[[Any], Lemma], **limits: float) -> LemmaFinding:
    """Judge a lemma made for a test."""
    return prove_lemma(StatedLemma("specimen", "Made for a test.", write), **limits)


def tap(z3: Any, *, centre: int = 0, **more: Any) -> Lemma:
    """Tap u of position i reads its neighbour p; the taps are those at most r away."""
    i, u, p, r, K = z3.Ints("i u p r K")
    assumptions = {"odd": 2 * r + 1 == K, "centred": p + centre == i + u - r}
    conclusion = z3.And(z3.And(u >= 0, u < K) == z3.And(i - r <= p, p <= i + r), u == p - i + r)
    return Lemma({**assumptions, **more}, conclusion)


def satisfied(formula: Any, model: dict[str, Any]) -> bool:
    """Evaluate a formula of integers without asking the solver."""
    values = [(z3.Int(name), z3.IntVal(value)) for name, value in model.items()]
    return bool(z3.is_true(z3.simplify(z3.substitute(formula, *values))))


def test_a_true_lemma_holds() -> None:
    """What follows from its assumptions, each of which is needed, holds."""
    found = find(tap)
    assert (found.verdict, found.reason, found.countermodel) == ("holds", None, None)
    assert [(a.name, a.formula, a.needed) for a in found.assumptions] == [
        ("odd", "2*r + 1 == K", True),
        ("centred", "p + 0 == i + u - r", True),
    ]
    assert found.seconds > 0


def test_without_an_assumption_its_integers_break_the_lemma() -> None:
    """A countermodel satisfies the other assumptions, and neither the one dropped nor the conclusion."""
    lemma, found = tap(z3), find(tap)
    for weighed in found.assumptions:
        assert weighed.without is not None
        for name, formula in lemma.assumptions.items():
            assert satisfied(formula, weighed.without) == (name != weighed.name)
        assert satisfied(z3.Not(lemma.conclusion), weighed.without)


def test_a_false_lemma_is_refuted_by_integers() -> None:
    """A tap off by one is not the neighbour's, and the integers that show it satisfy all assumptions."""
    found = find(lambda z3: tap(z3, centre=1))
    assert found.verdict == "refuted"
    assert found.countermodel is not None
    lemma = tap(z3, centre=1)
    assert satisfied(z3.And(*lemma.assumptions.values(), z3.Not(lemma.conclusion)), found.countermodel)


@pytest.mark.parametrize("name", ["odd", "centred"])
def test_a_lemma_that_lacks_an_assumption_is_refuted(name: str) -> None:
    """The same conclusion does not follow from one assumption alone."""
    whole = tap(z3)
    assumptions = {other: formula for other, formula in whole.assumptions.items() if other != name}
    assert find(lambda _: Lemma(assumptions, whole.conclusion)).verdict == "refuted"


def test_a_lemma_that_assumes_too_much_is_refused() -> None:
    """Assumptions that are not needed are named."""
    found = find(lambda z3: tap(z3, positive=z3.Int("r") >= 0, early=z3.Int("i") <= 5))
    assert found.verdict == "refused"
    assert found.reason == (
        "specimen assumes too much, for it holds without 'positive' and also without 'early': leave that out."
    )
    assert [(a.name, a.needed, a.without) for a in found.assumptions[2:]] == [
        ("positive", False, None),
        ("early", False, None),
    ]


def test_a_vacuous_lemma_is_refused() -> None:
    """From assumptions that exclude each other everything follows, and nothing is said."""
    found = find(lambda z3: tap(z3, even=z3.Int("K") % 2 == 0))
    assert (found.verdict, found.assumptions) == ("refused", ())
    assert found.reason == "No integers satisfy all assumptions of specimen, so it says nothing: drop one."


@pytest.mark.parametrize("conclusion", [True, z3.Int("n") == z3.Int("n")])
def test_a_lemma_without_assumptions_is_refused(conclusion: Any) -> None:
    """What assumes nothing has no mutant, so its check is not known to be able to fail."""
    found = find(lambda _: Lemma({}, conclusion))
    assert found.verdict == "refused"
    assert found.reason == (
        "specimen assumes nothing, so nothing shows that its check could fail: "
        "state what it rests on, such as how a tap and a neighbour are related, as an assumption."
    )


@pytest.mark.parametrize(("conclusion", "verdict"), [(False, "refuted"), (True, "refused")])
def test_a_conclusion_without_variables_is_judged_too(conclusion: bool, verdict: str) -> None:
    """A countermodel that needs no integers is one."""
    assert find(lambda _: Lemma({}, conclusion)).verdict == verdict


def test_what_takes_too_long_is_refused_with_the_reason_of_z3() -> None:
    """No answer is no verdict: that no sum of three cubes is 33 is not decided in a moment."""

    def cubes(z3: Any) -> Lemma:
        a, b, c, n = z3.Ints("a b c n")
        return Lemma({"sum": n == a**3 + b**3 + c**3, "thirty three": n == 33}, a + b + c == 100)

    found = find(cubes, seconds=0.2)
    assert found.verdict == "refused"
    assert found.reason is not None
    assert found.reason.startswith("z3 does not decide specimen: ")
    assert found.seconds < 5


def test_what_z3_cannot_read_is_refused() -> None:
    """A chained comparison is no formula, and z3 says so."""

    def chained(z3: Any) -> Lemma:
        n = z3.Int("n")
        return Lemma({"between": 0 <= n < 3}, n < 3)  # the mistake that is tested

    found = find(chained)
    assert (found.verdict, found.reason) == (
        "refused",
        "z3 does not decide specimen: Symbolic expressions cannot be cast to concrete Boolean values.",
    )


def test_sizes_of_at_least_one_are_preferred() -> None:
    """Where a map that has positions breaks the lemma, the countermodel is none of an empty map."""

    def starts(z3: Any) -> Lemma:
        i, H = z3.Ints("i H")
        return Lemma({"in the map": z3.And(i >= 0, i < H)}, H - 1 - i >= 0)

    without = find(starts).assumptions[0].without
    assert without is not None
    assert int(without["H"]) >= 1


def test_a_map_without_positions_still_breaks_a_lemma() -> None:
    """Where only an empty map breaks the conclusion, that is a countermodel."""

    def exists(z3: Any) -> Lemma:
        return Lemma({"a size": z3.Int("H") >= 1}, z3.Int("H") > 0)

    found = find(exists)
    assert found.verdict == "holds"
    assert found.assumptions[0].without is not None
    assert int(found.assumptions[0].without["H"]) <= 0


def test_models_name_functions_and_truths() -> None:
    """A countermodel shows what a function and a truth value are, and no division that is not by zero."""

    def heads(z3: Any) -> Lemma:
        c, D = z3.Ints("c D")
        head, late = z3.Function("head", z3.IntSort(), z3.IntSort()), z3.Bool("late")
        return Lemma({"blocked": head(c) == c / D}, z3.And(head(c) * D <= c, late))

    countermodel = find(heads).countermodel
    assert countermodel is not None
    assert set(countermodel) == {"c", "D", "head", "late"}
    assert countermodel["late"] in (True, False)
    assert isinstance(countermodel["head"], str)


def test_the_answer_does_not_depend_on_what_was_asked_before() -> None:
    """The same lemma yields the same integers, whichever came before it."""
    first = find(tap).assumptions
    find(lambda z3: tap(z3, even=z3.Int("K") % 2 == 0))
    assert find(tap).assumptions == first


def test_a_finding_is_json() -> None:
    """What is described can be printed as it is."""
    found = find(tap)
    described = json.loads(json.dumps(describe(found)))
    assert set(described) == {
        "name",
        "statement",
        "verdict",
        "conclusion",
        "assumptions",
        "countermodel",
        "reason",
        "seconds",
    }
    assert set(described["assumptions"][0]) == {"name", "formula", "needed", "without"}


def test_without_z3_a_lemma_is_refused_with_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absent extra is a reason, and nothing crashes."""
    importing = builtins.__import__

    def absent(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "z3":
            raise ImportError("blocked")
        return importing(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    found = find(tap)
    assert (found.verdict, found.reason) == (
        "refused",
        "z3-solver is not installed: `pip install 'sameop[proof]'` adds it; without it no lemma is decided.",
    )


def test_z3_is_imported_where_it_is_used() -> None:
    """Loading the judge does not need z3."""
    program = "import sys; from harness.bench.proof import lemmas; sys.exit('z3' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
