"""The page of a gate: one self-contained HTML file from one outcome."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.paper.errors import Exit
from harness.paper.gate.baseline import is_stored
from harness.paper.gate.outcome import GateOutcome
from harness.paper.gate.summary import (
    ORDER,
    count_verdicts,
    plain,
    tell_controls,
    tell_exits,
    tell_insensitivity,
    tell_passes,
    tell_side,
    title_of,
)
from harness.paper.gate.wording import sentence, setting

from .facts import list_facts
from .gate_cases import BAD, GOOD, OPEN, show_cases, show_controls
from .gate_methods import describe_gate, list_settings
from .page import keep_units, to_fragment
from .strips import WALL_DETECT, share_in
from .view import FactGroup

_TEMPLATES = Path(__file__).parent / "templates"
_SIGNS = {Exit.PASS: GOOD, Exit.INCONCLUSIVE: OPEN}


def render_html(outcome: GateOutcome) -> str:
    """Return the page.

    It asks for nothing outside itself, and holds no time but those of the outcome: the same outcome gives
    the same bytes.
    """
    style, script = (_read("page.css") + _read("gate.css")), _read("page.js")
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fragment": to_fragment, "unbroken": keep_units}
    shown = show_cases(outcome)
    return environment.get_template("gate.html").render(
        title=title_of(outcome),
        sign=_SIGNS.get(outcome.exit, BAD),
        subtitle=_subtitle(outcome),
        summary=_summarise(outcome),
        cases=shown,
        verdicts=[verdict for verdict in ORDER if any(case.verdict is verdict for case in shown)],
        controls=show_controls(outcome),
        lines=_list_lines(outcome),
        facts=[group for group in _list_facts(outcome) if group.facts],
        methods=describe_gate(outcome),
        is_stored=is_stored(outcome),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _subtitle(outcome: GateOutcome) -> list[str]:
    sides = [f"head {tell_side(outcome.head)}", f"base {tell_side(outcome.base)}"]
    return [*sides, *filter(None, [plain(outcome.started)])]


def _summarise(outcome: GateOutcome) -> list[tuple[str, list[str]]]:
    """Return the lines on top of the page, each a term and its sentences."""
    found = {
        "Cases": [count_verdicts(outcome)],
        "Passes": tell_passes(outcome),
        "Sensitivity": [tell_insensitivity(outcome)],
        "Controls": list(tell_controls(outcome)),
        "Exit code": [tell_exits(outcome)],
        "Notes": list(map(plain, outcome.notes)),
    }
    told = ((term, [_sentence(text) for text in texts if text]) for term, texts in found.items())
    return [(term, sentences) for term, sentences in told if sentences]


def _sentence(text: str) -> str:
    return sentence(text) + ("" if text.endswith((".", "?", "!")) else ".")


def _list_lines(outcome: GateOutcome) -> list[tuple[str, str]]:
    """Return the role and the meaning of each line that crosses a drawing."""
    wall = share_in(outcome.policy, "wall_margin") or 0.0
    if is_stored(outcome):
        margin = share_in(outcome.policy, "baseline_margin") or 0.0
        coarse = f" ({setting(wall)} by the wall)" if wall > margin else ""
        return [("zero", "equal times"), ("margin", f"margin, {setting(margin)}{coarse}")]
    meanings = {
        "margin": ("margin", share_in(outcome.policy, "margin"), wall),
        "detect": (
            "slowdown that the first stage must exclude",
            share_in(outcome.policy, "detect"),
            WALL_DETECT * wall,
        ),
    }
    told = [
        (role, f"{words}, {setting(share)}" + (f" ({setting(coarse)} by the wall)" if coarse else ""))
        for role, (words, share, coarse) in meanings.items()
        if share
    ]
    return [("zero", "equal times"), *told]


def _list_facts(outcome: GateOutcome) -> Iterator[FactGroup]:
    """Yield both sides, the machine and the policy, every fact of them."""
    parts: dict[str, Mapping[str, Any]] = {
        "base": outcome.base,
        "head": outcome.head,
        "machine": outcome.machine,
        "stored baseline" if is_stored(outcome) else "twin processes": outcome.twins,
    }
    for title, facts in parts.items():
        pairs = ((plain(name), plain(value)) for name, value in list_facts(facts) if value)
        yield FactGroup(title, tuple(pairs))
    yield FactGroup("policy", list_settings(outcome.policy))


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name a text as a content security policy does: only this script and this style may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
