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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery

from engine.settings import Settings
from engine.store.ids import RunId, StepId

#: Where steps go whose node names no queue.
STEPS = "steps"
COORDINATE = "coordinate"

_SOCKET_TIMEOUT = 2.0
_NUDGED_TOGETHER = 5
#: Nudges that the background takes at a time.
_TAKEN_TOGETHER = 100
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A step that is ready, with what Flower should show of it."""

    step: StepId
    workflow: str
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Sends what the coordinator decided, after its commit."""

    app: Celery

    def send(self, hints: Sequence[Hint]) -> None:
        """Tell workers that steps are ready: one Celery task for each."""
        self._publish(
            [
                {
                    "name": "execute_step",
                    "args": list(hint.step),
                    "queue": hint.queue or STEPS,
                    "argsrepr": f"{_plain(hint.workflow)} {hint.step.key} run={hint.step.run}",
                }
                for hint in hints
            ]
        )

    def nudge(self, runs: Sequence[RunId]) -> None:
        """Tell a coordinator that runs have something waiting."""
        self._publish(
            [
                {
                    "name": "coordinate",
                    "args": [[list(run) for run in some]],
                    "queue": COORDINATE,
                    "argsrepr": f"{len(some)} runs, {some[0].run} first",
                }
                for some in _batches(runs)
            ]
        )

    def _publish(self, messages: Sequence[dict[str, Any]]) -> None:
        if not messages:
            return
        try:
            with self.app.producer_or_acquire() as producer:
                for message in messages:
                    self.app.send_task(
                        **message, producer=producer, ignore_result=True, retry=False
                    )
        except Exception as error:  # noqa: BLE001  # each transport has errors of its own
            # The rows stay ready and the events wait: the sweeper finds both.
            _log.warning("broker.unreachable", messages=len(messages), error=str(error))

    def close(self) -> None:
        """Close pooled connections."""
        self.app.close()


class Nudger:
    """Nudges in the background, so that no request waits for the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
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
                    self._broker.nudge(runs)
                    return
                runs.append(following)
            self._broker.nudge(runs)


def _plain(name: str) -> str:
    """A name as it may stand in a message: JSON makes twelve bytes of an emoji."""
    return name.encode("ascii", "replace").decode()[:80]


def _batches(runs: Sequence[RunId]) -> Iterator[Sequence[RunId]]:
    """Runs by as many as keep a message under 2 KiB, tenants' names at their longest."""
    for first in range(0, len(runs), _NUDGED_TOGETHER):
        yield runs[first : first + _NUDGED_TOGETHER]


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
        task_send_sent_event=True,
        task_default_queue=STEPS,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
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
        # Redelivery is no part of the protocol; a quarter of an hour only tidies up.
        "visibility_timeout": 900,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # kombu's default is none: a publish to a mute broker would hang for ever.
        "socket_timeout": _SOCKET_TIMEOUT,
        "socket_connect_timeout": _SOCKET_TIMEOUT,
        "health_check_interval": 15,
    }
