"""Approvals from their request to their end, whether they are open or were settled long ago.

The same rows as those that wait, in the words of those who look from outside: a request is
pending, approved, denied or expired; or cancelled, when its run went on without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from engine.core.values import Json
from engine.errors import NotFound
from engine.platform import Platform
from engine.runs import identity, views, waits
from engine.runs.waits import Heard
from engine.store import answers, history, session
from engine.store.ids import QuestionId, RunId, StepId

STATUSES = ("pending", "approved", "denied", "expired", "cancelled")
#: The kinds of wait that approve something. An input only asks what is so.
KINDS = ("approval", "permit")
_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A request for an approval, and what came of it."""

    request_id: str
    #: The policy that asked for it; None: the workflow itself did.
    policy_id: str | None
    requested_by: str
    status: str
    #: Those whose answers approved it, and when the last of them did.
    approved_by: tuple[str, ...]
    approved_at: datetime | None
    #: How long it may be answered; None: for as long as it takes.
    expiry_hours: float | None
    #: What was said for the verdict; while it is pending, why it is asked.
    reason: str
    #: Where it is asked, and what.
    run_id: str
    workflow: str
    step: str
    attempt: int
    kind: str
    title: str | None
    show: Json
    choices: tuple[str, ...]
    tool: str | None
    arguments: Json
    digest: str | None
    who: tuple[str, ...]
    requested_at: datetime
    expires_at: datetime | None
    escalated_at: datetime | None
    #: Who or what settled it: `user:NAME`, `clock`; with which choice, when, and by which rule.
    settled_by: str | None
    choice: str | None
    settled_at: datetime | None
    message: str
    answers: tuple[Heard, ...]


def get(platform: Platform, tenant: str, request_id: str) -> Approval:
    """A request by its name. Raises `NotFound`."""
    of = identity.question_of(tenant, request_id)
    with session.transaction(platform.database) as connection:
        row = None if of is None else answers.get(connection, of)
        if row is None:
            raise NotFound(f"Approval request not found: {request_id}")
        return _approval(row, answers.said(connection, [_question(row)]))


def page(
    platform: Platform,
    tenant: str,
    *,
    kinds: Sequence[str] = KINDS,
    status: str | None = None,
    before: tuple[datetime, str, str, int, int] | None = None,
    limit: int = 100,
) -> tuple[Approval, ...]:
    """Requests, newest first, asked before (requested_at, run, step, attempt, round)."""
    with session.transaction(platform.database) as connection:
        found = answers.page(
            connection, tenant, kinds=kinds, status=status, before=before, limit=limit
        )
        said = answers.said(connection, [_question(row) for row in found])
    return tuple(_approval(row, said) for row in found)


def of_step(platform: Platform, run: RunId, step: str) -> tuple[Approval, ...]:
    """All that a step has asked people, oldest first, with what they said. Raises `NotFound`."""
    views.status(platform, run)
    with session.transaction(platform.database) as connection:
        found = answers.of_step(connection, StepId(*run, step))
        if not found and not history.about(connection, run, step):
            raise NotFound(f"run {run.run} has no step {step}")
        said = answers.said(connection, [_question(row) for row in found])
    return tuple(_approval(row, said) for row in found)


def place(approval: Approval) -> list[Json]:
    """Where a request stands in a page, for what follows it."""
    of = identity.question_of("", approval.request_id)
    assert of is not None, "it was named here"
    return [approval.requested_at.isoformat(), of.run, of.step, of.attempt, of.round]


def _question(row: Row[Any]) -> QuestionId:
    return QuestionId(row.tenant_id, row.run_id, row.step, row.attempt, row.round)


def _approval(row: Row[Any], said: Sequence[Row[Any]]) -> Approval:
    of, asks = _question(row), row.asks
    heard = tuple(
        waits.heard(one)
        for one in said
        if QuestionId(one.tenant_id, one.run_id, one.step, one.attempt, one.round) == of
    )
    for_it = [one for one in heard if row.by is not None and one.choice == row.choice]
    approved = row.approved is True
    expires = row.expires_at
    why = next((one.reason for one in reversed(for_it) if one.reason), "")
    return Approval(
        request_id=identity.question(of),
        policy_id=asks.get("policy_id"),
        requested_by=row.submitted_by,
        status=_status(row),
        approved_by=tuple(one.by for one in for_it) if approved else (),
        approved_at=row.at if approved else None,
        expiry_hours=None
        if expires is None
        else round((expires - row.asked_at).total_seconds() / _HOUR, 3),
        reason=why or (row.message if row.by is not None else str(asks.get("why") or "")),
        run_id=row.run_id,
        workflow=row.workflow,
        step=row.step,
        attempt=row.attempt,
        kind=row.kind,
        title=asks.get("title"),
        show=asks.get("show"),
        choices=tuple(asks.get("choices", ())),
        tool=row.tool,
        arguments=asks.get("arguments"),
        digest=asks.get("digest"),
        who=tuple(asks.get("from", ()) if row.who is None else row.who),
        requested_at=row.asked_at,
        expires_at=expires,
        escalated_at=row.escalated_at,
        settled_by=row.by,
        choice=row.choice,
        settled_at=row.at,
        message=row.message or "",
        answers=heard,
    )


def _status(row: Row[Any]) -> str:
    if row.by is not None:
        return {True: "approved", False: "denied", None: "expired"}[row.approved]
    if not row.open:
        return "cancelled"
    return "expired" if row.over else "pending"
