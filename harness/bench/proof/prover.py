"""Proving a claim: its check at every shape, and the same check against every mutant."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.bench.claims import Claim, Mutant
from harness.bench.dims import Dims
from harness.bench.proof.certificate import Difference, Known, Outcome
from harness.bench.proof.evidence import certified, constructed, countered, counterexample
from harness.bench.proof.kinds import check_shape
from harness.bench.proof.levels import Reached, prove_completely, reach_further, settles
from harness.bench.threads import one_thread
from harness.paper.errors import SameopError

# One trial that differs refutes a mutant, so few are enough; one that escapes them is reported.
_MUTANT_TRIALS = 8
# A sparse mutant differs from the truth in a smaller share of the outputs.
SPARSE_BELOW = 0.05
# What a brief proof leaves to `sameop prove`.
_BRIEF = "a brief proof certifies a claim at its smallest shape; `sameop prove {}` takes it further"
_LEFT_BY_A_BRIEF_PROOF = ("mutants", "other shapes", "levels above the certificate")


@one_thread()
def prove(claim: Claim, *, brief: bool = False) -> dict[str, Any]:
    """Check a claim and its mutants; return the result in the shape of ``sameop prove --json``.

    brief: only what decides it at its smallest shape, without its mutants and the levels above.
    """
    claim.check()
    started = time.perf_counter()
    proof = _Proof(claim)
    proof.check((claim.smallest_shape,) if brief else claim.shapes)
    if not brief or proof.verdict == "refused":
        proof.go_further()
    if brief:
        reason = _BRIEF.format(claim.name)
        proof.left_out += [{"what": what, "reason": reason} for what in _LEFT_BY_A_BRIEF_PROOF]
    return {
        "name": claim.name,
        "statement": claim.statement,
        "kind": claim.kind,
        "operators": list(claim.operators),
        "source": claim.source,
        "conditions": list(claim.conditions.values()),
        "expected": claim.expected,
        "verdict": proof.verdict,
        "level": None if proof.verdict == "refused" else max(entry["level"] for entry in proof.evidence),
        "evidence": proof.evidence,
        "counterexample": counterexample(claim, None, *proof.difference) if proof.difference else None,
        "reason": proof.reason,
        "corrects": claim.corrects,
        "mutants": [] if brief else [proof.judge(mutant) for mutant in claim.mutants],
        "left_out": proof.left_out,
        "seconds": time.perf_counter() - started,
    }


@dataclass
class _Proof:
    """The proof of one claim under way; analyses of its sides serve its mutants too."""

    claim: Claim
    verdict: str = "holds"
    reason: str | None = None
    # Whether a refusal says no more than that an arbitrary function may differ.
    arbitrary: bool = True
    difference: tuple[Dims, Difference] | None = None
    evidence: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    known: dict[Dims, Known] = field(default_factory=dict)

    def check(self, shapes: Iterable[Dims]) -> None:
        """Check at shapes and note what each of them shows."""
        for d in shapes:
            started = time.perf_counter()
            outcome = check_shape(self.claim, d, known=self.known.setdefault(d, {}))
            self._conclude(d, outcome)
            describe = countered if outcome.difference else _DESCRIBE[self.claim.kind]
            self.evidence.append(describe(d, outcome, time.perf_counter() - started))

    def go_further(self) -> None:
        """Take a claim to the levels above; one that contradicts it decides, or that says more."""
        if self.verdict == "refuted" or (self.verdict == "refused" and not self.arbitrary):
            return
        reached = list(reach_further(self.claim))
        if self.verdict == "refused":
            if not settles(self.claim, reached):
                return
            self.left_out.append({"what": "L1", "reason": str(self.reason)})
            self.verdict, self.reason, self.evidence = "holds", None, []
        for level in reached:
            self._note(level)

    def _note(self, reached: Reached) -> None:
        if reached.verdict == "holds":
            self.evidence += reached.evidence
        elif reached.verdict == "left out":
            self.left_out.append({"what": reached.level, "reason": reached.reason})
        elif self.verdict == "holds":
            self.verdict, self.reason, self.difference = reached.verdict, reached.reason, reached.difference

    def _conclude(self, d: Dims, outcome: Outcome) -> None:
        """Let the claim hold only where every shape does; a refutation outranks a refusal."""
        if _RANKS.index(outcome.verdict) > _RANKS.index(self.verdict):
            self.verdict, self.reason = outcome.verdict, outcome.reason
        if outcome.verdict == "refused":
            self.arbitrary &= outcome.arbitrary
        if outcome.difference and self.difference is None:
            self.difference = (d, outcome.difference)

    def judge(self, mutant: Mutant) -> dict[str, Any]:
        """Refute a mutant at the first shape that can; an equivalent one must hold at every shape."""
        changed = self.claim.with_mutant(mutant)
        verdict, reason, shown, share, arbitrary = "holds", None, None, None, True
        for d in self.claim.shapes:
            trials = None if mutant.reason else _MUTANT_TRIALS
            outcome = check_shape(changed, d, trials, self._known_to(mutant, d))
            if outcome.difference and shown is None:
                share = outcome.difference.share
                _demand_sparse(self.claim, mutant, share)
                shown = counterexample(self.claim, mutant, d, outcome.difference)
            if outcome.verdict == "refuted":
                verdict, reason = "refuted", outcome.reason
                break
            if outcome.verdict == "refused":
                verdict, reason = "refused", outcome.reason
                arbitrary &= outcome.arbitrary
        if (
            verdict == "refused"
            and arbitrary
            and mutant.reason
            and settles(changed, prove_completely(changed))
        ):
            verdict, reason = "holds", None
        return {
            "name": mutant.name,
            "statement": mutant.statement,
            "drops": self.claim.conditions.get(mutant.drops or ""),
            "expected": mutant.expected,
            "equivalent_because": mutant.reason,
            "verdict": verdict,
            "reason": reason,
            "differing_share": share,
            "sparse": mutant.sparse,
            "counterexample": shown,
        }

    def _known_to(self, mutant: Mutant, d: Dims) -> Known:
        """Return what is known of the side that a mutant leaves as it is."""
        if mutant.side == "given":
            return {}
        known = self.known.get(d, {})
        return {key: analysis for key, analysis in known.items() if key[0] != mutant.side}


_DESCRIBE = {"identity": certified, "limit": certified, "negative": countered, "inequality": constructed}
_RANKS = ("holds", "refused", "refuted")


def _demand_sparse(claim: Claim, mutant: Mutant, share: float) -> None:
    if mutant.sparse and share >= SPARSE_BELOW:
        raise SameopError(
            f"The mutant {mutant.name} of {claim.name} is declared sparse, "
            f"but {share:.0%} of the outputs differ: leave `sparse` out, "
            f"or let it differ in less than {SPARSE_BELOW:.0%}."
        )
