"""Runs as they leave for a file, and as they come from one: whole, ended, and never touched again.

One that comes from a file has a version that is nobody's but its own, no live step, and nothing in
ledgers: what it used was used elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, text

from engine.core.values import Json
from engine.store import migrations, session
from engine.store import tables as t
from engine.store.ids import RunId

# As `history.read`, with what binds users' data to its line.
_LINES = session.Statement(
    name="recording_lines",
    types="text, text, bigint, int",
    sql="""
    SELECT h.seq, h.at, h.kind, h.format, h.body::text AS body, h.payload_id, h.hash, p.salt,
        CASE WHEN p.shredded_at IS NULL THEN p.body::text END AS payload
    FROM history h
    LEFT JOIN payload p ON p.tenant_id = h.tenant_id AND p.run_id = h.run_id
        AND p.id = h.payload_id
    WHERE h.tenant_id = $1 AND h.run_id = $2::uuid AND h.seq > $3
    ORDER BY h.seq LIMIT $4
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version that a run was under which was recorded elsewhere."""

    #: Its id here; its number, document and digest.
    version_id: str
    version: str
    document: Json
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMove(NewVersion):
    """The version that a run was under until it came under another one."""

    #: The line that says so, and what it had pinned.
    seq: int
    pins: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecording(NewVersion):
    """The head of a run that was recorded elsewhere."""

    run: RunId
    workflow: str
    status: str
    rules: int
    pins: Json
    seq: int
    hash: bytes
    head: Json
    variables: Json
    outputs: Json
    by: str
    started_at: datetime
    finished_at: datetime
    reason: str
    message: str
    ended_step: str | None
    #: The run that it goes on from, and the line.
    forked: tuple[str, int] | None
    #: Where it comes from, who brought it in, and when.
    imported: Json
    moves: tuple[NewMove, ...] = ()


def lines(connection: Connection, run: RunId, *, after: int, limit: int) -> Sequence[Row[Any]]:
    """Lines of history after a seq, with users' data and salts; neither of what was shredded."""
    return session.run(connection, _LINES, run.tenant, run.run, after, limit)


def blobs(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """The large values that a run refers to: sha256 and size, smallest first."""
    f, b = t.blob_reference, t.blob
    known = (b.c.tenant_id == f.c.tenant_id) & (b.c.sha256 == f.c.sha256)
    statement: Select[Any] = (
        select(b.c.sha256, b.c.size)
        .select_from(f.join(b, known))
        .where(f.c.tenant_id == run.tenant, f.c.run_id == run.run, b.c.state == "stored")
        .order_by(b.c.size, b.c.sha256)
    )
    return connection.execute(statement).all()


def names(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """The places of a run that have a name, in order."""
    n = t.checkpoint_name
    statement: Select[Any] = (
        select(n.c.seq, n.c.name, n.c.named_by)
        .where(n.c.tenant_id == run.tenant, n.c.run_id == run.run)
        .order_by(n.c.seq)
    )
    return connection.execute(statement).all()


def there(connection: Connection, run: RunId) -> bool:
    """Whether a tenant has a run of that id; until the end of the transaction nobody brings it in."""
    lock = text(
        "SELECT pg_advisory_xact_lock(hashtextextended('recording/' || :tenant || :run, 0))"
    )
    connection.execute(lock, run._asdict())
    statement = select(t.run.c.id).where(t.run.c.tenant_id == run.tenant, t.run.c.id == run.run)
    return connection.execute(statement).first() is not None


def enter(connection: Connection, new: NewRecording) -> None:
    """Keep a run that has ended elsewhere, and the versions that it ran."""
    tenant, run = new.run
    versions: tuple[NewVersion, ...] = (*new.moves, new)
    for version in versions:
        connection.execute(
            insert(t.workflow_version).values(
                tenant_id=tenant,
                id=version.version_id,
                workflow=new.workflow,
                version=version.version,
                document=version.document,
                checksum=version.checksum,
                created_by=new.by,
                imported=True,
            )
        )
    forked_run, forked_seq = new.forked or (None, None)
    connection.execute(
        insert(t.run).values(
            tenant_id=tenant,
            id=run,
            version_id=new.version_id,
            status=new.status,
            rules=new.rules,
            pins=new.pins,
            seq=new.seq,
            hash=new.hash,
            head=new.head,
            variables=new.variables,
            outputs=new.outputs,
            submitted_by=new.by,
            created_at=new.started_at,
            started_at=new.started_at,
            finished_at=new.finished_at,
            reason=new.reason,
            message=new.message,
            ended_step=new.ended_step,
            root=run,
            forked_run=forked_run,
            forked_seq=forked_seq,
            imported=new.imported,
        )
    )
    for move, then in zip(new.moves, versions[1:], strict=True):
        migrations.put(
            connection,
            new.run,
            move.seq,
            version=then.version_id,
            was=move.version_id,
            was_pins=move.pins,
        )


def keep(connection: Connection, run: RunId, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep rows of a run in `attempt`, `result`, `call`, `call_result` or `checkpoint_name`."""
    if rows:
        whose = {"tenant_id": run.tenant, "run_id": run.run}
        connection.execute(insert(t.metadata.tables[table]), [{**whose, **row} for row in rows])
