"""The command: trials until they are done or the time is over, and then what they say."""

from __future__ import annotations

import argparse
import json
import math
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from harness.paper.errors import Exit, SameopError
from harness.paper.gate.policy import FILE_NAME, Policy, read_policy
from harness.validation.command import Parser, run_command, say, write
from harness.validation.gate import loads, plants, truth
from harness.validation.gate.clone import Clone, cloned, commit_of_cases, find_source
from harness.validation.gate.findings import gather
from harness.validation.gate.frozen import Frozen, freeze
from harness.validation.gate.notebook import Notebook, key_of
from harness.validation.gate.promises import exit_of
from harness.validation.gate.report import Report, earned
from harness.validation.gate.schedule import PLANT, Trial, schedule
from harness.validation.gate.suite import SUITE
from harness.validation.gate.trials import Laboratory
from harness.validation.peers.comparison import Deadline


@dataclass(frozen=True)
class Extent:
    """How much is tried. minutes: 0 for no limit. truth: processes that measure a true size, and how long."""

    suites: int
    plants: int
    minutes: float
    load: str
    truth_processes: int
    truth_seconds: float


BOUNDED = Extent(suites=3, plants=2, minutes=5, load=loads.QUIET, truth_processes=8, truth_seconds=0.25)
LONG = Extent(suites=60, plants=30, minutes=0, load=loads.ALL, truth_processes=12, truth_seconds=0.5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, printed with its meaning."""
    return run_command(
        lambda: _run(_parser().parse_args(arguments)),
        "interrupted; the same command goes on where this one stopped.",
    )


def _run(options: argparse.Namespace) -> Exit:
    extent = _extent(options)
    source = find_source()
    notebook = Notebook(options.out)
    validation = Validation(notebook, _policy_file(options.policy, source), source, options.peers, extent)
    frozen = validation.open(options.seed)
    validation.run(schedule(extent.suites, extent.plants, loads.chosen(extent.load)))
    report = Report.of(gather(notebook), validation.policy, frozen)
    _write(options.out, report)
    write(json.dumps(report.document, indent=1) if options.json else report.text)
    say(f"False alarms: {earned(report.findings.all_suites)}.")
    return exit_of(report.promises)


def _extent(options: argparse.Namespace) -> Extent:
    given = {name: getattr(options, name) for name in ("suites", "plants", "minutes", "load")}
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(LONG if options.long else BOUNDED, **chosen)


def _policy_file(asked: Path | None, source: Path) -> Path | None:
    if asked:
        return asked.resolve()
    usual = source / FILE_NAME
    return usual if usual.exists() else None


@dataclass
class Validation:
    """Trials of one policy, written into one notebook."""

    notebook: Notebook
    policy_file: Path | None
    source: Path
    peers: bool
    extent: Extent

    @property
    def policy(self) -> Policy:
        """The policy that every trial is judged by."""
        return read_policy(self.policy_file, is_optional=False) if self.policy_file else Policy()

    def open(self, seed: str | None) -> Frozen:
        """Freeze, or find that what is frozen still holds; raises :class:`SameopError` otherwise."""
        frozen = self.notebook.open(self._freeze(seed or secrets.token_hex(8)))
        if seed and frozen.seed != seed:
            raise SameopError(
                f"{self.notebook.path} was begun with the seed {frozen.seed}: leave --seed out."
            )
        return frozen

    def _freeze(self, seed: str) -> Frozen:
        from harness.bench.machine import identity

        return freeze(self.policy, commit_of_cases(self.source), identity(), seed)

    def run(self, trials: Sequence[Trial]) -> None:
        """Do the trials that are not in the notebook yet, and what is missing to judge those that are."""
        deadline = Deadline(60 * self.extent.minutes or math.inf)
        with cloned(self.source) as clone:
            laboratory = self._equip(clone)
            waiting = [trial for trial in trials if trial.name not in self.notebook.results]
            for place, trial in enumerate(waiting):
                if deadline.is_near:
                    left = f"{self.extent.minutes:g} minutes are over with {len(waiting) - place} trials left"
                    say(f"The {left}: the same command goes on.")
                    break
                # Somebody may edit a threshold while trials run.
                self.notebook.open(self._freeze(laboratory.seed))
                self._take(replace(laboratory, typical_seconds=self._typical_seconds()), trial)
                say(f"It took {deadline.turn_ended():.0f} s; {len(waiting) - place - 1} trials are left.")
            for trial, _ in self.notebook.trials(PLANT):
                self._learn(laboratory, trial)

    def _equip(self, clone: Clone) -> Laboratory:
        """Measure once what plants are sized by."""
        if not self.notebook.scales:
            say("Measuring what plants are sized by.")
            self.notebook.add_scales(truth.scales(clone.root, SUITE))
        assert self.notebook.frozen is not None
        return Laboratory(
            clone, self.notebook.frozen.seed, self.notebook.scales, self.policy_file, self.peers
        )

    def _take(self, laboratory: Laboratory, trial: Trial) -> None:
        say(f"{trial.name} begins.")
        result = laboratory.take(trial)
        self.notebook.add_result(trial, result)
        say(f"{trial.name}, {result['change']}: exit {result['exit']}. {result['cause'][:300]}".rstrip())
        if trial.kind == PLANT:
            self._learn(laboratory, trial)

    def _learn(self, laboratory: Laboratory, trial: Trial) -> None:
        """Measure the true sizes that are not known of a trial's plants, now that the gate has spoken."""
        fates = plants.draw(trial.seed(laboratory.seed))
        unknown = {
            entry: plant
            for entry, plant in fates.items()
            if plant.is_timed and key_of(entry, plant) not in self.notebook.truths
        }
        if not unknown:
            return
        say(f"Measuring the true size of {len(unknown)} plants.")
        clone, extent = laboratory.clone, self.extent
        for is_speed_up in (False, True):
            part = {entry: plant for entry, plant in unknown.items() if plant.is_speed_up == is_speed_up}
            if not part:
                continue
            with clone.worktree(laboratory.commit(part)) as planted:
                # The work of a speed-up is in base, and what it costs is what head no longer does.
                base, head = (planted, clone.root) if is_speed_up else (clone.root, planted)
                found = truth.truths(base, head, part, extent.truth_processes, extent.truth_seconds)
            keys = {entry.operator: key_of(entry, plant) for entry, plant in part.items()}
            self.notebook.add_truths({keys[operator]: one for operator, one in found.items()})

    def _typical_seconds(self) -> float:
        seconds = [line["seconds"] for line in self.notebook.results.values() if line.get("seconds")]
        return median(seconds) if seconds else Laboratory.typical_seconds


def _write(folder: Path, report: Report) -> None:
    content = {"validation.json": json.dumps(report.document, indent=1), "validation.md": report.markdown}
    for name, text in content.items():
        try:
            (folder / name).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise SameopError(f"{folder / name} cannot be written ({error.strerror}): make room.") from None
        say(str(folder / name))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m harness.validation.gate", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trials; an old one goes on")
    parser.add_argument("--long", action="store_true", help="sixty suites and thirty with plants, all loads")
    parser.add_argument("--suites", type=_count, help="suites in which nothing is changed")
    parser.add_argument("--plants", type=_count, help="suites with plants")
    parser.add_argument(
        "--minutes", type=_minutes, help="start no trial that would end later; 0 for no limit"
    )
    parser.add_argument("--load", choices=(*loads.LOADS, loads.ALL))
    parser.add_argument("--peers", action="store_true", help="let other tools' rules judge the same sides")
    parser.add_argument(
        "--policy", type=Path, help="the policy that is validated; the repository's without it"
    )
    parser.add_argument("--seed", help="of everything left to chance; drawn without it")
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON document")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than none")
    return number


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of minutes")
    return number


if __name__ == "__main__":
    sys.exit(main())
