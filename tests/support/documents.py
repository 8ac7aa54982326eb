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
    "variables": {
        "drafts": {"type": "array", "reduce": "append", "default": []},
        "score": {"type": {"type": "number", "minimum": 0}},
        "best": {"type": {"type": "number"}, "reduce": "max", "shared": True},
        "notes": {"reduce": "set"},
    },
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
        "decide": {"role": "plan", "uses": "decide@1"},
        "ask": {},
        "rest": {"kind": "pass"},
        "split": {"uses": "split", "choose": "how@2"},
        "one": {"uses": "one", "cancels": ["two", "rest"]},
        "two": {"uses": "two", "route": "all"},
        "meet": {"uses": "meet", "join": {"first": 2, "of": "split", "surplus": "finish"}},
        "plan": {
            "role": "plan",
            "rules": [
                {"when": "$score > 5", "next": ["one", "one", "two"]},
                {"when": "$score < 0", "next": []},
                {"next": ["rest"]},
            ],
            "join": "all",
            "cancels": ["rest"],
            "max_iterations": 3,
            "title": "Decide",
        },
        "until": {"kind": "milestone", "at": "two", "expires": "10m"},
        "end": {"kind": "end", "notes": "Done."},
    },
    "edges": [
        "begin -> search -> draft->grade",
        {"from": "grade", "to": "draft", "label": "loop"},
        {"from": ["grade"], "to": ["decide", "rest"], "label": "done", "title": "It is good."},
        {"from": "decide", "to": ["ask", "rest"]},
        {"from": "ask", "to": "rest", "ask": "may_rest"},
        {"from": "ask", "to": "end", "type": "normal"},
        {"from": "rest", "to": "draft", "when": "$score < 7 and $tries > 0"},
        {"from": "rest", "to": "end", "type": "final"},
        {"from": "decide", "to": "split"},
        {"from": "split", "to": ["one", "two"], "type": "parallel", "label": "wide"},
        {"from": "split", "to": "rest"},
        {"from": ["one", "two"], "to": "meet", "type": "join"},
        {"from": "one", "to": "until", "on": "error"},
        {"from": "until", "to": "end", "on": "short"},
        "until -> rest",
        {"from": "two", "to": "plan", "type": "join", "when": "$result.ok"},
        {"from": "meet", "to": "plan", "type": "join"},
        {"from": "meet", "to": "rest", "on": "short"},
        {"from": "plan", "to": ["one", "two"], "type": "parallel"},
        "plan -> rest",
        {"from": "draft", "to": "rest", "on": "error", "reason": ["timeout", "lost"]},
        {"from": "draft", "to": "end", "type": "final", "on": "error", "when": "$run.id != ''"},
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
    "every kind of wait": {
        "workflow": "w",
        "inputs": {"files": {"type": "array"}, "due": {"type": "string"}},
        "outputs": {"found": "$steps.look", "by": '$steps["the boss"].by'},
        "nodes": {
            "rest": {"kind": "timer", "for": "10m"},
            "until": {"kind": "timer", "until": "$due"},
            "paid": {
                "kind": "event",
                "name": "paid",
                "match": {"order": 7},
                "schema": {"type": "object"},
                "transient": True,
                "expires": 3600,
            },
            "the boss": {
                "kind": "approval",
                "show": "$files",
                "choices": ["yes", "no"],
                "form": {"why": {"type": "string"}},
                "from": ["role:boss"],
                "quorum": 2,
                "expires": 60,
            },
            "fill in": {"kind": "input", "form": {"name": {"type": "string", "default": "x"}}},
            "run": {
                "kind": "workflow",
                "workflow": "other@1.2",
                "with": {"files": "$files"},
                "orphan": "finish",
                "expires": 60,
                "retry": {"attempts": 2, "on": ["child_failed"]},
                "lock": {"name": "one", "until": "look", "of": "tenant"},
                "save": {"files": "$result.files"},
            },
            "look": {
                "kind": "map",
                "over": "$files",
                "as": "file",
                "do": {"kind": "workflow", "workflow": "look", "with": {"file": "$file"}},
                "at_once": 3,
                "stop_when": {"failed": 2, "succeeded": "$(len($files))"},
                "compensate": {"uses": "forget", "with": {"what": "$result"}},
            },
        },
        "edges": ["rest -> until -> paid -> the boss -> fill in -> run -> look -> end"],
    },
    "names of many kinds": {
        "workflow": "w",
        "nodes": {"1": {"uses": "f"}, "a b": {"uses": "f"}, "x.y-z_": {"uses": "f"}},
        "edges": ["1 -> a b -> x.y-z_"],
    },
}

