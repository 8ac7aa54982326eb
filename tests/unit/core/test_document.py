from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import document
from engine.core.document import Reference
from engine.core.expressions import compile as expression
from engine.core.graph import Arrive, Graph, Limits, NodeId, Retry, Role
from engine.core.problem import Problem
from tests.support.documents import BAD, BEYOND, FULL, GOOD, SMALL, changed


def graph(data: Any) -> Graph:
    found = document.read(data)
    assert isinstance(found, Graph), found
    return found


def problems(data: Any) -> tuple[Problem, ...]:
    found = document.read(data)
    assert not isinstance(found, Graph)
    return found


@pytest.mark.parametrize(("path", "value", "where", "message"), BAD + BEYOND)
def test_what_is_wrong_is_refused_with_its_path_and_a_remedy(
    path: tuple[str | int, ...], value: Any, where: str, message: str
) -> None:
    found = problems(changed(SMALL, path, value))
    assert any(problem.path == where and message in problem.message for problem in found), found
    assert all(problem.remedy for problem in found)


def test_every_problem_is_found_at_once() -> None:
    data = {
        "workflow": "w@1",
        "limits": {"cost_usd": 1},
        "variables": {"n": {"type": "integer"}},
        "nodes": {
            "a": {"kind": "llm", "prompt": "…", "wiht": 3},
            "b": {"uses": "f", "timeout": "5 min", "retry": {"on": ["timeuot"]}},
            "lost": {"uses": "f", "with": {"x": "$x >"}},
        },
        "edges": ["a -> b -> edn", {"from": "b", "to": "end", "type": "join"}],
    }
    assert sorted(problem.path for problem in problems(data)) == [
        "edges[0]",
        "edges[1].type",
        "limits.cost_usd",
        "nodes.a.kind",
        "nodes.b.retry.on[0]",
        "nodes.b.timeout",
        "nodes.lost",
        "nodes.lost.with.x",
        "variables.n.type",
        "workflow",
    ]


@pytest.mark.parametrize(
    ("path", "value", "remedy"),
    [
        (("nodess",), {}, "did you mean nodes?"),
        (("nodes", "a", "timout"), 3, "did you mean timeout?"),
        (("nodes", "a", "kind"), "funtion", "did you mean function?"),
        (("nodes", "a", "retry"), {"on": ["timeuot"]}, "did you mean timeout?"),
        (("nodes", "a", "zzz"), 3, "it may have kind, title"),
        (("start",), "aa", "did you mean a?"),
        (("edges", 0), "a -> b -> ende", "did you mean end?"),
        (("edges", 0), "a -> zzz", "declare it: zzz"),
    ],
)
def test_a_slip_of_the_pen_is_told_what_was_meant(
    path: tuple[str | int, ...], value: Any, remedy: str
) -> None:
    assert any(remedy in problem.remedy for problem in problems(changed(SMALL, path, value)))


def test_one_slip_is_one_problem() -> None:
    (problem,) = problems(changed(SMALL, ("edges", 0), "a -> bb -> end"))
    assert problem.message == "there is no node 'bb'"


def test_a_wrong_choice_is_no_missing_choice() -> None:
    data = changed(SMALL, ("edges",), ["a -> b", "a -> end"])
    found = problems(changed(data, ("nodes", "a", "choose"), "not a name"))
    assert [problem.path for problem in found] == ["nodes.a.choose"]


def test_names_must_have_values_where_any_are_declared() -> None:
    data = {
        "workflow": "w",
        "inputs": {"goal": {}},
        "variables": {"score": {}},
        "nodes": {"a": {"uses": "f", "with": {"x": "$gaol"}, "save": {"draft": "$result"}}},
        "edges": [
            {"from": "a", "to": "a", "when": "$draft and $zzz > $score"},
            {"from": "a", "to": "end", "when": "$run.id != $goal"},
        ],
    }
    found = {problem.path: problem for problem in problems(data)}
    assert set(found) == {"nodes.a.with.x", "edges[0].when"}
    assert found["nodes.a.with.x"].remedy == "did you mean $goal?"
    assert "declare zzz" in found["edges[0].when"].remedy


def test_without_declarations_any_name_may_have_a_value() -> None:
    assert graph(GOOD["no declarations"]).variables == {}


def test_a_name_is_an_input_or_a_variable() -> None:
    data = {**SMALL, "inputs": {"x": {}}, "variables": {"x": {}}}
    (problem,) = problems(data)
    assert problem.path == "variables.x"


def test_what_cannot_be_stored_is_no_document() -> None:
    (problem,) = problems(changed(SMALL, ("nodes", "a", "title"), "\x00"))
    assert "NUL" in problem.message


