"""What the core asks of a turn, and the answers, each recorded as an event.

The core never does anything by itself: it asks for a start (`admission`), for a wait to be
set up, for a result to be saved, for the next thing to undo. All of it is answered here, in
the transaction of the turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection

from engine import waiting
from engine.core import messages as msg
from engine.core.graph import Asked, Awaited, Child, Graph, Map, NodeId, Timer
from engine.core.state import State, Step
from engine.core.transitions import StepStatus
from engine.core.values import Json, canonical, plain
from engine.runs import admission, children, items
from engine.runs.children import Parent
from engine.store import undo
from engine.store.ids import RunId, StepId
from engine.store.waits import Wait
from engine.waiting import Unfit

Answer = (
    msg.Admitted
    | msg.Refused
    | msg.Deferred
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
class Unwritten:
    """What the turn has come to so far, and no row tells yet."""

    #: The last line of history that is written.
    seq: int
    entries: Sequence[msg.Entry]
    #: The items of maps, each with its place.
    items: Mapping[msg.StepKey, Sequence[tuple[int, Json]]]


@dataclass(frozen=True, slots=True)
class _Left:
    """What is to be written beside the answers, as it gathers."""

    waits: list[Wait] = field(default_factory=list)
    items: dict[msg.StepKey, list[Json]] = field(default_factory=dict)
    started: list[RunId] = field(default_factory=list)


def answers(
    connection: Connection,
    parent: Parent,
    graph: Graph,
    state: State,
    unwritten: Unwritten,
    *,
    now: datetime,
) -> Answers:
    """Answer all that a state asks for; no events when it asks for nothing."""
    found: list[Answer] = []
    left = _Left()
    for step in state.steps.values():
        match step.status:
            case StepStatus.REQUESTED:
                found.append(admission.admit(connection, parent.run, graph, state, step, now=now))
            case StepStatus.OPENING:
                try:
                    own = _item(connection, parent.run, graph, step, unwritten)
                    scope = {**scope_of(state, step), **own}
                    opened = _opened(connection, parent, graph, scope, step, now=now, left=left)
                except Unfit as unfit:
                    refused = msg.NotOpened(
                        at=now, step=step.key, reason=unfit.reason, message=unfit.message
                    )
                    found.append(refused)
                    continue
                found.append(opened)
            case StepStatus.SAVING:
                found.append(_saved(graph, state, step, now))
            case _:
                pass
    if state.undoing is not None and state.undoing.asked:
        found.append(_undo(connection, parent.run, graph, state.undoing.before, unwritten, now=now))
    return Answers(
        events=tuple(found),
        waits=tuple(left.waits),
        items=left.items,
        started=tuple(left.started),
    )


def _opened(
    connection: Connection,
    parent: Parent,
    graph: Graph,
    scope: Mapping[str, Json],
    step: Step,
    *,
    now: datetime,
    left: _Left,
) -> msg.Opened:
    """Set up what a step waits for. Raises `Unfit`."""
    node = graph.node(step.node)
    here = StepId(*parent.run, step.key)
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
            asks = canonical(waiting.asks(node, asked, scope))
            left.waits.append(Wait(step=here, kind=node.kind, asks=asks))
            return replace(opened, until=waiting.expiry(asked.expires, now))
        case Child() as child:
            given = waiting.given(graph, node, scope)
            started = children.start(connection, parent, step, child, given)
            left.started.append(RunId(parent.run.tenant, started))
            return replace(opened, child=started, until=waiting.expiry(child.expires, now))
        case Map() as declared:
            found = waiting.items(node, declared, scope)
            left.items[step.key] = found
            return replace(opened, items=len(found))
        case None:
            raise AssertionError(f"node {node.id} waits for nothing")


def scope_of(state: State, step: Step, result: Json = None) -> dict[str, Json]:
    """What the names of an expression stand for at a step that waits."""
    run: dict[str, Json] = {"id": state.run, "steps": state.visited}
    return {**state.view(step.thread), "result": result, "run": run}


def _item(
    connection: Connection, run: RunId, graph: Graph, step: Step, unwritten: Unwritten
) -> dict[str, Json]:
    """The names of the item that a step is about, if it is about one."""
    if step.of is None or step.index is None:
        return {}
    for index, value in unwritten.items.get(step.of, ()):
        if index == step.index:
            return items.named(graph, step.of, index, value)
    return items.names(connection, run, graph, step.of, step.index)


def _saved(graph: Graph, state: State, step: Step, now: datetime) -> msg.Saved | msg.NotSaved:
    result = None if step.result is None else plain(step.result)
    scope, variables = scope_of(state, step, result), state.view(step.thread)
    try:
        patch = waiting.patch(graph, graph.node(step.node), scope, variables)
    except Unfit as unfit:
        return msg.NotSaved(at=now, step=step.key, reason=unfit.reason, message=unfit.message)
    return msg.Saved(at=now, step=step.key, patch=patch)


def _undo(
    connection: Connection,
    run: RunId,
    graph: Graph,
    before: int | None,
    unwritten: Unwritten,
    *,
    now: datetime,
) -> msg.UndoFound | msg.NothingToUndo:
    """The last step before a line of history that was done and can be undone."""
    nodes = [node.id for node in graph.nodes.values() if node.compensate]
    for place in range(len(unwritten.entries), 0, -1):
        record, seq = unwritten.entries[place - 1].record, unwritten.seq + place
        if isinstance(record, msg.AttemptSucceeded | msg.WaitEnded):
            node, _, iteration = record.step.rpartition("#")
            # The items of a map are undone with it.
            done = node in nodes and iteration.isdecimal()
            if done and (before is None or seq < before):
                return msg.UndoFound(at=now, step=record.step, node=NodeId(node), seq=seq)
    row = undo.last(connection, run, nodes, before)
    if row is None:
        return msg.NothingToUndo(at=now)
    return msg.UndoFound(at=now, step=row.step, node=items.node_of(row.step), seq=row.seq)
