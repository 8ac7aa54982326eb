"""What must hold of any world, however it was lived through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Child, Map, NodeId
from engine.core.records import replace
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Inline
from tests.simulator.answers import node_of
from tests.simulator.play import resting
from tests.simulator.tables import Run
from tests.simulator.world import POLICY, World


def violations(world: World) -> Iterator[str]:
    """Everything that is wrong."""
    yield from world.violations
    for key, ends in world.accepted.items():
        if len(ends) != 1:
            yield f"{key}: {len(ends)} results accepted: {ends}"
    for wait, by in world.ends.items():
        if len(by) != 1:
            yield f"{wait}: its wait ended {len(by)} times, by {by}"
    for name, run in world.runs.items():
        yield from (f"{name}: {text}" for text in _run(world, name, run))
        yield from (f"{name}: {text}" for text in _child(world, name, run))
    yield from _locks(world)
    yield from _events(world)


def _run(world: World, name: str, run: Run) -> Iterator[str]:
    if not resting(run):
        waits = {key: row.status for key, row in run.rows.items()}
        yield f"still {run.state.status} with {waits} and {len(run.inbox)} events"
        return
    yield from _replayed(name, run)
    counted = Counter(
        e.record.step
        for e in run.history
        if isinstance(e.record, msg.AttemptSucceeded | msg.WaitEnded)
    )
    for step, times in counted.items():
        if times != 1:
            yield f"{step} counted {times} times"
    worked = list(_worked(run))
    for record in worked:
        if not world.effects[(name, record.step)]:
            yield f"{record.step} counted and never ran"
    yield from _told(world, name, run)
    if not run.state.terminal:
        return
    if run.rows:
        yield f"ended with live steps {sorted(run.rows)}"
    yield from _ended(run)
    patched = sum("n" in record.patch for record in worked)
    # What threads wrote that were cancelled counts for nothing, nor does what was gone back over.
    cut = any(
        isinstance(e.record, msg.RollBack)
        or (isinstance(e.record, msg.JoinThreads) and e.record.cancels and e.record.scope)
        for e in run.history
    )
    completed = run.state.status is RunStatus.COMPLETED
    if completed and not cut and (run.state.variables["n"] or 0) != patched:
        yield f"n is {run.state.variables['n']} after {patched} counted steps"
    yield from _gathered(world, name, run)
    yield from _undone(run)


def _told(world: World, name: str, run: Run) -> Iterator[str]:
    """Whoever was told that his word counts finds it in history, as he said it."""
    reports: set[tuple[str, int, int]] = set()
    ends: set[tuple[str, int, str]] = set()
    for entry in run.history:
        match entry.record:
            case msg.AttemptSucceeded(step=key, attempt=attempt, fence=fence):
                reports.add((key, attempt, fence))
            case msg.WaitEnded(step=key, attempt=attempt, by=(by,), choice=choice):
                ends.add((key, attempt, f"{by} {choice}"))
            case msg.WaitFailed(step=key, attempt=attempt, by=(by,)):
                ends.add((key, attempt, f"{by} None"))
            case _:
                pass
    for (of, key), accepted in world.accepted.items():
        for attempt, fence in accepted:
            if of == name and (key, attempt, fence) not in reports:
                yield f"{key} was reported in attempt {attempt}, and history does not tell"
    for (of, key, attempt), said in world.said.items():
        if of == name and (key, attempt, said) not in ends:
            yield f"{key} was ended by {said}, and history does not tell"


def _worked(run: Run) -> Iterator[msg.AttemptSucceeded]:
    """The reports of steps that were carried out, but for those that were gone before."""
    gone: set[str] = set()
    live: dict[str, NodeId] = {}
    for entry in run.history:
        match entry.record:
            case msg.RequestStart(step=key, node=node):
                live[key] = node
            case msg.SkipRequested(step=key):
                gone.add(key)
            case msg.RollBack():
                gone |= live.keys()
            case msg.CancelRegion(nodes=nodes):
                gone |= {key for key, node in live.items() if node in nodes}
            case msg.AttemptSucceeded(step=key) as record if key not in gone:
                yield record
            case _:
                pass


def _ended(run: Run) -> Iterator[str]:
    """A run ends as its workflow has it, or cancelled by somebody."""
    meant = RunStatus.FAILED if run.graph.undoes else RunStatus.COMPLETED
    if run.skipped and run.state.status is RunStatus.COMPLETED:
        return
    if run.state.status is not meant and run.state.status is not RunStatus.CANCELLED:
        yield f"{run.state.status}: {run.state.ending}"
    if run.state.status is RunStatus.CANCELLED and not run.cancelled:
        yield "cancelled, and nobody asked"


def _child(world: World, name: str, run: Run) -> Iterator[str]:
    """A run within a run and the step that started it tell the same."""
    if run.parent is None:
        return
    parent, key, attempt = run.parent
    row = world.runs[parent].rows.get(key)
    waits = row is not None and row.status == "waiting" and row.step.attempt == attempt
    if run.state.terminal and waits:
        yield f"has ended, and {key} of {parent} still waits for it"
    if not run.state.terminal and not waits and run.orphan == "cancel":
        yield f"goes on, and {key} of {parent} waits for it no more"
    for entry in world.runs[parent].history:
        match entry.record:
            case msg.WaitEnded(by=(by,)) if by == f"run:{name}":
                if run.state.status is not RunStatus.COMPLETED:
                    yield f"counts as done, and is {run.state.status}"
            case msg.WaitFailed(by=(by,), reason=reason) if by == f"run:{name}":
                if reason != f"child_{run.state.status}":
                    yield f"counts as {reason}, and is {run.state.status}"
            case _:
                pass


def _locks(world: World) -> Iterator[str]:
    """A lock is held by one run, by those of its steps and tokens that say so."""
    for lock, name in world.locks.items():
        if lock not in world.keeps(name):
            yield f"{lock} is taken by {name}, and nothing of it holds it"
    for name in world.runs:
        for lock in world.keeps(name):
            if world.locks.get(lock) != name:
                yield f"{lock} is held by {name}, and taken by {world.locks.get(lock)}"


def _events(world: World) -> Iterator[str]:
    """An event ends one wait, and is the result of that."""
    for event in world.events:
        if len(event.claimed) > 1:
            yield f"{event.id} was claimed by {event.claimed}"
        for run, key in event.claimed:
            if world.results.get((run, key)) != {"event": event.id}:
                yield f"{event.id} was claimed by {key} of {run}, and is not its result"


def _gathered(world: World, name: str, run: Run) -> Iterator[str]:
    """The results of a map stand in the order of its items, a null for each that has none."""
    for entry in run.history:
        record = entry.record
        if not isinstance(record, msg.AttemptSucceeded):
            continue
        node = run.graph.nodes.get(node_of(record.step) or NodeId(""))
        if node is None or not isinstance(node.wait, Map):
            continue
        assert isinstance(record.result, Inline)
        child = isinstance(node.wait.do.wait, Child)
        for place, (item, got) in enumerate(
            zip(run.items[record.step], record.result.value, strict=True)  # type: ignore[arg-type]
        ):
            done = (name, f"{record.step}.{place}") in world.results
            if got != (({"given": item} if child else item) if done else None):
                yield f"item {place} of {record.step}, {item}, came to {got}"


def _undone(run: Run) -> Iterator[str]:
    """Whatever was done is undone, once each, the last first."""
    begun = [place for place, e in enumerate(run.history) if isinstance(e.record, msg.BeginUndo)]
    if not begun:
        return
    (start,) = begun
    # What was reported before the run began counts, whenever that is folded.
    done = [
        e.record.step
        for e in run.history
        if isinstance(e.record, msg.AttemptSucceeded | msg.WaitEnded)
        and (node := run.graph.nodes.get(node_of(e.record.step) or NodeId(""))) is not None
        and node.compensate is not None
    ]
    undone = [
        e.record.of
        for e in run.history[start:]
        if isinstance(e.record, msg.RequestStart) and e.record.attempt == 1
    ]
    wanted = done[::-1]
    interrupted = run.state.status is RunStatus.CANCELLED
    if undone != (wanted[: len(undone)] if interrupted else wanted):
        yield f"{done} were done, and {undone} undone"


def _replayed(name: str, run: Run) -> Iterator[str]:
    """Deciding again from the recorded events alone, with every step at hand."""
    events = [e.record for e in run.history if isinstance(e.record, msg.Event)]
    again = advance(run.graph, POLICY, State(run=name), events)  # type: ignore[arg-type]
    if again.entries != tuple(run.history):
        at = next(
            (
                f"line {place}: {one.record} for {other.record}"
                for place, (one, other) in enumerate(
                    zip(again.entries, run.history, strict=False), start=1
                )
                if one != other
            ),
            f"{len(again.entries)} lines for {len(run.history)}",
        )
        yield f"a replay of its events decides otherwise: {at}"
    folded = again.state
    if folded.steps.keys() != run.rows.keys():
        yield f"its history tells of the steps {sorted(folded.steps)}, there are {sorted(run.rows)}"
    if replace(folded, steps={}) != run.state:
        yield "its history tells another state"
