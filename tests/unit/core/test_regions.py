"""Regions: what a step ends elsewhere when it succeeds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Join, NodeId, Role, Route, Rule
from engine.core.policy import DEFAULT
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

FORKS = {"route": Route.ALL}


def region(*names, **options):
    """`f` forks to `w`, which cancels, to `a` then `b`, and to `c`."""
    return graph(
        *fork("f", "w", "a", "c"),
        edge("w -> d"),
        edge("a -> b"),
        edge("b -> end"),
        edge("c -> end"),
        edge("d -> end"),
        nodes=[
            node("f", **FORKS),
            node("w", cancels=tuple(NodeId(name) for name in names), **options),
        ],
    )


def live(taken):
    return sorted(taken.state.steps)


def regions(taken):
    return [c for c in commands(taken) if isinstance(c, msg.CancelRegion)]


def test_a_step_that_fails_cancels_nothing():
    template = graph(
        *fork("f", "w", "a"),
        edge("w -> m", on="error"),
        edge("w -> end"),
        edge("a -> end"),
        nodes=[node("f", **FORKS), node("w", cancels=(NodeId("a"),))],
    )
    done = play(template, succeeded("f#1"), failed("w#1"))
    assert live(done) == ["a#1", "m#1"]
    assert regions(done) == []


def test_a_step_that_succeeds_ends_what_is_at_the_nodes_and_nothing_else():
    done = play(region("a", "b"), succeeded("f#1"), succeeded("w#1"))
    assert live(done) == ["c#1", "d#1"]
    assert regions(done) == [
        msg.CancelRegion(
            step=msg.StepKey("w#1"),
            nodes=(NodeId("a"), NodeId("b")),
            steps={NodeId("a"): 1},
        )
    ]
    assert done.state.live == 2
    assert fold(done.entries) == done.state


def test_it_is_recorded_before_the_edges_that_the_step_takes():
    done = play(region("a"), succeeded("f#1"), succeeded("w#1"))
    (place,) = [i for i, c in enumerate(commands(done)) if isinstance(c, msg.CancelRegion)]
    after = commands(done)[place + 1]
    assert isinstance(after, msg.TakeEdges)
    assert after.step == "w#1"


def test_where_nobody_is_there_is_nothing_to_record():
    early = [succeeded("f#1"), succeeded("a#1")]
    assert regions(play(region("a"), *early, succeeded("w#1"))) == []
    assert live(play(region("a"), *early, succeeded("w#1"))) == ["b#1", "c#1", "d#1"]


def test_what_reports_from_the_region_later_finds_that_it_is_over():
    events = [succeeded("f#1"), succeeded("w#1")]
    late = play(region("a"), *events, succeeded("a#1", patch={"x": 1}))
    assert late.state == play(region("a"), *events).state


def test_a_token_that_waits_in_the_region_is_withdrawn_with_it():
    template = graph(
        *fork("f", "a", "w", "b"),
        *meet("j", "a", "b"),
        edge("j -> end"),
        edge("w -> end"),
        nodes=[node("f", **FORKS), node("w", cancels=(NodeId("j"), NodeId("b")))],
    )
    done = play(template, succeeded("f#1"), succeeded("a#1", patch={"x": 1}), succeeded("w#1"))
    assert done.state.status is RunStatus.COMPLETED
    assert regions(done)[0].tokens == (("a->j", (("f#1", 0),)),)
    assert done.state.variables == {"x": 1}
    assert "j#1" not in visited(done)


def test_a_token_on_its_way_into_the_region_does_not_arrive():
    template = graph(
        edge("start -> f"),
        *fork("f", "p", "a"),
        edge("p -> end"),
        edge("a -> end"),
        nodes=[
            node("f", **FORKS),
            node("p", kind="pass", role=Role.CONTROL, cancels=(NodeId("a"),)),
        ],
    )
    done = play(template, succeeded("f#1"))
    assert done.state.status is RunStatus.COMPLETED
    assert "a#1" not in visited(done)


def test_a_region_may_reach_into_other_scopes_and_joins_do_not_wait_for_it():
    template = graph(
        *fork("f", "w", "g", "c"),
        *fork("g", "a", "b"),
        *meet("k", "a", "b"),
        *meet("j", "k", "w", "c"),
        edge("j -> end"),
        nodes=[
            *(node(name, **FORKS) for name in "fg"),
            node("w", cancels=(NodeId("a"), NodeId("g"), NodeId("k"))),
        ],
    )
    events = [succeeded("f#1"), succeeded("g#1"), succeeded("b#1", patch={"b": 1})]
    done = play(template, *events, succeeded("w#1"), succeeded("c#1"))
    assert live(done) == ["j#1"]
    assert set(done.state.scopes) == {""}
    assert done.state.variables == {"b": 1}


def test_a_join_that_demands_what_a_region_cancelled_starves():
    template = graph(
        *fork("f", "w", "a", "b"),
        *meet("j", "a", "b"),
        edge("j -> end"),
        edge("w -> end"),
        nodes=[
            node("f", **FORKS),
            node("w", cancels=(NodeId("a"),)),
            node("j", join=Join(all=True)),
        ],
    )
    done = play(template, succeeded("f#1"), succeeded("b#1"), succeeded("w#1"))
    assert done.state.ending.reason == "join_starved"


def test_a_plan_of_rules_cancels_too():
    template = graph(
        *fork("f", "p", "a"),
        edge("p -> d"),
        edge("a -> end"),
        edge("d -> end"),
        nodes=[
            node("f", **FORKS),
            node(
                "p",
                kind="plan",
                role=Role.PLAN,
                rules=(Rule(next=(NodeId("d"),)),),
                cancels=(NodeId("a"),),
            ),
        ],
    )
    assert live(play(template, succeeded("f#1"))) == ["d#1"]


def test_a_step_may_lead_into_the_region_that_it_has_cleared():
    template = graph(
        *fork("f", "w", "a"),
        edge("w -> a"),
        edge("a -> end"),
        nodes=[node("f", **FORKS), node("w", cancels=(NodeId("a"),))],
    )
    assert live(play(template, succeeded("f#1"), succeeded("w#1"))) == ["a#2"]


@pytest.mark.parametrize("at_hand", [(), ("a#1",)])
def test_it_does_not_matter_which_of_its_steps_are_at_hand(at_hand):
    template = region("a", "b")
    before = play(template, submitted(), succeeded("f#1")).state
    steps = {key: step for key, step in before.steps.items() if key in {"w#1", *at_hand}}
    partial = advance(template, DEFAULT, replace(before, steps=steps), [succeeded("w#1")])
    whole = advance(template, DEFAULT, before, [succeeded("w#1")])
    assert partial.entries == whole.entries
    assert replace(partial.state, steps={}) == replace(whole.state, steps={})
