"""What a gate found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.paper.gate.baseline import is_stored
from harness.paper.gate.outcome import CaseOutcome, GateOutcome, Verdict
from harness.paper.gate.summary import (
    AGAINST,
    count_verdicts,
    plain,
    sort_cases,
    tell_controls,
    tell_detectable,
    tell_exits,
    tell_insensitivity,
    tell_interval,
    tell_passes,
    tell_processes,
    tell_ratio,
    tell_sides,
    title_of,
)
from harness.paper.gate.wording import pairs

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_STYLES = {Verdict.ACCEPTED: "green", Verdict.NEW: "cyan"}
# A window with fewer columns has no room for numbers beside a name; they stand below it.
_WIDE = 130


def gate_parts(outcome: GateOutcome) -> list[RenderableType]:
    """Return what a person reads, from the title to the exit codes.

    A table holds every case that does not pass; those that do are counted.
    """
    told = [case for case in sort_cases(outcome.cases) if case.verdict is not Verdict.PASS]
    table = [CaseTable(told, "processes" if is_stored(outcome) else "pairs")] if told else []
    return [Text(_title(outcome), style="bold"), *table, *map(Text, _lines(outcome))]


@dataclass(frozen=True)
class CaseTable:
    """Cases with their numbers and reasons, in as many columns as a window has room for.

    counted: what the last of these numbers counts.
    """

    cases: Sequence[CaseOutcome]
    counted: str = "pairs"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table that fits."""
        yield self.as_table(is_wide=options.max_width >= _WIDE)

    def as_table(self, *, is_wide: bool) -> Table:
        """Return the table; a narrow one has the numbers below the names."""
        table = Table(show_lines=True)
        table.add_column("verdict", no_wrap=True)
        table.add_column("case, and why", overflow="fold")
        for heading in ("head ÷ base", "95 % interval", "would find", self.counted) if is_wide else ():
            table.add_column(heading, justify="right", no_wrap=True)
        for case in self.cases:
            if is_wide:
                table.add_row(_verdict(case), _told(case), *_numbers(case))
            else:
                table.add_row(_verdict(case), _told(case, *_sentence(case)))
        return table


def _verdict(case: CaseOutcome) -> Text:
    style = "red" if case.verdict in AGAINST else _STYLES.get(case.verdict, "yellow")
    return Text(case.verdict, style=style)


def _told(case: CaseOutcome, *numbers: str) -> Text:
    """Return the name, which is copied into commands, and below it why the verdict is what it is."""
    below = (*numbers, *map(plain, (case.reason, *case.notes)))
    # Text, not str: names are data, and rich would read [brackets] in them as markup.
    return Text("\n").join(map(Text, (plain(case.name), *filter(None, below))))


def _numbers(case: CaseOutcome) -> list[Text]:
    found = case.bounds
    if found is None:
        return []
    cells = tell_ratio(found.ratio), tell_interval(found), tell_detectable(found), tell_processes(case)
    return [Text(cell) for cell in cells]


def _sentence(case: CaseOutcome) -> Iterator[str]:
    if found := case.bounds:
        counted = f"{tell_processes(case)} processes" if case.medians else pairs(found.processes)
        yield (
            f"head ÷ base {tell_ratio(found.ratio)} ({tell_interval(found)}), "
            f"would find {tell_detectable(found)}, {counted}"
        )


def _title(outcome: GateOutcome) -> str:
    return f"gate {title_of(outcome)}: {tell_sides(outcome)}\n{count_verdicts(outcome)}"


def _lines(outcome: GateOutcome) -> Iterator[str]:
    """Yield what stands below the table."""
    if outcome.cases:
        yield from tell_passes(outcome)
        yield from tell_controls(outcome)
    yield from filter(None, (tell_insensitivity(outcome), *map(plain, outcome.notes)))
    yield tell_exits(outcome)
