"""What the runs of a drill are made of: trusted library code that tells the witness what it does.

The module is a library (`engine.runs.libraries`): a drill's platform installs it, no other does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from celeriac.drill.witness import Effect, tell


def visit(state: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Have an effect, which takes as long as the run says; say which attempt of which step it was."""
    time.sleep(state.get("seconds", 0))
    _tell(state, context)
    return {"seen": f"{context.step}/{context.attempt}"}


def stumble(state: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Have an effect, and fail in the first attempt."""
    _tell(state, context)
    if context.attempt == 1:
        raise RuntimeError("the first attempt fails, as it is meant to")
    return {"seen": f"{context.step}/{context.attempt}"}


def _tell(state: Mapping[str, Any], context: Any) -> None:
    tell(
        state["witness"],
        Effect(context.idempotency_key, context.run_id, context.step, context.attempt),
    )


_VISIT: dict[str, Any] = {
    "uses": "visit",
    "save": {"seen": ["$result.seen"]},
    "timeout": "60s",
    "retry": {"attempts": 5, "backoff": "200ms"},
}
_INPUTS = {
    "witness": {"type": "string"},
    "ticket": {"type": "string"},
    "seconds": {"type": "number"},
}
_VARIABLES = {"seen": {"type": "array", "default": [], "reduce": "append"}}


def _workflow(name: str, nodes: Mapping[str, Any], edges: list[Any]) -> dict[str, Any]:
    return {
        "workflow": f"drill-{name}",
        "inputs": _INPUTS,
        "variables": _VARIABLES,
        "nodes": dict(nodes),
        "edges": edges,
    }


#: An event that a run of `waiting` is sent.
EVENT = "drill"
_BRANCHES = ("p", "q", "r", "s")

GRAPHS = (
    _workflow("chain", dict.fromkeys("abcd", _VISIT), ["a -> b -> c -> d -> end"]),
    _workflow(
        "fan",
        {"start": {"kind": "start"}, **dict.fromkeys((*_BRANCHES, "z"), _VISIT)},
        [
            {"from": "start", "to": list(_BRANCHES), "type": "parallel"},
            {"from": list(_BRANCHES), "to": "z", "type": "join"},
            "z -> end",
        ],
    ),
    _workflow(
        "loop",
        {"a": _VISIT, "b": {**_VISIT, "max_iterations": 3}},
        ["a -> b", {"from": "b", "to": "a", "label": "loop"}, "b -> end"],
    ),
    _workflow(
        "waiting",
        {
            "a": _VISIT,
            "pause": {"kind": "timer", "for": "700ms"},
            "hear": {"kind": "event", "name": EVENT, "expires": "1h"},
            "b": _VISIT,
        },
        ["a -> pause -> hear -> b -> end"],
    ),
    _workflow(
        "trying",
        {"a": {**_VISIT, "uses": "stumble"}, "b": _VISIT},
        ["a -> b -> end"],
    ),
    _workflow(
        "list",
        {
            "start": {"kind": "start"},
            "each": {"kind": "map", "over": [1, 2, 3, 4, 5], "do": "visit", "at_once": 3},
            "a": _VISIT,
        },
        ["start -> each -> a -> end"],
    ),
)

#: By workflow, the steps of a run whose effects the witness must have seen when it is over.
EFFECTS: Mapping[str, frozenset[str]] = {
    "drill-chain": frozenset({"a#1", "b#1", "c#1", "d#1"}),
    "drill-fan": frozenset({"p#1", "q#1", "r#1", "s#1", "z#1"}),
    "drill-loop": frozenset({"a#1", "b#1", "a#2", "b#2", "a#3", "b#3"}),
    "drill-waiting": frozenset({"a#1", "b#1"}),
    "drill-trying": frozenset({"a#1", "b#1"}),
    "drill-list": frozenset({"a#1", *(f"each#1.{place}" for place in range(5))}),
}
#: What a run keeps of the steps that counted, each as `step/attempt`; a list's items it does not keep.
SEEN = "seen"
#: The steps whose first attempt fails on purpose.
STUMBLES = frozenset({("drill-trying", "a#1")})

FUNCTIONS: Mapping[str, Callable[..., Any]] = {"visit": visit, "stumble": stumble}
