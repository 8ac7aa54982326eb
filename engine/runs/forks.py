"""Runs that go on from a place of another one, which stays as it is.

What was settled there is taken over and not done again; what was live begins anew. Of the calls of
a step that was live there, those that had ended by then are served again, and one that had begun,
and may happen only once, is unknown: people are asked what became of it (`calls`). Later ones are
made again.

One that goes on for the sake of a place within it, in a run that one of its steps had started, takes
along where that place is and what is to be otherwise there: the run that the step starts anew goes on
from it (`descend`).

The new run holds all that it needs: it refers to the blobs itself, and needs neither history nor
data of the other one any more. What is not kept any more cannot be gone on from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row

from engine import faults
from engine.core import codec, forking
from engine.core import messages as msg
from engine.core.state import Within
from engine.core.values import Json, canonical, digest, plain
from engine.errors import Conflict
from engine.platform import Platform
from engine.runs import carrying, identity, large, letters, origins, submission
from engine.runs.launch import Submitted
from engine.runs.origins import Edits, Origin
from engine.store import calls, idempotency, inbox, items, payloads, reads, runs, session
from engine.store.ids import RunId
from engine.waiting import Overflowing


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A call of the other run, and what becomes of it in one that goes on from a place."""

    run: str
    step: str
    ordinal: int
    tool: str
    version: int
    #: `pure`, `idempotent`, `at_most_once`, `compensable`.
    effect: str
    #: `served`: not made again; `asked`: whether it happened is not known, and people are asked;
    #: `repeated`: made again, if the run comes there with the same arguments.
    becomes: str


def fork(
    platform: Platform,
    run: RunId,
    seq: int,
    edits: Edits,
    *,
    by: str,
    scopes: Collection[str] | None = None,
    idempotency_key: str | None = None,
    given: msg.ResultGiven | None = None,
    within: Sequence[Within] = (),
) -> Submitted:
    """Start a run that goes on from just after a line of another one.

    `given` is what a step is to be told that is asked for at once. With `within`, the places of runs
    inside it from which those go on that it starts anew, outermost first, edits and result are the
    innermost one's. Raises `NotFound`, `Invalid` with every problem of the edits, and `Conflict` where
    no run can go on from there: it had ended, was in the middle of a decision, held a lock between
    steps, or its data is not kept any more.
    """
    new = RunId(run.tenant, identity.new_run())
    asked: list[Json] = ["fork", run.run, seq, dict(edits.variables), *sorted(edits.removed)]
    asked += [] if given is None else [codec.plain(given)]
    asked += [codec.plain(place) for place in within]
    said = digest(asked)
    kept: Mapping[str, Json] = {}
    while True:
        try:
            with session.transaction(platform.database) as connection:
                if idempotency_key is not None:
                    known = idempotency.claim(connection, idempotency_key, said, new)
                    if known is not None:
                        return _replayed(run.tenant, known, said)
                origin = origins.of(connection, run, seq)
                if within:
                    inner = _inner(connection, run.tenant, within, edits, given=given, kept=kept)
                    origin = replace(origin, within=tuple(within), inner=inner)
                    _enter(connection, new, origin, by=by, scopes=scopes)
                else:
                    edited = origins.edited(origin, edits, kept)
                    _enter(connection, new, origin, edited, by=by, scopes=scopes)
                    _give(connection, new, given)
            break
        except Overflowing as overflowing:
            # Nothing was written: values are kept, and committed, before they are relied on.
            try:
                kept = {**kept, **large.keep_all(platform, run.tenant, overflowing.values)}
            except large.ValueTooLarge as error:
                raise submission.too_large(error.message) from error
    platform.fault(faults.SUBMIT_COMMITTED)
    return Submitted(run=new, replayed=False)


def effects(platform: Platform, run: RunId, seq: int) -> tuple[Effect, ...]:
    """What would become of the calls of a run in one that goes on from a line of it.

    Those of steps that were settled there are neither made nor served again, and not told. Raises as
    `fork` does.
    """
    with reads.reading(platform.database) as connection:
        origin = origins.of(connection, run, seq)
        rows = calls.fates(connection, run, sorted(origin.state.steps), origin.line.at)
    return tuple(
        Effect(
            run=run.run,
            step=row.step,
            ordinal=row.ordinal,
            tool=row.tool,
            version=row.version,
            effect=row.effect,
            becomes=row.becomes,
        )
        for row in rows
    )


