"""Threads that go on: what follows from a step is the next task of the thread that has reported it.

A worker that takes turns itself knows what its report has made ready, and has taken it in the same commit
(`workers.execution`). A message of that would go to the broker and back to end at a thread like the one that
has just become free. So that thread is given it at once: the message as the broker would have carried it,
through Celery's own strategy, so that each step is a task of its own to Flower, `inspect` and `revoke`.

Others must not wait for that. A thread goes on for a moment; beyond it only while others are left to those
who come over the broker, and not for ever. It stops when the worker is told to stop, or to consume no more.
Meanwhile the message that it began with counts as the one that it is at: none is fetched for a thread that
is not free. Whether all are at work is known (`Threads`), so that one more may be spared (`workers.relief`).

This leans on Celery's ways to bring a pool and a request of one's own (`worker_pool`, `Task.Request`) and on
how a pool is called, in this file alone. With a stock pool nothing goes on, and messages carry every step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.concurrency import base, thread
from celery.worker import request, state
from celery.worker.consumer.tasks import Tasks
from kombu import message as kombu_message

from engine import envelope
from engine.envelope import Message

_StockPool: Any = thread.TaskPool
_ApplyResult: Any = getattr(thread, "ApplyResult")  # noqa: B009  # its types leave it out
_Carried: Any = kombu_message.Message
_RUNS: Any = getattr(bootsteps, "RUN")  # noqa: B009  # likewise

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
        #: Tasks that are given to threads, by their ids: what each is called, and its arguments as they came.
        self._at: dict[str, tuple[str, Any]] = {}
        #: Messages of the consumer whose threads are not free yet.
        self._taken = 0
        self._changed = threading.Condition()

    def gives(self) -> bool:
        """Whether a thread may be given what did not come by way of the consumer's own loop."""
        consumer = self.consumer
        if consumer is None or consumer.task_consumer is None or _ending():
            return False
        if consumer.blueprint.state != _RUNS:
            # It has lost the broker, or is about to end.
            return False
        # Where somebody has set a rate, the consumer's loop keeps it.
        return not any(consumer.task_buckets.values())

    def is_full(self, *, seconds: float) -> bool:
        """Whether each thread has a message within so many seconds."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._taken >= self.limit, seconds))

    def at(self) -> Sequence[tuple[str, Any]]:
        """The tasks that threads are at, each by its name and its body."""
        # In one go, whoever adds to them meanwhile.
        return tuple(self._at.values())

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
        name, task, _request, body = args[:4]
        self._at[task] = name, body
        succession = _current()
        if succession is not None:
            succession.heard = True
            self._carry_out(*applied)
            return None
        future = self.executor.submit(self._work, *applied)
        with self._changed:
            self._taken += 1
            if self._taken >= self.limit:
                self._changed.notify()
        future.add_done_callback(self._free)
        return _ApplyResult(future)

    def _free(self, _: Any) -> None:
        with self._changed:
            self._taken -= 1

    def _work(self, *applied: Any) -> None:
        succession = _here.succession = _Succession(pool=self)
        try:
            self._carry_out(*applied)
            while (following := succession.following) is not None:
                message, unheard = following
                succession.following = None
                succession.length += 1
                self._going.add(threading.get_ident())
                if not self._delivers(succession, _carried(message)):
                    unheard()
        finally:
            self._going.discard(threading.get_ident())
            _here.succession = None
            for acknowledge in succession.owed:
                acknowledge()

    def _carry_out(self, target: Any, args: Any, *others: Any) -> None:
        try:
            base.apply_target(target, args, *others)
        finally:
            # A message may come twice, its task under the same id.
            self._at.pop(args[1], None)

    def receive(self, message: Any) -> bool:
        """Carry out, in this thread, a message that came otherwise than to the consumer; whether that was done."""
        succession = _here.succession = _Succession(pool=self, goes_on=False)
        try:
            return self._delivers(succession, message)
        finally:
            _here.succession = None

    def _delivers(self, succession: _Succession, message: Any) -> bool:
        """Have a message carried out as Celery would; whether it was: it may have been revoked, say."""
        succession.heard = False
        # It goes once the worker has lost the broker, or is told to end.
        consumer = self.consumer
        try:
            if consumer is not None:
                strategy = consumer.strategies[message.headers["task"]]
                strategy(message, None, _nothing, _nothing, ())
        except Exception:  # noqa: BLE001  # whatever Celery, or a handler of its signals, raises
            _log.exception("task.defect", task=message.headers.get("argsrepr"))
        if not succession.heard:
            _log.info("task.unheard", task=message.headers.get("argsrepr"))
        return succession.heard


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

    def at(self) -> Sequence[tuple[str, Any]]:
        """The tasks that they are at, each by its name and its body."""
        return () if self.pool is None else self.pool.at()

    def are_cut_short(self) -> bool:
        """Whether the worker was told to end without waiting for them."""
        return _told(state.should_terminate)

    def receive(self, text: bytes) -> bool:
        """Carry out a message, in this thread, which is one more; its text is as it lay in its queue.

        Whether it was: where not, it is the consumer's.
        """
        return self.pool is not None and self.pool.receive(_received(text))


def go_on_in(app: Celery) -> Threads:
    """Have the threads of an app's worker go on. Call it before its tasks are made."""
    app.conf.worker_pool = f"{__name__}:{TaskPool.__name__}"
    app.Task.Request = f"{__name__}:{Request.__name__}"
    threads = Threads(app)

    class Known(bootsteps.StartStopStep):
        """A step of Celery's consumer, taken when it has its queues: its pool knows it."""

        requires = (Tasks,)

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
    return any(map(_told, (state.should_stop, state.should_terminate)))


def _told(status: int | bool | None) -> bool:  # noqa: FBT001  # as Celery has it
    """Whether it is an exit status, of which the best is 0."""
    return status is not None and status is not False


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
