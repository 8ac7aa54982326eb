from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import document
from engine.core.graph import Arrive, Graph, Route
from engine.core.problem import Problem
from engine.formats import dot
from engine.formats.taken import Taken
from tests.support.graphs import SIGNS

SIMPLE = """
digraph Simple {
  // what comes first
  plan_it [type="plan", label="Plan it"];
  do_it [type="task"]; # and then
  plan_it -> do_it [label="go"]; /* over
  two lines */
  do_it -> plan_it;
}
"""


def read(text: str, *, strict: bool = False) -> dict[str, Any]:
    found = dot.read(text, strict=strict)
    assert isinstance(found, dict), found
    return found


def refused(text: str, *, strict: bool = False) -> tuple[Problem, ...]:
    found = dot.read(text, strict=strict)
    assert isinstance(found, tuple), found
    assert all(problem.message and problem.remedy for problem in found)
    return found


def drawn(text: str) -> str:
    return f"digraph G {{ {text} }}"


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "INVALID_STRUCTURE: no digraph begins here (line 1)"),
        ("graph G { a -- b }", "INVALID_STRUCTURE: a graph without directions is no workflow"),
        ("digraph { a [type=task] }", "INVALID_STRUCTURE: the digraph has no name"),
        ("digraph G", "the end stands where { belongs"),
        ("digraph G {}", "INVALID_STRUCTURE: the digraph has no nodes"),
        ("digraph G { a [type=task] ", "a brace does not close"),
        ("digraph G { a [type=task] } digraph H {}", "something follows the digraph"),
        (drawn("a [type=task\nb"), "an attribute has no name (line 2)"),
        (drawn("a [type=]"), "an attribute has no value"),
        (drawn("a -- b"), "a line without a direction leads nowhere"),
        (drawn("a -> ;"), "';' stands where { belongs"),
        (drawn('a [label="x]'), "a text in quotes does not end"),
        (drawn("a [label=<b]"), "a label in <…> does not end"),
        (drawn("/* a"), "a comment does not end"),
        (drawn("a ? b"), "'?' cannot be read"),
        (drawn('a [label="x" + ]'), "nothing is added"),
        (drawn("a:"), "a port has no name"),
        (
            drawn("a [type=task]\n a [type=plan]"),
            "DUPLICATE_NAME: a is declared already, on line 1 (line 2)",
        ),
        (
            drawn("a [type=task] b [type=task] a -> b -> c"),
            "DANGLING_EDGE: b -> c names c, which is no node",
        ),
        (
            drawn("a [type=task] b [type=task] c [type=task] a -> b"),
            "ORPHANED_NODE: no edge touches c",
        ),
        (drawn("a [type=task] b a -> b"), "INVALID_STRUCTURE: b has no type"),
        (drawn("a [type=taks]"), "INVALID_STRUCTURE: there is no type 'taks'"),
        (drawn('"a/b" [type=task]'), "INVALID_NAME: 'a/b' is not a name for a node"),
        (drawn("{" * 65), "subgraphs in more than 64 others"),
        (
            drawn("node [type=task] " + " ".join(f"n{i}" for i in range(1001))),
            "more than 1000 nodes",
        ),
        (
            drawn(
                f"node [type=task] {{{' '.join(f'a{i}' for i in range(71))}}} -> {{{' '.join(f'b{i}' for i in range(71))}}}"
            ),
            "more than 5000 edges",
        ),
        ("x" * 1_048_577, "more than 1048576 bytes"),
        ("digraph G { a\x00 }", "NUL"),
    ],
)
def test_what_is_no_drawing_is_refused_with_its_line(text: str, message: str) -> None:
    found = refused(text)
    assert any(message in problem.message for problem in found), found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "p [type=plan] q [type=plan] t [type=task] p -> t q -> t t -> p",
            "TASK_MULTIPLE_PLANS: the task t has 2 plans before it (p, q)",
        ),
        (
            "p [type=plan] t [type=task] u [type=task] p -> t -> u u -> p",
            "t -> u leads from a task to a task",
        ),
        ("p [type=plan] t [type=task] t -> p p -> p p -> t", "p -> p leads from a plan to a plan"),
        ("p [type=plan] t [type=task] t -> p", "the plan p leads to no task"),
        ("p [type=plan] t [type=task] t -> p", "the task t has 0 plans before it (none)"),
        ("class [type=plan] t [type=task] class -> t", "INVALID_NAME: 'class' is not a name"),
        ('"a b" [type=plan] t [type=task] "a b" -> t', "INVALID_NAME: 'a b' is not a name"),
    ],
)
def test_the_rules_of_the_seed_hold_for_who_asks_for_them(text: str, message: str) -> None:
    found = refused(drawn(text), strict=True)
    assert any(message in problem.message for problem in found), found
    read(drawn(text))


