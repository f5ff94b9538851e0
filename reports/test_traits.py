"""Tables and drawings of traits show what was measured, and take names for data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from .connections import Connections, draw_connections, write_connections
from .traits import group_patterns, list_operators, render_html, render_markdown, render_svg

Document = Mapping[str, Any]
PROBED = {
    "space": "local",
    "channels": "own",
    "sharing": ["positions", "groups"],
    "dynamic": "per image",
    "low_rank": ["channels"],
    "degree": 2,
}
# Of a map of 3×5 with four channels, the third channel around the middle.
READ = ["0" * 15, "0" * 15, "01110" * 3, "0" * 15]
MEASURED = {
    "grid": [3, 5],
    "channels": ["1000", "0100", "0010", "0001"],
    "output": [2, 7],
    "read": READ,
    "width": 2,
    "ranks": {"space": {"found": 15, "full": 15}, "channels": {"found": 3, "full": 4}},
}
ENTRY: dict[str, Any] = {
    "operator": "tied",
    "declared": PROBED,
    "probed": PROBED,
    "verdict": "confirmed",
    "contradicts": [],
    "dims": {"B": 1, "C": 4},
    "reason": None,
    "measured": MEASURED,
}
UNREAD: dict[str, Any] = {
    **ENTRY,
    "operator": "unread",
    "verdict": "not probed",
    "probed": {},
    "dims": {},
    "reason": "It has no generator.",
}
del UNREAD["measured"]
RENDERERS = (render_html, render_markdown, render_svg)


def entry(**changes: Any) -> dict[str, Any]:
    """Return the entry with some measured traits changed."""
    return {**ENTRY, "probed": {**PROBED, **changes}}


def cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of an entry."""
    return list_operators({"traits": [one]})[0].cells


def test_cells_say_what_was_measured() -> None:
    """Every trait has its column, and what is not there is a dash."""
    assert cells(ENTRY) == (
        "tied",
        "✓ local",
        "✓ own channel",
        "✓",
        "✓ 2 each",
        "✓ per image",
        "–",
        "✓ 3 of 4",
        "2",
        "as measured",
    )
    dense = entry(space="global", channels="all", sharing=[], dynamic="static", low_rank=[], degree=None)
    assert cells(dense)[1:9] == ("–",) * 7 + ("no polynomial",)
    assert cells(entry(space="irregular", sharing=["channels"]))[1:5] == (
        "✓ irregular",
        "✓ own channel",
        "–",
        "✓ all",
    )


def test_declarations_are_held_against_what_was_measured() -> None:
    """A wrong declaration is shown beside the measured traits, which the other cells hold."""
    wrong = {
        **ENTRY,
        "declared": {**PROBED, "sharing": [], "degree": None},
        "verdict": "contradicted",
        "contradicts": ["sharing", "degree"],
    }
    assert cells(wrong)[-1] == "wrong: sharing none; degree none"
    assert cells({**ENTRY, "declared": {}, "verdict": "undeclared"})[-1] == "none"
    assert cells(UNREAD) == ("unread", *[""] * 8, "not held against anything")


@pytest.mark.parametrize(
    ("space", "channels", "letter"),
    [
        ("local", "all", "a"),
        ("global", "own", "b"),
        ("local", "own", "c"),
        ("window", "own", "c"),
        ("position", "all", "d"),
        ("global", "all", "e"),
        ("position", "own", ""),
        ("local", "groups", ""),
        ("irregular", "all", ""),
    ],
)
def test_patterns_are_those_of_the_figure(space: str, channels: str, letter: str) -> None:
    """What an operator reads decides its pattern; what is none of the five is listed apart."""
    shown = list_operators({"traits": [entry(space=space, channels=channels), UNREAD]})
    found = [pattern for pattern in group_patterns(shown) if pattern.operators]
    assert [pattern.letter for pattern in found] == [letter]
    assert [one.name for one in found[0].operators] == ["tied"]


def test_a_plain_operator_on_a_map_stands_for_a_pattern() -> None:
    """The drawing of a pattern shows fixed weights of full rank where an operator has them."""
    plain = {**entry(dynamic="static", low_rank=[]), "operator": "plain"}
    flat = {**plain, "operator": "sequence", "measured": {**MEASURED, "grid": [15]}}
    shown = list_operators({"traits": [ENTRY, flat, plain, {**plain, "operator": "later"}]})
    drawn = next(pattern.drawn for pattern in group_patterns(shown) if pattern.letter == "c")
    assert drawn is not None
    assert drawn.name == "plain"


def test_connections_are_cut_along_the_longest_axis() -> None:
    """The planes show the row through the output, or the column of a tall map; the map shows all of it."""
    wide = Connections.of(MEASURED)
    row = [False, True, True, True, False]
    assert (wide.axis, wide.along, wide.cut[2], wide.map) == (1, 2, row, [row] * 3)
    assert not any(map(any, (wide.cut[0], wide.cut[1], wide.cut[3])))
    tall = Connections((5, 3), 4, 2, 7, ["0" * 15, "000010010010000"])
    assert (tall.axis, tall.along, tall.cut[1]) == (0, 2, [False, True, True, True, False])
    assert wide.words == "One output reads 9 of 15 positions in 1 of 4 channels."
    assert write_connections(wide) == ["  ▼", "·····", "·····", "·■■■·", "·····"]


def test_a_drawing_has_a_line_for_every_input_that_is_read() -> None:
    """Lines, dots and cells are as many as there are inputs and outputs in the cut and in the map."""
    drawing = draw_connections(Connections.of(MEASURED))
    paths = {name: data.count("M") for name, data in re.findall(r'class="([^"]+)" d="([^"]+)"', drawing)}
    assert paths == {
        "wire": 3,
        "dot": 2 * 4 * 5 - 3 - 1,
        "dot read": 3,
        "dot output": 1,
        "cell": 6,
        "cell read": 9,
        "centre": 1,
    }
    sequence = Connections((5,), 1, 0, 0, ["11000"])
    assert "cell" not in draw_connections(sequence)
    places = [float(number) for number in re.findall(r"[\d.]+", re.sub(r"h0", "", drawing))]
    assert max(places) <= 320


@pytest.mark.parametrize("render", RENDERERS)
def test_everything_is_in_every_format(render: Callable[[Document], str]) -> None:
    """Operators, the five patterns and the column of each trait are in each."""
    text = render({"traits": [ENTRY, UNREAD]})
    for word in (
        "tied",
        "unread",
        "(a) convolution",
        "(e) MLP",
        "✓ per image",
        "✓ 3 of 4",
        "none of the five",
    ):
        assert (word in text) == (word != "none of the five")
    if render is not render_svg:
        assert "It has no generator." in text


@pytest.mark.parametrize("render", RENDERERS)
def test_nothing_leaves_a_drawing(render: Callable[[Document], str]) -> None:
    """No format loads or runs anything, and names are no markup."""
    attack = '<script>alert("1")</script>&<img src=x>'
    text = render({"traits": [{**ENTRY, "operator": attack, "dims": {attack: 1}}]})
    assert "<script" not in text
    assert "<img" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:,)", text)
    if render is render_svg:
        root = ET.fromstring(text)  # noqa: S314
        assert attack in [element.text for element in root.iter() if element.text]


def test_nothing_to_show_is_said() -> None:
    """Patterns that no operator shows say so, and an empty document is a page."""
    for render in RENDERERS:
        assert render({"traits": []}).count("No operator shows it.") == 5
