"""A slowdown planted into a copy of a side as source: whatever loads that side's code loads it too."""

from __future__ import annotations

import ast
import importlib.util
import io
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.bench.twins.called import Called
from harness.paper.errors import SameopError

_NAME = "_sameop_spend"
_IMPORT = f"from harness.bench.twins.burden import spend as {_NAME}"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class NotPlantedError(SameopError):
    """A call that runs no function into which anything could be planted."""


def plant(root: Path, called: Iterable[Called], nanoseconds: int, pages: Iterable[Path] = ()) -> Called:
    """Let one call spend so much more CPU time, and return the function that does.

    root: the folder of a copy, to which the files are relative. pages: folders of case packages in it, whose
    functions are taken last: what lies behind more imports tells more. Raises :class:`NotPlantedError`.
    """
    inside = [PurePosixPath(folder.resolve().relative_to(root.resolve())) for folder in pages]
    for function in _preferred(called, inside):
        source = _read(root / function.file)
        planted = source and _plant(source, function, nanoseconds // function.times)
        if source and planted:
            _write(root / function.file, source, planted)
            return function
    raise NotPlantedError(
        "No slowdown can be planted: the call runs no function written in Python in the project's own files; "
        "choose another case for the plant."
    )


def _preferred(called: Iterable[Called], pages: list[PurePosixPath]) -> list[Called]:
    """Sort the functions that run once per call first, then those outside of pages, then the deepest file."""

    def rank(function: Called) -> tuple[int, bool, int]:
        file = PurePosixPath(function.file)
        is_page = any(file.is_relative_to(folder) for folder in pages)
        return function.times, is_page, -len(file.parts)

    return sorted(called, key=rank)


@dataclass(frozen=True)
class _Source:
    """A file of Python. text: with its own ends of lines."""

    text: str
    encoding: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        """The lines as Python counts them."""
        return list(io.StringIO(self.text, newline=""))


def _read(path: Path) -> _Source | None:
    """Read a file of Python, None where it is none."""
    try:
        content = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
        return _Source(text, encoding, ast.parse(text))
    except (OSError, SyntaxError, ValueError):
        return None


def _plant(source: _Source, function: Called, nanoseconds: int) -> str | None:
    """Return the text with the slowdown, None where the function is not found or has no place for it."""
    found = _find(source.tree, function)
    if found is None:
        return None
    spent = _place(source, _after_docstring(found.body), f"{_NAME}({nanoseconds})")
    # From the end to the start, so that the places found before stay where they are.
    text = spent and _place(_Source(spent, source.encoding, source.tree), _start(source.tree), _IMPORT)
    return text if text and _is_sound(source, text, function, nanoseconds) else None


def _find(tree: ast.Module, function: Called) -> _Function | None:
    name = function.name.rpartition(".")[2]
    return next(
        (node for node in _functions(tree) if node.name == name and _first_line(node) == function.line), None
    )


def _functions(tree: ast.AST) -> Iterator[_Function]:
    return (node for node in ast.walk(tree) if isinstance(node, _Function))


def _first_line(node: ast.stmt) -> int:
    """Return the line of the first decorator, where there is one."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def _after_docstring(body: list[ast.stmt]) -> ast.stmt | None:
    """Return the first statement that is no docstring."""
    return body[_has_docstring(body)] if len(body) > _has_docstring(body) else None


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0]
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def _start(tree: ast.Module) -> ast.stmt | None:
    """Return the statement before which a module may import."""
    rest = tree.body[_has_docstring(tree.body) :]
    return next((node for node in rest if not _is_future(node)), None)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _place(source: _Source, before: ast.stmt | None, statement: str) -> str | None:
    """Return the text with a statement before another: on a line of its own where the other has one."""
    if before is None:
        return None
    lines = source.lines
    row = _first_line(before) - 1
    # A decorator's own place is behind its sign; where it stands, nothing else does.
    column = before.col_offset
    line = lines[row].encode()
    indent, rest = line[:column].decode(), line[column:].decode()
    if not indent.strip() and not _continues(lines, row):
        end = lines[row][len(lines[row].rstrip("\r\n")) :] or "\n"
        lines[row] = f"{indent}{statement}{end}{indent}{rest}"
    else:
        lines[row] = f"{indent}{statement}; {rest}"
    return "".join(lines)


def _continues(lines: list[str], row: int) -> bool:
    """Whether a line is the rest of the one above."""
    return row > 0 and lines[row - 1].rstrip("\r\n").endswith("\\")


def _is_sound(source: _Source, text: str, function: Called, nanoseconds: int) -> bool:
    """Whether the text says what it said before, and the slowdown."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    expected = ast.parse(source.text)
    found = _find(expected, function)
    assert found is not None
    call = ast.parse(f"{_NAME}({nanoseconds})").body
    found.body[_has_docstring(found.body) : 0] = call
    futures = [index for index, node in enumerate(expected.body) if _is_future(node)]
    at = max([int(_has_docstring(expected.body)), *(index + 1 for index in futures)])
    expected.body[at:at] = ast.parse(_IMPORT).body
    return ast.dump(tree) == ast.dump(expected)


def _write(path: Path, source: _Source, text: str) -> None:
    path.write_bytes(text.encode(source.encoding))
    # What Python compiled from the file within the same second could pass for what it is now.
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
