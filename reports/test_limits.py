"""The machine section: the speed limit, and where the time of a session went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.paper.roofline import CopyPoint, SpeedLimit
from harness.paper.store import Run

from .limits import list_limits, write_rate
from .sessions import list_sessions
from .specimen import make_header, make_limit, make_run, make_session


def test_copying_is_told_by_working_set_and_threads() -> None:
    """Every number of threads has its working sets, in order; a peak and a missing one stand beside."""
    groups = {group.title: dict(group.facts) for group in list_limits(make_run())}
    assert list(groups["CPU: copying, 1 thread"]) == [
        "32.0 KiB working set",
        "512 KiB working set",
        "8.00 MiB working set",
        "128 MiB working set",
    ]
    assert groups["CPU: copying, 2 threads"]["32.0 KiB working set"] == "120 GB/s"
    assert groups["CPU: matrix products"] == {"float32, 1 thread": "103 GFLOP/s"}
    assert groups["CPU: not measured"] == make_limit().reasons


def test_sessions_share_one_limit() -> None:
    """Of several sessions the best counts, since a disturbed one finds too little."""
    slow = SpeedLimit("cpu", copy=(CopyPoint(2**15, 1, 1e9),))
    run = replace(make_run(), limits=[slow, make_limit(), slow])
    told = {group.title: dict(group.facts) for group in list_limits(run)}
    assert told["CPU: copying, 1 thread"]["32.0 KiB working set"] == "60.0 GB/s"


def test_threads_play_no_part_on_a_gpu() -> None:
    """The limit of a GPU names the device and no threads."""
    limit = SpeedLimit("cuda", copy=(CopyPoint(2**30, 1, 3.9e12),))
    run = Run(Path("x"), make_header(()), limits=[limit])
    assert [group.title for group in list_limits(run)] == ["CUDA: copying"]
    assert list_limits(run)[0].facts == (("1.00 GiB working set", "3.90 TB/s"),)


def test_a_rate_below_a_thousand_has_no_prefix() -> None:
    """Rates are written with three digits and a fitting prefix."""
    assert [write_rate(rate, "B") for rate in (12.0, 1.234e9)] == ["12 B/s", "1.23 GB/s"]


def test_a_session_tells_its_phases_and_its_overhead() -> None:
    """Each phase has seconds and a share; what belongs to none is told, and what was overhead."""
    (group,) = list_sessions(replace(make_run(), sessions=[make_session(31)]))
    assert group.title == "2031-05-06T07:08:09+00:00: 31 cases in 60.0 s"
    assert group.facts == (
        ("start-up", "3.00 s, 5.00 %"),
        ("speed limit", "2.50 s, 4.17 %"),
        ("agreeing", "11.0 s, 18.3 %"),
        ("measuring", "42.0 s, 70.0 %"),
        ("no phase", "1.50 s, 2.50 %"),
        ("overhead: all but measuring and the speed limit", "25.8 %"),
    )


def test_a_run_without_either_has_neither() -> None:
    """Older runs know no speed limit and keep no account."""
    run = replace(make_run(), limits=[], sessions=[])
    assert list_limits(run) == list_sessions(run) == ()
