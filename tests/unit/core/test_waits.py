"""Steps that wait, and threads that hold locks."""

from __future__ import annotations

import pytest

from engine.core import expressions
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import (
    Asked,
    Awaited,
    Child,
    Join,
    Lock,
    NodeId,
    Retry,
    Role,
    Route,
    Timer,
)
from engine.core.policy import DEFAULT
from engine.core.state import State
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Inline
from tests.support.play import (
    at,
    edge,
    failed,
    fork,
    graph,
    lost,
    meet,
    node,
    submitted,
    succeeded,
    ticked,
    woke,
)
from tests.support.shell import AGAIN, TIMER, Shell, folded, run, stored, told

TEXT = expressions.template
PAUSE = msg.PauseRequested(at=at(1), by="ada")
RESUME = msg.ResumeRequested(at=at(2), by="ada")
TIMED = graph(edge("w -> end"), nodes=[node("w", kind="timer", wait=Timer(seconds=TEXT("10s")))])


def event(*more, **options):
    """`w` waits for an event, and leaves what it brought in `n`; then comes `a`."""
    options = {
        "wait": Awaited(name=TEXT("paid"), expires=30),
        "save": {"n": TEXT("$result")},
    } | options
    return graph(
        edge("w -> a"), edge("a -> end"), *more, nodes=[node("w", kind="event", **options)]
    )


def asking(*edges, choices=("yes", "no")):
    return graph(*edges, nodes=[node("w", kind="approval", wait=Asked(choices=choices))])


def calling(**retry):
    child = node("w", kind="workflow", wait=Child(workflow="inner"), retry=Retry(**retry))
    return graph(edge("w -> end"), nodes=[child])


def ended(key, *, attempt=1, result=None, choice=None, seconds=5):
    return msg.WaitEnded(
        at=at(seconds),
        step=msg.StepKey(key),
        attempt=attempt,
        by=("event:1",),
        result=Inline(value=result),
        choice=choice,
    )


def gone(key, *, attempt=1, seconds=5):
    return msg.WaitFailed(
        at=at(seconds),
        step=msg.StepKey(key),
        attempt=attempt,
        reason="child_failed",
        message="boom",
    )


def again(key, *, seconds=0):
    return msg.Woke(at=at(seconds), step=msg.StepKey(key), again=True)


def skipped(key, *, choice=None):
    return msg.SkipRequested(at=at(3), by="ada", step=msg.StepKey(key), choice=choice)


def standing(shell):
    return {key: str(step.status) for key, step in shell.rows.items()}


# --- sad paths ------------------------------------------------------------------------------


def test_what_does_not_come_in_time_fails_the_run():
    shell = run(event(), woke("w#1", seconds=30))
    assert shell.head.ending.reason == "expired"
    assert "nothing came for node w in time" in shell.head.ending.message


def test_what_does_not_come_in_time_takes_the_edge_for_that():
    shell = run(event(edge("w -> b", on="error", reasons=["expired"])), woke("w#1", seconds=30))
    assert standing(shell) == {"b#1": "ready"}


def test_what_cannot_be_waited_for_fails_the_step():
    shell = Shell(event(), broken=["w"])
    shell.tell(submitted())
    assert shell.head.ending.reason == "input_failed"


def test_what_cannot_be_saved_fails_the_step():
    shell = run(event(), ended("w#1", result="unfit"))
    assert shell.head.ending.reason == "save_failed"
    assert "n" not in shell.head.variables


def test_a_child_that_fails_fails_the_step_that_waits_for_it():
    shell = run(calling(), gone("w#1"))
    assert (shell.head.status, shell.head.ending.reason) == (RunStatus.FAILED, "child_failed")


def test_a_wait_is_ended_once():
    shell = run(event(), ended("w#1", result=1), ended("w#1", result=2), woke("w#1", seconds=40))
    assert shell.head.variables == {"n": 1}
    assert standing(shell) == {"a#1": "ready"}


@pytest.mark.parametrize("late", [ended("w#1", result=1), woke("w#1", seconds=30)])
def test_who_ends_a_wait_second_changes_nothing(late):
    both = [ended("w#1", result=7), woke("w#1", seconds=30)]
    for first in both:
        shell = run(event(edge("w -> b", on="error")), first)
        before = shell.state
        shell.tell(late)
        assert shell.state == before


def test_a_wake_that_was_for_its_start_does_not_end_a_wait():
    """A lock was given up and swept at once: two wakes, and the second comes when it waits."""
    for template in (TIMED, event()):
        shell = run(template)
        before = shell.state
        shell.tell(again("w#1", seconds=1))
        assert shell.state == before


def test_an_answer_to_an_earlier_attempt_counts_for_nothing():
    shell = run(calling(attempts=2, backoff=0), gone("w#1"))
    assert shell.rows["w#1"].attempt == 2
    shell.tell(ended("w#1", attempt=1))
    assert standing(shell) == {"w#1": "waiting"}


# --- waiting --------------------------------------------------------------------------------


