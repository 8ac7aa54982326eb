"""Threads that run beside each other, and come together again."""

from __future__ import annotations

import itertools

import pytest

from engine.core import expressions
from engine.core import messages as msg
from engine.core.graph import Join, NodeId, Role, Route, Rule, Surplus
from engine.core.transitions import RunStatus
from tests.support.play import (
    commands,
    edge,
    failed,
    fold,
    fork,
    graph,
    meet,
    node,
    play,
    submitted,
    succeeded,
    visited,
)

ALL = {"route": Route.ALL}


def diamond(*, join=None, middle=("a", "b", "c"), reducers=None):
    """`f` forks to every node of the middle, which meet at `j`."""
    return graph(
        *fork("f", *middle),
        *meet("j", *middle),
        edge("j -> end"),
        nodes=[node("f", **ALL), node("j", join=join or Join())],
        reducers=reducers,
    )


def joins_of(taken):
    return [c for c in commands(taken) if isinstance(c, msg.JoinThreads)]


def live(taken):
    return sorted(taken.state.steps)


# --- sad paths ------------------------------------------------------------------------------


def test_two_threads_that_write_one_variable_contradict_each_other():
    done = play(
        diamond(),
        succeeded("f#1"),
        succeeded("a#1", patch={"x": 1}),
        succeeded("b#1", patch={"x": 2}),
        succeeded("c#1"),
    )
    assert done.state.ending.reason == "contradiction"
    assert "'x'" in done.state.ending.message
    assert "declare a reducer" in done.state.ending.message


def test_a_contradiction_is_found_although_a_thread_ended_before():
    loose = graph(
        *fork("f", "a", "b", "c"),
        *meet("j", "a", "b"),
        edge("j -> end"),
        edge("c -> end"),
        nodes=[node("f", **ALL)],
    )
    events = [
        succeeded("f#1"),
        succeeded("a#1", patch={"x": 1}),
        succeeded("b#1"),
        succeeded("c#1", patch={"x": 2}),
        succeeded("j#1"),
    ]
    for order in itertools.permutations(events[1:4]):
        done = play(loose, events[0], *order, events[4])
        assert done.state.ending.reason == "contradiction", order


def test_a_join_that_cannot_get_what_it_demands_starves():
    starving = graph(
        *fork("f", "a", "b"),
        *meet("j", "a"),
        edge("b -> j", join=True, when="$ok"),
        edge("b -> end", when="not $ok"),
        edge("j -> end"),
        nodes=[node("f", **ALL), node("j", join=Join(all=True))],
    )
    done = play(starving, submitted(ok=False), succeeded("f#1"), succeeded("a#1"), succeeded("b#1"))
    assert done.state.ending.reason == "join_starved"
    assert "got 1" in done.state.ending.message


def test_a_starved_join_takes_its_short_way():
    starving = graph(
        *fork("f", "a", "b"),
        *meet("j", "a"),
        edge("b -> j", join=True, when="$ok"),
        edge("b -> end", when="not $ok"),
        edge("j -> end"),
        edge("j -> c", on="short"),
        nodes=[node("f", **ALL), node("j", join=Join(all=True))],
    )
    done = play(starving, submitted(ok=False), succeeded("f#1"), succeeded("b#1"), succeeded("a#1"))
    assert live(done) == ["c#1"]
    assert joins_of(done)[0].because == "starved"
    assert joins_of(done)[0].short.edge == "j->c"


def test_two_joins_that_wait_for_each_other_are_taken_up_by_age():
    crossed = graph(
        *fork("f", "a", "b"),
        *meet("j", "a", "k"),
        *meet("k", "b", "j"),
        edge("j -> end"),
        nodes=[node("f", **ALL), node("j", **ALL), node("k", **ALL)],
    )
    done = play(crossed, succeeded("f#1"), succeeded("b#1"), succeeded("a#1"))
    assert joins_of(done)[0].node == "k"
    assert joins_of(done)[0].because == "quiescence"


def test_a_plan_may_not_go_where_no_edge_leads():
    planned = graph(*fork("p", "a", "b"), nodes=[node("p", role=Role.PLAN)])
    done = play(planned, succeeded("p#1", choice=("a", "z")))
    assert done.state.ending.reason == "no_such_choice"


