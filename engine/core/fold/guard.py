"""Folding what the tenant's policies say of a run, and what its attempts use."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from engine.core import messages as msg
from engine.core.fold.threads import standing
from engine.core.fold.waits import failing
from engine.core.permits import moment_of
from engine.core.records import replace
from engine.core.state import ABORTED, PERMIT, Ending, Failure, State, Step
from engine.core.transitions import RunStatus, StepStatus

_Asking: TypeAlias = msg.Parked | msg.AttemptSuspended | msg.AttemptWithheld


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
            message = f"{_id(verdict)}: {verdict.message}"
            ending = Ending(
                status=RunStatus.FAILED, reason=ABORTED, message=message, step=event.step
            )
            return replace(state, stopping=ending)
        case "pause_lifetime":
            halted = {**state.halted, _id(verdict): verdict.observed}
            paused = state.status is RunStatus.RUNNING
            status = RunStatus.PAUSED if paused else state.status
            return replace(state, halted=halted, status=status)
        case "reject_execution" if event.moment == "report" and event.step in state.steps:
            step = state.steps[event.step]
            why = step.rejected or f"{_id(verdict)}: {verdict.message}"
            return standing(state, replace(step, rejected=why))
        case _:
            return state


def _id(verdict: msg.Verdict) -> str:
    """Under which a rule is known that people have let pass."""
    return f"{verdict.policy}:{verdict.rule}"


def asked(state: State, step: Step, event: _Asking) -> State:
    """A step waits for people from now on."""
    attempt = step.attempt
    if not event.permits:
        return standing(state, replace(step.to(StepStatus.DUE), attempt=attempt + 1))
    if isinstance(event, msg.Parked) and step.permits:
        # Answers are kept by attempt: whoever allowed something else may be asked again.
        attempt += 1
    waiting = replace(
        step.to(StepStatus.WAITING), wait=PERMIT, asked=event.permits, wake=event.until
    )
    return standing(state, replace(waiting, attempt=attempt, opens=False))


def answered(state: State, step: Step, event: msg.WaitEnded) -> State:
    """People have said whether a step may go on."""
    if event.choice != "approve":
        message = f"denied by {', '.join(event.by)}"
        failure = Failure(reason="denied", message=message, terminal=True)
        return standing(state, failing(replace(step, asked=(), wait=None), failure))
    permits = (*step.permits, *step.asked)
    allowed = replace(step, asked=(), wait=None, wake=None, permits=permits)
    match moment_of(step.asked[0]):
        case "report":
            # What it reported follows, and is folded as if it had come now.
            return standing(state, allowed.to(StepStatus.READY))
        case "call":
            again = replace(allowed.to(StepStatus.DUE), attempt=step.attempt + 1)
            return standing(state, again)
        case _:
            return standing(state, allowed.to(StepStatus.DUE))


def resumed(state: State) -> State:
    """Whoever resumes a run lets pass what rules have paused it for, at the values they saw."""
    return replace(state, waived={**state.waived, **state.halted}, halted={})


def used(state: State, record: msg.Record) -> State:
    """What an attempt used counts, whatever became of its report."""
    match record:
        case (
            msg.AttemptSucceeded(usage=usage)
            | msg.AttemptFailed(usage=usage)
            | msg.AttemptLost(usage=usage)
            | msg.AttemptSuspended(usage=usage)
            | msg.AttemptWithheld(usage=usage)
            | msg.RetryRequested(usage=usage)
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
