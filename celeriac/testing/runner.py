"""A run in memory: the real core, with a list for a history and no store, broker or worker.

The runner is a generator that decides and never carries anything out: it yields each attempt
when it may begin, and is sent the report. Who drives it chooses how functions are called.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from celeriac.testing.clock import Clock
from celeriac.testing.record import Record
from engine import documents
from engine.core import deadlines
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Graph, Node
from engine.core.overflow import Overflow, overflowing
from engine.core.policy import Policy
from engine.core.problem import Problem
from engine.core.state import State
from engine.core.transitions import StepStatus
from engine.core.values import VARIABLES_BYTES, Json
from engine.errors import Invalid

Report: TypeAlias = msg.AttemptSucceeded | msg.AttemptFailed | msg.AttemptLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a step, to be carried out now."""

    run: str
    graph: Graph
    node: Node
    step: msg.StepKey
    iteration: int
    attempt: int
    #: What its thread sees.
    variables: Mapping[str, Json]
    #: How often this thread has visited the nodes of its loops.
    visits: msg.Visits
    #: What has happened to the run; it grows.
    history: Sequence[msg.Entry] = ()


def play(
    graph: Graph,
    inputs: Mapping[str, Json],
    *,
    run: str,
    by: str,
    policy: Policy,
    clock: Clock,
) -> Generator[Attempt, Report, Record]:
    """Bring a run as far as it can go. Raises `Invalid` when the inputs do not fit."""
    given = documents.with_defaults(graph, inputs)
    if problems := documents.input_problems(graph, given):
        raise Invalid(problems, "the inputs do not fit the workflow")
    variables = {**graph.variables, **given}
    try:
        overflowing(variables, variables, graph.reducers.keys())
    except Overflow as overflow:
        message = f"inputs and variables take {overflow.taken} bytes, {VARIABLES_BYTES} are allowed"
        raise Invalid([Problem(path="inputs", message=message)]) from overflow
    history: list[msg.Entry] = []
    state = State(run=run)
    events: Iterable[msg.AnyEvent] = [
        msg.RunSubmitted(
            at=clock.now(),
            by=by,
            inputs=variables,
            reducers=graph.reducers,
            shared=tuple(sorted(graph.shared)),
        )
    ]
    while events:
        state = _turn(graph, policy, state, events, history)
        attempt = _ready(graph, state)
        if attempt is not None:
            report = yield replace(attempt, history=history)
            # What the run waited for while the attempt was under way comes before its report.
            while (tick := deadlines.next_wake(graph, state)) and tick <= clock.now():
                state = _turn(graph, policy, state, [msg.Ticked(at=tick)], history)
            events = [replace(report, at=clock.now())]
        else:
            events = _wakes(graph, state, clock)
    return Record(graph=graph, state=state, history=tuple(history))


def _turn(
    graph: Graph,
    policy: Policy,
    state: State,
    events: Iterable[msg.AnyEvent],
    history: list[msg.Entry],
) -> State:
    """Fold and decide, letting everything start that is asked for."""
    while events:
        turn = advance(graph, policy, state, events)
        history.extend(turn.entries)
        state = turn.state
        events = [
            msg.Admitted(at=history[-1].at, step=step.key)
            for step in state.steps.values()
            if step.status is StepStatus.REQUESTED
        ]
    return state


def _ready(graph: Graph, state: State) -> Attempt | None:
    """The attempt that has been ready for longest."""
    for step in state.steps.values():
        if step.status is StepStatus.READY:
            return Attempt(
                run=state.run,
                graph=graph,
                node=graph.nodes[step.node],
                step=step.key,
                iteration=step.iteration,
                attempt=step.attempt,
                variables=state.view(step.thread),
                visits=step.visits,
            )
    return None


def _wakes(graph: Graph, state: State, clock: Clock) -> list[msg.Woke | msg.Ticked]:
    """Let the time pass that is waited for next; none when nothing waits for a time."""
    wakes = {step.key: step.wake for step in state.steps.values() if step.wake is not None}
    tick = deadlines.next_wake(graph, state)
    moments = [*wakes.values(), *([] if tick is None else [tick])]
    if not moments:
        return []
    clock.until(min(moments))
    now = clock.now()
    found: list[msg.Woke | msg.Ticked] = [
        msg.Woke(at=now, step=key) for key, wake in wakes.items() if wake <= now
    ]
    return found if tick is None or tick > now else [*found, msg.Ticked(at=now)]
