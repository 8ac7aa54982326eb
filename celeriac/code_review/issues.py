"""What is wrong with a function: one issue per kind, with the line where it is first seen."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypedDict

from celeriac.code_review import functions, metrics, syntax

MAX_LINES = 30
MAX_ARGUMENTS = 5
MAX_STRINGS = 2
#: A number is magic from two digits on, a string is worth a name from so many characters.
MAGIC_NUMBER = 10
STRING_LENGTH = 20
#: So many numbers a message names, and so many bits of a huge one.
SHOWN = 3
SHOWN_BITS = 64


class Issue(TypedDict):
    """One thing that is wrong. `line` counts from where the reviewed text begins."""

    type: str
    message: str
    severity: str
    function: NotRequired[str]
    line: NotRequired[int]


def detect_issues(func_body: str, func_name: str) -> list[Issue]:
    """Detect code smells in the source of a function; what is not Python is one issue."""
    try:
        scope = syntax.parse_function(func_body)
    except syntax.NotPythonError as error:
        return [syntax_error(error.message, function=func_name, line=error.line)]
    reading = _Reading(text=func_body, scope=scope, places=list(syntax.places(scope)))
    found: list[Issue] = []
    for kind, severity, rule in _RULES:
        if seen := rule(reading):
            found.append(
                {
                    "type": kind,
                    "message": seen.message,
                    "severity": severity,
                    "function": func_name,
                    "line": seen.line,
                }
            )
    return found


def syntax_error(message: str, *, function: str, line: int) -> Issue:
    """The issue of text that is not Python."""
    return {
        "type": "syntax_error",
        "message": f"Not Python: {message}. Correct line {line} first.",
        "severity": "high",
        "function": function,
        "line": line,
    }


def magic_numbers(places: Iterable[syntax.Place]) -> list[syntax.Place]:
    """Numbers of two digits or more that have no name."""
    return [
        place
        for place in places
        if isinstance(place.node, ast.Constant) and _is_magic(place.node.value) and not place.named
    ]


def hardcoded_strings(places: Iterable[syntax.Place]) -> list[syntax.Place]:
    """Long strings that have no name; docstrings and f-strings are none."""
    return [
        place
        for place in places
        if isinstance(place.node, ast.Constant)
        and isinstance(place.node.value, str)
        and len(place.node.value) >= STRING_LENGTH
        and type(place.parent).__name__ not in ("Expr", "JoinedStr", "TemplateStr")
        and not place.named
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    text: str
    scope: syntax.Scope
    places: list[syntax.Place]


class _Seen(NamedTuple):
    line: int
    message: str


def _long_function(reading: _Reading) -> _Seen | None:
    length = metrics.code_lines(reading.text)
    if length <= MAX_LINES:
        return None
    return _Seen(1, f"{length} lines, more than {MAX_LINES}. Consider splitting it up.")


def _magic_numbers(reading: _Reading) -> _Seen | None:
    if not (found := magic_numbers(reading.places)):
        return None
    numbers = dict.fromkeys(_number(place.node) for place in found)
    shown = ", ".join(list(numbers)[:SHOWN]) + (", …" if len(numbers) > SHOWN else "")
    return _Seen(_line(found[0]), f"Magic numbers found: {shown}. Consider named constants.")


def _too_many_args(reading: _Reading) -> _Seen | None:
    if isinstance(reading.scope, ast.Module):
        return None
    count = len(functions.arguments(reading.scope))
    if count <= MAX_ARGUMENTS:
        return None
    return _Seen(1, f"{count} arguments, more than {MAX_ARGUMENTS}. Consider one object for them.")


def _nested_loops(reading: _Reading) -> _Seen | None:
    return _first(
        [
            place
            for place in reading.places
            if place.looped and isinstance(place.node, syntax.LOOPS)
        ],
        "A loop inside a loop. Consider moving the inner one to a function of its own.",
    )


def _broad_exception(reading: _Reading) -> _Seen | None:
    return _first(
        [
            place
            for place in reading.places
            if isinstance(place.node, ast.ExceptHandler) and _is_broad(place.node.type)
        ],
        "Catches every exception. Consider catching those that are expected here.",
    )


def _unresolved_todos(reading: _Reading) -> _Seen | None:
    inner = [
        place.node
        for place in reading.places
        if isinstance(place.node, syntax.FunctionNode) and place.node is not reading.scope
    ]
    found = [
        line
        for line in _todos(reading.text)
        if not any(each.lineno <= line <= (each.end_lineno or line) for each in inner)
    ]
    if not found:
        return None
    return _Seen(found[0], f"TODO or FIXME comments: {len(found)}. Consider doing what they ask.")


def _print_statements(reading: _Reading) -> _Seen | None:
    calls = [
        place
        for place in reading.places
        if isinstance(place.node, ast.Call)
        and isinstance(place.node.func, ast.Name)
        and place.node.func.id == "print"
    ]
    return _first(calls, f"Calls of print: {len(calls)}. Consider logging.")


def _hardcoded_strings(reading: _Reading) -> _Seen | None:
    found = hardcoded_strings(reading.places)
    if len(found) <= MAX_STRINGS:
        return None
    return _first(found, f"Long strings in the code: {len(found)}. Consider named constants.")


_Rule = Callable[[_Reading], _Seen | None]

_RULES: tuple[tuple[str, str, _Rule], ...] = (
    ("long_function", "medium", _long_function),
    ("magic_numbers", "low", _magic_numbers),
    ("too_many_args", "medium", _too_many_args),
    ("nested_loops", "medium", _nested_loops),
    ("broad_exception", "medium", _broad_exception),
    ("unresolved_todos", "low", _unresolved_todos),
    ("print_statements", "low", _print_statements),
    ("hardcoded_strings", "low", _hardcoded_strings),
)

_TODO = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)", re.IGNORECASE)


def _first(found: list[syntax.Place], message: str) -> _Seen | None:
    return _Seen(_line(found[0]), message) if found else None


def _line(place: syntax.Place) -> int:
    return getattr(place.node, "lineno", 1)


def _number(node: ast.AST) -> str:
    value = node.value if isinstance(node, ast.Constant) else node
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS:
        # Python refuses to write out thousands of digits, and nobody would read them.
        return f"{value >> (value.bit_length() - SHOWN_BITS):#x}…"
    return repr(value)


def _is_magic(value: object) -> bool:
    # A bool is an int, but 1 at most.
    return isinstance(value, int | float) and abs(value) >= MAGIC_NUMBER


def _is_broad(caught: ast.expr | None) -> bool:
    match caught:
        case None:
            return True
        case ast.Name(id=name):
            return name in ("Exception", "BaseException")
        case ast.Tuple(elts=several):
            return any(_is_broad(each) for each in several)
        case _:
            return False


def _todos(text: str) -> Iterator[int]:
    if not _TODO.search(text):
        return
    source = io.StringIO("\n".join(syntax.lines(text)))
    # The tokeniser written in Python refuses a few odd texts that Python itself reads.
    with suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.COMMENT and _TODO.match(token.string):
                yield token.start[0]
