"""The Celery tasks. Each parses its message, calls one function, and returns nothing.

A message may be lost, doubled or late: `execute_step` finds nothing to lease then, and a
turn nothing to fold.
"""

from __future__ import annotations

from celery import Celery

from engine.platform import Platform
from engine.runs import sweep as sweeping
from engine.runs import turns
from engine.store.ids import RunId, StepId
from workers.execution import Worker, execute


def for_worker(app: Celery, worker: Worker) -> None:
    """What a worker answers to."""

    @app.task(name="execute_step")
    def execute_step(tenant: str, run: str, key: str) -> None:
        execute(worker, StepId(tenant, run, key))


def for_coordinator(app: Celery, platform: Platform) -> None:
    """What a coordinator answers to."""

    @app.task(name="coordinate")
    def coordinate(runs: list[list[str]]) -> None:
        turns.take_turns(platform, [RunId(tenant, run) for tenant, run in runs])

    @app.task(name="sweep")
    def sweep() -> None:
        sweeping.sweep(platform)
