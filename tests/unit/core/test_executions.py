"""A run told as executions of tasks and plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core import document, executions
from engine.core import messages as msg
from engine.core.executions import NotAnId, Setting, Shown, Trial
from engine.core.graph import EdgeId, NodeId, Role
from tests.support.play import NOW, at, edge, graph, meet, node

#: Two plans in a row, tasks that follow tasks, a task that two others meet at.
GRAPH = graph(
    edge("start -> a"),
    edge("a -> b", label="on"),
    edge("a -> c"),
    *meet("d", "b", "c"),
    edge("d -> p"),
    edge("p -> q"),
    edge("q -> e"),
    edge("e -> end"),
    nodes=[node("p", role=Role.PLAN), node("q", role=Role.PLAN)],
)
SETTING = Setting(run="r", tenant="t", version="v", graph=GRAPH)


def key(name, iteration=1):
    return msg.step_key(NodeId(name), iteration)


def trial(name, *parents, to=(), **more):
    """A settled attempt that took a second, and led to other nodes."""
    facts = {"attempt": 1, "outcome": "succeeded", "started_at": NOW, "ended_at": at(1)}
    if name in {"start", "end"}:
        facts = {"attempt": 1, "passed": True}
    return Trial(
        **{
            "step": key(name),
            "node": NodeId(name),
            "iteration": 1,
            "parents": tuple(key(parent) for parent in parents),
            "requested_at": NOW,
            "settled_at": at(1),
            "taken": tuple((EdgeId(edge_id(name, target)), NodeId(target)) for target in to),
            **facts,
            **more,
        }
    )


def edge_id(source, target):
    return next(e.id for e in GRAPH.edges if (e.source, e.target) == (source, target))


TRIALS = {
    one.step: one
    for one in (
        trial("start", to=["a"]),
        trial("a", "start", to=["b", "c"]),
        trial("b", "a", to=["d"]),
        trial("c", "a", to=["d"]),
        # They met in the other order.
        trial("d", "c", "b", to=["p"]),
        trial("p", "d", to=["q"]),
        trial("q", "p", to=["e"]),
        trial("e", "q", to=["end"]),
        trial("end", "e"),
    )
}
RESULTS = {(key(name), 1): Shown(size=3, inline=name) for name in "abcdpqe"}


def record(name, **changes):
    return executions.record(SETTING, replace(TRIALS[key(name)], **changes), TRIALS, RESULTS)


@pytest.mark.parametrize(
    "text", ["", "r", "r:", "r:a", "r:a:1", "r:a:1:", "r:a:x:1", "r:a:1:last", "s:a:1:1", "r::1:1"]
)
def test_a_text_that_is_no_id_names_nothing(text):
    with pytest.raises(NotAnId):
        executions.read_id("r", text)


def test_an_id_names_its_attempt_and_an_implicit_plan():
    assert executions.read_id("r", executions.exec_id("r", key("a b.c", 7), 2)) == (
        key("a b.c", 7),
        2,
    )
    assert executions.read_id("r", executions.implicit_id("r", key("a"))) == (key("a"), None)


def test_a_task_names_the_plan_before_it():
    first, second, last = record("a"), record("b"), record("e")
    assert (first["parent_plan_exec_id"], first["parent_plan_name"]) == ("r:start:1:1", "start")
    assert (second["parent_plan_exec_id"], second["parent_plan_name"]) == ("r:b:1:plan", "plan:b")
    assert last["parent_plan_exec_id"] == "r:q:1:1"
    alone = executions.record(SETTING, trial("a", to=[]), {}, {})
    assert (alone["parent_plan_exec_id"], alone["parent_plan_name"]) == ("", "")


def test_a_plan_names_what_it_follows_and_passes_on_the_results_of_tasks():
    plan, after, end = record("p"), record("q"), record("end")
    assert plan["parent_task_exec_ids"] == ["r:d:1:1"]
    assert plan["result"] == {
        "id": "r:p:1:1",
        "inline": "p",
        "size_bytes": 3,
        "error_message": "",
        "next_task_names": ["q"],
        "upstream_tasks_results": [
            {"id": "r:d:1:1", "inline": "d", "size_bytes": 3, "error_message": ""}
        ],
    }
    # A plan after a plan sees the same results through it.
    assert after["parent_task_exec_ids"] == ["r:p:1:1"]
    assert after["result"]["upstream_tasks_results"] == plan["result"]["upstream_tasks_results"]
    assert end["parent_task_names"] == ["e"]
    assert "inline" not in end["result"]
    assert record("start")["result"]["upstream_tasks_results"] == []


def test_what_stands_within_a_node_is_a_task_of_its_own():
    within = document.read(
        {
            "workflow": "w",
            "nodes": {"m": {"kind": "map", "over": [1], "do": "f"}},
            "edges": ["m -> end"],
        }
    )
    item = trial("m/item", key("m"))
    assert not executions.is_plan(within, item.node)
    assert not executions.has_implicit(within, replace(item, parents=()))


def test_an_implicit_plan_stands_where_tasks_meet_in_the_order_of_their_edges():
    assert executions.has_implicit(GRAPH, TRIALS[key("d")])
    assert not executions.has_implicit(GRAPH, TRIALS[key("a")])
    assert not executions.has_implicit(GRAPH, TRIALS[key("p")])
    met = executions.implicit(SETTING, TRIALS[key("d")], TRIALS, RESULTS)
    assert met["implicit"] is True
    assert met["parent_task_exec_ids"] == ["r:b:1:1", "r:c:1:1"]
    assert met["parent_task_names"] == ["b", "c"]
    assert met["result"]["next_task_names"] == ["d"]
    assert [one["inline"] for one in met["result"]["upstream_tasks_results"]] == ["b", "c"]
    assert met["header"]["edge_taken"] == "b->d, c->d"
    assert met["header"]["created_at"] == "2026-01-01T00:00:01Z"
    one = executions.implicit(SETTING, TRIALS[key("b")], TRIALS, RESULTS)
    assert one["header"]["edge_taken"] == "on"


def test_code_sees_what_led_to_its_step():
    (plan,) = executions.previous(SETTING, TRIALS[key("e")], TRIALS, RESULTS)
    assert plan == record("q")
    (met,) = executions.previous(SETTING, TRIALS[key("d")], TRIALS, RESULTS)
    assert met == executions.implicit(SETTING, TRIALS[key("d")], TRIALS, RESULTS)
    (task,) = executions.previous(SETTING, TRIALS[key("p")], TRIALS, RESULTS)
    assert task == record("d")


def test_the_results_are_named_that_must_be_at_hand():
    assert executions.leads_to(GRAPH, TRIALS[key("d")], TRIALS) == [(key("b"), 1), (key("c"), 1)]
    assert executions.leads_to(GRAPH, TRIALS[key("e")], TRIALS) == [(key("q"), 1), (key("d"), 1)]
    assert executions.leads_to(GRAPH, TRIALS[key("p")], TRIALS) == [(key("d"), 1)]
    assert executions.shows(GRAPH, TRIALS[key("start")], TRIALS) == []


def test_the_steps_are_named_that_must_be_known():
    known = {key("q"): TRIALS[key("q")], key("e"): TRIALS[key("e")]}
    assert executions.needed(GRAPH, known, [key("q"), key("e"), key("a")]) == {key("p")}
    assert executions.needed(GRAPH, TRIALS, [key("q")]) == set()
    # What is not known yet passes nothing on.
    assert executions.upstream(GRAPH, known, TRIALS[key("e")]) == []


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"last": False, "outcome": "failed", "message": "boom"}, "FAILED", "boom"),
        ({"outcome": "failed", "message": "boom"}, "FAILED", "boom"),
        ({"outcome": None, "settled_at": None}, "CANCELED", ""),
        ({"outcome": None, "settled_at": None, "live": True}, "RUNNING", ""),
        (
            {"outcome": None, "settled_at": None, "live": True, "started_at": None},
            "PENDING",
            "",
        ),
        ({"settled_at": None, "live": True}, "SUCCEEDED", ""),
        ({"outcome": None, "skipped": "skipped by ada"}, "SUCCEEDED", "skipped by ada"),
        (
            {"outcome": "failed", "message": "boom", "skipped": "skipped by ada"},
            "SUCCEEDED",
            "skipped by ada",
        ),
    ],
)
def test_an_execution_says_where_it_stands(changes, status, error):
    found = record("a", **changes)
    assert found["header"]["status"] == status
    assert found["result"]["error_message"] == error


def test_a_skipped_attempt_ends_when_it_is_let_go():
    found = record("a", outcome=None, ended_at=None, skipped="skipped by ada")
    assert found["header"]["ended_at"] == "2026-01-01T00:00:01Z"


def test_an_attempt_that_was_not_the_last_took_no_edge():
    assert record("p", last=False)["result"]["next_task_names"] == []
    assert record("p", last=False)["header"]["edge_taken"] == ""
    assert record("a")["header"]["edge_taken"] == "on, a->c"


def test_usage_is_told_by_the_names_of_the_seed():
    used = {"seconds": 9.0, "cpu_seconds": 0.5, "max_rss": 7.0, "tokens_used": 3, "cost_usd": 0.1}
    told = record("a", usage={**used, "hops": 2})["policy_telemetry"]
    assert told == {
        "tokens_used": 3,
        "cost_usd": 0.1,
        "latency_ms": 1000.0,
        "memory_bytes": 7,
        "cpu_ms": 500.0,
        "custom_metrics": {"hops": 2},
    }
    untimed = record("a", usage=used, ended_at=None)["policy_telemetry"]
    assert untimed["latency_ms"] == 9000.0


def test_a_result_that_is_elsewhere_is_named_by_its_address():
    elsewhere = {(key("a"), 1): Shown(size=2_000_000, uri="/api/v1/blobs/x")}
    found = executions.record(SETTING, TRIALS[key("a")], TRIALS, elsewhere)
    assert found["result"] == {
        "id": "r:a:1:1",
        "uri": "/api/v1/blobs/x",
        "size_bytes": 2_000_000,
        "error_message": "",
    }
