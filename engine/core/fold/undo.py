"""Folding how a run undoes what it did."""

from __future__ import annotations

from typing import TypeAlias

from engine.core import messages as msg
from engine.core.fold.guard import resumed
from engine.core.records import replace
from engine.core.scopes import ROOT_SCOPE, Scope
from engine.core.state import Ending, State, Undoing
from engine.core.transitions import RunStatus

_Undo: TypeAlias = msg.BeginUndo | msg.FindUndo | msg.UndoFound | msg.NothingToUndo | msg.SettleUndo


def emptied(state: State) -> State:
    """Nothing of the run is live any more."""
    return replace(state, tokens=(), steps={}, maps={}, scopes={ROOT_SCOPE: Scope()})


def undone(state: State, record: _Undo) -> State:
    """Fold how undoing begins and goes on."""
    if isinstance(record, msg.BeginUndo):
        ending = Ending(
            status=record.status, reason=record.reason, message=record.message, step=record.step
        )
        begun = emptied(replace(state, undoing=Undoing(ending=ending), stopping=None))
        # Whoever cancels a paused run does not mean its undoing to wait for a resume.
        if record.status is RunStatus.CANCELLED and begun.status is RunStatus.PAUSED:
            return replace(resumed(begun), status=RunStatus.RUNNING)
        return begun
    undoing = state.undoing
    if undoing is None:
        return state
    match record:
        case msg.FindUndo():
            return replace(state, undoing=replace(undoing, asked=True))
        case msg.UndoFound(step=key, node=node, seq=seq):
            found = replace(undoing, asked=False, found=(key, node), before=seq)
            return replace(state, undoing=found)
        case msg.NothingToUndo():
            return replace(state, undoing=replace(undoing, asked=False, over=True))
        case _:
            settled: msg.SettleUndo = record  # nothing else is left
            left = {name: step for name, step in state.steps.items() if name != settled.step}
            failed = undoing.failed + bool(settled.failed)
            counted = replace(undoing, failed=failed, running=False)
            return replace(state, steps=left, undoing=counted)
