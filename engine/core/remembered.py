"""What `$steps.NODE` stands for: the newest result of a node, as its thread sees it.

A step of a node that some expression of the graph asks for leaves its result in a variable of
the thread, named as it is asked for and hidden from everybody but expressions. It is a variable
like any other: it counts among them, may lie elsewhere, and where threads come together the
order of branches decides whose is newer, so that nobody contradicts anybody.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.graph import Graph, NodeId
from engine.core.values import Json

#: How the name of a hidden variable begins; no name that people give does.
PREFIX = "$steps."


def reducers(graph: Graph) -> dict[str, str]:
    """How contributions to variables add up, those that are hidden included."""
    return {**graph.reducers, **{PREFIX + node: "replace" for node in sorted(graph.remembered)}}


def left(graph: Graph, node: NodeId, result: Json) -> dict[str, Json]:
    """What a step leaves for expressions to recall."""
    return {PREFIX + node: result} if node in graph.remembered else {}


def visible(variables: Mapping[str, Json]) -> dict[str, Json]:
    """The variables that users know of."""
    return {name: variables[name] for name in variables if not name.startswith(PREFIX)}
