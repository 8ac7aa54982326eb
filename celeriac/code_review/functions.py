"""The functions of a module: methods, nested and async ones too, in the order of the source."""

from __future__ import annotations

import ast
from typing import TypedDict

from celeriac.code_review import syntax


class Function(TypedDict):
    """A function definition as it stands in the code."""

    name: str
    args: list[str]
    body: str  #: its source, from `def` to its last line
    lineno: int
    lines: int


def extract_functions(code: str) -> list[Function]:
    """Extract the function definitions of Python code; ValueError when it is not Python."""
    found = definitions(syntax.parse(code))
    source = syntax.lines(code)
    return [_function(node, source) for node in found]


def definitions(tree: ast.Module) -> list[syntax.FunctionNode]:
    """Every `def` of a module, wherever it stands."""
    found = [node for node in ast.walk(tree) if isinstance(node, syntax.FunctionNode)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def arguments(node: syntax.FunctionNode) -> list[str]:
    """The names of all parameters, starred as they are written."""
    args = node.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    names += [f"*{args.vararg.arg}"] if args.vararg else []
    names += [arg.arg for arg in args.kwonlyargs]
    names += [f"**{args.kwarg.arg}"] if args.kwarg else []
    return names


def _function(node: syntax.FunctionNode, source: list[str]) -> Function:
    first, last = node.lineno, node.end_lineno or node.lineno
    return {
        "name": node.name,
        "args": arguments(node),
        "body": "\n".join(source[first - 1 : last]),
        "lineno": first,
        "lines": last - first + 1,
    }