def test_questions_need_a_worker() -> None:
    data = changed(SMALL, ("nodes", "a"), {"kind": "pass"})
    data["edges"] = [{"from": "a", "to": "b", "ask": "f"}]
    (problem,) = problems(data)
    assert problem.path == "edges[0].ask"
    assert "without a worker" in problem.message


def test_there_is_one_start() -> None:
    nodes: dict[str, Any] = {"s": {"kind": "start"}, "t": {"kind": "start"}}
    found = problems({"workflow": "w", "nodes": nodes, "edges": ["s -> t"]})
    assert [problem.path for problem in found] == ["nodes.t"]
    nodes["t"] = {"kind": "pass"}
    found = problems({"workflow": "w", "start": "t", "nodes": nodes, "edges": ["t -> s"]})
    assert [(problem.path, problem.remedy) for problem in found] == [("start", "leave `start` out")]


@pytest.mark.parametrize(
    ("nodes", "start", "found"),
    [
        ({"a": {"uses": "f"}, "b": {"uses": "g"}}, None, "a"),
        ({"a": {"uses": "f"}, "b": {"uses": "g"}}, "b", "b"),
        ({"a": {"uses": "f"}, "b": {"kind": "start"}}, None, "b"),
        ({"a": {"uses": "f"}, "b": {"kind": "start"}}, "b", "b"),
    ],
)
def test_a_run_starts_where_it_says_else_at_the_start_else_at_the_first(
    nodes: dict[str, Any], start: str | None, found: str
) -> None:
    data: dict[str, Any] = {"workflow": "w", "nodes": nodes}
    data["edges"] = [{"from": "a", "to": "b", "label": "loop"}, "b -> a"]
    if found == "a":
        data["edges"] = ["a -> b"]
    if start:
        data["start"] = start
    assert graph(data).start == found


def test_sizes_are_bounded() -> None:
    nodes = {f"n{number}": {"uses": "f"} for number in range(1001)}
    (problem,) = problems({"workflow": "w", "nodes": nodes})
    assert problem.message == "1001 nodes"
    edges = [f"a -> b {number}" for number in range(5001)]
    (problem,) = problems({**SMALL, "edges": edges})
    assert problem.message == "more than 5000 edges"


def test_the_greatest_document_is_read_in_time() -> None:
    names = [f"n{number}" for number in range(1000)]
    edges: list[Any] = [f"{one} -> {other}" for one, other in itertools.pairwise(names)]
    branches = [
        {"from": names[i], "to": names[(i * 7 + j) % 1000], "when": f"$x == {j}"}
        for i in range(1000)
        for j in range(4)
    ]
    edges = [*branches, *edges, "n999 -> end"]
    found = graph({"workflow": "w", "nodes": {n: {"uses": "f"} for n in names}, "edges": edges})
    assert (len(found.nodes), len(found.edges)) == (1001, 5000)


def test_a_document_becomes_a_graph() -> None:
    found = graph(FULL)
    assert (found.workflow, found.version, found.start) == (
        "Größe & Güte v2",
        "1.2.0-rc.1",
        "begin",
    )
    assert found.limits == Limits(steps=500)
    assert found.variables == {"drafts": [], "score": None}
    assert found.inputs == {
        "type": "object",
        "properties": FULL["inputs"],
        "required": ["goal"],
        "additionalProperties": False,
    }
    draft = found.nodes[NodeId("draft")]
    assert draft.retry == Retry(
        attempts=4,
        backoff=0.5,
        factor=1.5,
        max=60,
        jitter=0,
        on=frozenset({"timeout", "error"}),
    )
    assert (draft.timeout, draft.max_iterations, draft.queue) == (90, 7, "slow")
    assert draft.inputs is not None
    assert draft.inputs.evaluate({"goal": 1}) == {"goal": 1, "price": "$5", "deep": [{"left": 2}]}
    assert found.nodes[NodeId("decide")].role is Role.PLAN
    assert found.nodes[NodeId("rest")].role is Role.CONTROL
    assert [edge.id for edge in found.edges] == [
        "begin->search",
        "search->draft",
        "draft->grade",
        "grade->draft",
        "grade->decide",
        "grade->rest",
        "decide->ask",
        "decide->rest",
        "ask->rest",
        "ask->end",
        "rest->draft",
        "rest->end",
    ]
    assert found.edges[-1].arrive is Arrive.FINAL
    assert found.edges[-2].when == expression("$score < 7 and $tries > 0")


def test_an_end_that_is_named_is_declared() -> None:
    end = graph(SMALL).nodes[NodeId("end")]
    assert (end.kind, end.role) == ("end", Role.CONTROL)
    assert set(graph(GOOD["one node"]).nodes) == {"only"}


