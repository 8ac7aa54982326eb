"""Places of runs that can be gone on from: by another run (`forks`), or by the run itself (`rollbacks`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import documents, waiting
from engine.core import forking, rollback
from engine.core.graph import Graph
from engine.core.overflow import Overflow
from engine.core.problem import Problem
from engine.core.rollback import Rollback
from engine.core.state import State, Within
from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound, OutOfReach
from engine.runs import graphs, large, submission, views
from engine.runs.graphs import Under
from engine.sessions import graph as sessions
from engine.store import calls, history, payloads, reads, resting, shreds, undone
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What of the variables is not to be as it was."""

    variables: Mapping[str, Json] = field(default_factory=dict)
    removed: Collection[str] = ()

    def applied(self, variables: Mapping[str, Json]) -> dict[str, Json]:
        """Variables as they are to be."""
        kept = {name: value for name, value in variables.items() if name not in self.removed}
        return {**kept, **self.variables}


NO_EDITS = Edits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A place of a run, and what is needed to go on from it."""

    run: RunId
    head: Row[Any]
    #: The version that it was under there.
    under: Under
    graph: Graph
    line: Row[Any]
    state: State
    inputs: Mapping[str, Json]
    #: Where the run within it goes on from, and what is to be otherwise there.
    within: tuple[Within, ...]
    inner: Mapping[str, Any]


def hold(connection: Connection, *held: RunId) -> None:
    """Let nothing be undone, until the transaction is over, on which places of runs rest. Raises `NotFound`."""
    for run in held:
        if reads.status(connection, run) is None:
            raise NotFound(f"Run not found: {run.run}")
    resting.rest(connection, held)


def of(connection: Connection, run: RunId, seq: int) -> Origin:
    """A place that a run can go on from. Raises `NotFound` and `Conflict`."""
    head = reads.run(connection, run)
    if head is None:
        raise NotFound(f"Run not found: {run.run}")
    if not 0 < seq <= head.seq:
        raise NotFound(f"run {run.run} has lines 1 to {head.seq}, no line {seq}")
    if head.workflow == sessions.NAME:
        raise Conflict("a session is set back to its own checkpoints; no run can go on from it")
    if head.workflow == undone.WORKFLOW:
        raise Conflict(
            f"run {run.run} undoes what others have done, and is not gone on from: ask anew for what it has left"
        )
    if head.imported is not None:
        raise Conflict(
            f"run {run.run} was recorded elsewhere and is read-only: go on from it where it was run"
        )
    if shreds.shredded(connection, run):
        raise Conflict(f"data of run {run.run} was shredded: no run can go on from it")
    state = views.folded(connection, run, seq)
    if why := forking.obstacle(state):
        raise Conflict(f"no run can go on from line {seq} of run {run.run}: {why}")
    (line,) = history.read(connection, run, after=seq - 1, upto=seq)
    _check_undone(connection, run, line, state)
    under = graphs.under(connection, run, seq, version=head.version_id, pins=head.pins)
    first = told(connection, run)
    if state.within:
        _check_within(connection, run, state.within, first["inner"])
    return Origin(
        run=run,
        head=head,
        under=under,
        graph=graphs.load(connection, run.tenant, under.version),
        line=line,
        state=state,
        inputs=first.get("inputs", {}),
        within=state.within,
        inner=first["inner"] if state.within else {},
    )


def _check_undone(connection: Connection, run: RunId, line: Row[Any], state: State) -> None:
    """Raise `Conflict` where a place rests on a call that is undone since, or may be."""
    never = calls.NEVER_MADE
    place = (run, line.seq, line.at)
    for row in resting.before(connection, place, sorted(state.steps), never=never):
        there = RunId(run.tenant, row.there)
        if not row.served and gone_over(connection, there, row.started_at, upto=row.at):
            continue
        call = f"call {row.step}.{row.ordinal} of {row.tool}, by run {row.run}"
        before = "go on from before that call, of its own run"
        why = {
            "undone": f"run {row.by} has undone since; {before}",
            "undoing": f"run {row.by} is undoing; wait for the end of that, and {before}",
            "unknown": f"run {row.by} may have undone, nobody knows; look whether it did, and {before}",
        }
        raise Conflict(f"line {line.seq} of run {run.run} rests on {call}, which {why[row.fate]}")


def _check_within(
    connection: Connection, run: RunId, within: Sequence[Within], inner: Mapping[str, Any]
) -> None:
    """Raise `Conflict` where what a run is to start anew within it would rest on what is undone, or may be."""
    for place, chosen in zip(within, inner["chosen"][-len(within) :], strict=True):
        inside = RunId(run.tenant, place.run)
        of(connection, inside, place.seq)
        fates = {
            (row.step, row.ordinal): row
            for row in undone.of(connection, inside, never=calls.NEVER_MADE)
        }
        for one in chosen:
            row = fates.get((one["step"], one["ordinal"]))
            if one["choice"] != "execute" and row is not None and row.fate != "stands":
                raise Conflict(
                    f"run {run.run} is to {one['choice']} call {one['step']}.{one['ordinal']} of run {place.run}, which "
                    f"run {row.by} has undone since, or may have: restart a step of that run"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How a run came to where it stands, and which step of which one started it."""

    rollbacks: Sequence[Rollback]
    #: When it went back each of those times.
    at: Sequence[datetime]
    created_at: datetime
    parent: RunId | None
    step: str | None