def test_every_violation_is_told_at_once() -> None:
    found = refused(drawn("a [type=task]\na [type=task]\n'b' -> c").replace("'", '"'))
    kinds = [problem.message.partition(":")[0] for problem in found]
    assert kinds == ["DUPLICATE_NAME", "DANGLING_EDGE", "DANGLING_EDGE", "ORPHANED_NODE"]


@pytest.mark.parametrize(
    "text",
    [
        '"' * 500_001,
        '"\\' * 400_000,
        "<" * 1_000_000,
        "<x" * 400_000,
        "{" * 1_000_000,
        "/*" * 500_000,
        "#" * 1_000_000,
        "node [a1=b] " * 80_000,
        "a [x=y] " * 120_000,
        "a=b;" * 250_000,
        "a:b" * 300_000,
        "a -> " * 200_000,
        '"a" + ' * 150_000,
        "[]" * 500_000,
        "a " + "[]" * 500_000,
        "-" * 1_000_000,
        "subgraph x " * 90_000,
    ],
    ids=lambda text: text[:8],
)
def test_hostile_text_is_answered_soon(text: str) -> None:
    began = time.thread_time()
    assert dot.read("digraph G { " + text) is not None
    assert time.thread_time() - began < 5


@settings(max_examples=400)
@given(
    st.lists(
        SIGNS
        | st.sampled_from(["a", "b", "\n", " ", "[", "]", "{", "}", "->", "=", ";", ",", ":", "+"])
        | st.sampled_from(
            ["type=task", "[type=plan]", "node ", "edge", "subgraph ", "<b>", "'", "/*", "*/"]
        )
        | st.text(max_size=5),
        max_size=30,
    ).map("".join),
    st.booleans(),
)
def test_whatever_is_sent_is_read_or_told_what_is_wrong(text: str, strict: bool) -> None:
    for whole in (text, drawn(text), drawn(f"a [type=task] {text}")):
        found = dot.read(whole, strict=strict)
        assert isinstance(found, dict) or all(isinstance(each, Problem) for each in found)
        document.read(found if isinstance(found, dict) else None)


def test_what_is_wrong_with_the_workflow_is_told_with_its_line() -> None:
    found = dot.read_graph(
        'digraph w {\n a [type=task]\n b [type=task, timeout="soon"]\n a -> b\n}'
    )
    assert isinstance(found, tuple)
    assert [(p.path, p.message[-8:]) for p in found] == [("nodes.b.timeout", "(line 3)")]


# --- what is read ------------------------------------------------------------------------------


def test_types_are_roles_and_labels_are_titles() -> None:
    assert read(SIMPLE, strict=True) == {
        "workflow": "Simple",
        "strict": True,
        "nodes": {
            "plan_it": {"role": "plan", "title": "Plan it", "uses": "plan_it"},
            "do_it": {"uses": "do_it"},
        },
        "edges": [
            {"from": "plan_it", "to": "do_it", "title": "go"},
            {"from": "do_it", "to": "plan_it"},
        ],
    }


def test_a_cycle_begins_where_it_is_declared_first() -> None:
    assert next(iter(read(SIMPLE)["nodes"])) == "plan_it"


def test_a_run_starts_at_the_node_that_nothing_leads_to() -> None:
    data = read(drawn("t [type=task] p [type=plan] p -> t"))
    assert next(iter(data["nodes"])) == "p"


def test_several_entries_are_started_at_once() -> None:
    data = read(drawn("start [type=plan] q [type=plan] t [type=task] {start q} -> t"))
    assert data["nodes"]["start2"] == {"kind": "start"}
    assert data["edges"][:2] == [
        {"from": "start2", "to": "start", "type": "parallel"},
        {"from": "start2", "to": "q", "type": "parallel"},
    ]


