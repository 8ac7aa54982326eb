from __future__ import annotations

import itertools
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import document
from engine.core.document import Reference
from engine.core.expressions import compile as expression
from engine.core.graph import (
    Arrive,
    Child,
    EdgeId,
    Graph,
    Join,
    Limits,
    NodeId,
    Retry,
    Role,
    Route,
    Rule,
    Surplus,
)
from engine.core.problem import Problem
from engine.core.schema import document_schema
from tests.support.documents import (
    ASTRAY,
    ASTRAY_WAITS,
    BAD,
    BAD_WAITS,
    BEYOND,
    CALLING,
    FORKED,
    FULL,
    GOOD,
    PLANNED,
    SMALL,
    STRICT,
    WAITING,
    Document,
    changed,
)

VALIDATOR = jsonschema_rs.Draft202012Validator(document_schema(), offline=True)


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


@pytest.mark.parametrize(("path", "value", "where", "message"), BAD_WAITS + ASTRAY_WAITS)
def test_what_waits_wrongly_is_refused_with_its_path_and_a_remedy(
    path: tuple[str | int, ...], value: Any, where: str, message: str
) -> None:
    found = problems(changed(WAITING, path, value))
    assert any(problem.path == where and message in problem.message for problem in found), found
    assert all(problem.remedy for problem in found)


@pytest.mark.parametrize(("document_", "path", "value", "where", "message"), ASTRAY)
def test_threads_that_go_astray_are_refused_with_their_path_and_a_remedy(
    document_: Document, path: tuple[str | int, ...], value: Any, where: str, message: str
) -> None:
    found = problems(changed(document_, path, value))
    assert any(problem.path == where and message in problem.message for problem in found), found
    assert all(problem.remedy for problem in found)