def test_a_failed_step_without_a_way_for_it_fails_the_run_and_its_siblings():
    done = play(diamond(), succeeded("f#1"), succeeded("a#1"), failed("b#1", reason="timeout"))
    assert done.state.status is RunStatus.FAILED
    assert (done.state.steps, done.state.tokens, done.state.live) == ({}, (), 0)


# --- forks and joins ------------------------------------------------------------------------


def test_a_fork_starts_every_branch_and_a_join_waits_for_every_branch():
    done = play(diamond(), succeeded("f#1"))
    assert live(done) == ["a#1", "b#1", "c#1"]
    done = play(diamond(), succeeded("f#1"), succeeded("b#1"), succeeded("a#1"))
    assert live(done) == ["c#1"]
    done = play(diamond(), succeeded("f#1"), succeeded("b#1"), succeeded("a#1"), succeeded("c#1"))
    assert live(done) == ["j#1"]
    assert done.state.steps["j#1"].parents == ("b#1", "a#1", "c#1")
    assert done.state.steps["j#1"].thread == msg.ROOT
    assert set(done.state.scopes) == {""}


def test_a_run_with_several_threads_completes_when_the_last_has_ended():
    apart = graph(
        *fork("f", "a", "b"), edge("a -> end"), edge("b -> end"), nodes=[node("f", **ALL)]
    )
    done = play(apart, succeeded("f#1"), succeeded("a#1", patch={"x": 1}))
    assert done.state.status is RunStatus.RUNNING
    done = play(
        apart, succeeded("f#1"), succeeded("a#1", patch={"x": 1}), succeeded("b#1", patch={"y": 2})
    )
    assert done.state.status is RunStatus.COMPLETED
    assert done.state.variables == {"x": 1, "y": 2}


def test_a_join_waits_for_the_branches_that_were_woken_and_no_others():
    planned = graph(
        *fork("p", "a", "b", "c"),
        *meet("j", "a", "b", "c"),
        edge("j -> end"),
        nodes=[node("p", role=Role.PLAN)],
    )
    one = play(planned, succeeded("p#1", choice=("b",)), succeeded("b#1"))
    assert live(one) == ["j#1"]
    two = play(planned, succeeded("p#1", choice=("c", "a")), succeeded("a#1"))
    assert live(two) == ["c#1"]


def test_threads_see_their_own_writes_and_not_their_siblings():
    longer = graph(
        *fork("f", "a", "b"),
        edge("a -> a2"),
        *meet("j", "a2", "b"),
        edge("j -> end"),
        nodes=[node("f", **ALL)],
    )
    done = play(
        longer,
        submitted(base=0),
        succeeded("f#1"),
        succeeded("a#1", patch={"x": 1}),
        succeeded("b#1", patch={"y": 2}),
    )
    assert done.state.view(done.state.steps["a2#1"].thread) == {"base": 0, "x": 1}
    assert done.state.variables == {"base": 0}
    done = play(
        longer,
        submitted(base=0),
        succeeded("f#1"),
        succeeded("a#1", patch={"x": 1}),
        succeeded("b#1", patch={"y": 2}),
        succeeded("a2#1", patch={"base": 5}),
    )
    assert done.state.variables == {"base": 5, "x": 1, "y": 2}


@pytest.mark.parametrize(
    ("reducer", "before", "merged"),
    [
        ("append", [0], [0, "a", "b", "c"]),
        ("sum", 10, 16),
        ("max", 2, 3),
        ("min", 2, 1),
        ("replace", 0, 3),
        ("set", ["x"], ["x", "y"]),
        ("merge", {"n": 0}, {"n": 0, "a": 1, "b": 2}),
    ],
)
def test_contributions_add_up_in_branch_order_whoever_is_first(reducer, before, merged):
    values = {
        "append": ("a", "b", "c"),
        "set": ("x", "y", "y"),
        "merge": ({"a": 1}, {"b": 2}, {}),
    }.get(reducer, (1, 2, 3))
    template = diamond(reducers={"v": reducer})
    reports = [
        succeeded(f"{name}#1", patch={"v": value})
        for name, value in zip("abc", values, strict=True)
    ]
    for order in itertools.permutations(reports):
        done = play(
            template,
            submitted(reducers={"v": reducer}, v=before),
            succeeded("f#1"),
            *order,
            succeeded("j#1"),
        )
        assert done.state.variables == {"v": merged}


