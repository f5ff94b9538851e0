"""The page: one self-contained HTML file from the records of one run or of several."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.paper.store import Run

from .claims import list_claims
from .comparisons import list_comparisons
from .gaps import Gaps, group_left_out
from .legend import Legend
from .methods import describe_methods
from .panels import list_operators
from .provenance import describe_origin, list_provenance, name_run
from .rows import list_cases
from .summary import summarise
from .view import RunView

_TEMPLATES = Path(__file__).parent / "templates"


def render(runs: Sequence[Run]) -> str:
    """Return the page of these runs, one after the other.

    The page asks for nothing outside itself, and holds no time but those of the records: the same
    records give the same bytes.
    """
    style, script = (_read(name) for name in ("page.css", "page.js"))
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fragment"] = to_fragment
    return environment.get_template("page.html").render(
        runs=[view_run(run, number) for number, run in enumerate(runs, start=1)],
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
        claims=claims,
        comparisons=comparisons,
        operators=list_operators(run, cases),
        cases=cases,
        gaps=gaps.entries,
        left_out=group_left_out(run.header.left_out),
        damage=tuple(run.damage),
        methods=describe_methods(run),
    )


def to_fragment(anchor: str) -> str:
    """Write an anchor as the fragment of a link, so that no name can end it."""
    return "#" + quote(anchor, safe="/")


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name a text as a content security policy does: only this script and this style may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
