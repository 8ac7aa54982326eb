"""What was reported to runs and waits for their next turn.

Anybody may put; only a turn takes, and in the same transaction writes what it took to the
history. There is no cursor over ids, so an id that commits late is never skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session
from engine.store.ids import RunId

#: Events that one turn takes of all its runs together, each with a result of up to two
#: mebibytes; the rest wait for the next.
BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """An event on its way to a run. Its time is given by the database when it arrives."""

    run: RunId
    kind: str
    format: int
    body: str
    payload_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What was found right after a commit."""

    #: Runs that have something waiting.
    waiting: tuple[RunId, ...]
    #: By the database's clock.
    now: datetime


_PUT = session.Statement(
    name="inbox_put",
    types="text[], text[], text[], int[], text[], text[]",
    sql="""
    INSERT INTO inbox (tenant_id, run_id, kind, format, body, payload_id)
    SELECT tenant, run::uuid, kind, format, body::json, payload_id
    FROM unnest($1, $2, $3, $4, $5, $6) AS letter (tenant, run, kind, format, body, payload_id)
    """,
)

_TAKE = session.Statement(
    name="inbox_take",
    types="text[], text[], int",
    sql="""
    WITH taken AS (
        DELETE FROM inbox WHERE (tenant_id, run_id, id) IN (
            SELECT i.tenant_id, i.run_id, i.id FROM inbox i
            JOIN unnest($1, $2) AS wanted (tenant, run)
                ON i.tenant_id = wanted.tenant AND i.run_id = wanted.run::uuid
            ORDER BY i.id LIMIT $3)
        RETURNING *)
    SELECT t.tenant_id, t.run_id::text AS run_id, t.kind, t.format, t.body::text AS body,
        t.payload_id, t.received_at, p.body::text AS payload
    FROM taken t
    LEFT JOIN payload p ON p.tenant_id = t.tenant_id AND p.run_id = t.run_id
        AND p.id = t.payload_id
    ORDER BY t.id
    """,
)

_WAITING = session.Statement(
    name="inbox_waiting",
    types="text[], text[]",
    sql="""
    SELECT wanted.tenant, wanted.run FROM unnest($1, $2) AS wanted (tenant, run)
    WHERE EXISTS (SELECT FROM inbox i
        WHERE i.tenant_id = wanted.tenant AND i.run_id = wanted.run::uuid)
    """,
)
_LEFT = session.Statement(
    name="inbox_left",
    types=_WAITING.types,
    sql=f"""
    SELECT t.now, w.tenant, w.run
    FROM (SELECT clock_timestamp() AS now) t LEFT JOIN ({_WAITING.sql}) w ON true
    """,  # noqa: S608  # our own statement
)

_ABOUT_TO = session.Statement(
    name="inbox_about_to",
    types="text[], text[], text",
    sql="""
    SELECT wanted.tenant, wanted.run FROM unnest($1, $2) AS wanted (tenant, run)
    WHERE EXISTS (SELECT FROM inbox i WHERE i.tenant_id = wanted.tenant
        AND i.run_id = wanted.run::uuid AND i.kind = $3)
    """,
)

_OVERDUE = session.Statement(
    name="inbox_overdue",
    types="float8, int",
    sql="""
    SELECT i.tenant_id, i.run_id::text FROM inbox i
    JOIN run r ON r.tenant_id = i.tenant_id AND r.id = i.run_id
    WHERE i.received_at < clock_timestamp() - make_interval(secs => $1)
        AND (r.stuck_until IS NULL OR r.stuck_until <= clock_timestamp())
    GROUP BY 1, 2 ORDER BY min(i.received_at) LIMIT $2
    """,
)


def put(connection: Connection, letters: Sequence[Letter]) -> None:
    """Leave events for their runs."""
    session.later(
        connection,
        _PUT,
        [letter.run.tenant for letter in letters],
        [letter.run.run for letter in letters],
        [letter.kind for letter in letters],
        [letter.format for letter in letters],
        [letter.body for letter in letters],
        [letter.payload_id for letter in letters],
    )


def take(connection: Connection, runs: Sequence[RunId]) -> Sequence[Row[Any]]:
    """Remove and return what waits for runs that the caller has locked, oldest first."""
    return session.run(
        connection, _TAKE, [run.tenant for run in runs], [run.run for run in runs], BATCH
    )


def waiting(connection: Connection, runs: Sequence[RunId]) -> tuple[RunId, ...]:
    """Those of the runs that have something waiting."""
    rows = session.run(
        connection, _WAITING, [run.tenant for run in runs], [run.run for run in runs]
    )
    return tuple(RunId._make(row) for row in rows)


def about_to(connection: Connection, runs: Sequence[RunId], kind: str) -> tuple[RunId, ...]:
    """Those of the runs for which an event of a kind waits."""
    rows = session.run(
        connection, _ABOUT_TO, [run.tenant for run in runs], [run.run for run in runs], kind
    )
    return tuple(RunId._make(row) for row in rows)


def left(connection: Connection, runs: Sequence[RunId]) -> Left:
    """Commit the transaction, and look at some runs right afterwards.

    What was put while they were locked, and whose sender found them so, is among what waits.
    """
    rows = session.committed(
        connection, _LEFT, [run.tenant for run in runs], [run.run for run in runs]
    )
    waiting = tuple(RunId(row.tenant, row.run) for row in rows if row.run is not None)
    return Left(waiting=waiting, now=rows[0].now)


def overdue(connection: Connection, seconds: float, limit: int) -> tuple[RunId, ...]:
    """Runs whose events have waited longer than the given time, longest first."""
    return tuple(RunId._make(row) for row in session.run(connection, _OVERDUE, seconds, limit))
