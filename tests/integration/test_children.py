"""Runs that steps of other runs started: how they end each other, and what they hand over."""

from __future__ import annotations

import pytest

from engine import waiting
from engine.core.transitions import TERMINAL
from engine.errors import Invalid
from engine.runs import control, events, sweep, turns, views
from engine.store.ids import RunId
from tests.support.platforms import TENANT, publish, status, submit, wake
from tests.support.waiting import found, kinds, live, race, swept, waits_at, why

pytestmark = pytest.mark.usefixtures("sound")

INNER = {
    **waits_at("event", name="go"),
    "workflow": "inner",
    "inputs": {"n": {"type": "integer", "default": 1}},
    "outputs": {"got": "$found", "n": "$n"},
}


def parent(main, run=None, **fields):
    """A run that waits for a run of `inner`, and that run."""
    document = waits_at("workflow", workflow="inner", **fields)
    run = submit(main, publish(main, document))
    return run, child(main, run)


def child(main, run):
    """The newest run that a run has started."""
    started = views.runs(main, TENANT, parent=run)
    return RunId(TENANT, started[0].id) if started else None


def go(main, run, payload=None):
    """Let a run of `inner` come to its end."""
    _, woken = events.send(main, TENANT, "go", payload, by="ada", run=run.run)
    turns.take_turns(main, woken)


@pytest.fixture
def inner(main):
    return publish(main, INNER)


# --- what is not there, or does not fit ------------------------------------------------------------


def test_a_workflow_that_there_is_not_is_not_published(main):
    with pytest.raises(Invalid) as caught:
        publish(main, waits_at("workflow", workflow="nobody"))
    assert caught.value.problems[0].path == "nodes.w.workflow"


def test_inputs_that_do_not_fit_fail_the_step_and_start_nothing(main, inner):
    document = waits_at("workflow", workflow="inner", **{"with": {"n": "$run.id"}})
    run = submit(main, publish(main, document))
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "input_failed")
    assert "node w, with" in detail.message
    assert child(main, run) is None


def test_inputs_that_do_not_fit_take_the_way_for_failures(main, inner):
    document = waits_at("workflow", workflow="inner", **{"with": {"what": 1}})
    document["edges"] = ["w -> end", {"from": "w", "to": "end", "on": "error"}]
    run = submit(main, publish(main, document))
    assert status(main, run) == "completed"
    assert "NotOpened" in kinds(main, run)


# --- how they end ----------------------------------------------------------------------------------


def test_a_child_hands_its_outputs_to_the_step_that_waits(main, inner):
    run, started = parent(main, **{"with": {"n": 4}})
    assert live(main, run) == {"w#1": "waiting"}
    assert views.run(main, run).steps[0].child == started.run
    go(main, started, "it")
    assert status(main, run) == "completed"
    assert found(main, run) == {"got": "it", "n": 4}
    assert views.run(main, started).outputs == {"got": "it", "n": 4}
    detail = views.run(main, started)
    assert (detail.parent_run, detail.parent_step) == (run.run, "w#1")


def test_the_variables_of_a_child_are_its_own(main):
    publish(main, {**INNER, "variables": {"found": {"default": "inner"}}, "outputs": {}})
    document = waits_at("workflow", workflow="inner", save={"got": "$result"})
    document["variables"] = {"found": {"default": "outer"}, "got": {}}
    run = submit(main, publish(main, document))
    started = child(main, run)
    assert found(main, started) == "inner"
    go(main, started, "changed")
    variables = views.run(main, run).variables
    assert variables["found"] == "outer"
    assert variables["got"]["found"] == "changed"


def test_a_child_that_fails_fails_its_parent_with_what_happened(main):
    publish(main, {**INNER, "nodes": {"w": {"kind": "timer", "until": "$run.id"}}, "outputs": {}})
    run = submit(main, publish(main, waits_at("workflow", workflow="inner")))
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "child_failed")
    assert "input_failed" in detail.message
    assert detail.message.startswith(f"run {child(main, run).run} failed")


def test_a_child_that_is_cancelled_fails_the_step_with_a_reason_of_its_own(main, inner):
    run, started = parent(main)
    control.cancel(main, started, by="bob", reason="enough")
    assert why(main, run) == ("failed", "child_cancelled")


def test_a_parent_may_go_another_way_when_its_child_fails(main, inner):
    document = waits_at("workflow", workflow="inner")
    document["edges"] = [
        "w -> end",
        {"from": "w", "to": "end", "on": "error", "reason": ["child_cancelled"]},
    ]
    run = submit(main, publish(main, document))
    control.cancel(main, child(main, run), by="bob")
    assert status(main, run) == "completed"


def test_a_parent_that_is_cancelled_cancels_its_children_and_theirs(main, inner):
    publish(main, {**waits_at("workflow", workflow="inner"), "workflow": "middle"})
    run = submit(main, publish(main, waits_at("workflow", workflow="middle")))
    middle = child(main, run)
    last = child(main, middle)
    assert live(main, last) == {"w#1": "waiting"}
    control.cancel(main, run, by="bob", reason="enough")
    assert [status(main, one) for one in (run, middle, last)] == ["cancelled"] * 3


def test_a_parent_that_fails_elsewhere_cancels_its_children(main, inner):
    document = waits_at("workflow", workflow="inner")
    document["nodes"] |= {
        "s": {"kind": "timer", "for": 0},
        "bad": {"kind": "event", "name": "bad", "expires": "1h"},
    }
    document["edges"] = [{"from": "s", "to": ["w", "bad"], "type": "parallel"}, "w -> end"]
    run = submit(main, publish(main, {**document, "start": "s"}))
    sweep.sweep(main)
    started = child(main, run)
    assert status(main, started) == "running"
    wake(main.settings)
    sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")
    assert status(main, started) == "cancelled"


