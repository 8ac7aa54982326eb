from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import document, simple_graph
from engine.core.graph import Graph, NodeId
from engine.core.problem import Problem

#: The graph of the seed's README, character for character.
SIMPLE: dict[str, Any] = {
    "name": "simple",
    "start_node": "start",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "increment", "type": "standard", "function": "increment"},
        {"name": "end", "type": "end"},
    ],
    "edges": [
        {"source": "start", "target": "increment"},
        {"source": "increment", "target": "end"},
    ],
}


def body(*edges: str, **types: Any) -> dict[str, Any]:
    """Nodes by name, each a type or its fields; edges as `a b`, `a b label` or `a b ?function`."""
    nodes = [{"name": "start", "type": "start"}] if "start" not in types else []
    for name, given_as in types.items():
        fields = given_as if isinstance(given_as, dict) else {"type": given_as}
        nodes.append({"name": name, **fields})
    if "end" not in types:
        nodes.append({"name": "end", "type": "end"})
    drawn = []
    for edge in edges:
        source, target, *more = edge.split()
        labels = [word for word in more if not word.startswith("?")]
        asked = [word[1:] for word in more if word.startswith("?")]
        drawn.append(
            {
                "source": source,
                "target": target,
                "label": labels[0] if labels else None,
                "condition": asked[0] if asked else None,
            }
        )
    return {"nodes": nodes, "edges": drawn}


def graph(data: Any) -> Graph:
    found = simple_graph.read(data)
    assert isinstance(found, Graph), found
    return found


def problems(data: Any) -> tuple[Problem, ...]:
    found = simple_graph.read(data)
    assert not isinstance(found, Graph)
    return found


def messages(data: Any) -> list[str]:
    return [problem.message for problem in problems(data)]


def targets(found: Graph, node: str, choice: bool | str | None) -> list[str] | None:
    edges = found.answering(NodeId(node), choice)
    return None if edges is None else [edge.target for edge in edges]


# --- what is refused, in the words that its users know ---------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"nodes": [{"name": "start", "type": "start"}]}, ["Graph missing end node"]),
        ({}, ["Graph missing end node", "Graph missing start node"]),
        ({**SIMPLE, "start_node": "nope"}, ["Start node not found: nope"]),
        (body("start end", z="standard"), ["Unreachable nodes: z"]),
        (body("start end", y="standard", z="end"), ["Unreachable nodes: y, z"]),
        (
            body("start a", "a b", "b a", "b end", a="standard", b="standard"),
            ["Cycle detected in graph"],
        ),
        (body("start a", "a a", "a end", a="loop"), ["Cycle detected in graph"]),
        (body("start nope", "start end"), ["Edge references unknown node: nope"]),
        (body("nope end", "start end"), ["Edge references unknown node: nope"]),
        (
            {**SIMPLE, "nodes": [*SIMPLE["nodes"], {"name": "end", "type": "end"}]},
            ["Duplicate node name: end"],
        ),
        (body("start end", "end start loop"), ["End node has an outgoing edge: end"]),
        (body("start a", "a end", a="robot"), ["Unknown node type: robot"]),
        (
            body("start a", "a end", a={"function": "not a name"}),
            ["Function not found: not a name"],
        ),
        (
            body("start a", "a end", a={"condition": "c"}),
            ["Node a is of type standard and has a condition"],
        ),
        (
            body("start a", "a end ?f", a={"type": "conditional", "condition": "c"}),
            ["Node a chooses this edge by its own condition"],
        ),
        (
            body("start a", "a a loop ?f", "a end", a={"type": "loop", "condition": "c"}),
            ["Node a chooses this edge by its own condition"],
        ),
    ],
)
def test_a_graph_that_breaks_a_rule_is_refused(data: Any, expected: list[str]) -> None:
    assert messages(data) == expected


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], ""),
        ({"nodes": {}}, "nodes"),
        ({"nodes": [3]}, "nodes[0]"),
        ({"nodes": [{"type": "end"}]}, "nodes[0].name"),
        ({"nodes": [{"name": 3}]}, "nodes[0].name"),
        ({"nodes": [{"name": "a", "type": 3}]}, "nodes[0].type"),
        ({"nodes": [{"name": "a", "type": ["end"]}]}, "nodes[0].type"),
        ({"nodes": [{"name": "a", "function": 3}]}, "nodes[0].function"),
        ({"nodes": [{"name": "a", "max_iterations": 0}]}, "nodes[0].max_iterations"),
        ({"nodes": [{"name": "a", "max_iterations": "5"}]}, "nodes[0].max_iterations"),
        ({"nodes": [{"name": str(n)} for n in range(1001)]}, "nodes"),
        ({"edges": [{"source": "a"}]}, "edges[0].target"),
        ({"edges": [{"source": "a", "target": "b", "label": 3}]}, "edges[0].label"),
        ({"edges": "a"}, "edges"),
        ({"name": 3}, "name"),
        ({"start_node": 3}, "start_node"),
        ({"name": "\x00"}, "name"),
    ],
)
def test_what_has_the_wrong_form_is_refused_with_its_path(data: Any, path: str) -> None:
    assert path in {problem.path for problem in problems(data)}


