"""Agents for step lists, by which a list repeats and leaves out steps.

Trusted library code, and nothing that a user could not write: the engine knows no more of these
functions than of any other. One is added to `step_index` after every step, so whoever sets it
names the step before the one that comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def loop_start(step_index: int, loop_max: int, output: Sequence[str]) -> dict[str, Any]:
    """Remember where a loop begins, how often it shall turn, and that it has not turned yet."""
    return {output[0]: step_index, output[1]: int(loop_max), output[2]: 0}


def loop_end(
    step_index: int, loop_max: int, loop_index: int, output: Sequence[str]
) -> dict[str, Any] | int:
    """Count a turn of a loop, and go back to the step behind its start until all are done."""
    turns = int(loop_index) + 1
    if turns < int(loop_max):
        return {"step_index": step_index, output[0]: turns}
    return turns


def echo(input: Any) -> Any:  # noqa: A002  # the name that step lists know it by
    """Answer with what was given."""
    return input


def jump(to: int) -> dict[str, int]:
    """Go on with the step of an index."""
    return {"step_index": int(to) - 1}


def jump_if(condition: Any, to: int) -> dict[str, int]:
    """Go on with the step of an index if a condition holds, else with the next."""
    return jump(to) if condition else {}


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "loop_start": loop_start,
    "loop_end": loop_end,
    "echo": echo,
    "jump": jump,
    "jump_if": jump_if,
}

__all__ = ["FUNCTIONS", "echo", "jump", "jump_if", "loop_end", "loop_start"]
