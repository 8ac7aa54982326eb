"""Live runs under another graph: what keeps them, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from engine.core import codec, expressions, migration
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.fold import evolve
from engine.core.graph import (
    Asked,
    Edge,
    EdgeId,
    Graph,
    Join,
    Listing,
    Lock,
    Map,
    NodeId,
    Role,
    Route,
    Timer,
)
from engine.core.policy import DEFAULT
from engine.core.state import State
from engine.core.transitions import RunStatus, StepStatus
from tests.support.play import (
    LINE,
    LOOP,
    at,
    edge,
    failed,
    fork,
    graph,
    meet,
    node,
    play,
    submitted,
    succeeded,
    turn,
)
from tests.unit.core.test_properties import histories

FORK = graph(
    edge("start -> f"),
    *fork("f", "a", "b"),
    *meet("j", "a", "b"),
    edge("j -> end"),
    nodes=[node("f", route=Route.ALL)],
)


def asked(nodes: Mapping[str, str] | None = None) -> msg.MigrateRequested:
    renamed = {NodeId(old): NodeId(new) for old, new in (nodes or {}).items()}
    return msg.MigrateRequested(at=at(9), by="ada", request="r", version="v2", nodes=renamed)


def moved(old: Graph, new: Graph, state: State, nodes: Mapping[str, str] | None = None) -> State:
    request = asked(nodes)
    assert migration.obstacles(old, new, state, request.nodes) == ()
    answer = migration.migrated(old, new, state, request, was="v1")
    written = codec.write(answer)
    assert codec.read("Migrated", written.body, written.payload, at=answer.at) == answer
    return evolve(state, answer)


def kept(
    old: Graph, new: Graph, state: State, nodes: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What keeps a run, by where."""
    found = migration.obstacles(old, new, state, asked(nodes).nodes)
    assert all(problem.remedy for problem in found)
    return {problem.path: problem.message for problem in found}


def run(template: Graph, *events: msg.AnyEvent, **inputs: Any) -> State:
    return play(template, submitted(**inputs), *events).state


# --- whatever is drawn -----------------------------------------------------------------------------


def _reducing(template: Graph, state: State) -> Graph:
    return replace(template, reducers=state.reducers)


@settings(max_examples=20)
@given(histories())
def test_the_same_graph_under_another_number_changes_nothing(case: Any) -> None:
    template, played = case
    state = played.state
    assume(not state.terminal)
    template = _reducing(template, state)
    resting = {step.status for step in state.steps.values()} <= {
        *(StepStatus.READY, StepStatus.RETRYING, StepStatus.DEFERRED, StepStatus.WAITING)
    }
    assume(resting)
    after = moved(template, template, state)
    assert (replace(after, moved=0), after.moved) == (state, 1)
    assert advance(template, DEFAULT, after, []).entries == ()


@settings(max_examples=20)
@given(histories(), st.data())
def test_the_same_graph_in_other_words_decides_the_same(case: Any, data: Any) -> None:
    template, played = case
    state = played.state
    assume(not state.terminal and state.steps)
    template = _reducing(template, state)
    words = {name: NodeId(f"{name}2") for name in template.nodes if name not in ("end", "start")}
    other = _renamed(template, words)
    after = moved(template, other, state, words)
    key = data.draw(st.sampled_from(sorted(state.steps)))
    choice = data.draw(st.sampled_from((None, True, False, "x")))
    report = succeeded(key, attempt=state.steps[key].attempt, choice=choice, seconds=200)
    one, two = turn(template, state, report).state, turn(other, after, report).state
    assert one.status is two.status
    assert one.variables == two.variables
    assert _standing(one, words) == _standing(two, {})


def _renamed(template: Graph, words: Mapping[NodeId, NodeId]) -> Graph:
    def to(name: Any) -> Any:
        return words.get(name, name)

    nodes = [
        replace(
            each,
            id=to(each.id),
            at=to(each.at),
            cancels=tuple(map(to, each.cancels)),
            join=replace(each.join, of=to(each.join.of)),
        )
        for each in template.nodes.values()
    ]
    edges = tuple(
        replace(each, id=EdgeId(f"{each.id}'"), source=to(each.source), target=to(each.target))
        for each in template.edges
    )
    return replace(template, nodes={each.id: each for each in nodes}, edges=edges)