def test_a_timer_waits_for_its_time():
    shell = run(TIMED)
    assert standing(shell) == {"w#1": "waiting"}
    assert shell.rows["w#1"].wake == at(TIMER)
    shell.tell(woke("w#1", seconds=TIMER))
    assert shell.head.status is RunStatus.COMPLETED


def test_what_came_is_saved():
    shell = run(event(), ended("w#1", result=7))
    assert shell.head.variables == {"n": 7}
    assert folded(shell) == shell.state


def test_a_choice_takes_the_edge_that_is_labelled_so():
    template = asking(edge("w -> a", label="yes"), edge("w -> b", label="no"))
    assert standing(run(template, ended("w#1", choice="no"))) == {"b#1": "ready"}


def test_a_choice_is_a_result_where_no_edge_is_labelled():
    template = asking(
        edge("w -> a", when="$result.choice == 'yes'"),
        edge("w -> b", when="$result.choice == 'no'"),
    )
    answer = ended("w#1", choice="no", result={"choice": "no"})
    assert standing(run(template, answer)) == {"b#1": "ready"}


def test_a_child_is_run_again_while_its_node_says_so():
    shell = run(calling(attempts=2, backoff=10, jitter=0), gone("w#1"))
    assert standing(shell) == {"w#1": "retrying"}
    shell.tell(again("w#1", seconds=20))
    assert standing(shell) == {"w#1": "waiting"}
    shell.tell(gone("w#1", attempt=2))
    assert shell.head.ending.reason == "child_failed"


def test_what_comes_while_a_run_is_paused_is_folded():
    shell = run(event(), PAUSE, ended("w#1", result=7))
    assert shell.head.variables == {"n": 7}
    assert shell.rows == {}
    shell.tell(RESUME)
    assert standing(shell) == {"a#1": "ready"}


def test_time_runs_on_while_a_run_is_paused():
    shell = run(TIMED, PAUSE, woke("w#1", seconds=TIMER))
    assert shell.rows == {}
    shell.tell(RESUME)
    assert shell.head.status is RunStatus.COMPLETED


@pytest.mark.parametrize("template", [TIMED, event(), calling()])
def test_a_step_that_waits_can_be_skipped(template):
    shell = run(template, skipped("w#1"))
    assert "w#1" not in shell.rows
    assert shell.head.variables == {}


def test_a_step_can_be_skipped_in_the_turn_in_which_it_asks_for_its_start():
    template = graph(
        edge("a -> b"), nodes=[node("a", retry=Retry(attempts=2, backoff=10, jitter=0))]
    )
    shell = run(template, failed("a#1"))
    shell.tell(again("a#1", seconds=20), skipped("a#1"))
    assert standing(shell) == {"b#1": "ready"}


def test_a_step_can_be_skipped_before_its_wait_is_set_up():
    taken = advance(TIMED, DEFAULT, State(run="r1"), [submitted()])
    admitted = msg.Admitted(at=at(0), step=msg.StepKey("w#1"))
    taken = advance(TIMED, DEFAULT, taken.state, [admitted])
    assert taken.state.steps["w#1"].status is StepStatus.OPENING
    taken = advance(TIMED, DEFAULT, taken.state, [skipped("w#1")])
    assert taken.state.status is RunStatus.COMPLETED


def test_a_join_waits_for_a_thread_that_waits():
    template = graph(
        *fork("f", "w", "b"),
        *meet("j", "w", "b"),
        nodes=[node("f", route=Route.ALL), node("w", kind="event", wait=Awaited(name=TEXT("x")))],
    )
    shell = run(template, succeeded("f#1"), succeeded("b#1"))
    assert standing(shell) == {"w#1": "waiting"}
    shell.tell(ended("w#1"))
    assert standing(shell) == {"j#1": "ready"}


def test_a_join_that_has_enough_ends_what_waits():
    template = graph(
        *fork("f", "w", "b"),
        *meet("j", "w", "b"),
        nodes=[
            node("f", route=Route.ALL),
            node("w", kind="event", wait=Awaited(name=TEXT("x"))),
            node("j", join=Join(count=1)),
        ],
    )
    shell = run(template, succeeded("f#1"), succeeded("b#1"), ended("w#1"))
    assert standing(shell) == {"j#1": "ready"}


# --- trying again ---------------------------------------------------------------------------


def test_only_its_wake_brings_a_step_back_whatever_else_is_reported():
    """Which steps a turn happens to hold must not decide when one of them is tried again."""
    template = graph(
        *fork("f", "a", "b"),
        nodes=[node("f", route=Route.ALL), node("a", retry=Retry(attempts=2, backoff=5, jitter=0))],
    )
    for narrow in (True, False):
        shell = run(template, succeeded("f#1"), failed("a#1"), ticked(seconds=50), narrow=narrow)
        shell.tell(succeeded("b#1", seconds=60), again("a#1", seconds=61))
        requests = told(shell, msg.RequestStart, msg.TakeEdges, msg.Woke)
        assert [type(record).__name__ for record in requests[-3:]] == [
            "TakeEdges",
            "Woke",
            "RequestStart",
        ]


