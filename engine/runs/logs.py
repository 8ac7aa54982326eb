"""The log of a running attempt, written a few lines at a time: what its code prints, and what models say.

What a model says is kept as it comes, in pieces that are no lines: their stream is `tokens`, and they
name the call of the step that they are said in. Put together in their order they are its text. A piece
that comes after a while is shown at once, those that follow it closely are shown together.
"""

from __future__ import annotations

import threading
import time

import structlog

from engine.errors import Unavailable
from engine.platform import Platform
from engine.runs.attempts import Leased
from engine.store import logs, session

_log = structlog.get_logger(__name__)

TOKENS = "tokens"
#: Lines are written when so many wait, or the oldest has waited so long.
_LINES = 100
_SECONDS = 0.3
#: Characters that models say in an attempt and that are shown; the answers themselves are whole.
_SAID = 1_048_576
_ENOUGH = "\n… (no more of it is shown here)"


class Log:
    """Takes lines as they are printed; whoever follows the run is told of each batch."""

    def __init__(self, platform: Platform, lease: Leased) -> None:
        self._platform = platform
        self._lease = lease
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str, int | None]] = []
        self._written = 0
        self._since = 0.0
        #: Monotonic seconds: when something was written last.
        self._flushed = 0.0
        self._said = 0

    def add(self, stream: str, line: str) -> None:
        """Keep one line of `stdout` or `stderr`."""
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append((stream, _storable(line), None))
            due = len(self._waiting) >= _LINES or time.monotonic() - self._since >= _SECONDS
        if due:
            self.flush()

    def say(self, call: int, text: str) -> None:
        """Keep some words that a model says in a call of the step."""
        with self._lock:
            left = _SAID - self._said
            if not text or left < 0:
                return
            self._said += len(text)
            text = _storable(text if len(text) <= left else text[:left] + _ENOUGH)
            if self._waiting and self._waiting[-1][::2] == (TOKENS, call):
                text = self._waiting.pop()[1] + text
            elif not self._waiting:
                self._since = time.monotonic()
            self._waiting.append((TOKENS, text, call))
            now = time.monotonic()
            due = now - self._since >= _SECONDS or now - self._flushed >= _SECONDS
        if due:
            self.flush()

    @property
    def wrote(self) -> bool:
        """Whether anything of it lies in the database."""
        return self._written > 0

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            if not self._waiting:
                return
            self._flushed = time.monotonic()
            try:
                with session.transaction(self._platform.database) as connection:
                    logs.append(
                        connection,
                        self._lease.step,
                        self._lease.attempt,
                        self._written,
                        self._waiting,
                    )
            except Unavailable as error:
                # The lines stay for the next flush: no result is lost for its log.
                _log.warning("log.delayed", lines=len(self._waiting), error=str(error))
                self._since = time.monotonic()
                return
            self._written += len(self._waiting)
            self._waiting = []
        self._platform.live.publish([self._lease.step.run_id])


def _storable(text: str) -> str:
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
