"""Step lists that are right and such that are wrong, and agents for them."""

from __future__ import annotations

from typing import Any

from tests.support.documents import Document

#: One of everything.
LIST: Document = {
    "workflow": "list",
    "version": "1.0.0",
    "inputs": {"path": {"type": "string"}, "count": {"type": "integer", "default": 2}},
    "variables": {"note": {"type": "string", "default": ""}},
    "outputs": {"text": "$content", "status": "$status.value"},
    "limits": {"steps": 50},
    "steps": [
        {
            "agent": "read.file@3",
            "params": {"path": "$path", "price": "$$5", "deep": [{"at": "$(1 + $count)"}]},
            "output": ["content", "size"],
        },
        {"agent": "read.file@3"},
        {"agent": "write_file", "params": {"a": "$b", "b": "$content", "n": "$step_index"}},
        {"agent": "say", "params": {"how": "$status.reason"}, "output": ["step_index"]},
    ],
    "return_on_fail": False,
    "origin": {"language": "test"},
}

GOOD: dict[str, Document] = {
    "everything": LIST,
    "one step": {"workflow": "w", "steps": [{"agent": "f"}]},
    "agents that are workflows": {
        "workflow": "w",
        "steps": [{"agent": "f"}, {"agent": "inner@1.2", "output": ["x"]}],
        "workflows": ["inner@1.2"],
    },
    "outputs by other names": {
        "workflow": "w",
        "steps": [{"agent": "inner", "save": {"said": "$result.text", "x": [1]}}],
        "workflows": ["inner"],
    },
    "no declarations": {"workflow": "w", "steps": [{"agent": "f", "params": {"x": "$any"}}]},
    "nothing to say": {
        "workflow": "w",
        "steps": [{"agent": "f", "params": {}, "output": []}],
        "return_on_fail": True,
    },
    "a param named like what expressions know": {
        "workflow": "w",
        "steps": [{"agent": "f", "params": {"index": 1, "run": "$run.id", "x": "$run.id"}}],
    },
}


def _s(*path: str | int) -> tuple[str | int, ...]:
    return ("steps", 0, *path)


_STEP: Any = {"agent": "f"}

#: What is changed in LIST, where the reader and the schema must say so, and what the reader says.
BAD: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("steps",), [], "steps", "a list stands here"),
    (("steps",), {}, "steps", "an object stands here"),
    (("steps",), [_STEP] * 1001, "steps", "a list stands here"),
    (("nodes",), {"a": {"uses": "f"}}, "nodes", "`nodes` means nothing here"),
    (("edges",), [], "edges", "`edges` means nothing here"),
    (("start",), "a", "start", "`start` means nothing here"),
    (("strict",), False, "strict", "`strict` means nothing here"),
    (("return_on_fail",), 1, "return_on_fail", "a number stands here"),
    (("return_on_fail",), "no", "return_on_fail", "text stands here"),
    (("workflows",), "say", "workflows", "text stands here"),
    (("workflows",), ["say", 3], "workflows", "a list stands here"),
    (("workflows",), ["say", "say"], "workflows", "a list stands here"),
    (_s(), "read_file", "steps[0]", "text stands here"),
    (_s(), {}, "steps[0].agent", "names no agent"),
    (_s("agent"), 3, "steps[0].agent", "a number stands here"),
    (_s("agent"), "a/b", "steps[0].agent", "does not fit"),
    (_s("agents"), "f", "steps[0].agents", "there is no field `agents`"),
    (_s("uses"), "f", "steps[0].uses", "there is no field `uses`"),
    (_s("params"), [], "steps[0].params", "a list stands here"),
    (_s("params"), {"a-b": 1}, "steps[0].params.a-b", "is not a name"),
    (_s("params"), {"output": []}, "steps[0].params.output", "by that name"),
    (_s("output"), "content", "steps[0].output", "text stands here"),
    (_s("output"), [3], "steps[0].output", "a list stands here"),
    (_s("output"), ["a"] * 101, "steps[0].output", "a list stands here"),
    (_s("output"), ["a", "b c"], "steps[0].output[1]", "is not a name"),
    (_s("save"), [], "steps[0].save", "a list stands here"),
    (_s("output"), ["result"], "steps[0].output[0]", "means something else"),
]

#: What the reader finds and no schema can.
BEYOND: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("inputs", "step_index"), {}, "inputs.step_index", "the list's own"),
    (("workflows",), ["shout"], "workflows", "no step has the agent shout"),
    (("variables", "status"), {}, "variables.status", "the list's own"),
    (_s("params", "x"), "$nothing", "steps[0].params.x", "nothing gives $nothing a value"),
    (_s("params", "x"), "$path >", "steps[0].params.x", "breaks off"),
    (_s("params", "x"), "$result", "steps[0].params.x", "$result is not known here"),
    (_s("params", "x"), "$env[$k]", "steps[0].params.x", "$env does not say which secret"),
    (_s("params", "x"), "$steps.x", "steps[0].params.x", "not known in a list of steps"),
    (_s("params"), {"a": "$b", "b": ["$c"], "c": "$a", "d": "$a"}, "steps[0].params", "a, b, c"),
    (("outputs", "text"), "$contents", "outputs.text", "nothing gives $contents a value"),
]
