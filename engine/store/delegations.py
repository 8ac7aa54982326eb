"""Says that people have handed to others. Rows are written once; a revocation is one more row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, exists, func, insert, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.store import session
from engine.store.ids import QuestionId
from engine.store.tables import answer, delegation, revocation
from engine.store.waits import Entrusted

#: How often a say may be handed on.
MOST_HANDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """A say, or all of somebody's for a time, in another's hands."""

    tenant: str
    id: str
    giver: str
    #: By which the giver is asked.
    roles: Sequence[str]
    taker: str
    #: The question that it is for; None: whatever he is asked `until` then.
    question: QuestionId | None
    until: datetime | None
    reason: str


# From the taker to those whose says have come to him, through however many hands. What is for one
# question goes no further than that question.
_ENTRUSTED = session.Statement(
    name="delegation_entrusted",
    types="text, text, int",
    sql="""
    WITH RECURSIVE held AS (
        SELECT d.*, ARRAY[$2, d.giver] AS hands FROM live_delegation d
        WHERE d.tenant_id = $1 AND d.taker = $2
        UNION ALL
        SELECT d.tenant_id, d.id, d.giver, d.roles, d.taker, coalesce(d.run_id, h.run_id),
            coalesce(d.step, h.step), coalesce(d.attempt, h.attempt), coalesce(d.round, h.round),
            d.at, h.hands || d.giver
        FROM held h JOIN live_delegation d ON d.tenant_id = h.tenant_id AND d.taker = h.giver
        WHERE d.giver <> ALL (h.hands) AND cardinality(h.hands) <= $3
            AND (d.run_id IS NULL OR h.run_id IS NULL
                OR (d.run_id, d.step, d.attempt, d.round)
                    = (h.run_id, h.step, h.attempt, h.round)))
    SELECT id::text AS id, giver, roles, run_id::text AS run_id, step, attempt, round,
        hands[2:] AS hands FROM held
    ORDER BY at, id
    """.replace(
        "live_delegation d",
        """(SELECT d.tenant_id, d.id, d.giver, d.roles, d.taker, d.run_id, d.step, d.attempt,
            d.round, d.at FROM delegation d
        WHERE (d.until IS NULL OR d.until > clock_timestamp())
            AND NOT EXISTS (SELECT FROM revocation r
                WHERE r.tenant_id = d.tenant_id AND r.delegation = d.id)) d""",
    ),
)


def lock(connection: Connection, tenant: str) -> None:
    """Wait until nobody else of a tenant hands over a say; until the end of the transaction."""
    key = func.hashtextextended(f"delegation/{tenant}", 0)
    connection.execute(select(func.pg_advisory_xact_lock(key)))


def put(connection: Connection, given: Delegation) -> None:
    """Keep a delegation."""
    question = given.question
    connection.execute(
        insert(delegation).values(
            tenant_id=given.tenant,
            id=given.id,
            giver=given.giver,
            roles=sorted(given.roles),
            taker=given.taker,
            run_id=question and question.run,
            step=question and question.step,
            attempt=question and question.attempt,
            round=question and question.round,
            until=given.until,
            reason=given.reason,
        )
    )


def entrusted(connection: Connection, tenant: str, taker: str) -> tuple[Entrusted, ...]:
    """The says that were handed to somebody, those first that were handed over first.

    Whether those who gave them have them still is not looked at.
    """
    return tuple(
        Entrusted(
            id=row.id,
            of=row.giver,
            roles=tuple(row.roles),
            hands=tuple(row.hands),
            run=row.run_id,
            step=row.step,
            attempt=row.attempt,
            round=row.round,
        )
        for row in session.run(connection, _ENTRUSTED, tenant, taker, MOST_HANDS)
    )


def revoke(connection: Connection, tenant: str, of: str, *, by: str, reason: str) -> bool:
    """Take a delegation back; False when it was taken back before."""
    statement = (
        upsert(revocation)
        .values(tenant_id=tenant, delegation=of, by=by, reason=reason)
        .on_conflict_do_nothing()
    )
    return connection.execute(statement).rowcount == 1


def get(connection: Connection, tenant: str, of: str) -> Row[Any] | None:
    """A delegation, with what became of it."""
    statement = _shown().where(delegation.c.tenant_id == tenant, delegation.c.id == of)
    return connection.execute(statement).one_or_none()


def page(
    connection: Connection,
    tenant: str,
    *,
    user: str | None,
    before: str | None = None,
    limit: int = 100,
) -> Sequence[Row[Any]]:
    """Delegations to and from somebody, or of everybody, newest first, older than an id."""
    statement = (
        _shown()
        .where(delegation.c.tenant_id == tenant)
        .order_by(delegation.c.id.desc())
        .limit(limit)
    )
    if user is not None:
        statement = statement.where(or_(delegation.c.giver == user, delegation.c.taker == user))
    if before is not None:
        statement = statement.where(delegation.c.id < before)
    return connection.execute(statement).all()


def _shown() -> Any:
    """Delegations; `used`: what one is for has been said, by whoever."""
    used = exists(
        select(answer.c.said_by).where(
            answer.c.tenant_id == delegation.c.tenant_id,
            answer.c.run_id == delegation.c.run_id,
            answer.c.step == delegation.c.step,
            answer.c.attempt == delegation.c.attempt,
            answer.c.round == delegation.c.round,
            answer.c.say_of == delegation.c.giver,
        )
    )
    over = func.coalesce(delegation.c.until <= func.clock_timestamp(), False)  # SQL's
    return select(
        delegation,
        used.label("used"),
        over.label("over"),
        revocation.c.by.label("revoked_by"),
        revocation.c.at.label("revoked_at"),
        revocation.c.reason.label("revoked_why"),
    ).select_from(
        delegation.outerjoin(
            revocation,
            (revocation.c.tenant_id == delegation.c.tenant_id)
            & (revocation.c.delegation == delegation.c.id),
        )
    )
