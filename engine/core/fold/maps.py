"""Folding how the items of a map go."""

from __future__ import annotations

from engine.core import messages as msg
from engine.core.records import replace
from engine.core.state import Items, State, Step


def counting(state: State, key: msg.StepKey, items: Items) -> State:
    """A map has come so far."""
    return replace(state, maps={**state.maps, key: items})


def without_items(state: State, key: msg.StepKey) -> State:
    """Nothing is left of the items of a map, whether they were at hand or not."""
    if key not in state.maps:
        return state
    return replace(
        state,
        steps={name: step for name, step in state.steps.items() if step.of != key},
        maps={name: items for name, items in state.maps.items() if name != key},
    )


def item_settled(state: State, step: Step, *, failed: bool) -> State:
    """An item is gone, and counted by its map."""
    assert step.of is not None
    items = state.maps[step.of]
    items = replace(
        items,
        running=items.running - 1,
        succeeded=items.succeeded + (not failed),
        failed=items.failed + failed,
        message=step.failure.message if step.failure else items.message,
    )
    left = {key: other for key, other in state.steps.items() if key != step.key}
    return replace(state, steps=left, maps={**state.maps, step.of: items})
