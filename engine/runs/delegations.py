"""Handing one's say to somebody else: for one question, or for whatever is asked until a time.

Whoever speaks first uses the say, its owner or whoever holds it; it counts once. It may be handed
on, but never back in a circle, and it can be taken back until it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from engine import asking
from engine.core.problem import Problem
from engine.core.values import problems as json_problems
from engine.errors import Conflict, Forbidden, Invalid, NotFound
from engine.platform import Platform
from engine.runs import acts, identity, says
from engine.runs.waits import PEOPLE, Person
from engine.store import answers, principals, session, waits
from engine.store import delegations as rows
from engine.store.ids import QuestionId, RunId, StepId

#: How far ahead somebody can hand over whatever he will be asked.
LONGEST = timedelta(days=366)
MAX_USER = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """A say in another's hands, and what became of it."""

    id: str
    giver: str
    taker: str
    #: The question that it is for; None: whatever the giver is asked until then.
    request_id: str | None
    run_id: str | None
    step: str | None
    until: datetime | None
    reason: str
    at: datetime
    #: `open`, `used` (what it is for was said), `over` (its time is), `revoked`.
    status: str
    revoked_by: str | None
    revoked_at: datetime | None


def give(
    platform: Platform,
    tenant: str,
    person: Person,
    taker: str,
    *,
    reason: str,
    run: str | None = None,
    step: str | None = None,
    until: datetime | None = None,
) -> Delegation:
    """Hand one's say to another user: in what a step asks, or in whatever is asked `until` then.

    Raises `Invalid`, also for a taker who is no active user, `NotFound` for a step that asks nobody,
    `Forbidden` for whoever has no say in it, and `Conflict` where it was used, or would come back to
    him. Whether he still has it is looked at when it is used (`says`).
    """
    _check(person.user, taker, reason)
    _check_bounds(run, step, until)
    with session.transaction(platform.database) as connection:
        # One after the other: two that are handed over at once could close a circle unseen.
        rows.lock(connection, tenant)
        question = None
        if run is not None and step is not None:
            question = _asked(connection, StepId(tenant, run, step), person, taker)
        _check_taker(connection, tenant, taker)
        now = session.now(connection)
        if until is not None and not now < until <= now + LONGEST:
            remedy = f"give a time within the next {LONGEST.days} days"
            raise Invalid([Problem(path="until", message="is out of bounds", remedy=remedy)])
        _check_circle(connection, tenant, person.user, taker, question)
        given = rows.Delegation(
            tenant=tenant,
            id=identity.new_run(),
            giver=person.user,
            roles=person.roles,
            taker=taker,
            question=question,
            until=until,
            reason=reason,
        )
        rows.put(connection, given)
        acts.record(
            connection,
            tenant,
            by=person.user,
            action="delegation.create",
            subject=f"delegation:{given.id}",
            why=reason,
            detail={
                "to": taker,
                "request_id": None if question is None else identity.question(question),
                "until": None if until is None else until.isoformat(),
            },
        )
        return _shown(rows.get(connection, tenant, given.id))


def revoke(platform: Platform, tenant: str, of: str, *, by: str, reason: str = "") -> Delegation:
    """Take one's say back.

    Raises `NotFound`, `Forbidden` for whoever did not give it, and `Conflict` for one that was
    used, or taken back before.
    """
    with session.transaction(platform.database) as connection:
        found = rows.get(connection, tenant, of)
        if found is None or by not in (found.giver, found.taker):
            raise NotFound(f"Delegation not found: {of}")
        if by != found.giver:
            raise Forbidden(f"{found.giver} has given it: nobody else takes it back")
        if found.run_id is not None:
            # Whoever is just using it holds the step.
            waits.lock(connection, StepId(tenant, found.run_id, found.step))
            found = rows.get(connection, tenant, of)
            assert found is not None, "its row is there for good"
            if found.used:
                raise Conflict("it was used: what was said stands")
        if not rows.revoke(connection, tenant, of, by=by, reason=reason):
            raise Conflict("it was taken back before")
        acts.record(
            connection,
            tenant,
            by=by,
            action="delegation.revoke",
            subject=f"delegation:{of}",
            why=reason,
        )
        return _shown(rows.get(connection, tenant, of))


