"""The log of a running attempt, written a few lines at a time."""

from __future__ import annotations

import threading
import time

import structlog

from engine.errors import Unavailable
from engine.platform import Platform
from engine.runs.attempts import Leased
from engine.store import logs, session

_log = structlog.get_logger(__name__)

#: Lines are written when so many wait, or the oldest has waited so long.
_LINES = 100
_SECONDS = 0.3


class Log:
    """Takes lines as they are printed; whoever follows the run is told of each batch."""

    def __init__(self, platform: Platform, lease: Leased) -> None:
        self._platform = platform
        self._lease = lease
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str]] = []
        self._written = 0
        self._since = 0.0

    def add(self, stream: str, line: str) -> None:
        """Keep one line of `stdout` or `stderr`."""
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append((stream, line.replace("\x00", "�")))
            due = len(self._waiting) >= _LINES or time.monotonic() - self._since >= _SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            if not self._waiting:
                return
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
