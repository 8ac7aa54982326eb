"""Building a graph from Python functions, in the words of seed 000."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import StrEnum
from itertools import chain, count
from typing import Any, TypeAlias
from uuid import uuid4

from celeriac.sdk.state import Context, WorkflowState
from engine.core import simple_graph
from engine.core.graph import Graph
from engine.errors import Invalid

#: What a node runs. It may return the state, a mapping to take over into it, or a result.
NodeFunction: TypeAlias = (
    Callable[[WorkflowState], object] | Callable[[WorkflowState, Context], object]
)
#: What routes: True, False or, of a node, the name of the next one.
Condition: TypeAlias = Callable[[WorkflowState], bool | str | Awaitable[bool | str]]


class NodeType(StrEnum):
    """What a node is for."""

    START = "start"
    STANDARD = "standard"  #: runs its function
    CONDITIONAL = "conditional"  #: its condition names the next node, or answers true or false
    LOOP = "loop"  #: goes round as long as its condition holds, `max_iterations` times at most
    END = "end"


class WorkflowGraph:
    """A graph under construction.

    Functions are Python functions, or names of what is registered already.
    """

    def __init__(self, name: str = "workflow") -> None:
        self.name = name
        self.graph_id = str(uuid4())
        self._nodes: dict[str, dict[str, Any]] = {}
        self._edges: list[dict[str, Any]] = []
        self._functions: dict[str, Callable[..., object]] = {}

    def add_node(
        self,
        name: str,
        func: NodeFunction | str | None = None,
        node_type: NodeType = NodeType.STANDARD,
        condition: Condition | str | None = None,
        max_iterations: int = 100,
    ) -> None:
        """Add a node. Raises `ValueError` when there is one of that name."""
        if name in self._nodes:
            raise ValueError(f"graph {self.name!r} has a node {name!r} already; name another")
        node: dict[str, Any] = {
            "name": name,
            "type": str(node_type),
            "max_iterations": max_iterations,
        }
        if func is not None:
            node["function"] = self._name_of(func, name)
        if condition is not None:
            node["condition"] = self._name_of(condition, f"{name}_condition")
        self._nodes[name] = node

    def add_edge(
        self,
        source: str,
        target: str,
        condition: Callable[[WorkflowState], bool | Awaitable[bool]] | str | None = None,
        label: str | None = None,
    ) -> None:
        """Add an edge. Of a node's edges the first is taken whose condition holds.

        `label="loop"` marks the way back of a loop.
        """
        edge: dict[str, Any] = {"source": source, "target": target}
        if condition is not None:
            edge["condition"] = self._name_of(condition, f"{source}_{target}_condition")
        if label is not None:
            edge["label"] = label
        self._edges.append(edge)

    @property
    def functions(self) -> Mapping[str, Callable[..., object]]:
        """The Python functions of this graph by the names that its nodes use."""
        return dict(self._functions)

    def body(self) -> dict[str, Any]:
        """The graph as `POST /graph/create` takes it."""
        return {
            "name": self.name,
            "nodes": [dict(node) for node in self._nodes.values()],
            "edges": [dict(edge) for edge in self._edges],
        }

    def lowered(self) -> Graph:
        """The graph as the core runs it, made as `POST /graph/create` makes it.

        Raises `Invalid` with everything that is wrong with it.
        """
        found = simple_graph.read(self.body())
        if not isinstance(found, Graph):
            raise Invalid(found, f"the graph {self.name!r} is not valid")
        return found

    def _name_of(self, function: Callable[..., object] | str, otherwise: str) -> str:
        """The name a function goes by here: its own, unless another one has it."""
        if isinstance(function, str):
            return function
        own = getattr(function, "__name__", "")
        names = chain([own] if own.isidentifier() else [], [otherwise], _numbered(otherwise))
        return next(
            name for name in names if self._functions.setdefault(name, function) == function
        )


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}_{number}" for number in count(2))
