"""Vouching: a process shows that what it times is what was judged, and a call that is wrong once is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, rand, zeros_like

from harness.bench.agreement import Judge, prepare
from harness.bench.measure.subject import Subject
from harness.bench.measure.vouching import Vouched, Voucher
from harness.paper.record import Status
from harness.tests.specimens import DIMS, implementation, mixing, polynomial

Function = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Prepare the judge of the polynomial specimen."""
    return prepare(polynomial(), DIMS, "float32", "cpu")


class Process:
    """One process that times a program; ``judged`` counts how often expectations were read."""

    def __init__(self, judge: Judge, function: Function, bits: str = "", level: str = "") -> None:
        subject = Subject(polynomial(), implementation(function), DIMS, "float32", "cpu", "forward")
        self.timed = subject.timed_call()
        self.judge, self.judged = judge, 0
        self.voucher = Voucher(subject, self.timed, self.read, bits, level)
        # A process makes one call, which may compile, before it is judged.
        self.first: list[object] = [self.timed.run()]

    def read(self) -> Judge:
        """Read the expectations."""
        self.judged += 1
        return self.judge

    def vouch(self) -> Vouched:
        """Judge once more."""
        return self.voucher.vouch_for(self.first.pop()) if self.first else self.voucher.vouch()


def on_call(number: int, otherwise: Function) -> Function:
    """Make a program that is right but in one call."""
    calls: list[int] = []

    def program(x: Tensor, weight: Tensor) -> Tensor:
        calls.append(len(calls) + 1)
        wrong = calls[-1] == number
        return (otherwise if wrong else mixing)(x, weight)

    return program


def nothing(x: Tensor, weight: Tensor) -> Tensor:
    """Compute zeros."""
    return zeros_like(x)


def in_turns(first: Function, second: Function) -> Function:
    """Make a program that takes two ways in turns."""
    calls: list[int] = []

    def program(x: Tensor, weight: Tensor) -> Tensor:
        calls.append(0)
        return (first if len(calls) % 2 else second)(x, weight)

    return program


def backwards(x: Tensor, weight: Tensor) -> Tensor:
    """Sum over the channels from the last to the first."""
    total = weight[:, -1, None, None] * x[:, None, -1]
    for channel in range(x.shape[1] - 2, -1, -1):
        total = total + weight[:, channel, None, None] * x[:, None, channel]
    return total


def drawn(x: Tensor, weight: Tensor) -> Tensor:
    """Add what nobody can foretell."""
    return mixing(x, weight) + rand(())


def test_a_right_program_is_judged_once(judge: Judge) -> None:
    """The same bits after timing need no second judgement, and say what they equal."""
    process = Process(judge, mixing)
    before, after = process.vouch(), process.vouch()
    assert (before.status, after.status, process.judged) == (Status.MEASURED, Status.MEASURED, 1)
    assert before.bits == after.bits != ""
    assert before.deterministic
    assert after.deterministic
    assert before.agreement.level == after.agreement.level == "exact on integers"
    assert [check["kind"] for check in before.agreement.evidence["timed_call"]["checks"]] == ["floats"]
    assert after.agreement.evidence == {"same_bits_as": "before timing"}


def test_known_bits_are_passed_on(judge: Judge) -> None:
    """A later process with the bits of the first one reads no expectations, and has its level."""
    bits = Process(judge, mixing).vouch().bits
    later = Process(judge, mixing, bits, "L1")
    for _ in ("before timing", "after timing"):
        found = later.vouch()
        assert (found.status, found.agreement.agrees, found.agreement.level) == (Status.MEASURED, True, "L1")
        assert found.agreement.evidence == {"same_bits_as": "in the first process"}
        assert (found.bits, found.deterministic) == (bits, True)
    assert later.judged == 0


def test_a_first_call_with_known_bits_is_enough_before_timing(judge: Judge) -> None:
    """Nothing else is called before timing; other values and two calls on the timed ones come afterwards."""
    bits, calls = Process(judge, mixing).vouch().bits, list[int]()

    def counted(x: Tensor, weight: Tensor) -> Tensor:
        calls.append(len(calls))
        return mixing(x, weight)

    later = Process(judge, counted, bits, "L1")
    later.vouch()
    assert len(calls) == 1
    later.vouch()
    assert len(calls) == 4


def test_other_bits_are_judged_in_full(judge: Judge) -> None:
    """Other bits than the known ones prove nothing: right or wrong, they are judged."""
    right, wrong = Process(judge, mixing, "other", "L1"), Process(judge, nothing, "other", "L1")
    assert right.vouch().status == Status.MEASURED
    assert wrong.vouch().status == Status.DISAGREED
    assert (right.judged, wrong.judged) == (1, 1)


