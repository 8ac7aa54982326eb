"""The words of an expression."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from engine.core import values
from engine.core.expressions.frame import ExpressionError
from engine.core.values import Json

#: Characters of source.
MAX_SOURCE = 4096


class Token(NamedTuple):
    """One word: `number`, `text`, `root` (`$name`), `word`, `symbol` or `end`."""

    kind: str
    text: str
    position: int
    value: Json = None


def read(source: str) -> list[Token]:
    """Cut an expression into words, the last of them `end`."""
    if len(source) > MAX_SOURCE:
        raise ExpressionError(
            f"an expression of {len(source)} characters; {MAX_SOURCE} are the most",
            MAX_SOURCE,
            "shorten it, or compute the value in a function",
        )
    for problem in values.problems(source):
        raise ExpressionError(problem.message, 0, problem.remedy)
    found = []
    position = _SPACE.match(source, 0).end()  # type: ignore[union-attr]  # matches nothing too
    while position < len(source):
        match = _WORD.match(source, position)
        if match is None:
            raise _unreadable(source, position)
        found.append(_token(match))
        position = match.end()
    found.append(Token("end", "", len(source)))
    return found


_SPACE = re.compile(r"\s*")
_WORD = re.compile(
    r"""(?: (?P<number> [0-9]+ (?:\.[0-9]+)? (?:[eE][+-]?[0-9]+)? (?![A-Za-z0-9_]) )
          | (?P<text>   "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
          | (?P<root>   \$ [A-Za-z_][A-Za-z0-9_]* )
          | (?P<word>   [A-Za-z_][A-Za-z0-9_]* )
          | (?P<symbol> \|\| | && | [=!<>]= | [-+*/%<>!()\[\].,] )
        ) \s*""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


def _token(match: re.Match[str]) -> Token:
    kind = str(match.lastgroup)
    text, position = match[kind], match.start(kind)
    match kind:
        case "number":
            return Token(kind, text, position, _number(text, position))
        case "text":
            return Token(kind, text, position, _text(text, position))
        case "root":
            return Token(kind, text[1:], position)
        case _:
            return Token(kind, text, position)


def _number(text: str, position: int) -> int | float:
    number: int | float = int(text) if text.isdigit() else float(text)
    if abs(number) > values.MAX_INTEGER and isinstance(number, int):
        raise ExpressionError("an integer beyond 64 bits", position, "write a smaller one")
    if not math.isfinite(number):
        raise ExpressionError("a number too large to hold", position, "write a smaller one")
    return number


def _text(quoted: str, position: int) -> str:
    def escaped(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPED:
            raise ExpressionError(
                f"\\{match[1]} is not an escape",
                position + 1 + match.start(),
                "write \\\\ for a backslash; \\\" \\' \\n \\t \\r are the others",
            )
        return _ESCAPED[match[1]]

    return _ESCAPE.sub(escaped, quoted[1:-1])


def _unreadable(source: str, position: int) -> ExpressionError:
    char = source[position]
    if char in "\"'":
        return ExpressionError("the text is not closed", position, f"close it with {char}")
    if char == "$":
        return ExpressionError("no name follows $", position, "write $name")
    if char.isdigit():
        return ExpressionError("not a number", position, "a name begins with a letter or _")
    remedy = {"=": "write == to compare", "&": "write and", "|": "write or"}.get(char, "remove it")
    return ExpressionError(f"unexpected {char!r}", position, remedy)
