"""Text made safe for a format: names come from files and users, and are never markup or formulas."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

# A spreadsheet takes a cell that starts like this for a formula; the wide forms are read like the others.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")

# A colon before a letter or a slash could begin a link or a named picture.
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$]|:(?=[\w/]))")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    # In brackets, so that they are no optional argument and no star behind the end of a line.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "µ": r"\textmu{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "÷": r"$\div$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "–": "--",
    "’": "'",
    "“": "``",
    "”": "''",
}


def one_line(text: str) -> str:
    """Join lines and drop what cannot be printed."""
    joined = " ".join(text.split())
    return "".join(letter for letter in joined if unicodedata.category(letter) not in ("Cc", "Cf"))


def to_csv(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would compute."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text


def to_markdown(text: str) -> str:
    """Escape what Markdown, or HTML within it, would read as markup."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", plain)


def to_latex(text: str) -> str:
    """Escape what LaTeX would read as a command; a letter that its fonts lack becomes its code."""
    line = one_line(text)
    return "".join(
        # Two hyphens or commas in a row would join into another sign.
        ("{}" if letter == before and letter in "-," else "") + (_LATEX.get(letter) or _latex_letter(letter))
        for before, letter in pairwise(" " + line)
    )


def _latex_letter(letter: str) -> str:
    # The letters up to U+017F (Latin Extended-A) are in every T1 font.
    if ord(letter) <= 0x17F:
        return letter
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain if plain.isalnum() else f"(U+{ord(letter):04X})"
