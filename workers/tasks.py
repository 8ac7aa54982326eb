"""The Celery tasks. Each parses its message, calls one function, and returns nothing.

A message may be lost, doubled or late: `execute_step` finds nothing to lease then, and a
turn nothing to fold.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import Celery, Task

from engine.broker import (
    BEHIND,
    COORDINATE,
    EXECUTE_STEP,
    NUDGED_TOGETHER,
    TAKE_TURNS,
    Hint,
)
from engine.platform import Platform
from engine.runs import sweep as sweeping
from engine.runs import turns
from engine.store import session
from engine.store.ids import RunId, StepId
from workers import succession
from workers.execution import Worker, execute, turn
from workers.group import Group

#: How long one message of runs may keep a thread of a coordinator, if ever more is reported to them.
PATIENCE_SECONDS = 0.2
#: Where coordinators are nudged.
COORDINATED = (COORDINATE, BEHIND)
#: Messages of runs whose turns a coordinator takes in one transaction, and in how many at once of each queue.
TOGETHER, AT_ONCE = turns.TOGETHER // NUDGED_TOGETHER, 2
#: Messages whose turns it takes each by itself, at a time.
APART = 4


def for_worker(app: Celery, worker: Worker) -> None:
    """What a worker answers to."""

    @app.task(name=EXECUTE_STEP)
    def execute_step(tenant: str, run: str, key: str) -> None:
        step = StepId(tenant, run, key)
        _go_on(worker, execute(worker, step, goes_on=succession.may_go_on))

    @app.task(name=TAKE_TURNS)
    def coordinate(runs: list[list[str]]) -> None:
        _go_on(worker, turn(worker, _named(runs), goes_on=succession.may_go_on))


def for_coordinator(app: Celery, platform: Platform) -> None:
    """What a coordinator answers to."""
    # Each queue by itself: nobody waits for the runs of a tenant that has more of them than others.
    taking = {queue: _taking(platform) for queue in COORDINATED}
    apart = threading.BoundedSemaphore(APART)

    @app.task(name=TAKE_TURNS, bind=True)
    def coordinate(task: Task[Any, Any], runs: list[list[str]]) -> None:
        queue = (task.request.delivery_info or {}).get("routing_key")
        together = taking[BEHIND if queue == BEHIND else COORDINATE]
        # A connection that was cut meanwhile must not cost the message: the next one comes late.
        insist = partial(session.insist, seconds=platform.settings.resend_seconds)
        left = insist(lambda: together.ask(_named(runs)))
        if left:
            with apart:
                insist(lambda: turns.take_turns(platform, left, seconds=PATIENCE_SECONDS))

    @app.task(name="sweep")
    def sweep() -> None:
        sweeping.sweep(platform)


def _taking(platform: Platform) -> Group[Sequence[RunId], Sequence[RunId]]:
    return Group(partial(turns.take_together, platform), most=TOGETHER, at_once=AT_ONCE)


def _named(runs: list[list[str]]) -> list[RunId]:
    return [RunId(tenant, run) for tenant, run in runs]


def _go_on(worker: Worker, following: Hint | None) -> None:
    """Give this thread the step that follows, if one does."""
    if following is not None:
        succession.go_on(
            following.message,
            unheard=partial(worker.give_up, [following.step], "its task was not carried out"),
        )
