"""What users write, checked with `mypy --strict`; see test_typing."""

from __future__ import annotations

import asyncio
from typing import assert_type

from celeriac import (
    Context,
    NodeType,
    WorkflowEngine,
    WorkflowGraph,
    WorkflowState,
    get_global_registry,
    invoke,
    tool,
)
from celeriac.testing import Fault, run


@tool(name="my_tool", description="Does something useful")
def my_tool(arg1: str, arg2: int = 1) -> dict[str, str]:
    return {"result": f"{arg1} - {arg2}"}


assert_type(my_tool("hello", arg2=42), dict[str, str])


def my_node(state: WorkflowState) -> WorkflowState:
    value = state.get("input", 0)
    state.set("output", value * 2)
    state.update({"tool": invoke("my_tool", "hello", 42)})
    return state


async def later(state: WorkflowState, context: Context) -> None:
    state["at"] = context.node


def should_continue(state: WorkflowState) -> bool:
    return bool(state.get("counter", 0) < 5)


graph = WorkflowGraph(name="my_workflow")
graph.add_node("start", node_type=NodeType.START)
graph.add_node("process", func=my_node)
graph.add_node("later", func=later)
graph.add_node(
    "loop", func=my_node, node_type=NodeType.LOOP, condition=should_continue, max_iterations=10
)
graph.add_node("end", func="my_tool", node_type=NodeType.END)
graph.add_edge("start", "process")
graph.add_edge("process", "end", condition=lambda state: bool(state["n"]), label="done")
assert_type(graph.graph_id, str)

engine = WorkflowEngine()
engine.register_graph(graph)
result = asyncio.run(engine.run(graph_id=graph.graph_id, initial_state={"input": 5}))
assert_type(result["final_state"]["error"], str | None)
assert_type(result["execution_log"]["steps"][0]["node"], str)
output: int = result["final_state"]["data"]["output"]

registry = get_global_registry()
registry.add(len, name="length")
assert_type(registry.list()[0]["parameters"]["arg1"]["required"], bool)

record = run("workflow: w", functions={"my_node": my_node}, faults=[Fault(node="my_node")])
assert_type(record.path, tuple[str, ...])