def test_any_of_the_branches_lets_a_join_go_on_and_cancels_the_rest():
    done = play(diamond(join=Join(count=1)), succeeded("f#1"), succeeded("b#1", patch={"x": 1}))
    assert live(done) == ["j#1"]
    assert joins_of(done)[0].because == "demand"
    assert done.state.live == 1
    assert done.state.variables == {"x": 1}
    late = play(diamond(join=Join(count=1)), succeeded("f#1"), succeeded("b#1"), succeeded("a#1"))
    assert live(late) == ["j#1"]


def test_a_share_of_the_branches_is_rounded_up():
    half = diamond(join=Join(share=0.5))
    assert live(play(half, succeeded("f#1"), succeeded("b#1"))) == ["a#1", "c#1"]
    assert live(play(half, succeeded("f#1"), succeeded("b#1"), succeeded("c#1"))) == ["j#1"]


def test_surplus_threads_may_finish_and_are_absorbed():
    template = diamond(join=Join(count=1, surplus=Surplus.FINISH))
    first = play(template, succeeded("f#1"), succeeded("b#1"))
    assert live(first) == ["a#1", "c#1", "j#1"]
    done = play(
        template,
        succeeded("f#1"),
        succeeded("b#1", patch={"x": "b"}),
        succeeded("a#1"),
        succeeded("j#1"),
        succeeded("c#1"),
    )
    assert done.state.status is RunStatus.COMPLETED
    assert visited(done).count("j#1") == 1
    assert "j#2" not in visited(done)
    absorbed = [c for c in commands(done) if isinstance(c, msg.AbsorbToken)]
    assert [c.edge for c in absorbed] == ["a->j", "c->j"]


def test_a_final_edge_cancels_the_others_and_keeps_its_own_writes():
    racing = graph(
        *fork("f", "a", "b"),
        edge("a -> end", final=True),
        edge("b -> end", final=True),
        nodes=[node("f", **ALL)],
    )
    done = play(racing, submitted(n=0), succeeded("f#1"), succeeded("b#1", patch={"n": 2}))
    assert (done.state.status, done.state.ending.reason) == (RunStatus.COMPLETED, "final")
    assert done.state.variables == {"n": 2}


# --- nesting and loops ----------------------------------------------------------------------


def test_a_fork_within_a_branch_is_joined_within_it():
    nested = graph(
        *fork("f", "a", "b"),
        *fork("a", "a1", "a2"),
        *meet("k", "a1", "a2"),
        *meet("j", "k", "b"),
        edge("j -> end"),
        nodes=[node("f", **ALL), node("a", **ALL)],
    )
    done = play(
        nested,
        succeeded("f#1"),
        succeeded("a#1"),
        succeeded("a1#1", patch={"x": 1}),
        succeeded("b#1"),
        succeeded("a2#1", patch={"y": 2}),
    )
    assert live(done) == ["k#1"]
    assert done.state.view(done.state.steps["k#1"].thread) == {"x": 1, "y": 2}
    assert done.state.variables == {}
    done = play(
        nested,
        succeeded("f#1"),
        succeeded("a#1"),
        succeeded("a1#1", patch={"x": 1}),
        succeeded("b#1"),
        succeeded("a2#1", patch={"y": 2}),
        succeeded("k#1", patch={"z": 3}),
    )
    assert live(done) == ["j#1"]
    assert done.state.variables == {"x": 1, "y": 2, "z": 3}


def test_a_loop_around_a_fork_and_its_join_stays_flat():
    lapping = graph(
        *fork("f", "a", "b"),
        *meet("j", "a", "b"),
        edge("j -> f", label="loop"),
        nodes=[node("f", **ALL), node("j", max_iterations=50)],
    )
    events = [succeeded("f#1")]
    for lap in range(1, 31):
        events += [
            succeeded(f"b#{lap}"),
            succeeded(f"a#{lap}"),
            succeeded(f"j#{lap}"),
            succeeded(f"f#{lap + 1}"),
        ]
    done = play(lapping, *events)
    assert live(done) == ["a#31", "b#31"]
    assert len(done.state.scopes) == 2
    assert max(len(step.thread) for step in done.state.steps.values()) == 1


