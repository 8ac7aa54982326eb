"""Events from outside, and the steps that wait for them.

An event is kept until a step claims it; a step waits until an event comes. Both sides look
for each other after their own commit, so one of the two finds the other; the sweeper looks
once more. Event and step are each settled by one guarded UPDATE, in one transaction: an event
ends one wait, and a wait is ended by one event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import waiting
from engine.core import codec
from engine.core import messages as msg
from engine.core.document import vocabulary as words
from engine.core.problem import Problem
from engine.core.values import Inline, Json, digest
from engine.errors import Conflict, Invalid, NotFound, Unavailable
from engine.platform import Platform
from engine.runs import acts, identity, letters, views
from engine.runs.upkeep import KEYS_KEPT
from engine.store import events as rows
from engine.store import inbox, payloads, session, waits
from engine.store.ids import RunId, StepId
from engine.store.waits import End

#: Seconds that an event nobody waits for is kept, unless its sender says otherwise.
KEPT_SECONDS = 30 * 86_400.0
#: Seconds that every event is there to be read, by its sender too, however short it is kept.
_LEAST_KEPT = 60.0
#: Pairs of an event and a wait that are looked at together.
_BATCH = 100


class KeyUsed(Conflict):
    """This key was used for another event; use a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event, and what became of it."""

    id: str
    name: str
    run_id: str | None
    match: Json
    payload: Json
    sent_by: str
    #: `kept`, `claimed`, `dropped` (nobody waited), `refused` (its payload does not fit).
    state: str
    detail: str
    claimed_run: str | None
    claimed_step: str | None
    received_at: datetime
    expires_at: datetime
    #: It was sent before, under the same key.
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """An event that is the platform's way to tell a run something: the act that is kept of it."""

    action: str
    detail: Mapping[str, Json] = field(default_factory=dict)


def send(
    platform: Platform,
    tenant: str,
    name: str,
    payload: Json,
    *,
    by: str,
    run: str | None = None,
    match: Mapping[str, Json] | None = None,
    key: str | None = None,
    transient: bool = False,
    seconds: float = KEPT_SECONDS,
    own: Own | None = None,
) -> tuple[Event, tuple[RunId, ...]]:
    """Send an event; what became of it, and the runs that have something to fold by it.

    To a run, or to whoever waits for the name with the same match. A transient one is dropped
    if nobody waits for it now. `own`: it is one of the platform's own. Under a key it may be sent
    again: the first one counts. Raises `NotFound` for a run that there is not, `Conflict` for
    one that has ended, `KeyUsed`, and `Invalid` where the step that waits for it cannot take its
    payload.
    """
    _check_name(name, own=own is not None)
    event_id = identity.new_run()
    said = digest([name, run, dict(match or {}), payload, transient])
    if key is not None:
        with session.transaction(platform.database) as connection:
            known = rows.known(connection, tenant, key)
        if known is not None:
            return _repeated(known, said), ()
    if run is not None and views.status(platform, RunId(tenant, run)).terminal:
        raise Conflict(f"run {run} has ended and waits for nothing")
    sent = rows.Sent(
        tenant=tenant,
        id=event_id,
        name=name,
        run=run,
        match=dict(match or {}),
        correlation=waiting.correlation(dict(match or {})),
        payload=payload,
        by=by,
        key=key,
        digest=said,
        # Long enough to meet whoever waits for it already.
        seconds=max(seconds, 1.0),
    )
    runs = route(platform, tenant, [name]) if transient else ()
    with session.transaction(platform.database) as connection:
        known = rows.put(connection, sent)
        if known is None:
            # What it says is not told here: it may have to be shredded.
            acts.record(
                connection,
                tenant,
                by=by,
                action="event.send" if own is None else own.action,
                subject=f"event:{event_id}" if own is None else f"run:{run}",
                detail={"name": name, "run": run, **({} if own is None else own.detail)},
            )
        if known is None and transient:
            # Nobody else ever sees it waiting: it is taken here and now, or not at all.
            pairs = rows.pairs(connection, tenant, [name], _BATCH, event_id=event_id)
            met = _meet(connection, tenant, event_id, pairs)
            runs += () if met.step is None else (met.step.run_id,)
            rows.settle(connection, tenant, event_id, "dropped", "nobody waited for it")
    if known is not None:
        return _repeated(known, said), ()
    if not transient:
        runs = route(platform, tenant, [name])
    with session.transaction(platform.database) as connection:
        row = rows.get(connection, tenant, event_id)
    if row is None:
        # Its sender stood still for longer than the event was there, or it gave way to one that
        # was forgotten in that moment.
        raise Unavailable("the event is forgotten already; see what came of it, or send it again")
    return _shown(row), runs


def _check_name(name: str, *, own: bool) -> None:
    if name.startswith(words.OWN_NAMES) and not own:
        message = f"names that begin with {words.OWN_NAMES} are the platform's own"
        raise Invalid([Problem(path="name", message=message, remedy="use another")])
    if not 0 < len(name) <= waiting.MAX_NAME:
        message = f"is not 1 to {waiting.MAX_NAME} characters"
        raise Invalid([Problem(path="name", message=message, remedy="use a shorter one")])


