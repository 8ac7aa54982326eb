"""Folding what the tenant's policies say of a run, and what its attempts use."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TypeAlias

from engine.core import messages as msg
from engine.core.fold.threads import standing
from engine.core.fold.waits import failing
from engine.core.state import ABORTED, PERMIT, Ending, Failure, State, Step
from engine.core.transitions import RunStatus, StepStatus

_Asking: TypeAlias = msg.Parked | msg.AttemptSuspended


def judged(state: State, event: msg.Judged) -> State:
    """Fold what was judged of a step; whether the step still lives makes no difference to the run."""
    if event.memory is not None:
        state = replace(state, memory=event.memory)
    for verdict in event.verdicts:
        state = _obeyed(state, event, verdict)
    return state


def _obeyed(state: State, event: msg.Judged, verdict: msg.Verdict) -> State:
    match verdict.action:
        case "abort_lifetime" if not state.terminal:
            message = f"{verdict.rule}: {verdict.message}"
            ending = Ending(
                status=RunStatus.FAILED, reason=ABORTED, message=message, step=event.step
            )
            return replace(state, stopping=ending)
        case "pause_lifetime":
            waived = {**state.waived, verdict.rule: verdict.observed}
            paused = state.status is RunStatus.RUNNING
            status = RunStatus.PAUSED if paused else state.status
            return replace(state, waived=waived, status=status)
        case "reject_execution" if event.moment == "report" and event.step in state.steps:
            step = state.steps[event.step]
            why = step.rejected or f"{verdict.rule}: {verdict.message}"
            return standing(state, replace(step, rejected=why))
        case _:
            return state


def asked(state: State, step: Step, event: _Asking) -> State:
    """A step waits for people from now on."""
    attempt = step.attempt
    if isinstance(event, msg.Parked) and event.moment == "start" and step.permits:
        # Answers are kept by attempt: whoever allowed something else may be asked again.
        attempt += 1
    waiting = replace(
        step.to(StepStatus.WAITING), wait=PERMIT, asked=event.digest, wake=event.until
    )
    return standing(state, replace(waiting, attempt=attempt, opens=False))


def answered(state: State, step: Step, event: msg.WaitEnded) -> State:
    """People have said whether a step may go on."""
    who = ", ".join(event.by)
    if event.choice != "approve":
        failure = Failure(reason="denied", message=f"denied by {who}", terminal=True)
        return standing(state, failing(replace(step, asked=None, wait=None), failure))
    assert step.asked is not None
    allowed = replace(step, asked=None, wait=None, wake=None, permits=(*step.permits, step.asked))
    if step.asked.startswith("report:"):
        # What it reported follows, and is folded as if it had come now.
        return standing(state, allowed.to(StepStatus.READY))
    again = step.attempt + step.asked.startswith("call:")
    return standing(state, replace(allowed.to(StepStatus.DUE), attempt=again))


def used(state: State, record: msg.Record) -> State:
    """What an attempt used counts, whatever became of its report."""
    match record:
        case (
            msg.AttemptSucceeded(usage=usage)
            | msg.AttemptFailed(usage=usage)
            | msg.AttemptLost(usage=usage)
            | msg.AttemptSuspended(usage=usage)
        ) if usage:
            return replace(state, spent=added(state.spent, usage))
        case _:
            return state


#: Two peaks of memory are no peak.
_NO_SUM = frozenset({"max_rss"})


def added(spent: msg.Usage, usage: msg.Usage) -> dict[str, float]:
    """The sum of two usages. Added as decimals: dimes do not add up to 0.30000000000000004."""
    total = {name: Decimal(str(value)) for name, value in spent.items()}
    for name, value in usage.items():
        if name in _NO_SUM:
            continue
        total[name] = total.get(name, Decimal(0)) + Decimal(str(value))
    return {name: float(value) for name, value in total.items()}
