"""The implementations of one workload in lock-step, with workers that answer what a test wants to hear."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from harness.bench.case import Case
from harness.bench.measure.clocks import Block
from harness.bench.measure.group import Lap, Member
from harness.bench.measure.jobs import Job
from harness.bench.measure.settings import Settings
from harness.bench.measure.workers import LOST
from harness.paper.account import Account
from harness.paper.record import Status
from harness.tests.specimens import implementation, mixing, polynomial

Answer = dict[str, Any]
# Steps of one process, each with the one who takes it.
Event = tuple[str, str]

SETTINGS = replace(
    Settings.of("full"),
    case_seconds=1e9,
    processes=(2, 5),
    precision=0.01,
    warm_up_seconds=0.1,
    sample_seconds=0.05,
)
BEGUN: Answer = {
    "status": Status.MEASURED,
    "agreement": {"agrees": True, "level": "exact on integers", "reason": None, "evidence": {}},
    "reason": None,
    "bits": "the same",
    "deterministic": True,
    "calls": 2,
    "warm_up_calls": 12,
    "warm_up_stable": True,
    "measuring_seconds": 0.0,
    "worker": {"cpus": [1]},
}
ENDED: Answer = {**BEGUN, "readings": {}, "facts": {}}


def turned(*seconds_per_call: float) -> Answer:
    """Answer a turn with blocks of two calls by the wall."""
    blocks = [Block(2, 2 * seconds) for seconds in seconds_per_call]
    return {"status": Status.MEASURED, "blocks": [asdict(block) for block in blocks]}


@dataclass
class Script:
    """What the workers of one implementation answer: for a task, by the number of the process."""

    begin: Callable[[int], Answer] = lambda process: BEGUN
    turn: Callable[[int], Answer] = lambda process: turned(0.01, 0.01, 0.01)
    end: Callable[[int], Answer] = lambda process: ENDED


@dataclass
class Stage:
    """Workers that answer by their scripts, on a clock that moves by the ``seconds`` of an answer."""

    scripts: Mapping[str, Script]
    events: list[Event] = field(default_factory=list)
    requests: dict[Event, list[Answer]] = field(default_factory=dict)
    lanes: list[int] = field(default_factory=list)
    clock: float = 0.0

    def __post_init__(self) -> None:
        self.account = Account(lambda: self.clock)

    @contextlib.contextmanager
    def hire(self, device: str, lane: int = 0) -> Iterator[_Actor]:
        """Give a worker; its end is an event too."""
        actor = _Actor(self, lane)
        self.lanes.append(lane)
        yield actor
        self.events.append(("leave", actor.name))

    def rounds(self) -> list[list[str]]:
        """Return who took a turn, in pieces that end where one takes another turn."""
        found: list[list[str]] = []
        for task, name in self.events:
            if task == "turn":
                if not found or name in found[-1]:
                    found.append([])
                found[-1].append(name)
            else:
                found.append([])
        return [names for names in found if names]


@dataclass
class _Actor:
    stage: Stage
    process: int
    name: str = ""

    def ask(self, request: Mapping[str, Any]) -> Answer:
        job = Job.of_request(request)
        if job.case is not None:
            self.name = job.case.implementation
        self.stage.events.append((job.task, self.name))
        self.stage.requests.setdefault((job.task, self.name), []).append(dict(request))
        answer: Answer = getattr(self.stage.scripts[self.name], job.task)(self.process)
        self.stage.clock += answer.get("seconds", 0.0)
        return answer


def member(name: str) -> Member:
    """Return a member called so."""
    scope = polynomial()
    subject = replace(implementation(mixing), name=name)
    return Member(Case(scope, subject, scope.workloads[0], "float32", "cpu", "forward"))


def measure(
    scripts: Mapping[str, Script],
    settings: Settings = SETTINGS,
    modes: tuple[str, ...] = ("hot",),
    **more: Any,
) -> tuple[Stage, dict[str, Member]]:
    """Measure one member for every script."""
    stage = Stage(scripts)
    members = {name: member(name) for name in scripts}
    lap = Lap(
        members=list(members.values()),
        workers=stage,  # type: ignore[arg-type]  # as much of them as a lap uses
        settings=settings,
        threads=2,
        modes=modes,
        job=lambda case: Job("begin", case.id, "file"),
        cpus=lambda count: (1, 3)[:count],
        account=stage.account,
        meters=True,
        now=lambda: stage.clock,
        **more,
    )
    while lap.active:
        lap.replicate()
    return stage, members


def replicates(stage: Stage) -> list[list[Event]]:
    """Split the events at the end of every replicate."""
    found: list[list[Event]] = [[]]
    for event in stage.events:
        if event[0] == "leave":
            if found[-1]:
                found.append([])
        else:
            found[-1].append(event)
    return [events for events in found if events]


NAMES = ("a", "b", "c")


def test_every_replicate_begins_every_member_and_ends_it() -> None:
    """Nobody is timed before all are warm, and nobody is judged again before all were timed."""
    stage, members = measure({name: Script() for name in NAMES})
    parts = replicates(stage)
    assert len(parts) == 2
    for events in parts:
        assert events[:3] == [("begin", name) for name in NAMES]
        assert events[-3:] == [("end", name) for name in NAMES]
        assert {task for task, _ in events[3:-3]} == {"turn"}
    assert all(len(found.samples["hot"]) == 2 for found in members.values())


def test_a_replicate_has_a_lane_of_its_own() -> None:
    """Processes of one replicate come from one interpreter, those of the next from another."""
    stage, _ = measure({name: Script() for name in NAMES})
    assert stage.lanes == [0, 0, 0, 1, 1, 1]


def test_a_process_stays_on_the_chosen_processors() -> None:
    """Threads and processors are those of the lap, what to do that of the settings."""
    stage, _ = measure({"a": Script()}, modes=("hot", "cold"))
    first, *_ = stage.requests["begin", "a"]
    assert (first["threads"], first["cpus"], first["expected"]) == (2, (1, 3), "file")
    assert first["options"] == {"warm_up_seconds": 0.1, "modes": ["hot", "cold"]}


def test_members_take_turns() -> None:
    """In each round everyone who waits takes one turn."""
    settings = replace(SETTINGS, sample_seconds=0.5)
    stage, _ = measure({name: Script() for name in NAMES}, settings)
    # 60 ms in a turn, half a second in all.
    assert [sorted(names) for names in stage.rounds()] == [list(NAMES)] * 18


def test_the_order_of_turns_is_the_one_of_the_shuffle() -> None:
    """Every round is shuffled anew."""
    stage, _ = measure({name: Script() for name in NAMES}, shuffle=lambda seats: seats.reverse())
    assert stage.rounds()[:2] == [["c", "b", "a"], ["a", "b", "c"]]
    settings = replace(SETTINGS, sample_seconds=5.0)
    shuffled = measure({name: Script() for name in NAMES}, settings)[0].rounds()
    assert {tuple(names) for names in shuffled} == {
        (x, y, z) for x in NAMES for y in NAMES for z in NAMES if len({x, y, z}) == 3
    }


def test_who_has_enough_leaves_the_round() -> None:
    """Enough is the time to sample, and never fewer than five blocks."""
    scripts = {
        "quick": Script(turn=lambda process: turned(*[0.02] * 50)),
        "slow": Script(turn=lambda process: turned(10.0)),
        "steady": Script(turn=lambda process: turned(0.002, 0.002)),
    }
    stage, members = measure(scripts)
    first = replicates(stage)[0]
    turns = {name: sum(event == ("turn", name) for event in first) for name in scripts}
    assert turns == {"quick": 1, "slow": 5, "steady": 7}
    blocks = {name: len(found.samples["hot"][0].blocks) for name, found in members.items()}
    assert blocks == {"quick": 50, "slow": 5, "steady": 14}


def test_a_process_that_is_alone_is_not_warmed_again() -> None:
    """The untimed call before a turn is for data that another process took out of the caches."""
    stage, _ = measure(
        {"quick": Script(turn=lambda process: turned(*[0.1] * 5)), "slow": Script()},
        replace(SETTINGS, sample_seconds=0.1),
    )
    rewarmed = [request["options"]["rewarm"] for request in stage.requests["turn", "slow"]]
    assert rewarmed == [True, False, True, False]
    assert [request["options"]["calls"] for request in stage.requests["turn", "slow"]] == [2] * 4


def test_modes_are_sampled_one_after_the_other() -> None:
    """All members are timed in one mode before any is in the next; each mode keeps its own samples."""
    stage, members = measure({name: Script() for name in NAMES}, modes=("hot", "cold"))
    asked = [
        request["options"]["mode"]
        for task, name in stage.events
        if task == "turn"
        for request in [stage.requests["turn", name].pop(0)]
    ]
    one = ["hot"] * 6 + ["cold"] * 6
    assert asked == one * 2
    assert all(set(found.samples) == {"hot", "cold"} for found in members.values())


def test_what_the_first_process_found_is_passed_on() -> None:
    """Later processes time blocks of as many calls, and need no judgement where their bits are equal."""
    stage, _ = measure({"a": Script()})
    first, second = (request["options"] for request in stage.requests["begin", "a"])
    assert not {"calls", "bits", "level"} & set(first)
    assert (second["calls"], second["bits"], second["level"]) == (2, "the same", "exact on integers")


def test_block_length_is_that_of_the_first_process() -> None:
    """What a later process would have chosen does not count."""
    stage, _ = measure({"a": Script(begin=lambda process: {**BEGUN, "calls": 2 + process})})
    assert {request["options"]["calls"] for request in stage.requests["turn", "a"]} == {2}


def test_meters_read_the_first_process_alone() -> None:
    """Memory, energy and what ran come from the first process."""
    ends = iter([{**ENDED, "facts": {"process": number}} for number in range(2)])
    stage, members = measure({"a": Script(end=lambda process: next(ends))})
    assert [request["options"]["meters"] for request in stage.requests["end", "a"]] == [True, False]
    assert members["a"].ended["facts"] == {"process": 0}


CRASH: Answer = {"status": Status.CRASHED, "reason": "Its process ended with signal SIGSEGV.", "seconds": 0.5}


@pytest.mark.parametrize("task", ["begin", "turn", "end"])
def test_a_failing_member_drops_out(task: str) -> None:
    """A crash ends its own member at once; the others go on, and have as many samples as without it."""
    broken = Script(**{task: lambda process: CRASH})
    stage, members = measure({"a": Script(), "broken": broken, "c": Script()})
    assert members["broken"].failure == CRASH
    assert [event for event in stage.events if event[1] == "broken"][-2:] == [
        (task, "broken"),
        ("leave", "broken"),
    ]
    assert len(stage.requests["begin", "broken"]) == 1
    for name in ("a", "c"):
        assert members[name].failure is None
        assert [len(taken.blocks) for taken in members[name].samples["hot"]] == [6, 6]


def test_a_later_crash_is_told_with_its_process() -> None:
    """Earlier processes were sound, which the reason says: a crash that is not there every time."""
    for task, sound in (("begin", BEGUN), ("turn", turned(0.1)), ("end", ENDED)):

        def answer(process: int, sound: Answer = sound) -> Answer:
            return CRASH if process else sound

        _, members = measure({"a": Script(**{task: answer})})
        failure = members["a"].failure
        assert failure is not None
        assert failure["status"] == Status.CRASHED
        assert failure["reason"] == (
            "Its process ended with signal SIGSEGV. (in process 2, the earlier ones were sound)"
        )


def test_disagreement_after_timing_ends_a_member() -> None:
    """Any other status than measured is a failure, with the agreement that was found."""
    red = {**ENDED, "status": Status.DISAGREED, "reason": "It disagrees.", "agreement": {"agrees": False}}
    _, members = measure({"a": Script(end=lambda process: red), "b": Script()})
    assert members["a"].failure == red
    assert members["a"].samples == {}
    assert members["b"].failure is None


def test_where_all_fail_nothing_is_tried_again() -> None:
    """A group without a sound member ends."""
    stage, members = measure({name: Script(begin=lambda process: CRASH) for name in NAMES})
    assert [task for task, _ in stage.events] == ["begin"] * 3 + ["leave"] * 3
    assert all(found.failure for found in members.values())


def test_who_lost_its_zygote_is_tried_again_alone() -> None:
    """A page that kills what forked it takes the others with it once; alone they have all their samples."""
    lost: Answer = {"status": Status.CRASHED, "reason": "It ended with signal SIGKILL.", LOST: True}
    first = iter([lost])
    scripts = {
        "a": Script(),
        "killer": Script(turn=lambda process: lost),
        "c": Script(turn=lambda process: next(first, turned(0.01, 0.01, 0.01))),
    }
    stage, members = measure(scripts)
    assert members["killer"].failure == lost
    for name in ("a", "c"):
        assert members[name].failure is None
        assert [len(taken.blocks) for taken in members[name].samples["hot"]] == [6, 6]
    assert {name: len(stage.requests["begin", name]) for name in scripts} == {"a": 2, "killer": 2, "c": 3}


def deterministic(**answers: Callable[[int], Answer]) -> bool:
    """Return what a member is said to be."""
    return measure({"a": Script(**answers)})[1]["a"].deterministic


def test_bits_that_differ_are_told() -> None:
    """A member is deterministic where every call of every process returned the same bits."""
    shaky = {**ENDED, "deterministic": False}
    assert deterministic()
    assert not deterministic(begin=lambda process: {**BEGUN, "bits": f"of {process}"})
    assert not deterministic(begin=lambda process: {**BEGUN, "deterministic": process != 1})
    assert not deterministic(end=lambda process: shaky)


def in_processes(*seconds: float) -> Callable[[int], Answer]:
    """Answer turns by how long a call takes in a process, in milliseconds."""
    return lambda process: turned(*[1e-3 * seconds[process]] * 50)


def test_precise_members_stop_first() -> None:
    """A member ends where half its interval is narrow enough; the others go on without it."""
    scripts = {
        "calm": Script(turn=in_processes(1.0, 1.0005, 1.0, 1.0, 1.0)),
        "wild": Script(turn=in_processes(1.0, 2.0, 1.0, 3.0, 1.0)),
    }
    stage, members = measure(scripts)
    assert members["calm"].stopped == "half the interval is at most 1.0% of the median"
    assert members["wild"].stopped == "5 processes"
    assert [len(stage.requests["begin", name]) for name in scripts] == [2, 5]
    assert members["calm"].half_width("hot", 2) < 0.01 < members["wild"].half_width("hot", 2)


def test_never_fewer_than_the_fewest_processes() -> None:
    """Two processes that happen to agree stop nothing where three are asked for, nor does the time."""
    settings = replace(SETTINGS, processes=(3, 5), case_seconds=1e-9)
    begin = {**BEGUN, "seconds": 1.0}
    stage, members = measure({"a": Script(begin=lambda process: begin)}, settings)
    assert len(stage.requests["begin", "a"]) == 3
    assert members["a"].stopped == "half the interval is at most 1.0% of the median"


def test_every_mode_has_to_be_precise() -> None:
    """A case is done when its widest interval is narrow enough."""
    answers: dict[str, Callable[[int], Answer]] = {
        "hot": in_processes(*[1.0] * 5),
        "cold": in_processes(1.0, 2.0, 1.0, 3.0, 1.0),
    }
    modes = iter([mode for _ in range(5) for mode in ("hot", "cold")])
    _, members = measure(
        {"a": Script(turn=lambda process: answers[next(modes)](process))}, modes=("hot", "cold")
    )
    assert members["a"].stopped == "5 processes"


def test_the_time_of_a_case_ends_it() -> None:
    """No process begins that would end after the time of the case; the time of a group is shared."""
    scripts = {
        name: Script(
            begin=lambda process: {**BEGUN, "seconds": 1.0}, turn=in_processes(1.0, 2.0, 1.0, 3.0, 1.0)
        )
        for name in NAMES
    }
    # Every process takes a second: four are within four and a half, five are not.
    stage, members = measure(scripts, replace(SETTINGS, case_seconds=4.5))
    assert {found.stopped for found in members.values()} == {"the time of the case was over"}
    assert len(stage.requests["begin", "a"]) == 4


def test_without_samples_the_interval_has_no_end() -> None:
    """What was not measured is not precise."""
    assert member("a").half_width("hot", 1) == float("inf")


def test_another_number_of_threads_knows_what_was_judged() -> None:
    """Samples are taken anew, and equal bits need no judgement."""
    _, members = measure({"a": Script()})
    other = members["a"].at_other_threads()
    assert (other.case, other.begun, other.samples) == (members["a"].case, members["a"].begun, {})
    assert (other.stopped, other.failure, other.deterministic) == ("", None, True)


def test_seconds_are_charged_to_what_they_were_spent_on() -> None:
    """Warming up, turns and meters are measuring; judging before and after is agreeing."""
    scripts = {
        name: Script(
            begin=lambda process: {**BEGUN, "seconds": 5.0, "measuring_seconds": 2.0},
            turn=lambda process: {**turned(*[0.01] * 5), "seconds": 1.0},
            end=lambda process: {**ENDED, "seconds": 7.0, "measuring_seconds": 4.0},
        )
        for name in ("a", "b")
    }
    stage, members = measure(scripts)
    # Two members in two processes each.
    assert stage.clock == 4 * (5 + 1 + 7)
    assert {name: found.seconds for name, found in members.items()} == {"a": 26, "b": 26}
    assert members["a"].sampled == pytest.approx(2 * 5 * 2 * 0.01)
    assert stage.account.so_far(2).phases == {"agreeing": 4 * (3 + 3), "measuring": 4 * (2 + 1 + 4)}
