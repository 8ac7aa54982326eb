"""What a drawing and its sidecar say together, and what a drawing says alone."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings

from engine.core import document
from engine.core.graph import Graph, Role
from engine.formats import dot, mermaid
from engine.formats import drawing as drawings
from engine.formats.mermaid import words
from tests.support.documents import GOOD
from tests.support.graphs import graphs

NOTATIONS = [mermaid, dot]
EXAMPLES = 150


def plain(data: Any) -> Any:
    """A document in which nothing is said that goes without saying."""
    assert isinstance(data, dict), data
    nodes = {
        name: {key: value for key, value in fields.items() if (key, value) != ("kind", "function")}
        for name, fields in data["nodes"].items()
    }
    return {**data, "nodes": nodes, "edges": data.get("edges") or []}


@pytest.mark.parametrize("notation", NOTATIONS, ids=lambda each: each.__name__)
@settings(max_examples=EXAMPLES)
@given(graph=graphs())
def test_a_drawing_and_its_sidecar_are_the_whole_graph(notation: ModuleType, graph: Graph) -> None:
    data = notation.read(notation.write(graph), notation.sidecar(graph))
    assert plain(data) == plain(document.write(graph))


@pytest.mark.parametrize("notation", NOTATIONS, ids=lambda each: each.__name__)
@settings(max_examples=EXAMPLES)
@given(graph=graphs())
def test_a_drawing_alone_says_nodes_titles_roles_and_edges(
    notation: ModuleType, graph: Graph
) -> None:
    data: Any = notation.read(notation.write(graph))
    nodes = {node.id: node for node in drawings.ordered(graph)}
    assert len(data["nodes"]) == len(nodes)
    names = dict(zip(data["nodes"], data["nodes"] if notation is dot else nodes, strict=True))
    for name, fields in data["nodes"].items():
        node = nodes[names[name]]
        assert (fields.get("role") == "plan") == (node.role is Role.PLAN)
        passed = fields.get("kind") in {"start", "end", "pass", "milestone"}
        assert passed == (node.role is Role.CONTROL)
        title = drawings.one_line(node.title or "")
        assert fields.get("title", name) == (title or fields.get("title", name))
        if notation is dot or (words.is_plain(node.id) and not words.stands_for(node.id, title)):
            assert name == node.id
    ends = [(names[edge["from"]], names[edge["to"]]) for edge in data["edges"]]
    assert ends == [(edge.source, edge.target) for edge in graph.edges]


@pytest.mark.parametrize("notation", NOTATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", GOOD)
def test_documents_come_back_as_the_graph_that_they_were(notation: ModuleType, name: str) -> None:
    graph = document.read(GOOD[name])
    assert isinstance(graph, Graph)
    assert notation.read_graph(notation.write(graph), notation.sidecar(graph)) == graph


@pytest.mark.parametrize("notation", NOTATIONS, ids=lambda each: each.__name__)
def test_a_sidecar_says_no_more_than_it_must(notation: ModuleType) -> None:
    graph = document.read(
        {
            "workflow": "w",
            "nodes": {
                "draft": {"uses": "draft", "title": "Write it"},
                "grade": {"uses": "rate"},
                "decide": {
                    "role": "plan",
                    "rules": [{"when": "$score < 7", "next": ["draft"]}, {"next": ["end"]}],
                    "title": "Go on?",
                },
            },
            "edges": [
                "draft -> grade",
                {"from": "grade", "to": "decide", "title": "the score"},
                {"from": "decide", "to": "draft", "label": "loop"},
                {"from": "decide", "to": "end", "type": "final"},
            ],
        }
    )
    assert isinstance(graph, Graph), graph
    found = notation.sidecar(graph)
    assert found.pop("start") == "draft"
    rules = {"decide": {"rules": [{"when": "$score < 7", "next": ["draft"]}, {"next": ["end"]}]}}
    if notation is mermaid:
        assert found == {
            "nodes": {"grade": {"uses": "rate"}, **rules},
            "edges": [
                {"from": "decide", "to": "draft", "label": "loop"},
                {"from": "decide", "to": "end", "type": "final"},
            ],
        }
    else:
        assert found == {"nodes": rules}
