"""What the core asks of a turn, and the answers, each recorded as an event.

The core never does anything by itself: it asks for a start (`admission`), for a wait to be
set up, for a result to be saved, for the next thing to undo. All of it is answered here, in
the transaction of the turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeGuard

from sqlalchemy import Connection

from engine import asking, waiting
from engine.core import messages as msg
from engine.core.graph import Asked, Awaited, Child, Graph, Map, NodeId, Timer
from engine.core.records import replace
from engine.core.references import CONDITION_BYTES, Read, Readable
from engine.core.state import State, Step
from engine.core.transitions import StepStatus
from engine.core.values import Json, canonical
from engine.runs import admission, children, items
from engine.runs.children import Parent
from engine.runs.guard import Guard
from engine.store import inbox, undo
from engine.store.ids import RunId, StepId
from engine.store.waits import Wait
from engine.waiting import Unfit

Answer = (
    admission.Answer
    | msg.Opened
    | msg.NotOpened
    | msg.Saved
    | msg.NotSaved
    | msg.UndoFound
    | msg.NothingToUndo
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers, in the order they were asked for, and what they leave to be written."""

    events: tuple[Answer, ...]
    waits: tuple[Wait, ...] = ()
    #: Items, by their map: to be written as they are.
    items: Mapping[msg.StepKey, list[Json]]
    #: Runs that were started.
    started: tuple[RunId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """The turn in which it is asked."""

    now: datetime
    #: The last line of history that is written, and what is to be written after it.
    after: int
    entries: tuple[msg.Entry, ...]


@dataclass(frozen=True, slots=True)
class _Left:
    """What is to be written beside the answers, as it gathers."""

    waits: list[Wait] = field(default_factory=list)
    items: dict[msg.StepKey, list[Json]] = field(default_factory=dict)
    started: list[RunId] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What answering has at hand, all through a turn."""

    connection: Connection
    parent: Parent
    graph: Graph
    #: Reads what lies in blobs.
    read: Read
    #: References to values that are kept, by digest.
    kept: Mapping[str, Json]
    guard: Guard


def answers(desk: Desk, state: State, sitting: Sitting) -> Answers:
    """Answer all that a state asks for; no events when it asks for nothing."""
    now = sitting.now
    found: list[Answer] = []
    left = _Left()
    for step in state.steps.values():
        match step.status:
            case StepStatus.REQUESTED:
                admitted = admission.admit(desk.guard, desk.parent.run, state, step, now=now)
                found += admitted.events
                left.waits.extend([] if admitted.wait is None else [admitted.wait])
            case StepStatus.OPENING:
                try:
                    opened = _opened(desk, state, step, now=now, left=left)
                except Unfit as unfit:
                    refused = msg.NotOpened(
                        at=now, step=step.key, reason=unfit.reason, message=unfit.message
                    )
                    found.append(refused)
                    continue
                found.append(opened)
            case StepStatus.SAVING:
                said = waiting.saved(desk.graph, state, step, now, read=desk.read, kept=desk.kept)
                found.append(said)
            case _:
                pass
    # What was reported until its steps were gone counts as done, and lies in the inbox when the turn
    # is over that begins to undo. So it is looked for once all of that is folded, however many turns
    # that takes.
    begins = any(isinstance(entry.record, msg.BeginUndo) for entry in sitting.entries)
    if (
        state.undoing is not None
        and state.undoing.asked
        and not begins
        and not inbox.waiting(desk.connection, [desk.parent.run])
    ):
        found.append(_undo(desk, state.undoing.before, sitting))
    return Answers(
        events=tuple(found),
        waits=tuple(left.waits),
        items=left.items,
        started=tuple(left.started),
    )


def _opened(desk: Desk, state: State, step: Step, *, now: datetime, left: _Left) -> msg.Opened:
    """Set up what a step waits for. Raises `Unfit`."""
    node, scope = desk.graph.node(step.node), _scope(desk, state, step)
    here = StepId(*desk.parent.run, step.key)
    opened = msg.Opened(at=now, step=step.key)
    match node.wait:
        case Timer() as timer:
            return replace(opened, until=waiting.instant(node, timer, scope, now))
        case Awaited() as awaited:
            event = waiting.expected(node, awaited, scope)
            asks = canonical({"match": event.match, "schema": event.schema})
            left.waits.append(
                Wait(
                    step=here,
                    kind="event",
                    name=event.name,
                    correlation=event.correlation,
                    transient=awaited.transient,
                    asks=asks,
                )
            )
            return replace(opened, until=waiting.expiry(awaited.expires, now))
        case Asked() as asked:
            asks = canonical(asking.asks(node, asked, scope))
            left.waits.append(Wait(step=here, kind=node.kind, asks=asks))
            return replace(opened, until=waiting.expiry(asked.expires, now))
        case Child() as child:
            own = scope.beside(_item(desk, step))
            child = replace(child, workflow=waiting.workflow(node, child, own))
            given = waiting.given(desk.graph, node, own)
            place = state.within if state.within and state.within[0].step == step.key else ()
            started = children.start(
                desk.connection, desk.parent, step, child, given, within=place, kept=desk.kept
            )
            left.started.append(RunId(desk.parent.run.tenant, started))
            return replace(opened, child=started, until=waiting.expiry(child.expires, now))
        case Map() as declared:
            found = waiting.items(node, declared, scope)
            left.items[step.key] = found
            return replace(opened, items=len(found))
        case None:
            raise AssertionError(f"node {node.id} waits for nothing")


def _scope(desk: Desk, state: State, step: Step) -> Readable:
    """What the names of an expression stand for at a step that waits."""
    names = waiting.scope_of(state, step, read=desk.read)
    return Readable(names, desk.read, limit=CONDITION_BYTES)


def _item(desk: Desk, step: Step) -> dict[str, Json]:
    """The names of the item that a step is about, if it is about one."""
    if step.of is None or step.index is None:
        return {}
    return items.names(desk.connection, desk.parent.run, desk.graph, step.of, step.index)


def _undo(desk: Desk, before: int | None, sitting: Sitting) -> msg.UndoFound | msg.NothingToUndo:
    nodes = [node.id for node in desk.graph.nodes.values() if node.compensate]
    seen: set[msg.StepKey] = set()
    for place, entry in reversed([*enumerate(sitting.entries, start=sitting.after + 1)]):
        record = entry.record
        if _is_done(record) and record.step not in seen:
            seen.add(record.step)
            if before is not None and place >= before:
                continue
            node, _, iteration = record.step.rpartition("#")
            # The items of a map have none: what undoes the map undoes them.
            if node in nodes and iteration.isdigit():
                return msg.UndoFound(at=sitting.now, step=record.step, node=NodeId(node), seq=place)
    row = undo.last(desk.connection, desk.parent.run, nodes, before, seen)
    if row is None:
        return msg.NothingToUndo(at=sitting.now)
    return msg.UndoFound(at=sitting.now, step=row.step, node=items.node_of(row.step), seq=row.seq)


def _is_done(
    record: msg.Record,
) -> TypeGuard[msg.AttemptSucceeded | msg.AttemptWithheld | msg.WaitEnded]:
    """Whether something was done there: what people allow is yet to be."""
    if isinstance(record, msg.WaitEnded):
        return not record.permit
    return isinstance(record, msg.AttemptSucceeded | msg.AttemptWithheld)
