"""Workflows whose runs wait, and what is looked at while they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from engine.core.values import Json
from engine.errors import CeleriacError
from engine.platform import Platform
from engine.runs import sweep, views
from engine.store.ids import RunId
from tests.support.fleet import wait_until
from tests.support.platforms import sql

T = TypeVar("T")


def waits_at(kind: str, **fields: Json) -> dict[str, Json]:
    """One node that waits, and that leaves what has come in `found`."""
    more = {"save": {"found": "$result"}} if kind != "timer" else {}
    return {
        "workflow": f"a-{kind}",
        "variables": {"found": {}},
        "nodes": {"w": {"kind": kind, **more, **fields}},
        "edges": ["w -> end"],
    }


def live(platform: Platform, run: RunId) -> dict[str, str]:
    """The status of each live step."""
    return {step.key: step.status for step in views.run(platform, run).steps}


def found(platform: Platform, run: RunId) -> Json:
    """What a run has left in `found`."""
    return views.run(platform, run).variables["found"]


def why(platform: Platform, run: RunId) -> tuple[str, str | None]:
    detail = views.run(platform, run)
    return detail.status.value, detail.reason


def kinds(platform: Platform, run: RunId) -> list[str]:
    """What history tells, in order."""
    statement = "SELECT kind FROM history WHERE run_id = CAST(:run AS uuid) ORDER BY seq"
    return [row.kind for row in sql(platform, statement, run=run.run)]


def swept(platform: Platform, over: Callable[[], object]) -> None:
    """Sweep until something is so: what time brings comes by the database's clock."""

    def look() -> object:
        sweep.sweep(platform)
        return over()

    wait_until(look)


def race(*actions: Callable[[], T]) -> list[T | CeleriacError]:
    """What becomes of actions that begin together, each in a thread of its own; errors are results."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], T]) -> T | CeleriacError:
        barrier.wait(timeout=30)
        try:
            return action()
        except CeleriacError as error:
            return error

    with ThreadPoolExecutor(len(actions)) as threads:
        return [*threads.map(run, actions)]


def blocked(platform: Platform) -> bool:
    """Whether somebody waits for a row that somebody else holds."""
    return bool(sql(platform, "SELECT FROM pg_locks WHERE NOT granted LIMIT 1"))


def of_kind(results: Sequence[Any], kind: type[T]) -> list[T]:
    return [one for one in results if isinstance(one, kind)]
