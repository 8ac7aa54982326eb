# ruff: noqa: D103
"""A graph of one Python function, run in this process: prints 10."""

import asyncio

from celeriac import NodeType, WorkflowEngine, WorkflowGraph, WorkflowState

# Create a graph
graph = WorkflowGraph(name="my_workflow")


# Define node function
def my_node(state: WorkflowState) -> WorkflowState:
    value = state.get("input", 0)
    state.set("output", value * 2)
    return state


# Add nodes
graph.add_node("start", node_type=NodeType.START)
graph.add_node("process", func=my_node)
graph.add_node("end", node_type=NodeType.END)

# Add edges
graph.add_edge("start", "process")
graph.add_edge("process", "end")

# Run the workflow
engine = WorkflowEngine()
engine.register_graph(graph)
result = asyncio.run(engine.run(graph_id=graph.graph_id, initial_state={"input": 5}))
print(result["final_state"]["data"]["output"])  # 10