def _standing(state: State, words: Mapping[NodeId, NodeId]) -> tuple[Any, ...]:
    def to(name: NodeId) -> NodeId:
        return words.get(name, name)

    steps = sorted((to(step.node), step.status, step.thread) for step in state.steps.values())
    tokens = sorted((to(token.target), token.waits, token.thread) for token in state.tokens)
    return steps, tokens, sorted(state.scopes)


# --- what becomes of it ----------------------------------------------------------------------------


def test_a_step_stands_at_its_new_name_and_keeps_its_key() -> None:
    other = graph(edge("start -> a"), edge("a -> c"), edge("c -> d"), edge("d -> end"))
    state = run(LINE, succeeded("a#1"))
    after = moved(LINE, other, state, {"b": "c"})
    assert after.steps[msg.StepKey("b#1")].node == "c"
    assert after.scopes[""].live == {"c": 1}
    following = turn(other, after, succeeded("b#1"))
    assert [*following.state.steps] == ["d#1"]


def test_iterations_go_on_so_that_no_key_is_given_twice() -> None:
    words = {"work": "toil"}
    other = graph(
        edge("start -> toil"),
        edge("toil -> toil", label="loop", when="$n < 3"),
        edge("toil -> end"),
    )
    state = run(LOOP, succeeded("work#1"), n=0)
    after = moved(LOOP, other, state, words)
    assert after.steps[msg.StepKey("work#2")].visits == {"toil": 2}
    assert [*turn(other, after, succeeded("work#2")).state.steps] == ["toil#3"]


def test_laps_are_not_counted_of_what_is_no_loop_any_more() -> None:
    straight = graph(edge("start -> work"), edge("work -> end"))
    state = run(LOOP, succeeded("work#1"), n=0)
    assert moved(LOOP, straight, state).steps[msg.StepKey("work#2")].visits == {}


def test_what_waits_at_a_join_goes_on_waiting_and_is_joined_under_the_new_names() -> None:
    other = graph(
        edge("start -> f"),
        *fork("f", "a", "c"),
        *meet("k", "a", "c"),
        edge("k -> end"),
        nodes=[node("f", route=Route.ALL)],
    )
    state = run(FORK, succeeded("f#1"), succeeded("a#1", patch={"x": 1}))
    after = moved(FORK, other, state, {"b": "c", "j": "k"})
    assert [(token.edge, token.target) for token in after.tokens] == [("a->k", "k")]
    joined = turn(other, after, succeeded("b#1")).state
    assert [*joined.steps] == ["k#1"]
    assert joined.variables["x"] == 1


def test_what_is_new_begins_with_its_default_and_what_is_there_stays() -> None:
    other = replace(LINE, variables={"n": 7, "m": 8})
    after = moved(LINE, other, run(LINE, n=1))
    assert after.variables == {"n": 1, "m": 8}


def test_a_paused_run_is_moved_as_it_stands() -> None:
    paused = run(LINE, msg.PauseRequested(at=at(1), by="ada"), succeeded("a#1"))
    assert paused.tokens
    after = moved(LINE, LINE, paused)
    assert replace(after, moved=0) == paused
    resumed = turn(LINE, after, msg.ResumeRequested(at=at(2), by="ada")).state
    assert [*resumed.steps] == ["b#1"]


def test_a_request_and_a_refusal_change_nothing() -> None:
    state = run(LINE)
    assert evolve(state, asked()) is state
    refusal = msg.NotMigrated(at=at(9), request="r", version="v2", problems=({"path": "x"},))
    assert evolve(state, refusal) is state


# --- what keeps it ---------------------------------------------------------------------------------


def test_who_is_there_already_stays() -> None:
    (problem,) = migration.obstacles(LINE, LINE, run(LINE), {}, same=True)
    assert problem.path == "version"