def test_every_problem_is_found_at_once() -> None:
    data = body("start a", "a b", "b a", "a ghost", a={"condition": "c"}, b="standard")
    data["nodes"].pop()
    assert messages(data) == [
        "Node a is of type standard and has a condition",
        "Graph missing end node",
        "Edge references unknown node: ghost",
    ]


# --- what is accepted ------------------------------------------------------------------------------


def test_the_published_graph_is_accepted_verbatim() -> None:
    found = graph(SIMPLE)
    assert document.write(found) | {"origin": None} == {
        "workflow": "simple",
        "start": "start",
        "nodes": {
            "start": {"kind": "start"},
            "increment": {"uses": "increment"},
            "end": {"kind": "end"},
        },
        "edges": [{"from": "start", "to": "increment"}, {"from": "increment", "to": "end"}],
        "origin": None,
    }
    info = simple_graph.info(found)
    assert info["name"] == "simple"
    assert [len(info["nodes"]), len(info["edges"])] == [3, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", simple_graph.TYPES)
def test_every_type_is_accepted_and_given_back(kind: str) -> None:
    found = graph(body("start a", *(["a end"] if kind != "end" else ["start end"]), a=kind))
    info: Any = simple_graph.info(found)
    assert [node["type"] for node in info["nodes"] if node["name"] == "a"] == [kind]


def test_nulls_and_unknown_fields_say_nothing() -> None:
    data = body("start a", "a end", a={"function": None, "condition": "", "x": 1})
    assert graph({**data, "name": "workflow", "start_node": None, "more": 1}) == graph(
        body("start a", "a end", a="standard")
    )


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (SIMPLE, "start"),
        ({**SIMPLE, "start_node": None}, "start"),
        ({**body("a start", "start end", a="standard"), "start_node": "a"}, "a"),
        (body("a b", "b end", start="standard", a="standard", b="start"), None),
        (body("a end", start="standard", a="standard"), None),
    ],
)
def test_a_run_starts_at_the_start(data: Any, start: str | None) -> None:
    if start is None:
        assert messages(data)[0].startswith("Unreachable nodes")
    else:
        assert graph(data).start == start


def test_without_a_start_the_first_node_is_it() -> None:
    data = body("a end", a={"function": "f"}, start="end")
    data["nodes"] = [node for node in data["nodes"] if node["name"] != "start"]
    found = graph(data)
    assert found.start == "a"
    assert found.nodes[NodeId("a")].uses == "f"


def test_starts_and_ends_may_have_functions() -> None:
    found = graph(
        body(
            "start end",
            start={"type": "start", "function": "f"},
            end={"type": "end", "function": "g"},
        )
    )
    assert [(node.kind, node.uses) for node in found.nodes.values()] == [
        ("function", "f"),
        ("function", "g"),
    ]
    assert simple_graph.info(found)["end_nodes"] == ["end"]


def test_a_second_start_is_passed() -> None:
    found = graph(body("start a", "a end", a="start"))
    assert [node.kind for node in found.nodes.values()] == ["start", "pass", "end"]


@pytest.mark.parametrize(
    ("edges", "choice", "expected"),
    [
        (["a x", "a y"], True, ["x"]),
        (["a x", "a y"], False, ["y"]),
        (["a x false", "a y true"], True, ["y"]),
        (["a x false", "a y true"], False, ["x"]),
        (["a x yes", "a y no"], True, ["x"]),
        (["a x yes", "a y no"], False, ["y"]),
        (["a x yes", "a y no"], "no", ["y"]),
        (["a x yes", "a y no"], "x", ["x"]),
        (["a x yes", "a y no"], "z", None),
        (["a x", "a y"], "z", None),
    ],
)
def test_a_conditional_chooses_by_name_label_or_order(
    edges: list[str], choice: bool | str, expected: list[str] | None
) -> None:
    kinds = {"a": {"type": "conditional", "condition": "c"}, "x": "end", "y": "end"}
    found = graph(body("start a", "start end", *edges, **kinds))
    assert found.nodes[NodeId("a")].choose == "c"
    assert found.nodes[NodeId("a")].uses is None
    assert targets(found, "a", choice) == expected


