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


# An event to a run, and one to whoever matches, find their waits by two keys that are both
# selective. Put as one condition they would leave the name alone to join by: thousands of
# events and waits of one name would all be held against each other.
_TO_A_RUN = "e.run_id = w.run_id AND e.correlation IN ('', w.correlation)"
_TO_WHOEVER = "e.run_id IS NULL AND e.correlation = w.correlation"
_AWAITED = """w.tenant_id = e.tenant_id AND w.kind = 'event' AND w.name = e.name
            AND (NOT w.transient OR e.received_at >= w.opened_at)"""

# A pair is only a candidate: whoever has meanwhile taken the event or ended the wait has won.
# Without the payload: it may be large, and would be there once for each step that waits. The
# time of an event that is asked for by its id counts not: it is only just sent.
_CANDIDATES = """
        SELECT e.tenant_id, e.id, e.received_at, w.run_id, w.step, w.asks, w.opened_at
        FROM event e JOIN wait w ON {awaited} AND {addressed}
        WHERE e.tenant_id = $1 AND e.state = 'kept' AND ($2 IS NULL OR e.name = ANY($2))
            AND CASE WHEN $3 IS NULL THEN e.expires_at > clock_timestamp()
                ELSE e.id = $3::uuid END"""
_PAIRS = session.Statement(
    name="event_pairs",
    types="text, text[], text, int",
    # Found once, before the steps are: on new tables the planner would find them for each step.
    sql=f"""
    WITH candidate AS MATERIALIZED (
        {_CANDIDATES.format(awaited=_AWAITED, addressed=_TO_A_RUN)}
        UNION ALL {_CANDIDATES.format(awaited=_AWAITED, addressed=_TO_WHOEVER)})
    SELECT c.id::text AS id, c.run_id::text AS run_id, c.step, c.asks::text AS asks, s.attempt
    FROM candidate c
    JOIN step s ON s.tenant_id = c.tenant_id AND s.run_id = c.run_id AND s.key = c.step
        AND s.status = 'waiting'
    ORDER BY c.received_at, c.id, c.opened_at, c.run_id, c.step LIMIT $4
    """,  # noqa: S608  # our own constants
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
_UNMET = """
    SELECT e.tenant_id FROM event e
    WHERE e.state = 'kept' AND e.expires_at > clock_timestamp()
        AND e.received_at < clock_timestamp() - interval '2 seconds'
        AND EXISTS (SELECT FROM wait w WHERE {awaited} AND {addressed})"""
_TENANTS = session.Statement(
    name="event_tenants",
    types="",
    sql=f"""{_UNMET.format(awaited=_AWAITED, addressed=_TO_A_RUN)}
    UNION {_UNMET.format(awaited=_AWAITED, addressed=_TO_WHOEVER)}
    """,
)
# An event whose time is over counts no more. What is still remembered then is looked at again
# when that is over too, and not before.
_PURGE = session.Statement(
    name="event_purge",
    types="float8, float8, int",
    sql="""
    WITH over AS (
        SELECT tenant_id, id, received_at
            + make_interval(secs => CASE WHEN key IS NULL THEN $1 ELSE $2 END) AS until
        FROM event WHERE expires_at <= now()
        ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED),
    remembered AS (
        UPDATE event e SET expires_at = o.until,
            state = CASE e.state WHEN 'kept' THEN 'dropped' ELSE e.state END,
            detail = CASE e.state WHEN 'kept' THEN 'nobody took it in time' ELSE e.detail END
        FROM over o
        WHERE e.tenant_id = o.tenant_id AND e.id = o.id AND o.until > now())
    DELETE FROM event e USING over o
    WHERE e.tenant_id = o.tenant_id AND e.id = o.id AND o.until <= now()
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
    """The tenants in which an event and a wait that it may end have not met for a while."""
    return tuple(row.tenant_id for row in session.run(connection, _TENANTS))


def purge(connection: Connection, *, least: float, keyed: float, limit: int) -> None:
    """Forget events whose time is over, none sooner than some seconds after it came.

    `least` for one without a key; `keyed` for one that its sender may send again.
    """
    session.run(connection, _PURGE, least, keyed, limit)