def test_a_step_that_lost_its_worker_is_tried_again_at_once():
    shell = run(graph(edge("a -> end")), lost("a#1"))
    assert (standing(shell), shell.rows["a#1"].attempt) == ({"a#1": "ready"}, 2)


def test_a_step_that_lost_its_worker_in_a_paused_run_waits_for_its_wake():
    shell = run(graph(edge("a -> end")), PAUSE, lost("a#1"))
    assert standing(shell) == {"a#1": "retrying"}
    shell.tell(again("a#1", seconds=3))
    assert standing(shell) == {"a#1": "retrying"}
    shell.tell(RESUME)
    assert standing(shell) == {"a#1": "retrying"}
    shell.tell(again("a#1", seconds=4))
    assert standing(shell) == {"a#1": "ready"}


# --- locks ----------------------------------------------------------------------------------


def section(*edges, **options):
    """`f` forks to `a` and `b`, which ask for one lock; `until` of `a`'s is an option."""
    until = options.pop("until", None)
    return graph(
        *fork("f", "a", "b"),
        *edges,
        nodes=[
            node("f", route=Route.ALL),
            node("a", lock=Lock(name=TEXT("l"), until=until)),
            node("b", lock=Lock(name=TEXT("l"))),
            node("p", kind="pass", role=Role.CONTROL),
        ],
        **options,
    )


def test_one_thread_holds_a_lock_and_the_other_waits():
    shell = run(section(), succeeded("f#1"))
    assert standing(shell) == {"a#1": "ready", "b#1": "deferred"}
    assert (shell.rows["b#1"].awaits, shell.rows["b#1"].wake) == ("l", at(AGAIN))
    shell.tell(again("b#1", seconds=1))
    assert standing(shell) == {"a#1": "ready", "b#1": "deferred"}
    shell.tell(succeeded("a#1"))
    shell.tell(again("b#1", seconds=2))
    assert standing(shell) == {"b#1": "ready"}
    assert shell.rows["b#1"].awaits is None


def test_a_thread_keeps_its_lock_up_to_and_with_a_node():
    template = section(edge("a -> c"), edge("c -> d"), until=NodeId("c"))
    shell = run(template, succeeded("f#1"), succeeded("a#1"))
    assert shell.locks == {"l"}
    shell.tell(succeeded("c#1"))
    assert shell.locks == set()
    assert standing(shell) == {"b#1": "deferred", "d#1": "ready"}


def test_a_thread_keeps_its_lock_through_a_node_that_is_passed():
    template = section(edge("a -> p"), edge("p -> c"), until=NodeId("c"))
    shell = run(template, succeeded("f#1"), succeeded("a#1"))
    assert shell.rows["c#1"].holds == (("l", "c"),)
    assert shell.locks == {"l"}


def test_a_thread_gives_its_lock_up_at_a_node_that_is_passed():
    template = section(edge("a -> p"), edge("p -> c"), until=NodeId("p"))
    shell = run(template, succeeded("f#1"), succeeded("a#1"))
    assert shell.rows["c#1"].holds == ()
    assert shell.locks == set()


def test_a_thread_that_holds_a_lock_is_given_it_again():
    template = section(edge("a -> b"), until=NodeId("c"))
    shell = run(template, succeeded("f#1"), skipped("b#1"), succeeded("a#1"))
    assert standing(shell) == {"b#2": "ready"}


def test_a_step_keeps_its_lock_while_it_is_tried_again():
    retry = Retry(attempts=2, backoff=5, jitter=0)
    template = graph(edge("a -> end"), nodes=[node("a", retry=retry, lock=Lock(name=TEXT("l")))])
    shell = run(template, failed("a#1"))
    assert (standing(shell), shell.locks) == ({"a#1": "retrying"}, {"l"})
    shell.tell(again("a#1", seconds=9), succeeded("a#1", attempt=2))
    assert standing(shell) == {"a#1": "ready"}


def test_a_lock_that_has_no_name_fails_the_step():
    template = graph(edge("a -> end"), nodes=[node("a", lock=Lock(name=TEXT("$x")))])
    taken = advance(template, DEFAULT, State(run="r1"), [submitted()])
    refused = msg.Refused(at=at(0), step=msg.StepKey("a#1"), rule="lock", message="no name")
    taken = advance(template, DEFAULT, taken.state, [refused])
    assert taken.state.ending.reason == "refused"


@pytest.mark.parametrize("end", [skipped("a#1"), failed("a#1")])
def test_whatever_ends_a_thread_ends_its_hold(end):
    template = section(edge("a -> end", on="error"))
    assert run(template, succeeded("f#1"), end).locks == set()


def test_a_row_keeps_all_that_a_step_is_between_turns():
    shell = run(section(until=NodeId("c")), succeeded("f#1"))
    assert all(stored(step) == step for step in folded(shell).steps.values())
