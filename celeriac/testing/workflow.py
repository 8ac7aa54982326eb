"""Reading whatever a test calls a workflow, and what it must be given to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from celeriac.sdk.graph import WorkflowGraph
from engine import documents
from engine.core import document
from engine.core.graph import Graph
from engine.core.problem import Problem

#: A document as text, file or data, a graph under construction, or one that is read already.
Workflow: TypeAlias = str | Path | Mapping[str, Any] | WorkflowGraph | Graph


def read(workflow: Workflow) -> tuple[Graph, Mapping[str, Callable[..., object]]]:
    """The graph of a workflow, and the functions that it brings. Raises `Invalid`."""
    match workflow:
        case Graph():
            return workflow, {}
        case WorkflowGraph():
            return workflow.lowered(), workflow.functions
        case Path():
            return documents.read_graph(workflow.read_bytes()), {}
        case str():
            return documents.read_graph(workflow), {}
        case _:
            return documents.graph(dict(workflow)), {}


def missing(
    graph: Graph,
    functions: Mapping[str, Callable[..., object]],
    tools: Mapping[str, Callable[..., object]],
) -> list[Problem]:
    """The functions and tools that a graph names and nobody has given."""
    return [
        Problem(
            path=used.path,
            message=f"{used.kind.capitalize()} not found: {used.name}",
            remedy=f"pass it in {used.kind}s=",
        )
        for used in document.names_used(graph)
        if used.name not in tools and (used.kind == "tool" or used.name not in functions)
    ]
