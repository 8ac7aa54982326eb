"""Runs that go on from an earlier place of their own: as they were there, and nothing is taken out of history.

Whatever is live ends, as where a region is cancelled: attempts under way are charged and their reports
refused, waits are closed, locks given up, child runs cancelled. What was live at the place begins anew, as
another iteration, and is served what is known of its calls by then (`carrying`). Timers run their whole time
again. An event that a wait has claimed since stays claimed, an answer stays given: who is asked anew is asked
for another.

It is decided in a turn, like everything that people ask of a run: what waited in its inbox before that counts
first, and if the run ends by it there is nothing to go back from. What was done since is not undone in the
world by that: somebody may ask for it (`compensations`), and handlers undo it with the rest should the run fail later
(`core.undo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from engine.core import codec, forking, rollback
from engine.core import messages as msg
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.errors import Conflict, NotFound
from engine.platform import Platform
from engine.runs import (
    carrying,
    control,
    effects,
    identity,
    letters,
    origins,
    states,
    submission,
    usage,
    views,
)
from engine.runs.effects import Choices
from engine.runs.origins import Edits
from engine.store import checkpoints, history, inbox, payloads, reads, runs, session
from engine.store.ids import RunId
from engine.store.inbox import Letter
from engine.waiting import Overflowing


@dataclass(frozen=True, slots=True, kw_only=True)
class WentBack:
    """A run that went back to a line of its history."""

    #: The line that it went back to, and the line that says so.
    to: int
    seq: int
    #: Steps that were live until then, and have ended.
    ended: tuple[str, ...]
    #: Steps that were live there, each with the name under which it begins anew.
    anew: Mapping[msg.StepKey, msg.StepKey]
    #: What its attempts had used by the line that it went back to, and what they really have.
    spent_there: Mapping[str, float]
    spent: Mapping[str, float]
    #: What all of it was charged, calls and what is assumed of attempts that were cut off included.
    charged: Mapping[str, float]


def roll_back(
    platform: Platform,
    run: RunId,
    place: int | str,
    edits: Edits,
    *,
    by: str,
    reason: str = "",
    choices: Choices | None = None,
) -> WentBack | None:
    """Let a run go on from just after a line of its history, by number or by name.

    None where its turn could not be taken yet: it is asked for, and happens with the next. `choices` are what
    becomes of calls that it has made since (`effects`). Raises `Undecided` where one of those is missing, `Blocked` with
    each that is to be undone first while it is not paused, `NotFound`, `Invalid` with every problem of the edits, and `Conflict` where the run cannot go back, or
    not to there: it has ended, has not begun or is being undone; it was in the middle of a decision there,
    had a map under way or held a lock between steps.
    """
    kept: Mapping[str, Json] = {}
    while True:
        try:
            with session.transaction(platform.database) as connection:
                asked = _ask(
                    connection,
                    run,
                    place,
                    edits,
                    kept=kept,
                    choices=choices or {},
                    by=by,
                    reason=reason,
                )
            break
        except Overflowing as overflowing:
            kept = submission.kept(platform, run.tenant, overflowing, kept)
    control.fold(platform, run)
    return _went(platform, run, asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request on its way, and the last line of history that was there before it."""

    letter: Letter
    after: int


def _ask(
    connection: Connection,
    run: RunId,
    place: int | str,
    edits: Edits,
    *,
    kept: Mapping[str, Json],
    choices: Choices,
    by: str,
    reason: str,
) -> _Asked:
    """Leave the request in the inbox of its run."""
    origins.hold(connection, run)
    seq = _check(connection, run, place)
    origin = origins.of(connection, run, seq)
    stands = states.state(runs.glance(connection, run), {})
    if origin.state.moved != stands.moved:
        raise _elsewhere(run)
    if origin.within:
        raise Conflict(
            f"run {run.run} cannot go back to line {seq}: a run within it goes on there from a place of another one; "
            "fork it, or go back to a later line"
        )
    if why := rollback.obstacle(origin.state):
        raise Conflict(f"run {run.run} cannot go back to line {seq}: {why}")
    variables = origins.edited(origin, edits, kept).applied(origin.state.variables)
    carried = carrying.known(connection, origin)
    held = stands.status is RunStatus.PAUSED
    frame, overlays = forking.told(rollback.there(origin.state, carried))
    event = msg.RollbackRequested(
        at=codec.UNTIMED,
        by=by,
        reason=reason,
        seq=seq,
        edited=tuple(sorted(edits.variables)),
        removed=tuple(sorted(edits.removed)),
        chosen=effects.settled(connection, [origin], choices, held=held)[0],
        state=frame,
        variables=variables,
        overlays=overlays,
    )
    sealed = letters.sealed(run, event, f"rollback/{identity.new_run()}")
    payloads.put_all(connection, [sealed.payload])
    written = [one for branches in overlays.values() for one in branches.values()]
    origins.refer(connection, run, variables, *written)
    inbox.put(connection, [sealed.letter])
    return _Asked(letter=sealed.letter, after=origin.head.seq)


def _check(connection: Connection, run: RunId, place: int | str) -> int:
    """The line that is meant, of a run that can go back. Raises `NotFound` and `Conflict`."""
    if reads.status(connection, run) is None:
        raise NotFound(f"Run not found: {run.run}")
    state = states.state(runs.glance(connection, run), {})
    if not rollback.goes(state):
        raise _cannot(run, state)
    seq = place if isinstance(place, int) else checkpoints.called(connection, run, place)
    if seq is None:
        raise NotFound(f"run {run.run} has no place that is called {place!r}")
    return seq


def _cannot(run: RunId, state: State) -> Conflict:
    """Why a run goes back to nowhere."""
    if state.terminal:
        why = (
            f"has already ended: it is {state.status}; fork it, and the new run goes on from there"
        )
    elif state.status is RunStatus.QUEUED:
        why = "has not begun"
    else:
        why = "is undoing what it did, and ends then"
    return Conflict(f"run {run.run} cannot go back: it {why}")


def _elsewhere(run: RunId) -> Conflict:
    return Conflict(
        f"run {run.run} cannot go back to there: it has come under another version of its workflow "
        "since; migrate it back and go to a line after that, or fork it from there"
    )


def _went(platform: Platform, run: RunId, asked: _Asked) -> WentBack | None:
    """What came of a request; None while it waits in the inbox."""
    with reads.reading(platform.database) as connection:
        seq = _answered(connection, run, asked)
        if seq is None:
            return None
        (line, *following) = history.read(connection, run, after=seq - 1, upto=seq + 1)
        request = views.record(line)
        went = views.record(following[0]) if following else None
        if not isinstance(went, msg.RollBack):
            state = states.state(runs.glance(connection, run), {})
            raise _elsewhere(run) if rollback.goes(state) else _cannot(run, state)
        before = views.folded(connection, run, seq - 1)
        charged = usage.of_run(connection, run)
    return WentBack(
        to=went.seq,
        seq=seq + 1,
        ended=tuple(sorted(before.steps)),
        anew=went.anew,
        spent_there=forking.begun(run.run, request).spent,
        spent=before.spent,
        charged=charged,
    )


def _answered(connection: Connection, run: RunId, asked: _Asked) -> int | None:
    """The line that tells of a request; None while it waits in the inbox."""
    after = asked.after
    while rows := history.read(connection, run, after=after):
        for row in rows:
            if row.payload_id == asked.letter.payload_id:
                return int(row.seq)
        after = rows[-1].seq
    return None