def page(
    platform: Platform,
    tenant: str,
    *,
    user: str | None,
    before: str | None = None,
    limit: int = 100,
) -> tuple[Delegation, ...]:
    """Delegations to and from a user, or everybody's, newest first, older than an id."""
    with session.transaction(platform.database) as connection:
        found = rows.page(connection, tenant, user=user, before=before, limit=limit)
    return tuple(_shown(row) for row in found)


def _check(giver: str, taker: str, reason: str) -> None:
    problems: list[Problem] = []
    if not 0 < len(taker) <= MAX_USER:
        remedy = f"name a user, in up to {MAX_USER} characters"
        problems.append(Problem(path="to", message="does not fit", remedy=remedy))
    elif taker == giver:
        problems.append(Problem(path="to", message="is yourself", remedy="name somebody else"))
    if not reason.strip() or len(reason) > asking.MAX_REASON:
        remedy = f"say why, in up to {asking.MAX_REASON} characters"
        problems.append(Problem(path="reason", message="does not fit", remedy=remedy))
    for path, text in (("to", taker), ("reason", reason)):
        problems += json_problems(text, path=path)
    if problems:
        raise Invalid(problems, "the say cannot be handed over")


def _check_taker(connection: Connection, tenant: str, taker: str) -> None:
    found = principals.find(connection, tenant, taker)
    if found is None or not found.active:
        message = "there is no such user" if found is None else "is active no more"
        problem = Problem(path="to", message=message, remedy="name an active user")
        raise Invalid([problem], "the say cannot be handed over")


def _check_bounds(run: str | None, step: str | None, until: datetime | None) -> None:
    """Refuse what is neither for one step nor until a time."""
    problem = None
    if (run is None) != (step is None):
        remedy = "name both, or none of them"
        problem = Problem(path="step", message="a run and its step", remedy=remedy)
    elif (run is None) == (until is None):
        remedy = "name a step, or say until when"
        problem = Problem(path="until", message="either this or a step", remedy=remedy)
    if problem is not None:
        raise Invalid([problem], "the say cannot be handed over")


def _asked(connection: Connection, here: StepId, person: Person, taker: str) -> QuestionId:
    """The question that a step asks somebody, and that he has not answered. Its step is locked."""
    row = waits.lock(connection, here)
    if row is None or row.kind not in PEOPLE:
        raise NotFound(f"run {here.run} has no step {here.key} that asks anybody")
    of = QuestionId(*here, row.attempt, row.round)
    if not asking.is_asked(row.who, person.user, person.roles) and not _holds(
        connection, of, row, person.user
    ):
        raise asking.not_asked(row.who, person.user)
    if row.four_eyes and row.submitted_by in (person.user, taker):
        raise Forbidden(f"{row.submitted_by} submitted run {here.run}: somebody else must answer")
    for said in answers.said(connection, [of]):
        if said.say_of == person.user:
            raise Conflict(f"{said.said_by} has used it: an answer stands")
    return of


def _holds(connection: Connection, of: QuestionId, row: Any, user: str) -> bool:
    """Whether somebody holds the say of another in a question."""
    return any(
        asking.is_asked(row.who, say.of, say.roles)
        for say in says.entrusted(connection, of.tenant, user)
        if say.run is None or (say.run, say.step, say.attempt, say.round) == of[1:]
    )


def _check_circle(
    connection: Connection, tenant: str, giver: str, taker: str, question: QuestionId | None
) -> None:
    """Refuse what would bring a say back to whoever gave it: the taker's is in his hands."""
    for say in rows.entrusted(connection, tenant, giver):
        held = (say.run, say.step, say.attempt, say.round)
        if say.of == taker and (question is None or say.run is None or held == question[1:]):
            raise Conflict(f"{taker} has handed his own say to {giver}: it would go in a circle")


def _shown(row: Row[Any] | None) -> Delegation:
    assert row is not None, "its row is there for good"
    question = None
    if row.run_id is not None:
        question = QuestionId(*RunId(row.tenant_id, row.run_id), row.step, row.attempt, row.round)
    status = "open"
    if row.revoked_by is not None:
        status = "revoked"
    elif row.used:
        status = "used"
    elif row.over:
        status = "over"
    return Delegation(
        id=row.id,
        giver=row.giver,
        taker=row.taker,
        request_id=None if question is None else identity.question(question),
        run_id=row.run_id,
        step=row.step,
        until=row.until,
        reason=row.reason,
        at=row.at,
        status=status,
        revoked_by=row.revoked_by,
        revoked_at=row.revoked_at,
    )
