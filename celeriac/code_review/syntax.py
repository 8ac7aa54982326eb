"""Python source as a tree: read without running it, walked without recursion."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
#: What is reviewed as one: a function, or text that is none.
Scope: TypeAlias = FunctionNode | ast.Module

LOOPS = (ast.For, ast.AsyncFor, ast.While)

#: Python ends lines here and nowhere else; `str.splitlines` knows ten more ends.
LINE_END = re.compile(r"\r\n|\r|\n")


class NotPythonError(ValueError):
    """The text cannot be read as Python."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(f"line {line}: {message}; send source that Python itself can compile")
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node of a function's tree and where it stands."""

    node: ast.AST
    parent: ast.AST | None = None
    field: str = ""  #: of the parent
    depth: int = 0  #: blocks around it, the function's own included
    looped: bool = False  #: inside the body of a loop
    named: bool = False  #: inside the value of a constant, `LIMIT = …`
    fixed: bool = False  #: no name may stand here: in an f-string or a `case` pattern

    @property
    def is_elif(self) -> bool:
        return (
            isinstance(self.node, ast.If)
            and isinstance(self.parent, ast.If)
            and self.field == "orelse"
            and self.node.col_offset == self.parent.col_offset
        )


def lines(text: str) -> list[str]:
    """The lines of a text, without their ends."""
    return LINE_END.split(text)


def parse(code: str) -> ast.Module:
    """Read a module; raises `NotPythonError` for whatever Python cannot read."""
    try:
        with _filters, warnings.catch_warnings():
            # What Python thinks of an escape sequence is no matter for our own output.
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except SyntaxError as error:
        raise NotPythonError(error.msg, line=error.lineno or 1) from None
    except (RecursionError, MemoryError):
        raise NotPythonError("nested too deeply to be read", line=1) from None
    except ValueError as error:  # a NUL or a lone surrogate, by release of Python
        raise NotPythonError(str(error), line=1) from None


def parse_function(text: str) -> Scope:
    """Read the text of one function, indented or not; any other text is one scope as it is."""
    indented = text[:1] in (" ", "\t")
    tree = parse(f"if 1:\n{text}") if indented else parse(text)
    if indented:
        ast.increment_lineno(tree, -1)
    opening = tree.body[0] if tree.body else None
    body = opening.body if indented and isinstance(opening, ast.If) else tree.body
    match body:
        case [ast.FunctionDef() | ast.AsyncFunctionDef() as function]:
            return function
        case _:
            return tree


def places(scope: Scope) -> Iterator[Place]:
    """Every node that is the scope's own, from the top of the tree.

    What a function inside it holds belongs to that function, its decorators to this one.
    """
    waiting = [Place(node=scope, depth=-1 if isinstance(scope, ast.Module) else 0)]
    while waiting:
        place = waiting.pop()
        yield place
        inner = isinstance(place.node, FunctionNode) and place.node is not scope
        children = [
            _below(place, field, child)
            for field in (("decorator_list",) if inner else place.node._fields)
            for child in _nodes(place.node, field)
            if inner or field not in _NOT_OWN
        ]
        waiting.extend(reversed(children))


#: One at a time: overlapping `catch_warnings` in two threads would leave the filters changed.
_filters = threading.Lock()

_NOT_OWN = frozenset({"annotation", "returns", "type_params", "decorator_list", "ctx"})
_FIXED = frozenset({"JoinedStr", "TemplateStr", "MatchValue", "MatchMapping"})


def _nodes(node: ast.AST, field: str) -> Iterator[ast.AST]:
    value = getattr(node, field, None)
    for child in value if isinstance(value, list) else (value,):
        if isinstance(child, ast.AST):
            yield child


def _below(place: Place, field: str, child: ast.AST) -> Place:
    node = place.node
    found = Place(
        node=child,
        parent=node,
        field=field,
        depth=place.depth + isinstance(child, ast.stmt),
        looped=place.looped or (field == "body" and isinstance(node, LOOPS)),
        named=place.named or (field == "value" and _names_constant(node)),
        fixed=place.fixed or type(node).__name__ in _FIXED,
    )
    return replace(found, depth=place.depth) if found.is_elif else found


def _names_constant(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name.isupper()
        case _:
            return False
