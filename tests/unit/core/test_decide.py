from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from engine.core import expressions, references, transitions
from engine.core import messages as msg
from engine.core.decide import SEEN_BYTES, advance, backoff, outputs
from engine.core.graph import NodeId, Retry
from engine.core.policy import DEFAULT, Policy
from engine.core.state import State
from engine.core.transitions import IllegalTransition, RunStatus, StepStatus
from tests.support.play import (
    FINAL,
    LINE,
    LOOP,
    NESTED,
    NOW,
    RETRYING,
    at,
    commands,
    edge,
    failed,
    graph,
    lost,
    node,
    play,
    submitted,
    succeeded,
    turn,
    visited,
    woke,
)


def last_edges(taken: object) -> msg.TakeEdges:
    found = [c for c in commands(taken) if isinstance(c, msg.TakeEdges)]  # type: ignore[arg-type]
    return found[-1]


# --- sad paths ------------------------------------------------------------------------------


def test_a_failed_step_without_retry_fails_the_run_with_its_reason():
    ended = play(LINE, failed("a#1", reason="timeout")).state
    assert ended.status is RunStatus.FAILED
    assert ended.ending is not None
    assert (ended.ending.reason, ended.ending.message, ended.ending.step) == (
        "timeout",
        "boom",
        "a#1",
    )
    assert not ended.steps


def test_a_choice_that_no_edge_answers_to_fails_the_run():
    both = graph(edge("start -> a"), edge("a -> b", label="x"), edge("a -> end", label="y"))
    ended = play(both, succeeded("a#1", choice="z")).state
    assert ended.ending is not None
    assert ended.ending.reason == "no_such_choice"
    assert "'z'" in ended.ending.message


def test_a_condition_that_cannot_be_evaluated_fails_the_run_and_names_the_edge():
    broken = graph(edge("start -> a"), edge("a -> end", when="$n > 3"))
    ended = play(broken, submitted(n="many"), succeeded("a#1")).state
    assert ended.ending is not None
    assert ended.ending.reason == "condition_failed"
    assert "a->end" in ended.ending.message


def test_a_run_that_has_spent_its_steps_fails_with_that_reason():
    endless = graph(
        edge("start -> a"),
        edge("a -> a", label="loop"),
        nodes=[node("a", max_iterations=1000)],
        steps=3,
    )
    ended = play(endless, succeeded("a#1"), succeeded("a#2")).state
    assert ended.ending is not None
    assert ended.ending.reason == "step_budget"
    assert ended.visited == 3


def test_a_circle_of_control_nodes_ends_at_the_step_budget():
    idle = graph(
        edge("start -> pass"),
        edge("pass -> start"),
        steps=500,
        nodes=[node("start", max_iterations=10**6), node("pass", max_iterations=10**6)],
    )
    ended = play(idle, submitted()).state
    assert ended.ending is not None
    assert ended.ending.reason == "step_budget"


def test_a_step_that_keeps_losing_its_worker_fails():
    state = play(LINE).state
    for attempt in range(1, 9):
        if state.terminal:
            break
        state = turn(LINE, state, lost("a#1", attempt=attempt)).state
        state = turn(LINE, state, woke("a#1", seconds=10_000)).state
    assert state.ending is not None
    assert state.ending.reason == "lost"
    assert attempt == DEFAULT.lost_attempts + 2


def test_a_refused_start_fails_the_run_with_the_rule():
    asked = advance(LINE, DEFAULT, State(run="r1"), [submitted()]).state
    refused = msg.Refused(at=NOW, step=msg.StepKey("a#1"), rule="daily", message="spent")
    ended = advance(LINE, DEFAULT, asked, [refused]).state
    assert ended.ending is not None
    assert (ended.ending.reason, ended.ending.message) == ("refused", "daily: spent")


