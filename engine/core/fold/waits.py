"""Folding what is reported of steps that wait, and how attempts leave their marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from engine.core import messages as msg
from engine.core import overlays, remembered, scopes
from engine.core.fold.maps import counting
from engine.core.fold.threads import standing
from engine.core.records import replace
from engine.core.state import LOST_REASONS, Failure, Items, State, Step
from engine.core.transitions import StepStatus
from engine.core.values import Json

_WaitEvent: TypeAlias = (
    msg.Opened
    | msg.NotOpened
    | msg.WaitEnded
    | msg.WaitFailed
    | msg.Saved
    | msg.NotSaved
    | msg.ItemsAdded
    | msg.CompleteRequested
)


def waited(state: State, step: Step, event: _WaitEvent) -> State:
    """Fold how the wait of a step begins, goes on and ends."""
    match event:
        case msg.Opened(until=until, items=count):
            waiting = standing(state, replace(step.to(StepStatus.WAITING), wake=until, opens=False))
            if state.within and state.within[0].step == step.key:
                waiting = replace(waiting, within=())
            if count is None:
                return waiting
            items = Items(count=count, node=step.node, thread=step.thread)
            return counting(waiting, step.key, items)
        case msg.WaitEnded(result=result, choice=choice):
            come = replace(step.to(StepStatus.ANSWERED), wake=None, result=result, choice=choice)
            return standing(state, come)
        case msg.Saved(patch=patch):
            left = {**patch, **remembered.left(state.reducers, step.node, step.result)}
            return written(standing(state, step.to(StepStatus.SUCCEEDED)), step.thread, left)
        case msg.ItemsAdded(items=sent):
            known = state.maps[step.key]
            return counting(state, step.key, replace(known, sent=known.sent + len(sent)))
        case msg.CompleteRequested():
            return counting(state, step.key, replace(state.maps[step.key], closed=True))
        case msg.WaitFailed(reason=reason, message=message):
            return standing(state, failing(step, Failure(reason=reason, message=message)))
        case _:
            failure = Failure(reason=event.reason, message=event.message, terminal=True)
            return standing(state, failing(step, failure))


def written(
    state: State, thread: msg.Thread, patch: Mapping[str, Json], removed: tuple[str, ...] = ()
) -> State:
    """What a step leaves: in its thread's overlay, or at once where all threads share it.

    A variable that a thread deletes is null to it, and to those it is joined with; only the
    root can take it away.
    """
    variables = state.variables
    own = dict(patch)
    at_once = {name: own.pop(name) for name in state.shared if name in own}
    variables = overlays.written(variables, at_once, state.reducers)
    if thread == msg.ROOT:
        variables = {name: kept for name, kept in variables.items() if name not in removed}
    else:
        own |= dict.fromkeys(removed)
    changed, variables = scopes.written(state.scopes, variables, thread, own, state.reducers)
    return replace(state, scopes=changed, variables=variables)


def failing(step: Step, failure: Failure) -> Step:
    """A step whose attempt has failed, or whose wait has."""
    lost = failure.reason in LOST_REASONS
    return replace(
        step.to(StepStatus.FAILED),
        failure=failure,
        errors=step.errors + (not lost),
        lost=step.lost + lost,
        wake=None,
        opens=False,
    )
