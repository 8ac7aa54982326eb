"""The rows of blobs, and the references of runs to them.

The row of a blob says whether its object may be relied on:

- `wanted`: somebody is about to write the object, or has died before he said that it is there;
- `stored`: it is there, and stays for as long as this row says so;
- `condemned`: nobody has referred to it or touched it for long; it is about to be taken away.

Who takes a blob away holds the lock of its row while its object goes, so whoever touches the
row meanwhile waits, finds it gone, and writes the object anew. References are only made to what
is stored, under a lock that the taking waits for: no order of the two loses a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from engine.store import session
from engine.store import tables as t
from engine.store.ids import RunId

_TOUCH = session.Statement(
    name="blob_touch",
    types="text, text, bigint",
    sql="""
    INSERT INTO blob AS b (tenant_id, sha256, size, state) VALUES ($1, $2, $3, 'wanted')
    ON CONFLICT (tenant_id, sha256) DO UPDATE SET touched_at = clock_timestamp(),
        state = CASE b.state WHEN 'stored' THEN 'stored' ELSE 'wanted' END
    RETURNING state
    """,
)

_STORED = session.Statement(
    name="blob_stored",
    types="text, text",
    sql="""
    UPDATE blob SET state = 'stored', touched_at = clock_timestamp()
    WHERE tenant_id = $1 AND sha256 = $2 AND state = 'wanted'
    """,
)

_REFER = session.Statement(
    name="blob_refer",
    types="text, text, text[]",
    sql="""
    WITH there AS (
        SELECT sha256 FROM blob
        WHERE tenant_id = $1 AND sha256 = ANY($3) AND state = 'stored'
        ORDER BY sha256 FOR KEY SHARE),
    referred AS (
        INSERT INTO blob_reference (tenant_id, run_id, sha256)
        SELECT $1, $2::uuid, sha256 FROM there ON CONFLICT DO NOTHING)
    SELECT sha256 FROM there
    """,
)

_UNREFERENCED = """NOT EXISTS (SELECT FROM blob_reference r
            WHERE r.tenant_id = b.tenant_id AND r.sha256 = b.sha256)"""

_CONDEMN = session.Statement(
    name="blob_condemn",
    types="float8, int",
    sql=f"""
    UPDATE blob c SET state = 'condemned' FROM (
        SELECT tenant_id, sha256 FROM blob b
        WHERE state <> 'condemned' AND {_UNREFERENCED}
            AND touched_at < clock_timestamp() - make_interval(secs => $1)
        ORDER BY touched_at LIMIT $2 FOR UPDATE SKIP LOCKED) old
    WHERE c.tenant_id = old.tenant_id AND c.sha256 = old.sha256
    RETURNING c.sha256
    """,  # noqa: S608  # our own constant, here and below
)

_TAKE = session.Statement(
    name="blob_take",
    types="float8",
    sql="""
    SELECT tenant_id, sha256 FROM blob
    WHERE state = 'condemned' AND touched_at < clock_timestamp() - make_interval(secs => $1)
    ORDER BY touched_at LIMIT 1 FOR UPDATE SKIP LOCKED
    """,
)

# Apart from the statement that locked the row, so that it sees what was committed until then.
_PARDON = session.Statement(
    name="blob_pardon",
    types="text, text",
    sql=f"""
    UPDATE blob b SET state = 'stored'
    WHERE tenant_id = $1 AND sha256 = $2 AND NOT ({_UNREFERENCED})
    RETURNING sha256
    """,  # noqa: S608
)

_FORGET = session.Statement(
    name="blob_forget",
    types="text, text",
    sql="DELETE FROM blob WHERE tenant_id = $1 AND sha256 = $2",
)


def touch(connection: Connection, tenant: str, sha256: str, size: int) -> bool:
    """Say that a blob is needed; whether its object is there. Commit before relying on it."""
    rows = session.run(connection, _TOUCH, tenant, sha256, size)
    return bool(rows[0].state == "stored")


def stored(connection: Connection, tenant: str, sha256: str) -> None:
    """Say that the object of a touched blob is there."""
    session.run(connection, _STORED, tenant, sha256)


def refer(connection: Connection, run: RunId, names: Sequence[str]) -> frozenset[str]:
    """Let a run refer to blobs; those of them that are stored."""
    rows = session.run(connection, _REFER, run.tenant, run.run, list(names))
    return frozenset(row.sha256 for row in rows)


def condemn(connection: Connection, *, older_than: float, limit: int) -> int:
    """Mark blobs that nobody has referred to, or touched for so many seconds; how many."""
    return len(session.run(connection, _CONDEMN, older_than, limit))


def take(connection: Connection, *, older_than: float) -> Row[Any] | None:
    """Lock one marked blob that nobody touched since; None where there is none to be had."""
    rows = session.run(connection, _TAKE, older_than)
    return rows[0] if rows else None


def pardon(connection: Connection, tenant: str, sha256: str) -> bool:
    """Keep a locked blob after all if a run refers to it; whether one does."""
    return bool(session.run(connection, _PARDON, tenant, sha256))


def forget(connection: Connection, tenant: str, sha256: str) -> None:
    """Remove the row of a locked blob whose object is gone."""
    session.run(connection, _FORGET, tenant, sha256)


def size(connection: Connection, tenant: str, sha256: str) -> int | None:
    """Bytes of a blob that can be read; None where there is none."""
    statement = select(t.blob.c.size).where(
        and_(t.blob.c.tenant_id == tenant, t.blob.c.sha256 == sha256, t.blob.c.state != "wanted")
    )
    return connection.execute(statement).scalar_one_or_none()