def test_reports_that_nobody_waits_for_change_nothing():
    state = play(LINE).state
    for stale in (
        succeeded("a#1", attempt=2),
        succeeded("nowhere#1"),
        woke("a#1"),
        msg.Admitted(at=NOW, step=msg.StepKey("a#1")),
        lost("a#1", attempt=7),
    ):
        assert turn(LINE, state, stale).state == state


def test_an_ended_run_decides_nothing_more():
    ended = play(LINE, failed("a#1")).state
    for late in (
        succeeded("a#1"),
        msg.CancelRequested(at=NOW, by="ada"),
        woke("a#1"),
    ):
        after = turn(LINE, ended, late)
        assert commands(after) == []
        assert after.state == ended


def test_a_status_never_follows_one_that_it_cannot_follow():
    with pytest.raises(IllegalTransition, match="completed cannot become running"):
        transitions.check(transitions.RUN, RunStatus.COMPLETED, RunStatus.RUNNING)


# --- going on -------------------------------------------------------------------------------


def test_a_line_runs_from_start_to_end():
    done = play(LINE, succeeded("a#1"), succeeded("b#1"))
    assert visited(done) == ["start#1", "a#1", "b#1", "end#1"]
    assert done.state.status is RunStatus.COMPLETED
    assert done.state.live == 0
    assert not done.state.tokens


def test_nothing_starts_before_it_is_admitted():
    asked = advance(LINE, DEFAULT, State(run="r1"), [submitted()]).state
    assert asked.steps[msg.StepKey("a#1")].status is StepStatus.REQUESTED


def test_a_deferred_start_is_asked_for_again_when_it_wakes():
    asked = advance(LINE, DEFAULT, State(run="r1"), [submitted()]).state
    key = msg.StepKey("a#1")
    later = msg.Deferred(at=NOW, step=key, rule="rate", until=at(60))
    waiting = advance(LINE, DEFAULT, asked, [later]).state
    assert (waiting.steps[key].status, waiting.steps[key].wake) == (StepStatus.DEFERRED, at(60))
    woken = advance(LINE, DEFAULT, waiting, [woke("a#1", seconds=60)])
    assert commands(woken)[-1].step == key  # type: ignore[union-attr]
    assert woken.state.steps[key].status is StepStatus.REQUESTED
    assert woken.state.steps[key].attempt == 1


def test_patches_become_variables_and_later_ones_win():
    done = play(
        LINE,
        submitted(n=1, kept=True),
        succeeded("a#1", patch={"n": 2}),
        succeeded("b#1", patch={"n": 3, "m": []}),
    )
    assert done.state.variables == {"n": 3, "m": [], "kept": True}


def test_a_loop_turns_while_its_condition_holds():
    done = play(
        LOOP,
        submitted(n=0),
        succeeded("work#1", patch={"n": 1}),
        succeeded("work#2", patch={"n": 2}),
        succeeded("work#3", patch={"n": 3}),
    )
    assert visited(done) == ["start#1", "work#1", "work#2", "work#3", "end#1"]


def test_a_loop_at_its_bound_leaves_by_the_other_edge_and_history_says_so():
    bounded = graph(
        edge("start -> work"),
        edge("work -> work", label="loop"),
        edge("work -> end"),
        nodes=[node("work", max_iterations=2)],
    )
    done = play(bounded, succeeded("work#1"), succeeded("work#2"))
    assert done.state.status is RunStatus.COMPLETED
    taken = [c for c in commands(done) if isinstance(c, msg.TakeEdges) and c.step == "work#2"]
    assert [(u.edge, u.why, u.saw) for u in taken[0].untaken] == [
        ("work->work:loop", "max_iterations", {"max_iterations": 2})
    ]


def test_a_loop_with_no_other_way_out_ends_at_its_bound_without_failing():
    alone = graph(
        edge("start -> work"),
        edge("work -> work", label="loop"),
        nodes=[node("work", max_iterations=3)],
    )
    done = play(alone, *(succeeded(f"work#{n}") for n in (1, 2, 3)))
    assert done.state.status is RunStatus.COMPLETED
    assert visited(done)[-1] == "work#3"


