"""What users must not write: each marked line is an error of `mypy --strict`; see test_typing."""

from __future__ import annotations

import asyncio

from celeriac import NodeType, WorkflowEngine, WorkflowGraph, WorkflowState, tool
from celeriac.testing import Fault, run


@tool  # error
def bare(state: WorkflowState) -> None: ...


@tool(name="add")
def add(left: int, right: int) -> int:
    return left + right


add("1", 2)  # error
add(1)  # error
total: str = add(1, 2)  # error


def two(first: int, second: int) -> int:
    return first + second


def state_as_condition(state: WorkflowState) -> WorkflowState:
    return state


graph = WorkflowGraph(title="my_workflow")  # error
graph.add_node("a", func=two)  # error
graph.add_node("b", node_type="loop")  # error
graph.add_node("c", condition=state_as_condition)  # error
graph.add_node("d", max_iterations="10")  # error
graph.add_node("e", node_type=NodeType.PARALLEL)  # error
graph.add_edge("a", 2)  # error
graph.add_edge("a", "b", condition=lambda _: "c")  # error

result = asyncio.run(WorkflowEngine().run(graph_id=7))  # error
result["state"]  # error
result["final_state"]["iterations"] + "1"  # error

run("workflow: w", faults=[Fault("node")])  # error
finished = run("workflow: w").statuses  # error