def test_a_loop_repeats_itself_while_its_condition_holds() -> None:
    loop = {"type": "loop", "function": "f", "condition": "c", "max_iterations": 10}
    found = graph(body("start a", "a end", a=loop))
    assert targets(found, "a", choice=True) == ["a"]
    assert targets(found, "a", choice=False) == ["end"]
    assert found.nodes[NodeId("a")].max_iterations == 10
    assert found.loop_of(NodeId("a")) == {"a"}
    assert all(found.leads_back(edge) for edge in found.answering(NodeId("a"), choice=True) or ())


def test_the_edge_that_was_added_is_not_given_back() -> None:
    found = graph(body("start a", "a end", a={"type": "loop", "condition": "c"}))
    info: Any = simple_graph.info(found)
    assert len(found.edges) == 3
    assert info["edges"] == [
        {"source": "start", "target": "a", "label": None},
        {"source": "a", "target": "end", "label": None},
    ]


def test_a_loop_goes_back_over_the_edge_labelled_loop() -> None:
    loop = {"type": "loop", "condition": "c"}
    found = graph(body("start b", "b a", "a end", "a b loop", a=loop, b={"function": "f"}))
    assert targets(found, "a", choice=True) == ["b"]
    assert targets(found, "a", choice=False) == ["end"]
    assert found.loop_of(NodeId("a")) == {"a", "b"}


def test_conditions_of_edges_are_asked_in_order_behind_the_nodes_function() -> None:
    found = graph(body("start end ?f", "start a ?g", "start b", a="end", b="end"))
    assert [
        (question.function, question.take) for question in found.questions(NodeId("start"))
    ] == [("f", "start->end"), ("g", "start->a")]
    assert found.nodes[NodeId("start")].kind == "function"
    assert targets(found, "start", "start->a") == ["a"]
    assert targets(found, "start", None) == ["b"]


def test_edges_that_are_never_taken_are_kept_as_they_always_were() -> None:
    found = graph(body("start a", "start b", "start b", "a end", a="standard", b="end"))
    assert len(found.edges) == 4


def test_a_graph_of_the_other_language_is_described_in_this_one() -> None:
    found = document.read(
        {
            "workflow": "w",
            "nodes": {
                "s": {"kind": "start"},
                "work": {"uses": "f"},
                "repeat": {"uses": "g", "choose": "c", "max_iterations": 5},
                "pick": {"choose": "p"},
            },
            "edges": [
                "s -> work -> repeat",
                {"from": "repeat", "to": "work", "label": "loop"},
                "repeat -> pick -> end",
            ],
        }
    )
    assert isinstance(found, Graph)
    info: Any = simple_graph.info(found)
    assert {node["name"]: node["type"] for node in info["nodes"]} == {
        "s": "start",
        "work": "standard",
        "repeat": "loop",
        "pick": "conditional",
        "end": "end",
    }
    assert info["edges"][2] == {"source": "repeat", "target": "work", "label": "loop"}
    assert (info["start_node"], info["end_nodes"]) == ("s", ["end"])


def test_functions_are_named_where_they_are_used() -> None:
    found = graph(
        body("start a", "a end ?g", "a start loop", a={"type": "standard", "function": "f"})
    )
    assert [(each.kind, each.name) for each in document.names_used(found)] == [
        ("function", "f"),
        ("function", "g"),
    ]


NAMES = st.sampled_from(["start", "a", "b", "end"])
BODIES = st.fixed_dictionaries(
    {
        "nodes": st.fixed_dictionaries(
            {},
            optional={
                name: st.fixed_dictionaries(
                    {"name": st.just(name), "type": st.sampled_from(simple_graph.TYPES)},
                    optional={
                        "function": st.just("f"),
                        "condition": st.just("c"),
                        "max_iterations": st.integers(1, 9),
                    },
                )
                for name in ["start", "a", "b", "end"]
            },
        ).map(lambda nodes: list(nodes.values())),
        "edges": st.lists(
            st.fixed_dictionaries(
                {"source": NAMES, "target": NAMES},
                optional={"label": st.sampled_from(["loop", "true"]), "condition": st.just("g")},
            ),
            max_size=6,
        ),
    }
)


@given(BODIES)
@settings(max_examples=400, deadline=None)
def test_whatever_passes_here_passes_as_a_document_too(data: dict[str, Any]) -> None:
    found = simple_graph.read(data)
    if isinstance(found, Graph):
        assert document.read(document.write(found)) == found
        info: Any = simple_graph.info(found)
        assert [node["name"] for node in info["nodes"]] == [node["name"] for node in data["nodes"]]
        assert len(info["edges"]) == len(data["edges"])
    else:
        # Everything is caught in this language's own words.
        assert not any(problem.path.startswith(("nodes.", "edges.")) for problem in found), found