def test_edges_between_the_same_nodes_have_names_of_their_own() -> None:
    edges: list[Any] = [{"from": "a", "to": "b", "when": f"$x == {n}"} for n in range(3)]
    found = graph({**SMALL, "edges": [*edges, "a -> end"]})
    assert [edge.id for edge in found.edges] == ["a->b", "a->b#2", "a->b#3", "a->end"]


@pytest.mark.parametrize("name", GOOD)
def test_a_graph_is_written_and_read_back(name: str) -> None:
    found = graph(GOOD[name])
    written = document.write(found)
    assert document.read(written) == found
    assert document.write(graph(written)) == written


def test_a_canonical_document_survives_what_reorders_keys() -> None:
    found = graph(FULL)
    written = document.write(found)
    again: dict[str, Any] = dict(reversed(written.items()))
    again["nodes"] = dict(sorted(again["nodes"].items()))
    assert document.read(again) == found


def test_a_canonical_document_says_nothing_that_goes_without_saying() -> None:
    assert document.write(graph(SMALL)) == {
        "workflow": "small",
        "start": "a",
        "nodes": {"a": {"uses": "f"}, "b": {"uses": "g"}, "end": {"kind": "end"}},
        "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "end"}],
    }


def test_an_empty_with_is_no_missing_with() -> None:
    found = graph({"workflow": "w", "nodes": {"a": {"uses": "f", "with": {}}}})
    assert document.read(document.write(found)) == found
    assert found != graph({"workflow": "w", "nodes": {"a": {"uses": "f"}}})


def test_a_graph_knows_the_functions_and_tools_that_it_names() -> None:
    def used(kind: str, name: str, path: str, version: int | None = None) -> Reference:
        return Reference(kind=kind, name=name, version=version, path=path)

    assert list(document.names_used(graph(FULL))) == [
        used("function", "write.draft", "nodes.draft.uses", 3),
        used("tool", "rag.search", "nodes.search.tool"),
        used("function", "grade", "nodes.grade.uses"),
        used("function", "is_good", "nodes.grade.choose"),
        used("function", "decide", "nodes.decide.choose", 1),
        used("function", "may_rest", "edges[4].ask"),
    ]


NAMES = st.sampled_from(["a", "b", "c", "end"])
SECONDS = st.sampled_from(["1s", "500ms", "2m", 3, 0.25, "1d"])
NODES = st.fixed_dictionaries(
    {"uses": st.sampled_from(["f", "g@2"])},
    optional={
        "choose": st.just("c"),
        "with": st.just({"x": "$x + 1"}),
        "save": st.just({"y": "$result", "z": "$$"}),
        "retry": st.fixed_dictionaries(
            {},
            optional={
                "attempts": st.integers(1, 100),
                "backoff": SECONDS,
                "max": SECONDS,
                "factor": st.floats(1, 100),
                "jitter": st.floats(0, 1),
                "on": st.lists(st.sampled_from(["error", "timeout"])),
            },
        ),
        "timeout": SECONDS,
        "max_iterations": st.integers(1, 1_000_000),
        "title": st.just("A title"),
    },
)
EDGES = st.fixed_dictionaries(
    {"from": NAMES, "to": NAMES},
    optional={
        "when": st.sampled_from(["$x > 1", "true"]),
        "label": st.sampled_from(["loop", "yes"]),
        "type": st.sampled_from(["normal", "final"]),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "workflow": st.just("w"),
        "nodes": st.fixed_dictionaries({"a": NODES}, optional={"b": NODES, "c": NODES}),
        "edges": st.lists(EDGES, max_size=6),
    },
    optional={"variables": st.just({"x": {}, "y": {"default": [1]}}), "version": st.just("1.0.0")},
)


@given(DOCUMENTS)
@settings(max_examples=300, deadline=None)
def test_whatever_is_read_is_written_and_read_back(data: dict[str, Any]) -> None:
    found = document.read(data)
    if isinstance(found, Graph):
        assert document.read(document.write(found)) == found
    else:
        assert found


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["a", "a -> b", "$x", "", "1s"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("workflow", "nodes", "edges", "inputs", "variables", "outputs", "limits"),
                    *("start", "origin", "a", "b", "uses", "with", "save", "retry", "on", "kind"),
                    *("from", "to", "when", "label", "type", "timeout", "steps", "default"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(ANYTHING)
@settings(max_examples=300, deadline=None)
def test_whatever_is_handed_in_there_is_an_answer(data: Any) -> None:
    found = document.read(data)
    assert isinstance(found, Graph) or found
