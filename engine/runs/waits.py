"""Steps that wait, as people find them; and what they may tell maps to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import asking, waiting
from engine.core import codec
from engine.core import messages as msg
from engine.core.problem import Problem
from engine.core.values import Json
from engine.core.values import problems as json_problems
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import control, identity, letters, says, views
from engine.store import answers, history, inbox, payloads, session
from engine.store import waits as rows
from engine.store.ids import QuestionId, RunId, StepId
from engine.store.inbox import Letter
from engine.store.payloads import Payload

#: What people can answer.
PEOPLE = rows.PEOPLE
KINDS = (*PEOPLE, "event")
#: What somebody may answer; what those may with whom he shares a role; what is late.
VIEWS = ("mine", "team", "overdue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who looks into the inbox, or answers."""

    user: str
    roles: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which open waits: those that everything that is given holds of."""

    #: `mine`: asked of the person, by name, by a role, or of whoever handed him his say, or of
    #: anybody, and he can still answer. `team`: asked of a role that he has. `overdue`: past the
    #: time when it is put to others, too, or past all its time. None: all.
    view: str | None = None
    kinds: Sequence[str] = KINDS
    run: str | None = None
    workflow: str | None = None
    tool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What somebody has said to a step that asks."""

    by: str
    #: Whose say he used, if not his own.
    behalf: str | None
    choice: str | None
    form: Json
    reason: str
    #: Of what he was shown.
    digest: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A step that waits for people or an event."""

    #: The name of what people are asked; None of an event.
    request_id: str | None
    run_id: str
    step: str
    attempt: int
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
    #: How many must say the same, at most; and of each choice, where that differs.
    quorum: int | None
    quorums: Mapping[str, int]
    #: `required`: whoever denies it must say why.
    reason: str | None
    #: Whoever submitted the run may not answer.
    four_eyes: bool
    submitted_by: str
    #: The tool whose call is asked about, with what; and the digest of all that an answer is for.
    tool: str | None
    arguments: Json
    digest: str | None
    #: Where the arguments differ from those of the last call of the tool that was approved; None:
    #: there was none.
    differs: tuple[str, ...] | None
    #: What has been said so far.
    said: tuple[Heard, ...]
    opened_at: datetime
    expires_at: datetime | None
    #: When others are asked, too, and since when they are.
    escalates_at: datetime | None
    escalated_at: datetime | None
    overdue: bool


def page(
    platform: Platform,
    tenant: str,
    *,
    kinds: Sequence[str] = KINDS,
    run: str | None = None,
    which: Filter | None = None,
    person: Person | None = None,
    after: tuple[Any, str, str] | None = None,
    limit: int = 100,
) -> tuple[Open, ...]:
    """Steps that wait, those that have waited for longest first; what a view shows to a person."""
    given = which or Filter(kinds=kinds, run=run)
    with session.transaction(platform.database) as connection:
        looked = _which(connection, tenant, given, person)
        found = rows.page(connection, tenant, which=looked, after=after, limit=limit)
        said = answers.said(connection, [_question(tenant, row) for row in found])
        tools = {row.tool for row in found if row.tool is not None and "arguments" in row.asks}
        before = {
            row.tool: orjson.loads(row.arguments)
            for row in answers.last_approved(connection, tenant, sorted(tools))
        }
    return tuple(_open(tenant, row, said, before) for row in found)


def counts(
    platform: Platform, tenant: str, *, person: Person, which: Filter | None = None
) -> Mapping[str, int]:
    """How many there are in each view of a person, and in all: `mine`, `team`, `overdue`, `all`."""
    with session.transaction(platform.database) as connection:
        looked = _which(connection, tenant, which or Filter(), person)
        return rows.counts(connection, tenant, looked)


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


def _which(connection: Connection, tenant: str, given: Filter, person: Person | None) -> rows.Which:
    """A filter in the words of the store, with the says that were handed to whoever looks."""
    looker = rows.Person(user="")
    if person is not None:
        looker = rows.Person(
            user=person.user,
            roles=tuple(person.roles),
            entrusted=says.entrusted(connection, tenant, person.user),
        )
    return rows.Which(
        kinds=given.kinds,
        view=given.view,
        person=looker,
        run=given.run,
        workflow=given.workflow,
        tool=given.tool,
    )


def _question(tenant: str, row: Row[Any]) -> QuestionId:
    return QuestionId(tenant, row.run_id, row.step, row.attempt, row.round)


def _open(tenant: str, row: Row[Any], said: Sequence[Row[Any]], before: Mapping[str, Json]) -> Open:
    """What a row tells; `before`: the arguments of the last approved call of each tool."""
    asks, of = row.asks, _question(tenant, row)
    differs = None
    if row.tool in before and "arguments" in asks:
        differs = tuple(asking.differences(before[row.tool], asks["arguments"]))
    people = row.kind in PEOPLE
    quorum = asks.get("quorum")
    return Open(
        request_id=identity.question(of) if people else None,
        run_id=row.run_id,
        step=row.step,
        attempt=row.attempt,
        node=row.node,
        workflow=row.workflow,
        kind=row.kind,
        name=row.name,
        match=asks.get("match"),
        schema=asks.get("schema"),
        title=asks.get("title"),
        show=asks.get("show"),
        choices=tuple(asks.get("choices", ())),
        form=asks.get("form"),
        who=tuple(row.who),
        quorum=asking.most_needed(asks),
        quorums=dict(quorum) if isinstance(quorum, dict) else {},
        reason=asks.get("reason"),
        four_eyes=row.four_eyes,
        tool=row.tool,
        arguments=asks.get("arguments"),
        digest=asks.get("digest"),
        differs=differs,
        submitted_by=row.submitted_by,
        said=tuple(
            heard(one) for one in said if (one.run_id, one.step, one.attempt, one.round) == of[1:]
        ),
        opened_at=row.opened_at,
        expires_at=row.expires_at,
        escalates_at=row.escalates_at,
        escalated_at=row.escalated_at,
        overdue=row.overdue,
    )


def heard(row: Row[Any]) -> Heard:
    """An answer as it is shown."""
    return Heard(
        by=row.said_by,
        behalf=None if row.say_of == row.said_by else row.say_of,
        choice=row.choice or None,
        form=row.form,
        reason=row.reason,
        digest=row.digest,
        at=row.at,
    )


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
