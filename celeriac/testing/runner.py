"""Runs in memory: the real core, with lists for a database and no store, broker or worker.

The runner is a generator that decides and never carries anything out: it yields each attempt
when it may begin, and is sent the report. Who drives it chooses how functions are called.
What happens outside is done when it can be; when nothing else can happen, the clock is set
forward to the next moment that somebody waits for, and when there is none, the runs have gone
as far as they can.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from celeriac.testing import outside, requests, turns
from celeriac.testing.acts import Act
from celeriac.testing.clock import Clock
from celeriac.testing.memory import Memory, Run
from celeriac.testing.outside import Planned
from celeriac.testing.record import Record, Waiting
from engine.core import deadlines
from engine.core import messages as msg
from engine.core.graph import Graph, Map, Node
from engine.core.policy import Policy
from engine.core.state import Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json

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
    #: Its place among the items of a map.
    item: int | None = None
    #: The result of the step that it undoes.
    undone: Json = None
    #: Of a map whose items are done: their results.
    gathered: Sequence[Json] | None = None
    #: What `$env` stands for.
    secrets: Mapping[str, str] = field(default_factory=dict)


#: What may happen now: a turn, something outside, an attempt.
Choice: TypeAlias = Run | Planned | Attempt


def play(
    graph: Graph,
    inputs: Mapping[str, Json],
    *,
    run: str,
    by: str,
    policy: Policy,
    clock: Clock,
    workflows: Mapping[str, Graph] | None = None,
    acts: Sequence[Act] = (),
) -> Generator[Attempt, Report, Record]:
    """Bring a run, and those that it starts, as far as they can go.

    Raises `Invalid` when the inputs do not fit.
    """
    memory = Memory(clock=clock, policy=policy, workflows=workflows or {})
    memory.submit(run, graph, inputs, by=by)
    planned = [Planned(act=act) for act in acts]
    while True:
        choices = [*_choices(memory, planned)]
        if not choices and not _wait(memory, planned):
            return _record(memory, memory.runs[run], tuple(one.act for one in planned))
        if not choices:
            continue
        match _chosen(choices):
            case Run() as turning:
                turns.take(memory, turning)
            case Planned() as one:
                planned.remove(one)
                outside.do(memory, one.act)
            case Attempt() as attempt:
                report = yield attempt
                _pass(memory)
                deliver(memory, attempt, report)


def _chosen(choices: Sequence[Choice]) -> Choice:
    """What happens next: whatever has been possible for longest."""
    return choices[0]


def _choices(memory: Memory, planned: Sequence[Planned]) -> Iterator[Choice]:
    """All that may happen now."""
    yield from [run for run in memory.runs.values() if run.inbox]
    now = memory.clock.now()
    yield from [one for due, one in outside.next_acts(memory, planned) if due <= now]
    yield from ready(memory)


def ready(memory: Memory) -> Iterator[Attempt]:
    """The attempts that may begin now."""
    for run in memory.running():
        for step in run.state.steps.values():
            if step.status is StepStatus.READY and step.key not in run.reported:
                yield _attempt(run, step)


def _attempt(run: Run, step: Step) -> Attempt:
    node, gathered = run.graph.node(step.node), None
    if isinstance(node.wait, Map):
        count = step.index or 0
        gathered = [run.results.get(msg.StepKey(f"{step.key}.{i}")) for i in range(count)]
    undoes = step.of is not None and step.index is None
    return Attempt(
        run=run.id,
        graph=run.graph,
        node=node,
        step=step.key,
        iteration=step.iteration,
        attempt=step.attempt,
        variables={**run.state.view(step.thread), **requests.item(run, step)},
        visits=step.visits,
        history=run.history,
        item=step.index if step.of is not None else None,
        undone=run.results.get(step.of) if undoes and step.of is not None else None,
        gathered=gathered,
    )


def deliver(memory: Memory, attempt: Attempt, report: Report) -> None:
    """Leave a report for the run, unless nobody waits for it any more."""
    run = memory.runs[attempt.run]
    step = run.state.steps.get(attempt.step)
    if step is not None and step.status is StepStatus.READY and step.attempt == attempt.attempt:
        run.reported.add(step.key)
        run.inbox.append(replace(report, at=memory.clock.now()))


def _wait(memory: Memory, planned: Sequence[Planned]) -> bool:
    """Set the clock to the next moment that is waited for; False when there is none."""
    waited = [moment for run in memory.runs.values() for moment in moments(run)]
    waited += [due for due, _ in outside.next_acts(memory, planned)]
    if not waited:
        return False
    memory.clock.until(min(waited))
    strike(memory, memory.clock.now())
    return True


def _pass(memory: Memory) -> None:
    """What was waited for while an attempt was under way came before its report."""
    now = memory.clock.now()
    while passed := [
        moment for run in memory.runs.values() for moment in moments(run) if moment <= now
    ]:
        strike(memory, min(passed))
        while turning := next((run for run in memory.runs.values() if run.inbox), None):
            turns.take(memory, turning)


def moments(run: Run) -> Iterator[datetime]:
    """The moments that a run waits for."""
    yield from (step.wake for step in run.state.steps.values() if _sleeps(run, step) and step.wake)
    tick = deadlines.next_wake(run.graph, run.state)
    if tick is not None:
        yield tick


def _sleeps(run: Run, step: Step) -> bool:
    """Whether a step waits for a time.

    Who waits for a lock is woken when that is given up; a paused run tries nothing again.
    """
    if step.wake is None or step.awaits is not None:
        return False
    return run.waiting(step) or (
        step.status in (StepStatus.DEFERRED, StepStatus.RETRYING)
        and run.state.status is RunStatus.RUNNING
    )


def strike(memory: Memory, now: datetime) -> None:
    """Tell runs of the moments that have come."""
    for run in memory.runs.values():
        for step in tuple(run.state.steps.values()):
            if _sleeps(run, step) and step.wake is not None and step.wake <= now:
                run.reported.add(step.key)
                run.inbox.append(msg.Woke(at=now, step=step.key))
        tick = deadlines.next_wake(run.graph, run.state)
        if tick is not None and tick <= now:
            run.inbox.append(msg.Ticked(at=now))


def _record(memory: Memory, run: Run, unused: tuple[Act, ...] = ()) -> Record:
    """What a run came to, with those that its steps started."""
    children = [one for one in memory.runs.values() if one.origin and one.origin.run == run.id]
    return Record(
        graph=run.graph,
        state=run.state,
        history=tuple(run.history),
        children=tuple(_record(memory, child) for child in children),
        waiting=tuple(
            Waiting(step=step.key, node=step.node, kind=step.wait or "lock")
            for step in run.state.steps.values()
            if step.wait is not None or step.awaits is not None
        ),
        unused=unused,
    )
