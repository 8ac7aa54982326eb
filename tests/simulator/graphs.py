"""The workflows of the simulated worlds."""

from __future__ import annotations

from engine.core import document
from engine.core.graph import Graph, Retry
from engine.core.values import Json
from tests.support.play import LINE, LOOP, edge, graph, node

TRYING = graph(
    edge("start -> a"),
    edge("a -> b", when="$result.n > 1"),
    edge("a -> a", label="loop"),
    edge("b -> end"),
    nodes=[
        node("a", retry=Retry(attempts=50, backoff=3), max_iterations=3),
        node("b", retry=Retry(attempts=50, backoff=0)),
    ],
)

_STUBBORN: Json = {"attempts": 50, "backoff": "2s"}


def _graph(workflow: str, nodes: dict[str, Json], edges: list[Json], **more: Json) -> Graph:
    """A workflow whose steps each add one to `n`."""
    found = document.read(
        {
            "workflow": workflow,
            "variables": {"n": {"type": "integer", "reduce": "sum"}, "got": {}, "said": {}},
            "nodes": nodes,
            "edges": edges,
            **more,
        }
    )
    assert isinstance(found, Graph), found
    return found


#: Runs within runs: it waits for a time, and tells what it was given.
INNER = _graph(
    "inner",
    {
        "wait": {"kind": "timer", "for": "$pause"},
        "a": {"uses": "f", "retry": _STUBBORN},
    },
    ["wait -> a -> end"],
    inputs={"given": {"default": -1}, "pause": {"type": "number", "default": 3}},
    outputs={"given": "$given"},
)
#: Asks somebody, and would wait for ever.
ASKING = _graph(
    "asking",
    {"q": {"kind": "input", "form": {"said": {"type": "string"}}}, "a": {"uses": "f"}},
    ["q -> a -> end"],
    outputs={"said": "$said"},
)
TIMED = _graph(
    "timed",
    {"t": {"kind": "timer", "for": "5s"}, "a": {"uses": "f"}, "u": {"kind": "timer", "for": 0}},
    ["t -> a -> u -> end"],
)
#: Two threads wait for events of one name, beside each other; one may come too late for its own.
HEARD = _graph(
    "heard",
    {
        "start": {"kind": "start"},
        "p": {"kind": "timer", "for": "1s"},
        "e": {"kind": "event", "name": "go", "expires": "20s", "save": {"got": "$result"}},
        "a": {"uses": "f", "retry": _STUBBORN},
        "late": {"uses": "f"},
        "w": {"kind": "event", "name": "go", "transient": True, "expires": "9s"},
        "b": {"uses": "f", "retry": _STUBBORN},
        "j": {"uses": "f"},
    },
    [
        {"from": "start", "to": ["p", "w"], "type": "parallel"},
        "p -> e",
        "e -> a",
        {"from": "e", "to": "late", "on": "error", "reason": ["expired"]},
        "late -> a",
        "w -> b",
        {"from": "w", "to": "b", "on": "error", "reason": ["expired"]},
        {"from": ["a", "b"], "to": "j", "type": "join"},
        "j -> end",
    ],
)
#: Somebody may answer until the time is over; then the second question waits for ever.
ASKED = _graph(
    "asked",
    {
        "q": {"kind": "approval", "expires": "12s", "save": {"said": "$result.choice"}},
        "a": {"uses": "f"},
        "again": {"kind": "input", "form": {"said": {"type": "string"}}},
    },
    [
        {"from": "q", "to": "a", "label": "approve"},
        {"from": "q", "to": "again", "label": "reject"},
        {"from": "q", "to": "again", "on": "error", "reason": ["expired"]},
        "again -> a -> end",
    ],
)
#: Its child may be late, and is let go then; it is tried again when it is cancelled.
PARENT = _graph(
    "parent",
    {
        "c": {
            "kind": "workflow",
            "workflow": "asking",
            "expires": "9s",
            "retry": {"attempts": 2, "backoff": "1s"},
            "save": {"got": "$result.said"},
        },
        "a": {"uses": "f"},
    },
    ["c -> a", {"from": "c", "to": "a", "on": "error"}, "a -> end"],
)
#: Its child goes on by itself when nobody waits for it any more.
LETTING = _graph(
    "letting",
    {
        "c": {"kind": "workflow", "workflow": "inner", "orphan": "finish", "expires": "4s"},
        "a": {"uses": "f"},
    },
    ["c -> a", {"from": "c", "to": "a", "on": "error"}, "a -> end"],
)
MAPPED = _graph(
    "mapped",
    {
        "m": {
            "kind": "map",
            "over": [10, 11, 12, 13, 14],
            "do": {"uses": "f", "retry": {"attempts": 2, "backoff": "1s"}},
            "at_once": 2,
            "stop_when": {"failed": 6, "succeeded": 4},
            "save": {"got": "$result"},
        },
        "a": {"uses": "f"},
    },
    ["m -> a -> end"],
)
MAPPED_RUNS = _graph(
    "mapped_runs",
    {
        "m": {
            "kind": "map",
            "over": [10, 11, 12],
            "do": {"kind": "workflow", "workflow": "inner", "with": {"given": "$item"}},
            "at_once": 2,
            "stop_when": {"failed": 4},
            "save": {"got": "$result"},
        },
    },
    ["m -> end"],
)
#: Of all runs, one is between a and b; within a run, one thread is at c.
LOCKED = _graph(
    "locked",
    {
        "start": {"kind": "start"},
        "a": {"uses": "f", "lock": {"name": "door", "until": "b", "of": "tenant"}},
        "t": {"kind": "timer", "for": "2s"},
        "b": {"uses": "f", "retry": _STUBBORN},
        "c": {"uses": "f", "lock": "own"},
        "d": {"uses": "f", "lock": "own"},
        "j": {"uses": "f"},
    },
    [
        {"from": "start", "to": ["a", "c", "d"], "type": "parallel"},
        "a -> t -> b",
        {"from": ["b", "c", "d"], "to": "j", "type": "join"},
        "j -> end",
    ],
)
#: It fails when all is done, and undoes it.
UNDOING = _graph(
    "undoing",
    {
        "start": {"kind": "start"},
        "a": {"uses": "f", "compensate": {"uses": "g", "retry": _STUBBORN}},
        "b": {"uses": "f", "compensate": {"uses": "g", "retry": _STUBBORN}},
        "t": {
            "kind": "workflow",
            "workflow": "inner",
            "with": {"pause": 2},
            "compensate": {"uses": "g", "retry": _STUBBORN},
        },
        "boom": {"uses": "f"},
    },
    [
        {"from": "start", "to": ["a", "b", "t"], "type": "parallel"},
        {"from": ["a", "b", "t"], "to": "boom", "type": "join"},
        "boom -> end",
    ],
)

