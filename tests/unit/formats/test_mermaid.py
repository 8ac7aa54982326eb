from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import documents
from engine.core import document
from engine.core.graph import Arrive, Graph, Role, Route
from engine.core.problem import Problem
from engine.core.values import Json
from engine.formats import mermaid
from engine.formats.taken import Taken
from tests.support.graphs import SIGNS, graphs
from tests.support.services import ROOT

EXAMPLES = ROOT / "examples"


def read(text: str, sidecar: Json = None) -> dict[str, Any]:
    found = mermaid.read(text, sidecar)
    assert isinstance(found, dict), found
    return found


def drawn(*lines: str) -> dict[str, Any]:
    return read("\n".join(["graph TD", *lines]))


def edges(*lines: str) -> list[tuple[str, str, str | None]]:
    return [(e["from"], e["to"], e.get("title")) for e in drawn(*lines)["edges"]]


def refused(text: str, sidecar: Json = None) -> tuple[Problem, ...]:
    found = mermaid.read(text, sidecar)
    assert isinstance(found, tuple)
    assert all(problem.message and problem.remedy for problem in found)
    return found


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing is drawn (line 1)"),
        ("\n %% only this\n", "nothing is drawn (line 3)"),
        ("graph TD", "nothing is drawn"),
        ("sequenceDiagram\n  A->>B: hi", "'sequenceDiagram' begins no flowchart (line 1)"),
        ("A --> B", "'A --> B' begins no flowchart"),
        ("graphs TD\nA", "begins no flowchart"),
        ("graph TD\nA --- B", "a line without a head leads nowhere (line 2)"),
        ("graph TD\nA -- text --- B", "a line without a head"),
        ("graph TD\nA -- text\nB", "an arrow does not end (line 2)"),
        ("graph TD\nA -->|text\nB", "the text of an arrow does not end"),
        ("graph TD\nA -->", "'the end of the line' is no node (line 2)"),
        ("graph TD\nA & --> B", "is no node"),
        (
            "graph TD\n\nA[text",
            "the text that begins with 'text' does not end as it began (line 3)",
        ),
        ("graph TD\nA[f(x)]", "does not end as it began"),
        ('graph TD\nA["text]', "does not end as it began"),
        ('graph TD\nA["text"', "does not end as it began"),
        ("graph TD\nA{{text}", "does not end as it began"),
        ("graph TD\nA -> B", "'-> B' cannot be read (line 2)"),
        ("graph TD\nA o--> B", "an arrow whose ends do not match"),
        ("graph TD\nA B", "'B' cannot be read"),
        ("graph TD\nA@{ shape: hex", "`@{` does not end"),
        ("graph TD\nend", "`end` closes no subgraph"),
        ("graph TD\nsubgraph a\nB", "a subgraph does not end (line 2)"),
        (
            "graph TD\nsubgraph a\nB\nend\nC --> a",
            "'a' is a subgraph, and arrows lead to nodes (line 5)",
        ),
        ("graph TD\nsubgraph a;" * 65, "subgraphs in more than 64 others"),
        ("graph TD\nÄ --> B", "'Ä' is not a name for a node (line 2)"),
        ("graph TD\na/b --> B", "'a/b' is not a name for a node"),
        ("graph TD\n" + "x" * 65, "is not a name for a node"),
        ("graph TD\nA\x00", "NUL"),
        ("graph TD\nA[\ud800]", "surrogate"),
        ("graph TD\n" + "A;" * 524_289, "more than 1048576 bytes"),
        (
            "graph TD\n" + "\n".join(f"n{i}" for i in range(1001)),
            "more than 1000 nodes (line 1002)",
        ),
        (
            "graph TD\n" + " & ".join("a" * 71) + "-->" + " & ".join("b" * 71),
            "more than 5000 edges",
        ),
    ],
)
def test_what_is_no_flowchart_is_refused_with_its_line(text: str, message: str) -> None:
    found = refused(text)
    assert any(message in problem.message for problem in found), found