def test_an_inner_loop_counts_anew_on_every_lap_of_the_outer():
    state = play(NESTED, succeeded("outer#1")).state
    laps = []
    for _ in range(40):
        if state.terminal:
            break
        (key,) = state.steps
        name = key.partition("#")[0]
        laps.append(name)
        choice = None if name == "outer" else True
        state = turn(NESTED, state, succeeded(key, choice=choice)).state
    # `inner` is cut off after two visits of each lap, `check` after three of the whole.
    lap = ["inner", "inner", "check", "outer"]
    assert laps == (lap * 3)[:-1]
    assert state.status is RunStatus.COMPLETED


def test_a_loop_without_a_label_is_left_by_its_component():
    plain = graph(
        edge("start -> a"),
        edge("a -> b"),
        edge("b -> a"),
        edge("b -> end"),
        nodes=[node("b", max_iterations=2)],
    )
    done = play(plain, succeeded("a#1"), succeeded("b#1"), succeeded("a#2"), succeeded("b#2"))
    assert visited(done) == ["start#1", "a#1", "b#1", "a#2", "b#2", "end#1"]


def test_the_first_edge_that_holds_is_taken_and_the_others_say_why_not():
    fork = graph(
        edge("start -> a"),
        edge("a -> b", when="$n > 5"),
        edge("a -> end", when="$n > 3"),
        edge("a -> start"),
    )
    done = play(fork, submitted(n=4), succeeded("a#1"))
    routed = next(c for c in commands(done) if isinstance(c, msg.TakeEdges) and c.step == "a#1")
    assert [(t.edge, t.when, t.saw) for t in routed.taken] == [("a->end", "$n > 3", {"$n": 4})]
    assert [(u.edge, u.why, u.saw) for u in routed.untaken] == [
        ("a->b", "condition", {"$n": 4}),
        ("a->start", "earlier", {}),
    ]


def test_a_step_whose_edges_all_say_no_ends_its_thread():
    done = play(
        graph(edge("start -> a"), edge("a -> end", when="$n > 5")), submitted(n=1), succeeded("a#1")
    )
    assert done.state.status is RunStatus.COMPLETED
    assert last_edges(done).untaken[0].why == "condition"


@pytest.mark.parametrize(
    ("choice", "target"),
    [(True, "again"), (False, "done"), ("done", "done"), ("other", "rest"), (None, "again")],
)
def test_a_choice_takes_the_edge_that_answers_to_it(choice, target):
    choosing = graph(
        edge("start -> a"),
        edge("a -> again", label="true"),
        edge("a -> done", label="false"),
        edge("a -> rest"),
    )
    done = play(choosing, succeeded("a#1", choice=choice))
    assert visited(done)[-1] == f"{target}#1"


def test_a_large_value_is_recorded_by_its_digest():
    done = play(
        graph(edge("start -> a"), edge("a -> end", when='contains($text, "needle")')),
        submitted(text="x" * (SEEN_BYTES + 1)),
        succeeded("a#1"),
    )
    seen = last_edges(done).untaken[0].saw["$text"]
    assert isinstance(seen, dict)
    assert seen["bytes"] == SEEN_BYTES + 3
    assert set(seen) == {"sha256", "bytes"}


def test_the_result_and_the_run_can_be_asked_for():
    asking = graph(
        edge("start -> a"),
        edge("a -> end", when='$result.ok and $run.id == "r1" and $run.steps == 2'),
    )
    done = play(asking, succeeded("a#1", result={"ok": True}))
    assert visited(done)[-1] == "end#1"


def test_a_final_edge_ends_the_run():
    done = play(
        FINAL, succeeded("judge#1", result={"again": True}), succeeded("judge#2", result={})
    )
    assert done.state.ending is not None
    assert (done.state.status, done.state.ending.reason) == (RunStatus.COMPLETED, "final")


