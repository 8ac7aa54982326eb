"""The source of Python functions, as it travels to a platform.

Only a function's own text travels. What it would miss there is found here, before it is sent:
names from around it, decorators, `async`.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from engine.core.problem import Problem
from engine.core.source import MODULES
from engine.errors import Invalid

#: What source finds on the platform without an import.
GIVEN = frozenset(MODULES) | {
    *("Any", "ToolError", "WorkflowState", "agentic_common", "invoke", "tools")
}


def source_of(function: Callable[..., Any]) -> str:
    """The text of a function. Raises `Invalid` with everything that keeps it from travelling."""
    name = getattr(function, "__name__", repr(function))
    try:
        text = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError):
        raise _invalid(
            name, ["its source cannot be found; define it in a file, with def"]
        ) from None
    node = tree.body[0]
    if not isinstance(node, ast.FunctionDef):
        is_async = isinstance(node, ast.AsyncFunctionDef)
        complaint = "it is asynchronous; write it without async" if is_async else _UNNAMED
        raise _invalid(name, [complaint])
    if inspect.ismethod(function):
        raise _invalid(name, ["it is a method, and its object stays here; make it a function"])
    if complaints := [*_decorators(node), *_missing(node)]:
        raise _invalid(name, complaints)
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]) + "\n"


def name_in(source: str) -> str:
    """The name that source gives its function: that of the last one. Raises `Invalid`."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise _invalid("code", [f"it is not Python (line {error.lineno}); correct it"]) from None
    names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    if not names:
        raise _invalid("code", ["no function is defined; write def NAME(state): …"])
    return names[-1]


_UNNAMED = "it is not defined with def; give it a name and a body of its own"


def _decorators(node: ast.FunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called).rpartition(".")[2] != "tool":
            yield f"its decorator @{ast.unparse(called)} stays here; call what it does inside"


def _missing(node: ast.FunctionDef) -> Iterator[str]:
    """Names that the function reads and does not define."""
    # Annotations are not evaluated there, decorators do not travel.
    bare = _Bare().visit(ast.parse(ast.unparse(node)).body[0])
    bare.decorator_list = []
    text = ast.unparse(ast.fix_missing_locations(bare))
    wanted = dict.fromkeys(_globals(symtable.symtable(text, "<function>", "exec")))
    for name in wanted:
        if name != node.name and name not in GIVEN and not hasattr(builtins, name):
            yield f"{name} is defined outside of it; define it inside, or make it a tool"


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        outermost = table.get_type() == "module"
        if symbol.is_referenced() and (symbol.is_global() or outermost):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _globals(inner)


class _Bare(ast.NodeTransformer):
    """Takes annotations away."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(value=None)
        return self.generic_visit(node)


def _invalid(name: str, complaints: list[str]) -> Invalid:
    parts = [complaint.partition("; ") for complaint in complaints]
    return Invalid(
        [
            Problem(path=f"functions.{name}", message=message, remedy=remedy)
            for message, _, remedy in parts
        ],
        f"the function {name} cannot be sent to a platform",
    )