#: A fork of `a` to two nodes, which meet.
FORKED: Document = {
    "workflow": "forked",
    "nodes": {"a": {"uses": "f"}, "b": {"uses": "g"}, "c": {"uses": "g"}, "j": {"uses": "h"}},
    "edges": [
        {"from": "a", "to": ["b", "c"], "type": "parallel"},
        {"from": ["b", "c"], "to": "j", "type": "join"},
        "j -> end",
    ],
}

#: A plan of rules before two nodes.
PLANNED: Document = {
    "workflow": "planned",
    "nodes": {
        "p": {"role": "plan", "rules": [{"when": "$n > 5", "next": ["a"]}, {"next": ["b"]}]},
        "a": {"uses": "f"},
        "b": {"uses": "g"},
    },
    "edges": ["p -> a -> end", "p -> b -> end"],
}

#: What seed 001 would take.
STRICT: Document = {
    "workflow": "strict",
    "strict": True,
    "nodes": {
        "p": {"role": "plan", "rules": [{"next": ["a"]}]},
        "q": {"role": "plan", "uses": "q"},
        "a": {"uses": "f"},
        "b": {"uses": "g"},
    },
    "edges": ["p -> a -> q -> b -> q -> end"],
}

TOOLS: Document = {
    "workflow": "tools",
    "nodes": {"t": {"kind": "tool", "tool": "t"}},
    "edges": ["t -> end"],
}

