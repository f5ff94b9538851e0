"""Settings: what each preset stands for, how long it takes, and what a resumed run must share."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import pairwise
from typing import get_args

import pytest

from harness.bench.case import PRESETS, Preset
from harness.bench.measure.settings import SCALINGS, Scaling, Settings
from harness.bench.measure.workers import ALLOCATORS

presets = pytest.mark.parametrize("preset", PRESETS)


@presets
def test_a_preset_can_be_kept(preset: Preset) -> None:
    """Every preset makes an interval from its processes, within bounds that allow for it."""
    settings = Settings.of(preset)
    fewest, most = settings.processes
    # The interval of two processes is wider than anything it could say.
    assert 3 <= fewest <= most
    assert 0 < settings.precision <= 0.05
    assert fewest * (settings.warm_up_seconds + settings.sample_seconds) <= settings.case_seconds
    assert settings.threads == 1
    assert settings.allocator == "pinned"
    assert not settings.instructions
    assert settings.scaling in SCALINGS


def test_a_larger_preset_measures_no_less() -> None:
    """From quick to full nothing gets shorter, coarser or less."""
    order = [Settings.of(preset) for preset in PRESETS]
    for smaller, larger in pairwise(order):
        assert smaller.case_seconds <= larger.case_seconds
        assert smaller.processes <= larger.processes
        assert smaller.precision >= larger.precision
        assert smaller.sample_seconds <= larger.sample_seconds
        assert smaller.warm_up_seconds <= larger.warm_up_seconds
        assert smaller.cold <= larger.cold
        assert SCALINGS.index(smaller.scaling) <= SCALINGS.index(larger.scaling)
        assert (smaller.total_seconds or 0) <= (larger.total_seconds or float("inf"))


def test_quick_ends_in_three_minutes() -> None:
    """The two presets with a promise keep time for starting and for writing the page."""
    assert (Settings.of("quick").total_seconds or 0) <= 180
    assert (Settings.of("standard").total_seconds or 0) <= 1800
    assert Settings.of("full").total_seconds is None


def test_every_choice_has_its_name() -> None:
    """What an option may be and what the type says is the same."""
    assert get_args(Scaling) == SCALINGS
    assert ALLOCATORS == ("pinned", "default")


@presets
def test_all_settings_must_be_equal_before_a_run_is_resumed(preset: Preset) -> None:
    """The options name every field but how long to wait for a worker, and can be written."""
    settings = Settings.of(preset)
    found = settings.options()
    assert set(found) == {field.name for field in fields(Settings)} - {"timeout_seconds"}
    assert json.loads(json.dumps(found))["processes"] == list(settings.processes)
    assert replace(settings, precision=0.5).options() != found


@presets
def test_an_estimate_grows_with_what_there_is_to_do(preset: Preset) -> None:
    """More cases and more claims take longer, up to the time of the session."""
    settings = replace(Settings.of(preset), total_seconds=None)
    nothing, case, claim = (settings.estimate_seconds(*count) for count in ((0, 0), (1, 0), (0, 1)))
    assert 0 < nothing < claim < case
    assert settings.estimate_seconds(50, 20) == pytest.approx(
        nothing + 50 * (case - nothing) + 20 * (claim - nothing)
    )
    assert case - nothing <= settings.case_seconds + 5
    assert replace(settings, total_seconds=165.0).estimate_seconds(10_000, 0) == 165.0


def test_brief_claims_are_estimated_as_such() -> None:
    """The smallest shape alone takes less than all of them."""
    brief, whole = (replace(Settings.of("quick"), is_brief=is_brief) for is_brief in (True, False))
    assert brief.estimate_seconds(0, 10) < whole.estimate_seconds(0, 10)


def test_little_time_means_little_sampling() -> None:
    """A case that may take half a second fits its fewest processes into it, with time for the rest."""
    settings = replace(Settings.of("quick"), processes=(3, 6), warm_up_seconds=0.2, sample_seconds=0.25)
    short = settings.within(0.6)
    assert short.case_seconds == 0.6
    assert short.warm_up_seconds == pytest.approx(0.1)
    assert short.sample_seconds == pytest.approx(0.1)
    fewest = short.processes[0]
    assert fewest * (short.warm_up_seconds + short.sample_seconds) <= 0.6 + 1e-9
    assert short.precision == settings.precision


def test_much_time_does_not_stretch_a_process() -> None:
    """More time means more processes, and no longer ones."""
    settings = Settings.of("standard")
    assert settings.within(1000.0) == replace(settings, case_seconds=1000.0)