def test_every_problem_is_found_at_once() -> None:
    data = {
        "workflow": "w@1",
        "limits": {"cost_usd": 1},
        "variables": {"n": {"type": "intger"}},
        "nodes": {
            "a": {"kind": "agent", "prompt": "…", "wiht": 3},
            "b": {"uses": "f", "timeout": "5 min", "retry": {"on": ["timeuot"]}},
            "lost": {"uses": "f", "with": {"x": "$x >"}, "join": "every"},
            "plan": {"role": "plan", "rules": [{"wen": "$x", "next": ["lost"]}]},
        },
        "edges": ["a -> b -> edn", {"from": "b", "to": "end", "type": "jion"}],
    }
    assert sorted(problem.path for problem in problems(data)) == [
        "edges[0]",
        "edges[1].type",
        "limits.cost_usd",
        "nodes.a.kind",
        "nodes.b.retry.on[0]",
        "nodes.b.timeout",
        "nodes.lost",
        "nodes.lost.join",
        "nodes.lost.with.x",
        "nodes.plan",
        "nodes.plan.rules[0].next[0]",
        "nodes.plan.rules[0].wen",
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
        (("nodes", "a", "zzz"), 3, "it may have kind, join"),
        (("nodes", "a", "join"), "al", "did you mean all?"),
        (("nodes", "a", "join"), {"frist": 2}, "did you mean first?"),
        (("variables",), {"x": {"reduce": "apend"}}, "did you mean append?"),
        (("variables",), {"x": {"type": "interger"}}, "did you mean integer?"),
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


@pytest.mark.parametrize("name", ["1", "a#1", "", "x" * 101, "a\nb", 7])
def test_a_place_has_no_name_that_could_be_a_line_or_a_lap(name: object) -> None:
    (problem,) = problems(changed(SMALL, ("nodes", "a", "checkpoint"), name))
    assert problem.path == "nodes.a.checkpoint"


def test_two_nodes_do_not_give_one_name() -> None:
    data = changed(SMALL, ("nodes", "a", "checkpoint"), "same")
    (problem,) = problems(changed(data, ("nodes", "b", "checkpoint"), "same"))
    assert problem.path == "nodes.b.checkpoint"


def test_the_names_of_places_are_written_as_they_were_read() -> None:
    data = changed(SMALL, ("nodes", "a", "checkpoint"), "graded")
    read = graph(changed(data, ("nodes", "b", "checkpoint"), "handed over"))
    assert read.nodes[NodeId("a")].checkpoint == "graded"
    assert graph(document.write(read)) == read


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


def test_a_document_of_many_joins_is_read_in_time() -> None:
    width, depth = 4, 40
    edges: list[Any] = []
    for row in range(depth):
        here, there = ([f"n{row + step} {n}" for n in range(width)] for step in (0, 1))
        edges += [{"from": here, "to": there, "type": "join"}]
    nodes = {f"n{row} {n}": {"uses": "f", "route": "all"} for row in range(depth) for n in range(4)}
    nodes |= {f"n{depth} {n}": {"uses": "f"} for n in range(width)}
    nodes["s"] = {"uses": "f"}
    edges += [{"from": "s", "to": [f"n0 {n}" for n in range(width)], "type": "parallel"}]
    began = time.process_time()
    found = graph({"workflow": "w", "start": "s", "nodes": nodes, "edges": edges})
    assert found.joins["n1 0"] == "s"
    assert time.process_time() - began < 10


def test_a_document_becomes_a_graph() -> None:
    found = graph(FULL)
    assert (found.workflow, found.version, found.start) == (
        "Größe & Güte v2",
        "1.2.0-rc.1",
        "begin",
    )
    assert found.limits == Limits(steps=500)
    assert found.variables == {"drafts": [], "score": None, "best": None, "notes": None}
    assert found.types == {
        "drafts": {"type": "array"},
        "score": {"type": "number", "minimum": 0},
        "best": {"type": "number"},
    }
    assert found.reducers == {"drafts": "append", "best": "max", "notes": "set"}
    assert found.shared == {"best"}
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
    plan = found.nodes[NodeId("plan")]
    assert (plan.kind, plan.role, plan.works) == ("plan", Role.PLAN, False)
    assert plan.rules == (
        Rule(when=expression("$score > 5"), next=(NodeId("one"), NodeId("one"), NodeId("two"))),
        Rule(when=expression("$score < 0"), next=()),
        Rule(next=(NodeId("rest"),)),
    )
    assert (plan.join, plan.max_iterations, plan.title) == (Join(all=True), 3, "Decide")
    assert found.nodes[NodeId("meet")].join == Join(
        of=NodeId("split"), count=2, surplus=Surplus.FINISH
    )
    until = found.nodes[NodeId("until")]
    assert (until.role, until.at, until.expires) == (Role.CONTROL, "two", 600)
    assert found.nodes[NodeId("one")].cancels == ("two", "rest")
    assert plan.cancels == ("rest",)
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
        "decide->split",
        "split->one",
        "split->two",
        "split->rest",
        "one->meet",
        "two->meet",
        "one->until",
        "until->end",
        "until->rest",
        "two->plan",
        "meet->plan",
        "meet->rest",
        "plan->one",
        "plan->two",
        "plan->rest",
        "draft->rest",
        "draft->end",
    ]
    assert found.edge(EdgeId("rest->end")).arrive is Arrive.FINAL
    assert found.edge(EdgeId("rest->draft")).when == expression("$score < 7 and $tries > 0")
    assert found.edge(EdgeId("one->meet")).arrive is Arrive.JOIN
    assert found.edge(EdgeId("meet->rest")).on == "short"
    failing = found.edges_from(NodeId("draft"), on="error")
    assert [(edge.reasons, edge.arrive) for edge in failing] == [
        ({"timeout", "lost"}, Arrive.START),
        (frozenset(), Arrive.FINAL),
    ]
    routes = {node.id for node in found.nodes.values() if node.route is Route.ALL}
    assert routes == {"split", "two", "plan"}
    assert found.joins == {"meet": "split", "plan": "two"}


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