def test_what_has_not_begun_or_has_ended_stays() -> None:
    assert [*kept(LINE, LINE, State(run="r1"))] == [""]
    ended = run(LINE, succeeded("a#1"), succeeded("b#1"))
    assert ended.status is RunStatus.COMPLETED
    assert [*kept(LINE, LINE, ended)] == [""]


def test_a_list_of_steps_stays() -> None:
    listed = replace(LINE, listing=Listing(index=NodeId("a"), steps=()))
    assert "list of steps" in kept(LINE, listed, run(LINE))[""]


@pytest.mark.parametrize(
    ("names", "path", "said"),
    [
        ({"x": "c"}, "nodes.x", "has no such node"),
        ({"b": "nowhere"}, "nodes.b", "has no node nowhere"),
        ({"b": "a"}, "nodes.b", "both versions have a node a"),
        ({"a": "c"}, "nodes.a", "both versions have a node a"),
        ({"b": "c", "x": "c"}, "nodes.b", "two nodes would be c"),
    ],
)
def test_names_that_mean_nothing_or_two_things_are_refused(
    names: Mapping[str, str], path: str, said: str
) -> None:
    other = graph(edge("start -> a"), edge("a -> c"), edge("c -> end"))
    found = migration.obstacles(LINE, other, run(LINE), asked(names).nodes)
    assert any(each.path == path and said in each.message for each in found)


def test_a_step_without_an_image_keeps_the_run() -> None:
    other = graph(edge("start -> a"), edge("a -> end"))
    assert "stands at b" in kept(LINE, other, run(LINE, succeeded("a#1")))["steps.b#1"]
    assert kept(LINE, other, run(LINE)) == {}


def test_a_step_that_is_being_settled_keeps_the_run() -> None:
    state = run(LINE)
    key = msg.StepKey("a#1")
    busy = replace(state, steps={key: replace(state.steps[key], status=StepStatus.REQUESTED)})
    assert kept(LINE, LINE, busy) == {"steps.a#1": "is requested"}


def test_a_step_whose_node_does_something_else_keeps_the_run() -> None:
    waits = replace(LINE.nodes[NodeId("a")], kind="timer", wait=Timer())
    other = graph(*LINE.edges, nodes=[waits])
    assert "another kind" in kept(LINE, other, run(LINE))["steps.a#1"]
    plans = replace(LINE.nodes[NodeId("a")], role=Role.PLAN)
    assert "another kind" in kept(LINE, graph(*LINE.edges, nodes=[plans]), run(LINE))["steps.a#1"]


def choosing(*labels: str, role: Role = Role.TASK, wait: Asked | None = None) -> Graph:
    edges = [edge(f"a -> {label}", label=label) for label in labels]
    kind, choose = ("approval", None) if wait else ("function", "judge")
    chooser = replace(node("a", kind=kind), role=role, wait=wait, choose=choose)
    return graph(edge("start -> a"), *edges, nodes=[chooser])


@pytest.mark.parametrize("role", [Role.TASK, Role.PLAN])
def test_what_a_step_may_choose_must_be_answered(role: Role) -> None:
    state = run(choosing("yes", "no", role=role))
    assert (
        kept(choosing("yes", "no", role=role), choosing("no", "yes", "x", role=role), state) == {}
    )
    found = kept(choosing("yes", "no", role=role), choosing("yes", role=role), state)
    assert "'no'" in found["steps.a#1"]


def test_what_people_may_choose_must_be_answered() -> None:
    before = choosing("yes", wait=Asked(choices=("yes",)))
    state = run(before, msg.Opened(at=at(1), step=msg.StepKey("a#1")))
    after = choosing("no", wait=Asked(choices=("no",)))
    assert "'yes'" in kept(before, after, state)["steps.a#1"]


def test_whatever_else_a_step_may_choose_must_be_answered() -> None:
    chooser = [node("a", choose="judge")]
    ways = edge("start -> a"), edge("a -> x", label="yes")
    before = graph(*ways, edge("a -> y"), nodes=chooser)
    after = graph(*ways, edge("a -> y", label="y"), nodes=chooser)
    assert "anything else" in kept(before, after, run(before))["steps.a#1"]


