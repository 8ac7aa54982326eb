from __future__ import annotations

from typing import Any

import pytest

from engine.core import document
from engine.core.graph import EdgeId, Graph, NodeId, Question


def graph(edges: list[Any], **nodes: Any) -> Graph:
    names = {name: {"uses": name} for edge in edges for name in ("a", edge["to"])}
    data: dict[str, Any] = {
        "workflow": "w",
        "start": "a",
        "nodes": {**names, **nodes},
        "edges": edges,
        "origin": {"kind": "test"},
    }
    found = document.read(data)
    assert isinstance(found, Graph), found
    return found


def way(to: str, **facets: Any) -> dict[str, Any]:
    return {"from": "a", "to": to, **facets}


def taken(found: Graph, choice: bool | str | None) -> list[str] | None:
    edges = found.answering(NodeId("a"), choice)
    return None if edges is None else [edge.target for edge in edges]


def questions(found: Graph, *, spent: bool = False) -> list[str]:
    return [
        question.function if question.take is None else f"{question.function}: {question.take}"
        for question in found.questions(NodeId("a"), spent=spent)
    ]


A: dict[str, Any] = {"uses": "a", "choose": "c"}


@pytest.mark.parametrize(
    ("edges", "choice", "targets"),
    [
        ([way("x"), way("y")], None, ["x", "y"]),
        ([], True, []),
        ([way("x"), way("y"), way("z")], True, ["x"]),
        ([way("x"), way("y"), way("z")], False, ["y", "z"]),
        ([way("x")], False, []),
        ([way("x"), way("y", label="true")], True, ["y"]),
        ([way("x"), way("y", label="true")], False, ["x"]),
        ([way("x", label="false"), way("y")], True, ["y"]),
        ([way("x", label="false"), way("y")], False, ["x"]),
        ([way("x"), way("a", label="loop")], True, ["a"]),
        ([way("x"), way("a", label="loop")], False, ["x"]),
        ([way("x", label="yes"), way("y", label="no")], True, ["x"]),
        ([way("x", label="yes"), way("y", label="no")], False, ["y"]),
        ([way("x", label="yes"), way("y", label="no")], "no", ["y"]),
        ([way("x", label="y"), way("y")], "y", ["x"]),
        ([way("x"), way("y")], "y", ["y"]),
        ([way("x", label="yes"), way("y")], "z", ["y"]),
        ([way("x", label="yes")], "z", None),
        ([way("x"), way("y")], "z", None),
        ([way("x", ask="f"), way("y")], "a->x", ["x"]),
        ([way("x", ask="f"), way("y")], None, ["y"]),
        ([way("x", ask="f"), way("y")], "a->y", None),
        ([way("x", ask="f")], None, []),
        ([way("x", ask="f")], False, []),
    ],
)
def test_a_choice_picks_edges(
    edges: list[Any], choice: bool | str | None, targets: list[str] | None
) -> None:
    assert taken(graph(edges, a=A), choice) == targets


def test_a_worker_asks_the_node_and_then_its_edges_until_one_is_certain() -> None:
    edges = [way("x", ask="f"), way("y", ask="g"), way("z"), way("u", ask="h")]
    assert questions(graph(edges, a=A)) == ["c", "f: a->x", "g: a->y"]
    assert questions(graph(edges)) == ["f: a->x", "g: a->y"]


def test_nothing_is_asked_where_nothing_chooses() -> None:
    assert questions(graph([way("x")])) == []


def test_expressions_are_left_to_the_core() -> None:
    assert questions(graph([way("x", when="$a"), way("y")])) == []


def test_a_loop_asks_its_ways_out_behind_its_own_condition() -> None:
    edges = [way("a", label="loop"), way("x", ask="f"), way("y")]
    assert questions(graph(edges, a=A)) == ["c", "f: a->x"]


def test_at_the_bound_ways_back_are_not_asked() -> None:
    edges = [way("a", label="loop", ask="f"), way("x", ask="g"), way("y")]
    assert questions(graph(edges)) == ["f: a->a", "g: a->x"]
    assert questions(graph(edges), spent=True) == ["g: a->x"]


def test_at_the_bound_only_the_ways_out_are_asked() -> None:
    edges = [way("a", label="loop"), way("x", ask="f"), way("y")]
    assert questions(graph(edges, a=A), spent=True) == ["f: a->x"]
    assert questions(graph(edges[:1] + edges[2:], a=A), spent=True) == ["c"]


def test_an_unlabelled_way_back_leads_back_unless_another_is_labelled() -> None:
    found = graph([way("b", label="on"), way("x"), {"from": "b", "to": "a"}])
    assert [edge.id for edge in found.edges if found.leads_back(edge)] == ["a->b", "b->a"]
    found = graph([way("b", label="loop"), way("x"), {"from": "b", "to": "a"}])
    assert found.leads_back(found.edge(EdgeId("a->b")))
    assert not found.leads_back(found.edge(EdgeId("a->x")))


def test_the_loop_of_a_node_does_not_depend_on_the_order_of_keys() -> None:
    edges = [way("b"), {"from": "b", "to": "c"}, {"from": "c", "to": "b"}, {"from": "b", "to": "a"}]
    edges += [{"from": "c", "to": "end"}]
    one = graph(edges)
    other = graph(edges, **{name: {"uses": name} for name in "cb"})
    assert one == other
    for node in one.nodes:
        assert one.loop_of(node) == other.loop_of(node)
    assert one.loop_of(NodeId("c")) == {"b", "c"}
    assert one.loop_of(NodeId("end")) == frozenset()


def test_a_question_is_a_function_and_what_it_decides() -> None:
    (question,) = graph([way("x", ask="f")]).questions(NodeId("a"))
    assert question == Question(function="f", take=EdgeId("a->x"))


def test_a_graph_knows_whether_it_locks_starts_runs_or_undoes() -> None:
    way_out = [{"from": "a", "to": "end"}]
    child = {"kind": "workflow", "workflow": "inner"}
    plain = graph(way_out, a={"uses": "f"})
    assert (plain.locks, plain.children, plain.undoes) == (False, False, False)
    assert graph(way_out, a={"uses": "f", "lock": "l"}).locks
    assert graph(way_out, a=child).children
    assert graph(way_out, a={"kind": "map", "over": [], "do": child}).children
    assert graph(way_out, a={"uses": "f", "compensate": "g"}).undoes


def test_a_node_within_another_has_a_name_of_its_own() -> None:
    edges = [{"from": "a", "to": "end"}]
    ending = {"kind": "end"}
    found = graph(edges, end=ending, a={"kind": "map", "over": [], "do": "f", "compensate": "g@2"})
    assert found.node(NodeId("a/item")).uses == "f"
    assert found.node(NodeId("a/undo")).uses == "g@2"
    assert [use.text for use in document.names_used(found)] == ["f", "g@2"]