def descend(
    connection: Connection,
    parent: RunId,
    started: submission.Origin,
    within: Sequence[Within],
    *,
    by: str,
) -> RunId:
    """Start the run that a step waits for as one that goes on from a place of another one.

    What is to be otherwise in the innermost one the outermost was told when it began. Raises as `fork`
    does.
    """
    place, *deeper = within
    new = RunId(parent.tenant, identity.new_run())
    inner = origins.told(connection, parent)["inner"]
    origin = origins.of(connection, RunId(parent.tenant, place.run), place.seq)
    if deeper:
        origin = replace(origin, within=tuple(deeper), inner=inner)
        _enter(connection, new, origin, by=by, started=started)
        return new
    # They were checked, and what is large of them was kept, before the outermost began.
    edits = Edits(variables=inner["variables"], removed=inner["removed"])
    _enter(connection, new, origin, edits, by=by, started=started)
    given = inner["given"]
    _give(connection, new, None if given is None else codec.revive(msg.ResultGiven, given))
    return new


def _inner(
    connection: Connection,
    tenant: str,
    within: Sequence[Within],
    edits: Edits,
    *,
    given: msg.ResultGiven | None,
    kept: Mapping[str, Json],
) -> Mapping[str, Json]:
    """What is to be otherwise in the innermost run, once it is known that all can be gone on from."""
    places = [origins.of(connection, RunId(tenant, place.run), place.seq) for place in within]
    edited = origins.edited(places[-1], edits, kept)
    return {
        "variables": dict(edited.variables),
        "removed": [*sorted(edits.removed)],
        "given": None if given is None else codec.plain(given),
    }


def _give(connection: Connection, new: RunId, given: msg.ResultGiven | None) -> None:
    """Let a run begin with the result of a step, if one is given."""
    if given is None:
        return
    sealed = letters.sealed(new, given, f"{given.step}/given")
    payloads.put_all(connection, [sealed.payload])
    origins.refer(connection, new, given.patch, {"result": plain(given.result)})
    inbox.put(connection, [sealed.letter])


def _replayed(tenant: str, known: Row[Any], said: str) -> Submitted:
    if known.digest != said:
        raise Conflict("this Idempotency-Key was used for another submission; use a new one")
    return Submitted(run=RunId(tenant, known.run_id), replayed=True)


def _enter(
    connection: Connection,
    new: RunId,
    origin: Origin,
    edits: Edits = origins.NO_EDITS,
    *,
    by: str,
    scopes: Collection[str] | None = None,
    started: submission.Origin | None = None,
) -> None:
    """Create the run, its first event, and what is known of the calls of live steps.

    `started`: the step that waits for it. Raises `Conflict`.
    """
    head, run = origin.head, origin.run
    variables = edits.applied(origin.state.variables)
    runs.create(
        connection,
        new,
        version_id=origin.under.version,
        rules=head.rules,
        pins=canonical(dict(origin.under.pins)),
        by=by,
        scopes=scopes,
        origin=None if started is None else (started.step, started.attempt, started.orphan),
        depth=0 if started is None else started.depth,
        forked=(run.run, origin.line.seq),
    )
    carried = carrying.known(connection, origin)
    for row in carrying.over(connection, origin, new, carried):
        origins.refer(connection, new, {"arguments": row.arguments, "value": row.value})
    _take_items(connection, new, origin)
    state = replace(forking.anew(origin.state, carried), within=origin.within)
    frame, overlays = forking.told(state)
    event = msg.Forked(
        at=codec.UNTIMED,
        by=by,
        version=origin.under.version,
        pins=origin.under.pins,
        run=run.run,
        seq=origin.line.seq,
        hash=bytes(origin.line.hash).hex(),
        edited=tuple(sorted(edits.variables)),
        removed=tuple(sorted(edits.removed)),
        state=frame,
        variables=variables,
        overlays=overlays,
        inputs=origin.inputs,
        inner=origin.inner,
    )
    sealed = letters.sealed(new, event, "input")
    payloads.put_all(connection, [sealed.payload])
    written = [one for branches in overlays.values() for one in branches.values()]
    origins.refer(connection, new, variables, origin.inputs, *written, *_blobs(origin.inner))
    inbox.put(connection, [sealed.letter])


def _take_items(connection: Connection, new: RunId, origin: Origin) -> None:
    """Take over the items of maps that are under way, with the results of those that have ended."""
    if maps := forking.mapped(origin.state):
        live = sorted(origin.state.steps)
        rows = items.take_over(connection, origin.run, new, maps, live)
        origins.refer(
            connection, new, *({"result": plain(codec.value(row.result))} for row in rows)
        )


def _blobs(inner: Mapping[str, Any]) -> tuple[Mapping[str, Json], ...]:
    """What of the run within may lie in blobs, which are this one's until that one has begun."""
    if not inner:
        return ()
    given = inner["given"]
    if given is None:
        return (inner["variables"],)
    return inner["variables"], given["patch"], {"result": plain(codec.value(given["result"]))}
