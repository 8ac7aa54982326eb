"""Events that were sent, until a step that waits for one claims it.

An event is addressed to a run, or to whoever waits for its name with the same match. It is
kept until it is claimed or its time is over; each is claimed once, oldest first, by the step
that has waited for longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.values import Json
from engine.store import session
from engine.store.ids import StepId
from engine.store.tables import event


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An event as it was sent."""

    tenant: str
    id: str
    name: str
    #: The run it is addressed to; None: whoever matches.
    run: str | None
    match: Json
    correlation: str
    payload: Json
    by: str
    #: Under which the sender may send it again.
    key: str | None
    #: What was said under that key.
    digest: str
    #: Seconds that it is kept.
    seconds: float


# A pair is only a candidate: whoever has meanwhile taken the event or ended the wait has won.
_PAIRS = session.Statement(
    name="event_pairs",
    types="text, text[], text, int",
    sql="""
    SELECT e.id::text AS id, e.payload::text AS payload, e.sent_by, w.run_id::text AS run_id,
        w.step, w.asks::text AS asks, s.attempt
    FROM event e
    JOIN wait w ON w.tenant_id = e.tenant_id AND w.kind = 'event' AND w.name = e.name
        AND ((e.run_id = w.run_id AND e.correlation IN ('', w.correlation))
            OR (e.run_id IS NULL AND e.correlation = w.correlation))
        AND (NOT w.transient OR e.received_at >= w.opened_at)
    JOIN step s ON s.tenant_id = w.tenant_id AND s.run_id = w.run_id AND s.key = w.step
        AND s.status = 'waiting'
    WHERE e.tenant_id = $1 AND e.state = 'kept' AND e.expires_at > clock_timestamp()
        AND ($2 IS NULL OR e.name = ANY($2)) AND ($3 IS NULL OR e.id = $3::uuid)
    ORDER BY e.received_at, e.id, w.opened_at, w.run_id, w.step LIMIT $4
    """,
)
_CLAIM = session.Statement(
    name="event_claim",
    types="text, text, text, text",
    sql="""
    UPDATE event SET state = 'claimed', claimed_run = $3::uuid, claimed_step = $4
    WHERE tenant_id = $1 AND id = (SELECT id FROM event
        WHERE tenant_id = $1 AND id = $2::uuid AND state = 'kept' FOR UPDATE SKIP LOCKED)
    RETURNING id
    """,
)
_SETTLE = session.Statement(
    name="event_settle",
    types="text, text, text, text",
    sql="""
    UPDATE event SET state = $3, detail = $4
    WHERE tenant_id = $1 AND id = $2::uuid AND state = 'kept'
    RETURNING id
    """,
)
_TENANTS = session.Statement(
    name="event_tenants",
    types="",
    sql="""
    SELECT DISTINCT w.tenant_id FROM wait w
    JOIN event e ON e.tenant_id = w.tenant_id AND e.name = w.name AND e.state = 'kept'
    WHERE w.kind = 'event' AND e.received_at < clock_timestamp() - interval '2 seconds'
    """,
)
_PURGE = session.Statement(
    name="event_purge",
    types="int",
    sql="""
    DELETE FROM event WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM event WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)
    """,
)


def put(connection: Connection, sent: Sent) -> Row[Any] | None:
    """Keep an event; the one that was sent before under its key, if there is one."""
    statement = (
        upsert(event)
        .values(
            tenant_id=sent.tenant,
            id=sent.id,
            key=sent.key,
            digest=sent.digest,
            name=sent.name,
            run_id=sent.run,
            match=sent.match,
            correlation=sent.correlation,
            payload=sent.payload,
            sent_by=sent.by,
            expires_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, sent.seconds),
        )
        .on_conflict_do_nothing()
    )
    if connection.execute(statement).rowcount == 1:
        return None
    assert sent.key is not None, "an event without a key stands in nobody's way"
    return known(connection, sent.tenant, sent.key)


def known(connection: Connection, tenant: str, key: str) -> Row[Any] | None:
    """The event that was sent under a key."""
    statement = select(event).where(event.c.tenant_id == tenant, event.c.key == key)
    return connection.execute(statement).one_or_none()


def get(connection: Connection, tenant: str, event_id: str) -> Row[Any] | None:
    """An event by its id."""
    statement = select(event).where(event.c.tenant_id == tenant, event.c.id == event_id)
    return connection.execute(statement).one_or_none()


def page(
    connection: Connection,
    tenant: str,
    *,
    states: Sequence[str] = (),
    run: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> Sequence[Row[Any]]:
    """Events, newest first, older than an id."""
    statement = select(event).where(event.c.tenant_id == tenant)
    if states:
        statement = statement.where(event.c.state.in_(states))
    if run is not None:
        statement = statement.where(event.c.run_id == run)
    if before is not None:
        statement = statement.where(event.c.id < before)
    return connection.execute(statement.order_by(event.c.id.desc()).limit(limit)).all()


def pairs(
    connection: Connection,
    tenant: str,
    names: Sequence[str] | None,
    limit: int,
    *,
    event_id: str | None = None,
) -> Sequence[Row[Any]]:
    """Kept events, or one of them, and the waits that they may end, oldest first."""
    found = None if names is None else list(names)
    return session.run(connection, _PAIRS, tenant, found, event_id, limit)


def claim(connection: Connection, event_id: str, by: StepId) -> bool:
    """Claim an event for a step; False when somebody else has it."""
    return bool(session.run(connection, _CLAIM, by.tenant, event_id, by.run, by.key))


def settle(connection: Connection, tenant: str, event_id: str, state: str, detail: str) -> bool:
    """Let an event that nobody has claimed count no more; False when it is settled already."""
    return bool(session.run(connection, _SETTLE, tenant, event_id, state, detail))


def tenants(connection: Connection) -> tuple[str, ...]:
    """The tenants in which an event and a wait of one name have not met for a while."""
    return tuple(row.tenant_id for row in session.run(connection, _TENANTS))


def purge(connection: Connection, limit: int) -> None:
    """Forget events whose time is over."""
    session.run(connection, _PURGE, limit)
