"""Starting the processes of a fleet: worker, coordinator, beat.

Each is a stock Celery process with our tasks on it. Workers and coordinators use the threads
pool: user code runs in children anyway, and the process keeps answering Flower, `inspect`
and heartbeats while a long step runs.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import structlog
from celery import Celery
from celery.beat import Scheduler
from celery.utils.nodenames import gethostname, nodename

from engine import lanes, telemetry
from engine.broker import BUSY, COORDINATE, STEPS, TURNS, Nudger, length
from engine.errors import Unavailable
from engine.platform import DatabaseRole, Platform, build
from engine.runs import sealing, turns
from engine.runs.sweep import sweep
from engine.runs.upkeep import EVERY, upkeep
from engine.settings import Settings
from workers import fetching, monitoring, succession, tasks
from workers.execution import Worker, name_of
from workers.keeper import Keeper
from workers.relief import Relief
from workers.sandbox import Opened, Sandbox
from workers.sandbox.inside import process
from workers.watchdog import DEAF, Watchdog

_log = structlog.get_logger(__name__)

#: Messages that a coordinator has at a time, for so many to be seen to together.
_COORDINATOR_THREADS = 16
#: How often a coordinator asks whether it is time to seal, in seconds.
_SEAL_LOOK = 5.0


def worker(settings: Settings, *, queues: Sequence[str] = (STEPS,)) -> None:
    """Run a worker until it is told to stop, or until no work reaches it (`workers.watchdog`)."""
    telemetry.configure("worker", settings.log_level)
    _hide()
    fetching.fetch_together()
    threads = settings.concurrency
    # One thread more than there are may be at a step (`workers.relief`).
    platform = build(settings, DatabaseRole.WORKER, connections=threads + 3)
    coordinator = (
        build(settings, DatabaseRole.CONTROL, connections=threads + 1)
        if settings.worker_turns
        else None
    )
    sandbox = Sandbox(
        mode=settings.sandbox,
        minimum=settings.sandbox_minimum,
        folders=[
            Opened(path=str(folder.path), write=folder.write) for folder in settings.sandbox_folders
        ],
    )
    keeper = Keeper(platform)
    # Apart from the threads that carry steps out: many reports come to one turn, or one message.
    nudger = Nudger(
        platform.broker.nudge if coordinator is None else partial(turns.take_turns, coordinator)
    )
    app = platform.broker.app
    going = succession.go_on_in(app)
    own = Worker(
        name=name_of(os.getpid()),
        platform=platform,
        sandbox=sandbox,
        keeper=keeper,
        coordinator=coordinator,
        follow=nudger.nudge_all,
        consumes=partial(succession.consumes, app),
    )
    watchdog = Watchdog(platform, own.pulse, queues=queues, full=partial(going.are_full, seconds=0))
    tasks.for_worker(app, own)
    lines = [lane for queue in queues for lane in lanes.names(queue)]
    # One that takes no turns asks who does.
    taken = (*lines, TURNS, lanes.name(TURNS, BUSY))
    with contextlib.ExitStack() as closing:
        # From the last to the first, whatever becomes of one: another signal may break it off.
        closing.callback(platform.close)
        if coordinator is not None:
            closing.callback(coordinator.close)
        closing.callback(sandbox.close)
        sandbox.start()
        _tell(sandbox)
        closing.callback(keeper.close)
        keeper.start()
        closing.callback(nudger.close)
        closing.callback(watchdog.close)
        watchdog.start()
        if platform.broker.lists is not None and threads > 1:
            relief = Relief(lists=platform.broker.lists, threads=going, queues=taken)
            closing.callback(relief.close)
            relief.start()
        _serve(app, "worker", settings, queues=taken, threads=threads)
    if watchdog.bit:
        # Not in order, whatever Celery says: supervisors that ask start it again.
        sys.exit(DEAF)


def coordinator(settings: Settings) -> None:
    """Run a coordinator, which sweeps too, until it is told to stop."""
    telemetry.configure("coordinator", settings.log_level)
    _hide()
    fetching.fetch_together()
    at_once = len(tasks.COORDINATED) * tasks.AT_ONCE + tasks.APART
    platform = build(settings, DatabaseRole.CONTROL, connections=at_once + 3)
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
        _serve(app, "coordinator", settings, queues=tasks.COORDINATED, threads=_COORDINATOR_THREADS)
    finally:
        stopped.set()
        for thread in beside:
            thread.join()
        platform.close()


def beat(settings: Settings) -> None:
    """Run beat, which does nothing but ask for sweeps, until it is told to stop."""
    telemetry.configure("beat", settings.log_level)
    _hide()
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


def _hide() -> None:
    """Close this process to others of the same user: installed code runs as that user, too.

    What it runs can neither freeze, trace nor read it, whose memory holds credentials.
    """
    if sys.platform == "linux":
        process.hide()


def _tell(sandbox: Sandbox) -> None:
    """Say which walls stand around strangers' code, and what became of the attacks on them."""
    standing = sandbox.standing()
    _log.info(
        "sandbox.walls",
        mode=standing.mode,
        walls=list(standing.layers),
        attacks=standing.tried,
        breaches=list(standing.breaches),
        other_user=standing.other_user,
        threads=standing.threads,
        lacking=dict(standing.lacking),
    )
    if standing.refusal is not None:
        _log.error("sandbox.refuses", why=standing.refusal)


class Reminder(Scheduler):
    """Reminds of a sweep only where nothing waits: with no coordinator, reminders would pile up."""

    def apply_async(self, entry: Any, *args: Any, **options: Any) -> Any:
        with self.app.connection_for_write() as connection:
            waiting = length(connection, COORDINATE) > 0
        return None if waiting else super().apply_async(entry, *args, **options)


def _serve(
    app: Celery, kind: str, settings: Settings, *, queues: Iterable[str], threads: int
) -> None:
    """Be a Celery worker, as `celery worker` would be.

    Not by way of its command line, which loads all others with it, and whatever plug-ins they have:
    Flower and what it serves with, and a shell. That took as long as all the rest of a start.
    """
    monitoring.gather(app)
    _collect_seldom()
    app.Worker(
        hostname=nodename(f"{kind}-{os.getpid()}", gethostname()),
        concurrency=threads,
        queues=list(queues),
        loglevel=settings.log_level,
        without_mingle=True,
        without_gossip=True,
        quiet=True,
        no_color=False,
    ).start()


def _collect_seldom() -> None:
    """Look for cycles among what is made from now on, and for them alone, and not at every turn.

    What was imported stays, and a turn makes some thousands of records, hardly any of which is in a cycle:
    to look at all of them as often as Python does took 4 % of a worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


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
