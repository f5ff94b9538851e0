"""Traits as a table and as drawings: what operators are connected to, measured and not declared.

The table has the columns of Han et al. 2021 (arXiv 2106.04263, section 3), sparse connectivity, weight
sharing and dynamic weight, and beside them low rank, the other axis of their relation graph, and degree.
The renderers take the document of ``sameop traits --json``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .connections import HEIGHT, WIDTH, Connections, draw_connections, write_connections
from .escapes import one_line, to_markdown

_TEMPLATES = Path(__file__).parent / "templates"
COLUMNS = (
    "Operator",
    "Sparse in space",
    "Sparse in channels",
    "Shared over positions",
    "Shared over channels",
    "Dynamic weight",
    "Low rank in space",
    "Low rank in channels",
    "Degree",
    "Declaration",
)
# Figure 1 of the paper: its letter and name, and what an output of each reads.
PATTERNS = (
    ("a", "convolution", ("local",), "all"),
    ("b", "global attention and spatial mixing MLP", ("global",), "own"),
    ("c", "local attention and depth-wise convolution", ("local", "window"), "own"),
    ("d", "point-wise MLP or convolution", ("position",), "all"),
    ("e", "MLP (fully-connected layer)", ("global",), "all"),
)
OTHERS = "none of the five"
NO, YES = "–", "✓"
_SPACE = {"position": "own position", "window": "window", "local": "local", "global": None}
_CHANNELS = {"own": "own channel", "groups": "in groups", "all": None}


@dataclass(frozen=True)
class Shown:
    """An operator as it is shown: its cells in the order of the columns, and its connections."""

    name: str
    cells: tuple[str, ...]
    fine: bool
    reason: str
    sizes: str
    traits: str
    pattern: str
    connections: Connections | None
    plain: bool

    @property
    def on_map(self) -> bool:
        """Whether it was probed on a map, and not on a sequence."""
        return self.connections is not None and len(self.connections.grid) > 1

    @property
    def drawing(self) -> Markup:
        """Return the elements of the drawing; they hold numbers and nothing that a page names."""
        return Markup(draw_connections(self.connections)) if self.connections else Markup("")  # noqa: S704


@dataclass(frozen=True)
class Pattern:
    """A pattern of connections, and the operators that show it."""

    letter: str
    name: str
    operators: tuple[Shown, ...]

    @property
    def drawn(self) -> Shown | None:
        """Return the operator that is drawn for all: one with fixed weights of full rank, best on a map."""
        kinds = {(one.plain, one.on_map): one for one in reversed(self.operators)}
        return kinds[max(kinds)] if kinds else None

    @property
    def title(self) -> str:
        """Return letter and name."""
        return f"({self.letter}) {self.name}" if self.letter else self.name


def render_html(document: Mapping[str, Any]) -> str:
    """Return a page that asks for nothing outside itself."""
    shown = list_operators(document)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = "".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "traits.css"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("traits.html").render(
        columns=COLUMNS,
        operators=shown,
        patterns=group_patterns(shown),
        width=WIDTH,
        height=HEIGHT,
        style=style,
        style_hash=f"sha256-{digest}",
    )


def list_operators(document: Mapping[str, Any]) -> list[Shown]:
    """Return every operator of the document as it is shown."""
    return [_show(entry) for entry in document["traits"]]


def group_patterns(shown: Sequence[Shown]) -> list[Pattern]:
    """Sort the operators by pattern; those of none of the five come last, where there are any."""
    named = [
        Pattern(letter, name, tuple(one for one in shown if one.pattern == letter))
        for letter, name, _, _ in PATTERNS
    ]
    rest = tuple(one for one in shown if one.connections and not one.pattern)
    return [*named, *([Pattern("", OTHERS, rest)] if rest else [])]


def _show(entry: Mapping[str, Any]) -> Shown:
    probed, measured = entry["probed"], entry.get("measured")
    cells = _cells(probed, measured) if measured else [""] * (len(COLUMNS) - 2)
    return Shown(
        name=one_line(entry["operator"]),
        cells=(one_line(entry["operator"]), *cells, _declaration(entry)),
        fine=entry["verdict"] not in ("contradicted", "not probed"),
        reason=one_line(entry["reason"] or ""),
        sizes=one_line(" ".join(f"{name}={value}" for name, value in entry["dims"].items())),
        traits=_words(probed) if measured else "",
        pattern=_pattern(probed) if measured else "",
        connections=Connections.of(measured) if measured else None,
        plain=bool(measured) and probed["dynamic"] == "static" and not probed["low_rank"],
    )


def _words(probed: Mapping[str, Any]) -> str:
    """Return the traits in a line."""
    shared = (
        f"weights shared over {' and '.join(probed['sharing'])}" if probed["sharing"] else "nothing shared"
    )
    dynamic = probed["dynamic"] if probed["dynamic"] == "static" else f"dynamic {probed['dynamic']}"
    return f"{probed['space']}, {probed['channels']}; {shared}; {dynamic}"


def _pattern(probed: Mapping[str, Any]) -> str:
    for letter, _, spaces, channels in PATTERNS:
        if probed["space"] in spaces and probed["channels"] == channels:
            return letter
    return ""


def _cells(probed: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    sharing, degree = probed["sharing"], probed["degree"]
    channels = (
        "all" if "channels" in sharing else f"{measured['width']} each" if "groups" in sharing else None
    )
    return [
        _tick(_SPACE.get(probed["space"], probed["space"])),
        _tick(_CHANNELS.get(probed["channels"], probed["channels"])),
        YES if "positions" in sharing else NO,
        _tick(channels),
        _tick(None if probed["dynamic"] == "static" else probed["dynamic"]),
        *(
            _tick(_rank(measured, axis) if axis in probed["low_rank"] else None)
            for axis in ("space", "channels")
        ),
        "no polynomial" if degree is None else str(degree),
    ]


def _tick(words: str | None) -> str:
    return NO if words is None else f"{YES} {words}"


def _rank(measured: Mapping[str, Any], axis: str) -> str:
    rank = measured["ranks"][axis]
    return f"{rank['found']} of {rank['full']}"


def _declaration(entry: Mapping[str, Any]) -> str:
    if entry["verdict"] == "confirmed":
        return "as measured"
    if entry["verdict"] == "contradicted":
        wrong = (f"{field} {_plain(entry['declared'][field])}" for field in entry["contradicts"])
        return f"wrong: {'; '.join(wrong)}"
    return "none" if entry["verdict"] == "undeclared" else "not held against anything"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def render_markdown(document: Mapping[str, Any]) -> str:
    """Return the table, the patterns and the drawings as GitHub-flavoured Markdown."""
    return "\n".join(_markdown(list_operators(document))) + "\n"


def _markdown(shown: Sequence[Shown]) -> Iterator[str]:
    yield "## sameop: traits"
    yield ""
    yield CAPTION
    yield ""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + " --- |" * len(COLUMNS)
    for one in shown:
        yield "| " + " | ".join(map(to_markdown, one.cells)) + " |"
    yield ""
    for one in shown:
        if one.reason:
            yield f"- {to_markdown(one.name)}: {to_markdown(one.reason)}"
    for pattern in group_patterns(shown):
        yield ""
        yield f"### {pattern.title}"
        if not pattern.operators:
            yield ""
            yield NOBODY
        for one in pattern.operators:
            yield from _markdown_drawing(one)


def _markdown_drawing(one: Shown) -> Iterator[str]:
    assert one.connections is not None
    yield ""
    yield f"**{to_markdown(one.name)}**: {one.traits}; at {to_markdown(one.sizes)}. {one.connections.words}"
    yield ""
    yield "```text"
    yield from write_connections(one.connections)
    yield "```"


CAPTION = (
    "Measured from the programs: what an output reads is where its Jacobian in the input is not zero; "
    "weights are shared where it is equal as a function, and dynamic where it changes with the input."
)
NOBODY = "No operator shows it."

# Roles of the drawing with their colours on light and on dark ground, those of Okabe and Ito.
_COLOURS = {
    ".ground{fill:%s}": ("#fdfdfc", "#15171a"),
    "text{fill:%s}": ("#1d1d1f", "#e9e8e4"),
    ".soft{fill:%s}": ("#55565c", "#a9abb1"),
    ".bad{fill:%s}": ("#a33e00", "#ff9a5c"),
    ".rule{stroke:%s}": ("#dfdfda", "#31353b"),
    ".wire{stroke:%s}": ("#0072b2", "#56b4e9"),
    ".dot{stroke:%s}": ("#c4c4be", "#4d535b"),
    ".dot.read{stroke:%s}": ("#0072b2", "#56b4e9"),
    ".dot.output{stroke:%s}": ("#d55e00", "#e69f00"),
    ".cell{fill:%s}": ("#dfdfda", "#31353b"),
    ".cell.read{fill:%s}": ("#0072b2", "#56b4e9"),
    ".centre{stroke:%s}": ("#d55e00", "#e69f00"),
}
_SHAPES = (
    "text{font:400 12px -apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',Arial,sans-serif}"
    ".title{font-size:20px;font-weight:650}.head{font-size:15px;font-weight:650}.name{font-weight:650}"
    ".wire{fill:none;stroke-width:.8;opacity:.6}.dot{fill:none;stroke-width:4;stroke-linecap:round}"
    ".dot.read{stroke-width:5}.dot.output{stroke-width:7}.centre{fill:none;stroke-width:2}"
)


def render_svg(document: Mapping[str, Any]) -> str:
    """Return patterns, drawings and table as one picture for light and dark ground."""
    sheet = _Sheet()
    shown = list_operators(document)
    sheet.write("How outputs are connected to inputs, measured", "title", gap=16)
    sheet.y += 8
    for line in wrap(CAPTION, 170):
        sheet.write(line, "soft", gap=17)
    patterns = group_patterns(shown)
    sheet.head("Patterns of connections")
    sheet.panels([(pattern.title, pattern.drawn, _members(pattern)) for pattern in patterns])
    sheet.head("Operators")
    sheet.panels([(one.name, one, f"{one.traits}; at {one.sizes}") for one in shown if one.connections])
    sheet.head("Table")
    sheet.table(shown)
    return sheet.close()


def _members(pattern: Pattern) -> str:
    names = ", ".join(one.name for one in pattern.operators)
    return f"{names}; drawn is {pattern.drawn.name}" if pattern.drawn else NOBODY


class _Sheet:
    """A picture that grows downwards."""

    margin, across = 32, 3
    width = 2 * margin + across * 400

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = self.margin

    def write(self, text: str, role: str, gap: int, x: int = margin) -> None:
        """Write a line and go on beneath it."""
        self.y += gap
        self._text(x, self.y, text, role)

    def head(self, text: str) -> None:
        """Begin a part."""
        self.write(text, "head", gap=48)
        self.y += 12

    def panels(self, panels: Sequence[tuple[str, Shown | None, str]]) -> None:
        """Set drawings side by side, each with its title above and a text below."""
        for start in range(0, len(panels), self.across):
            row = panels[start : start + self.across]
            notes = [wrap(note, 52) for _, _, note in row]
            for column, ((title, shown, _), lines) in enumerate(zip(row, notes, strict=True)):
                self._panel(self.margin + column * 400, title, shown, lines)
            self.y += HEIGHT + 62 + 16 * max(len(lines) for lines in notes)

    def _panel(self, x: int, title: str, shown: Shown | None, lines: Sequence[str]) -> None:
        self._text(x, self.y + 16, title, "name")
        if shown and shown.connections:
            words = escape(f"{shown.name}: {shown.connections.words}")
            self.parts.append(
                f'<g transform="translate({x} {self.y + 28})"><title>{words}</title>{shown.drawing}</g>'
            )
        for number, line in enumerate(lines):
            self._text(x, self.y + HEIGHT + 50 + 16 * number, line, "soft")

    def table(self, shown: Sequence[Shown]) -> None:
        """Write a row for every operator."""
        places = [self.margin + place for place in (0, 236, 336, 446, 546, 646, 752, 846, 944, 1034)]
        headings = [wrap(column, 12) for column in COLUMNS]
        for x, heading in zip(places, headings, strict=True):
            for number, line in enumerate(heading):
                self._text(x, self.y + 16 + 16 * number, line, "soft")
        self.y += 42
        for one in shown:
            self.parts.append(f'<path class="rule" d="M{self.margin} {self.y}H{self.width - self.margin}"/>')
            lines = wrap(one.cells[-1], 28)
            for column, cell in enumerate(one.cells[:-1]):
                self._text(places[column], self.y + 18, cell, "" if column else "name")
            for number, line in enumerate(lines):
                self._text(places[-1], self.y + 18 + 16 * number, line, "soft" if one.fine else "bad")
            self.y += 10 + 16 * len(lines)

    def close(self) -> str:
        """Return the picture."""
        height = self.y + self.margin
        light, dark = ("".join(rule % pair[ground] for rule, pair in _COLOURS.items()) for ground in (0, 1))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height}" '
            f'width="{self.width}" height="{height}" role="img"><title>Traits of operators</title>'
            f"<style>{_SHAPES}{light}@media(prefers-color-scheme:dark){{{dark}}}</style>"
            f'<rect class="ground" width="100%" height="100%"/>{"".join(self.parts)}</svg>\n'
        )

    def _text(self, x: int, y: int, text: str, role: str) -> None:
        attribute = f' class="{role}"' if role else ""
        self.parts.append(f'<text x="{x}" y="{y}"{attribute}>{escape(text)}</text>')
