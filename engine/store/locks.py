"""Named locks: one row each while a run holds it.

Who finds a lock taken keeps its row from being given up until its own turn is written, so
that the holder, when it gives it up, sees who waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session
from engine.store.ids import RunId

_TAKE = session.Statement(
    name="lock_take",
    types="text, text, text",
    sql="""
    INSERT INTO lock (tenant_id, name, run_id) VALUES ($1, $2, $3::uuid)
    ON CONFLICT DO NOTHING RETURNING name
    """,
)
_SEEN = session.Statement(
    name="lock_seen",
    types="text, text",
    sql="SELECT run_id::text FROM lock WHERE tenant_id = $1 AND name = $2 FOR KEY SHARE",
)
_GIVE_UP = session.Statement(
    name="lock_give_up",
    types="text[], text[], text[], text[], text[]",
    sql="""
    WITH kept AS (
        SELECT * FROM unnest($3, $4, $5) AS k (tenant, run, name)),
    gone AS (
        DELETE FROM lock l USING unnest($1, $2) AS w (tenant, run)
        WHERE l.tenant_id = w.tenant AND l.run_id = w.run::uuid
            AND NOT EXISTS (SELECT FROM kept k
                WHERE k.tenant = l.tenant_id AND k.run::uuid = l.run_id AND k.name = l.name)
            AND NOT EXISTS (SELECT FROM step s, json_array_elements(s.holds) h
                WHERE s.tenant_id = l.tenant_id AND s.run_id = l.run_id AND h->>0 = l.name)
        RETURNING l.tenant_id, l.name)
    SELECT tenant_id, name FROM gone
    """,
)
_WAITERS = session.Statement(
    name="lock_waiters",
    types="text[], text[]",
    sql="""
    SELECT DISTINCT ON (s.tenant_id, s.awaits) s.tenant_id, s.run_id::text AS run_id, s.key
    FROM step s JOIN unnest($1, $2) AS w (tenant, name)
        ON s.tenant_id = w.tenant AND s.awaits = w.name
    JOIN run r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
    WHERE s.status = 'deferred' AND r.status = 'running'
    ORDER BY s.tenant_id, s.awaits, s.asked_at, s.run_id, s.key
    """,
)


def take(connection: Connection, run: RunId, name: str) -> bool:
    """Take a lock; False when somebody holds it."""
    while True:
        if session.run(connection, _TAKE, run.tenant, name, run.run):
            return True
        if session.run(connection, _SEEN, run.tenant, name):
            return False


def give_up(
    connection: Connection, runs: Sequence[RunId], kept: Mapping[RunId, Sequence[str]]
) -> Sequence[Row[Any]]:
    """Give up the locks of runs that neither a step of theirs nor a token (`kept`) holds.

    Returns the steps that wait for one of them and come first.
    """
    tokens = [(run, name) for run, names in kept.items() for name in names]
    gone = session.run(
        connection,
        _GIVE_UP,
        [run.tenant for run in runs],
        [run.run for run in runs],
        [run.tenant for run, _ in tokens],
        [run.run for run, _ in tokens],
        [name for _, name in tokens],
    )
    if not gone:
        return ()
    return session.run(
        connection, _WAITERS, [row.tenant_id for row in gone], [row.name for row in gone]
    )