def _repeated(known: Row[Any], said: str) -> Event:
    """The event that was sent before under the same key."""
    if known.digest != said:
        raise KeyUsed
    return replace(_shown(known), replayed=True)


def _shown(row: Row[Any]) -> Event:
    """An event as its sender is shown it. Raises `Invalid` for one that no step could take."""
    if row.state == "refused":
        problem = Problem(path="payload", message=row.detail, remedy="send what the step expects")
        raise Invalid([problem], "the event does not fit")
    return _event(row)


def get(platform: Platform, tenant: str, event_id: str) -> Event:
    """An event. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        row = rows.get(connection, tenant, event_id)
    if row is None:
        raise NotFound(f"Event not found: {event_id}")
    return _event(row)


def page(
    platform: Platform,
    tenant: str,
    *,
    states: Sequence[str] = (),
    run: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> tuple[Event, ...]:
    """Events, newest first, older than an id."""
    with session.transaction(platform.database) as connection:
        found = rows.page(connection, tenant, states=states, run=run, before=before, limit=limit)
    return tuple(_event(row) for row in found)


def route(platform: Platform, tenant: str, names: Sequence[str] | None = None) -> tuple[RunId, ...]:
    """Bring events and the steps that wait for them together; the runs that claimed one."""
    claimed: list[RunId] = []
    while True:
        with session.transaction(platform.database) as connection:
            pairs = rows.pairs(connection, tenant, names, _BATCH)
        done = _round(platform, tenant, pairs)
        claimed += [met.step.run_id for met in done if met.step is not None]
        if not any(met.settled for met in done):
            return tuple(dict.fromkeys(claimed))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """What became of an event."""

    #: The step that has claimed it.
    step: StepId | None = None
    #: Claimed, or refused.
    settled: bool


def _round(platform: Platform, tenant: str, pairs: Sequence[Row[Any]]) -> list[_Met]:
    """Settle what can be, one event after the other, oldest first.

    Each in a transaction of its own, so that nobody holds one step and waits for another.
    """
    events = [(event_id, [*found]) for event_id, found in groupby(pairs, key=lambda pair: pair.id)]
    if len(pairs) == _BATCH and len(events) > 1:
        # There may be steps for the last event that the batch had no room for: it comes again.
        events.pop()
    done: list[_Met] = []
    for event_id, found in events:
        taken = {one.step for one in done}
        free = [one for one in found if StepId(tenant, one.run_id, one.step) not in taken]
        with session.transaction(platform.database) as connection:
            done.append(_meet(connection, tenant, event_id, free))
    return done


def sweep(platform: Platform, limit: int) -> tuple[RunId, ...]:
    """Bring together what has missed each other, and forget what is over."""
    with session.transaction(platform.database) as connection:
        tenants = rows.tenants(connection)
        # A key outlives the event: it was promised to end one wait, however often it is sent.
        rows.purge(connection, least=_LEAST_KEPT, keyed=KEYS_KEPT, limit=limit)
    return tuple(run for tenant in tenants for run in route(platform, tenant))


def _meet(connection: Connection, tenant: str, event_id: str, pairs: Sequence[Row[Any]]) -> _Met:
    """Let an event end the first wait that is still to be had and can take it.

    An event that none of them can take counts no more.
    """
    event = rows.get(connection, tenant, event_id) if pairs else None
    if event is None:
        return _Met(settled=False)
    why = ""
    for pair in pairs:
        if misfit := _misfit(pair, event.payload):
            why = why or misfit
        elif _claimed(connection, tenant, pair, event):
            return _Met(step=StepId(tenant, pair.run_id, pair.step), settled=True)
    settled = bool(why) and rows.settle(connection, tenant, event_id, "refused", why)
    return _Met(settled=settled)


def _misfit(pair: Row[Any], payload: Json) -> str:
    """Why a step cannot take the payload; empty when it can."""
    said = waiting.misfit(orjson.loads(pair.asks).get("schema"), payload)
    return said and f"step {pair.step} of run {pair.run_id} cannot take it: {said}"[:2000]


def _claimed(connection: Connection, tenant: str, pair: Row[Any], event: Row[Any]) -> bool:
    """Let an event end a wait, if both are still to be had."""
    step = StepId(tenant, pair.run_id, pair.step)
    end = End(step=step, attempt=pair.attempt, by=f"event:{pair.id}")
    with connection.begin_nested() as savepoint:
        if not rows.claim(connection, pair.id, step) or not waits.end(connection, [end]):
            savepoint.rollback()
            return False
        ended = msg.WaitEnded(
            at=codec.UNTIMED,
            step=msg.StepKey(step.key),
            attempt=pair.attempt,
            by=(f"event:{pair.id}", f"user:{event.sent_by}"),
            result=Inline(value=event.payload),
        )
        sealed = letters.sealed(step.run_id, ended, f"{step.key}/{pair.attempt}")
        payloads.put_all(connection, [sealed.payload])
        inbox.put(connection, [sealed.letter])
    return True


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        name=row.name,
        run_id=row.run_id,
        match=row.match,
        payload=row.payload,
        sent_by=row.sent_by,
        state=row.state,
        detail=row.detail,
        claimed_run=row.claimed_run,
        claimed_step=row.claimed_step,
        received_at=row.received_at,
        expires_at=row.expires_at,
    )