def test_each_branch_may_refine_itself_before_the_join():
    refining = graph(
        *fork("f", "a", "b"),
        edge("a -> a", label="loop", when="$again"),
        *meet("j", "a", "b"),
        edge("j -> end"),
        nodes=[node("f", **ALL)],
    )
    done = play(
        refining,
        submitted(again=True),
        succeeded("f#1"),
        succeeded("b#1"),
        succeeded("a#1"),
        succeeded("a#2", patch={"again": False}),
    )
    assert live(done) == ["j#1"]
    assert done.state.variables == {"again": False}


def test_the_only_thread_of_a_scope_that_forks_again_replaces_it():
    again = graph(
        *fork("f", "a", "b"),
        edge("b -> end"),
        *fork("a", "f2", "f3"),
        edge("f2 -> end"),
        edge("f3 -> end"),
        nodes=[node("f", **ALL), node("a", **ALL)],
    )
    done = play(again, succeeded("f#1"), succeeded("b#1", patch={"x": 1}), succeeded("a#1"))
    assert set(done.state.scopes) == {"", "a#1"}
    assert {len(step.thread) for step in done.state.steps.values()} == {1}
    assert done.state.variables == {"x": 1}


def test_a_thread_that_cannot_come_is_not_waited_for():
    aside = graph(
        *fork("f", "a", "b", "c"),
        *meet("j", "a", "b"),
        edge("j -> end"),
        edge("c -> d"),
        edge("d -> end"),
        nodes=[node("f", **ALL)],
    )
    done = play(aside, succeeded("f#1"), succeeded("a#1", patch={"x": 1}), succeeded("b#1"))
    assert live(done) == ["c#1", "j#1"]
    assert done.state.view(done.state.steps["j#1"].thread) == {"x": 1}
    assert done.state.view(done.state.steps["c#1"].thread) == {}
    done = play(
        aside,
        succeeded("f#1"),
        succeeded("a#1", patch={"x": 1}),
        succeeded("b#1"),
        succeeded("j#1", patch={"y": 2}),
        succeeded("c#1", patch={"z": 3}),
        succeeded("d#1"),
    )
    assert done.state.status is RunStatus.COMPLETED
    assert done.state.variables == {"x": 1, "y": 2, "z": 3}


# --- plans and failures ---------------------------------------------------------------------


def test_a_plan_of_rules_decides_without_running_anything():
    planned = graph(
        edge("start -> p"),
        *fork("p", "a", "b", "c"),
        nodes=[
            node(
                "p",
                kind="plan",
                role=Role.PLAN,
                rules=(
                    Rule(next=(NodeId("a"),), when=expressions.compile("$n > 5")),
                    Rule(next=(NodeId("c"), NodeId("b"))),
                ),
            )
        ],
    )
    assert live(play(planned, submitted(n=9))) == ["a#1"]
    both = play(planned, submitted(n=1))
    assert [c.node for c in commands(both) if isinstance(c, msg.RequestStart)] == ["c", "b"]


def test_a_step_that_failed_for_good_takes_the_way_for_its_reason():
    careful = graph(
        edge("start -> a"),
        edge("a -> end"),
        edge("a -> mend", on="error"),
        edge("mend -> end"),
    )
    done = play(careful, failed("a#1", reason="timeout"))
    assert live(done) == ["mend#1"]
    assert done.state.status is RunStatus.RUNNING


def test_every_history_of_threads_folds_to_its_state():
    done = play(
        diamond(reducers={"v": "append"}),
        submitted(reducers={"v": "append"}, v=[]),
        succeeded("f#1"),
        succeeded("c#1", patch={"v": 3}),
        succeeded("a#1", patch={"v": 1}),
        succeeded("b#1", patch={"v": 2}),
        succeeded("j#1"),
    )
    assert fold(done.entries) == done.state
    assert done.state.variables == {"v": [1, 2, 3]}
