"""Changes that change nothing: what a gate must let pass, written into every page of the cases."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SUFFIX = "_renamed"
# Where names mean more than themselves, or where the parser does not tell their places.
_OPAQUE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.JoinedStr)


def comment(text: str) -> str:
    """Write a comment above every function of a page."""
    lines = text.splitlines(keepends=True)
    for row in sorted((_first_row(node) for node in _top(text) if isinstance(node, _Function)), reverse=True):
        lines.insert(row, "# What follows is what it was before.\n")
    return "".join(lines)


def shift(text: str) -> str:
    """Push everything below the docstring down by blank lines."""
    lines = text.splitlines(keepends=True)
    body = _top(text)
    if len(body) > 1:
        lines.insert(_first_row(body[1]), "\n" * 7)
    return "".join(lines)


def reorder(text: str) -> str:
    """Turn round the order of functions that follow each other and do not need each other to be defined."""
    lines = text.splitlines(keepends=True)
    for run in reversed(list(_runs(_top(text)))):
        names = {node.name for node in run}
        if len(run) > 1 and not any(names & _needed(node) for node in run):
            first, last = _first_row(run[0]), run[-1].end_lineno
            parts = ["".join(lines[_first_row(node) : node.end_lineno]) for node in reversed(run)]
            lines[first:last] = ["\n\n".join(part.rstrip("\n") + "\n" for part in parts)]
    return "".join(lines)


def rename(text: str) -> str:
    """Give the local variables of every function that can be renamed without doubt another name."""
    places = [place for node in ast.walk(ast.parse(text)) for place in _local_names(node)]
    lines = text.splitlines(keepends=True)
    for row, column, name in sorted(set(places), reverse=True):
        encoded = lines[row].encode()
        end = column + len(name.encode())
        lines[row] = (encoded[:end] + _SUFFIX.encode() + encoded[end:]).decode()
    return "".join(lines)


# "nothing" is the same commit on both sides.
NOOPS: Mapping[str, Callable[[str], str] | None] = {
    "nothing": None,
    "a comment": comment,
    "functions in another order": reorder,
    "local variables renamed": rename,
    "blank lines": shift,
}


def change(pages: Mapping[str, str], kind: str) -> dict[str, str]:
    """Return the pages that a kind of change writes anew."""
    edit = NOOPS[kind]
    return (
        {}
        if edit is None
        else {path: edited for path, text in pages.items() if (edited := edit(text)) != text}
    )


def _top(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def _first_row(node: ast.stmt) -> int:
    """Return the index of the first line, a decorator's where there is one."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)]) - 1


def _runs(body: list[ast.stmt]) -> Iterator[list[_Function]]:
    for is_function, nodes in groupby(body, key=lambda node: isinstance(node, _Function)):
        if is_function:
            yield [node for node in nodes if isinstance(node, _Function)]


def _needed(node: _Function) -> set[str]:
    """Name what a definition evaluates while the module is read."""
    now = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    return {name.id for part in now for name in ast.walk(part) if isinstance(name, ast.Name)}


def _local_names(function: ast.AST) -> Iterator[tuple[int, int, str]]:
    """Yield line, column and name wherever a function mentions a local variable, parameters left out."""
    if not isinstance(function, _Function):
        return
    inside = [node for statement in function.body for node in ast.walk(statement)]
    arguments = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    if any(isinstance(node, (*_OPAQUE, ast.Global, ast.Nonlocal)) for node in inside):
        return
    names = [node for node in inside if isinstance(node, ast.Name)]
    stored = {name.id for name in names if isinstance(name.ctx, ast.Store)} - arguments
    for name in names:
        if name.id in stored:
            yield name.lineno - 1, name.col_offset, name.id