@pytest.mark.parametrize(
    "said",
    [
        "all",
        "any",
        {"all": True, "of": "a"},
        {"first": 1, "surplus": "finish"},
        {"first": 2},
        {"share": 0.5},
        {"of": "a"},
    ],
)
def test_a_demand_is_said_in_one_way(said: Any) -> None:
    found = graph(changed(FORKED, ("nodes", "j", "join"), said))
    assert document.write(found)["nodes"]["j"]["join"] == said  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("said", "one_way"),
    [
        ({"all": True}, "all"),
        ({"first": 1}, "any"),
        ({"first": 1, "surplus": "cancel"}, "any"),
        ({"share": 1.0}, {"share": 1}),
    ],
)
def test_a_demand_that_was_said_otherwise_is_written_in_the_one_way(
    said: Any, one_way: Any
) -> None:
    found = graph(changed(FORKED, ("nodes", "j", "join"), said))
    assert document.write(found)["nodes"]["j"]["join"] == one_way  # type: ignore[index, call-overload]


def test_a_source_takes_all_when_one_of_its_edges_is_parallel() -> None:
    found = graph(FORKED)
    routes = [node.id for node in found.nodes.values() if node.route is Route.ALL]
    assert routes == ["a"]
    kinds = [edge.get("type") for edge in document.write(found)["edges"]]  # type: ignore[union-attr]
    assert kinds == ["parallel", "parallel", "join", "join", None]


def test_a_choice_may_stand_between_normal_and_parallel_edges() -> None:
    data = changed(FORKED, ("edges", 3), {"from": "a", "to": "end", "label": "no"})
    assert [problem.path for problem in problems(data)] == ["edges[3]"]
    assert graph(changed(data, ("nodes", "a", "choose"), "how"))
    assert graph(changed(data, ("nodes", "a", "role"), "plan"))


def test_a_join_is_told_which_fork_it_joins() -> None:
    assert graph(FORKED).joins == {"j": "a"}
    assert graph(SMALL).joins == {}
    several: Document = {
        "workflow": "w",
        "nodes": {name: {"uses": "f"} for name in "sabcj"},
        "edges": [
            {"from": "s", "to": "a", "when": "$x"},
            "s -> c",
            {"from": "a", "to": ["b", "c"], "type": "parallel"},
            {"from": ["b", "c"], "to": "j", "type": "join"},
        ],
    }
    assert graph(several).joins == {"j": "a"}
    # From no fork all of its edges can be reached: it joins whoever there is.
    several["edges"][3]["from"] = ["b", "c", "s2"]
    several["nodes"]["s2"] = {"uses": "f"}
    several["edges"][1] = "s -> s2"
    assert graph(several).joins == {"j": None}


@pytest.mark.parametrize(
    ("edges", "join", "most"),
    [
        # One of several is no several.
        ([{"from": "a", "to": "b", "when": "$x"}, "a -> c"], {"first": 2}, None),
        # Only those that lead there count.
        ([{"from": "a", "to": ["b", "c", "d"], "type": "parallel"}, "d -> end"], {"first": 3}, 2),
        # A loop that leaves nothing behind makes no more.
        (
            [
                {"from": "a", "to": ["b", "c"], "type": "parallel"},
                {"from": "b", "to": "b", "label": "loop", "when": "$x"},
            ],
            {"first": 3},
            2,
        ),
        # A loop around the join forks anew.
        (
            [{"from": "a", "to": ["b", "c"], "type": "parallel"}, {"from": "j", "to": "a"}],
            {"first": 3},
            2,
        ),
        # A failure is another way for the same thread.
        (
            [
                {"from": "a", "to": ["b", "c"], "type": "parallel"},
                {"from": "b", "to": "c", "on": "error"},
            ],
            {"first": 3},
            2,
        ),
    ],
)
def test_no_join_demands_more_than_can_come(edges: list[Any], join: Any, most: int | None) -> None:
    data = {
        "workflow": "w",
        "nodes": {
            **{name: {"uses": "f"} for name in "abcd"},
            "j": {"uses": "h", "join": join},
        },
        "edges": [
            *edges,
            {"from": ["b", "c"], "to": "j", "type": "join"},
            {"from": "j", "to": "end", "when": "$x"},
        ],
    }
    found = {problem.path: problem.message for problem in problems(data)}
    if most is None:
        assert "joins nothing" in found["edges[2]"]
    else:
        assert f"demands 3 threads, and never more than {most} come" in found["nodes.j.join"]


