"""The summary: five lines, each a sentence made from the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from harness.paper.store import Run
from harness.paper.units import three_digits

from .forms import Forms, group_forms
from .prose import count
from .view import Cases, ClaimView, ComparisonView, Facts, Gap


def summarise(
    run: Run,
    claims: Sequence[ClaimView],
    comparisons: Sequence[ComparisonView],
    cases: Cases,
    gaps: Sequence[Gap],
) -> Facts:
    """Return the five lines: a term and a sentence each."""
    return (
        ("Same function", _say_claims(claims)),
        ("Agreement", _say_agreement(cases)),
        ("Fastest", _say_fastest(comparisons)),
        ("Implementation", _say_gain(group_forms(run).values())),
        ("Missing", _say_missing(run, cases, gaps)),
    )


def _say_claims(claims: Sequence[ClaimView]) -> str:
    if not claims:
        return "No claim was checked in this run."
    fine = [claim for claim in claims if claim.fine]
    refuted = sum(len(claim.refuted) for claim in claims)
    equivalent = sum(len(claim.equivalent) for claim in claims)
    if len(fine) == len(claims):
        words = sorted({claim.words for claim in claims if claim.level})
        how = f" ({words[0]})" if len(words) == 1 else ""
        tail = f"the same check refuted {count(refuted, 'mutant')}"
        tail += f" and found {equivalent} declared equal to be equal" if equivalent else ""
        if not refuted + equivalent:
            tail = "this run left their mutants to `sameop prove`"
        return f"{_all_of(len(claims), 'claim')} came out as stated{how}; {tail}."
    wrong = ", ".join(claim.name for claim in claims if not claim.fine)
    return f"{len(fine)} of {count(len(claims), 'claim')} came out as stated; not so: {wrong}."


def _all_of(number: int, noun: str) -> str:
    return f"The one {noun}" if number == 1 else f"All {number} {noun}s"


def _say_agreement(cases: Cases) -> str:
    if not cases.rows:
        return "No case was planned."
    levels: dict[str, int] = {}
    others: dict[str, int] = {}
    for row in cases.rows:
        counts, key = (levels, row.agreement) if row.fine else (others, row.status)
        counts[key] = counts.get(key, 0) + 1
    agreed = sum(levels.values())
    how = ", ".join(f"{number} {level}" for level, number in levels.items())
    doubts = sum(any(w.verdict == "unexplained" for w in row.witnesses.values()) for row in cases.rows)
    text = f"{agreed} of {count(len(cases.rows), 'case')} equalled the reference before and after timing"
    rest = ", ".join(f"{number} {status}" for status, number in sorted(others.items()))
    doubt = f"; {count(doubts, 'case')} with an unexplained witness of the MACs" if doubts else ""
    return text + (f" ({how})" if how else "") + (f"; {rest}" if rest else "") + f"{doubt}."


def _say_fastest(comparisons: Sequence[ComparisonView]) -> str:
    firsts = [sentence for comparison in comparisons for sentence in _list_firsts(comparison)]
    if not firsts:
        return "No comparison has numbers of two operators in this run."
    more = f" {count(len(firsts) - 1, 'further comparison')} below." if len(firsts) > 1 else ""
    return firsts[0] + more


def _list_firsts(comparison: ComparisonView) -> Iterator[str]:
    for meeting in comparison.meetings:
        best = [(entry.operator, entry.forms[-1]) for entry in meeting.entries if entry.forms[-1].rank]
        if len(best) < 2:
            continue
        leaders = [name for name, form in best if form.rank == 1]
        name, form = best[0]
        if len(leaders) > 1:
            told = f"{', '.join(leaders)} share the first place of {len(best)}"
        else:
            told = f"{name} ({form.implementation}, {form.cell.text}) leads {len(best)} operators"
        yield f"At {comparison.name}, {meeting.setting}, {told}."


def _say_gain(groups: Iterable[Forms]) -> str:
    """Say how much the choice of the implementation matters, where there was a choice."""
    gains = []
    for forms in groups:
        authors = forms.latency("authors").value if "authors" in forms.records else None
        if forms.best is not None and authors:
            gains.append(authors / (forms.latency(forms.best).value or authors))
    if not gains:
        return "No authors’ way was measured, so nothing can be said about faster ones."
    middle, most = three_digits(median(gains)), three_digits(max(gains))
    return (
        f"The best measured form takes less time than the authors’ way by a median factor of {middle} "
        f"(at most {most}) over {count(len(gains), 'operator input')}."
    )


def _say_missing(run: Run, cases: Cases, gaps: Sequence[Gap]) -> str:
    left_out = len(run.header.left_out)
    tail = f"; {count(left_out, 'thing')} left out on purpose" if left_out else ""
    if not gaps:
        return f"Every planned number is there{tail}."
    timed = sum("latency" in row.cells and row.cells["latency"].gap is None for row in cases.rows)
    return (
        f"{timed} of {count(len(cases.rows), 'case')} have a latency; every missing number, of any meter, "
        f"has one of {count(len(gaps), 'reason')} listed below{tail}."
    )
