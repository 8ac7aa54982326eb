"""What a step costs beside many runs that are active, and after much history.

A fleet carries the same runs out while more and more others wait for an event that does not come:
each has its head, its step and its wait. Another does while its tables hold more and more of what
was. There a run that was carried out is copied, row for row, under new ids: that is what a thousand
times as many would have left, but for the hashes, which are those of the first. What autovacuum would
have done meanwhile is done at once.

Beside each stands one that stays at the first level, on the same servers. The two are measured in turn,
a few seconds each, and what is told is the one over the other: a machine that is slower for some minutes
does not change that. At the first level it says how far two equal ones are apart.

The cost is the CPU of all processes, Postgres and Valkey included, and the time of a lone chain.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import configuration, fleet, workloads
from benchmarks.fleet import Fleet, Steps
from benchmarks.servers import Servers
from benchmarks.workloads import SECONDS, Figures, Size
from engine.core.values import Json

#: Waits for what nobody sends.
_WAITING: Json = {
    "workflow": "waiting",
    "nodes": {"wait": {"kind": "event", "name": "never"}},
    "edges": ["wait -> end"],
}
#: The database of the broker that the second fleet uses.
_BESIDE = 4
_SUBMITTED_AT_ONCE = 1000
_COPIED_AT_ONCE = 10_000
#: Tables of rows that belong to a run, and their columns; `run` itself calls the run `id`.
_TABLES = """
    SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition GROUP BY c.relname
    HAVING c.relname = 'run' OR bool_or(a.attname = 'run_id')
    ORDER BY c.relname <> 'run', c.relname
"""
#: Ids of version 7 from the last hours.
_IDS = """
    CREATE TEMPORARY TABLE copies AS SELECT
        (lpad(to_hex((1e3 * extract(epoch FROM now()))::bigint - number), 12, '0')
            || '7' || substr(md5(random()::text), 1, 3)
            || '8' || substr(md5(random()::text), 1, 15))::uuid AS id
    FROM generate_series(1, %s) AS number
"""


def measure(servers: Servers, kind: str, size: str) -> Iterator[tuple[int, Figures]]:
    """The cost of a step at each level of a kind, `active` or `history`."""
    settings = configuration.section(f"burden.{size}")
    grow = {"active": _wait, "history": _copy}[kind]
    measured = Size(
        **dict.fromkeys(Size.__slots__, 0)
        | {name: settings[name] for name in ("runs", "steps", "chain")}
    )
    with (
        fleet.started(servers, worker_turns=False) as light,
        fleet.started(servers, worker_turns=False, number=_BESIDE) as laden,
    ):
        for running in (light, laden):
            running.apply(json.dumps(configuration.section("celeriac.policy")))
            _cost(running, measured, servers)  # the first of everything
        grow(servers, light, settings[kind][0])
        reached = 0
        for level in settings[kind]:
            grow(servers, laden, level - reached)
            reached = level
            yield level, _compared(light, laden, measured, servers, settings["times"])


def _compared(light: Fleet, laden: Fleet, size: Size, servers: Servers, times: int) -> Figures:
    """Medians of the laden one, and of what they are over those of the light one just before or after."""
    found: list[Mapping[str, float]] = []
    for number in range(times):
        # Which of them is first, too, in turn.
        both = (laden, light) if number % 2 else (light, laden)
        costs = {running: _cost(running, size, servers) for running in both}
        cost, base = costs[laden], costs[light]
        ratios = {f"{name}_ratio": cost[name] / base[name] for name in cost if base[name]}
        found.append({**cost, **ratios})
    names = set[str]().union(*found)
    return {name: statistics.median(one[name] for one in found if name in one) for name in names}


def _cost(running: Fleet, size: Size, servers: Servers) -> Figures:
    steps = Steps(running, "library")
    return {
        **workloads.chain(steps, size),
        **workloads.throughput(steps, size, servers.pids()),
    }


# --- active runs ------------------------------------------------------------------------------


def _wait(servers: Servers, running: Fleet, count: int) -> None:
    """So many more runs that wait."""
    version = running.once(_WAITING)
    wanted = _waiting(servers, running) + count
    for sent in range(0, count, _SUBMITTED_AT_ONCE):
        for _ in range(min(_SUBMITTED_AT_ONCE, count - sent)):
            running.submit(version, {})
    deadline = time.monotonic() + SECONDS
    while _waiting(servers, running) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{wanted} runs do not wait after {SECONDS} s")
        time.sleep(0.1)


def _waiting(servers: Servers, running: Fleet) -> int:
    with servers.session(running.database) as cursor:
        cursor.execute("SELECT count(*) FROM step WHERE status = 'waiting'")
        return _only(cursor.fetchone())


# --- history ----------------------------------------------------------------------------------


def _copy(servers: Servers, running: Fleet, steps: int) -> None:
    """So many more steps that were, in copies of a run of ten."""
    copied = Steps(running, "library")
    copied.ended(copied.submit(10))
    run = copied.submitted[-1].run
    left = max(1, steps // 10)
    with servers.session(running.database) as cursor:
        cursor.execute(_TABLES)
        tables: Sequence[tuple[str, list[str]]] = cursor.fetchall()
        while left:
            count = min(left, _COPIED_AT_ONCE)
            cursor.execute(_IDS, (count,))
            for name, columns in tables:
                cursor.execute(_copying(name, columns), (run,))
            cursor.execute("DROP TABLE copies")
            left -= count
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")


def _copying(table: str, columns: Sequence[str]) -> str:
    """A statement that copies the rows of a run for every id."""
    key = "id" if table == "run" else "run_id"
    # A new id, and a transaction of long ago: what has been anchored is not anchored again.
    new = {key: "copies.id", "root": "copies.id", "xid": "3"}
    into = ", ".join(f'"{name}"' for name in columns)
    taken = ", ".join(new.get(name, f'one."{name}"') for name in columns)
    return (
        f'INSERT INTO "{table}" ({into}) OVERRIDING SYSTEM VALUE'
        f' SELECT {taken} FROM "{table}" AS one, copies WHERE one."{key}" = %s ORDER BY copies.id'
    )


def _only(row: tuple[Any, ...] | None) -> int:
    assert row is not None
    return int(row[0])
