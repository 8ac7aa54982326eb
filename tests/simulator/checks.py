"""What must hold of any world, however it was lived through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.fold import evolve
from engine.core.state import State
from engine.core.transitions import RunStatus
from tests.simulator.world import POLICY, Run, World


def violations(world: World) -> Iterator[str]:
    """Everything that is wrong."""
    yield from world.violations
    for key, ends in world.accepted.items():
        if len(ends) != 1:
            yield f"{key}: {len(ends)} results accepted: {ends}"
    for name, run in world.runs.items():
        yield from (f"{name}: {text}" for text in _run(world, name, run))


def _run(world: World, name: str, run: Run) -> Iterator[str]:
    if not run.state.terminal:
        yield f"still {run.state.status} with {len(run.rows)} steps and {len(run.inbox)} events"
        return
    if run.rows:
        yield f"ended with live steps {sorted(run.rows)}"
    if run.state.status is RunStatus.FAILED:
        yield f"failed: {run.state.ending}"
    if run.state.status is RunStatus.CANCELLED and not run.cancelled:
        yield "cancelled, and nobody asked"
    folded = State(run=name)
    for entry in run.history:
        folded = evolve(folded, entry.record)
    if replace(folded, steps={}) != run.state:
        yield "its history tells another state"
    counted = Counter(
        e.record.step for e in run.history if isinstance(e.record, msg.AttemptSucceeded)
    )
    for step, times in counted.items():
        if times != 1:
            yield f"{step} counted {times} times"
        if not world.effects[(name, step)]:
            yield f"{step} counted and never ran"
    if run.state.status is RunStatus.COMPLETED and run.state.variables["n"] != len(counted):
        yield f"n is {run.state.variables['n']} after {len(counted)} counted steps"
    yield from _replayed(name, run)


def _replayed(name: str, run: Run) -> Iterator[str]:
    """Deciding again from the recorded events alone."""
    events = [e.record for e in run.history if isinstance(e.record, msg.Event)]
    again = advance(run.graph, POLICY, State(run=name), events)  # type: ignore[arg-type]
    if again.entries != tuple(run.history):
        yield "a replay of its events decides otherwise"