@pytest.mark.parametrize(
    ("edges", "join"),
    [
        # A loop that leaves a thread behind at every lap.
        ([{"from": "a", "to": ["a", "b"], "type": "parallel"}, "b -> c"], {"first": 9}),
        # A function names nodes as often as it likes.
        (["p -> b", "p -> c", "a -> p"], {"first": 9}),
        # What comes again after the join comes beside what is there.
        (
            [
                {"from": "a", "to": ["b", "c"], "type": "parallel"},
                {"from": "j", "to": ["b", "c"], "type": "parallel"},
            ],
            {"first": 3},
        ),
    ],
)
def test_where_nobody_knows_how_many_come_any_number_may_be_demanded(
    edges: list[Any], join: Any
) -> None:
    data = {
        "workflow": "w",
        "nodes": {
            **{name: {"uses": "f"} for name in "abc"},
            **({"p": {"role": "plan", "uses": "p"}} if "a -> p" in edges else {}),
            "j": {"uses": "h", "join": join},
        },
        "edges": [
            *edges,
            {"from": "b", "to": "end", "when": "$y"},
            {"from": ["b", "c"], "to": "j", "type": "join"},
        ],
    }
    found = problems(data) if not isinstance(document.read(data), Graph) else ()
    assert [problem for problem in found if problem.path == "nodes.j.join"] == []


def test_a_plan_may_end_its_thread() -> None:
    back = changed(PLANNED, ("edges",), ["p -> a -> p", "p -> b -> p"])
    rules = [{"when": "$n", "next": ["a"]}, {"when": "not $n", "next": ["b"]}]
    assert graph(changed(back, ("nodes", "p", "rules"), rules))
    assert graph(changed(back, ("nodes", "p", "rules"), [*rules, {"next": []}]))
    assert graph(changed(back, ("nodes", "p"), {"role": "plan", "uses": "f"}))


def test_a_strict_graph_may_start_and_end_by_name() -> None:
    data = changed(STRICT, ("nodes", "s"), {"kind": "start"})
    data["edges"] = ["s -> p", *data["edges"]]
    assert graph(data).strict
    data["edges"][0] = "s -> a"
    assert (
        "s (start) leads to a (task)"
        in {problem.path: problem for problem in problems(data)}["edges[0]"].message
    )


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
        used("function", "decide", "nodes.decide.uses", 1),
        used("function", "split", "nodes.split.uses"),
        used("function", "how", "nodes.split.choose", 2),
        used("function", "one", "nodes.one.uses"),
        used("function", "two", "nodes.two.uses"),
        used("function", "meet", "nodes.meet.uses"),
        used("function", "may_rest", "edges[4].ask"),
    ]


def test_a_graph_knows_what_is_named_within_its_nodes() -> None:
    assert [(use.kind, use.text, use.path) for use in document.names_used(graph(WAITING))] == [
        ("function", "reserve@2", "nodes.begin.uses"),
        ("function", "release", "nodes.begin.compensate.uses"),
        ("tool", "bank.refund", "nodes.paid.compensate.tool"),
        ("workflow", "write code@1.2", "nodes.child.workflow"),
        ("workflow", "review", "nodes.review.do.workflow"),
        ("function", "unreview", "nodes.review.compensate.uses"),
        ("function", "grade@3", "nodes.each.do.uses"),
        ("tool", "t", "nodes.each_tool.do.tool"),
    ]


def test_a_graph_knows_the_services_and_the_tools_that_it_names() -> None:
    assert [(use.kind, use.text, use.path) for use in document.names_used(graph(CALLING))] == [
        ("tool", "openai@2", "nodes.ask.service"),
        ("tool", "search", "nodes.ask.tools[0]"),
        ("tool", "read@3", "nodes.ask.tools[1]"),
        ("tool", "llm", "nodes.talk.service"),
        ("tool", "http", "nodes.fetch.service"),
        ("tool", "http", "nodes.fetch.compensate.service"),
        ("tool", "orders", "nodes.store.service"),
        ("tool", "llm", "nodes.each.do.service"),
    ]


