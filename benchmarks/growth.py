"""What the last steps of a long run cost beside its first: it should be the same.

One process carries a run out step by step, without Celery and without a sandbox, so that all
that is left is what the protocol itself does: lease, begin, report, and the turn that follows.
Of every step it counts the round trips to the database, and the bytes of its write-ahead log, which
are all that was written. Both are exact on any machine; milliseconds are told beside them.

A workload is a document and what its steps answer. The cost of a step is compared within one run:
the median of some of its last steps over that of some of its first. Single steps may cost more,
where a checkpoint of the database or a snapshot of the run falls into them; `mean` has them all.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg2.extensions
from sqlalchemy import Engine, event

import migrations
from benchmarks.servers import Servers
from benchmarks.workloads import Figures
from engine.broker import Broker, Hint
from engine.core.values import Json
from engine.platform import DatabaseRole, Platform, build
from engine.runs import access, attempts, catalogue, launch, turns, views
from engine.runs.attempts import Leased, Succeeded
from engine.settings import Settings
from engine.store.ids import RunId

_NUMBER = 4
#: Below it lie the first times: statements are prepared, pages are new.
_WARM = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A run whose steps should all cost the same."""

    name: str
    #: The workflow; its steps use the function `step`.
    document: Json
    #: How many steps it comes to, which is asserted.
    steps: int
    inputs: Mapping[str, Json] = field(default_factory=dict)
    #: What a step answers.
    answer: Callable[[Leased], Succeeded] = lambda _: Succeeded()
    #: What the variables must be in the end.
    leaves: Mapping[str, Json] = field(default_factory=dict)


def loop(laps: int) -> Workload:
    """A node that leads back to itself."""
    return Workload(
        name="loop",
        document={
            "workflow": "loop",
            "limits": {"steps": laps + 1},
            "nodes": {"lap": {"uses": "step", "max_iterations": laps}},
            "edges": [{"from": "lap", "to": "lap", "label": "loop"}, "lap -> end"],
        },
        steps=laps,
        inputs={"n": 0},
        answer=lambda lease: Succeeded(patch={"n": lease.iteration}, choice="loop"),
        leaves={"n": laps},
    )


def wide(width: int) -> Workload:
    """A map: its items, and the step that puts their results together.

    Two widths tell whether the work is linear: then a step of the one costs what one of the other
    does, in the mean, too.
    """
    items: list[Json] = list(range(width))

    def answer(lease: Leased) -> Succeeded:
        if lease.items is not None:
            return Succeeded(result=lease.items, patch={"found": lease.items})
        return Succeeded(result=lease.variables["item"])

    return Workload(
        name=f"map of {width}",
        document={
            "workflow": "map",
            "inputs": {"items": {"type": "array"}},
            "variables": {"found": {}},
            "nodes": {
                "all": {"kind": "map", "over": "$items", "do": "step", "save": {"found": "$result"}}
            },
            "edges": ["all -> end"],
        },
        steps=width + 1,
        inputs={"items": items},
        answer=answer,
        leaves={"items": items, "found": width},
    )


