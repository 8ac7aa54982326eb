"""Documents that are right and documents that are wrong, for the reader and for the schema."""

from __future__ import annotations

import copy
from typing import Any

Document = dict[str, Any]

#: Two nodes and a way: the smallest document that says something.
SMALL: Document = {
    "workflow": "small",
    "nodes": {"a": {"uses": "f"}, "b": {"uses": "g"}},
    "edges": ["a -> b -> end"],
}

FULL: Document = {
    "workflow": "Größe & Güte v2",
    "version": "1.2.0-rc.1",
    "inputs": {
        "goal": {"type": "string", "minLength": 1, "title": "What shall be built?"},
        "tries": {"type": "integer", "default": 3},
    },
    "variables": {"drafts": {"default": []}, "score": {}},
    "outputs": {"best": "$drafts[-1]", "note": {"run": "$run.id", "tries": "$tries + 1"}},
    "limits": {"steps": 500},
    "start": "begin",
    "nodes": {
        "begin": {"kind": "start", "title": "Begin"},
        "draft": {
            "kind": "function",
            "role": "task",
            "uses": "write.draft@3",
            "with": {"goal": "$goal", "price": "$$5", "deep": [{"left": "$(1 + 1)"}]},
            "save": {"drafts": "$drafts + [$result.text]"},
            "retry": {
                "attempts": 4,
                "backoff": "500ms",
                "factor": 1.5,
                "max": "1m",
                "jitter": 0,
                "on": ["timeout", "error"],
            },
            "timeout": "90s",
            "max_iterations": 7,
            "queue": "slow",
            "title": "Write",
            "notes": "First line.\nSecond line.",
        },
        "search": {"kind": "tool", "tool": "rag.search", "with": {"q": "$goal"}, "timeout": 2.5},
        "grade": {"uses": "grade", "save": {"score": "$result"}, "choose": "is_good"},
        "decide": {"role": "plan", "choose": "decide@1"},
        "ask": {},
        "rest": {"kind": "pass"},
        "end": {"kind": "end", "notes": "Done."},
    },
    "edges": [
        "begin -> search -> draft->grade",
        {"from": "grade", "to": "draft", "label": "loop"},
        {"from": ["grade"], "to": ["decide", "rest"], "label": "done"},
        {"from": "decide", "to": ["ask", "rest"]},
        {"from": "ask", "to": "rest", "ask": "may_rest"},
        {"from": "ask", "to": "end", "type": "normal"},
        {"from": "rest", "to": "draft", "when": "$score < 7 and $tries > 0"},
        {"from": "rest", "to": "end", "type": "final"},
    ],
    "origin": {"language": "test", "lines": [1, 2]},
}

GOOD: dict[str, Document] = {
    "small": SMALL,
    "full": FULL,
    "one node": {"workflow": "w", "nodes": {"only": {"uses": "f"}}},
    "no declarations": {
        "workflow": "w",
        "nodes": {"a": {"uses": "f", "with": {"x": "$anything"}}},
    },
    "a loop that only its bound ends": {
        "workflow": "w",
        "nodes": {"a": {"uses": "f", "max_iterations": 5.0}},
        "edges": [{"from": "a", "to": "a", "label": "loop"}],
    },
    "a way back that comes first": {
        "workflow": "w",
        "nodes": {"a": {"uses": "f"}},
        "edges": ["a -> a", "a -> end"],
    },
    "names of many kinds": {
        "workflow": "w",
        "nodes": {"1": {"uses": "f"}, "a b": {"uses": "f"}, "x.y-z_": {"uses": "f"}},
        "edges": ["1 -> a b -> x.y-z_"],
    },
}

_GONE: Any = object()


def changed(document: Document, path: tuple[str | int, ...], value: Any) -> Any:
    """A document with one thing in it replaced, or removed."""
    if not path:
        return value
    made = copy.deepcopy(document)
    place: Any = made
    for key in path[:-1]:
        place = place[key]
    if value is _GONE:
        del place[path[-1]]
    elif isinstance(place, list) and path[-1] == len(place):
        place.append(value)
    else:
        place[path[-1]] = value
    return made


def _n(*path: str | int) -> tuple[str | int, ...]:
    return ("nodes", "a", *path)