def test_what_calls_uses_nothing_itself() -> None:
    nodes = graph(CALLING).nodes
    assert {name for name, node in nodes.items() if node.calls} == {"ask", "talk", "fetch", "store"}


NAMES = st.sampled_from(["a", "b", "c", "end"])
SECONDS = st.sampled_from(["1s", "500ms", "2m", 3, 0.25, "1d"])
JOINS = st.sampled_from(
    [
        *("all", "any", {"first": 2}, {"share": 0.5, "surplus": "finish"}),
        *({"all": True, "of": "a"}, {"of": "b"}, {"first": 1, "surplus": "cancel"}),
        *({"all": True, "surplus": "keep"}, {"first": 2, "surplus": "keep", "timeout": "1m"}),
        *({"timeout": 3}, {"timeout": "1s", "surplus": "finish"}),
    ]
)
COMMON = {
    "title": st.just("A title"),
    "join": JOINS,
    "max_iterations": st.integers(1, 1_000_000),
    "cancels": st.lists(NAMES, min_size=1, max_size=3, unique=True),
}
WORKING = st.fixed_dictionaries(
    {"uses": st.sampled_from(["f", "g@2"])},
    optional={
        "role": st.sampled_from(["task", "plan"]),
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
        "route": st.just("all"),
        **COMMON,
    },
)
RULES = st.lists(
    st.fixed_dictionaries(
        {"next": st.lists(NAMES, max_size=3)}, optional={"when": st.just("$x > 1")}
    ),
    min_size=1,
    max_size=3,
)
PLANS = st.fixed_dictionaries({"role": st.just("plan"), "rules": RULES}, optional=COMMON)
MILESTONES = st.fixed_dictionaries(
    {"kind": st.just("milestone"), "at": NAMES}, optional={"expires": SECONDS, **COMMON}
)
AROUND = {
    "save": st.just({"y": "$result"}),
    "lock": st.sampled_from(
        ["l", "$x", {"name": "l", "until": "a"}, {"name": "l", "of": "tenant"}]
    ),
    "compensate": st.sampled_from(
        ["undo", {"kind": "tool", "tool": "t", "with": {"r": "$result"}}]
    ),
    **COMMON,
}
PEOPLE = {
    "show": st.sampled_from(["$x", {"a": ["$x"]}]),
    "from": st.sampled_from(["role:a", ["user:b", "user:c"]]),
    "expires": SECONDS,
    "four_eyes": st.booleans(),
    "escalate": st.fixed_dictionaries(
        {"after": SECONDS, "to": st.sampled_from(["role:z", ["role:y", "user:b"]])}
    ),
}
FORMS = st.sampled_from([{"size": {"type": "integer"}}, {"a": {"default": 1}, "b": {}}])
INNER = st.sampled_from(
    [
        *("f@2", {"uses": "f", "timeout": "1m"}, {"kind": "tool", "tool": "t"}),
        {"kind": "workflow", "workflow": "w@1", "with": {"i": "$index", "x": "$item"}},
    ]
)
WAITS = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("timer")},
        optional={"for": SECONDS | st.just("$x"), "until": st.just("$x"), "lock": AROUND["lock"]},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("event"), "name": st.sampled_from(["paid", "$x"])},
        optional={
            "match": st.sampled_from([{}, {"order": "$x"}]),
            "schema": st.just({"type": "object"}),
            "transient": st.booleans(),
            "expires": SECONDS,
            **AROUND,
        },
    ),
    st.fixed_dictionaries(
        {"kind": st.just("approval")},
        optional={
            "choices": st.sampled_from([["approve", "reject"], ["x", "y", "end"]]),
            "form": FORMS,
            "quorum": st.integers(1, 2) | st.sampled_from([{}, {"deny": 2}, {"approve": 2}]),
            "reason": st.just("required"),
            **PEOPLE,
            **AROUND,
        },
    ),
    st.fixed_dictionaries(
        {"kind": st.just("input"), "form": FORMS},
        optional=PEOPLE | AROUND,
    ),
    st.fixed_dictionaries(
        {"kind": st.just("workflow"), "workflow": st.just("w@1.2")},
        optional={
            "with": st.just({"x": "$x"}),
            "orphan": st.sampled_from(["cancel", "finish"]),
            "expires": SECONDS,
            **AROUND,
        },
    ),
    st.fixed_dictionaries(
        {"kind": st.just("map"), "over": st.sampled_from(["$x", [1, "$x"]]), "do": INNER},
        optional={
            "as": st.sampled_from(["item", "one"]),
            "at_once": st.integers(1, 20),
            "stop_when": st.sampled_from([{}, {"failed": 2}, {"succeeded": "$x"}]),
            "timeout": SECONDS,
            **AROUND,
        },
    ),
)
NODES = WORKING | WORKING | PLANS | MILESTONES | WAITS | WAITS
WAYS = {"when": st.sampled_from(["$x > 1", "true"]), "title": st.just("A title")}
TYPES = st.sampled_from(["normal", "final", "join", "join"])
EDGES = st.one_of(
    st.fixed_dictionaries(
        {"from": NAMES, "to": NAMES},
        optional={
            **WAYS,
            "label": st.sampled_from(["loop", "yes"]),
            "type": st.sampled_from(["normal", "parallel", "parallel", "join", "join", "final"]),
        },
    ),
    st.fixed_dictionaries(
        {"from": NAMES, "to": NAMES, "on": st.just("error")},
        optional={
            **WAYS,
            "type": TYPES,
            "reason": st.lists(st.sampled_from(["error", "lost"]), max_size=2),
        },
    ),
    st.fixed_dictionaries(
        {"from": NAMES, "to": NAMES, "on": st.just("short")}, optional={"type": TYPES}
    ),
)
VARIABLES = st.fixed_dictionaries(
    {"x": st.just({}), "y": st.just({"default": [1]})},
    optional={
        "sum": st.sampled_from(
            [
                {"reduce": "sum", "default": 1, "type": "integer", "shared": True},
                {"reduce": "sum", "type": {"type": "number"}},
                {"reduce": "sum", "type": {"type": "number", "minimum": 0}, "shared": False},
            ]
        ),
        "list": st.just({"reduce": "append", "default": [], "type": {"type": ["array"]}}),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "workflow": st.just("w"),
        "nodes": st.fixed_dictionaries({"a": NODES}, optional={"b": NODES, "c": NODES, "d": NODES}),
        "edges": st.lists(EDGES, max_size=6),
    },
    optional={
        "variables": VARIABLES,
        "version": st.just("1.0.0"),
        "strict": st.booleans(),
    },
)


