"""How long the platform takes to recover: until what was at stake when a fault struck has moved on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from sqlalchemy import Connection, Engine

from engine.errors import Unavailable
from engine.store import drills, session
from engine.store.drills import Stake

_LOOK = 0.1


class Recoveries:
    """Watches what recovers, each fault by itself, until `close`."""

    def __init__(self, database: Engine, executor: Executor) -> None:
        self._database = database
        self._executor = executor
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._watched = 0
        #: By kind of fault, how long the slowest recovery took, in seconds.
        self.slowest: dict[str, float] = {}

    def watch(self, kind: str, stake: Callable[[Connection], Stake]) -> None:
        """Begin to watch what is at stake now, in the background."""
        began = self.now()
        self._executor.submit(self._follow, kind, stake, began)

    def await_(self, kind: str, holds: Callable[[], bool]) -> None:
        """Begin to wait until something is so again, in the background."""
        self._executor.submit(self._wait, kind, holds, self.now())

    def pause(self, seconds: float) -> None:
        """Wait for so long; not, once all is to end."""
        self._closed.wait(seconds)

    def close(self) -> None:
        """Watch nothing any more; what has not recovered is not counted."""
        self._closed.set()

    @staticmethod
    def now() -> float:
        """Seconds, of a clock that nobody sets."""
        return time.monotonic()

    @property
    def watched(self) -> int:
        """How many faults have not been recovered from."""
        with self._lock:
            return self._watched

    def _follow(self, kind: str, stake: Callable[[Connection], Stake], began: float) -> None:
        found: list[Stake] = []

        def recovered() -> bool:
            with session.transaction(self._database) as connection:
                if not found:
                    found.append(stake(connection))
                return drills.unmoved(connection, found[0]) == 0

        self._wait(kind, recovered, began)

    def _wait(self, kind: str, holds: Callable[[], bool], began: float) -> None:
        with self._counted():
            while not self._closed.is_set():
                # The database may be away itself.
                with contextlib.suppress(Unavailable):
                    if holds():
                        with self._lock:
                            took = self.now() - began
                            self.slowest[kind] = max(took, self.slowest.get(kind, 0.0))
                        return
                self._closed.wait(_LOOK)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._watched += 1
        try:
            yield
        finally:
            with self._lock:
                self._watched -= 1