#: It fails while others are at work: what they have done by then is undone.
HASTY = _graph(
    "hasty",
    {
        "start": {"kind": "start"},
        "a": {"uses": "f", "compensate": {"uses": "g", "retry": _STUBBORN}},
        "b": {"uses": "f", "compensate": {"uses": "g", "retry": _STUBBORN}},
        "boom": {"uses": "f"},
        "j": {"uses": "f"},
    },
    [
        {"from": "start", "to": ["a", "b", "boom"], "type": "parallel"},
        {"from": ["a", "b", "boom"], "to": "j", "type": "join"},
        "j -> end",
    ],
)
#: Who comes first cancels the others, whatever they are at.
RACED = _graph(
    "raced",
    {
        "start": {"kind": "start"},
        "a": {"uses": "f", "retry": _STUBBORN},
        "b": {"uses": "f", "retry": _STUBBORN},
        "t": {"kind": "timer", "for": "2s"},
        "c": {"kind": "workflow", "workflow": "inner"},
        "j": {"uses": "f", "join": {"first": 2}},
    },
    [
        {"from": "start", "to": ["a", "t", "c"], "type": "parallel"},
        "t -> b",
        {"from": "c", "to": "b", "on": "error"},
        {"from": ["a", "b", "c"], "to": "j", "type": "join"},
        "j -> end",
    ],
)
#: Who is late is not waited for; nobody else would end the question.
PATIENT = _graph(
    "patient",
    {
        "start": {"kind": "start"},
        "a": {"uses": "f", "retry": _STUBBORN},
        "q": {"kind": "input", "form": {"said": {"type": "string"}}},
        "j": {"uses": "f", "join": {"timeout": "6s"}},
    },
    [
        {"from": "start", "to": ["a", "q"], "type": "parallel"},
        {"from": ["a", "q"], "to": "j", "type": "join"},
        "j -> end",
    ],
)
#: What is done withdraws what somebody else is at.
WITHDRAWN = _graph(
    "withdrawn",
    {
        "start": {"kind": "start"},
        "a": {"uses": "f", "cancels": ["b", "m"]},
        "b": {"uses": "f", "retry": _STUBBORN},
        "m": {"kind": "map", "over": [1, 2], "do": {"uses": "f", "retry": _STUBBORN}},
        "j": {"uses": "f"},
    },
    [
        {"from": "start", "to": ["a", "b", "m"], "type": "parallel"},
        {"from": ["a", "b", "m"], "to": "j", "type": "join"},
        "j -> end",
    ],
)

#: What runs start, by name.
LIBRARY = {"inner": INNER, "asking": ASKING}
GRAPHS = (
    *(LINE, LOOP, TRYING, TIMED, HEARD, ASKED, PARENT, LETTING),
    *(MAPPED, MAPPED_RUNS, LOCKED, UNDOING),
    *(HASTY, RACED, PATIENT, WITHDRAWN),
    # What is rarest in them hangs on a moment: they live oftener.
    *(HEARD, HASTY),
)
