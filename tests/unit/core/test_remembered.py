"""`$steps.NODE`: the newest result of a node, as its thread sees it."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.testing import Answered, Fault, Record, run
from engine.core import document
from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.values import VARIABLES_BYTES
from tests.support import play as core

LINE: dict[str, Any] = {
    "workflow": "line",
    "outputs": {"last": "$steps.b", "first": "$steps.a.n"},
    "nodes": {
        "a": {"uses": "tell", "with": {"n": 1}},
        "b": {"uses": "tell", "with": {"n": "$steps.a.n + 1"}},
    },
    "edges": ["a -> b -> end"],
}


def tell(state: Any) -> dict[str, Any]:
    assert not any(name.startswith("$") for name in state), "hidden"
    return {"n": state["n"]}


def told(changes: dict[str, Any], *args: Any, **more: Any) -> Record:
    return run({**LINE, **changes}, *args, functions={"tell": tell, **more.pop("also", {})}, **more)


def test_a_graph_remembers_the_nodes_that_it_asks_for_alone() -> None:
    found = document.read(LINE)
    assert isinstance(found, Graph)
    assert found.remembered == {"a", "b"}
    one = document.read({**LINE, "outputs": {}})
    assert isinstance(one, Graph)
    assert one.remembered == {"a"}
    assert document.read(document.write(one)) == one


@pytest.mark.parametrize("name", ["$steps.a", "$steps.b"])
def test_nobody_else_may_write_there(name: str) -> None:
    record = told({}, also={"tell": lambda _: {name: 1}})
    assert (record.status, record.reason) == ("failed", "save_failed")
    assert "means something else" in (record.message or "")


def test_a_large_result_is_recalled_like_a_large_variable() -> None:
    document = {
        "outputs": {"long": "$(len($steps.a))"},
        "nodes": {"a": {"uses": "large"}, "b": {"uses": "tell", "with": {"n": 1}}},
    }
    record = told(document, also={"large": lambda _: "x" * VARIABLES_BYTES})
    assert record.outputs == {"long": VARIABLES_BYTES}


def test_a_step_that_gives_no_result_leaves_what_was_there() -> None:
    document: dict[str, Any] = {
        "nodes": {
            "a": {"uses": "tell", "with": {"n": 1}},
            "b": {"uses": "tell", "with": {"n": "$steps.b.n"}},
        },
        "outputs": {"b": "$steps.b"},
        "edges": [
            "a -> b -> end",
            {"from": "b", "to": "end", "on": "error"},
        ],
    }
    record = told(document, faults=[Fault(node="b")])
    assert (record.status, record.outputs) == ("completed", {"b": None})


def test_later_steps_and_outputs_read_the_result_and_users_see_no_more_variables() -> None:
    record = told({})
    assert record.outputs == {"last": {"n": 2}, "first": 1}
    assert record.variables == {}
    assert record.state.variables == {"$steps.a": {"n": 1}, "$steps.b": {"n": 2}}


def test_it_is_the_newest_of_a_loop() -> None:
    document: dict[str, Any] = {
        "variables": {"n": {"default": 0}},
        "nodes": {"a": {"uses": "more"}},
        "outputs": {"last": "$steps.a"},
        "edges": [
            {"from": "a", "to": "a", "when": "$steps.a < 3", "label": "loop"},
            "a -> end",
        ],
    }

    def more(state: Any) -> int:
        state["n"] += 1
        return int(state["n"])

    assert told(document, also={"more": more}).outputs == {"last": 3}


def test_a_thread_does_not_see_its_siblings_and_branch_order_decides_where_they_meet() -> None:
    document = {
        "workflow": "fork",
        "variables": {"seen": {"reduce": "append", "default": []}},
        "outputs": {"seen": "$seen", "newest": "$steps.look"},
        "nodes": {
            "plan": {"role": "plan", "uses": "plan"},
            "look": {
                "uses": "look",
                "save": {"seen": '$(default($steps.look, "none"))'},
            },
            "meet": {"uses": "noop"},
        },
        "edges": ["plan -> look", {"from": "look", "to": "meet", "type": "join"}],
    }
    numbers = iter("xyz")
    functions = {
        "plan": lambda _: ["look", "look", "look"],
        "look": lambda _: next(numbers),
        "noop": lambda _: None,
    }
    record = run(document, functions=functions)
    assert record.status == "completed", record.message
    assert record.outputs == {"seen": ["none", "none", "none"], "newest": "z"}


def test_who_waits_leaves_its_result_too_without_saving_anything() -> None:
    document = {
        "workflow": "ask",
        "nodes": {"accept": {"kind": "approval"}},
        "outputs": {"by": "$steps.accept.by"},
        "edges": ["accept -> end"],
    }
    record = run(document, acts=[Answered("accept", "approve", by="ada")])
    assert record.outputs == {"by": ["ada"]}


def test_a_history_without_it_folds_as_it_did() -> None:
    graph = core.graph(core.edge("a -> b"))
    taken = core.play(graph, core.succeeded("a#1", result=3))
    assert taken.state.variables == {}
    assert all(not isinstance(line.record, msg.SaveResult) for line in taken.entries)
