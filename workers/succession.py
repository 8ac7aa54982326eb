"""Threads that go on: what follows from a step is the next task of the thread that has reported it.

A worker that takes turns itself knows what its report has made ready, and has taken it in the same commit
(`workers.execution`). A message of that would go to the broker and back to end at a thread like the one that
has just become free. So that thread is given it at once: the message as the broker would have carried it,
through Celery's own strategy, so that each step is a task of its own to Flower, `inspect` and `revoke`.

Others must not wait for that. A thread goes on for a moment; beyond it only while others are left to those
who come over the broker, and not for ever. It stops when the worker is told to stop, or to consume no more.
Meanwhile the message that it began with counts as the one that it is at: none is fetched for a thread that
is not free. What the threads are at is known (`Threads`), so that one may be spared for those who are left out
(`workers.relief`).

This leans on Celery's ways to bring a pool and a request of one's own (`worker_pool`, `Task.Request`) and on
how a pool is called, in this file alone. With a stock pool nothing goes on, and messages carry every step.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
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
#: Where a request stands among what its target is called with.
_REQUEST = 2

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
    #: Whether another may follow; not where the thread is one to spare.
    goes_on: bool = True
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
        self._changed = threading.Condition()
        self._taken = 0
        #: Of which queues tasks are carried out, and how many.
        self._at: Counter[str] = Counter()

    def gives(self) -> bool:
        """Whether a thread may be given what did not come by way of the consumer's own loop."""
        consumer = self.consumer
        if consumer is None or consumer.task_consumer is None or _ending():
            return False
        # Where somebody has set a rate, the consumer's loop keeps it.
        return not any(consumer.task_buckets.values())

    def is_full(self, *, seconds: float) -> bool:
        """Whether each thread has a message within so many seconds."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._taken >= self.limit, seconds))

    def at(self) -> set[str]:
        """The queues of which something is being carried out."""
        with self._changed:
            return {queue for queue, number in self._at.items() if number}

    def lets_go_on(self, succession: _Succession) -> bool:
        """Whether a thread may be given another task."""
        if not succession.goes_on or not self.gives():
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
            with self._changed:
                self._taken += 1
                if self._taken >= self.limit:
                    self._changed.notify()
            return _ApplyResult(self.executor.submit(self._work, *applied))
        succession.heard = True
        self._carry_out(*applied)
        return None

    def _work(self, *applied: Any) -> None:
        succession = _here.succession = _Succession(pool=self)
        try:
            self._carry_out(*applied)
            while (following := succession.following) is not None:
                message, unheard = following
                succession.following = None
                succession.length += 1
                self._going.add(threading.get_ident())
                self._deliver(succession, _carried(message), unheard=unheard)
        finally:
            self._going.discard(threading.get_ident())
            _here.succession = None
            for acknowledge in succession.owed:
                acknowledge()
            with self._changed:
                self._taken -= 1

    def receive(self, message: Any) -> None:
        """Carry out, in this thread, a message that came otherwise than to the consumer."""
        succession = _here.succession = _Succession(pool=self, goes_on=False)
        try:
            # What nobody hears of is gone, as for the consumer; the sweeper sends what is due again.
            self._deliver(succession, message, unheard=_nothing)
        finally:
            _here.succession = None

    def _carry_out(self, target: Any, args: Any, *others: Any) -> None:
        queue = args[_REQUEST]["delivery_info"]["routing_key"]
        with self._changed:
            self._at[queue] += 1
        try:
            base.apply_target(target, args, *others)
        finally:
            with self._changed:
                self._at[queue] -= 1

    def _deliver(
        self, succession: _Succession, message: Any, *, unheard: Callable[[], None]
    ) -> None:
        succession.heard = False
        try:
            strategy = self.consumer.strategies[message.headers["task"]]
            strategy(message, None, _nothing, _nothing, ())
        finally:
            if not succession.heard:
                _log.info("task.unheard", task=message.headers["argsrepr"])
                unheard()


@dataclass(slots=True)
class Threads:
    """The threads of an app's worker, once it has begun."""

    app: Celery
    pool: TaskPool | None = None

    def are_full(self, *, seconds: float) -> bool:
        """Whether all of them are at work within so many seconds."""
        if self.pool is None:
            time.sleep(seconds)
            return False
        return self.pool.is_full(seconds=seconds)

    def may_take(self, queue: str) -> bool:
        """Whether they may take what comes from a queue: the worker has not been told otherwise."""
        return self.pool is not None and self.pool.gives() and consumes(self.app, queue)

    def at(self) -> Collection[str]:
        """The queues of which something is being carried out."""
        return () if self.pool is None else self.pool.at()

    def receive(self, text: bytes) -> None:
        """Carry out a message, in this thread, which is one more; its text is as it lay in its queue."""
        assert self.pool is not None
        self.pool.receive(_received(text))


def go_on_in(app: Celery) -> Threads:
    """Have the threads of an app's worker go on. Call it before its tasks are made."""
    app.conf.worker_pool = f"{__name__}:{TaskPool.__name__}"
    app.Task.Request = f"{__name__}:{Request.__name__}"
    threads = Threads(app)

    class Known(bootsteps.StartStopStep):
        """A step of Celery's consumer: its pool knows it."""

        def start(self, c: Any) -> None:
            c.pool.consumer = c
            threads.pool = c.pool

        def stop(self, c: Any) -> None:
            c.pool.consumer = None

    app.steps["consumer"].add(Known)
    return threads


def consumes(app: Celery, queue: str) -> bool:
    """Whether the worker of an app takes from a Celery queue, and nobody has told it to leave that alone."""
    return queue in app.amqp.queues.consume_from


def _ending() -> bool:
    return any(told not in (None, False) for told in (state.should_stop, state.should_terminate))


def _carried(message: Message) -> Any:
    headers = envelope.headers(message)
    properties = {
        "correlation_id": headers["id"],
        "delivery_info": {"exchange": "", "routing_key": message.queue},
    }
    return _kombu(envelope.body(message), headers, properties)


def _received(text: bytes) -> Any:
    return _kombu(*envelope.opened(text))


def _kombu(body: bytes, headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Any:
    return _Carried(
        body=body,
        content_type=envelope.CONTENT,
        content_encoding=envelope.ENCODING,
        headers=headers,
        properties=properties,
        delivery_info=properties["delivery_info"],
        accept=[envelope.CONTENT],
    )


def _nothing(*_: Any) -> None:
    """There is nothing to acknowledge, and nothing to reject."""
