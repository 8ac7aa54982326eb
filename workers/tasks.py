"""The Celery tasks. Each parses its message, calls one function, and returns nothing.

A message may be lost, doubled or late: `execute_step` finds nothing to lease then, and a
turn nothing to fold.
"""

from __future__ import annotations

from functools import partial

from celery import Celery

from engine.broker import EXECUTE_STEP, TAKE_TURNS, Hint
from engine.platform import Platform
from engine.runs import sweep as sweeping
from engine.runs import turns
from engine.store import session
from engine.store.ids import RunId, StepId
from workers import succession
from workers.execution import Worker, execute, turn

#: How long one message of runs may keep a thread of a coordinator, if ever more is reported to them.
PATIENCE_SECONDS = 0.2


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

    @app.task(name=TAKE_TURNS)
    def coordinate(runs: list[list[str]]) -> None:
        wanted = _named(runs)
        # A connection that was cut meanwhile must not cost the message: the next one comes late.
        session.insist(
            lambda: turns.take_turns(platform, wanted, seconds=PATIENCE_SECONDS),
            seconds=platform.settings.resend_seconds,
        )

    @app.task(name="sweep")
    def sweep() -> None:
        sweeping.sweep(platform)


def _named(runs: list[list[str]]) -> list[RunId]:
    return [RunId(tenant, run) for tenant, run in runs]


def _go_on(worker: Worker, following: Hint | None) -> None:
    """Give this thread the step that follows, if one does."""
    if following is not None:
        succession.go_on(
            following.message,
            unheard=partial(worker.give_up, [following.step], "its task was not carried out"),
        )
