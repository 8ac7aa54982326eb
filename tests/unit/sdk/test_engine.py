from __future__ import annotations

import asyncio
from typing import Any

import pytest

from celeriac import Context, NodeType, WorkflowEngine, WorkflowGraph, WorkflowState
from celeriac.sdk.engine import RunResult
from celeriac.sdk.graph import Condition, NodeFunction
from engine.errors import Invalid, NotFound


def count(state: WorkflowState) -> WorkflowState:
    state.set("counter", state.get("counter", 0) + 1)
    return state


def one_node(function: NodeFunction | str, **rest: Any) -> WorkflowGraph:
    graph = WorkflowGraph(name="one")
    graph.add_node("start", node_type=NodeType.START)
    graph.add_node("work", func=function, **rest)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("start", "work")
    graph.add_edge("work", "end")
    return graph


def loop(condition: Condition, max_iterations: int) -> WorkflowGraph:
    return one_node(
        count, node_type=NodeType.LOOP, condition=condition, max_iterations=max_iterations
    )


def run(graph: WorkflowGraph, **state: Any) -> RunResult:
    engine = WorkflowEngine()
    engine.register_graph(graph)
    return asyncio.run(engine.run(graph_id=graph.graph_id, initial_state=state))


def words(result: RunResult) -> list[tuple[str, str]]:
    return [(step["node"], step["status"]) for step in result["execution_log"]["steps"]]


def test_a_graph_that_was_not_registered_is_not_found() -> None:
    with pytest.raises(NotFound, match="Graph not found: nowhere"):
        asyncio.run(WorkflowEngine().run(graph_id="nowhere"))


def test_every_mistake_of_a_graph_is_named_at_once() -> None:
    graph = WorkflowGraph(name="broken")
    graph.add_node("start", node_type=NodeType.START)
    graph.add_node("lost")
    graph.add_edge("start", "nowhere")
    with pytest.raises(Invalid) as raised:
        WorkflowEngine().register_graph(graph)
    said = [problem.message for problem in raised.value.problems]
    assert "Graph missing end node" in said
    assert "Edge references unknown node: nowhere" in said


def test_a_function_that_nobody_registered_is_named_before_anything_runs() -> None:
    with pytest.raises(Invalid, match="Function not found: increment"):
        WorkflowEngine().register_graph(one_node("increment"))


def test_two_nodes_of_one_name_are_refused() -> None:
    graph = WorkflowGraph()
    graph.add_node("a")
    with pytest.raises(ValueError, match="has a node 'a' already"):
        graph.add_node("a")


def test_an_initial_state_that_is_not_json_is_refused_with_its_place() -> None:
    with pytest.raises(Invalid, match=r"inputs\.when\[0\]"):
        run(one_node(count), when=[{1, 2}])


def test_a_node_that_raises_ends_the_run_as_an_error_at_its_line() -> None:
    def bad(state: WorkflowState) -> None:
        raise LookupError("no such patient")

    result = run(one_node(bad))
    assert result["status"] == "error"
    assert result["final_state"]["error"] is not None
    assert "LookupError: no such patient (test_engine.py, line " in result["final_state"]["error"]
    assert ("work", "error") in words(result)
    assert words(result)[-1] == ("workflow", "error")


def test_what_a_failing_node_had_set_is_not_kept() -> None:
    def half(state: WorkflowState) -> None:
        state.set("half", 1)
        raise ValueError

    assert run(one_node(half))["final_state"]["data"] == {}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({1}, "is a set, which is not a JSON value"),
        (float("nan"), "is not a finite number"),
        ("\x00", "holds a NUL character"),
        (2**63, "is an integer beyond 64 bits"),
    ],
)
def test_a_value_that_cannot_be_stored_fails_the_node_with_its_place(
    value: object, complaint: str
) -> None:
    def odd(state: WorkflowState) -> None:
        state.set("list", [0, value])

    error = run(one_node(odd))["final_state"]["error"]
    assert error is not None
    assert '["list"][1]' in error
    assert complaint in error


def test_a_condition_that_answers_with_the_state_fails_the_run() -> None:
    result = run(loop(count, 3))  # type: ignore[arg-type]  # the point
    assert result["status"] == "error"
    assert "a condition returns True, False or the name of a node" in str(
        result["final_state"]["error"]
    )


def test_a_choice_that_no_edge_answers_to_fails_the_run() -> None:
    graph = WorkflowGraph()
    graph.add_node("ask", node_type=NodeType.CONDITIONAL, condition=lambda _: "nowhere")
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("ask", "end", label="there")
    result = run(graph)
    assert (result["status"], words(result)[-1]) == ("error", ("workflow", "error"))


def test_the_published_example_gives_ten() -> None:
    def my_node(state: WorkflowState) -> WorkflowState:
        state.set("output", state.get("input", 0) * 2)
        return state

    result = run(one_node(my_node), input=5)
    assert result["final_state"]["data"]["output"] == 10
    assert result["status"] == "completed"
    assert result["final_state"]["final_node"] == "end"
    assert result["run_id"] == result["final_state"]["run_id"] == result["execution_log"]["run_id"]


