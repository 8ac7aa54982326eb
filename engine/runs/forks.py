"""Runs that go on from a place of another one, which stays as it is.

What was settled there is taken over and not done again; what was live begins anew. Of the calls of
a step that was live there, those that had ended by then are served again, and one that had begun,
and may happen only once, is unknown: people are asked what became of it (`calls`). What becomes of
later ones is chosen (`effects`).

One that goes on for the sake of a place within it, in a run that one of its steps had started, takes
along where that place is and what is to be otherwise there: the run that the step starts anew goes on
from it (`descend`).

The new run holds all that it needs: it refers to the blobs itself, and needs neither history nor
data of the other one any more. What is not kept any more cannot be gone on from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from engine import faults
from engine.core import codec, forking
from engine.core import messages as msg
from engine.core.state import Within
from engine.core.values import Json, canonical, digest, plain
from engine.platform import Platform
from engine.runs import carrying, effects, identity, launch, letters, origins, submission
from engine.runs.effects import Choices
from engine.runs.launch import Submitted
from engine.runs.origins import Edits, Origin
from engine.store import idempotency, inbox, items, payloads, runs, session
from engine.store.ids import RunId
from engine.waiting import Overflowing


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
    choices: Choices | None = None,
) -> Submitted:
    """Start a run that goes on from just after a line of another one.

    `given` is what a step is to be told that is asked for at once, `choices` what becomes of calls that the
    other run made since (`effects`). With `within`, the places of runs inside it from which those go on
    that it starts anew, outermost first, edits and result are the innermost one's. Raises `Undecided` where
    a choice is missing, `NotFound`, `Invalid` with every problem of the edits or of the choices, and `Conflict`
    where no run can go on from there: it had ended, was in the middle of a decision, held a lock between
    steps, or its data is not kept any more.
    """
    new = RunId(run.tenant, identity.new_run())
    asked: list[Json] = ["fork", run.run, seq, dict(edits.variables), *sorted(edits.removed)]
    asked += [] if not choices else [dict(choices)]
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
                        return launch.replayed(run.tenant, known, said)
                inner_runs = [RunId(run.tenant, place.run) for place in within]
                origins.hold(connection, run, *inner_runs)
                origin = origins.of(connection, run, seq)
                inside = [
                    origins.of(connection, one, place.seq)
                    for one, place in zip(inner_runs, within, strict=True)
                ]
                # What cannot be done at all is said before what is to be done first.
                edited = origins.edited([origin, *inside][-1], edits, kept)
                chosen, *deeper = effects.settled(connection, [origin, *inside], choices or {})
                if inside:
                    inner = _inner(edited, given=given, chosen=deeper)
                    origin = replace(origin, within=tuple(within), inner=inner)
                    _enter(connection, new, origin, by=by, scopes=scopes, chosen=chosen)
                else:
                    _enter(connection, new, origin, edited, by=by, scopes=scopes, chosen=chosen)
                    _give(connection, new, given)
            break
        except Overflowing as overflowing:
            kept = submission.kept(platform, run.tenant, overflowing, kept)
    platform.fault(faults.SUBMIT_COMMITTED)
    return Submitted(run=new, replayed=False)


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
    # All was checked, and what is large of the edits was kept, before the outermost began.
    chosen = [codec.revive(msg.Chosen, one) for one in inner["chosen"][-len(within)]]
    if deeper:
        origin = replace(origin, within=tuple(deeper), inner=inner)
        _enter(connection, new, origin, by=by, started=started, chosen=chosen)
        return new
    edits = Edits(variables=inner["variables"], removed=inner["removed"])
    _enter(connection, new, origin, edits, by=by, started=started, chosen=chosen)
    given = inner["given"]
    _give(connection, new, None if given is None else codec.revive(msg.ResultGiven, given))
    return new


def _inner(
    edited: Edits, *, given: msg.ResultGiven | None, chosen: Sequence[Sequence[msg.Chosen]]
) -> Mapping[str, Json]:
    """What is to be otherwise in the innermost run, and what is chosen for calls of each, outermost first."""
    return {
        "variables": dict(edited.variables),
        "removed": [*sorted(edited.removed)],
        "given": None if given is None else codec.plain(given),
        "chosen": [[codec.plain(one) for one in each] for each in chosen],
    }


def _give(connection: Connection, new: RunId, given: msg.ResultGiven | None) -> None:
    """Let a run begin with the result of a step, if one is given."""
    if given is None:
        return
    sealed = letters.sealed(new, given, f"{given.step}/given")
    payloads.put_all(connection, [sealed.payload])
    origins.refer(connection, new, given.patch, {"result": plain(given.result)})
    inbox.put(connection, [sealed.letter])


def _enter(
    connection: Connection,
    new: RunId,
    origin: Origin,
    edits: Edits = origins.NO_EDITS,
    *,
    by: str,
    scopes: Collection[str] | None = None,
    started: submission.Origin | None = None,
    chosen: Sequence[msg.Chosen],
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
    for row in carrying.chosen(connection, origin, new, chosen):
        origins.refer(connection, new, {"value": row.value})
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
        chosen=tuple(chosen),
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
