"""The account of a session: every second is charged once, to the innermost phase."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.paper.account import PHASES, Account, SessionAccount
from harness.paper.errors import SameopError
from harness.paper.record import SCHEMA


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Return the seconds since some moment."""
        return self.seconds

    def now(self) -> datetime:
        """Return the date and time."""
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def account(clock: FakeClock) -> Account:
    """Return an account that begins now."""
    return Account(clock, clock.now)


def spend(clock: FakeClock, seconds: float) -> None:
    """Let time pass."""
    clock.seconds += seconds


def test_a_phase_inside_another_is_subtracted(clock: FakeClock, account: Account) -> None:
    """The seconds of an inner phase are its own, and not those of the phases around it."""
    spend(clock, 1)
    with account.phase("proving"):
        spend(clock, 2)
        with account.phase("writing"):
            spend(clock, 4)
            with account.phase("proving"):
                spend(clock, 8)
        spend(clock, 16)
    spend(clock, 32)
    found = account.so_far(cases=3)
    assert found.phases == {"proving": 26, "writing": 4}
    assert (found.seconds, found.unaccounted, found.cases) == (63, 33, 3)


def test_an_account_says_when(clock: FakeClock, account: Account) -> None:
    """A session has a start and an end, to the second."""
    spend(clock, 90.4)
    found = account.so_far(cases=0)
    assert (found.started, found.ended) == ("2026-11-21T00:16:40+00:00", "2026-11-21T00:18:10+00:00")


def test_a_phase_that_fails_is_charged(clock: FakeClock, account: Account) -> None:
    """An exception, and Ctrl-C, end the phases that they leave."""

    def fail() -> None:
        with account.phase("measuring"), account.phase("writing"):
            spend(clock, 3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    spend(clock, 5)
    assert account.so_far(cases=0).phases == {"writing": 3, "measuring": 0}


def test_an_open_phase_counts_as_far_as_it_got(clock: FakeClock, account: Account) -> None:
    """An account can be taken at any time, and goes on from there."""
    with account.phase("measuring"):
        spend(clock, 3)
        assert account.so_far(cases=1).phases == {"measuring": 3}
        spend(clock, 4)
    assert account.so_far(cases=2).phases == {"measuring": 7}


def test_an_unknown_phase_is_refused(account: Account) -> None:
    """A misspelt phase would hide seconds."""
    told = (
        "A session has no phase 'messuring': name one of start-up, speed limit, proving, expecting, "
        "agreeing, certifying, counting, measuring, writing."
    )
    with pytest.raises(ValueError, match=f"^{told}$"), account.phase("messuring"):
        pass
    assert account.so_far(cases=0).phases == {}


programs = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(st.tuples(st.sampled_from(PHASES), inner), max_size=4),
    max_leaves=12,
)


@given(programs)
def test_every_second_is_charged_once(program: Any) -> None:
    """However phases are nested, they and what belongs to none add up to the session."""
    clock = FakeClock()
    account = Account(clock, clock.now)

    def run(part: Any, inside: str | None) -> None:
        if isinstance(part, int):
            spend(clock, part)
            expected[inside] = expected.get(inside, 0) + part
            return
        for phase, inner in part:
            with account.phase(phase):
                run(inner, phase)

    expected: dict[str | None, int] = {}
    run(program, None)
    found = account.so_far(cases=0)
    assert found.unaccounted == expected.pop(None, 0)
    assert {phase: seconds for phase, seconds in found.phases.items() if seconds} == {
        phase: seconds for phase, seconds in expected.items() if seconds and phase is not None
    }
    assert sum(found.phases.values()) + found.unaccounted == found.seconds


def test_seconds_are_handed_to_the_phase_they_were_spent_in(clock: FakeClock, account: Account) -> None:
    """What another process says that it spent measuring is measuring, and the sum stays."""
    with account.phase("agreeing"):
        spend(clock, 10)
        account.transfer("agreeing", "measuring", 4)
        spend(clock, 1)
        with account.phase("measuring"):
            spend(clock, 2)
    found = account.so_far(cases=1)
    assert found.phases == {"agreeing": 7, "measuring": 6}
    assert (found.seconds, found.unaccounted) == (13, 0)


def test_no_more_is_handed_over_than_there_is(clock: FakeClock, account: Account) -> None:
    """A process whose clock runs ahead leaves its phase at zero, and never below."""
    with account.phase("agreeing"):
        spend(clock, 3)
        account.transfer("agreeing", "measuring", 5)
    account.transfer("certifying", "measuring", 5)
    assert account.so_far(cases=1).phases == {"agreeing": 0, "certifying": 0, "measuring": 3}


def test_starting_up_before_the_account_counts(clock: FakeClock) -> None:
    """Imports that were over when the account began are a part of the session, and its first phase."""
    account = Account(clock, clock.now, already=5.0)
    spend(clock, 1)
    with account.phase("start-up"):
        spend(clock, 2)
    with account.phase("measuring"):
        spend(clock, 4)
    found = account.so_far(cases=1)
    assert found.phases == {"start-up": 7, "measuring": 4}
    assert (found.seconds, found.unaccounted) == (12, 1)


def test_overhead_is_all_but_timing() -> None:
    """What belongs to no phase is overhead as well; a session of no seconds has no share."""
    phases = {"measuring": 6.0, "speed limit": 1.0, "proving": 2.0}
    assert SessionAccount(phases, 10.0, "", "", 1).overhead_share == pytest.approx(0.3)
    assert SessionAccount({}, 10.0, "", "", 0).overhead_share == 1
    assert SessionAccount({}, 0.0, "", "", 0).overhead_share is None


def test_an_account_is_read_back_as_it_was() -> None:
    """An account survives a line of JSON, phases of a newer version included."""
    account = SessionAccount({"measuring": 6.0, "packing": 1.0}, 10.0, "now", "later", 4)
    line = json.loads(json.dumps(account.as_json()))
    assert (line["kind"], line["schema"], line["unaccounted"]) == ("session", SCHEMA, 3.0)
    assert line["overhead_share"] == pytest.approx(0.4)
    assert SessionAccount.from_json({**line, "weather": "fine"}) == account


def test_an_account_of_a_newer_schema_is_refused() -> None:
    """A line that this version could misread is not read."""
    with pytest.raises(SameopError) as refused:
        SessionAccount.from_json({"kind": "session", "schema": SCHEMA + 1})
    assert str(refused.value) == (
        f"The record has schema {SCHEMA + 1}, this sameop reads up to {SCHEMA}: "
        "read it with the version that wrote it, or a newer one."
    )


def test_the_clock_of_a_session_is_steady() -> None:
    """Without a fake clock an account follows real time, which never goes back."""
    account = Account()
    with account.phase("measuring"):
        time.sleep(0.002)
    found = account.so_far(cases=0)
    assert 0 < found.phases["measuring"] <= found.seconds
    assert found.started <= found.ended