def test_a_result_has_the_shape_of_the_api() -> None:
    result = run(one_node(count))
    assert list(result) == ["run_id", "graph_id", "status", "final_state", "execution_log"]
    assert list(result["final_state"]) == [
        *("run_id", "graph_id", "final_node", "iterations", "data", "started_at"),
        *("completed_at", "error", "execution_log"),
    ]
    assert list(result["execution_log"]) == [
        *("run_id", "graph_id", "started_at", "completed_at", "steps")
    ]
    (snapshot,) = result["final_state"]["execution_log"]
    assert (snapshot["node"], snapshot["input"], snapshot["output"]) == ("work", {}, {"counter": 1})
    assert words(result) == [
        ("start", "started"),
        ("start", "transition"),
        ("work", "executing"),
        ("work", "completed"),
        ("work", "transition"),
        ("end", "completed"),
        ("end", "end_reached"),
        ("workflow", "completed"),
    ]


def test_a_loop_runs_its_function_until_the_condition_fails() -> None:
    result = run(loop(lambda state: state["counter"] < 5, 10))
    assert result["final_state"]["data"] == {"counter": 5}
    assert words(result).count(("work", "executing")) == 5


def test_a_loop_that_never_ends_by_itself_ends_at_its_bound_and_says_so() -> None:
    result = run(loop(lambda _: True, 10))
    assert (result["status"], result["final_state"]["data"]) == ("completed", {"counter": 10})
    assert words(result).count(("work", "executing")) == 10
    assert ("work", "max_iterations") in words(result)


def test_two_loops_are_bounded_each_for_itself() -> None:
    graph = WorkflowGraph()
    for name in ("one", "two"):
        graph.add_node(
            name,
            func=count,
            node_type=NodeType.LOOP,
            condition=lambda _: True,
            max_iterations=4,
        )
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("one", "two")
    graph.add_edge("two", "end")
    assert run(graph)["final_state"]["data"] == {"counter": 8}


@pytest.mark.parametrize(("n", "path"), [(1, "small"), (9, "large")])
def test_a_condition_names_the_next_node(n: int, path: str) -> None:
    graph = WorkflowGraph()
    graph.add_node(
        "sort",
        node_type=NodeType.CONDITIONAL,
        condition=lambda state: "small" if state["n"] < 5 else "large",
    )
    for name in ("small", "large"):
        graph.add_node(name, func=count)
        graph.add_edge("sort", name)
        graph.add_edge(name, "end")
    graph.add_node("end", node_type=NodeType.END)
    assert (path, "completed") in words(run(graph, n=n))


def test_the_first_edge_whose_condition_holds_is_taken() -> None:
    graph = WorkflowGraph()
    graph.add_node("start", node_type=NodeType.START)
    graph.add_edge("start", "never", condition=lambda _: False)
    graph.add_edge("start", "first", condition=lambda state: bool(state["n"]))
    graph.add_edge("start", "second", condition=lambda _: True)
    for name in ("never", "first", "second"):
        graph.add_node(name, func=count)
        graph.add_edge(name, "end")
    graph.add_node("end", node_type=NodeType.END)
    result = run(graph, n=1)
    visited = {node for node, word in words(result) if word == "executing"}
    assert visited >= {"first"}
    assert not visited & {"never", "second"}


def test_functions_may_be_asynchronous_and_ask_for_their_context() -> None:
    async def note(state: WorkflowState, context: Context) -> None:
        await asyncio.sleep(0)
        state["at"] = [context.node, context.iteration, context.attempt]

    assert run(one_node(note))["final_state"]["data"] == {"at": ["work", 1, 1]}


def test_a_mapping_that_a_function_returns_is_taken_into_the_state() -> None:
    assert run(one_node(lambda state: {"b": state["a"] + 1}), a=1)["final_state"]["data"] == {
        "a": 1,
        "b": 2,
    }


def test_a_method_serves_two_nodes_under_one_name() -> None:
    class Counter:
        def add(self, state: WorkflowState) -> None:
            count(state)

    counter = Counter()
    graph = one_node(counter.add)
    graph.add_node("again", func=counter.add)
    graph.add_edge("again", "end")
    graph.add_edge("work", "again", condition=lambda _: True, label="more")
    assert list(graph.functions) == ["add", "work_again_condition"]


def test_functions_without_a_name_of_their_own_go_by_that_of_their_node() -> None:
    def b(state: WorkflowState) -> None: ...

    graph = WorkflowGraph()
    graph.add_node("a", func=b, node_type=NodeType.LOOP, condition=lambda _: True)
    graph.add_node("b", func=lambda _: None)
    assert list(graph.functions) == ["b", "a_condition", "b_2"]


def test_a_registered_graph_stays_as_it_was() -> None:
    engine = WorkflowEngine()
    graph = one_node(count)
    engine.register_graph(graph)
    graph.add_node("later", func=count)
    result = asyncio.run(engine.run(graph_id=graph.graph_id))
    assert result["status"] == "completed"
    with pytest.raises(Invalid, match="Unreachable nodes: later"):
        engine.register_graph(graph)
