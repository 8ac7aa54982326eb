"""What scopes hold, and what is left of it when they end."""

from __future__ import annotations

import pytest

from engine.core import messages as msg
from engine.core import scopes
from engine.core.fold import evolve
from engine.core.graph import EdgeId, Join, NodeId, Role, Route, Rule
from engine.core.overlays import Contradiction
from engine.core.scopes import Scope
from engine.core.state import State
from engine.core.transitions import RunStatus
from tests.support.play import (
    commands,
    edge,
    failed,
    fork,
    graph,
    meet,
    node,
    play,
    submitted,
    succeeded,
)

#: A scope `f` of two branches, and a scope `g` within its first one.
OUTER = Scope(fork=NodeId("f"), branches=2, overlays={"0": {"a": 1}, "1": {"b": 2}})
INNER = Scope(
    parent=(("f", 0),), fork=NodeId("g"), branches=2, overlays={"0": {"c": 3}, "1": {"d": 4}}
)
NESTED = {"": Scope(), "f": OUTER, "g": INNER}
ALL = {"route": Route.ALL}


def test_a_scope_that_ends_hands_on_what_the_scopes_within_it_hold():
    left, variables = scopes.closed(NESTED, {"z": 0}, "f", {})
    assert set(left) == {""}
    assert variables == {"z": 0, "a": 1, "b": 2, "c": 3, "d": 4}


def test_scopes_within_scopes_are_handed_on_once():
    deepest = Scope(parent=(("f", 0), ("g", 1)), branches=1, overlays={"0": {"e": 5}})
    _, variables = scopes.closed({**NESTED, "h": deepest}, {}, "f", {})
    assert variables == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}


def test_threads_within_a_scope_contradict_those_beside_it():
    beside = {**NESTED, "f": Scope(branches=2, overlays={"1": {"c": 0}})}
    with pytest.raises(Contradiction):
        scopes.closed(beside, {}, "f", {})


def test_what_a_thread_wrote_further_in_is_taken_along():
    threads = [(("f", 0), ("g", 0)), (("f", 0), ("g", 1)), (("f", 1),)]
    left, together = scopes.gathered(NESTED, "f", threads, {})
    assert together == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert left["f"].overlays == left["g"].overlays == {}


def test_what_a_branch_wrote_stays_for_those_who_still_run_on_it():
    busy = {
        **NESTED,
        "g": Scope(parent=(("f", 0),), branches=2, live={NodeId("x"): 1}, overlays={"0": {"c": 3}}),
    }
    left, together = scopes.gathered(busy, "f", [(("f", 0), ("g", 0))], {})
    assert together == {"c": 3}
    assert left["f"].overlays["0"] == {"a": 1}


def test_the_root_has_no_branches_to_take_from():
    left, together = scopes.gathered(NESTED, "", [(("f", 1),)], {})
    assert together == {"b": 2}
    assert left["f"].overlays == {"0": {"a": 1}}


def test_a_cancelled_root_leaves_nothing():
    assert scopes.cancelled(NESTED, "") == {"": Scope()}


def test_cancelling_a_scope_takes_its_steps_from_those_around_it():
    live = {NodeId("x"): 2}
    around = {"": Scope(live={NodeId("x"): 3}), "f": Scope(live=live), "g": INNER}
    left = scopes.cancelled(around, "f")
    assert left == {"": Scope(live={NodeId("x"): 1})}


def test_a_token_that_is_not_there_cannot_be_absorbed():
    state = State(run="r1")
    assert evolve(state, msg.AbsorbToken(edge=EdgeId("x"), thread=msg.ROOT)) == state


def test_a_rule_that_cannot_be_evaluated_names_the_plan_and_the_rule():
    from_rules = _planned("$n > 3")
    ended = play(from_rules, submitted(n="many")).state.ending
    assert (ended.reason, "rule 1" in ended.message) == ("condition_failed", True)


def test_a_plan_none_of_whose_rules_holds_ends_its_thread():
    done = play(_planned("$n > 3"), submitted(n=1))
    assert done.state.status is RunStatus.COMPLETED


def _planned(when):
    from_text = edge("x -> y", when=when).when
    rules = (Rule(next=(NodeId("a"),), when=from_text),)
    return graph(
        edge("start -> p"),
        edge("p -> a"),
        nodes=[node("p", kind="plan", role=Role.PLAN, rules=rules)],
    )


def test_a_way_for_failures_is_for_its_reasons_and_while_its_condition_holds():
    careful = graph(
        edge("start -> a"),
        edge("a -> end"),
        edge("a -> b", on="error", reasons=("timeout",)),
        edge("a -> c", on="error", when="$n > 3"),
    )
    assert list(play(careful, submitted(n=1), failed("a#1", reason="timeout")).state.steps) == [
        "b#1"
    ]
    assert list(play(careful, submitted(n=9), failed("a#1")).state.steps) == ["c#1"]
    assert play(careful, submitted(n=1), failed("a#1")).state.ending.reason == "error"
    broken = play(careful, submitted(n="many"), failed("a#1")).state.ending
    assert broken.reason == "condition_failed"


def test_a_way_for_failures_that_leads_back_ends_at_the_bound():
    stubborn = graph(
        edge("start -> a"),
        edge("a -> end"),
        edge("a -> b", on="error"),
        edge("b -> a"),
        nodes=[node("a", max_iterations=2)],
    )
    done = play(stubborn, failed("a#1"), succeeded("b#1"), failed("a#2", reason="timeout"))
    assert done.state.ending.reason == "timeout"


def test_a_fork_that_replaces_a_scope_whose_threads_contradict_fails():
    again = graph(
        *fork("f", "a", "b"),
        edge("b -> end"),
        *fork("a", "x", "y"),
        edge("x -> end"),
        edge("y -> end"),
        nodes=[node("f", **ALL), node("a", **ALL)],
    )
    done = play(
        again, succeeded("f#1"), succeeded("b#1", patch={"v": 1}), succeeded("a#1", patch={"v": 2})
    )
    assert done.state.ending.reason == "contradiction"


def test_tokens_may_wait_at_a_join_that_none_of_their_forks_leads_to():
    loose = graph(
        *fork("f", "a", "b"),
        *fork("a", "x", "y"),
        *meet("j", "x"),
        edge("y -> end"),
        *meet("j", "b"),
        edge("j -> end"),
        nodes=[node("f", **ALL), node("a", **ALL), node("j", join=Join(of=NodeId("f")))],
    )
    done = play(
        loose,
        succeeded("f#1"),
        succeeded("a#1"),
        succeeded("x#1", patch={"x": 1}),
        succeeded("b#1", patch={"b": 2}),
    )
    assert sorted(done.state.steps) == ["j#1", "y#1"]
    assert done.state.view(done.state.steps["j#1"].thread) == {"x": 1, "b": 2}
    assert [c.scope for c in commands(done) if isinstance(c, msg.JoinThreads)] == ["f#1"]