def test_an_edge_that_was_asked_must_be_there() -> None:
    asking = replace(edge("a -> x"), ask="may")
    before = graph(edge("start -> a"), asking, edge("a -> y", label="y"))
    after = graph(edge("start -> a"), edge("a -> x", label="z"), edge("a -> y", label="y"))
    assert "'a->x'" in kept(before, after, run(before))["steps.a#1"]


@pytest.mark.parametrize(
    ("edges", "count"),
    [
        ([edge("a -> b", label="x")], 0),
        ([edge("a -> b", label="x"), edge("a -> b", label="y")], 1),
        ([edge("a -> b", label="y"), edge("a -> b")], 0),
        ([edge("a -> b", on="error")], 1),
        ([edge("a -> b", join=True)], 1),
        ([edge("a -> c")], 1),
    ],
)
def test_a_token_stands_on_the_one_edge_that_is_like_its_own(
    edges: Iterable[Edge], count: int
) -> None:
    paused = run(LINE, msg.PauseRequested(at=at(1), by="ada"), succeeded("a#1"))
    other = graph(edge("start -> a"), *edges, edge("b -> end"), nodes=[node("b")])
    found = kept(LINE, other, paused)
    assert [path for path in found if path.startswith("tokens")] == ["tokens[0]"] * count


def test_a_join_that_is_another_keeps_who_waits_there() -> None:
    state = run(FORK, succeeded("f#1"), succeeded("a#1"))
    demanding = replace(FORK, nodes={**FORK.nodes, NodeId("j"): node("j", join=Join(count=1))})
    assert "demands something else" in kept(FORK, demanding, state)["joins.j"]
    of = replace(FORK, nodes={**FORK.nodes, NodeId("j"): node("j", join=Join(of=NodeId("f")))})
    assert "joins.j" not in kept(of, of, state)


def test_a_join_of_another_fork_keeps_who_waits_there() -> None:
    state = run(FORK, succeeded("f#1"), succeeded("a#1"))
    apart = graph(
        *(each for each in FORK.edges if each.id != "b->j"),
        edge("start -> g"),
        edge("b -> end"),
        *meet("j", "g"),
        nodes=[node("f", route=Route.ALL)],
    )
    assert "another fork" in kept(FORK, apart, state)["joins.j"]


def test_a_join_of_all_keeps_its_edges() -> None:
    def of_all(*more: Edge) -> Graph:
        nodes = [node("f", route=Route.ALL), node("j", join=Join(all=True))]
        return graph(*FORK.edges, *more, nodes=nodes)

    state = run(of_all(), succeeded("f#1"), succeeded("a#1"))
    wider = of_all(edge("f -> c"), *meet("j", "c"))
    assert "all of its edges" in kept(of_all(), wider, state)["joins.j"]
    assert kept(of_all(), of_all(), state) == {}


def test_a_scope_without_its_fork_keeps_the_run() -> None:
    state = run(FORK, succeeded("f#1"))
    other = graph(edge("start -> a"), edge("a -> b"), edge("b -> end"))
    found = kept(FORK, other, state)
    assert any(path.startswith("scopes.") and "stands at f" in said for path, said in found.items())


def test_variables_stay_what_they_are() -> None:
    state = run(LINE, n=1, m=2, s=3)
    other = replace(
        LINE, types={"n": {"type": "integer"}}, reducers={"m": "sum"}, shared=frozenset({"s"})
    )
    found = kept(LINE, other, state)
    assert [*found] == ["variables.m", "variables.n", "variables.s"]
    assert kept(LINE, replace(LINE, types={"new": {"type": "integer"}}), state) == {}


def test_defaults_must_fit_beside_what_there_is() -> None:
    other = replace(LINE, variables={"m": "x" * 200_000})
    assert kept(LINE, other, run(LINE, n="y" * 60_000)) == {}
    assert [*kept(LINE, other, run(LINE, n="y" * 70_000))] == ["variables"]


def test_what_threads_have_written_counts_among_the_variables() -> None:
    state = run(FORK, succeeded("f#1"), succeeded("a#1", patch={"x": [1]}))
    assert [*kept(FORK, replace(FORK, reducers={"x": "append"}), state)] == ["variables.x"]


