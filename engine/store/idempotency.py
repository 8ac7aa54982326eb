"""Submissions that may be repeated: a key names one run for ever.

The row is written in the transaction that makes the run, so a client that never learned
whether its submission was committed gets the same run by asking again.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from engine.store import session
from engine.store.ids import RunId

_CLAIM = session.Statement(
    name="idempotency_claim",
    types="text, text, text, text",
    sql="""
    INSERT INTO idempotency (tenant_id, key, digest, run_id) VALUES ($1, $2, $3, $4::uuid)
    ON CONFLICT DO NOTHING RETURNING key
    """,
)

_FIND = session.Statement(
    name="idempotency_find",
    types="text, text",
    sql="""
    SELECT digest, run_id::text AS run_id FROM idempotency WHERE tenant_id = $1 AND key = $2
    """,
)

_FORGET = session.Statement(
    name="idempotency_forget",
    types="float8, int",
    sql="""
    DELETE FROM idempotency WHERE (tenant_id, key) IN (
        SELECT tenant_id, key FROM idempotency
        WHERE created_at < clock_timestamp() - make_interval(secs => $1) LIMIT $2)
    """,
)


def claim(connection: Connection, key: str, digest: str, run: RunId) -> Row[Any] | None:
    """Give a key to a run; what it stands for already, if somebody was first.

    Waits for a transaction that is just claiming the same key.
    """
    if session.run(connection, _CLAIM, run.tenant, key, digest, run.run):
        return None
    return session.run(connection, _FIND, run.tenant, key)[0]


def forget(connection: Connection, *, older_than: float, limit: int) -> None:
    """Let keys go that nobody repeats any more; `older_than` in seconds."""
    session.run(connection, _FORGET, older_than, limit)
