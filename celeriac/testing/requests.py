"""What the core asks of a turn, answered from memory as the platform answers from its database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from celeriac.testing.memory import Memory, Origin, Run, Wait, node_of
from engine import asking, waiting
from engine.core import messages as msg
from engine.core.graph import Asked, Awaited, Child, Graph, Map, Orphan, Timer
from engine.core.state import Step
from engine.core.transitions import StepStatus
from engine.core.values import Json
from engine.errors import Invalid
from engine.waiting import Unfit

#: Seconds after which the platform asks again for a lock. Here nobody misses that it is free.
_AGAIN_SECONDS = 60.0


def answers(memory: Memory, run: Run, now: datetime) -> Iterator[msg.AnyEvent]:
    """Answer all that the state of a run asks for, in order."""
    for step in tuple(run.state.steps.values()):
        match step.status:
            case StepStatus.REQUESTED:
                yield _admission(memory, run, step, now)
            case StepStatus.OPENING:
                try:
                    yield _opened(memory, run, step, now)
                except Unfit as unfit:
                    yield msg.NotOpened(
                        at=now, step=step.key, reason=unfit.reason, message=unfit.message
                    )
            case StepStatus.SAVING:
                yield waiting.saved(run.graph, run.state, step, now)
            case _:
                pass
    undoing = run.state.undoing
    if undoing is not None and undoing.asked:
        nodes = [node.id for node in run.graph.nodes.values() if node.compensate]
        found = run.last_done(nodes, undoing.before)
        if found is None:
            yield msg.NothingToUndo(at=now)
        else:
            yield msg.UndoFound(at=now, step=found[0], node=node_of(found[0]), seq=found[1])


def _admission(
    memory: Memory, run: Run, step: Step, now: datetime
) -> msg.Admitted | msg.Refused | msg.Deferred:
    node = run.graph.node(step.node)
    if node.lock is None:
        return msg.Admitted(at=now, step=step.key)
    try:
        name = waiting.lock_name(run.id, node, node.lock, waiting.scope_of(run.state, step))
    except Unfit as unfit:
        return msg.Refused(at=now, step=step.key, rule="lock", message=unfit.message)
    if any(held == name for held, _ in step.holds):
        return msg.Admitted(at=now, step=step.key)
    if name not in memory.locks:
        memory.locks[name] = run.id
        memory.waiters.pop((run.id, step.key), None)
        return msg.Admitted(at=now, step=step.key, lock=name, kept_until=node.lock.until)
    memory.waiters.setdefault((run.id, step.key))
    return msg.Deferred(
        at=now,
        step=step.key,
        rule=f"lock {name.partition(':')[2]} is held",
        until=now + timedelta(seconds=_AGAIN_SECONDS),
        lock=name,
    )


def _opened(memory: Memory, run: Run, step: Step, now: datetime) -> msg.Opened:
    """Set up what a step waits for. Raises `Unfit`."""
    node, scope = run.graph.node(step.node), waiting.scope_of(run.state, step)
    until: datetime | None = None
    match node.wait:
        case Timer() as timer:
            until = waiting.instant(node, timer, scope, now)
        case Awaited() as awaited:
            event = waiting.expected(node, awaited, scope)
            run.waits[step.key] = Wait(
                kind="event",
                number=memory.number(),
                opened=now,
                event=event,
                transient=awaited.transient,
            )
            until = waiting.expiry(awaited.expires, now)
        case Asked() as asked:
            asks = asking.asks(node, asked, scope)
            run.waits[step.key] = Wait(
                kind=node.kind, number=memory.number(), asks=asks, opened=now
            )
            until = waiting.expiry(asked.expires, now)
        case Child() as child:
            own = {**scope, **item(run, step)}
            named = waiting.workflow(node, child, own)
            if child.named is not None and named.partition("@")[0] not in memory.workflows:
                raise waiting.no_such_workflow(step.node, named)
            given = waiting.given(run.graph, node, own)
            started = _started(memory, run, step, replace(child, workflow=named), given)
            until = waiting.expiry(child.expires, now)
            return msg.Opened(at=now, step=step.key, child=started.id, until=until)
        case Map() as declared:
            found = waiting.items(node, declared, scope)
            run.items[step.key] = found
            return msg.Opened(at=now, step=step.key, items=len(found))
        case None:
            raise AssertionError(f"node {node.id} waits for nothing")
    return msg.Opened(at=now, step=step.key, until=until)


def item(run: Run, step: Step) -> dict[str, Json]:
    """The names of the item that a step is about, if it is about one."""
    if step.of is None or step.index is None:
        return {}
    declared = run.graph.nodes[node_of(step.of)].wait
    assert isinstance(declared, Map)
    return waiting.item_names(declared, step.index, run.items[step.of][step.index])


def _started(memory: Memory, run: Run, step: Step, child: Child, inputs: dict[str, Json]) -> Run:
    """Submit the run that a step waits for. Raises `Unfit`."""
    if run.depth >= waiting.MAX_DEPTH:
        raise waiting.too_deep(step.node)
    origin = Origin(
        run=run.id,
        step=step.key,
        attempt=step.attempt,
        cancelled_with=child.orphan is Orphan.CANCEL,
        depth=run.depth + 1,
    )
    number = run.id[: -len(str(len(memory.runs)))] + str(len(memory.runs))
    graph = workflow(memory, run.graph, child.workflow)
    try:
        return memory.submit(number, graph, inputs, by=run.by, origin=origin)
    except Invalid as invalid:
        raise waiting.unfit_inputs(step.node, invalid.problems[0]) from invalid


def workflow(memory: Memory, here: Graph, named: str) -> Graph:
    """The graph of a workflow by name; one that runs itself runs the version that it is."""
    if named == here.workflow:
        return here
    return memory.workflows.get(named.partition("@")[0], here)
