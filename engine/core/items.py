"""The items of a map: which starts next, and when there have been enough.

A map is a cursor with counts. Its items are steps of their own, each started when there is
room for it, and gone when it is settled; their results stay where results lie. When no more
is waited for, a worker puts them together in the order of the items.
"""

from __future__ import annotations

from engine.core import expressions, references, remembered
from engine.core import messages as msg
from engine.core.graph import Graph, Map
from engine.core.state import Items, State, Step


def item_key(of: msg.StepKey, index: int) -> msg.StepKey:
    """The name of an item's step: that of its map, and its place in it."""
    return msg.StepKey(f"{of}.{index}")


def placed(state: State) -> msg.AddItems | None:
    """The items that a map was sent get their places, even while the run is paused."""
    for key, items in state.maps.items():
        if items.sent and key in state.steps:
            return msg.AddItems(step=key, first=items.count, count=items.sent)
    return None


def next_of(graph: Graph, state: State) -> msg.AnyCommand | None:
    """What follows for the maps that are at hand."""
    steps = (state.steps[key] for key in state.maps if key in state.steps)
    found = (_following(graph, state, step) for step in steps)
    return next((command for command in found if command is not None), None)


def _following(graph: Graph, state: State, step: Step) -> msg.AnyCommand | None:
    items = state.maps[step.key]
    declared = graph.node(step.node).wait
    assert isinstance(declared, Map)
    if items.failed >= declared.most_failed:
        return msg.FailStep(
            step=step.key,
            reason="items_failed",
            message=f"{items.failed} of {items.count} items failed, the last with: {items.message}",
        )
    if items.closed:
        return msg.GatherItems(step=step.key, count=items.count, because="asked")
    if declared.enough is not None:
        try:
            enough = _enough(declared.enough, state, step)
        except expressions.EvaluationError as error:
            message = f"node {step.node}, stop_when.succeeded: {error}"
            return msg.FailStep(step=step.key, reason="input_failed", message=message)
        if items.succeeded >= enough:
            return msg.GatherItems(step=step.key, count=items.count, because="enough")
    if items.next < items.count and items.running < declared.at_once:
        return _start(declared, step, items)
    if items.next == items.count and not items.running:
        return msg.GatherItems(step=step.key, count=items.count, because="all")
    return None


def _enough(template: expressions.Template, state: State, step: Step) -> float:
    names = remembered.names(state.view(step.thread), references.unread)
    value = template.evaluate({**names, "run": {"id": state.run}})
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise expressions.EvaluationError(f"{value!r} is no number of items", 0)
    return value


def _start(declared: Map, step: Step, items: Items) -> msg.RequestStart:
    return msg.RequestStart(
        step=item_key(step.key, items.next),
        node=declared.do.id,
        iteration=step.iteration,
        attempt=1,
        queue=declared.do.queue,
        parents=step.parents,
        thread=step.thread,
        visits=step.visits,
        waits=declared.do.wait is not None,
        of=step.key,
        index=items.next,
    )
