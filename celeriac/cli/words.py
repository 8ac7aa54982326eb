"""What models say, put together to lines: it comes in pieces that are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from celeriac.client import LogLine

_TOKENS = "tokens"
_Attempt = tuple[str, int]


class Words:
    """The lines of a log; words of a model are held back until their line is whole."""

    def __init__(self) -> None:
        #: Of each attempt, what was said behind the last end of a line.
        self._begun: dict[_Attempt, LogLine] = {}

    @property
    def now(self) -> str:
        """The end of what is being said at the moment; empty where nobody says anything."""
        last = next(reversed(self._begun.values()), None)
        return "" if last is None else last.text

    def take(self, told: LogLine) -> Iterator[LogLine]:
        """The lines that are whole by now."""
        attempt = (told.step, told.attempt)
        begun = self._begun.get(attempt)
        if told.stream != _TOKENS:
            yield from self.rest(told.step)
            yield told
            return
        if begun is not None and begun.call != told.call:
            yield from self.rest(told.step)
            begun = None
        *whole, rest = ((begun.text if begun else "") + told.text).split("\n")
        for text in whole:
            yield replace(told, text=text)
        self._begun.pop(attempt, None)
        if rest:
            self._begun[attempt] = replace(told, text=rest)

    def rest(self, step: str | None = None) -> Iterator[LogLine]:
        """What was said without the end of a line, by a step or by all: there comes no more of it."""
        for attempt in [one for one in self._begun if step in {None, one[0]}]:
            yield self._begun.pop(attempt)
