"""Vouching in one process that what is timed is the function that was judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from harness.bench.agreement import Judge
from harness.bench.measure.subject import Rehearsal, Subject, TimedCall, timed_part
from harness.paper.record import Agreement, Status


@dataclass(frozen=True)
class Vouched:
    """How a process was judged.

    bits: a digest of what the timed call returns, on two sets of values. deterministic: whether all calls on
    the same inputs so far returned the same bits. reason: why there is no number, or None.
    """

    status: Status
    agreement: Agreement
    reason: str | None = None
    bits: str = ""
    deterministic: bool = True


@dataclass
class Voucher:
    """Judges the timed call of one process, before timing and afterwards.

    The first process of a case is judged in full. Later, and in other processes, equal bits on the timed
    inputs and on others show that the same function is called; other bits are judged in full again. Before
    timing, the bits of the call that a process makes first, on the timed inputs, are enough where they are
    known: the others are called for afterwards, and without them there is no number.
    judge: reads the expectations, which takes time and is done where it must be.
    """

    subject: Subject
    timed: TimedCall
    judge: Callable[[], Judge]
    known_bits: str = ""
    known_level: str = ""
    _when: str = "before timing"
    _same_as: str = field(default="in the first process", init=False)
    _own_bits: str = field(default="", init=False)

    def vouch_for(self, first: object) -> Vouched:
        """Judge before timing. first: what the first call of this process returned, on the timed inputs."""
        if not self.known_bits or self.timed.digest(first) != timed_part(self.known_bits):
            return self.vouch()
        self._own_bits, self._when = self.known_bits, "after timing"
        return Vouched(Status.MEASURED, self._known(), bits=self.known_bits)

    def _known(self) -> Agreement:
        return Agreement(True, self.known_level, None, {"same_bits_as": self._same_as})

    def vouch(self) -> Vouched:
        """Judge, and remember what was judged."""
        rehearsal = self.timed.rehearse()
        known = bool(self.known_bits) and rehearsal.bits == self.known_bits
        if known and not rehearsal.difference and not rehearsal.misdeed:
            found = Vouched(Status.MEASURED, self._known())
        else:
            found = self._judge(rehearsal)
        self._own_bits = self._own_bits or rehearsal.bits
        deterministic = not rehearsal.difference and rehearsal.bits == self._own_bits
        if found.status == Status.MEASURED:
            self.known_bits, self.known_level = rehearsal.bits, found.agreement.level
        self._when, self._same_as = "after timing", "before timing"
        return replace(found, bits=rehearsal.bits, deterministic=deterministic)

    def _judge(self, rehearsal: Rehearsal) -> Vouched:
        agreement = self._agree(rehearsal)
        if agreement.agrees:
            return Vouched(Status.MEASURED, agreement)
        agreement = replace(agreement, evidence={**agreement.evidence, "when": self._when})
        if rehearsal.difference:
            reason = (
                "It is not deterministic: two calls on the same inputs differ by up to "
                f"{rehearsal.difference:.3g}, which rounding does not explain. {agreement.reason}"
            )
            return Vouched(Status.NONDETERMINISTIC, agreement, reason)
        reason = f"It disagrees with the reference {self._when}: {agreement.reason}"
        return Vouched(Status.DISAGREED, agreement, reason)

    def _agree(self, rehearsal: Rehearsal) -> Agreement:
        """Judge the implementation, and then the very call that is timed."""
        judge = self.judge()
        agreement = judge.judge(self.subject.implementation)
        if not agreement.agrees:
            return agreement
        if rehearsal.misdeed:
            return Agreement(False, agreement.level, rehearsal.misdeed)
        called = judge.judge_call(rehearsal.results, self.subject.dtype)
        if called.agrees and rehearsal.earlier is not None:
            # A program that is wrong once is wrong, whichever of two calls it was.
            called = judge.judge_call(rehearsal.earlier, self.subject.dtype)
        evidence = {**agreement.evidence, "timed_call": called.evidence}
        return replace(agreement if called.agrees else called, evidence=evidence)