def test_every_line_that_cannot_be_read_is_told_at_once() -> None:
    found = refused("graph TD\nA -> B\nB --> C\nC --- D\nD[x\n")
    assert [problem.message[-8:] for problem in found] == ["(line 2)", "(line 4)", "(line 5)"]


def test_no_more_is_told_than_anybody_reads() -> None:
    assert len(refused("graph TD\n" + "?? !!\n" * 5000)) == 100


@pytest.mark.parametrize(
    "text",
    [
        "A[" * 300_000,
        'A["' * 300_000,
        "A --" * 250_000,
        "A -- " + "-." * 500_000,
        "-" * 1_000_000,
        "A" + "-" * 1_000_000,
        "A " + " " * 1_000_000 + "B",
        "A[" + " <br" * 250_000,
        "A[" + " " * 15_000 + "<br]\n" * 60,
        "%%{" * 300_000,
        "accDescr {" * 100_000,
        "style a b;" * 100_000,
        'style a "b;' * 90_000,
        "A@{ " * 250_000,
        "A e@" * 250_000,
        "subgraph a\n" * 90_000,
        "A & " * 250_000,
        "(" * 1_000_000,
        "#" * 1_000_000,
        "A[" + "&#" * 9_000 + "]\n" * 100_000,
        ";\n" * 500_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_is_answered_soon(text: str) -> None:
    began = time.thread_time()
    assert mermaid.read("graph TD\n" + text) is not None
    assert time.thread_time() - began < 5


@settings(max_examples=400)
@given(
    st.lists(
        SIGNS
        | st.sampled_from(["A", "B", "\n", " ", "[", "]", "(", ")", "{", "}", "|", "&", "-- x "])
        | st.sampled_from(
            ["subgraph ", "end", "style A x", "==>", "-.->", "~~~", ":::c", "<", "e1@"]
        )
        | st.text(max_size=5),
        max_size=30,
    ).map("".join)
)
def test_whatever_is_sent_is_read_or_told_what_is_wrong(text: str) -> None:
    for whole in (text, f"graph TD\n{text}", f"---\n{text}\n---\ngraph TD\n{text}"):
        found = mermaid.read(whole)
        assert isinstance(found, dict) or all(isinstance(each, Problem) for each in found)
        document.read(found if isinstance(found, dict) else None)


@pytest.mark.parametrize(
    ("sidecar", "path", "message"),
    [
        ([], "sidecar", "a list stands here"),
        ({"nodes": []}, "sidecar.nodes", "a list stands here"),
        ({"nodes": {"A": 3}}, "sidecar.nodes.A", "a number stands here"),
        ({"nodes": {"C": {}}}, "sidecar.nodes.C", "no node 'C' is drawn"),
        ({"nodes": {"x": {"drawn": "C"}}}, "sidecar.nodes.x", "no node 'C' is drawn"),
        ({"nodes": {"x": {"drawn": 3}}}, "sidecar.nodes.x.drawn", "a number stands here"),
        ({"nodes": {"A": {}, "x": {"drawn": "A"}}}, "sidecar.nodes.x", "A is drawn as 'A' too"),
        ({"nodes": {"B": {"drawn": "A"}}}, "", "B is drawn twice (line 2)"),
        ({"edges": {}}, "sidecar.edges", "an object stands here"),
        ({"edges": ["A -> B"]}, "sidecar.edges[0]", "text stands here"),
        ({"edges": [{"from": "A"}]}, "sidecar.edges[0].to", "nothing (null) stands here"),
        ({"edges": [{"from": "B", "to": "A"}]}, "sidecar.edges[0]", "no edge B -> A is drawn"),
        (
            {"edges": [{"from": "A", "to": ["B", "B"]}]},
            "sidecar.edges[0]",
            "no edge number 2 A -> B",
        ),
        (
            {"edges": [{"from": ["A"] * 80, "to": ["B"] * 80}]},
            "sidecar.edges",
            "more than 5000 edges",
        ),
        ({"nodes": {"A": {"x": float("nan")}}}, "sidecar.nodes.A.x", "not finite"),
    ],
)
def test_a_sidecar_that_does_not_fit_its_drawing_is_refused(
    sidecar: Any, path: str, message: str
) -> None:
    found = refused("graph TD\nA --> B", sidecar)
    assert any(each.path == path and message in each.message for each in found), found


def test_a_slip_of_the_pen_in_a_sidecar_is_told_what_was_meant() -> None:
    (problem,) = refused("graph TD\ndraft --> grade", {"nodes": {"drfat": {}}})
    assert problem.remedy == "did you mean draft?"


def test_what_is_wrong_with_the_workflow_is_told_with_the_line_of_the_drawing() -> None:
    found = mermaid.read_graph(
        "graph TD\n  a --> b.c\n  b.c --> a\n  b.c -->|go| d",
        {
            "workflow": "w",
            "nodes": {"b.c": {"timeout": "soon"}},
            "edges": [{"from": "b.c", "to": "d", "when": "$x >"}],
        },
    )
    assert isinstance(found, tuple)
    assert {problem.path: problem.message[-8:] for problem in found} == {
        "nodes.b.c.timeout": "(line 2)",
        "edges[2].when": "(line 4)",
    }


# --- what is read ------------------------------------------------------------------------------


def test_shapes_say_what_a_node_is_for() -> None:
    data = drawn(
        "a[do] --> b{{choose}} --> c{choose} --> d(do) --> e[[do]] --> f[(do)]", "f-->g>do]"
    )
    roles = {name: fields.get("role", "task") for name, fields in data["nodes"].items()}
    assert roles == dict.fromkeys("adefg", "task") | dict.fromkeys("bc", "plan")


def test_a_circle_begins_ends_or_is_passed_by_where_it_stands() -> None:
    data = drawn("s((go)) --> a --> p([by]) --> b --> e(((done)))", "b --> a")
    kinds = {name: fields.get("kind") for name, fields in data["nodes"].items()}
    assert kinds == {"s": "start", "a": None, "p": "pass", "b": None, "e": "end"}


def test_a_node_without_a_sidecar_is_worked_by_the_function_of_its_name() -> None:
    assert drawn("a --> b{{x}}")["nodes"] == {
        "a": {"uses": "a"},
        "b": {"role": "plan", "title": "x", "uses": "b"},
    }


def test_text_beside_an_arrow_is_a_title_and_routes_nothing() -> None:
    (edge,) = drawn("a -- approved --> b")["edges"]
    assert edge == {"from": "a", "to": "b", "title": "approved"}


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("a -- human input--> b", "human input"),
        ("a -->|LLM Results| b", "LLM Results"),
        ('a -->|"q|r"| b', "q|r"),
        ('a -- "q--r" --> b', "q--r"),
        ("a == thick ==> b", "thick"),
        ("a -. v1.2 .-> b", "v1.2"),
        ("a -- one-two ---> b", "one-two"),
        ("a -->\n|x|\nb", "x"),
        ("a\n-- x -->\nb", "x"),
        ("a --o b", None),
        ("a --xb", None),
        ("a ====> b", None),
        ("a -..-> b", None),
        ("a e1@--> b\n e1@{ animate: true }", None),
    ],
)
def test_arrows_are_read_as_they_are_drawn(line: str, title: str | None) -> None:
    assert edges(line) == [("a", "b", title)]


