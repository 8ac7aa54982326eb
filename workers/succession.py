"""Threads that go on: what follows from a step is the next task of the thread that has reported it.

A worker that takes turns itself knows what its report has made ready, and has taken it in the same commit
(`workers.execution`). A message of that would go to the broker and back to end at a thread like the one that
has just become free. So that thread is given it at once: the message as the broker would have carried it,
through Celery's own strategy, so that each step is a task of its own to Flower, `inspect` and `revoke`.

Others must not wait for that. A thread goes on for a moment; beyond it only while others are left to those
who come over the broker, and not for ever. It stops when the worker is told to stop, or to consume no more.
Meanwhile the message that it began with counts as the one that it is at: none is fetched for a thread that
is not free.

This leans on Celery's ways to bring a pool and a request of one's own (`worker_pool`, `Task.Request`) and on
how a pool is called, in this file alone. With a stock pool nothing goes on, and messages carry every step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.concurrency import base, thread
from celery.worker import request, state
from kombu import message as kombu_message

from engine import envelope
from engine.envelope import Message

_StockPool: Any = thread.TaskPool
_ApplyResult: Any = getattr(thread, "ApplyResult")  # noqa: B009  # its types leave it out
_Carried: Any = kombu_message.Message

_log = structlog.get_logger(__name__)

#: A thread goes on for so long, whoever waits; seconds.
MOMENT = 0.05
#: Tasks that a thread goes on with at the most, while others are left for what comes over the broker.
MOST = 50
#: One thread of so many is left for it.
LEFT = 8


@dataclass(slots=True)
class _Succession:
    """The tasks of one thread, from one that came over the broker on."""

    pool: TaskPool
    began: float = field(default_factory=time.monotonic)
    length: int = 0
    #: What the thread is to go on with, and what is to be done should nobody hear of it.
    following: tuple[Message, Callable[[], None]] | None = None
    #: Whether what it went on with last was begun.
    heard: bool = True
    #: What is acknowledged once the thread is free.
    owed: list[Callable[[], None]] = field(default_factory=list)


_here = threading.local()


def _current() -> _Succession | None:
    return getattr(_here, "succession", None)


def may_go_on() -> bool:
    """Whether this thread may be given another task when it has done the one that it is at."""
    succession = _current()
    return succession is not None and succession.pool.lets_go_on(succession)


def go_on(message: Message, *, unheard: Callable[[], None]) -> None:
    """Give this thread another task, once it has done the one that it is at.

    `unheard` is called should it not be carried out: it was revoked, say.
    """
    succession = _current()
    if succession is None:
        unheard()
        return
    succession.following = message, unheard


class Request(request.Request):
    """A task that is acknowledged when its thread is free, not before."""

    def acknowledge(self) -> None:
        succession = _current()
        if succession is not None and succession.following is not None:
            succession.owed.append(super().acknowledge)
        else:
            super().acknowledge()


class TaskPool(_StockPool):  # type: ignore[misc]  # distributed without types
    """Celery's pool of threads, whose threads may go on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.consumer: Any = None
        #: The threads that go on.
        self._going: set[int] = set()

    def lets_go_on(self, succession: _Succession) -> bool:
        """Whether a thread may be given another task."""
        consumer = self.consumer
        if consumer is None or consumer.task_consumer is None or _ending():
            return False
        if any(consumer.task_buckets.values()):
            # Somebody has set a rate; the consumer's own loop keeps it.
            return False
        if time.monotonic() - succession.began < MOMENT:
            return True
        free = self.limit - max(1, self.limit // LEFT)
        return succession.length < MOST and len(self._going) <= free

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> Any:
        """As the stock one does, but for what a thread goes on with: that is carried out at once."""
        applied = target, args, kwargs, callback, accept_callback
        succession = _current()
        if succession is None:
            return _ApplyResult(self.executor.submit(self._work, *applied))
        succession.heard = True
        base.apply_target(*applied)
        return None

    def _work(self, *applied: Any) -> None:
        succession = _here.succession = _Succession(pool=self)
        try:
            base.apply_target(*applied)
            while (following := succession.following) is not None:
                succession.following = None
                succession.length += 1
                self._going.add(threading.get_ident())
                self._deliver(succession, *following)
        finally:
            self._going.discard(threading.get_ident())
            _here.succession = None
            for acknowledge in succession.owed:
                acknowledge()

    def _deliver(
        self, succession: _Succession, message: Message, unheard: Callable[[], None]
    ) -> None:
        succession.heard = False
        try:
            strategy = self.consumer.strategies[message.task]
            strategy(_carried(message), None, _nothing, _nothing, ())
        finally:
            if not succession.heard:
                _log.info("task.unheard", task=message.title)
                unheard()


class _Known(bootsteps.StartStopStep):
    """A step of Celery's consumer: its pool knows it."""

    def start(self, c: Any) -> None:
        c.pool.consumer = c

    def stop(self, c: Any) -> None:
        c.pool.consumer = None


def go_on_in(app: Celery) -> None:
    """Have the threads of an app's worker go on. Call it before its tasks are made."""
    app.conf.worker_pool = f"{__name__}:{TaskPool.__name__}"
    app.Task.Request = f"{__name__}:{Request.__name__}"
    app.steps["consumer"].add(_Known)


def consumes(app: Celery, queue: str) -> bool:
    """Whether the worker of an app takes from a Celery queue, and nobody has told it to leave that alone."""
    return queue in app.amqp.queues.consume_from


def _ending() -> bool:
    return any(told not in (None, False) for told in (state.should_stop, state.should_terminate))


def _carried(message: Message) -> Any:
    headers = envelope.headers(message)
    return _Carried(
        body=envelope.body(message),
        content_type=envelope.CONTENT,
        content_encoding=envelope.ENCODING,
        headers=headers,
        properties={"correlation_id": headers["id"]},
        delivery_info={"exchange": "", "routing_key": message.queue},
        accept=[envelope.CONTENT],
    )


def _nothing(*_: Any) -> None:
    """There is nothing to acknowledge, and nothing to reject."""
