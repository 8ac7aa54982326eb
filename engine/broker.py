"""Celery's brokers, as the platform uses them: to carry hints.

A message holds ids only and may be lost, doubled, delayed or reordered at no cost, because
whoever gets it reads the truth from Postgres and the sweeper sends again what went missing.
Sending therefore never raises and never waits long: a broker that is gone or mute costs at
most the socket timeouts below, and only those who send after their commit.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import structlog
from celery import Celery

from engine import lanes
from engine.envelope import Lists, Message, lists
from engine.errors import Unavailable
from engine.settings import Settings, redis_of
from engine.store.ids import RunId, StepId

#: Where steps go whose node names no queue.
STEPS = "steps"
COORDINATE = "coordinate"
#: The tasks that carry a step out, and take the turns of runs.
EXECUTE_STEP, TAKE_TURNS = "execute_step", "coordinate"

#: Where workers are nudged that take turns. Not among steps: a turn does not wait for those.
TURNS = f"{STEPS}:turns"
#: The lane of either for tenants with more runs to turn than others, and its name for coordinators.
BUSY = 1
BEHIND = lanes.name(COORDINATE, BUSY)
#: Nudges a second that a tenant may keep up, and by how many it may be ahead of that.
_PACE, _AHEAD = 20.0, 20.0

_SOCKET_TIMEOUT = 2.0
#: Runs that one message nudges for, at the most.
NUDGED_TOGETHER = 5
#: Nudges that the background takes at a time.
_TAKEN_TOGETHER = 100
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A step that is ready, with what Flower should show of it."""

    step: StepId
    workflow: str
    queue: str | None = None
    #: Which lane of that queue it waits in.
    lane: int = 0

    @property
    def address(self) -> str:
        """The Celery queue that it is sent to."""
        return lanes.name(self.queue or STEPS, self.lane)

    @property
    def message(self) -> Message:
        """What tells a worker so."""
        return Message(
            queue=self.address,
            task=EXECUTE_STEP,
            args=list(self.step),
            title=f"{_plain(self.workflow)} {self.step.key} run={self.step.run}",
        )


