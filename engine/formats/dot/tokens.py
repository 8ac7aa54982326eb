"""The words and signs of a DOT text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.formats.dot import words

#: More than the largest workflow needs.
MAX_TOKENS = 300_000

_TOKEN = re.compile(
    r"""
      (?P<blank>(?:\s+|//[^\n]*|\#[^\n]*)+)
    | (?P<comment>/\*)
    | (?P<quoted>"[^"\\]*(?:\\.[^"\\]*)*")
    | (?P<word>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*
        |-?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?))
    | (?P<sign>->|--|[{}\[\];,=:+])
    | (?P<markup><)
    """,
    re.VERBOSE | re.DOTALL,
)
_ANGLE = re.compile(r"[<>]")
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A word, a text or a sign."""

    kind: str  #: `id`, `keyword`, `sign` or `end`
    text: str
    line: int


class NoToken(Exception):
    """What stands somewhere is no DOT."""

    def __init__(self, line: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.remedy = remedy


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, and one that says that it is over. Raises `NoToken`."""
    at, line, count = 0, 1, 0
    while at < len(text):
        count += 1
        if count > MAX_TOKENS:
            raise NoToken(line, f"more than {MAX_TOKENS} words and signs", "split the workflow")
        found = _TOKEN.match(text, at)
        if found is None:
            raise _unreadable(text, at, line)
        end = found.end()
        match found.lastgroup:
            case "comment":
                end = text.find("*/", end) + 2
                if end == 1:
                    raise NoToken(line, "a comment does not end", "write */")
            case "quoted":
                yield Token(kind="id", text=words.unquoted(found[0][1:-1]), line=line)
            case "word":
                kind = "keyword" if found[0].lower() in words.KEYWORDS else "id"
                yield Token(kind=kind, text=found[0], line=line)
            case "sign":
                yield Token(kind="sign", text=found[0], line=line)
            case "markup":
                end = _markup_end(text, at, line)
                yield Token(kind="id", text=_markup(text[at + 1 : end - 1]), line=line)
            case _:
                pass
        line += text.count("\n", at, end)
        at = end
    yield Token(kind="end", text="", line=line)


def _markup_end(text: str, start: int, line: int) -> int:
    """Where a text between angle brackets ends; they may be nested."""
    depth = 0
    for found in _ANGLE.finditer(text, start):
        depth += 1 if found[0] == "<" else -1
        if depth == 0:
            return found.end()
    raise NoToken(line, "a label in <…> does not end", "write >")


def _markup(text: str) -> str:
    """What a text with tags says."""
    return html.unescape(_TAG.sub(" ", text)).strip()


def _unreadable(text: str, at: int, line: int) -> NoToken:
    if text[at] == '"':
        return NoToken(line, "a text in quotes does not end", 'write "')
    return NoToken(line, f"{text[at]!r} cannot be read", "put names with signs in them in quotes")