#: What is changed in SMALL, where the reader must say so, and a part of what it says.
BAD: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    ((), [], "", "a list stands here"),
    ((), None, "", "nothing (null) stands here"),
    (("workflow",), _GONE, "workflow", "no name"),
    (("workflow",), "a@b", "workflow", "does not fit"),
    (("workflow",), "a\n", "workflow", "does not fit"),
    (("workflow",), "x" * 129, "workflow", "does not fit"),
    (("workflow",), 3, "workflow", "a number stands here"),
    (("version",), 1.2, "version", "a number stands here"),
    (("version",), "1.2", "version", "does not fit"),
    (("noeds",), {}, "noeds", "there is no field `noeds`"),
    (("steps",), [], "steps", "`steps` is not available in this version"),
    (("nodes",), _GONE, "nodes", "no nodes"),
    (("nodes",), {}, "nodes", "0 nodes"),
    (("nodes",), [], "nodes", "a list stands here"),
    (("nodes", "a b "), {"uses": "f"}, "nodes.a b ", "is not a name"),
    (("nodes", "a#1"), {"uses": "f"}, "nodes.a#1", "is not a name"),
    (("nodes", "x" * 65), {"uses": "f"}, "nodes." + "x" * 65, "is not a name"),
    (_n(), None, "nodes.a", "nothing (null) stands here"),
    (_n("kind"), "llm", "nodes.a.kind", "kind `llm` is not available"),
    (_n("kind"), "funktion", "nodes.a.kind", "there is no kind 'funktion'"),
    (_n("kind"), 3, "nodes.a.kind", "a number stands here"),
    (_n("kind"), "tool", "nodes.a.tool", "names no tool"),
    (_n("kind"), "pass", "nodes.a.uses", "`uses` means nothing here"),
    (_n("tool"), "t", "nodes.a.tool", "`tool` means nothing here"),
    (_n("uses"), "f@^1", "nodes.a.uses", "does not fit"),
    (_n("uses"), "f@0", "nodes.a.uses", "does not fit"),
    (_n("uses"), "", "nodes.a.uses", "does not fit"),
    (_n("uses"), ["f"], "nodes.a.uses", "a list stands here"),
    (_n("use"), "f", "nodes.a.use", "there is no field `use`"),
    (_n("effect"), "none", "nodes.a.effect", "`effect` is not available"),
    (_n("role"), "control", "nodes.a.role", "there is no role 'control'"),
    (_n("role"), "plan", "nodes.a.choose", "has no `choose`"),
    (_n("choose"), True, "nodes.a.choose", "true or false stands here"),
    (_n("with"), "$x", "nodes.a.with", "text stands here"),
    (_n("save"), [], "nodes.a.save", "a list stands here"),
    (_n("save"), {"a-b": 1}, "nodes.a.save.a-b", "is not a name"),
    (_n("save"), {"result": 1}, "nodes.a.save.result", "means something else"),
    (_n("retry"), 3, "nodes.a.retry", "a number stands here"),
    (_n("retry"), {"attempts": 0}, "nodes.a.retry.attempts", "0 is out of bounds"),
    (_n("retry"), {"attempts": 1.5}, "nodes.a.retry.attempts", "1.5 is out of bounds"),
    (_n("retry"), {"attempts": True}, "nodes.a.retry.attempts", "true or false stands"),
    (_n("retry"), {"atempts": 2}, "nodes.a.retry.atempts", "there is no field"),
    (_n("retry"), {"backoff": "1 s"}, "nodes.a.retry.backoff", "does not fit"),
    (_n("retry"), {"max": -1}, "nodes.a.retry.max", "-1 is out of bounds"),
    (_n("retry"), {"factor": 0.5}, "nodes.a.retry.factor", "0.5 is out of bounds"),
    (_n("retry"), {"jitter": "0"}, "nodes.a.retry.jitter", "does not fit"),
    (_n("retry"), {"on": "error"}, "nodes.a.retry.on", "text stands here"),
    (_n("retry"), {"on": ["eror"]}, "nodes.a.retry.on[0]", "there is no reason 'eror'"),
    (_n("retry"), {"on": ["error", 3]}, "nodes.a.retry.on[1]", "a number stands here"),
    (_n("timeout"), "soon", "nodes.a.timeout", "does not fit"),
    (_n("timeout"), None, "nodes.a.timeout", "nothing (null) stands here"),
    (_n("max_iterations"), 0, "nodes.a.max_iterations", "out of bounds"),
    (_n("max_iterations"), "5", "nodes.a.max_iterations", "does not fit"),
    (_n("queue"), "a b", "nodes.a.queue", "does not fit"),
    (_n("title"), "two\nlines", "nodes.a.title", "does not fit"),
    (_n("notes"), "", "nodes.a.notes", "does not fit"),
    (("edges",), {}, "edges", "an object stands here"),
    (("edges", 1), 3, "edges[1]", "a number stands here"),
    (("edges", 1), "a", "edges[1]", "not a chain"),
    (("edges", 1), {"from": "a"}, "edges[1].to", "no `to`"),
    (("edges", 1), {"from": "a", "to": []}, "edges[1].to", "a list stands here"),
    (("edges", 1), {"from": [3], "to": "b"}, "edges[1].from", "a list stands here"),
    (("edges", 1), {"from": "a", "to": "b", "type": "join"}, "edges[1].type", "not available"),
    (("edges", 1), {"from": "a", "to": "b", "type": "x"}, "edges[1].type", "no type 'x'"),
    (("edges", 1), {"from": "a", "to": "b", "on": "error"}, "edges[1].on", "not available"),
    (("edges", 1), {"from": "a", "to": "b", "wen": "$x"}, "edges[1].wen", "no field"),
    (("edges", 0), {"from": "a", "to": "b", "when": True}, "edges[0].when", "true or false"),
    (("edges", 0), {"from": "a", "to": "b", "when": ""}, "edges[0].when", "empty"),
    (("edges", 0), {"from": "a", "to": "b", "ask": "a b"}, "edges[0].ask", "does not fit"),
    (("edges", 0), {"from": "a", "to": "b", "label": ""}, "edges[0].label", "does not fit"),
    (("inputs",), [], "inputs", "a list stands here"),
    (("inputs",), {"goal": "string"}, "inputs.goal", "text stands here"),
    (("inputs",), {"1st": {}}, "inputs.1st", "is not a name"),
    (("inputs",), {"env": {}}, "inputs.env", "means something else"),
    (("variables",), {"x": 3}, "variables.x", "a number stands here"),
    (("variables",), {"x": {"type": "array"}}, "variables.x.type", "not available"),
    (("variables",), {"x": {"defualt": 1}}, "variables.x.defualt", "no field"),
    (("outputs",), {"a b": 1}, "outputs.a b", "is not a name"),
    (("limits",), {"steps": 0}, "limits.steps", "out of bounds"),
    (("limits",), {"cost_usd": 2.0}, "limits.cost_usd", "not available"),
    (("limits",), {"duration": "2h"}, "limits.duration", "not available"),
    (("start",), 3, "start", "a number stands here"),
    (("start",), "a#", "start", "does not fit"),
    (("origin",), "here", "origin", "text stands here"),
]