def test_a_cancelled_run_ends_at_once():
    done = play(LINE, msg.CancelRequested(at=NOW, by="ada", reason="too slow"))
    assert done.state.ending is not None
    assert (done.state.status, done.state.ending.message) == (RunStatus.CANCELLED, "too slow")
    assert (done.state.steps, done.state.live) == ({}, 0)


def test_a_run_can_be_cancelled_before_its_first_turn():
    state = State(run="r1")
    done = turn(LINE, state, submitted(), msg.CancelRequested(at=NOW, by="ada"))
    assert done.state.status is RunStatus.CANCELLED


# --- trying again ---------------------------------------------------------------------------


def test_a_failed_attempt_is_tried_again_after_its_backoff():
    waiting = play(RETRYING, failed("a#1")).state
    step = waiting.steps[msg.StepKey("a#1")]
    assert (step.status, step.attempt, step.wake) == (StepStatus.RETRYING, 2, at(10))
    again = turn(RETRYING, waiting, woke("a#1", seconds=10)).state
    assert again.steps[msg.StepKey("a#1")].status is StepStatus.READY
    done = turn(RETRYING, again, succeeded("a#1", attempt=2, seconds=11))
    assert done.state.status is RunStatus.COMPLETED
    assert done.state.visited == 3


def test_attempts_run_out():
    state = play(RETRYING, failed("a#1")).state
    for attempt in (2, 3):
        state = turn(RETRYING, state, woke("a#1", seconds=1000)).state
        state = turn(RETRYING, state, failed("a#1", attempt=attempt, seconds=1000)).state
    assert state.status is RunStatus.FAILED


def test_a_terminal_failure_is_not_tried_again():
    assert play(RETRYING, failed("a#1", terminal=True)).state.status is RunStatus.FAILED


def test_only_the_reasons_asked_for_are_tried_again():
    picky = graph(
        edge("start -> a"),
        edge("a -> end"),
        nodes=[node("a", retry=Retry(attempts=3, on=frozenset({"timeout"})))],
    )
    assert play(picky, failed("a#1", reason="timeout")).state.status is RunStatus.RUNNING
    assert play(picky, failed("a#1", reason="error")).state.status is RunStatus.FAILED


def test_a_lost_attempt_is_tried_again_at_once_and_costs_no_retry():
    again = play(LINE, lost("a#1")).state
    step = again.steps[msg.StepKey("a#1")]
    assert (step.status, step.attempt, step.errors, step.lost) == (StepStatus.READY, 2, 0, 1)
    killed = turn(LINE, again, failed("a#1", attempt=2, reason="killed")).state
    step = killed.steps[msg.StepKey("a#1")]
    assert (step.status, step.attempt, step.lost) == (StepStatus.RETRYING, 3, 2)
    assert step.wake == at(2), "from the second on it waits, ever longer"


def test_an_operator_may_forbid_lost_attempts():
    strict = Policy(lost_attempts=0)
    assert play(LINE, lost("a#1"), policy=strict).state.status is RunStatus.FAILED


def test_backoff_grows_to_its_limit_and_its_jitter_is_the_steps_own():
    retry = Retry(attempts=9, backoff=1, factor=3, max=20, jitter=0)
    assert [backoff(retry, n, "s") for n in (1, 2, 3, 4, 99)] == [1, 3, 9, 20, 20]
    shaken = Retry(backoff=10, jitter=0.5)
    assert backoff(shaken, 1, "s") == backoff(shaken, 1, "s") != backoff(shaken, 1, "t")
    assert all(5 <= backoff(shaken, 1, str(n)) <= 15 for n in range(50))