#: Each is measured in the whole and in the quick size.
WHOLE: Sequence[Workload] = (loop(10_000), wide(100), wide(1000))
QUICK: Sequence[Workload] = (loop(200), wide(100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one step took, from its lease to the end of its turn."""

    round_trips: int
    wal_bytes: int
    ms: float


def measure(servers: Servers, workload: Workload) -> Figures:
    """The cost of the first and of the last steps of a run, and their ratios."""
    with _started(servers) as (control, worker):
        run = _submitted(control, workload)
        costs = list(_carried_out(control, worker, run, workload))
        _check(control, run, workload, costs)
    some = min(100, (len(costs) - _WARM) // 4)
    first, last = costs[_WARM : _WARM + some], costs[-some - 1 : -1]
    found: dict[str, float] = {"steps": len(costs), "compared": some}
    for name in Cost.__slots__:
        early, late, every = ([getattr(one, name) for one in part] for part in (first, last, costs))
        found[f"{name}_first"] = statistics.median(early)
        found[f"{name}_last"] = statistics.median(late)
        found[f"{name}_mean"] = statistics.mean(every)
        found[f"{name}_ratio"] = statistics.median(late) / statistics.median(early)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept(Broker):
    """A broker whose messages wait in this process."""

    hints: list[Hint] = field(default_factory=list)

    def send(self, hints: Sequence[Hint]) -> None:
        self.hints.extend(hints)

    def nudge(self, runs: Sequence[RunId]) -> None:
        """The turn is taken at once."""


def _carried_out(
    control: Platform, worker: Platform, run: RunId, workload: Workload
) -> Iterator[Cost]:
    """Carry out whatever is ready, one step after the other; what each took."""
    assert isinstance(control.broker, _Kept)
    hints = control.broker.hints
    with _counting(control.database, worker.database) as counted, _wal(control) as written:
        while hints:
            wanted = hints.pop(0).step
            sent, wal, since = counted(), written(), time.perf_counter()
            (lease,) = attempts.lease(worker, [wanted], "benchmark")
            attempts.begin(worker, [lease])
            attempts.report(worker, "benchmark", [(lease, workload.answer(lease))])
            turns.take_turns(control, [run])
            ms = 1e3 * (time.perf_counter() - since)
            yield Cost(round_trips=counted() - sent, wal_bytes=written() - wal, ms=ms)


@contextmanager
def _counting(*databases: Engine) -> Iterator[Callable[[], int]]:
    """How often these pools have asked the database something so far."""
    sent = 0

    class Counting(psycopg2.extensions.cursor):
        """The driver's own, whoever executes with it."""

        def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002  # the driver's name
            nonlocal sent
            sent += 1
            super().execute(query, vars)

    def count(connection: Any, _: object) -> None:
        connection.cursor_factory = Counting

    for database in databases:
        # What is open already does not count.
        database.dispose()
        event.listen(database, "connect", count)
    try:
        yield lambda: sent
    finally:
        for database in databases:
            event.remove(database, "connect", count)


@contextmanager
def _wal(platform: Platform) -> Iterator[Callable[[], int]]:
    """Where the write-ahead log stands, asked over a connection that nobody counts."""
    url = platform.database.url.set(drivername="postgresql")
    connection = psycopg2.connect(url.render_as_string(hide_password=False))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:

            def position() -> int:
                cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
                found = cursor.fetchone()
                assert found is not None
                return int(found[0])

            yield position
    finally:
        connection.close()


def _submitted(control: Platform, workload: Workload) -> RunId:
    tenant = access.LOCAL.tenant
    catalogue.register(
        control, tenant, "function", "step", "def step(state):\n    return {}", by="benchmark"
    )
    version = catalogue.publish(control, tenant, workload.document, by="benchmark")
    run = launch.submit(control, tenant, version.id, dict(workload.inputs), by="benchmark").run
    turns.take_turns(control, [run])
    return run


def _check(control: Platform, run: RunId, workload: Workload, costs: Sequence[Cost]) -> None:
    found = views.run(control, run)
    if found.status != "completed":
        raise AssertionError(f"{workload.name} is {found.status}: {found.reason}: {found.message}")
    if len(costs) != workload.steps or dict(found.variables) != dict(workload.leaves):
        raise AssertionError(
            f"{workload.name} came to {len(costs)} steps and {dict(found.variables)}, "
            f"not {workload.steps} and {dict(workload.leaves)}"
        )


@contextmanager
def _started(servers: Servers) -> Iterator[tuple[Platform, Platform]]:
    """A database of its own, as a coordinator and as a worker see it."""
    name = f"benchmark_{secrets.token_hex(4)}"
    home = servers.folder / name
    settings = Settings(
        database_url=servers.database(name),
        broker_url=servers.broker_url(_NUMBER),
        redis_url=servers.redis_url(_NUMBER),
        blob_url=(home / "blobs").as_uri(),
        home=home,
    )
    migrations.upgrade(settings.database_url or "")
    built = build(settings, DatabaseRole.CONTROL)
    control = replace(built, broker=_Kept(app=built.broker.app))
    worker = build(settings, DatabaseRole.WORKER)
    try:
        access.ensure_local(control.database)
        yield control, replace(worker, broker=_Kept(app=worker.broker.app))
    finally:
        worker.close()
        control.close()
        servers.drop(name)