EXPIRES = st.fixed_dictionaries({}, optional={"expires": SECONDS})


@st.composite
def sound_documents(draw: st.DrawFn) -> Document:
    """Documents that are right: `a` leads to `b` and `c`, and these to `d`, in some way."""
    nodes = {name: {**draw(WORKING)} for name in "abcd"}
    for fields in nodes.values():
        for field in ("role", "choose", "route", "join", "cancels"):
            fields.pop(field, None)
    waits = draw(st.sampled_from([{"type": "join"}, {"type": "join", "when": "$x > 1"}, {}]))
    parallel = [{"from": "a", "to": ["b", "c"], "type": "parallel"}]
    match draw(st.sampled_from(["fork", "rules", "plan", "choose", "route", "choice"])):
        case "fork":
            edges: list[Any] = parallel
            nodes["b"] |= draw(st.sampled_from([{}, {"cancels": ["c"]}]))
            if draw(st.booleans()):
                nodes["c"] = {"kind": "milestone", "at": "b", **draw(EXPIRES)}
                parallel.append({"from": "c", "to": "end", "on": "short"})
        case "rules":
            rules = [{"when": "$x > 1", "next": ["c", "b", "c"]}, {"next": ["b"]}]
            nodes["a"] = {"role": "plan", "rules": rules}
            edges = ["a -> b", "a -> c"]
        case "plan":
            nodes["a"]["role"] = "plan"
            edges = draw(st.sampled_from([parallel, ["a -> b", "a -> c"]]))
        case "choose":
            nodes["a"]["choose"] = "how"
            edges = [{**parallel[0], "label": "wide"}, {"from": "a", "to": "a", "label": "loop"}]
        case "route":
            for name in "bc":
                nodes[name]["route"] = "all"
            edges = [*parallel, {"from": ["b", "c"], "to": "e", "type": "join"}]
            nodes["e"], waits = {"kind": "pass", "title": "Meet"}, {"type": "join"}
        case _:
            edges, waits = [{"from": "a", "to": "b", "when": "$x > 1"}, "a -> c"], {}
    edges = [*edges, {"from": ["b", "c"], "to": "d", **waits}]
    if waits and (demand := draw(st.none() | JOINS.filter(lambda join: join != {"of": "b"}))):
        nodes["d"]["join"] = demand
        if demand != {"of": "a"}:
            edges += draw(st.lists(st.just({"from": "d", "to": "end", "on": "short"}), max_size=1))
    failing = {"from": "d", "to": "end", "on": "error"}
    edges += draw(
        st.lists(
            st.sampled_from(
                [
                    {**failing, "reason": ["timeout", "lost"]},
                    {**failing, "when": "$result.reason == 'x'", "type": "final"},
                ]
            ),
            unique_by=str,
        )
    )
    found: Document = {"workflow": "w", "nodes": nodes, "edges": edges}
    return found | draw(
        st.fixed_dictionaries(
            {},
            optional={
                "variables": VARIABLES.map(lambda known: {**known, "z": {}}),
                "version": st.just("1.0.0"),
                "outputs": st.just({"all": ["$x", "$y"]}),
            },
        )
    )


