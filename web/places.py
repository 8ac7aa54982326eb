"""The places that streams and waiting requests take: fewer than there are threads.

A stream holds a thread for as long as it is open. Whatever may last therefore takes a place
first, and is turned away when none is left, so that threads remain for everything else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import Unavailable


class NoPlaceLeft(Unavailable):
    """As many streams and waiting requests are open as this process allows; try again shortly."""


class Place:
    """One taken place. Giving it back twice is the same as once."""

    def __init__(self, places: threading.Semaphore) -> None:
        self._places: threading.Semaphore | None = places
        self._lock = threading.Lock()

    def leave(self) -> None:
        with self._lock:
            places, self._places = self._places, None
        if places is not None:
            places.release()


class Places:
    """So many places."""

    def __init__(self, number: int) -> None:
        self._free = threading.BoundedSemaphore(number)

    def take(self) -> Place:
        """A place, to be left by the caller. Raises `NoPlaceLeft`, and never waits for one."""
        if not self._free.acquire(blocking=False):
            raise NoPlaceLeft
        return Place(self._free)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """A place for the length of a block."""
        place = self.take()
        try:
            yield
        finally:
            place.leave()
