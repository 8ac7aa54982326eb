"""Starting the processes of a fleet: worker, coordinator, beat.

Each is a stock Celery process with our tasks on it. Workers and coordinators use the threads
pool: user code runs in children anyway, and the process keeps answering Flower, `inspect`
and heartbeats while a long step runs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any

import structlog
from celery import Celery
from celery.beat import Scheduler

from engine import telemetry
from engine.broker import COORDINATE, STEPS
from engine.errors import Unavailable
from engine.platform import DatabaseRole, Platform, build
from engine.runs import sealing
from engine.runs.sweep import sweep
from engine.runs.upkeep import EVERY, upkeep
from engine.settings import Settings
from workers import tasks
from workers.execution import Worker, name_of
from workers.keeper import Keeper
from workers.sandbox import Sandbox

_log = structlog.get_logger(__name__)

#: Turns are short and wait for the database; a few at a time keep it busy.
_COORDINATOR_THREADS = 4
#: How often a coordinator asks whether it is time to seal, in seconds.
_SEAL_LOOK = 5.0


def worker(settings: Settings, *, queues: Iterable[str] = (STEPS,)) -> None:
    """Run a worker until it is told to stop."""
    telemetry.configure("worker", settings.log_level)
    threads = settings.concurrency
    platform = build(settings, DatabaseRole.WORKER, connections=threads + 2)
    coordinator = (
        build(settings, DatabaseRole.CONTROL, connections=threads)
        if settings.worker_turns
        else None
    )
    sandbox = Sandbox()
    keeper = Keeper(platform)
    app = platform.broker.app
    tasks.for_worker(
        app,
        Worker(
            name=name_of(os.getpid()),
            platform=platform,
            sandbox=sandbox,
            keeper=keeper,
            coordinator=coordinator,
        ),
    )
    sandbox.start()
    keeper.start()
    try:
        _serve(app, "worker", settings, queues=queues, threads=threads)
    finally:
        keeper.close()
        sandbox.close()
        if coordinator is not None:
            coordinator.close()
        platform.close()


def coordinator(settings: Settings) -> None:
    """Run a coordinator, which sweeps too, until it is told to stop."""
    telemetry.configure("coordinator", settings.log_level)
    platform = build(settings, DatabaseRole.CONTROL, connections=_COORDINATOR_THREADS + 3)
    for setting, why in sealing.lacking(settings).items():
        _log.warning("audit.lacks", setting=setting, why=why)
    app = platform.broker.app
    tasks.for_coordinator(app, platform)
    stopped = threading.Event()
    # Apart from each other: copies of anchors go to a store that may take its time.
    beside = [
        threading.Thread(
            target=_sweep_until, args=(platform, stopped), name="sweeper", daemon=True
        ),
        threading.Thread(target=_seal_until, args=(platform, stopped), name="sealer", daemon=True),
    ]
    for thread in beside:
        thread.start()
    try:
        _serve(app, "coordinator", settings, queues=(COORDINATE,), threads=_COORDINATOR_THREADS)
    finally:
        stopped.set()
        for thread in beside:
            thread.join()
        platform.close()


def beat(settings: Settings) -> None:
    """Run beat, which does nothing but ask for sweeps, until it is told to stop."""
    telemetry.configure("beat", settings.log_level)
    platform = build(settings, DatabaseRole.CONTROL)
    app = platform.broker.app
    seconds = settings.sweep_seconds
    app.conf.beat_schedule = {
        "sweep": {
            "task": "sweep",
            "schedule": seconds,
            "options": {"queue": COORDINATE, "ignore_result": True},
        }
    }
    app.conf.beat_max_loop_interval = seconds
    beat_process = app.Beat(
        scheduler_cls=f"{__name__}:{Reminder.__name__}",
        loglevel=settings.log_level,
        redirect_stdouts=False,
    )
    beat_process.run()


class Reminder(Scheduler):
    """Reminds of a sweep only where nothing waits: with no coordinator, reminders would pile up."""

    def apply_async(self, entry: Any, *args: Any, **options: Any) -> Any:
        with self.app.connection_for_write() as connection:
            queue = self.app.amqp.queues[COORDINATE](connection.default_channel)
            try:
                declared: Any = queue.queue_declare(passive=True)
                waiting = bool(declared.message_count)
            except connection.channel_errors:
                # On Redis a queue in which nothing waits is none.
                waiting = False
        return None if waiting else super().apply_async(entry, *args, **options)


def _serve(
    app: Celery, kind: str, settings: Settings, *, queues: Iterable[str], threads: int
) -> None:
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--queues={','.join(queues)}",
            f"--hostname={kind}-{os.getpid()}@%h",
            f"--loglevel={settings.log_level}",
            "--without-mingle",
            "--without-gossip",
            "--task-events",
        ]
    )


def _sweep_until(platform: Platform, stopped: threading.Event) -> None:
    """Sweep every so often; again at once while there is more than one sweep takes."""
    seconds = platform.settings.sweep_seconds
    seen_to = -EVERY
    while True:
        try:
            full = sweep(platform).full
            if time.monotonic() - seen_to >= EVERY:
                upkeep(platform)
                seen_to = time.monotonic()
        except Unavailable as error:
            # The database is away: nothing can be overdue that would not be so afterwards.
            _log.warning("sweep.database", error=str(error))
            full = False
        except Exception:  # noqa: BLE001  # the next sweep must come
            _log.exception("sweep.defect")
            full = False
        if stopped.wait(0 if full else seconds):
            return


def _seal_until(platform: Platform, stopped: threading.Event) -> None:
    """Seal what has moved, every so often; which of the coordinators does it is all one."""
    while True:
        try:
            sealing.seal_if_due(platform)
        except Unavailable as error:
            _log.warning("seal.database", error=str(error))
        except Exception:  # noqa: BLE001  # the next sealing must come
            _log.exception("seal.defect")
        if stopped.wait(_SEAL_LOOK):
            return