#: What the reader finds and no schema can.
BEYOND: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("start",), "c", "start", "there is no node 'c'"),
    (_n("with"), {"x": ["$"]}, "nodes.a.with.x[0]", "no expression"),
    (_n("with"), {"x": "$y >"}, "nodes.a.with.x", "breaks off"),
    (_n("save"), {"x": {"y": "$(1"}}, "nodes.a.save.x.y", "`)` is missing"),
    (_n(), {}, "nodes.a", "names no function"),
    (_n(), {"kind": "end"}, "edges[0]", "a is an end"),
    (_n("with"), {"x": "$result"}, "nodes.a.with.x", "$result is not known here"),
    (_n("with"), {"x": "$item.y"}, "nodes.a.with.x", "$item is not available"),
    (_n("save"), {"x": "$steps.a"}, "nodes.a.save.x", "$steps is not available"),
    (("outputs",), {"x": "$result"}, "outputs.x", "$result is not known here"),
    (("outputs",), {"x": "$env.MODEL"}, "outputs.x", "$env is not available"),
    (("outputs",), {"x": ["$len("]}, "outputs.x[0]", "unexpected ("),
    (("edges", 0), {"from": "a", "to": "b", "when": "$x >"}, "edges[0].when", "breaks off"),
    (("edges", 0), "a -> c", "edges[0]", "there is no node 'c'"),
    (("edges", 0), "a -> -> b", "edges[0]", "not a chain"),
    (("edges", 1), "a -> end", "edges[1]", "never taken"),
    (("edges", 1), "a -> b", "edges[1]", "there twice"),
    (("edges", 0), "a -> a", "nodes.b", "no way leads to it"),
    (("edges", 0), "a -> b -> a", "edges", "has no end"),
    (
        ("edges",),
        [{"from": "a", "to": "b", "when": "$x"}, "b -> b", "a -> end"],
        "edges",
        "no end can be reached from b",
    ),
    (("edges",), [{"from": "a", "to": "b", "label": "loop"}], "edges[0]", "no way leads from b"),
    (
        (),
        {
            "workflow": "w",
            "nodes": {"a": {"uses": "f"}, "p": {"kind": "pass"}, "q": {"kind": "pass"}},
            "edges": ["a -> p -> q", {"from": "q", "to": "p", "label": "loop"}, "q -> end"],
        },
        "nodes.p",
        "a loop of nodes that do nothing: p, q",
    ),
    (
        ("edges",),
        [{"from": "a", "to": "b", "ask": "f"}, {"from": "a", "to": "end", "when": "$x"}],
        "edges[0].ask",
        "both `ask` and `when`",
    ),
    (("inputs",), {"x": {"type": "string", "$ref": "#"}}, "inputs.x.$ref", "stands for itself"),
    (
        ("inputs",),
        {"x": {"anyOf": [{"items": {"$id": "http://x"}}]}},
        "inputs.x.anyOf[0].items.$id",
        "stands for itself",
    ),
    (("nodes", "s"), {"kind": "start"}, "nodes.a", "no way leads to it"),
]
