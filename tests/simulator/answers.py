"""What the core asks of a turn, answered from the tables of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from engine import waiting
from engine.core import messages as msg
from engine.core.graph import Asked, Awaited, Child, Map, NodeId, Timer
from engine.core.state import State, Step
from engine.core.transitions import StepStatus
from engine.core.values import Json
from tests.simulator.tables import Run, Wait

if TYPE_CHECKING:
    from tests.simulator.world import World

#: Seconds after which whoever waits for a lock asks again.
AGAIN = 60.0


@dataclass(frozen=True, kw_only=True)
class Asker:
    """A turn that asks: what it stands on, and what it has come to."""

    world: World
    name: str
    run: Run
    #: When it answers.
    now: datetime
    #: What people and events can end of its steps from now on.
    waits: dict[str, Wait] = field(default_factory=dict)
    #: Runs that it has started.
    started: list[str] = field(default_factory=list)


def answers(asker: Asker, state: State, entries: Sequence[msg.Entry]) -> list[msg.AnyEvent]:
    """Answers to all that a state asks for."""
    now, run = asker.now, asker.run
    found: list[msg.AnyEvent] = []
    for step in state.steps.values():
        match step.status:
            case StepStatus.REQUESTED:
                found.append(_admitted(asker, state, step, now))
            case StepStatus.OPENING:
                found.append(_opened(asker, state, step, now))
            case StepStatus.SAVING:
                found.append(waiting.saved(run.graph, state, step, now))
            case _:
                pass
    begins = any(isinstance(entry.record, msg.BeginUndo) for entry in entries)
    early = (begins or run.inbox) and asker.world.rules.gathered
    if state.undoing is not None and state.undoing.asked and not early:
        found.append(_undo(run, entries, state.undoing.before, now))
    return found


def node_of(key: str) -> NodeId | None:
    """The node that a step is a visit to; None for an item of a map, and for what undoes."""
    name, _, visit = key.rpartition("#")
    return NodeId(name) if visit.isdecimal() and not name.startswith("undo ") else None


def _scope(state: State, step: Step, result: Json = None) -> dict[str, Json]:
    facts: dict[str, Json] = {"id": state.run, "steps": state.visited}
    return {**state.view(step.thread), "result": result, "run": facts}


def _admitted(asker: Asker, state: State, step: Step, now: datetime) -> msg.Admitted | msg.Deferred:
    world, name = asker.world, asker.name
    lock = asker.run.graph.node(step.node).lock
    if lock is None:
        return msg.Admitted(at=now, step=step.key)
    said = str(lock.name.evaluate(_scope(state, step)))
    held = said if lock.tenant else f"{name}:{said}"
    if any(kept == held for kept, _ in step.holds):
        return msg.Admitted(at=now, step=step.key)
    if held not in world.locks:
        world.locks[held] = name
        return msg.Admitted(at=now, step=step.key, lock=held, kept_until=lock.until)
    until = now + timedelta(seconds=AGAIN)
    return msg.Deferred(at=now, step=step.key, rule="lock", until=until, lock=held)


def _opened(asker: Asker, state: State, step: Step, now: datetime) -> msg.Opened:
    world, run = asker.world, asker.run
    node, scope = run.graph.node(step.node), _scope(state, step)
    opened = msg.Opened(at=now, step=step.key)
    match node.wait:
        case Timer() as timer:
            return replace(opened, until=waiting.instant(node, timer, scope, now))
        case Awaited() as awaited:
            asker.waits[step.key] = Wait(
                kind="event",
                name=waiting.expected(node, awaited, scope).name,
                transient=awaited.transient,
            )
            return replace(opened, until=waiting.expiry(awaited.expires, now))
        case Asked() as asked:
            asker.waits[step.key] = Wait(kind=node.kind)
            return replace(opened, until=waiting.expiry(asked.expires, now))
        case Child() as child:
            inputs = waiting.given(run.graph, node, {**scope, **_item(run, step)})
            started = world.start(asker.name, step, child, inputs)
            asker.started.append(started)
            return replace(opened, child=started, until=waiting.expiry(child.expires, now))
        case Map() as declared:
            run.items[step.key] = waiting.items(node, declared, scope)
            return replace(opened, items=len(run.items[step.key]))
        case None:
            raise AssertionError(f"{step.key} waits for nothing")


def _item(run: Run, step: Step) -> Mapping[str, Json]:
    if step.of is None or step.index is None:
        return {}
    return {"item": run.items[step.of][step.index], "index": step.index}


def _undo(
    run: Run, entries: Sequence[msg.Entry], before: int | None, now: datetime
) -> msg.UndoFound | msg.NothingToUndo:
    lines = [*run.history, *entries]
    upto = len(lines) + 1 if before is None else before
    for seq in range(upto - 1, 0, -1):
        record = lines[seq - 1].record
        if isinstance(record, msg.AttemptSucceeded | msg.WaitEnded):
            node = run.graph.nodes.get(node_of(record.step) or NodeId(""))
            if node is not None and node.compensate is not None:
                return msg.UndoFound(at=now, step=record.step, node=node.id, seq=seq)
    return msg.NothingToUndo(at=now)
