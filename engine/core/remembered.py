"""What `$steps.NODE` stands for: the newest result of a node, as its thread sees it.

A step of a node that some expression of the graph asks for leaves its result in a variable of
the thread, hidden from everybody but expressions. Where threads come together the order of
branches decides whose is newer; nobody contradicts anybody. The names of these variables are
told once, when a run is submitted, among the reducers.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.graph import Graph, NodeId
from engine.core.references import Read
from engine.core.values import Json, Value, marked, plain

#: How the name of a hidden variable begins; no name of a document does.
PREFIX = "$steps."


def reducers(graph: Graph) -> dict[str, str]:
    """How contributions to variables add up, those that are hidden included."""
    return {**graph.reducers, **{PREFIX + node: "replace" for node in sorted(graph.remembered)}}


def left(reducers: Mapping[str, str], node: NodeId, result: Value | None) -> dict[str, Json]:
    """What a step leaves for expressions to recall."""
    name = PREFIX + node
    return {name: plain(result)} if name in reducers and result is not None else {}


def visible(variables: Mapping[str, Json]) -> dict[str, Json]:
    """The variables that users know of."""
    return {name: value for name, value in variables.items() if not name.startswith(PREFIX)}


def names(variables: Mapping[str, Json], read: Read) -> dict[str, Json]:
    """What names stand for in expressions: each variable, and `steps` for what is recalled."""
    steps = _Steps(
        {
            name.removeprefix(PREFIX): value
            for name, value in variables.items()
            if name.startswith(PREFIX)
        }
    )
    steps.read = read
    return {**visible(variables), "steps": steps}


class _Steps(dict[str, Json]):
    """Results by their node, of which those that lie elsewhere are read when they are asked for."""

    read: Read

    def get(self, node: str, default: Json = None) -> Json:  # type: ignore[override]  # by text alone
        value = super().get(node, default)
        ref = marked(value)
        return value if ref is None else self.read(ref)