def test_chains_and_lists_draw_every_edge() -> None:
    assert [(s, t) for s, t, _ in edges("a & b --> c & d --> e")] == [
        *(("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "e"), ("d", "e")),
    ]


def test_an_arrow_with_two_heads_is_two_edges() -> None:
    assert edges("a <-- both --> b") == [("a", "b", "both"), ("b", "a", "both")]


def test_a_node_may_be_called_x_or_o() -> None:
    assert [(s, t) for s, t, _ in edges("x-->o", "o-->x")] == [("x", "o"), ("o", "x")]


def test_links_that_nobody_sees_draw_nothing() -> None:
    assert edges("a --> b", "a ~~~ b") == [("a", "b", None)]


def test_what_is_for_the_eye_says_nothing() -> None:
    data = read(
        "%%{init: {'theme': 'dark'}}%%\nflowchart-elk LR; classDef hot fill:#f00;\n"
        "accTitle: a title\naccDescr {\n  and more\n}\n"
        'a:::hot --> b; class b hot\nstyle a fill:#fff;linkStyle 0 stroke:#f00\nclick a "http://x;y"\n'
        "subgraph one [First]\ndirection TB\n b --> c %% a comment\nend\n%% the end"
    )
    assert [(edge["from"], edge["to"]) for edge in data["edges"]] == [("a", "b"), ("b", "c")]
    assert list(data["nodes"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("label", "title"),
    [
        ("Task: Submit <br>to LLM", "Task: Submit to LLM"),
        ("Elucidate/<br/> Do", "Elucidate/ Do"),
        ('"f(x) [1]"', "f(x) [1]"),
        ('"`**bold**`"', "**bold**"),
        ("say #quot;hi#quot; #35;1 &amp; #9829;", 'say "hi" #1 & ♥'),
        ('"two\nlines"', "two lines"),
        ("#0;#1;x", "\ufffdx"),
        ("x" * 201, "x" * 199 + "…"),
    ],
)
def test_labels_say_what_is_shown(label: str, title: str) -> None:
    assert drawn(f"a[{label}]")["nodes"]["a"]["title"] == title


def test_a_label_too_long_for_a_title_is_kept_as_notes() -> None:
    assert drawn(f"a[{'x' * 300}]")["nodes"]["a"]["notes"] == "x" * 300


def test_a_label_by_shape_and_text_is_read_too() -> None:
    data = drawn('a@{ shape: hex, label: "Go on?" } --> b@{shape: doc}', "c@{ label: plain }")
    assert data["nodes"]["a"] == {"role": "plan", "title": "Go on?", "uses": "a"}
    assert data["nodes"]["c"]["title"] == "plain"


def test_the_last_text_of_a_node_holds() -> None:
    assert drawn("a[one] --> b", "a[two]")["nodes"]["a"]["title"] == "two"


@pytest.mark.parametrize(
    ("front", "name"),
    [
        ("title: My flow", "My flow"),
        ('title: "a \\"b\\""', 'a "b"'),
        ("title: 'x'", "x"),
        ("x: 1", None),
    ],
)
def test_the_title_of_a_drawing_names_the_workflow(front: str, name: str | None) -> None:
    assert read(f"---\n{front}\n---\ngraph TD\nA").get("workflow") == name


def test_a_sidecar_says_what_the_drawing_does_not() -> None:
    data = read(
        "graph TD\nask[Ask] -->|yes| write_it_((write it))\nask --> write_it_\nask --> Ä",
        {
            "workflow": "w",
            "version": "1.0.0",
            "nodes": {
                "ask": {"uses": "ask_human", "save": {"answer": "$result"}},
                "write it": {"kind": "pass"},
                "later": {"drawn": "Ä", "title": None},
            },
            "edges": [
                {"from": "ask", "to": "write it", "label": "yes"},
                {"from": ["ask"], "to": ["write it", "later"], "type": "final"},
            ],
        },
    )
    assert data == {
        "workflow": "w",
        "version": "1.0.0",
        "nodes": {
            "ask": {"title": "Ask", "uses": "ask_human", "save": {"answer": "$result"}},
            "write it": {"kind": "pass"},
            "later": {"uses": "later"},
        },
        "edges": [
            {"from": "ask", "to": "write it", "label": "yes"},
            {"from": "ask", "to": "write it", "type": "final"},
            {"from": "ask", "to": "later", "type": "final"},
        ],
    }


def test_a_kind_in_the_sidecar_stands_above_the_shape() -> None:
    data = read("graph TD\na --> b{Which?}", {"nodes": {"b": {"kind": "pass"}}})
    assert data["nodes"]["b"] == {"kind": "pass", "title": "Which?"}


# --- seed 001's own example --------------------------------------------------------------------


def coding_agent() -> Graph:
    sidecar = documents.read_text((EXAMPLES / "coding-agent.sidecar.yaml").read_bytes())
    found = mermaid.read_graph((EXAMPLES / "coding-agent.mmd").read_text(), sidecar)
    assert isinstance(found, Graph), found
    return found


def test_the_coding_agent_is_read_as_printed() -> None:
    graph = coding_agent()
    roles = [node.role for node in graph.nodes.values()]
    assert (roles.count(Role.TASK), roles.count(Role.PLAN), len(graph.edges)) == (8, 6, 19)
    assert graph.start == "Start"
    assert graph.nodes[graph.start].kind == "start"
    titles = {node.id: node.title for node in graph.nodes.values()}
    assert titles["TaskLLMSubmit"] == "Task: Submit to LLM"
    assert titles["PlanRefine"] == "Plan: Elucidate/ Do Execute"


def test_the_coding_agent_forks_joins_and_ends_as_its_sidecar_says() -> None:
    graph = coding_agent()
    assert graph.nodes[graph.edges[5].source].route is Route.ALL
    joins = {edge.source for edge in graph.edges if edge.arrive is Arrive.JOIN}
    assert joins == {"PlanAccept1", "PlanAccept2"}
    assert [edge.target for edge in graph.edges if edge.arrive is Arrive.FINAL] == ["End"]


def test_the_prose_of_the_coding_agent_routes_nothing() -> None:
    graph = coding_agent()
    assert all(edge.label is None for edge in graph.edges)
    assert [edge.title for edge in graph.edges if edge.source == "PlanAccept1"] == [
        "pass",
        "observe/refine",
    ]


def test_the_coding_agent_without_its_sidecar_is_told_what_is_missing() -> None:
    found = mermaid.read_graph((EXAMPLES / "coding-agent.mmd").read_text())
    assert isinstance(found, tuple)
    assert "the workflow has no name" in {problem.message for problem in found}


# --- what is written ---------------------------------------------------------------------------


def test_a_flowchart_is_written_as_mermaid_reads_it() -> None:
    graph = document.read(
        {
            "workflow": 'a "b"',
            "nodes": {
                "draft": {"uses": "f", "title": 'Say "hi" #1'},
                "go on": {"role": "plan", "uses": "f"},
            },
            "edges": [
                "draft -> go on",
                {"from": "go on", "to": ["draft", "end"], "type": "parallel"},
                {"from": "draft", "to": "end", "on": "error", "reason": ["timeout"]},
            ],
        }
    )
    assert isinstance(graph, Graph), graph
    assert mermaid.write(graph).splitlines() == [
        "---",
        'title: "a \\"b\\""',
        "---",
        "flowchart TD",
        '    draft["Say #34;hi#34; #35;1"]',
        '    go_on_{{"go on"}}',
        '    end_(("end"))',
        "    draft --> go_on_",
        "    go_on_ ==> draft",
        "    go_on_ ==> end_",
        '    draft -.->|"error: timeout"| end_',
    ]


def test_the_way_that_a_run_took_is_marked_and_counted() -> None:
    graph = coding_agent()
    first, second = graph.edges[0], graph.edges[1]
    taken = Taken(
        nodes={graph.start: 1, first.target: 2},
        edges={first.id: 1, second.id: 2},
        live=frozenset({second.target}),
    )
    text = mermaid.write(graph, taken)
    assert 'TaskHITL["Task: Human In The Loop \u00d72"]' in text
    assert 'TaskHITL -->|"human input \u00d72"| PlanRAG' in text
    assert "class Start,TaskHITL taken" in text
    assert "class PlanRAG live" in text
    assert "linkStyle 0,1 " in text


def test_a_title_that_shows_nothing_is_not_written() -> None:
    graph = document.read({"workflow": "w", "nodes": {"a": {"uses": "a", "title": "\u2028 "}}})
    assert isinstance(graph, Graph), graph
    assert 'a["a"]' in mermaid.write(graph)
    assert mermaid.read_graph(mermaid.write(graph), mermaid.sidecar(graph)) == graph


@given(graphs())
def test_what_is_written_is_the_same_every_time(graph: Graph) -> None:
    assert mermaid.write(graph) == mermaid.write(graph)
