"""What lies between two states: of one run at two places, or of two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.core import messages as msg
from engine.core import remembered
from engine.core.state import State
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A variable that is there in both, and is not the same."""

    before: Json
    after: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a state differs from another, which is taken for the earlier one."""

    #: Variables that the other has not, those that it alone has, and those that are not the same.
    added: Mapping[str, Json]
    removed: Mapping[str, Json]
    changed: Mapping[str, Change]
    #: Live steps that the other has not, and those that it alone has.
    begun: tuple[msg.StepKey, ...]
    settled: tuple[msg.StepKey, ...]
    #: How many more visits there were, and what was used more, by name; less is below zero.
    visited: int
    spent: Mapping[str, float]


def between(before: State, after: State) -> Difference:
    """How the second state differs from the first. What threads have not merged yet is not looked at."""
    old, new = remembered.visible(before.variables), remembered.visible(after.variables)
    spent = {
        name: after.spent.get(name, 0) - before.spent.get(name, 0)
        for name in sorted({*before.spent, *after.spent})
    }
    return Difference(
        added={name: value for name, value in new.items() if name not in old},
        removed={name: value for name, value in old.items() if name not in new},
        changed={
            name: Change(before=old[name], after=value)
            for name, value in new.items()
            if name in old and old[name] != value
        },
        begun=tuple(sorted(after.steps.keys() - before.steps.keys())),
        settled=tuple(sorted(before.steps.keys() - after.steps.keys())),
        visited=after.visited - before.visited,
        spent={name: amount for name, amount in spent.items() if amount},
    )
