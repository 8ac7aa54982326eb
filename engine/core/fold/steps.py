"""Folding what is reported of live steps."""

from __future__ import annotations

from typing import TypeAlias

from engine.core import messages as msg
from engine.core import remembered
from engine.core.fold.guard import answered, asked
from engine.core.fold.maps import without_items
from engine.core.fold.threads import standing
from engine.core.fold.waits import failing, waited, written
from engine.core.permits import moment_of
from engine.core.records import replace
from engine.core.state import PERMIT, Failure, State, Step
from engine.core.transitions import RunStatus, StepStatus

#: What is reported of a live step.
StepEvent: TypeAlias = (
    msg.AttemptSucceeded
    | msg.AttemptFailed
    | msg.AttemptLost
    | msg.AttemptSuspended
    | msg.AttemptWithheld
    | msg.Parked
    | msg.Woke
    | msg.Opened
    | msg.NotOpened
    | msg.WaitEnded
    | msg.WaitFailed
    | msg.Saved
    | msg.NotSaved
    | msg.ItemsAdded
    | msg.CompleteRequested
    | msg.SkipRequested
    | msg.ResultGiven
    | msg.RetryRequested
    | msg.Admitted
    | msg.Refused
    | msg.Deferred
)


def expected(state: State, step: Step, event: StepEvent) -> bool:
    """Whether the step still waits for what the event reports.

    A wake finds nobody in a paused run but those that wait for it alone; the sweeper wakes again.
    """
    match event:
        case (
            msg.AttemptSucceeded()
            | msg.AttemptFailed()
            | msg.AttemptLost()
            | msg.AttemptSuspended()
            | msg.AttemptWithheld()
        ):
            return step.status is StepStatus.READY and step.attempt == event.attempt
        case msg.Admitted() | msg.Refused() | msg.Deferred() | msg.Parked() | msg.ResultGiven():
            return step.status is StepStatus.REQUESTED
        case msg.Woke():
            if step.status is StepStatus.WAITING:
                return not event.again
            comes_back = step.status in (StepStatus.DEFERRED, StepStatus.RETRYING)
            return comes_back and state.status is RunStatus.RUNNING
        case msg.Opened() | msg.NotOpened():
            return step.status is StepStatus.OPENING
        case msg.WaitEnded() | msg.WaitFailed():
            return step.status is StepStatus.WAITING and step.attempt == event.attempt
        case msg.Saved() | msg.NotSaved():
            return step.status is StepStatus.SAVING
        case msg.ItemsAdded() | msg.CompleteRequested():
            return step.key in state.maps
        case msg.SkipRequested():
            return True
        case _:
            again: msg.RetryRequested = event  # nothing else is left
            waits = step.status in (StepStatus.DEFERRED, StepStatus.RETRYING)
            return waits or (step.status is StepStatus.READY and step.attempt == again.attempt)


def reported(state: State, step: Step, event: StepEvent) -> State:
    """Fold what was reported of a live step."""
    match event:
        case msg.AttemptSucceeded() if step.rejected is not None:
            failure = Failure(reason="rejected", message=step.rejected, terminal=True)
            return standing(state, failing(replace(step, rejected=None), failure))
        case msg.AttemptSucceeded(result=result, choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), result=result, choice=choice)
            if step.of is not None:
                # It has no `save`; what it leaves all the same would hang on who was quicker.
                return standing(state, done)
            left = {**event.patch, **remembered.left(state.reducers, step.node, result)}
            return written(standing(state, done), step.thread, left, event.removed)
        case msg.Admitted() | msg.Refused() | msg.Deferred():
            return standing(state, _answered(step, event))
        case msg.AttemptFailed(reason=reason, message=message, terminal=terminal):
            failure = Failure(reason=reason, message=message, terminal=terminal)
            # What it would have reported is no concern of the next attempt's; and who allowed it to
            # start has allowed that once, however often it goes on where it was.
            permits = tuple(one for one in step.permits if moment_of(one) != "start")
            anew = replace(step, rejected=None, permits=permits)
            return standing(state, failing(anew, failure))
        case msg.AttemptLost(worker=worker):
            failure = Failure(reason="lost", message=f"worker {worker} stopped answering")
            return standing(state, failing(step, failure))
        case msg.AttemptSuspended() | msg.AttemptWithheld() | msg.Parked():
            return asked(state, step, event)
        case msg.WaitEnded() if step.wait == PERMIT:
            return answered(state, step, event)
        case msg.Woke():
            return standing(state, _woken(step))
        case msg.SkipRequested(choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), wake=None, choice=choice)
            return standing(without_items(state, step.key), done)
        case msg.ResultGiven(result=result, choice=choice):
            done = replace(step.to(StepStatus.SUCCEEDED), result=result, choice=choice, opens=False)
            left = {**event.patch, **remembered.left(state.reducers, step.node, result)}
            return written(standing(state, done), step.thread, left)
        case msg.RetryRequested():
            # An attempt that was taken away has its number for good, and counts against nothing.
            again = step.attempt + (step.status is StepStatus.READY)
            return standing(state, replace(step.to(StepStatus.DUE), wake=None, attempt=again))
        case _:
            return waited(state, step, event)


def _answered(step: Step, answer: msg.Admitted | msg.Refused | msg.Deferred) -> Step:
    """A step to whose request the admission has answered."""
    match answer:
        case msg.Admitted(lock=lock, kept_until=until):
            admitted = step.to(StepStatus.OPENING if step.opens else StepStatus.READY)
            return (
                admitted if lock is None else replace(admitted, holds=(*step.holds, (lock, until)))
            )
        case msg.Refused(rule=rule, message=message):
            failure = Failure(reason="refused", message=f"{rule}: {message}", terminal=True)
            return failing(step, failure)
        case _:
            later: msg.Deferred = answer  # nothing else is left
            deferred = replace(step.to(StepStatus.DEFERRED), wake=later.until, opens=False)
            return replace(deferred, awaits=later.lock)


def _woken(step: Step) -> Step:
    """The time that a step waited for has come, or whatever else it waited for is late."""
    if step.status is not StepStatus.WAITING:
        return replace(step.to(StepStatus.DUE), wake=None)
    if step.wait == "timer":
        return replace(step.to(StepStatus.ANSWERED), wake=None)
    message = f"nothing came for node {step.node} in time"
    return failing(step, Failure(reason="expired", message=message, terminal=True))
