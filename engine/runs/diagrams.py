"""Workflows and runs as drawings: a picture, or text for the tools that others use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.core.graph import EdgeId, Graph, NodeId
from engine.errors import NotFound
from engine.formats import diagram, dot, mermaid
from engine.formats.taken import Taken
from engine.platform import Platform
from engine.runs import catalogue, graphs
from engine.store import reads, visits
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """A way to draw a graph, and what such a drawing is as a file."""

    content_type: str
    draw: Callable[[Graph, Taken | None], str]


NOTATIONS: Mapping[str, Notation] = {
    "svg": Notation(content_type="image/svg+xml; charset=utf-8", draw=diagram.svg),
    "mermaid": Notation(content_type="text/vnd.mermaid; charset=utf-8", draw=mermaid.write),
    "dot": Notation(content_type="text/vnd.graphviz; charset=utf-8", draw=dot.write),
}


def of_version(
    platform: Platform, tenant: str, workflow: str, version: str | None, notation: str
) -> str:
    """The drawing of a version, the latest unless one is named. Raises `NotFound`."""
    found = catalogue.find(platform, tenant, workflow, version)
    return NOTATIONS[notation].draw(graphs.parse(found.document), None)


def of_run(platform: Platform, run: RunId, notation: str) -> str:
    """The drawing of the version that a run carries out, its way marked. Raises `NotFound`."""
    with reads.reading(platform.database) as connection:
        head = reads.summary(connection, run)
        if head is None:
            raise NotFound(f"Run not found: {run.run}")
        graph = graphs.load(connection, run.tenant, head.version_id)
        live = frozenset(NodeId(step.node) for step in reads.live_steps(connection, run))
        counted = visits.counted(connection, run)
    nodes: Counter[NodeId] = Counter()
    edges: Counter[EdgeId] = Counter()
    for row in counted:
        if row.what == "node":
            nodes[NodeId(row.name)] += row.times
        else:
            edges[EdgeId(row.name)] += row.times
    return NOTATIONS[notation].draw(graph, Taken(nodes=nodes, edges=edges, live=live))
