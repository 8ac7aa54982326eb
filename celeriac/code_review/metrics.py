"""How hard a function is to test (cyclomatic) and to follow (cognitive)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, TypedDict

from celeriac.code_review import syntax

Figure: TypeAlias = Literal["cyclomatic", "cognitive", "lines"]


class Complexity(TypedDict):
    """Figures of one function, or their averages over several."""

    cyclomatic: float
    cognitive: float
    lines: float


def calculate_complexity(func_body: str) -> Complexity:
    """Calculate the complexity of a function from its source; ValueError when it is not Python."""
    own = list(syntax.places(syntax.parse_function(func_body)))
    return {
        "cyclomatic": cyclomatic(own),
        "cognitive": sum(_turns(place) * (1 + place.depth) for place in own),
        "lines": code_lines(func_body),
    }


def cyclomatic(own: Iterable[syntax.Place]) -> int:
    """Ways through a function, from what is its own."""
    return 1 + sum(_branches(place.node) for place in own)


def code_lines(text: str) -> int:
    """Lines that are not blank."""
    return sum(1 for line in syntax.lines(text) if line.strip())


def average(results: Sequence[Complexity]) -> Complexity:
    """The figures of a module; all are 0 when it has no function."""
    count = max(len(results), 1)
    return {
        "cyclomatic": sum(each["cyclomatic"] for each in results) / count,
        "cognitive": sum(each["cognitive"] for each in results) / count,
        "lines": sum(each["lines"] for each in results) / count,
    }


def _branches(node: ast.AST) -> int:
    """How many of `if elif for while and or except with` a node writes."""
    match node:
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.match_case():
            return int(node.guard is not None)
        case ast.If() | ast.IfExp() | ast.For() | ast.AsyncFor() | ast.While():
            return 1
        case ast.ExceptHandler() | ast.With() | ast.AsyncWith():
            return 1
        case _:
            return 0


def _turns(place: syntax.Place) -> int:
    """How many of `if for while try` a node writes; each weighs more the deeper it stands."""
    match place.node:
        case ast.Try() | ast.TryStar():
            return 1
        case ast.If() if place.is_elif:
            return 0
        case ast.BoolOp() | ast.ExceptHandler() | ast.With() | ast.AsyncWith():
            return 0
        case node:
            return _branches(node)