class Pace:
    """Tells tenants whose runs are nudged for more often than turns of one tenant should be taken.

    Turns are short, and their number in a second is what coordinators are made for; so what a process
    nudges for is a measure that asks nobody. A tenant that stays below it never waits behind one that
    does not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: Nudges of each tenant that its pace has not made up for, and when that was so.
        self._ahead: dict[str, tuple[float, float]] = {}

    def beyond(self, tenant: str) -> bool:
        """Whether a nudge, which is counted, is beyond the pace of its tenant."""
        now = self._clock()
        with self._lock:
            ahead, since = self._ahead.pop(tenant, (0.0, now))
            ahead = max(0.0, ahead - _PACE * (now - since)) + 1
            # The one that was counted last comes last; those before whom time has forgotten go.
            self._ahead[tenant] = min(ahead, 2 * _AHEAD), now
            while now - self._ahead[first := next(iter(self._ahead))][1] > 2 * _AHEAD / _PACE:
                del self._ahead[first]
        return ahead > _AHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Sends what the coordinator decided, after its commit."""

    app: Celery
    #: Where the broker is a Redis: a way to send much at once.
    lists: Lists | None = None
    #: What it was nudged for lately.
    pace: Pace = field(default_factory=Pace)
    #: Where runs are nudged for.
    turns: str = COORDINATE

    def send(self, hints: Sequence[Hint]) -> None:
        """Tell workers that steps are ready: one Celery task for each."""
        self._publish([hint.message for hint in hints])

    def nudge(self, runs: Sequence[RunId]) -> None:
        """Tell a coordinator, or a worker that takes turns, that runs have something waiting.

        Those of tenants with more of them than others have go into a lane of their own.
        """
        by_queue: dict[str, list[RunId]] = {}
        for run in runs:
            queue = lanes.name(self.turns, BUSY if self.pace.beyond(run.tenant) else 0)
            by_queue.setdefault(queue, []).append(run)
        self._publish(
            [
                Message(
                    queue=queue,
                    task=TAKE_TURNS,
                    args=[[list(run) for run in some]],
                    title=f"{len(some)} runs, {some[0].run} first",
                )
                for queue, those in by_queue.items()
                for some in _batches(those)
            ]
        )

    def lengths(self, queues: Sequence[str]) -> Mapping[str, int] | None:
        """How many messages wait in Celery queues; None where the broker does not say."""
        try:
            if self.lists is not None:
                return self.lists.lengths(queues)
            with self.app.connection_for_write() as connection:
                return {queue: length(connection, queue) for queue in queues}
        except Exception as error:  # noqa: BLE001  # each transport has errors of its own
            _log.warning("broker.unreachable", queues=len(queues), error=str(error))
            return None

    def _publish(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        try:
            if self.lists is not None:
                self.lists.push(messages)
            else:
                self._send(messages)
        except Exception as error:  # noqa: BLE001  # each transport has errors of its own
            # The rows stay ready and the events wait: the sweeper finds both.
            _log.warning("broker.unreachable", messages=len(messages), error=str(error))

    def _send(self, messages: Sequence[Message]) -> None:
        """The stock way, for every broker that there is."""
        with self.app.producer_or_acquire() as producer:
            for message in messages:
                self.app.send_task(
                    message.task,
                    args=[*message.args],
                    queue=message.queue,
                    argsrepr=message.title,
                    producer=producer,
                    ignore_result=True,
                    retry=False,
                )

    def close(self) -> None:
        """Close pooled connections."""
        if self.lists is not None:
            self.lists.close()
        self.app.close()


def connect(settings: Settings) -> Broker:
    """The broker of the settings. Connects to nothing yet."""
    return Broker(
        app=celery_app(settings),
        lists=lists(redis_of(settings.broker_url), timeout=_SOCKET_TIMEOUT),
        # Who takes the turn that makes a step ready goes on with it, as a rule: no second message is sent for that.
        turns=TURNS if settings.worker_turns else COORDINATE,
    )


class Nudger:
    """Nudges in the background, many runs together, so that nobody waits for it.

    `nudge` is called with what has gathered meanwhile; what it raises is the sweeper's to make up for.
    """

    def __init__(self, nudge: Callable[[Sequence[RunId]], object]) -> None:
        self._nudge = nudge
        # Bounded: with the broker mute it fills, and what does not fit is the sweeper's.
        self._waiting: queue.Queue[RunId | None] = queue.Queue(maxsize=10_000)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="nudger", daemon=True)
        self._thread.start()

    def nudge(self, run: RunId) -> None:
        """Ask for a nudge soon; returns at once."""
        try:
            self._waiting.put_nowait(run)
        except queue.Full:
            _log.warning("nudger.full", run=run.run)

    def nudge_all(self, runs: Sequence[RunId]) -> None:
        """Ask for a nudge of each soon; returns at once."""
        for run in runs:
            self.nudge(run)

    def close(self) -> None:
        """Send what is left, as far as a few seconds take it, then stop."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_SOCKET_TIMEOUT)
        self._thread.join(timeout=2 * _SOCKET_TIMEOUT)
        self._closed.set()

    def _work(self) -> None:
        while (run := self._waiting.get()) is not None and not self._closed.is_set():
            runs = [run]
            while len(runs) < _TAKEN_TOGETHER:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._do(runs)
                    return
                runs.append(following)
            self._do(runs)

    def _do(self, runs: Sequence[RunId]) -> None:
        try:
            self._nudge(in_turn(runs))
        except Unavailable as error:
            _log.warning("nudger.unavailable", runs=len(runs), error=str(error))
        except Exception:  # noqa: BLE001  # the next ones must come
            _log.exception("nudger.defect", runs=len(runs))


def in_turn(runs: Iterable[RunId]) -> list[RunId]:
    """Runs, each once: first one of every tenant, then another of each, and so on."""
    found: list[tuple[int, RunId]] = []
    for _, some in groupby(sorted(set(runs)), key=lambda run: run.tenant):
        found += enumerate(some)
    return [run for _, run in sorted(found)]


def length(connection: Any, queue: str) -> int:
    """How many messages wait in a Celery queue, whatever the broker."""
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:
            # On Redis a queue in which nothing waits is none.
            return 0


def _plain(name: str) -> str:
    """A name as it may stand in a message: JSON makes twelve bytes of an emoji."""
    return name.encode("ascii", "replace").decode()[:80]


def _batches(runs: Sequence[RunId]) -> Iterator[Sequence[RunId]]:
    """Runs by as many as keep a message under 2 KiB, tenants' names at their longest."""
    for first in range(0, len(runs), NUDGED_TOGETHER):
        yield runs[first : first + NUDGED_TOGETHER]


def celery_app(settings: Settings) -> Celery:
    """Celery as the platform wants it: no result backend, no ETA, no canvas, no retry of its own.

    `acks_late` without requeue on worker loss: what recovers a step is its lease.
    """
    app = Celery("celeriac", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_reject_on_worker_lost=False,
        task_publish_retry=False,
        # Workers tell of what they received; to tell of each message twice would cost as much again.
        task_send_sent_event=False,
        task_default_queue=STEPS,
        task_create_missing_queues=True,
        # User code runs in children anyway, and a process of threads keeps answering.
        worker_pool="threads",
        worker_prefetch_multiplier=1,
        # Workers tell of their tasks from when somebody asks them to, which Flower does every few seconds.
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=0,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=_SOCKET_TIMEOUT,
        broker_transport_options=_transport_options(settings.broker_url or ""),
        timezone="UTC",
        enable_utc=True,
    )
    return app


def _transport_options(url: str) -> dict[str, Any]:
    if url.startswith("amqp"):
        return {"confirm_publish": True, "connect_timeout": _SOCKET_TIMEOUT}
    return {
        # Redelivery is no part of the protocol: what a worker took with it, the sweeper sends again.
        # So nothing is written down of who has which message, which would cost more than the task.
        "ack_emulation": False,
        # kombu's default is none: a publish to a mute broker would hang for ever.
        "socket_timeout": _SOCKET_TIMEOUT,
        "socket_connect_timeout": _SOCKET_TIMEOUT,
        "health_check_interval": 15,
        # A lane is one list, not one for each priority: nothing is sent with any.
        "priority_steps": [0],
    }
