"""Undoing what a run did, before it ends otherwise than it should.

A node may name a handler that undoes it. When a run fails, or is cancelled by somebody who
asks for it, the handlers of all that was done run in reverse, one after the other, each with
the result of what it undoes. What was done is found in the history, step by step, so that it
costs nothing until it is needed. A handler that fails holds up no other one.
"""

from __future__ import annotations

from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.state import ABORTED, State, Undoing
from engine.core.transitions import RunStatus

#: How steps are called that undo what others did.
PREFIX = "undo "


def undo_key(step: msg.StepKey) -> msg.StepKey:
    """The name of the step that undoes another."""
    return msg.StepKey(f"{PREFIX}{step}")


def is_due(graph: Graph, state: State, ending: msg.FinishRun) -> bool:
    """Whether something may have to be undone before a run ends so."""
    if state.undoing is not None or not graph.undoes:
        return False
    if ending.status is RunStatus.CANCELLED:
        return state.compensate
    # A policy that cuts a run off lets nothing more of it start.
    return ending.status is RunStatus.FAILED and ending.reason != ABORTED


def following(graph: Graph, undoing: Undoing) -> msg.AnyCommand | None:
    """What follows while a run undoes what it did."""
    if undoing.running or undoing.asked:
        return None
    if undoing.over:
        return _end(undoing)
    if undoing.found is None:
        return msg.FindUndo()
    key, name = undoing.found
    handler = graph.node(name).compensate
    assert handler is not None
    return msg.RequestStart(
        step=undo_key(key),
        node=handler.id,
        iteration=1,
        attempt=1,
        queue=handler.queue,
        parents=(key,),
        of=key,
    )


def _end(undoing: Undoing) -> msg.FinishRun:
    ending = undoing.ending
    message = ending.message
    if undoing.failed:
        message += f" ({undoing.failed} of its steps could not be undone)"
    return msg.FinishRun(
        status=ending.status, reason=ending.reason, message=message.strip(), step=ending.step
    )
