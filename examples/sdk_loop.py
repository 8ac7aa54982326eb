# ruff: noqa: D103, PLR2004
"""A node that repeats while its condition holds, and a tool that it calls: prints 5."""

import asyncio

from celeriac import NodeType, WorkflowEngine, WorkflowGraph, WorkflowState, invoke, tool

graph = WorkflowGraph(name="count_to_five")


@tool(name="add", description="The sum of two numbers")
def add(left: int, right: int) -> int:
    return left + right


def should_continue(state: WorkflowState) -> bool:
    return state.get("counter", 0) < 5


def increment(state: WorkflowState) -> WorkflowState:
    state.set("counter", invoke("add", state.get("counter", 0), 1))
    return state


graph.add_node("start", node_type=NodeType.START)
graph.add_node(
    "loop_node",
    func=increment,
    node_type=NodeType.LOOP,
    condition=should_continue,
    max_iterations=10,
)
graph.add_node("end", node_type=NodeType.END)
graph.add_edge("start", "loop_node")
graph.add_edge("loop_node", "end")

engine = WorkflowEngine()
engine.register_graph(graph)
result = asyncio.run(engine.run(graph_id=graph.graph_id))
print(result["final_state"]["data"]["counter"])  # 5
