"""From a graph to the text of a DOT drawing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.core import document
from engine.core.graph import Edge, Graph, Node, Role
from engine.core.values import Json
from engine.formats import drawing as drawings
from engine.formats.dot import words
from engine.formats.taken import Taken

_SHAPES: Mapping[str, str] = {"plan": "hexagon", "control": "circle"}
_STYLES: Mapping[str, str] = {"error": "dashed", "parallel": "bold"}
_TAKEN = {"color": "#1a7f37", "penwidth": "2.5"}
_LIVE = {"color": "#bf8700", "penwidth": "2.5", "style": "dashed"}


def text(graph: Graph, taken: Taken | None = None) -> str:
    """The DOT drawing of a graph, or of a run of it."""
    whole = document.write(graph)
    # A step list says nothing of nodes and edges: what is drawn of it is all there is.
    nodes = whole.get("nodes", {node: {} for node in graph.nodes})
    edges = whole.get("edges") or [{} for _ in graph.edges]
    assert isinstance(nodes, dict)
    assert isinstance(edges, list)
    lines = [f"digraph {words.name(graph.workflow)} {{", '  node [shape="box"];']
    lines += [
        f"  {words.name(node.id)} {_listed(_node(node, nodes[node.id], taken))};"
        for node in drawings.ordered(graph)
    ]
    for edge, fields in zip(graph.edges, edges, strict=True):
        attributes = _listed(_edge(graph, edge, fields, taken))
        arrow = f"{words.name(edge.source)} -> {words.name(edge.target)}"
        lines.append(f"  {arrow} {attributes}".rstrip() + ";")
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node, fields: Json, taken: Taken | None) -> dict[str, str]:
    found = {"type": node.kind if node.role is Role.CONTROL else node.role.value}
    if found["type"] not in (*words.ROLES, *words.PASSED):
        found["type"] = "pass"
    count = taken.nodes.get(node.id) if taken else 0
    label = drawings.counted(drawings.node_caption(node), count)
    if label != node.id:
        found["label"] = label
    if (outline := drawings.shape(node)) in _SHAPES:
        found["shape"] = _SHAPES[outline]
    said = dict(_said(fields, words.NODE))
    if said.get("kind") == found["type"]:
        del said["kind"]
    found.update(said)
    if taken and node.id in taken.live:
        found.update(_LIVE)
    elif count:
        found.update(_TAKEN)
    return found


def _edge(graph: Graph, edge: Edge, fields: Json, taken: Taken | None) -> dict[str, str]:
    count = taken.edges.get(edge.id) if taken else 0
    label = drawings.counted(drawings.edge_caption(edge) or "", count)
    found = {"label": label} if label else {}
    found.update(_said(fields, words.EDGE))
    if style := _STYLES.get(drawings.style(graph, edge)):
        found["style"] = style
    return {**found, **_TAKEN} if count else found


def _said(fields: Json, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The fields of a document that have attributes of their own."""
    assert isinstance(fields, dict)
    for attribute, name in known.items():
        value = fields.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield attribute, str(value)


def _listed(attributes: Mapping[str, str]) -> str:
    listed = ", ".join(f"{name}={words.quoted(value)}" for name, value in attributes.items())
    return f"[{listed}]" if listed else ""
