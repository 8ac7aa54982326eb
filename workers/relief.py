"""A thread to spare, for those of whom a worker carries nothing out while all its threads are at work.

Lanes (`engine.lanes`) keep tenants from waiting behind each other's messages, not from waiting for a thread:
where one floods, every thread is at a step of his, and steps take as long as they take. So a worker whose
threads are all at work looks, by itself, into the lanes of which it carries nothing out. What it finds there
it carries out with one thread more, as the Celery task that it is, one at a time: it goes on with nothing
(`workers.succession`), but looks anew for who is left out by then.

It takes nothing from a queue that the worker does not consume or has been told to leave alone, and nothing
once it is to end: what came in that moment is put back. It needs a Redis for its broker, and a worker of two
threads or more: who has asked for one at a time gets that.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from engine.envelope import Lists
from workers.succession import Threads

#: How long it waits for the threads to be at work, and for a message, before it looks anew; seconds.
LOOK = 1.0
#: And before it looks anew where nobody is left out.
BUSY = 0.1

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Relief:
    """Looks from `start` to `close`, which waits for what it is at."""

    lists: Lists
    threads: Threads
    #: The lanes of steps that it looks into.
    steps: Sequence[str]
    #: And the queues of turns: those take no time, so that nobody has a thread by being at one.
    turns: Sequence[str]
    _closed: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._work, name="relief", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking, once it has done what it is at."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        away = False
        while not self._closed.is_set():
            try:
                self._relieve()
                away = False
            except Exception as error:  # noqa: BLE001  # redis-py has many; the next look must come
                if not away:
                    _log.warning("relief.failed", error=repr(error))
                away = True
                self._closed.wait(LOOK)

    def _relieve(self) -> None:
        """Carry out one message, if all threads are at work and there is one for this."""
        if not self.threads.are_full(seconds=LOOK):
            return
        if not (left_out := self._left_out()):
            self._closed.wait(BUSY)
            return
        # In any order: none of them is to wait for another.
        found = self.lists.take(random.sample(left_out, len(left_out)), seconds=LOOK)
        if found is None:
            return
        queue, text = found
        # The threads may have come to it meanwhile.
        if self._closed.is_set() or queue not in self._left_out():
            self.lists.put_back(queue, text)
        else:
            self.threads.receive(text)

    def _left_out(self) -> Sequence[str]:
        """The queues that the worker takes from, and is at nothing of that takes time."""
        at = self.threads.at()
        left_out = (*self.turns, *(queue for queue in self.steps if queue not in at))
        return [queue for queue in left_out if self.threads.may_take(queue)]
