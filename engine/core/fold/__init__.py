"""The fold: what each line of history makes of a run's state.

`evolve` is the only function that changes a state, by returning another. `threads` folds where
threads stand, fork and come together, `steps` what is reported of live steps, `waits` what is
reported of those that wait, `orders` what is decided of steps where they stand,
`maps` how
items go, `guard` what policies say and what is used, `undo` how a run undoes what it did. What a
run takes over from another one is told in `core.forking`, what becomes of one that goes back in
`core.rollback`, and of one under another version of its workflow in `core.migration`.
"""

from __future__ import annotations

from typing import TypeAlias

from engine.core import forking, migration, rollback, transitions
from engine.core import messages as msg
from engine.core.fold.guard import judged, resumed, used
from engine.core.fold.orders import ordered
from engine.core.fold.steps import StepEvent, expected, reported
from engine.core.fold.threads import passed, requested, settled, threaded
from engine.core.fold.undo import emptied, undone
from engine.core.records import replace
from engine.core.state import TERMINATED, Ending, State
from engine.core.transitions import RunStatus

__all__ = ["evolve"]


def evolve(state: State, record: msg.Record) -> State:
    """Fold one line of history into the state.

    A report that its step no longer waits for changes nothing: it was true when it was made,
    and the run has moved on since (a cancel was folded before it, say).
    """
    match record:
        # What comes most often is asked for first.
        case msg.AttemptSucceeded() | msg.Admitted():
            return _of_step(state, record)
        case msg.TakeEdges():
            return settled(state, state.steps[record.step], record)
        case msg.RequestStart():
            return requested(state, record)
        case msg.RunSubmitted(inputs=inputs, reducers=reducers, shared=shared):
            return replace(
                state,
                status=transitions.check(transitions.RUN, state.status, RunStatus.RUNNING),
                variables={**state.variables, **inputs},
                reducers=reducers,
                shared=shared,
            )
        case msg.Forked():
            transitions.check(transitions.RUN, state.status, RunStatus.RUNNING)
            return forking.begun(state.run, record)
        case (
            msg.CancelRequested()
            | msg.TerminateRequested()
            | msg.PauseRequested()
            | msg.ResumeRequested()
            | msg.RollbackRequested()
            | msg.Ticked()
            | msg.MigrateRequested()
            | msg.Migrated()
            | msg.NotMigrated()
        ):
            return _controlled(state, record)
        case msg.Governed(number=number):
            return replace(state, governed=number)
        case msg.Judged():
            return judged(state, record)
        case msg.PassNode():
            return passed(state, record)
        case (
            msg.JoinThreads()
            | msg.AbsorbToken()
            | msg.CloseScope()
            | msg.MissMilestone()
            | msg.CancelRegion()
            | msg.RollBack()
        ):
            return threaded(state, record)
        case (
            msg.RetryStep()
            | msg.OpenWait()
            | msg.SaveResult()
            | msg.FailStep()
            | msg.AddItems()
            | msg.SettleItem()
            | msg.GatherItems()
        ):
            return ordered(state, record)
        case (
            msg.UndoFound()
            | msg.NothingToUndo()
            | msg.FindUndo()
            | msg.SettleUndo()
            | msg.BeginUndo()
        ):
            return undone(state, record)
        case msg.FinishRun(status=status, reason=reason, message=message, step=ended):
            variables = state.view(record.thread or msg.ROOT)
            return replace(
                emptied(state),
                status=transitions.check(transitions.RUN, state.status, status),
                variables=variables,
                ending=Ending(status=status, reason=reason, message=message, step=ended),
                stopping=None,
                undoing=None,
            )
        case _:
            return _of_step(state, record)


def _of_step(state: State, event: StepEvent) -> State:
    """Fold what is reported of a live step, if it still waits for that."""
    state = used(state, event)
    step = state.steps.get(event.step)
    if step is None or not expected(state, step, event):
        return state
    return reported(state, step, event)


_Control: TypeAlias = (
    msg.CancelRequested
    | msg.TerminateRequested
    | msg.PauseRequested
    | msg.ResumeRequested
    | msg.RollbackRequested
    | msg.Ticked
    | msg.MigrateRequested
    | msg.Migrated
    | msg.NotMigrated
)


def _controlled(state: State, event: _Control) -> State:
    """Fold what somebody asks of the whole run, or its clock."""
    match event:
        case msg.CancelRequested(compensate=True) if state.undoing is not None:
            # What is undone already is not given up for being asked for once more.
            return state
        case msg.CancelRequested(compensate=compensate):
            return replace(_stopped(state, event, "cancelled"), compensate=compensate)
        case msg.TerminateRequested():
            return replace(_stopped(state, event, TERMINATED), compensate=False)
        case msg.PauseRequested():
            return _became(state, RunStatus.RUNNING, RunStatus.PAUSED)
        case msg.ResumeRequested():
            return _became(resumed(state), RunStatus.PAUSED, RunStatus.RUNNING)
        case msg.RollbackRequested():
            return rollback.asked(state, event)
        case msg.Migrated():
            return migration.moved(state, event)
        case _:  # its clock: what has been waited for for long enough follows from the state
            return state


def _stopped(
    state: State, event: msg.CancelRequested | msg.TerminateRequested, reason: str
) -> State:
    """What is asked to stop is about to end, whatever it is at; `decide` says how."""
    if state.terminal:
        return state
    message = event.reason or f"by {event.by}"
    ending = Ending(status=RunStatus.CANCELLED, reason=reason, message=message)
    return replace(state, stopping=ending)


def _became(state: State, before: RunStatus, after: RunStatus) -> State:
    """Pause what runs, resume what is paused; anything else is as it was asked to be."""
    return replace(state, status=after) if state.status is before else state
