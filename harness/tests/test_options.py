"""The options of a measuring run: each is read, and each mistake is one sentence."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from harness.bench.case import PRESETS, Preset, Selection
from harness.bench.machine import usable_cpus
from harness.bench.measure.settings import Settings
from harness.doors.options import add_options, read_selection, read_settings, require_the_machine
from harness.paper.errors import SameopError

CPUS = usable_cpus()


class Group:
    """A group of options as pytest has it, on a plain parser."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(exit_on_error=False)

    def addoption(self, *names: str, **properties: Any) -> None:
        """Add an option."""
        self.parser.add_argument(*names, **properties)


def parsed(*arguments: str) -> argparse.Namespace:
    """Return the options of a command line."""
    group = Group()
    add_options(group)  # type: ignore[arg-type]  # as much of it as is used
    return group.parser.parse_args(arguments)


def settings(*arguments: str, preset: Preset = "quick") -> Settings:
    """Return how a run with these arguments is measured."""
    return read_settings(parsed(*arguments), preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_without_options_the_preset_decides(preset: Preset) -> None:
    """No option has a default that changes a preset."""
    assert settings(preset=preset) == Settings.of(preset)


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("--bench-threads=1", "threads", 1),
        (f"--bench-threads={CPUS}", "threads", CPUS),
        ("--bench-threads=all", "threads", CPUS),
        ("--bench-allocator=default", "allocator", "default"),
        ("--bench-allocator=pinned", "allocator", "pinned"),
        ("--bench-cache=both", "cold", True),
        ("--bench-cache=hot", "cold", False),
        ("--bench-scaling=on", "scaling", "on"),
        ("--bench-scaling=first", "scaling", "first"),
        ("--bench-scaling=off", "scaling", "off"),
        ("--bench-precision=2%", "precision", 0.02),
        ("--bench-precision=0.5%", "precision", 0.005),
        ("--bench-precision=0.03", "precision", 0.03),
        ("--bench-seconds=2.5", "case_seconds", 2.5),
        ("--bench-timeout=8", "timeout_seconds", 8.0),
        ("--bench-processes=5", "processes", (5, 5)),
        ("--bench-instructions", "instructions", True),
    ],
)
def test_an_option_changes_its_own_setting_alone(argument: str, field: str, value: object) -> None:
    """Every option is read, and turns what a preset would have it into what was asked for."""
    for preset in PRESETS:
        found, usual = settings(argument, preset=preset), Settings.of(preset)
        assert getattr(found, field) == pytest.approx(value)
        assert {**found.options(), field: None} == {**usual.options(), field: None}


def test_a_selection_is_what_was_asked_for() -> None:
    """Preset, device, operators and network are read; without options everything is measured quickly."""
    assert read_selection(parsed()) == Selection("quick", "all", "*", "")
    asked = parsed(
        "--bench-preset=full", "--bench-device=cuda", "--bench-operator=dyn*", "--bench-network=resnet18"
    )
    assert read_selection(asked) == Selection("full", "cuda", "dyn*", "resnet18")


THREADS = (
    "--bench-threads={} is no count of threads that fits the "
    f"{CPUS} CPUs here: give a whole number from 1 to {CPUS}, or all."
)
PRECISION = "--bench-precision={} is no share of a median: give one such as 1% or 0.01."
SECONDS = "--bench-seconds={} is no time: give a number of seconds above zero."
PROCESSES = "--bench-processes={} is no count of processes: give a whole number from 1 to 30."
TIMEOUT = "--bench-timeout={} is no time: give a number of seconds above zero."


@pytest.mark.parametrize(
    ("option", "text", "sentence"),
    [
        *(
            ("--bench-threads", text, THREADS)
            for text in ("²", "0", "-1", "1.5", "100000", "", "some", "ALL")
        ),
        *(
            ("--bench-precision", text, PRECISION)
            for text in ("0", "0%", "1", "100%", "-1%", "%", "", "1%%", "% 1", "one", "nan", "inf", "nan%")
        ),
        *(
            ("--bench-seconds", text, SECONDS)
            for text in ("0", "-3", "", "soon", "nan", "inf", "-inf", "3s", "1e999")
        ),
        *(("--bench-processes", text, PROCESSES) for text in ("0", "-1", "31", "", "2.0", "²", "many")),
        *(("--bench-timeout", text, TIMEOUT) for text in ("0", "-3", "", "never", "nan", "inf")),
        ("--bench-allocator", "jemalloc", "--bench-allocator={} is unknown: choose pinned or default."),
        ("--bench-allocator", "", "--bench-allocator={} is unknown: choose pinned or default."),
        ("--bench-cache", "cold", "--bench-cache={} is unknown: choose hot or both."),
        ("--bench-scaling", "yes", "--bench-scaling={} is unknown: choose off, first or on."),
    ],
)
def test_a_wrong_setting_is_one_sentence(option: str, text: str, sentence: str) -> None:
    """A wrong value is answered with what was asked and what to give; the exit code is 4."""
    with pytest.raises(SameopError) as caught:
        settings(f"{option}={text}")
    assert str(caught.value) == sentence.format(text)
    assert caught.value.exit == 4


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--bench-preset=slow", "--bench-preset=slow is unknown: choose quick, standard or full."),
        ("--bench-device=tpu", "--bench-device=tpu is unknown: choose cpu, cuda or all."),
    ],
)
def test_a_wrong_selection_is_one_sentence(argument: str, sentence: str) -> None:
    """What is unknown is answered with what is known."""
    with pytest.raises(SameopError) as caught:
        read_selection(parsed(argument))
    assert str(caught.value) == sentence
    assert caught.value.exit == 4


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"benchmark_skip": True}, "--benchmark-skip leaves out every case: leave it out, or --benchmark."),
        ({"numprocesses": "auto"}, "Measuring needs the machine to itself: leave -n out, or --benchmark."),
        ({"tx": ["popen"]}, "Measuring needs the machine to itself: leave -n out, or --benchmark."),
        (
            {"bench_run": ""},
            "--bench-run names no folder: give one, or leave the option out for a new one.",
        ),
    ],
)
def test_what_leaves_nothing_to_measure_is_one_sentence(others: dict[str, Any], sentence: str) -> None:
    """Options of other plugins that stand in the way are named; without them nothing is refused."""
    option = parsed("--bench-run=here")
    require_the_machine(option)
    require_the_machine(parsed())
    for name, value in others.items():
        setattr(option, name, value)
    with pytest.raises(SameopError) as caught:
        require_the_machine(option)
    assert str(caught.value) == sentence
    assert caught.value.exit == 4


def test_every_option_says_what_it_does() -> None:
    """The help names each option with the values that it takes."""
    group = Group()
    add_options(group)  # type: ignore[arg-type]  # as much of it as is used
    for action in group.parser._actions:
        assert action.help
        assert "benchmark" in action.option_strings[-1] or action.option_strings[-1].startswith(
            ("--bench-", "--help")
        )
    assert sum(name.startswith("--bench-") for name in group.parser._option_string_actions) == 15