def past(connection: Connection, run: RunId) -> Past:
    """What `gone_over` reads of each run."""
    head = reads.run(connection, run)
    assert head is not None
    gone = reads.rollbacks(connection, run)
    return Past(
        rollbacks=[views.went_back(one) for one in gone],
        at=[one.at for one in gone],
        created_at=head.created_at,
        parent=None if head.parent_run is None else RunId(run.tenant, head.parent_run),
        step=head.parent_step,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A run that went back over something, and the line since which it has been off its course."""

    run: str
    since: int


def gone_over(
    connection: Connection,
    run: RunId,
    at: datetime,
    *,
    upto: datetime | None = None,
    read: Callable[[RunId], Past] | None = None,
) -> tuple[Over, ...]:
    """The runs, this one and those around it, from within, that went back over what happened in it at a time.

    Empty: it led to the present. `upto`: to where it was at another time. `read`: what is known of a run (`past`).
    """
    look = partial(past, connection) if read is None else read
    found: list[Over] = []
    here: RunId | None = run
    step: str | None = None
    while here is not None:
        known = look(here)
        gone = [
            one
            for one, when in zip(known.rollbacks, known.at, strict=True)
            if upto is None or when <= upto
        ]
        following = reads.line_after(connection, here, at) if gone else None
        since: int | None = None
        for number, one in enumerate(gone, start=1):
            course = rollback.course(gone[:number])
            # What a step has started is let go where that begins anew under another name.
            left = step in course.renamed or (following is not None and not course.leads(following))
            since = (since or one.seq) if left else None
        if since is not None:
            found.append(Over(run=here.run, since=since))
        here, at, step = known.parent, known.created_at, known.step
    return tuple(found)


def edited(origin: Origin, edits: Edits, kept: Mapping[str, Json]) -> Edits:
    """Edits that fit, what is large as references. Raises `Invalid` and `Overflowing`."""
    before = origin.state.variables
    missing = [name for name in sorted(edits.removed) if name not in before]
    problems = [
        *documents.edit_problems(origin.graph, edits.variables, edits.removed, path="variables"),
        *(
            Problem(path=f"removed.{name}", message="there is no such variable", remedy="leave it")
            for name in missing
        ),
    ]
    if problems:
        raise Invalid(problems, "the edited variables do not fit the workflow")
    after = edits.applied(before)
    try:
        moved = waiting.moved(after, edits.variables, origin.graph.reducers.keys(), kept)
    except Overflow as overflow:
        raise submission.too_large(f"variables take {overflow.taken} bytes") from None
    return replace(edits, variables=moved)


def told(connection: Connection, run: RunId) -> Mapping[str, Any]:
    """What a run was told when it began."""
    rows = payloads.get(connection, [(run, "input")])
    found: Mapping[str, Any] = orjson.loads(rows[0].body) if rows else {}
    return found


def refer(connection: Connection, run: RunId, *records: Mapping[str, Json]) -> None:
    """Let a run hold the large values that it goes on with. Raises `Conflict` for one that is gone."""
    try:
        large.refer(connection, run, *records)
    except OutOfReach as gone:
        raise Conflict(f"a value of that place is past its retention: {gone.message}") from gone
