"""What people may do to steps that wait: answer, and tell maps what to do.

A question is settled once: by the answer that makes a choice, by its expiry, by a cancel,
whichever moves the step's row first. Whoever comes later is told what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from engine import asking, waiting
from engine.core import codec
from engine.core import messages as msg
from engine.core.problem import Problem
from engine.core.values import Inline, Json
from engine.core.values import problems as json_problems
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import control, identity, letters, views
from engine.store import history, inbox, payloads, reads, session
from engine.store import waits as rows
from engine.store.ids import RunId, StepId
from engine.store.inbox import Letter
from engine.store.payloads import Payload
from engine.store.waits import End

#: What people can answer.
PEOPLE = ("approval", "input")
KINDS = ("approval", "input", "event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A step that waits for people or an event."""

    run_id: str
    step: str
    node: str
    workflow: str
    kind: str
    #: Of an event.
    name: str
    #: What an event must match, and the schema that its payload must fit.
    match: Json
    schema: Json
    #: What people are shown, and what they are asked: choices, and the schema of a form.
    title: str | None
    show: Json
    choices: tuple[str, ...]
    form: Json
    #: Who may answer: `role:NAME`, `user:NAME`; anybody where it is empty.
    who: tuple[str, ...]
    #: How many must say the same.
    quorum: int | None
    opened_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an answer came to."""

    #: The choice is made; else more people must say the same.
    settled: bool
    #: How many have chosen the same, and how many must.
    said: int
    quorum: int


def page(
    platform: Platform,
    tenant: str,
    *,
    kinds: Sequence[str] = KINDS,
    run: str | None = None,
    after: tuple[Any, str, str] | None = None,
    limit: int = 100,
) -> tuple[Open, ...]:
    """Steps that wait, those that have waited for longest first."""
    with session.transaction(platform.database) as connection:
        found = rows.page(connection, tenant, kinds=kinds, run_id=run, after=after, limit=limit)
    return tuple(
        Open(
            run_id=row.run_id,
            step=row.step,
            node=row.node,
            workflow=row.workflow,
            kind=row.kind,
            name=row.name,
            match=row.asks.get("match"),
            schema=row.asks.get("schema"),
            title=row.asks.get("title"),
            show=row.asks.get("show"),
            choices=tuple(row.asks.get("choices", ())),
            form=row.asks.get("form"),
            who=tuple(row.asks.get("from", ())),
            quorum=row.asks.get("quorum"),
            opened_at=row.opened_at,
            expires_at=row.expires_at,
        )
        for row in found
    )


def answer(
    platform: Platform,
    run: RunId,
    step: str,
    *,
    by: str,
    roles: Sequence[str] = (),
    choice: str | None = None,
    form: Mapping[str, Json] | None = None,
) -> Answered:
    """Answer a step that asks people.

    Raises `NotFound`; `Forbidden` for whoever is not asked; `Invalid` for a choice or a form
    that does not fit; `Conflict` when it is settled, with what it was, or was answered before
    by the same user.
    """
    views.status(platform, run)
    here = StepId(*run, step)
    with session.transaction(platform.database) as connection:
        row = rows.lock(connection, here)
        if row is not None and row.kind not in PEOPLE:
            raise NotFound(f"step {step} of run {run.run} asks nobody")
        late = (
            row is not None and row.wake_at is not None and row.wake_at <= session.now(connection)
        )
        found = None
        if row is not None and not late:
            found = _said(connection, here, row, by=by, roles=roles, choice=choice, form=form)
    if found is None:
        raise _too_late(platform, run, step, expired=late)
    if found.settled:
        control.fold(platform, run)
    return found


def add_items(
    platform: Platform, run: RunId, step: str, items: Sequence[Json], *, by: str
) -> int | None:
    """Send a map more items; how many it has then, None while its run is being held up.

    Raises `NotFound`, `Conflict`, `Invalid`.
    """
    if found := tuple(json_problems(list(items), path="items")):
        raise Invalid(found)
    if not 0 < len(items) <= waiting.MAX_ITEMS:
        problem = Problem(
            path="items", message=f"{len(items)} items", remedy=f"send 1 to {waiting.MAX_ITEMS}"
        )
        raise Invalid([problem])
    event = msg.ItemsAdded(at=codec.UNTIMED, step=msg.StepKey(step), by=by, items=tuple(items))
    sealed = letters.sealed(run, event, f"items/{identity.new_run()}")
    lines = _tell_map(platform, run, step, sealed.letter, [sealed.payload])
    for place, line in enumerate(lines, start=1):
        if line.payload_id == sealed.letter.payload_id:
            # Items that are taken get their places before anything else happens to the map.
            following = views.record(lines[place]) if place < len(lines) else None
            if isinstance(following, msg.AddItems):
                return following.first + following.count
            raise Conflict(f"{step} of run {run.run} waits for no more items")
    return None


def complete(platform: Platform, run: RunId, step: str, *, by: str, reason: str = "") -> None:
    """Tell a map that it has enough: what is done counts. Raises `NotFound`, `Conflict`."""
    event = msg.CompleteRequested(at=codec.UNTIMED, step=msg.StepKey(step), by=by, reason=reason)
    _tell_map(platform, run, step, letters.letter(run, event))


def _said(
    connection: Connection,
    here: StepId,
    row: Any,
    *,
    by: str,
    roles: Sequence[str],
    choice: str | None,
    form: Mapping[str, Json] | None,
) -> Answered:
    """Keep an answer, and settle the question if it makes the choice."""
    asks = row.asks
    asking.check_asked(asks, by, roles)
    filled = asking.checked(asks, choice, form or {})
    said = rows.Answer(by=by, choice=choice or "", form=filled)
    if not rows.say(connection, here, row.attempt, said):
        raise Conflict(f"{by} has answered {here.key} before; an answer stands")
    every = [one for one in rows.said(connection, here) if one.attempt == row.attempt]
    same = [one for one in every if one.choice == (choice or "")]
    quorum = asks["quorum"]
    if len(same) < quorum:
        return Answered(settled=False, said=len(same), quorum=quorum)
    end = End(step=here, attempt=row.attempt, by=f"user:{by}", late=True)
    won = rows.end(connection, [end])
    assert here in won, "its row was locked"
    names = [one.said_by for one in same]
    event = msg.WaitEnded(
        at=codec.UNTIMED,
        step=msg.StepKey(here.key),
        attempt=row.attempt,
        by=tuple(f"user:{name}" for name in names),
        result=Inline(value=asking.result(asks, choice, names, filled)),
        choice=choice,
    )
    sealed = letters.sealed(here.run_id, event, f"{here.key}/{row.attempt}")
    payloads.put_all(connection, [sealed.payload])
    inbox.put(connection, [sealed.letter])
    return Answered(settled=True, said=len(same), quorum=quorum)


def _too_late(platform: Platform, run: RunId, step: str, *, expired: bool) -> Conflict | NotFound:
    """Why a step can be answered no more, or not yet: who ended its wait tells, and nobody else."""
    here, over = StepId(*run, step), f"{step} of run {run.run} is settled: its time is over"
    if expired:
        return Conflict(over)
    with session.transaction(platform.database) as connection:
        lines = [views.record(row) for row in history.about(connection, run, step)]
        ended = [row for row in reads.attempts(connection, run, [step]) if row.outcome]
        said = {(row.attempt, f"user:{row.said_by}"): row for row in rows.said(connection, here)}
    if not any(isinstance(line, msg.OpenWait) and line.kind in PEOPLE for line in lines):
        return NotFound(f"run {run.run} has no step {step} that asks anybody")
    if ended:
        last = said.get((ended[-1].attempt, ended[-1].worker))
        if last is None:
            return Conflict(over)
        how = f"{last.said_by} answered {last.choice}".rstrip()
        return Conflict(f"{step} of run {run.run} is settled: {how}")
    for line in lines:
        if isinstance(line, msg.SkipRequested):
            return Conflict(f"{step} of run {run.run} is settled: {line.by} skipped it")
    status = views.status(platform, run)
    return Conflict(f"{step} of run {run.run} waits for no answer: the run is {status.status}")


def _tell_map(
    platform: Platform, run: RunId, step: str, letter: Letter, beside: Sequence[Payload] = ()
) -> Sequence[Row[Any]]:
    """Leave an event for a map and take its turn; all that history says of the map then."""
    views.status(platform, run)
    with session.transaction(platform.database) as connection:
        row = rows.lock(connection, StepId(*run, step))
        if row is None or row.wait != "map":
            if not history.about(connection, run, step):
                raise NotFound(f"run {run.run} has no step {step}")
            raise Conflict(f"{step} of run {run.run} waits for no items")
        payloads.put_all(connection, beside)
        inbox.put(connection, [letter])
    control.fold(platform, run)
    with session.transaction(platform.database) as connection:
        return history.about(connection, run, step)