def test_an_immediate_retry_needs_no_wake():
    hasty = graph(
        edge("start -> a"), edge("a -> end"), nodes=[node("a", retry=Retry(attempts=2, backoff=0))]
    )
    again = play(hasty, failed("a#1")).state
    assert again.steps[msg.StepKey("a#1")].status is StepStatus.READY


def test_every_decision_is_made_at_the_time_of_its_event():
    done = play(LINE, succeeded("a#1", seconds=5))
    assert {entry.at for entry in done.entries} == {NOW, NOW + timedelta(seconds=5)}


def test_visits_are_kept_for_nodes_in_loops_alone():
    state = play(NESTED, succeeded("outer#1")).state
    (step,) = state.steps.values()
    assert step.visits == {NodeId("outer"): 1, NodeId("inner"): 1}
    assert play(LINE).state.steps[msg.StepKey("a#1")].visits == {}


# --- pausing and skipping -------------------------------------------------------------------


def paused(*, seconds=0):
    return msg.PauseRequested(at=at(seconds), by="ada")


def resumed(*, seconds=0):
    return msg.ResumeRequested(at=at(seconds), by="ada")


def test_a_paused_run_folds_reports_and_starts_nothing_until_it_is_resumed():
    held = play(LINE, paused(), succeeded("a#1", patch={"n": 1}))
    assert held.state.status is RunStatus.PAUSED
    assert (held.state.steps, held.state.variables) == ({}, {"n": 1})
    assert [token.target for token in held.state.tokens] == ["b"]
    going = turn(LINE, held.state, resumed())
    assert list(going.state.steps) == ["b#1"]


def test_a_wake_finds_nobody_in_a_paused_run():
    waiting = play(RETRYING, failed("a#1"), paused()).state
    assert turn(RETRYING, waiting, woke("a#1", seconds=20)).state == waiting
    again = turn(RETRYING, turn(RETRYING, waiting, resumed()).state, woke("a#1", seconds=80))
    assert again.state.steps[msg.StepKey("a#1")].status is StepStatus.READY


def test_a_paused_run_can_be_cancelled_and_can_fail():
    cancelled = play(LINE, paused(), msg.CancelRequested(at=NOW, by="ada"))
    assert cancelled.state.status is RunStatus.CANCELLED
    assert play(LINE, paused(), failed("a#1")).state.status is RunStatus.FAILED


def test_pausing_twice_or_resuming_what_runs_changes_nothing():
    once = play(LINE, paused()).state
    assert turn(LINE, once, paused()).state == once
    running = play(LINE).state
    assert turn(LINE, running, resumed()).state == running


def test_a_skipped_step_counts_as_done_with_the_choice_it_is_given():
    choosing = graph(edge("start -> a"), edge("a -> b", label="x"), edge("a -> end", label="y"))
    skip = msg.SkipRequested(at=NOW, step=msg.StepKey("a#1"), by="ada", choice="x")
    skipped = play(choosing, skip)
    assert list(skipped.state.steps) == ["b#1"]
    late = turn(choosing, skipped.state, succeeded("a#1", choice="y"))
    assert late.state == skipped.state


def test_a_run_whose_outputs_cannot_be_made_fails():
    template = replace(LINE, outputs={"x": expressions.template("$(1 / $n)")})
    taken = play(template, submitted(n=0), succeeded("a#1"), succeeded("b#1"))
    assert (taken.state.status, taken.state.ending.reason) == (RunStatus.FAILED, "output_failed")


def test_a_run_gives_its_outputs_or_else_its_variables():
    template = replace(LINE, outputs={"x": expressions.template("$found.x")})
    assert outputs(template, "r1", {"found": {"x": 7}}, references.unread) == {"x": 7}
    assert outputs(LINE, "r1", {"found": 7}, references.unread) == {"found": 7}
    fixed = replace(LINE, outputs={"x": expressions.template("as it stands")})
    assert outputs(fixed, "r1", {"found": 7}, references.unread) == {"x": "as it stands"}