def test_attributes_named_like_fields_are_those_fields() -> None:
    graph = dot.read_graph(
        """
        digraph w {
          go   [type=start];
          a    [type=task, uses="find@3", timeout=2.5, max_iterations=7, queue="slow"];
          b    [type=task, kind=tool, tool="rag.search"];
          join [type=pass];
          go -> {a b} [type=parallel];
          {a b} -> join [type=join];
          a -> done [on=error];
          join -> done [type=final, when="$x == \\"y\\"", label="over"];
          join -> a [choice=loop];
          done [type=end];
        }
        """
    )
    assert isinstance(graph, Graph), graph
    assert graph.nodes["go"].route is Route.ALL  # type: ignore[index]  # a name
    assert [edge.arrive for edge in graph.joining("join")] == [Arrive.JOIN] * 2  # type: ignore[arg-type]
    (last,) = [edge for edge in graph.edges if edge.arrive is Arrive.FINAL]
    assert (last.when and last.when.source, last.title) == ('$x == "y"', "over")
    assert graph.nodes["a"].timeout == 2.5  # type: ignore[index]
    assert graph.edges[-1].label == "loop"


def test_the_whole_of_the_notation_is_read() -> None:
    data = read(
        'strict DiGraph "my flow" { graph [rankdir=LR]; rankdir=TB\n'
        "node [type=task shape=box]; edge [color=red; label=e]\n"
        'a:port:n -> "b c" [label="x" + "y"] [style=bold]\n'
        "subgraph cluster_1 { node [type=plan]; label=group; p; q } -> a\n"
        "d [label=<<b>bold</b> &amp; <br/> more>]  p -> d -> q\n"
        'e [label="two\\nlines \\N \\"q\\" \\\\n on\\\ne"]  q -> e } // the end'
    )
    assert data["workflow"] == "my flow"
    assert {name: fields.get("role", "task") for name, fields in data["nodes"].items()} == {
        **dict.fromkeys(("a", "b c", "d", "e"), "task"),
        **dict.fromkeys(("p", "q"), "plan"),
    }
    assert data["nodes"]["d"]["title"].split() == ["bold", "&", "more"]
    assert data["nodes"]["e"]["title"] == 'two lines e "q" \\n one'
    assert [(edge["from"], edge["to"], edge["title"]) for edge in data["edges"]] == [
        *(("a", "b c", "xy"), ("p", "a", "e"), ("q", "a", "e")),
        *(("p", "d", "e"), ("d", "q", "e"), ("q", "e", "e")),
    ]


# --- what is written ---------------------------------------------------------------------------


def test_a_drawing_is_written_as_graphviz_reads_it() -> None:
    graph = document.read(
        {
            "workflow": 'a "b"',
            "nodes": {
                "go on": {"uses": "f", "title": 'Say "hi"\\'},
                "node": {"role": "plan", "uses": "choose"},
            },
            "edges": [
                {"from": "go on", "to": "node", "when": "$x > 1"},
                {"from": "go on", "to": "end", "on": "error"},
                {"from": "node", "to": "end", "type": "final"},
            ],
        }
    )
    assert isinstance(graph, Graph), graph
    taken = Taken(nodes={graph.start: 2}, edges={graph.edges[0].id: 1})
    assert dot.write(graph).splitlines() == [
        'digraph "a \\"b\\"" {',
        '  node [shape="box"];',
        '  "go on" [type="task", label="Say \\"hi\\"\\\\", uses="f"];',
        '  "node" [type="plan", shape="hexagon", uses="choose"];',
        '  end [type="end", shape="circle"];',
        '  "go on" -> "node" [label="$x > 1", when="$x > 1"];',
        '  "go on" -> end [label="error", on="error", style="dashed"];',
        '  "node" -> end [type="final"];',
        "}",
    ]
    marked = dot.write(graph, taken)
    assert 'label="Say \\"hi\\"\\\\ \u00d72", uses="f", color="#1a7f37", penwidth="2.5"' in marked
    assert 'when="$x > 1", color="#1a7f37"' in marked
