"""Names that nodes give to places of runs: those after their steps.

Nothing of it is written: which node a place follows its line says, and what it is called the graph.
The last such place has the name as it is, so it can be gone on from without knowing how many laps there
were; each of the earlier ones has its lap beside it, `NAME#LAP`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from engine.core.graph import Graph, NodeId
from engine.store import reads
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a place is called, and who gave it the name: `node:NAME`."""

    name: str
    named_by: str


def names(
    connection: Connection, run: RunId, graph: Graph, steps: Collection[str]
) -> Mapping[str, Named]:
    """What nodes call the places after some settled steps, by step."""
    giving = {node.id: node.checkpoint for node in graph.nodes.values() if node.checkpoint}
    found: dict[str, Named] = {}
    last: Mapping[str, str] | None = None
    for step in steps:
        node, _, lap = step.rpartition("#")
        name = giving.get(NodeId(node))
        if name is None:
            continue
        if last is None:
            last = reads.last_settled(connection, run, [*giving])
        called = name if last.get(node) == step else f"{name}#{lap}"
        found[step] = Named(name=called, named_by=f"node:{node}")
    return found


def giver(graph: Graph, name: str) -> NodeId | None:
    """The node that gives a name, of its last place or of an earlier one."""
    called = name.partition("#")[0]
    return next((node.id for node in graph.nodes.values() if node.checkpoint == called), None)
