"""A worker that is connected, has threads to spare and takes nothing while work is due ends itself.

It has happened to Celery's consumers more than once: the process runs, answers `inspect` and beats,
and no message reaches it any more. What says so is not the process but the rows: steps of its queues
have been ready for so long, their messages were sent again meanwhile or are known to lie in the queue, and
it has heard none. Then
it logs a line, finishes what it is at, and ends with an exit status of its own; whoever supervises it
starts it again. Where messages are not sent at all (no coordinator runs, the database is away) a new
worker would take as little as the old one, and it stays.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from engine.errors import Unavailable
from engine.platform import Platform
from engine.runs import attempts
from engine.store.steps import Held

#: Exit status of a worker that ended itself: try again (`EX_TEMPFAIL`).
DEAF = 75
#: How long Celery may take to end once nothing is being carried out any more, in seconds.
_GRACE = 10.0

_log = structlog.get_logger(__name__)


class Pulse:
    """How many messages a worker is at, and when it heard one last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.at_work = 0
        #: Monotonic seconds.
        self.heard = time.monotonic()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """For the length of a message: one thread is at work."""
        with self._lock:
            self.at_work += 1
            self.heard = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.at_work -= 1


@dataclass(slots=True)
class _Due:
    """A step that nobody takes: since when it is known, and when it was seen to be sent again."""

    since: float
    sends: int
    resent: float | None = None


class Watchdog:
    """Looks from `start` to `close`; `bit` says whether it has ended the worker.

    `full`: whether all the threads are at work.
    """

    def __init__(
        self, platform: Platform, pulse: Pulse, *, queues: Sequence[str], full: Callable[[], bool]
    ) -> None:
        self._platform = platform
        self._pulse = pulse
        self._queues = tuple(queues)
        self._full = full
        self._seconds = platform.settings.stall_seconds
        self._look = min(10.0, self._seconds / 6)
        self._due: dict[Held, _Due] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watchdog", daemon=True)
        self.bit = False

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(self._look):
            try:
                if self._is_deaf():
                    self._end()
                    return
            except Unavailable:
                # Nobody could have taken anything.
                self._due.clear()
            except Exception:  # noqa: BLE001  # the next look must come
                _log.exception("watchdog.defect")

    def _is_deaf(self) -> bool:
        """Whether work that was sent again has waited for so long for a worker that could take it."""
        now = time.monotonic()
        if self._full() or now - self._pulse.heard < self._look:
            self._due.clear()
            return False
        found = attempts.unanswered(self._platform, self._queues)
        self._due = {
            held: self._due.get(held, _Due(since=now, sends=sends)) for held, sends in found.items()
        }
        for held, due in self._due.items():
            if due.resent is None and found[held] > due.sends:
                due.resent = now
        # What was sent just now may be on its way.
        return any(
            now - due.since >= self._seconds
            and due.resent is not None
            and now - due.resent >= self._look
            for due in self._due.values()
        )

    def _end(self) -> None:
        step = next(iter(self._due)).step
        _log.error(
            "worker.deaf",
            queues=self._queues,
            seconds=self._seconds,
            waiting=len(self._due),
            run=step.run,
            step=step.key,
            why="work is due and none reaches this worker; it ends, to be started again",
        )
        self.bit = True
        # Celery ends in order where it still hears that.
        os.kill(os.getpid(), signal.SIGTERM)
        while self._pulse.at_work:
            time.sleep(self._look)
        if not self._closed.wait(_GRACE):
            os._exit(DEAF)
