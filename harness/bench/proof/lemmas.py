"""Lemmas about integers of every size, decided by z3: what the index sets of a claim rest on.

A lemma holds where its assumptions and the negation of its conclusion cannot be true together. That alone
would let an empty lemma pass, so its assumptions must be possible, and each of them must be needed: without
it there are integers that break the conclusion, which is the lemma's own mutant.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.bench.claims import Lemma, StatedLemma

# The lemmas of the cases take some hundredths of a second; one that takes this long is badly stated.
SECONDS = 10.0
MISSING = "z3-solver is not installed: `pip install 'sameop[proof]'` adds it; without it no lemma is decided."
Verdict = Literal["holds", "refuted", "refused"]
Countermodel = dict[str, int | bool | str]


@dataclass(frozen=True)
class Assumption:
    """An assumption of a lemma: its formula, and integers that break the conclusion without it."""

    name: str
    formula: str
    needed: bool
    without: Countermodel | None


@dataclass(frozen=True)
class LemmaFinding:
    """What z3 finds of a lemma.

    countermodel: integers at which the assumptions are true and the conclusion is not. reason: why the
    lemma is not decided, or not accepted. seconds: how long all the questions took.
    """

    name: str
    statement: str
    verdict: Verdict
    conclusion: str = ""
    assumptions: tuple[Assumption, ...] = ()
    countermodel: Countermodel | None = None
    reason: str | None = None
    seconds: float = 0.0


class _UndecidedError(Exception):
    """Says why z3 gives no answer."""


def prove_lemma(stated: StatedLemma, seconds: float = SECONDS) -> LemmaFinding:
    """Decide a lemma, and whether each of its assumptions is needed.

    seconds: the most that z3 may take for one of its questions.
    """
    try:
        import z3
    except ImportError:
        return LemmaFinding(stated.name, stated.statement, "refused", reason=MISSING)
    started = time.perf_counter()
    questions = _Questions(z3, seconds)
    try:
        finding = _decide(stated, stated.write(z3), questions)
    except (_UndecidedError, z3.Z3Exception) as error:
        reason = f"z3 does not decide {stated.name}: {str(error).rstrip('.')}."
        finding = {"verdict": "refused", "reason": reason}
    return LemmaFinding(stated.name, stated.statement, **finding, seconds=time.perf_counter() - started)


def describe(finding: LemmaFinding) -> dict[str, Any]:
    """Return a finding as JSON has it."""
    return asdict(finding)


def _decide(stated: StatedLemma, lemma: Lemma, questions: _Questions) -> dict[str, Any]:
    broken = questions.z3.Not(lemma.conclusion)
    found: dict[str, Any] = {"conclusion": _text(lemma.conclusion)}
    if questions.model(lemma.assumptions.values()) is None:
        reason = f"No integers satisfy all assumptions of {stated.name}, so it says nothing: drop one."
        return {**found, "verdict": "refused", "reason": reason}
    countermodel = questions.countermodel([*lemma.assumptions.values(), broken])
    if countermodel is not None:
        return {**found, "verdict": "refuted", "countermodel": countermodel}
    found["assumptions"] = tuple(_weigh(lemma, name, broken, questions) for name in lemma.assumptions)
    excess = _excess(stated, found["assumptions"])
    return {**found, "verdict": "refused" if excess else "holds", "reason": excess}


def _weigh(lemma: Lemma, name: str, broken: Any, questions: _Questions) -> Assumption:
    """Look for integers that break the conclusion where one assumption is dropped."""
    others = [formula for other, formula in lemma.assumptions.items() if other != name]
    without = questions.countermodel([*others, broken])
    return Assumption(name, _text(lemma.assumptions[name]), without is not None, without)


def _excess(stated: StatedLemma, assumptions: Sequence[Assumption]) -> str | None:
    """Say what a lemma assumes too much, or that it assumes nothing that could be dropped."""
    if not assumptions:
        return (
            f"{stated.name} assumes nothing, so nothing shows that its check could fail: "
            "state what it rests on, such as how a tap and a neighbour are related, as an assumption."
        )
    idle = [assumption.name for assumption in assumptions if not assumption.needed]
    if not idle:
        return None
    return (
        f"{stated.name} assumes too much, for it holds without {' and also without '.join(map(repr, idle))}: "
        "leave that out."
    )


@dataclass(frozen=True)
class _Questions:
    """Asks z3 whether formulas can be true together."""

    z3: Any
    seconds: float

    def countermodel(self, formulas: Iterable[Any]) -> Countermodel | None:
        """Return integers at which all formulas are true, None where there are none.

        Capitals are sizes, as everywhere: those of at least one are preferred, as they say more.
        """
        formulas = list(formulas)
        sizes = [name >= 1 for name in self._variables(formulas) if self._is_size(name)]
        with contextlib.suppress(_UndecidedError):
            preferred = self.model([*formulas, *sizes])
            if preferred is not None:
                return preferred
        return self.model(formulas)

    def model(self, formulas: Iterable[Any]) -> Countermodel | None:
        """Return integers at which all formulas are true, None where there are none."""
        # A context of its own, so that the answer does not depend on what was asked before.
        context = self.z3.Context()
        formulas = [self._expression(formula).translate(context) for formula in formulas]
        solver = self.z3.Solver(ctx=context)
        solver.set("timeout", int(self.seconds * 1000))
        solver.add(*formulas)
        answer = solver.check()
        if answer == self.z3.unknown:
            raise _UndecidedError(solver.reason_unknown())
        return self._values(solver.model(), formulas) if answer == self.z3.sat else None

    def _expression(self, formula: Any) -> Any:
        return formula if self.z3.is_expr(formula) else self.z3.BoolVal(formula)

    def _values(self, model: Any, formulas: list[Any]) -> Countermodel:
        """Read the values of all variables, those included on which nothing depends."""
        values = {
            str(name): self._plain(model.eval(name, model_completion=True))
            for name in self._variables(formulas)
        }
        return {
            **values,
            **{str(name): str(model[name]) for name in model.decls() if self._is_function(name)},
        }

    def _variables(self, formulas: list[Any]) -> list[Any]:
        from z3.z3util import get_vars

        found = {str(name): name for formula in formulas for name in get_vars(self._expression(formula))}
        return [found[name] for name in sorted(found)]

    def _is_size(self, name: Any) -> bool:
        return str(name)[0].isupper() and self.z3.is_int(name)

    def _is_function(self, declared: Any) -> bool:
        # z3 lists how it completed the division by zero too, whether or not the model divides by zero.
        return bool(declared.arity() and declared.kind() == self.z3.Z3_OP_UNINTERPRETED)

    def _plain(self, value: Any) -> int | bool | str:
        if self.z3.is_int_value(value):
            return int(value.as_long())
        if self.z3.is_true(value) or self.z3.is_false(value):
            return bool(self.z3.is_true(value))
        return str(value)


def _text(formula: Any) -> str:
    return " ".join(str(formula).split())
