"""Taking turns in memory: events are folded, requests answered, and others told what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from celeriac.testing import requests
from celeriac.testing.memory import Event, Memory, Run
from engine import waiting
from engine.core import codec, references
from engine.core import messages as msg
from engine.core.decide import advance, outputs
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Inline, Json, plain


def take(memory: Memory, run: Run) -> None:
    """Fold what waits for a run, and bring it as far as it can go."""
    now = memory.clock.now()
    events: Iterable[msg.AnyEvent] = [
        replace(event, at=now) if event.at == codec.UNTIMED else event for event in run.inbox
    ]
    run.inbox.clear()
    while events:
        turn = advance(run.graph, memory.policy, run.state, events)
        run.state = turn.state
        for entry in turn.entries:
            run.history.append(entry)
            _kept(run, entry.record)
        events = tuple(requests.answers(memory, run, now))
    run.reported.clear()
    still = (StepStatus.WAITING, StepStatus.OPENING)
    run.waits = {
        key: wait
        for key, wait in run.waits.items()
        if key in run.state.steps and run.state.steps[key].status in still
    }
    _tell(memory, run)


def route(memory: Memory) -> None:
    """Bring events and the steps that wait for them together, oldest first."""
    for event in memory.events:
        waits = [
            (wait.number, run, key)
            for run in memory.runs.values()
            for key, wait in run.waits.items()
            if _meets(event, run, key)
        ]
        for _, run, key in sorted(waits, key=lambda found: found[0]):
            expected = run.waits[key].event
            assert expected is not None
            if said := waiting.misfit(expected.schema, event.sent.payload):
                event.state = "refused"
                event.detail = f"step {key} of run {run.id} cannot take it: {said}"
                break
            come = msg.WaitEnded(
                at=codec.UNTIMED,
                step=key,
                attempt=run.state.steps[key].attempt,
                by=(f"user:{event.sent.by}",),
                result=Inline(value=event.sent.payload),
            )
            if run.end(key, come.attempt, come):
                event.state, event.detail = "claimed", f"{key} of run {run.id}"
                break


def _meets(event: Event, run: Run, key: msg.StepKey) -> bool:
    """Whether a step may claim an event."""
    wait, step = run.waits[key], run.state.steps[key]
    expected = wait.event
    if event.state != "kept" or expected is None or not run.waiting(step):
        return False
    if wait.transient and event.number < wait.number:
        return False
    correlation = waiting.correlation(dict(event.sent.match))
    if event.run is not None:
        fits = event.run == run.id and correlation in ("", expected.correlation)
    else:
        fits = correlation == expected.correlation
    return fits and event.sent.name == expected.name


def _kept(run: Run, record: msg.Record) -> None:
    """Keep what lies beside the state: results, and the items that maps were sent."""
    match record:
        case msg.AttemptSucceeded(step=key, result=result) | msg.WaitEnded(step=key, result=result):
            run.results[key] = plain(result)
        case msg.ItemsAdded(step=key, items=more) if key in run.state.steps:
            run.items[key] = [*run.items[key], *more]
        case _:
            pass


def _tell(memory: Memory, run: Run) -> None:
    """Let others know what follows for them from the turn of a run."""
    origin = run.origin
    ending = run.state.ending
    if ending is not None and origin is not None:
        given: Mapping[str, Json] = {}
        if ending.status is RunStatus.COMPLETED:
            given = outputs(run.graph, run.id, run.state.variables, references.unread)
        event = waiting.child_ended(run.id, ending, given, origin.step, origin.attempt)
        memory.runs[origin.run].end(origin.step, origin.attempt, event)
    for child in tuple(memory.runs.values()):
        if child.origin is not None and child.origin.run == run.id and _is_orphan(run, child):
            child.inbox.append(_let_go(run, child))
    _give_up(memory, run)
    route(memory)


def _is_orphan(parent: Run, child: Run) -> bool:
    origin = child.origin
    assert origin is not None
    if not origin.cancelled_with or child.state.terminal:
        return False
    if any(isinstance(event, msg.CancelRequested) for event in child.inbox):
        return False
    step = parent.state.steps.get(origin.step)
    if step is None or step.attempt != origin.attempt:
        return True
    return step.status is not StepStatus.WAITING


def _let_go(parent: Run, child: Run) -> msg.CancelRequested:
    assert child.origin is not None
    return msg.CancelRequested(
        at=codec.UNTIMED,
        by=f"run:{parent.id}",
        reason=f"{child.origin.step} of run {parent.id} waits for it no more",
    )


def _give_up(memory: Memory, run: Run) -> None:
    """Give up the locks that nothing of a run holds any more, and wake who comes next."""
    held = [name for step in run.state.steps.values() for name, _ in step.holds]
    held += [name for token in run.state.tokens for name, _ in token.holds]
    for name in [name for name, holder in memory.locks.items() if holder == run.id]:
        if name not in held:
            del memory.locks[name]
            _wake(memory, name)


def _wake(memory: Memory, lock: str) -> None:
    """Wake the step that has waited for a lock for longest."""
    for run_id, key in tuple(memory.waiters):
        run = memory.runs[run_id]
        step = run.state.steps.get(key)
        if step is None or step.status is not StepStatus.DEFERRED:
            del memory.waiters[run_id, key]
        elif step.awaits == lock and run in memory.running():
            run.inbox.append(msg.Woke(at=codec.UNTIMED, step=key))
            return
