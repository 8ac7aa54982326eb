"""Runs that steps of other runs started, and wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session
from engine.store.ids import RunId

_ORPHANS = session.Statement(
    name="child_orphans",
    types="text[], text[]",
    sql="""
    SELECT c.tenant_id, c.id::text AS id, c.parent_run::text AS parent_run, c.parent_step
    FROM run c JOIN unnest($1, $2) AS w (tenant, run)
        ON c.tenant_id = w.tenant AND c.parent_run = w.run::uuid
    WHERE c.orphan = 'cancel' AND c.finished_at IS NULL
        AND NOT EXISTS (SELECT FROM step s WHERE s.tenant_id = c.tenant_id
            AND s.run_id = c.parent_run AND s.key = c.parent_step
            AND s.attempt = c.parent_attempt AND s.status IN ('waiting', 'reported'))
        AND NOT EXISTS (SELECT FROM inbox i WHERE i.tenant_id = c.tenant_id AND i.run_id = c.id
            AND i.kind = 'CancelRequested')
    """,
)


def orphans(connection: Connection, parents: Sequence[RunId]) -> Sequence[Row[Any]]:
    """Live children that no step of these runs waits for any more, and that end with it."""
    return session.run(
        connection, _ORPHANS, [one.tenant for one in parents], [one.run for one in parents]
    )