def test_a_result_that_was_not_kept_cannot_be_recalled() -> None:
    recalling = replace(LINE, remembered=frozenset({NodeId("a")}))
    assert "$steps.a" in kept(LINE, recalling, run(LINE))["nodes.a"]
    remembers = run(recalling, reducers={"$steps.a": "replace"})
    assert kept(recalling, recalling, remembers) == {}
    assert moved(recalling, LINE, remembers).reducers == {"$steps.a": "replace"}
    done = turn(recalling, remembers, succeeded("a#1", result=7)).state
    assert moved(recalling, LINE, done).variables["$steps.a"] == 7


def undone(template: Graph, *names: str) -> Graph:
    handler = replace(node("undo"), uses="undo")
    nodes = {
        name: replace(each, compensate=replace(handler, id=NodeId(f"{name}/compensate")))
        if name in names
        else each
        for name, each in template.nodes.items()
    }
    return replace(template, nodes=nodes)


def test_what_was_done_must_be_undone_as_it_was_said() -> None:
    state = run(undone(LINE, "a"), succeeded("a#1"))
    assert "undoes it has gone" in kept(undone(LINE, "a"), LINE, state)["nodes.a"]
    assert kept(undone(LINE, "a"), undone(LINE, "a", "b"), state) == {}
    shorter = graph(edge("start -> b"), edge("b -> end"))
    assert "undoes it has gone" in kept(undone(LINE, "a"), shorter, state)["nodes.a"]


def test_a_live_step_of_another_name_could_not_be_undone() -> None:
    other = undone(graph(edge("start -> a"), edge("a -> c"), edge("c -> end")), "c")
    state = run(LINE, succeeded("a#1"))
    assert "would not find" in kept(LINE, other, state, {"b": "c"})["steps.b#1"]


def test_a_run_that_is_undoing_stays() -> None:
    state = run(undone(LINE, "a"), succeeded("a#1"), failed("b#1", terminal=True))
    assert state.undoing is not None
    assert [*kept(undone(LINE, "a"), undone(LINE, "a"), state)] == [""]


def held(until: str | None) -> State:
    """A run whose live step holds a lock, and so does a token."""
    state = run(FORK, succeeded("f#1"), succeeded("a#1"))
    holds = (("run:desk", None if until is None else NodeId(until)),)
    steps = {key: replace(step, holds=holds) for key, step in state.steps.items()}
    tokens = tuple(replace(token, holds=holds) for token in state.tokens)
    return replace(state, steps=steps, tokens=tokens)


def locked(template: Graph) -> Graph:
    name = expressions.template("desk")
    nodes = {**template.nodes, NodeId("b"): node("b", lock=Lock(name=name))}
    return replace(template, nodes=nodes)


def test_a_lock_must_be_given_back() -> None:
    assert [*kept(locked(FORK), FORK, held(None))] == ["steps.b#1", "tokens[0]"]
    assert kept(locked(FORK), locked(FORK), held(None)) == {}
    after = moved(locked(FORK), locked(FORK), held("j"))
    assert after.tokens[0].holds == (("run:desk", "j"),)
    assert "nothing gives back" in kept(locked(FORK), locked(FORK), held("gone"))["tokens[0]"]


def mapping(do: str = "review", name: str = "w") -> Graph:
    wait = Map(over=expressions.template([1, 2]), do=node(f"{name}/item", uses=do))
    each = node(name, kind="map", wait=wait)
    return graph(edge(f"start -> {name}"), edge(f"{name} -> end"), nodes=[each])


def test_a_map_under_way_stays_as_it_is() -> None:
    opened = msg.Opened(at=at(1), step=msg.StepKey("w#1"), items=2)
    template = mapping()
    state = run(template, opened)
    assert len(state.maps) == 1
    assert replace(moved(template, mapping(), state), moved=0) == state
    found = kept(template, mapping("other"), state)
    assert len(found) == len(state.steps)
    assert all("under way, and is not the same" in said for said in found.values())
    assert len(kept(template, mapping(name="v"), state, {"w": "v"})) == len(state.steps)