@given(sound_documents())
@settings(max_examples=200, deadline=None)
def test_whatever_is_right_is_written_and_read_back(data: Document) -> None:
    found = graph(data)
    written = document.write(found)
    assert document.read(written) == found
    assert document.write(graph(written)) == written
    for each in (data, written):
        assert [error.message for error in VALIDATOR.iter_errors(each)] == []


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
                    *("role", "rules", "next", "join", "first", "of", "route", "reduce", "shared"),
                    *("reason", "strict"),
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


def test_a_tool_and_all_that_it_is_given_may_be_worked_out() -> None:
    found = graph(
        {
            "workflow": "w",
            "inputs": {"which": {"type": "string"}, "given": {"type": "object"}},
            "nodes": {"a": {"kind": "tool", "tool": "$which", "with": "$given"}},
            "edges": ["a -> end"],
        }
    ).node(NodeId("a"))
    assert found.inputs is not None
    assert found.inputs.evaluate({"given": {"x": 1}}) == {"x": 1}


def test_a_workflow_and_all_that_it_is_given_may_be_worked_out() -> None:
    node = {"kind": "workflow", "workflow": "$written.workflow", "with": "$given"}
    body = {
        "workflow": "w",
        "inputs": {"written": {"type": "object"}, "given": {"type": "object"}},
        "nodes": {
            "a": node,
            "m": {"kind": "map", "over": [1], "do": {**node, "with": {"x": "$item"}}},
        },
        "edges": ["a -> m -> end"],
    }
    found = graph(body)
    wait = found.node(NodeId("a")).wait
    assert isinstance(wait, Child)
    assert wait.named is not None
    assert wait.named.evaluate({"written": {"workflow": "v@1.0.0"}}) == "v@1.0.0"
    # There is nothing to pin when the run is submitted.
    assert [*document.names_used(found)] == []
    assert document.read(document.write(found)) == found


def test_what_a_workflow_is_worked_out_by_must_be_an_expression() -> None:
    body = {
        "workflow": "w",
        "nodes": {"a": {"kind": "workflow", "workflow": "$(1 +)"}},
        "edges": ["a -> end"],
    }
    (problem,) = problems(body)
    assert problem.path == "nodes.a.workflow"
