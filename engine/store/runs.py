"""The head of every run: small, mutable, written by turns alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine.core import transitions
from engine.store import session
from engine.store.ids import RunId, StepId


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a turn writes of a run. Texts are JSON; None leaves the column as it is."""

    run: RunId
    #: The seq that was read under the lock: the guard of the update.
    was: int
    status: str
    seq: int
    hash: bytes
    head: str
    variables: str | None
    snapshot_seq: int
    patched: int
    reason: str | None
    message: str | None
    ended_step: str | None
    #: What it gives, once it is completed.
    outputs: str | None
    #: When the run is looked at although nothing was reported.
    wake: datetime | None
    #: When it began, if this is its first turn.
    began: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How a run stood when somebody last looked, and the time that he takes it to be."""

    run: RunId
    seq: int
    #: The number of its tenant's policies.
    governance: int
    at: datetime


#: Seconds by which a time may lie behind the database's clock and still be its.
BEHIND_SECONDS = 0.25

_CREATE = session.Statement(
    name="run_create",
    types=("text, text, text, int, text, text, text, text, int, text, int, text[], text, bigint"),
    sql="""
    INSERT INTO run (tenant_id, id, version_id, rules, pins, submitted_by, parent_run, parent_step,
        parent_attempt, orphan, depth, root, scopes, forked_run, forked_seq)
    VALUES ($1, $2::uuid, $3::uuid, $4, $5::json, $6, $7::uuid, $8, $9, $10, $11,
        coalesce((SELECT root FROM run WHERE tenant_id = $1 AND id = $7::uuid), $2::uuid),
        CASE WHEN $7 IS NULL THEN $12
            ELSE (SELECT scopes FROM run WHERE tenant_id = $1 AND id = $7::uuid) END,
        $13::uuid, $14)
    """,
)

# Each by its key, and its tenant apart: a plan is used for long, and one that was made while there were
# few runs would go through all there are. Not FOR UPDATE: that would make the foreign key check of a new
# step wait for its own turn.
_LOCK = session.Statement(
    name="run_lock",
    types="text[], text[], boolean",
    sql="""
    SELECT r.*, (SELECT t.governance FROM tenant t WHERE t.id = r.tenant_id) AS governance,
        clock_timestamp() AS now,
        EXISTS (SELECT FROM inbox i WHERE i.tenant_id = r.tenant_id AND i.run_id = r.id::uuid) AS waiting
    FROM (SELECT DISTINCT tenant, run::uuid AS run FROM unnest($1, $2) AS wanted (tenant, run)
        ORDER BY 1, 2) w
    CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.id::text AS id, r.version_id::text AS version_id, r.status, r.rules,
            r.seq, r.hash, r.head::text AS head, r.variables::text AS variables, r.snapshot_seq,
            r.patched, r.reason, r.message, r.ended_step, r.pins::text AS pins, r.submitted_by,
            r.depth, r.root::text AS root, r.parent_run::text AS parent_run, r.parent_step,
            r.parent_attempt, r.stuck_count, r.stuck_error, r.started_at
        FROM run r WHERE r.tenant_id = w.tenant AND r.id = w.run
            AND ($3 OR r.stuck_until IS NULL OR r.stuck_until <= clock_timestamp())
        FOR NO KEY UPDATE OF r SKIP LOCKED) r
    """,
)

# What is stuck is looked at by who reads why.
_EXPECT = session.Statement(
    name="run_expect",
    types="text[], text[], bigint[], bigint[], timestamptz[]",
    sql=f"""
    WITH found AS (
        SELECT FROM (SELECT * FROM unnest($1, $2, $3, $4, $5) AS wanted (tenant, run, seq, governance, at)
            ORDER BY tenant, run::uuid) w
        CROSS JOIN LATERAL (
            SELECT FROM run r WHERE r.tenant_id = w.tenant AND r.id = w.run::uuid
                AND r.seq = w.seq AND r.stuck_until IS NULL
            FOR NO KEY UPDATE OF r SKIP LOCKED) r
        WHERE w.governance = (SELECT t.governance FROM tenant t WHERE t.id = w.tenant)
            AND NOT EXISTS (
                SELECT FROM inbox i WHERE i.tenant_id = w.tenant AND i.run_id = w.run::uuid)
            AND w.at BETWEEN clock_timestamp() - interval '{BEHIND_SECONDS} s' AND clock_timestamp())
    SELECT all_written(count(*), cardinality($1), 'runs') FROM found
    """,  # noqa: S608  # our own constant
)

# Without the variables: whoever only looks does not need them.
_GLANCE = session.Statement(
    name="run_glance",
    types="text, text",
    sql="""
    SELECT r.id::text AS id, r.status, r.head::text AS head, '{}' AS variables, r.reason, r.message,
        r.ended_step, r.started_at, r.root::text AS root, r.scopes, t.governance,
        clock_timestamp() AS now
    FROM run r JOIN tenant t ON t.id = r.tenant_id WHERE r.tenant_id = $1 AND r.id = $2::uuid
    """,
)

_TERMINAL = ", ".join(f"'{status}'" for status in sorted(transitions.TERMINAL))
_SAVE = session.Statement(
    name="run_save",
    types=(
        "text[], text[], bigint[], text[], bigint[], bytea[], text[], text[], bigint[], bigint[], "
        "text[], text[], text[], text[], timestamptz[], timestamptz[]"
    ),
    sql=f"""
    WITH saved AS (UPDATE run r SET status = n.status, seq = n.seq, hash = n.hash, head = n.head::json,
        variables = coalesce(n.variables::json, r.variables), snapshot_seq = n.snapshot_seq,
        patched = n.patched, reason = n.reason, message = n.message, ended_step = n.ended_step,
        outputs = coalesce(r.outputs, n.outputs::json), wake_at = n.wake_at,
        started_at = coalesce(r.started_at, n.began),
        finished_at = CASE WHEN n.status IN ({_TERMINAL})
            THEN coalesce(r.finished_at, clock_timestamp()) END,
        stuck_count = 0, stuck_error = NULL, stuck_until = NULL
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) AS n (tenant,
        run, was, status, seq, hash, head, variables, snapshot_seq, patched, reason, message,
        ended_step, outputs, wake_at, began)
    WHERE r.tenant_id = n.tenant AND r.id = n.run::uuid AND r.seq = n.was
        AND (r.status NOT IN ({_TERMINAL}) OR r.status = n.status)
    RETURNING r.id)
    SELECT all_written(count(*), cardinality($1), 'runs') FROM saved
    """,  # noqa: S608  # the statuses are our own enumeration
)

# The wait doubles with every failure, to an hour at the most.
_STICK = session.Statement(
    name="run_stick",
    types="text, text, text",
    sql="""
    UPDATE run SET stuck_count = stuck_count + 1, stuck_error = $3,
        stuck_until = clock_timestamp()
            + least(interval '1 hour', interval '1 second' * 2 ^ least(stuck_count, 20))
    WHERE tenant_id = $1 AND id = $2::uuid
    RETURNING stuck_count
    """,
)


# Waking pushes wake_at on, so that a slow coordinator is not sent the same wake every second.
_WAKE = session.Statement(
    name="run_wake",
    types="int",
    sql="""
    WITH due AS (
        SELECT tenant_id, id FROM run
        WHERE wake_at <= clock_timestamp()
            AND (stuck_until IS NULL OR stuck_until <= clock_timestamp())
        ORDER BY wake_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE run r SET wake_at = clock_timestamp() + interval '1 minute'
    FROM due d WHERE r.tenant_id = d.tenant_id AND r.id = d.id
    RETURNING r.tenant_id, r.id::text AS run_id
    """,
)


def glance(connection: Connection, run: RunId) -> Row[Any]:
    """A run as it is at this moment, without its variables; whoever takes a turn of it goes on."""
    return session.run(connection, _GLANCE, run.tenant, run.run)[0]


def create(
    connection: Connection,
    run: RunId,
    *,
    version_id: str,
    rules: int,
    pins: str,
    by: str,
    scopes: Collection[str] | None = None,
    origin: tuple[StepId, int, str] | None = None,
    depth: int = 0,
    forked: tuple[str, int] | None = None,
) -> None:
    """A new run, queued. `pins` is JSON text.

    `scopes`: to what the credential narrowed whoever submitted it. `origin`: the step that starts it,
    its attempt, and what becomes of the run without it; it is narrowed as that step's run is.
    `forked`: the run that it goes on from, and the line.
    """
    step, attempt, orphan = origin or (None, None, None)
    session.later(
        connection,
        _CREATE,
        run.tenant,
        run.run,
        version_id,
        rules,
        pins,
        by,
        step.run if step else None,
        step.key if step else None,
        attempt,
        orphan,
        depth,
        None if scopes is None else sorted(scopes),
        *(forked or (None, None)),
    )


def lock(
    connection: Connection, runs: Sequence[RunId], *, force: bool = False
) -> Sequence[Row[Any]]:
    """Lock and read the runs that nobody holds; those that are stuck only by force.

    With each comes whether something was waiting for it just before.
    """
    return session.run(
        connection, _LOCK, [run.tenant for run in runs], [run.run for run in runs], force
    )


def expect(connection: Connection, runs: Sequence[Expected]) -> None:
    """Lock runs that stand as they did, unread.

    `session.MovedOn` where one does not, or something waits for it, or somebody holds it, or its time
    is not the database's.
    """
    if runs:
        session.later(
            connection,
            _EXPECT,
            [one.run.tenant for one in runs],
            [one.run.run for one in runs],
            [one.seq for one in runs],
            [one.governance for one in runs],
            [one.at for one in runs],
        )


def save(connection: Connection, heads: Sequence[Head]) -> None:
    """Write locked runs, each only where it still is what was read.

    `session.MovedOn` where one is not: somebody else wrote it, and the lock was not held.
    """
    session.later(
        connection,
        _SAVE,
        [head.run.tenant for head in heads],
        [head.run.run for head in heads],
        [head.was for head in heads],
        [head.status for head in heads],
        [head.seq for head in heads],
        [head.hash for head in heads],
        [head.head for head in heads],
        [head.variables for head in heads],
        [head.snapshot_seq for head in heads],
        [head.patched for head in heads],
        [head.reason for head in heads],
        [head.message for head in heads],
        [head.ended_step for head in heads],
        [head.outputs for head in heads],
        [head.wake for head in heads],
        [head.began for head in heads],
    )


def wake(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Runs that must be looked at although nothing was reported."""
    return session.run(connection, _WAKE, limit)


def stick(connection: Connection, run: RunId, error: str) -> None:
    """Set a run aside whose turn fails, for a while that grows with every failure."""
    session.run(connection, _STICK, run.tenant, run.run, error)
