"""What a change of an agent means to its callers, and so to the number of its version."""

from __future__ import annotations

from typing import TypeAlias

from engine.formats.agent.definition import Agent

#: MAJOR and MINOR.
Number: TypeAlias = tuple[int, int]

FIRST: Number = (1, 0)


def following(number: Number, before: Agent, after: Agent) -> Number:
    """The number of what comes after a version, which is not the same.

    A caller of the version before could be misled by other inputs or outputs, and by an optional
    input that is gone: that is another major. All else is a minor, new optional inputs too.
    """
    major, minor = number
    return (major, minor + 1) if _fits(before, after) else (major + 1, 0)


def _fits(before: Agent, after: Agent) -> bool:
    return (
        set(before.inputs) == set(after.inputs)
        and before.outputs == after.outputs
        and set(before.optional) <= set(after.optional)
    )
