"""Folding what is decided of steps where they stand."""

from __future__ import annotations

from typing import TypeAlias

from engine.core import messages as msg
from engine.core.fold.maps import counting, item_settled, without_items
from engine.core.fold.threads import standing
from engine.core.fold.waits import failing
from engine.core.records import replace
from engine.core.state import Failure, State
from engine.core.transitions import StepStatus

_Order: TypeAlias = (
    msg.RetryStep
    | msg.OpenWait
    | msg.SaveResult
    | msg.FailStep
    | msg.AddItems
    | msg.SettleItem
    | msg.GatherItems
)


def ordered(state: State, command: _Order) -> State:
    """Fold a command about a step that is at hand."""
    step = state.steps[command.step]
    match command:
        case msg.RetryStep(attempt=attempt, not_before=wake, at_once=at_once):
            again = replace(step.to(StepStatus.RETRYING), attempt=attempt, wake=wake)
            if at_once:
                again = replace(again.to(StepStatus.DUE), wake=None)
            return standing(state, replace(again, failure=None, wait=None))
        case msg.OpenWait(kind=kind):
            return standing(state, replace(step, wait=kind))
        case msg.SaveResult():
            return standing(state, step.to(StepStatus.SAVING))
        case msg.FailStep(reason=reason, message=message):
            failure = Failure(reason=reason, message=message, terminal=True)
            return standing(without_items(state, step.key), failing(step, failure))
        case msg.AddItems(count=count):
            items = state.maps[step.key]
            more = replace(items, count=items.count + count, sent=items.sent - count)
            return counting(state, step.key, more)
        case msg.SettleItem(failed=failed):
            return item_settled(state, step, failed=failed)
        case _:
            gather: msg.GatherItems = command  # nothing else is left
            gathers = replace(step.to(StepStatus.READY), index=gather.count, wait=None)
            return standing(without_items(state, step.key), gathers)
