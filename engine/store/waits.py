"""What waiting steps wait for, and the one statement that ends a wait.

A row of `wait` lies beside its step and is gone with it. Whoever ends a wait, a person, an
event, another run, the clock, moves the step row from `waiting` to `reported`, and only one
can: the others find it moved. The attempt and its result are appended in the same statement,
but for permits: what people allow is done by an attempt that is yet to begin, or was suspended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.values import Json
from engine.store import session
from engine.store.ids import StepId
from engine.store.tables import answer, run, step, wait, workflow_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a step waits for. `asks` is what people are shown and asked, or an event must fit."""

    step: StepId
    kind: str
    name: str = ""
    correlation: str = ""
    transient: bool = False
    asks: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a wait ends, if nobody has ended it yet."""

    step: StepId
    attempt: int
    #: Who or what ends it.
    by: str
    #: None: what was waited for has come.
    reason: str | None = None
    message: str | None = None
    #: It counts although the time of the wait is over.
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody said to a step that asks."""

    by: str
    choice: str
    form: Json


_PUT = session.Statement(
    name="wait_put",
    types="text[], text[], text[], text[], text[], text[], boolean[], text[]",
    sql="""
    INSERT INTO wait (tenant_id, run_id, step, kind, name, correlation, transient, asks)
    SELECT tenant, run::uuid, key, kind, name, correlation, transient, asks::json
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
        AS n (tenant, run, key, kind, name, correlation, transient, asks)
    ON CONFLICT (tenant_id, run_id, step) DO UPDATE SET kind = excluded.kind,
        name = excluded.name, correlation = excluded.correlation, transient = excluded.transient,
        asks = excluded.asks, opened_at = clock_timestamp()
    """,
)

_END = session.Statement(
    name="wait_end",
    types="text[], text[], text[], int[], text[], text[], text[], boolean[]",
    sql="""
    WITH said AS (
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
            AS t (tenant, run, key, attempt, by, reason, message, late)),
    mine AS (
        SELECT s.tenant_id, s.run_id, s.key FROM step s
        JOIN said w ON s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key
        WHERE s.status = 'waiting' AND s.attempt = w.attempt
            AND (w.late OR s.wake_at IS NULL OR s.wake_at > clock_timestamp())
        ORDER BY 1, 2, 3 FOR UPDATE OF s),
    won AS (
        UPDATE step s SET status = 'reported', wake_at = NULL FROM mine m, said w
        WHERE s.tenant_id = m.tenant_id AND s.run_id = m.run_id AND s.key = m.key
            AND s.tenant_id = w.tenant AND s.run_id = w.run::uuid AND s.key = w.key
        RETURNING s.tenant_id, s.run_id, s.key, s.attempt, s.fence, s.asked_at, s.wait, w.by,
            w.reason, w.message),
    began AS (
        INSERT INTO attempt (tenant_id, run_id, step, attempt, fence, worker, started_at)
        SELECT tenant_id, run_id, key, attempt, fence, by, asked_at FROM won
        WHERE wait <> 'permit'),
    ended AS (
        INSERT INTO result (tenant_id, run_id, step, attempt, fence, outcome, reason, message)
        SELECT tenant_id, run_id, key, attempt, fence,
            CASE WHEN reason IS NULL THEN 'succeeded' ELSE 'failed' END, reason, message FROM won
        WHERE wait <> 'permit')
    SELECT tenant_id, run_id::text, key FROM won
    """,
)

_DUE = session.Statement(
    name="wait_due",
    types="int",
    sql="""
    SELECT tenant_id, run_id::text AS run_id, key, node, attempt, wait FROM step
    WHERE wake_at <= clock_timestamp() AND status = 'waiting'
    ORDER BY wake_at LIMIT $1 FOR UPDATE SKIP LOCKED
    """,
)


def put(connection: Connection, waits: Sequence[Wait]) -> None:
    """Keep what steps wait for; their rows are there."""
    if waits:
        session.run(
            connection,
            _PUT,
            [one.step.tenant for one in waits],
            [one.step.run for one in waits],
            [one.step.key for one in waits],
            [one.kind for one in waits],
            [one.name for one in waits],
            [one.correlation for one in waits],
            [one.transient for one in waits],
            [one.asks for one in waits],
        )