def test_a_child_that_may_finish_outlives_its_cancelled_parent(main, inner):
    run, started = parent(main, orphan="finish")
    control.cancel(main, run, by="bob")
    assert (status(main, run), status(main, started)) == ("cancelled", "running")
    before = views.status(main, run)
    go(main, started, "it")
    assert status(main, started) == "completed"
    assert views.run(main, started).outputs == {"got": "it", "n": 1}
    assert views.status(main, run) == before


def test_a_child_whose_step_was_skipped_is_cancelled_and_tells_nobody(main, inner):
    run, started = parent(main)
    control.skip(main, run, "w#1", by="bob")
    assert status(main, run) == "completed"
    assert status(main, started) == "cancelled"
    assert "WaitFailed" not in kinds(main, run)


def test_the_expiry_of_the_wait_cancels_the_child(main, inner):
    run, started = parent(main, expires="1h")
    wake(main.settings)
    sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")
    assert status(main, started) == "cancelled"


def test_a_failed_child_that_is_tried_again_is_a_new_run(main, inner):
    run, first = parent(main, retry={"attempts": 2, "backoff": 0, "on": ["child_cancelled"]})
    control.cancel(main, first, by="bob")
    swept(main, lambda: live(main, run) == {"w#1": "waiting"})
    second = child(main, run)
    assert second != first
    go(main, second, 2)
    assert status(main, run) == "completed"
    assert found(main, run) == {"got": 2, "n": 1}
    assert [one.outcome for one in views.attempts(main, run)] == ["failed", "succeeded"]
    assert len(views.runs(main, TENANT, parent=run)) == 2


def test_the_end_of_an_earlier_attempt_says_nothing_to_the_next(main, inner):
    run, first = parent(main, orphan="finish", expires="1h", retry={"attempts": 2, "backoff": 0})
    control.cancel(main, first, by="bob")
    swept(main, lambda: live(main, run) == {"w#1": "waiting"})
    assert live(main, run) == {"w#1": "waiting"}
    control.cancel(main, run, by="bob")
    go(main, child(main, run))
    assert status(main, run) == "cancelled"


def test_a_child_and_its_parent_that_end_at_once_leave_nothing_live(main, inner):
    for _ in range(5):
        run, started = parent(main)
        race(lambda: go(main, started), lambda: control.cancel(main, run, by="bob"))  # noqa: B023
        swept(main, lambda: views.status(main, started).terminal)  # noqa: B023
        assert views.status(main, run).status in TERMINAL


def test_a_child_counts_while_its_parent_is_paused(main, inner):
    run, started = parent(main)
    control.pause(main, run, by="bob")
    assert status(main, started) == "running"
    go(main, started, 1)
    assert status(main, run) == "paused"
    control.resume(main, run, by="bob")
    assert status(main, run) == "completed"


def test_outputs_that_cannot_be_made_fail_the_child_and_so_the_step(main):
    publish(main, {**INNER, "outputs": {"x": "$found + 1"}})
    run, started = parent(main)
    go(main, started, {"no": "number"})
    assert why(main, started) == ("failed", "output_failed")
    assert why(main, run) == ("failed", "child_failed")


# --- versions and depth ----------------------------------------------------------------------------


def test_the_version_of_a_child_is_that_of_the_submission(main, inner):
    document = waits_at("workflow", workflow="inner")
    document["nodes"]["first"] = {"kind": "timer", "for": "1h"}
    document["edges"] = ["first -> w -> end"]
    run = submit(main, publish(main, {**document, "start": "first"}))
    newer = publish(main, {**INNER, "outputs": {"newer": "$n"}})
    control.skip(main, run, "first#1", by="bob")
    assert views.run(main, child(main, run)).version_id == inner != newer
    other = submit(main, publish(main, waits_at("workflow", workflow="inner")))
    assert views.run(main, child(main, other)).version_id == newer
    for one in (run, other):
        control.cancel(main, one, by="bob")


def test_a_workflow_that_runs_itself_ends_at_the_depth_that_is_allowed(main):
    document = {
        "workflow": "russian-doll",
        "variables": {"found": {}},
        "nodes": {"w": {"kind": "workflow", "workflow": "russian-doll"}},
        "edges": ["w -> end"],
    }
    run = submit(main, publish(main, document))
    swept(main, lambda: views.status(main, run).terminal)
    every = views.runs(main, TENANT)
    assert len(every) == waiting.MAX_DEPTH + 1
    assert {one.status for one in every} == {"failed"}
    assert every[0].reason == "too_deep"
    assert why(main, run) == ("failed", "child_failed")


def test_as_many_runs_within_runs_as_are_allowed_come_to_their_end(main):
    document = {
        "workflow": "counted",
        "inputs": {"left": {"type": "integer"}},
        "nodes": {
            "s": {"role": "plan", "rules": [{"when": "$left > 0", "next": ["w"]}, {"next": []}]},
            "w": {
                "kind": "workflow",
                "workflow": "counted",
                "with": {"left": "$left - 1"},
            },
        },
        "edges": ["s -> w -> end"],
    }
    version = publish(main, document)
    fits = submit(main, version, left=waiting.MAX_DEPTH)
    swept(main, lambda: views.status(main, fits).terminal)
    assert status(main, fits) == "completed"
    deeper = submit(main, version, left=waiting.MAX_DEPTH + 1)
    swept(main, lambda: views.status(main, deeper).terminal)
    assert why(main, deeper) == ("failed", "child_failed")
