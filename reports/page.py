"""The page: one self-contained HTML file from the records of one run or of several."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.paper.store import Run

from .claims import SCRIPTS_UP_TO, list_claims
from .comparisons import list_comparisons
from .gaps import Gaps, group_left_out
from .legend import Legend
from .limits import list_limits
from .methods import describe_methods
from .panels import list_operators
from .provenance import describe_origin, list_provenance, name_run
from .rows import list_cases
from .sessions import list_sessions
from .summary import summarise
from .view import RunView

_NUMBER = "text-align: right; white-space: nowrap; min-width: 0;"
_TEMPLATES = Path(__file__).parent / "templates"


def render(runs: Sequence[Run]) -> str:
    """Return the page of these runs, one after the other.

    The page asks for nothing outside itself, and holds no time but those of the records: the same
    records give the same bytes.
    """
    views = [view_run(run, number) for number, run in enumerate(runs, start=1)]
    style, script = (_read(name) for name in ("page.css", "page.js"))
    style += "".join(rule for view in views for rule in _label_cells(view))
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fragment": to_fragment, "unbroken": keep_units, "share": to_share}
    return environment.get_template("page.html").render(
        runs=views,
        scripts_up_to=SCRIPTS_UP_TO,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def view_run(run: Run, number: int = 1) -> RunView:
    """Build everything that the page shows of one run; ``number`` keeps the anchors of runs apart."""
    prefix = "" if number == 1 else f"run-{number}/"
    gaps = Gaps()
    cases = list_cases(run, gaps, prefix)
    claims = list_claims(run, prefix)
    told = {claim.name for claim in claims}
    for name in Legend(run.header.catalogue).claims:
        if name not in told:
            gaps.note("the run holds no result for this claim", "claim", name)
    comparisons = list_comparisons(run, cases)
    return RunView(
        number=number,
        name=name_run(run),
        prefix=prefix,
        subtitle=describe_origin(run),
        summary=summarise(run, claims, comparisons, cases, gaps.entries),
        provenance=list_provenance(run),
        limits=list_limits(run),
        sessions=list_sessions(run),
        claims=claims,
        comparisons=comparisons,
        operators=list_operators(run, cases),
        cases=cases,
        gaps=gaps.entries,
        left_out=group_left_out(run.header.left_out),
        damage=tuple(run.damage),
        methods=describe_methods(run),
    )


def _label_cells(view: RunView) -> Iterator[str]:
    """Yield the headings that stand before the cells of a narrow page, and where numbers stand on others.

    In the style they are said once, and not in every cell.

    A title that is not ours stands in its cells, since what a file names has no business in a style.
    """
    cases = view.cases
    titles = ["Implementation", "Workload", *(["Setting"] if cases.varying else []), "Status"]
    known = [*titles, *(column.title if column.is_known else "" for column in cases.columns), "Witnesses"]
    table = f".cases-{view.number} td"
    for place, title in enumerate(known, start=2):
        if title:
            yield f'{table}:nth-child({place})::before {{ --label: "{title}"; }}\n'
    numbers = f"{table}:nth-child(n + {len(titles) + 2}):not(:last-child)"
    yield f"@media not all and (max-width: 45rem) {{ {numbers} {{ {_NUMBER} }} }}\n"


def to_fragment(anchor: str) -> str:
    """Write an anchor as the fragment of a link, so that no name can end it."""
    return "#" + quote(anchor, safe="/")


def to_share(place: str) -> str:
    """Write a place in percent of the width as a number of a picture that is 100 wide."""
    return f"{float(place.removesuffix('%')):.2f}".rstrip("0").rstrip(".")


def keep_units(text: str) -> str:
    """Keep a number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=\S{1,3}(?:\W|$))", "\u00a0", text)


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name a text as a content security policy does: only this script and this style may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
