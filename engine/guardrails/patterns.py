"""Names with `*` in them and regular expressions, matched in time linear in the text.

Both are strangers' patterns: RE2 runs them, which knows no backtracking. What it is given to
compile is bounded first, and what it makes of it is bounded too, because time for a match is
the product of that and the text.
"""

from __future__ import annotations

from collections.abc import Iterable

import re2

#: Characters of a regular expression.
MAX_SOURCE = 500
#: Instructions that it may compile to; `\\d{3}-\\d{2}-\\d{4}` has 17.
MAX_PROGRAM = 1000
_MEMORY = 1 << 18  #: bytes that RE2 may take for one


class PatternError(ValueError):
    """The text is no regular expression that can be used here."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Pattern:
    """A compiled regular expression; equal to every other one of the same text."""

    __slots__ = ("_found", "size", "source")

    def __init__(self, source: str) -> None:
        """Raises `PatternError`."""
        if not source:
            raise PatternError("an empty regular expression", "write one, such as \\d{3}-\\d{4}")
        if len(source) > MAX_SOURCE:
            raise PatternError(
                f"a regular expression of {len(source)} characters; {MAX_SOURCE} are the most",
                "shorten it, or write several rules",
            )
        options = re2.Options()
        options.max_mem, options.log_errors = _MEMORY, False
        try:
            found = re2.compile(source, options)
        except re2.error as error:
            raise PatternError(f"not a regular expression: {_said(error)}", _REMEDY) from None
        if found.programsize > MAX_PROGRAM:
            raise PatternError(
                "a regular expression that takes too long to match", "write smaller repetitions"
            )
        self.source = source
        #: Instructions: what looking at one character of a text may cost.
        self.size = int(found.programsize)
        self._found = found

    def matches(self, text: str) -> bool:
        """Whether any part of a text matches."""
        return self._found.search(text) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"


class Names:
    """Some names, or what they look like: `*` is any characters."""

    __slots__ = ("_exact", "_like", "given")

    def __init__(self, given: Iterable[str]) -> None:
        self.given = tuple(given)
        self._exact = frozenset(name for name in self.given if "*" not in name)
        self._like = tuple(tuple(name.split("*")) for name in self.given if "*" in name)

    def __contains__(self, name: str) -> bool:
        return name in self._exact or any(_alike(name, parts) for parts in self._like)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names) and other.given == self.given

    def __hash__(self) -> int:
        return hash(self.given)

    def __repr__(self) -> str:
        return f"Names({self.given!r})"


_REMEDY = "RE2 has no look-around and no backreferences: github.com/google/re2/wiki/Syntax"


def _said(error: Exception) -> str:
    said = error.args[0]
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _alike(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a name has these parts in this order, the first and the last at its ends."""
    first, *middle, last = parts
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    position, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
