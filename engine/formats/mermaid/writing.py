"""From a graph to the text of a flowchart."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping

from engine.core.graph import Edge, Graph, Node
from engine.formats import drawing as drawings
from engine.formats.mermaid import words
from engine.formats.taken import Taken

_LINES: Mapping[str, str] = {"error": "-.->", "parallel": "==>"}
#: Colours that can be told apart on light and on dark.
_TAKEN = "stroke:#1a7f37,stroke-width:3px"
_LIVE = "stroke:#bf8700,stroke-width:3px,stroke-dasharray:5 3"


def text(graph: Graph, taken: Taken | None = None) -> str:
    """The flowchart of a graph, or of a run of it."""
    ids = {name: id for id, name in names(graph).items()}  # noqa: A001  # what Mermaid calls it
    title = json.dumps(graph.workflow, ensure_ascii=False)
    lines = ["---", f"title: {title}", "---", "flowchart TD"]
    lines += [f"    {_node(node, ids, taken)}" for node in drawings.ordered(graph)]
    lines += [f"    {_edge(graph, edge, ids, taken)}" for edge in graph.edges]
    if taken is not None:
        lines += [f"    {line}" for line in _marked(graph, ids, taken)]
    return "\n".join(lines) + "\n"


def names(graph: Graph) -> dict[str, str]:
    """The name of each node by the id that it is drawn with."""
    found: dict[str, str] = {node: node for node in graph.nodes if words.is_plain(node)}
    for node in graph.nodes:
        if not words.is_plain(node):
            word = words.alias(node)
            numbered = (
                f"{word}{number or ''}" for number in itertools.chain([0], itertools.count(2))
            )
            found[next(each for each in numbered if each not in found)] = node
    return found


def _node(node: Node, ids: Mapping[str, str], taken: Taken | None) -> str:
    label = _quoted(
        drawings.counted(drawings.node_caption(node), taken.nodes.get(node.id) if taken else 0)
    )
    match drawings.shape(node):
        case "plan":
            return f"{ids[node.id]}{{{{{label}}}}}"
        case "control":
            return f"{ids[node.id]}(({label}))"
        case _:
            return f"{ids[node.id]}[{label}]"


def _edge(graph: Graph, edge: Edge, ids: Mapping[str, str], taken: Taken | None) -> str:
    line = _LINES.get(drawings.style(graph, edge), "-->")
    said = drawings.edge_caption(edge) or ""
    label = drawings.counted(said, taken.edges.get(edge.id) if taken else 0)
    return f"{ids[edge.source]} {line}{f'|{_quoted(label)}|' if label else ''} {ids[edge.target]}"


def _marked(graph: Graph, ids: Mapping[str, str], taken: Taken) -> Iterator[str]:
    """What shows the way that a run took."""
    live = [ids[node] for node in graph.nodes if node in taken.live]
    visited = [ids[n] for n in graph.nodes if taken.nodes.get(n) and n not in taken.live]
    edges = [str(index) for index, edge in enumerate(graph.edges) if taken.edges.get(edge.id)]
    yield f"classDef taken {_TAKEN}"
    yield f"classDef live {_LIVE}"
    if visited:
        yield f"class {','.join(visited)} taken"
    if live:
        yield f"class {','.join(live)} live"
    if edges:
        yield f"linkStyle {','.join(edges)} {_TAKEN}"


def _quoted(text: str) -> str:
    """A text in quotes, with entities for what means something there."""
    inner = re.sub(r'[#"&<>`]', lambda found: f"#{ord(found[0])};", drawings.one_line(text))
    return f'"{inner}"'
