"""A thread to spare, for tenants of whom a worker carries nothing out while all its threads are at work.

Lanes (`engine.lanes`) keep tenants from waiting behind each other's messages, not from waiting for a thread:
where one floods, every thread is at a step of his, and steps take as long as they take. So a worker whose
threads are all at work looks, by itself, for messages of tenants of whom it is at no step. What it finds it
carries out with one thread more, as the Celery task that it is, one at a time: it goes on with nothing
(`workers.succession`), but looks anew for who is left out by then. Turns take no time, and may be what a tenant
who is left out waits for: it takes those of anybody.

A message is taken out of its queue to be looked at. What is not for this thread is put back where it was: that
of a tenant whom the worker is at a step of, one that came as a thread had become free, any of a queue that the
worker does not consume or has been told to leave alone, and all once it is to end. It needs a Redis for its
broker, and a worker of two threads or more: who has asked for one at a time gets that.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import structlog

from engine import envelope
from engine.broker import EXECUTE_STEP, TAKE_TURNS
from engine.envelope import Lists
from workers.succession import Threads

#: How long it waits for the threads to be at work, and for a message, before it looks anew; seconds.
LOOK = 0.25

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Relief:
    """Looks from `start` to `close`."""

    lists: Lists
    threads: Threads
    queues: Sequence[str]
    #: Queues that were found to have nothing for this thread next.
    _passed: set[str] = field(default_factory=set)
    _closed: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._work, name="relief", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking, and wait for what it is at, as the pool does for its threads: unless that is cut short."""
        self._closed.set()
        while self._thread is not None and not self.threads.are_cut_short():
            self._thread.join(timeout=LOOK)
            if not self._thread.is_alive():
                return

    def _work(self) -> None:
        away = False
        while not self._closed.is_set():
            try:
                self._look()
                away = False
            except Exception as error:  # noqa: BLE001  # redis-py has many; the next look must come
                if not away:
                    _log.warning("relief.failed", error=repr(error))
                away = True
                self._closed.wait(LOOK)

    def _look(self) -> None:
        """Carry out one message, if all threads are at work and there is one for this."""
        if not self.threads.are_full(seconds=LOOK):
            return
        queues = [queue for queue in self.queues if self.threads.may_take(queue)]
        if not (looked := [queue for queue in queues if queue not in self._passed]):
            self._passed.clear()
            self._closed.wait(LOOK)
            return
        # In any order: none of them is to wait for another.
        found = self.lists.take(random.sample(looked, len(looked)), seconds=LOOK)
        if found is None:
            self._passed.clear()
            return
        queue, text = found
        if self._is_for_this(queue, text) and self.threads.receive(text):
            self._passed.clear()
        else:
            self._passed.add(queue)
            self.lists.put_back(queue, text)

    def _is_for_this(self, queue: str, text: bytes) -> bool:
        if self._closed.is_set() or not self.threads.may_take(queue):
            return False
        if not self.threads.are_full(seconds=0):
            return False
        try:
            body, headers, _ = envelope.opened(text)
            task = str(headers["task"])
            asked = _tenants(task, body)
        except (LookupError, TypeError, ValueError):
            # The consumer knows what to do with what is no message of ours.
            return False
        if task == TAKE_TURNS:
            return True
        # Whoever's turns are taken may have a step in that thread next.
        served = {tenant for at in self.threads.at() for tenant in _tenants(*at)}
        return task == EXECUTE_STEP and not asked & served


def _tenants(task: str, body: bytes) -> set[str]:
    """Whose steps a message is for, if it is one of ours."""
    if task == EXECUTE_STEP:
        return {orjson.loads(body)[0][0]}
    return {tenant for tenant, _ in orjson.loads(body)[0][0]} if task == TAKE_TURNS else set()
