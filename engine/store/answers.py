"""Questions, what was said to them, and how they were settled. Rows are written once.

A question is what one step asked in one attempt, the first time or a later one (`round`). Its
row and that of its verdict are written by `engine.store.waits`, beside what they are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from engine.core.values import Json
from engine.store import session
from engine.store.ids import QuestionId, StepId
from engine.store.tables import answer, question, run, step, verdict, wait, workflow_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody said to a step that asks."""

    by: str
    #: Whose say it is, and by which row it was entrusted to whoever used it.
    of: str
    delegation: str | None = None
    choice: str
    form: Json
    reason: str = ""
    #: Of what he was shown.
    digest: str | None = None


_LAST_APPROVED = session.Statement(
    name="answer_last_approved",
    types="text, text[]",
    sql="""
    SELECT t.tool, (q.asks->'arguments')::text AS arguments
    FROM unnest($2) AS t (tool)
    CROSS JOIN LATERAL (SELECT v.* FROM verdict v
        WHERE v.tenant_id = $1 AND v.tool = t.tool AND v.approved ORDER BY v.at DESC LIMIT 1) v
    JOIN question q ON q.tenant_id = v.tenant_id AND q.run_id = v.run_id AND q.step = v.step
        AND q.attempt = v.attempt AND q.round = v.round
    WHERE q.asks->'arguments' IS NOT NULL
    """,
)


def say(connection: Connection, to: QuestionId, said: Answer) -> bool:
    """Keep what somebody said; False when he has spoken before, or his say was used."""
    statement = (
        upsert(answer)
        .values(
            tenant_id=to.tenant,
            run_id=to.run,
            step=to.step,
            attempt=to.attempt,
            round=to.round,
            said_by=said.by,
            say_of=said.of,
            delegation=said.delegation,
            choice=said.choice,
            form=said.form,
            reason=said.reason,
            digest=said.digest,
        )
        .on_conflict_do_nothing()
    )
    return connection.execute(statement).rowcount == 1


def said(connection: Connection, to: Sequence[QuestionId]) -> Sequence[Row[Any]]:
    """What was said to questions, oldest first."""
    if not to:
        return ()
    # By run as well: it names the partitions.
    statement = (
        select(answer)
        .where(
            answer.c.tenant_id.in_({one.tenant for one in to}),
            answer.c.run_id.in_({one.run for one in to}),
            tuple_(answer.c.run_id, answer.c.step, answer.c.attempt, answer.c.round).in_(
                [one[1:] for one in to]
            ),
        )
        .order_by(answer.c.at, answer.c.said_by)
    )
    return connection.execute(statement).all()


def settled(connection: Connection, of: StepId) -> Row[Any] | None:
    """How the last question of a step was settled; None while it is open, or if it never was."""
    statement = (
        select(verdict)
        .select_from(question.outerjoin(verdict, _settles()))
        .where(
            question.c.tenant_id == of.tenant,
            question.c.run_id == of.run,
            question.c.step == of.key,
        )
        .order_by(question.c.asked_at.desc(), question.c.attempt.desc(), question.c.round.desc())
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None or row.by is None else row


def of_step(connection: Connection, of: StepId) -> Sequence[Row[Any]]:
    """The questions of a step, oldest first, each with its verdict and what is open of it."""
    statement = _questions().where(
        question.c.tenant_id == of.tenant,
        question.c.run_id == of.run,
        question.c.step == of.key,
    )
    return connection.execute(
        statement.order_by(question.c.asked_at, question.c.attempt, question.c.round)
    ).all()


def get(connection: Connection, of: QuestionId) -> Row[Any] | None:
    """A question, as `of_step` shows them."""
    statement = _questions().where(
        question.c.tenant_id == of.tenant,
        question.c.run_id == of.run,
        question.c.step == of.step,
        question.c.attempt == of.attempt,
        question.c.round == of.round,
    )
    return connection.execute(statement).one_or_none()


def page(
    connection: Connection,
    tenant: str,
    *,
    kinds: Sequence[str],
    status: str | None = None,
    before: tuple[datetime, str, str, int, int] | None = None,
    limit: int = 100,
) -> Sequence[Row[Any]]:
    """Questions, newest first, asked before (asked_at, run, step, attempt, round)."""
    place = (
        question.c.asked_at,
        question.c.run_id,
        question.c.step,
        question.c.attempt,
        question.c.round,
    )
    statement = (
        _questions()
        .where(question.c.tenant_id == tenant, question.c.kind.in_(kinds))
        .order_by(*(column.desc() for column in place))
        .limit(limit)
    )
    if status is not None:
        statement = statement.where(_STATUSES[status])
    if before is not None:
        statement = statement.where(tuple_(*place) < tuple_(*before))
    return connection.execute(statement).all()


def last_approved(connection: Connection, tenant: str, tools: Sequence[str]) -> Sequence[Row[Any]]:
    """For each tool the arguments, as text, of the call of it that was approved last."""
    return session.run(connection, _LAST_APPROVED, tenant, [*tools]) if tools else ()


def _questions() -> Any:
    return select(
        question,
        wait.c.who,
        func.coalesce(wait.c.escalated_at, verdict.c.escalated_at).label("escalated_at"),
        wait.c.run_id.is_not(None).label("open"),
        (step.c.wake_at <= func.clock_timestamp()).label("over"),
        verdict.c.by,
        verdict.c.choice,
        verdict.c.approved,
        verdict.c.message,
        verdict.c.at,
        run.c.submitted_by,
        workflow_version.c.workflow,
    ).select_from(
        question.join(
            run, (run.c.tenant_id == question.c.tenant_id) & (run.c.id == question.c.run_id)
        )
        .join(
            workflow_version,
            (workflow_version.c.tenant_id == run.c.tenant_id)
            & (workflow_version.c.id == run.c.version_id),
        )
        .outerjoin(verdict, _settles())
        .outerjoin(
            step,
            (step.c.tenant_id == question.c.tenant_id)
            & (step.c.run_id == question.c.run_id)
            & (step.c.key == question.c.step)
            & (step.c.attempt == question.c.attempt)
            & (step.c.status == "waiting"),
        )
        .outerjoin(
            wait,
            (wait.c.tenant_id == step.c.tenant_id)
            & (wait.c.run_id == step.c.run_id)
            & (wait.c.step == step.c.key)
            & (wait.c.round == question.c.round),
        )
    )


def _settles() -> ColumnElement[bool]:
    return and_(
        verdict.c.tenant_id == question.c.tenant_id,
        verdict.c.run_id == question.c.run_id,
        verdict.c.step == question.c.step,
        verdict.c.attempt == question.c.attempt,
        verdict.c.round == question.c.round,
    )


_OVER = func.coalesce(step.c.wake_at <= func.clock_timestamp(), False)  # SQL's
_EXPIRED = (verdict.c.by.is_not(None) & verdict.c.approved.is_(None)) | (
    verdict.c.by.is_(None) & wait.c.run_id.is_not(None) & _OVER
)
#: What each status means; `engine.runs.approvals` says the same of a row.
_STATUSES: dict[str, ColumnElement[bool]] = {
    "pending": verdict.c.by.is_(None) & wait.c.run_id.is_not(None) & ~_OVER,
    "approved": verdict.c.approved.is_(True),
    "denied": verdict.c.approved.is_(False),
    "expired": _EXPIRED,
    "cancelled": verdict.c.by.is_(None) & wait.c.run_id.is_(None),
}
