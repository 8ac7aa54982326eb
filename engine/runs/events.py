"""Events from outside, and the steps that wait for them.

An event is kept until a step claims it; a step waits until an event comes. Both sides look
for each other after their own commit, so one of the two finds the other; the sweeper looks
once more. Event and step are each settled by one guarded UPDATE, in one transaction: an event
ends one wait, and a wait is ended by one event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import waiting
from engine.core import codec
from engine.core import messages as msg
from engine.core.problem import Problem
from engine.core.values import Inline, Json, digest
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import identity, letters, views
from engine.store import events as rows
from engine.store import inbox, payloads, session, waits
from engine.store.ids import RunId, StepId
from engine.store.waits import End

#: Seconds that an event nobody waits for is kept, unless its sender says otherwise.
KEPT_SECONDS = 30 * 86_400.0
#: Pairs of an event and a wait that are looked at together.
_BATCH = 100


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
) -> tuple[Event, tuple[RunId, ...]]:
    """Send an event; what became of it, and the runs that have something to fold by it.

    To a run, or to whoever waits for the name with the same match. A transient one is dropped
    if nobody waits for it now. Under a key it may be sent again: the first one counts. Raises
    `NotFound` for a run that there is not, `Conflict` for one that has ended or a key that was
    used for another event, `Invalid` where the step that waits for it cannot take its payload.
    """
    if run is not None and views.status(platform, RunId(tenant, run)).terminal:
        raise Conflict(f"run {run} has ended and waits for nothing")
    event_id = identity.new_run()
    said = digest([name, run, dict(match or {}), payload, transient])
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
        seconds=seconds,
    )
    with session.transaction(platform.database) as connection:
        known = rows.put(connection, sent)
    if known is not None:
        if known.digest != said:
            raise Conflict("this key was used for another event; use a new one")
        return _event(known), ()
    runs = route(platform, tenant, [name])
    with session.transaction(platform.database) as connection:
        if transient:
            rows.settle(connection, tenant, event_id, "dropped", "nobody waited for it")
        row = rows.get(connection, tenant, event_id)
    assert row is not None
    if row.state == "refused":
        problem = Problem(path="payload", message=row.detail, remedy="send what the step expects")
        raise Invalid([problem], "the event does not fit")
    return _event(row), runs


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
            settled = 0
            events_done: set[str] = set()
            steps_done: set[tuple[str, str]] = set()
            for pair in pairs:
                place = (pair.run_id, pair.step)
                if pair.id in events_done or place in steps_done:
                    continue
                events_done.add(pair.id)
                if not _fits(connection, tenant, pair):
                    settled += 1
                    continue
                steps_done.add(place)
                if _claimed(connection, tenant, pair):
                    settled += 1
                    claimed.append(RunId(tenant, pair.run_id))
        if not settled:
            return tuple(dict.fromkeys(claimed))


def sweep(platform: Platform, limit: int) -> tuple[RunId, ...]:
    """Bring together what has missed each other, and forget what is over."""
    with session.transaction(platform.database) as connection:
        tenants = rows.tenants(connection)
        rows.purge(connection, limit)
    return tuple(run for tenant in tenants for run in route(platform, tenant))


def _fits(connection: Connection, tenant: str, pair: Row[Any]) -> bool:
    """Whether a step can take the payload; an event that it cannot take counts no more."""
    payload = orjson.loads(pair.payload or "null")
    said = waiting.misfit(orjson.loads(pair.asks).get("schema"), payload)
    if not said:
        return True
    detail = f"step {pair.step} of run {pair.run_id} cannot take it: {said}"[:2000]
    rows.settle(connection, tenant, pair.id, "refused", detail)
    return False


def _claimed(connection: Connection, tenant: str, pair: Row[Any]) -> bool:
    """Let an event end a wait, if both are still to be had."""
    step = StepId(tenant, pair.run_id, pair.step)
    savepoint = connection.begin_nested()
    if not rows.claim(connection, pair.id, step):
        savepoint.rollback()
        return False
    end = End(step=step, attempt=pair.attempt, by=f"event:{pair.id}")
    if not waits.end(connection, [end]):
        savepoint.rollback()
        return False
    event = msg.WaitEnded(
        at=codec.UNTIMED,
        step=msg.StepKey(step.key),
        attempt=pair.attempt,
        by=(f"event:{pair.id}", f"user:{pair.sent_by}"),
        result=Inline(value=orjson.loads(pair.payload or "null")),
    )
    sealed = letters.sealed(step.run_id, event, f"{step.key}/{pair.attempt}")
    payloads.put_all(connection, [sealed.payload])
    inbox.put(connection, [sealed.letter])
    savepoint.commit()
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