GOOD |= {
    "forked": FORKED,
    "planned": PLANNED,
    "strict": STRICT,
    "a fork whose edges are waited for": {
        "workflow": "w",
        "nodes": {
            "f": {"uses": "f"},
            "s": {"uses": "f", "route": "all"},
            "t": {"uses": "f", "route": "all"},
            "j": {"uses": "g"},
            "k": {"uses": "g", "join": {"timeout": 2.5, "surplus": "finish"}},
        },
        "edges": [
            {"from": "f", "to": ["s", "t"], "type": "parallel"},
            {"from": ["s", "t"], "to": ["j", "k"], "type": "join"},
        ],
    },
    "one edge over which a plan sends several": {
        "workflow": "w",
        "nodes": {
            "p": {"role": "plan", "rules": [{"next": ["a", "a", "a"]}]},
            "a": {"uses": "f"},
            "j": {"uses": "g", "join": {"share": 1, "timeout": "10m"}},
        },
        "edges": ["p -> a", {"from": "a", "to": "j", "type": "join"}],
    },
    "milestones that wait for each other": {
        "workflow": "w",
        "nodes": {
            "f": {"uses": "f"},
            "m": {"kind": "milestone", "at": "b", "cancels": ["b"]},
            "n": {"kind": "milestone", "at": "a", "expires": 2.5},
            "a": {"uses": "f"},
            "b": {"uses": "f", "cancels": ["m", "a"]},
        },
        "edges": [
            {"from": "f", "to": ["m", "n"], "type": "parallel"},
            "m -> a",
            "n -> b",
            {"from": "n", "to": "m", "on": "short"},
        ],
    },
    "a node that is started and waited for": {
        "workflow": "w",
        "nodes": {name: {"uses": "f"} for name in "abcdj"},
        "edges": [
            {"from": "a", "to": ["b", "c", "d"], "type": "parallel"},
            {"from": ["b", "c"], "to": "j", "type": "join"},
            "d -> j",
        ],
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


def _on(what: str, **facets: Any) -> Document:
    return {"from": "a", "to": "b", "on": what, **facets}


def _until(node: str) -> Document:
    return {"kind": "milestone", "at": node}


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
    (("policies",), [], "policies", "`policies` is not available in this version"),
    (("steps",), [{"agent": "f"}], "nodes", "`nodes` means nothing here"),
    (("return_on_fail",), True, "return_on_fail", "`return_on_fail` means nothing here"),
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
    (_n(), {"kind": "milestone"}, "nodes.a.at", "does not say where"),
    (_n(), {"kind": "milestone", "at": "b#"}, "nodes.a.at", "does not fit"),
    (_n(), {"kind": "milestone", "at": "b", "expires": "soon"}, "nodes.a.expires", "does not fit"),
    (_n(), {"kind": "milestone", "at": "b", "uses": "f"}, "nodes.a.uses", "means nothing here"),
    (_n("at"), "b", "nodes.a.at", "`at` means nothing here"),
    (_n("expires"), "1m", "nodes.a.expires", "`expires` means nothing here"),
    (_n("tool"), "t", "nodes.a.tool", "`tool` means nothing here"),
    (_n("uses"), "f@^1", "nodes.a.uses", "does not fit"),
    (_n("uses"), "f@0", "nodes.a.uses", "does not fit"),
    (_n("uses"), "", "nodes.a.uses", "does not fit"),
    (_n("uses"), ["f"], "nodes.a.uses", "a list stands here"),
    (_n("use"), "f", "nodes.a.use", "there is no field `use`"),
    (_n("effect"), "none", "nodes.a.effect", "`effect` is not available"),
    (_n("role"), "control", "nodes.a.role", "there is no role 'control'"),
    (_n(), {"role": "plan"}, "nodes.a.rules", "nothing to choose by"),
    (_n(), {"role": "plan", "uses": "f", "choose": "g"}, "nodes.a.choose", "its own function"),
    (_n(), {"kind": "tool", "tool": "t", "choose": "g"}, "nodes.a.choose", "means nothing here"),
    (_n(), {"kind": "tool", "tool": "t", "role": "plan"}, "nodes.a.role", "means nothing here"),
    (_n("rules"), [{"next": ["b"]}], "nodes.a.uses", "`uses` means nothing here"),
    (_n(), {"rules": [{"next": ["b"]}]}, "nodes.a.role", "rules are for a plan"),
    (_n(), {"role": "task", "rules": [{"next": ["b"]}]}, "nodes.a.role", "rules are for a plan"),
    (_n(), {"role": "plna", "rules": [{"next": ["b"]}]}, "nodes.a.role", "there is no role"),
    (_n(), {"role": "plan", "kind": "pass", "rules": [{"next": ["b"]}]}, "nodes.a.kind", "nothing"),
    (_n(), {"role": "plan", "rules": {}}, "nodes.a.rules", "an object stands here"),
    (_n(), {"role": "plan", "rules": []}, "nodes.a.rules", "a list stands here"),
    (_n(), {"role": "plan", "rules": ["b"]}, "nodes.a.rules[0]", "text stands here"),
    (_n(), {"role": "plan", "rules": [{}]}, "nodes.a.rules[0].next", "chooses nothing"),
    (_n(), {"role": "plan", "rules": [{"next": "b"}]}, "nodes.a.rules[0].next", "text stands"),
    (_n(), {"role": "plan", "rules": [{"next": [3]}]}, "nodes.a.rules[0].next", "a list stands"),
    (_n(), {"role": "plan", "rules": [{"nxt": []}]}, "nodes.a.rules[0].nxt", "no field"),
    (_n("join"), 3, "nodes.a.join", "a number stands here"),
    (_n("join"), None, "nodes.a.join", "nothing (null) stands here"),
    (_n("join"), "every", "nodes.a.join", "there is no join 'every'"),
    (_n("join"), {}, "nodes.a.join", "it says nothing"),
    (_n("join"), {"al": True}, "nodes.a.join.al", "no field"),
    (_n("join"), {"all": False}, "nodes.a.join.all", "a demand that is none"),
    (_n("join"), {"all": 1}, "nodes.a.join.all", "a number stands here"),
    (_n("join"), {"first": 0}, "nodes.a.join.first", "out of bounds"),
    (_n("join"), {"share": 0}, "nodes.a.join.share", "out of bounds"),
    (_n("join"), {"share": 1.5}, "nodes.a.join.share", "out of bounds"),
    (_n("join"), {"share": 0.5, "first": 2}, "nodes.a.join.share", "`first` says already"),
    (_n("join"), {"surplus": "finish"}, "nodes.a.join.surplus", "nobody is left over"),
    (_n("join"), {"first": 2, "surplus": "hold"}, "nodes.a.join.surplus", "there is no surplus"),
    (_n("join"), {"share": 0.5, "surplus": "keep"}, "nodes.a.join.surplus", "no next time"),
    (_n("join"), {"timeout": -1}, "nodes.a.join.timeout", "out of bounds"),
    (_n("join"), {"timeout": "soon"}, "nodes.a.join.timeout", "does not fit"),
    (_n("join"), {"of": "a#"}, "nodes.a.join.of", "does not fit"),
    (_n("cancels"), [], "nodes.a.cancels", "a list stands here"),
    (_n("cancels"), "b", "nodes.a.cancels", "text stands here"),
    (_n("cancels"), ["b", 3], "nodes.a.cancels", "a list stands here"),
    (_n("route"), "every", "nodes.a.route", "there is no route"),
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
    (("edges", 1), {"from": "a", "to": "b", "type": "x"}, "edges[1].type", "no type 'x'"),
    (("edges", 1), {"from": "a", "to": "b", "on": "eror"}, "edges[1].on", "there is no on 'eror'"),
    (("edges", 1), {"from": "a", "to": "b", "priority": 1}, "edges[1].priority", "not available"),
    (("edges", 1), {"from": "a", "to": "b", "reason": []}, "edges[1].reason", "nothing here"),
    (("edges", 1), _on("error", ask="f"), "edges[1].ask", "means nothing here"),
    (("edges", 1), _on("error", label="x"), "edges[1].label", "means nothing here"),
    (("edges", 1), _on("error", type="parallel"), "edges[1].type", "one is taken"),
    (("edges", 1), _on("error", reason=["timeuot"]), "edges[1].reason[0]", "there is no reason"),
    (("edges", 1), _on("short", when="$x"), "edges[1].when", "means nothing here"),
    (("edges", 1), _on("short", reason=["lost"]), "edges[1].reason", "means nothing here"),
    (("edges", 1), {"from": "a", "to": "b", "wen": "$x"}, "edges[1].wen", "no field"),
    (("edges", 0), {"from": "a", "to": "b", "when": True}, "edges[0].when", "true or false"),
    (("edges", 0), {"from": "a", "to": "b", "when": ""}, "edges[0].when", "empty"),
    (("edges", 0), {"from": "a", "to": "b", "ask": "a b"}, "edges[0].ask", "does not fit"),
    (("edges", 0), {"from": "a", "to": "b", "label": ""}, "edges[0].label", "does not fit"),
    (("edges", 0), {"from": "a", "to": "b", "title": "a\nb"}, "edges[0].title", "does not fit"),
    (("inputs",), [], "inputs", "a list stands here"),
    (("inputs",), {"goal": "string"}, "inputs.goal", "text stands here"),
    (("inputs",), {"1st": {}}, "inputs.1st", "is not a name"),
    (("inputs",), {"env": {}}, "inputs.env", "means something else"),
    (("variables",), {"x": 3}, "variables.x", "a number stands here"),
    (("variables",), {"x": {"sensitive": True}}, "variables.x.sensitive", "not available"),
    (("variables",), {"x": {"type": "aray"}}, "variables.x.type", "there is no type 'aray'"),
    (("variables",), {"x": {"type": 3}}, "variables.x.type", "a number stands here"),
    (("variables",), {"x": {"reduce": "add"}}, "variables.x.reduce", "there is no reduce 'add'"),
    (("variables",), {"x": {"shared": "yes"}}, "variables.x.shared", "text stands here"),
    (("variables",), {"x": {"shared": True}}, "variables.x.shared", "whatever order they come"),
    (
        ("variables",),
        {"x": {"shared": True, "reduce": "append"}},
        "variables.x.shared",
        "whatever order they come",
    ),
    (
        ("variables",),
        {"x": {"type": "string", "reduce": "sum"}},
        "variables.x.reduce",
        "adds to a variable of type number or integer, and this is string",
    ),
    (("variables",), {"x": {"defualt": 1}}, "variables.x.defualt", "no field"),
    (("outputs",), {"a b": 1}, "outputs.a b", "is not a name"),
    (("limits",), {"steps": 0}, "limits.steps", "out of bounds"),
    (("limits",), {"cost_usd": 2.0}, "limits.cost_usd", "not available"),
    (("limits",), {"duration": "2h"}, "limits.duration", "not available"),
    (("start",), 3, "start", "a number stands here"),
    (("start",), "a#", "start", "does not fit"),
    (("strict",), "yes", "strict", "text stands here"),
    (("origin",), "here", "origin", "text stands here"),
]

#: What the reader finds and no schema can.
BEYOND: list[tuple[tuple[str | int, ...], Any, str, str]] = [
    (("start",), "c", "start", "there is no node 'c'"),
    (_n("join"), {"timeout": 0}, "nodes.a.join.timeout", "out of bounds"),
    (_n("cancels"), ["b"], "nodes.a.cancels[0]", "no fork leads to both"),
    (("nodes", "b"), {"kind": "milestone", "at": "a"}, "nodes.b.at", "no fork leads to both"),
    (_n(), {"kind": "milestone", "at": "b"}, "start", "begins with a, a milestone"),
    (_n("with"), {"x": ["$"]}, "nodes.a.with.x[0]", "no expression"),
    (_n("with"), {"x": "$y >"}, "nodes.a.with.x", "breaks off"),
    (_n("save"), {"x": {"y": "$(1"}}, "nodes.a.save.x.y", "`)` is missing"),
    (_n(), {}, "nodes.a", "names no function"),
    (_n(), {"kind": "end"}, "edges[0]", "a is an end"),
    (_n("with"), {"x": "$result"}, "nodes.a.with.x", "$result is not known here"),
    (_n("with"), {"x": "$item.y"}, "nodes.a.with.x", "$item is not available"),
    (_n("save"), {"x": "$steps.aa"}, "nodes.a.save.x", "there is no node 'aa'"),
    (_n("save"), {"x": "$steps"}, "nodes.a.save.x", "$steps does not say which node"),
    (_n("save"), {"x": "$steps[$y]"}, "nodes.a.save.x", "$steps does not say which node"),
    (("outputs",), {"x": "$steps.end"}, "outputs.x", "end gives no result"),
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
    (("variables",), {"x": {"type": {"$ref": "#"}}}, "variables.x.type.$ref", "stands for itself"),
    *(
        (
            ("variables",),
            {"x": {"reduce": reducer, "default": value}},
            "variables.x.default",
            f"{what} stands here",
        )
        for reducer, value, what in [
            ("append", "abc", "text"),
            ("set", {}, "an object"),
            ("merge", [], "a list"),
            ("sum", "1", "text"),
            ("min", True, "true or false"),
            ("max", [1], "a list"),
        ]
    ),
    (("edges", 1), _on("error", when="$x >"), "edges[1].when", "breaks off"),
    (_n("join"), "all", "nodes.a.join", "no edge into a waits there"),
    (_n("route"), "all", "nodes.a.route", "say themselves"),
    (("nodes", "b", "route"), "all", "nodes.b.route", "say themselves"),
    (("edges", 1), _on("error", type="join"), "edges[1]", "b joins nothing"),
    (("edges", 1), {"from": "a", "to": "a", "on": "error"}, "edges[1]", "again for ever"),
    (("edges", 1), _on("short"), "edges[1].on", "a demands nothing"),
    (("edges", 1), {"from": "end", "to": "a", "on": "error"}, "edges[1]", "end is an end"),
    (
        ("edges",),
        ["a -> b -> end", _on("error"), {**_on("error", when="$result.reason == 'lost'")}],
        "edges[2]",
        "never taken",
    ),
    (
        ("edges",),
        [
            "a -> b -> end",
            _on("error", reason=["lost", "killed"]),
            _on("error", reason=["timeout"], when="$x"),
            _on("error", reason=["timeout"]),
            {"from": "a", "to": "end", "on": "error", "reason": ["timeout", "lost"]},
        ],
        "edges[4]",
        "never taken: a -> b",
    ),
]

#: What is wrong with forks, in FORKED; with plans, in PLANNED; with turns, in STRICT.
ASTRAY: list[tuple[Document, tuple[str | int, ...], Any, str, str]] = [
    (FORKED, ("edges", 2), {"from": "a", "to": "end"}, "edges[2]", "a -> end is normal"),
    (FORKED, ("edges", 1), {"from": "b", "to": "j", "type": "join"}, "edges[1]", "joins nothing"),
    (FORKED, ("edges", 0), {"from": "a", "to": ["b", "c"], "when": "$x"}, "edges[1]", "nothing"),
    (FORKED, ("edges", 0, "to"), ["b", "c", "b"], "edges[0]", "there twice"),
    (FORKED, ("nodes", "a", "route"), "all", "nodes.a.route", "say themselves"),
    (FORKED, ("nodes", "b", "route"), "all", "nodes.b.route", "no two edges"),
    (FORKED, ("nodes", "j", "join"), {"first": 3}, "nodes.j.join", "never more than 2 come"),
    (FORKED, ("nodes", "j", "join"), {"of": "d"}, "nodes.j.join.of", "there is no node 'd'"),
    (FORKED, ("nodes", "j", "join"), {"of": "b"}, "nodes.j.join.of", "from b to c -> j"),
    (FORKED, ("nodes", "j", "join"), {"of": "j"}, "nodes.j.join.of", "but through j itself"),
    (FORKED, ("edges", 1, "type"), "jion", "edges[1].type", "there is no type 'jion'"),
    (FORKED, ("edges", 3), {"from": "j", "to": "b", "on": "short"}, "edges[3].on", "nothing"),
    (
        FORKED,
        ("edges", 3),
        {"from": "j", "to": "j", "on": "short", "type": "join"},
        "edges[3]",
        "comes short at j waits",
    ),
    (FORKED, ("nodes", "b"), _until("d"), "nodes.b.at", "there is no node 'd'"),
    (FORKED, ("nodes", "b"), _until("b"), "nodes.b.at", "b is passed at once"),
    (FORKED, ("nodes", "b"), _until("end"), "nodes.b.at", "end is passed at once"),
    (FORKED, ("nodes", "b", "cancels"), ["d"], "nodes.b.cancels[0]", "there is no node 'd'"),
    (FORKED, ("nodes", "b", "cancels"), ["c", "b"], "nodes.b.cancels[1]", "cannot cancel itself"),
    (FORKED, ("nodes", "b", "cancels"), ["c", "c"], "nodes.b.cancels[1]", "stands there twice"),
    (PLANNED, ("nodes", "p", "rules", 0, "next"), ["b"], "edges[0]", "no rule names it"),
    (PLANNED, ("nodes", "p", "rules", 0, "next"), ["c"], "nodes.p.rules[0].next[0]", "no edge"),
    (PLANNED, ("nodes", "p", "rules", 0, "when"), "$n >", "nodes.p.rules[0].when", "breaks off"),
    (PLANNED, ("nodes", "p", "rules", 0), {"next": []}, "nodes.p.rules[1]", "never looked at"),
    (PLANNED, ("nodes", "p", "rules", 0, "when"), "$result", "nodes.p.rules[0].when", "not known"),
    (PLANNED, ("edges", 2), "p -> a", "edges[2]", "there twice"),
    (PLANNED, ("edges", 1), {"from": "p", "to": "b", "ask": "f"}, "edges[1].ask", "without a"),
    (PLANNED, ("edges", 1), {"from": "p", "to": "b", "when": "$result"}, "edges[1].when", "known"),
    (STRICT, ("edges", 1), {"from": "q", "to": "a", "ask": "f"}, "edges[1].ask", "a plan, and"),
    (TOOLS, ("edges", 0), {"from": "t", "to": "end", "ask": "f"}, "edges[0].ask", "a tool, and"),
    (FORKED, ("start",), "j", "nodes.b", "no way leads to it"),
    (FORKED, ("start",), "zzz", "start", "there is no node 'zzz'"),
    (PLANNED, ("edges", 2), {"from": "p", "to": "b", "on": "error"}, "edges[2].on", "never fails"),
    (PLANNED, ("edges",), ["p -> a -> p", "p -> b -> p"], "edges", "the graph has no end"),
    (STRICT, ("edges", 1), "a -> b", "edges[1]", "a (task) leads to b (task)"),
    (STRICT, ("edges", 1), "b -> end", "edges[1]", "b (task) leads to end (end)"),
    (STRICT, ("edges", 1), "q -> a", "nodes.a", "comes after 2 plans: p, q"),
    (STRICT, ("edges", 1), {"from": "p", "to": "q", "on": "error"}, "edges[1]", "take turns"),
    (STRICT, ("start",), "a", "start", "begins with a, a task"),
    (STRICT, ("nodes", "a"), {"kind": "pass"}, "nodes.a", "neither a task nor a plan"),
    (STRICT, ("nodes", "class"), {"uses": "f"}, "nodes.class", "not a name that Python"),
    (STRICT, ("edges",), ["p -> a -> q -> end"], "nodes.q", "leads to no task"),
]
