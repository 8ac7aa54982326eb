"""Celeriac: durable workflows over Celery and Postgres.

What users import:

- `WorkflowGraph`, `NodeType`: build a graph from Python functions on a `WorkflowState`.
- `WorkflowEngine`: run it here and now, without services.
- `tool`, `get_global_registry`, `invoke`, `ToolError`: functions that steps call by name.
- `AgenticWorkflowEngine`, `StepType`: workflows driven step by step, here or on a platform.
- `Client`: publish, submit and follow on a platform, where a run survives whatever dies.
- `celeriac.agents`: functions for step lists, such as the two ends of a loop.
- `celeriac.testing`: run any workflow in memory, with fake tools, faults and no waiting.
- `celeriac.pytest_plugin`: the same as fixtures of pytest, and the tests that stand in documents.

    from celeriac import NodeType, WorkflowEngine, WorkflowGraph, WorkflowState

    graph = WorkflowGraph(name="double")

    def double(state: WorkflowState) -> WorkflowState:
        state.set("output", state.get("input", 0) * 2)
        return state

    graph.add_node("start", node_type=NodeType.START)
    graph.add_node("double", func=double)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("start", "double")
    graph.add_edge("double", "end")

    engine = WorkflowEngine()
    engine.register_graph(graph)
    result = asyncio.run(engine.run(graph_id=graph.graph_id, initial_state={"input": 5}))
    result["final_state"]["data"]["output"]  # 10

Names are loaded when they are first used, so that `import celeriac` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.sdk.engine import RunResult, WorkflowEngine
    from celeriac.sdk.graph import NodeType, WorkflowGraph
    from celeriac.sdk.state import Context, WorkflowState
    from celeriac.sdk.tools import (
        ToolDefinition,
        ToolError,
        ToolRegistry,
        get_global_registry,
        invoke,
        tool,
    )
    from celeriac.steps import AgenticWorkflowEngine, StepType

_HOMES = {
    "AgenticWorkflowEngine": "celeriac.steps",
    "StepType": "celeriac.steps",
    "Client": "celeriac.client",
    "Context": "celeriac.sdk.state",
    "NodeType": "celeriac.sdk.graph",
    "RunResult": "celeriac.sdk.engine",
    "ToolDefinition": "celeriac.sdk.tools",
    "ToolError": "celeriac.sdk.tools",
    "ToolRegistry": "celeriac.sdk.tools",
    "WorkflowEngine": "celeriac.sdk.engine",
    "WorkflowGraph": "celeriac.sdk.graph",
    "WorkflowState": "celeriac.sdk.state",
    "get_global_registry": "celeriac.sdk.tools",
    "invoke": "celeriac.sdk.tools",
    "tool": "celeriac.sdk.tools",
}

__all__ = [
    "AgenticWorkflowEngine",
    "Client",
    "Context",
    "NodeType",
    "RunResult",
    "StepType",
    "ToolDefinition",
    "ToolError",
    "ToolRegistry",
    "WorkflowEngine",
    "WorkflowGraph",
    "WorkflowState",
    "get_global_registry",
    "invoke",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'celeriac' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