def end(connection: Connection, ends: Sequence[End]) -> frozenset[StepId]:
    """End waits; the steps whose wait was still to be ended."""
    if not ends:
        return frozenset()
    rows = session.run(
        connection,
        _END,
        [one.step.tenant for one in ends],
        [one.step.run for one in ends],
        [one.step.key for one in ends],
        [one.attempt for one in ends],
        [one.by for one in ends],
        [one.reason for one in ends],
        [one.message for one in ends],
        [one.late for one in ends],
    )
    return frozenset(StepId._make(row) for row in rows)


def due(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Steps that have waited for as long as they may; locked."""
    return session.run(connection, _DUE, limit)


def lock(connection: Connection, of: StepId) -> Any:
    """A step that waits, with what it asks; its row is locked. None when it does not wait."""
    statement = (
        select(
            step.c.attempt,
            step.c.wait,
            step.c.wake_at,
            step.c.node,
            wait.c.kind,
            wait.c.asks,
            wait.c.opened_at,
        )
        .select_from(step.outerjoin(wait, _beside()))
        .where(
            step.c.tenant_id == of.tenant,
            step.c.run_id == of.run,
            step.c.key == of.key,
            step.c.status == "waiting",
        )
        .with_for_update(of=step)
    )
    return connection.execute(statement).one_or_none()


def say(connection: Connection, of: StepId, attempt: int, said: Answer) -> bool:
    """Keep what somebody said; False when they have said something before."""
    statement = (
        upsert(answer)
        .values(
            tenant_id=of.tenant,
            run_id=of.run,
            step=of.key,
            attempt=attempt,
            said_by=said.by,
            choice=said.choice,
            form=said.form,
        )
        .on_conflict_do_nothing()
    )
    return connection.execute(statement).rowcount == 1


def said(connection: Connection, of: StepId) -> Sequence[Row[Any]]:
    """What was said to a step, oldest first."""
    statement = (
        select(answer)
        .where(answer.c.tenant_id == of.tenant, answer.c.run_id == of.run, answer.c.step == of.key)
        .order_by(answer.c.at, answer.c.said_by)
    )
    return connection.execute(statement).all()


def page(
    connection: Connection,
    tenant: str,
    *,
    kinds: Sequence[str],
    run_id: str | None = None,
    after: tuple[Any, str, str] | None = None,
    limit: int = 100,
) -> Sequence[Any]:
    """Open waits of some kinds, oldest first, after (opened_at, run, step)."""
    statement = (
        select(
            wait.c.run_id,
            wait.c.step,
            wait.c.kind,
            wait.c.name,
            wait.c.asks,
            wait.c.opened_at,
            step.c.node,
            step.c.wake_at.label("expires_at"),
            workflow_version.c.workflow,
        )
        .select_from(
            wait.join(step, _beside())
            .join(run, (run.c.tenant_id == wait.c.tenant_id) & (run.c.id == wait.c.run_id))
            .join(
                workflow_version,
                (workflow_version.c.tenant_id == run.c.tenant_id)
                & (workflow_version.c.id == run.c.version_id),
            )
        )
        .where(wait.c.tenant_id == tenant, step.c.status == "waiting", wait.c.kind.in_(kinds))
        .order_by(wait.c.opened_at, wait.c.run_id, wait.c.step)
        .limit(limit)
    )
    if run_id is not None:
        statement = statement.where(wait.c.run_id == run_id)
    if after is not None:
        opened, before_run, before_step = after
        statement = statement.where(
            (wait.c.opened_at > opened)
            | (
                (wait.c.opened_at == opened)
                & (
                    (wait.c.run_id > before_run)
                    | ((wait.c.run_id == before_run) & (wait.c.step > before_step))
                )
            )
        )
    return connection.execute(statement).all()


def _beside() -> Any:
    return (
        (wait.c.tenant_id == step.c.tenant_id)
        & (wait.c.run_id == step.c.run_id)
        & (wait.c.step == step.c.key)
    )