def test_a_wrong_program_disagrees(judge: Judge) -> None:
    """What is wrong in every call is told with the moment at which it was found."""
    found = Process(judge, nothing).vouch()
    assert found.status == Status.DISAGREED
    assert str(found.reason) == f"It disagrees with the reference before timing: {found.agreement.reason}"
    assert found.agreement.evidence["when"] == "before timing"
    assert found.deterministic


def test_wrong_from_some_call_on_is_found_after_timing(judge: Judge) -> None:
    """What was right when it was judged and is wrong afterwards has no number."""
    made: list[Any] = []

    def program(x: Tensor, weight: Tensor) -> Tensor:
        return nothing(x, weight) if made else mixing(x, weight)

    process = Process(judge, program)
    assert process.vouch().status == Status.MEASURED
    made.append("wrong from now on")
    found = process.vouch()
    assert found.status == Status.DISAGREED
    assert str(found.reason).startswith("It disagrees with the reference after timing: ")
    assert found.agreement.evidence["when"] == "after timing"


@pytest.mark.parametrize("call", [3, 4])
def test_wrong_in_one_of_two_calls_is_no_number(judge: Judge, call: int) -> None:
    """Calls on the same inputs, of which one is wrong: whichever it is, the program is not deterministic."""
    found = Process(judge, on_call(call, nothing)).vouch()
    assert found.status == Status.NONDETERMINISTIC
    assert not found.deterministic
    assert not found.agreement.agrees
    assert "which rounding does not explain. called as it is timed, output[" in str(found.reason)


@pytest.mark.parametrize("call", [3, 4])
def test_known_bits_of_one_call_excuse_no_other(judge: Judge, call: int) -> None:
    """A process whose first call has the known bits is warmed up; a wrong one afterwards takes its number."""
    bits = Process(judge, mixing).vouch().bits
    later = Process(judge, on_call(call, nothing), bits, "L1")
    assert later.vouch().status == Status.MEASURED
    assert later.vouch().status == Status.NONDETERMINISTIC


def test_a_kept_result_has_no_known_bits_afterwards(judge: Judge) -> None:
    """What returns its first result for ever has the bits of the timed inputs, and not those of others."""
    kept: list[Tensor] = []

    def keeping(x: Tensor, weight: Tensor) -> Tensor:
        kept.append(mixing(x, weight))
        return kept[0].clone()

    bits = Process(judge, mixing).vouch().bits
    later = Process(judge, keeping, bits, "L1")
    assert later.vouch().status == Status.MEASURED
    found = later.vouch()
    assert found.status == Status.DISAGREED
    assert found.agreement.evidence["when"] == "after timing"


def test_random_beyond_rounding_is_not_deterministic(judge: Judge) -> None:
    """A program with dropout left on differs from itself, and the reason says by how much."""
    found = Process(judge, drawn).vouch()
    assert found.status == Status.NONDETERMINISTIC
    assert str(found.reason).startswith(
        "It is not deterministic: two calls on the same inputs differ by up to 0."
    )


def test_random_within_rounding_is_measured(judge: Judge) -> None:
    """A sum in one order or another is right either way, and the record tells that the bits differ."""
    found = Process(judge, in_turns(mixing, backwards)).vouch()
    assert (found.status, found.agreement.agrees) == (Status.MEASURED, True)
    assert not found.deterministic


def test_other_bits_after_timing_are_not_deterministic(judge: Judge) -> None:
    """Right before and after timing, but not to the bit: that is told too."""
    way = [mixing]

    def program(x: Tensor, weight: Tensor) -> Tensor:
        return way[0](x, weight)

    process = Process(judge, program)
    assert process.vouch().deterministic
    way[0] = backwards
    found = process.vouch()
    assert (found.status, found.deterministic, process.judged) == (Status.MEASURED, False, 2)


def test_a_result_that_the_next_call_overwrites_is_a_misdeed(judge: Judge) -> None:
    """Known bits do not excuse a program that gives the same memory out twice."""
    buffer = zeros_like(Process(judge, mixing).timed.reads[0])

    def overwriting(x: Tensor, weight: Tensor) -> Tensor:
        found = mixing(x, weight)
        if found.shape == buffer.shape and found.dtype == buffer.dtype and not found.requires_grad:
            return buffer.copy_(found)
        return found

    bits = Process(judge, mixing).vouch().bits
    later = Process(judge, overwriting, bits, "L1")
    later.vouch()
    found = later.vouch()
    assert found.status == Status.DISAGREED
    assert found.bits == bits
    assert found.agreement.reason == ("two calls return the same memory, and the second overwrites the first")
