"""Reading whatever a test calls a workflow, and what it must be given to run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from celeriac.sdk.graph import WorkflowGraph
from engine import documents
from engine.core import document
from engine.core.document import vocabulary as words
from engine.core.graph import Graph, Node
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
    workflows: Mapping[str, Graph] | None = None,
    nodes: Collection[str] = (),
) -> list[Problem]:
    """What a graph names, or one of the workflows that it may run, and nobody has given.

    What would be called by `nodes` is not needed: something stands in their place.
    """
    given = workflows or {}
    every = [("", graph), *((f"workflows.{name}.", other) for name, other in given.items())]
    return [
        *(
            Problem(
                path=f"{before}{one.place(node.id)}.kind",
                message=f"Kind not found: {node.kind}",
                remedy=f"pass what stands for it in tools=, as {node.kind}",
            )
            for before, one in every
            for node in one.nodes.values()
            if is_foreign(node) and node.kind not in tools and node.id not in nodes
        ),
        *_unnamed(every, functions, tools, given, nodes),
    ]


def _stands(graph: Graph, used: document.Reference, nodes: Collection[str]) -> bool:
    """Whether a name is that of what a node calls in whose place something stands."""
    for name in nodes:
        node, _, inner = name.partition("/")
        within = {"item": ".do", "undo": ".compensate"}.get(inner, "")
        place, _, field = used.path.rpartition(".")
        if field != "choose" and place == f"{graph.place(node)}{within}":
            return True
    return False


def is_foreign(node: Node) -> bool:
    """Whether a node is of a kind that an installed package brings."""
    return words.matches(words.FOREIGN_KIND, node.kind)


def _unnamed(
    every: Sequence[tuple[str, Graph]],
    functions: Mapping[str, Callable[..., object]],
    tools: Mapping[str, Callable[..., object]],
    given: Mapping[str, Graph],
    nodes: Collection[str],
) -> list[Problem]:
    return [
        Problem(
            path=before + used.path,
            message=f"{used.kind.capitalize()} not found: {used.name}",
            remedy=f"pass it in {used.kind}s=",
        )
        for before, one in every
        for used in document.names_used(one)
        if not _given(one, used, functions, tools, given) and not _stands(one, used, nodes)
    ]


def _given(
    graph: Graph,
    used: document.Reference,
    functions: Mapping[str, object],
    tools: Mapping[str, object],
    workflows: Mapping[str, object],
) -> bool:
    match used.kind:
        case "workflow":
            return used.name in workflows or used.name == graph.workflow
        case "tool":
            return used.name in tools
        case _:
            return used.name in functions or used.name in tools
