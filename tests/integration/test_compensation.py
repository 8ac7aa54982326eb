"""Undoing what a run did: in reverse, on failure and on request, whatever goes wrong meanwhile."""

from __future__ import annotations

import pytest

from engine.platform import DatabaseRole
from engine.runs import attempts, control, events, sweep, turns, views
from engine.runs.attempts import Failed, Succeeded
from tests.support import platforms
from tests.support.hands import carry_out
from tests.support.platforms import (
    TENANT,
    finish,
    lose_leases,
    publish,
    register,
    sql,
    status,
    submit,
    take,
    wake,
)
from tests.support.waiting import kinds, live, swept, waits_at, why

pytestmark = pytest.mark.usefixtures("sound")

FAILS = Failed(reason="error", message="boom", terminal=True)
CHAIN = {
    "workflow": "trip",
    "nodes": {
        "flight": {"uses": "noop", "compensate": "undo"},
        "hotel": {"uses": "noop"},
        "car": {
            "uses": "noop",
            "compensate": {"uses": "undo", "retry": {"attempts": 2, "backoff": 0}},
        },
        "pay": {"uses": "noop"},
    },
    "edges": ["flight -> hotel -> car -> pay -> end"],
}
UNDO_CAR, UNDO_FLIGHT = "undo car#1", "undo flight#1"


@pytest.fixture
def main(main):
    for name in ("noop", "undo"):
        register(main, name)
    return main


@pytest.fixture
def hands(settings, main):
    """Workers whose work the test does itself."""
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


@pytest.fixture
def booked(main, hands):
    """A run that has booked all, and has yet to pay."""
    run = submit(main, publish(main, CHAIN))
    for name in ("flight", "hotel", "car"):
        finish(main, hands, take(hands, run, f"{name}#1"), Succeeded(result=f"{name} 7"))
    return run


def failed(main, hands, run):
    finish(main, hands, take(hands, run, "pay#1"), FAILS)


# --- sad paths --------------------------------------------------------------------------------------


def test_a_handler_that_fails_holds_up_no_other_and_is_told(main, hands, booked):
    failed(main, hands, booked)
    finish(main, hands, take(hands, booked, UNDO_CAR), FAILS)
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    detail = views.run(main, booked)
    assert (detail.status, detail.reason) == ("failed", "error")
    assert detail.message == "boom (1 of its steps could not be undone)"
    assert detail.ended_step == "pay#1"


def test_a_handler_that_may_be_tried_again_is(main, hands, booked):
    failed(main, hands, booked)
    finish(main, hands, take(hands, booked, UNDO_CAR), Failed(reason="error", message="not yet"))
    swept(main, lambda: live(main, booked) == {UNDO_CAR: "ready"})
    finish(main, hands, take(hands, booked, UNDO_CAR))
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    assert views.run(main, booked).message == "boom"


def test_a_worker_that_is_lost_while_it_undoes_is_made_up_for(main, hands, booked, settings):
    failed(main, hands, booked)
    late = take(hands, booked, UNDO_CAR)
    lose_leases(settings)
    swept(main, lambda: live(main, booked) == {UNDO_CAR: "ready"})
    assert not finish(main, hands, late)
    finish(main, hands, take(hands, booked, UNDO_CAR))
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    assert why(main, booked) == ("failed", "error")
    assert [one.outcome for one in views.attempts(main, booked, UNDO_CAR)] == ["lost", "succeeded"]


def test_a_second_cancel_ends_the_undoing(main, hands, booked):
    control.cancel(main, booked, by="bob", compensate=True)
    assert status(main, booked) == "running"
    control.cancel(main, booked, by="bob", reason="leave it")
    detail = views.run(main, booked)
    assert (detail.status, detail.message) == ("cancelled", "leave it")


def test_what_is_at_work_as_undoing_begins_counts_no_more(main, hands, booked):
    late = take(hands, booked, "pay#1")
    control.cancel(main, booked, by="bob", compensate=True)
    assert live(main, booked) == {UNDO_CAR: "ready"}
    assert not finish(main, hands, late)
    finish(main, hands, take(hands, booked, UNDO_CAR))
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    assert why(main, booked) == ("cancelled", "cancelled")


def test_a_paused_undoing_goes_on_where_it_was(main, hands, booked):
    failed(main, hands, booked)
    control.pause(main, booked, by="bob")
    assert live(main, booked) == {UNDO_CAR: "held"}
    control.resume(main, booked, by="bob")
    finish(main, hands, take(hands, booked, UNDO_CAR))
    control.pause(main, booked, by="bob")
    control.resume(main, booked, by="bob")
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    assert why(main, booked) == ("failed", "error")


# --- in reverse ---------------------------------------------------------------------------------------


def test_a_run_that_fails_undoes_what_it_did_last_things_first(main, hands, booked):
    failed(main, hands, booked)
    assert status(main, booked) == "running"
    assert live(main, booked) == {UNDO_CAR: "ready"}
    lease = take(hands, booked, UNDO_CAR)
    assert lease.undone == "car 7"
    finish(main, hands, lease)
    assert live(main, booked) == {UNDO_FLIGHT: "ready"}
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    detail = views.run(main, booked)
    assert (detail.status, detail.reason, detail.ended_step) == ("failed", "error", "pay#1")


def test_a_cancel_that_asks_for_it_undoes_what_was_done(main, hands, booked):
    control.cancel(main, booked, by="bob", reason="enough", compensate=True)
    finish(main, hands, take(hands, booked, UNDO_CAR))
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    detail = views.run(main, booked)
    assert (detail.status, detail.message) == ("cancelled", "enough")


def test_a_cancel_that_does_not_ask_for_it_undoes_nothing(main, booked):
    control.cancel(main, booked, by="bob")
    assert status(main, booked) == "cancelled"
    assert "BeginUndo" not in kinds(main, booked)


def test_a_paused_run_that_is_cancelled_undoes_at_once(main, hands, booked):
    control.pause(main, booked, by="bob")
    control.cancel(main, booked, by="bob", compensate=True)
    assert live(main, booked) == {UNDO_CAR: "ready"}
    finish(main, hands, take(hands, booked, UNDO_CAR))
    finish(main, hands, take(hands, booked, UNDO_FLIGHT))
    assert status(main, booked) == "cancelled"


def test_a_run_that_completes_undoes_nothing(main, hands, booked):
    finish(main, hands, take(hands, booked, "pay#1"))
    assert status(main, booked) == "completed"
    assert "BeginUndo" not in kinds(main, booked)


def test_a_run_with_nothing_done_has_nothing_to_undo(main, hands):
    run = submit(main, publish(main, CHAIN))
    finish(main, hands, take(hands, run, "flight#1"), FAILS)
    assert why(main, run) == ("failed", "error")


def test_what_succeeds_in_the_turn_that_fails_the_run_is_undone_too(main, hands):
    document = {
        "workflow": "both",
        "nodes": {
            "s": {"uses": "noop"},
            "a": {"uses": "noop", "compensate": "undo"},
            "b": {"uses": "noop"},
        },
        "edges": [{"from": "s", "to": ["a", "b"], "type": "parallel"}, "a -> end", "b -> end"],
    }
    run = submit(main, publish(main, document))
    finish(main, hands, take(hands, run, "s#1"))
    first, second = take(hands, run, "a#1"), take(hands, run, "b#1")
    attempts.report(hands, "w1", [(first, Succeeded(result=5))])
    attempts.report(hands, "w1", [(second, FAILS)])
    turns.take_turns(main, [run])
    lease = take(hands, run, "undo a#1")
    assert lease.undone == 5
    finish(main, hands, lease)
    assert why(main, run) == ("failed", "error")


def test_every_lap_of_a_loop_is_undone(main, hands):
    document = {
        "workflow": "laps",
        "variables": {"n": {"type": "integer", "default": 0}},
        "nodes": {"a": {"uses": "noop", "compensate": "undo", "save": {"n": "$n + 1"}}},
        "edges": [{"from": "a", "to": "a", "when": "$n < 9", "label": "loop"}, "a -> end"],
    }
    run = submit(main, publish(main, document))
    for lap in (1, 2, 3):
        finish(main, hands, take(hands, run, f"a#{lap}"), n=lap)
    control.cancel(main, run, by="bob", compensate=True)
    for lap in (3, 2, 1):
        assert live(main, run) == {f"undo a#{lap}": "ready"}
        finish(main, hands, take(hands, run, f"undo a#{lap}"))
    assert status(main, run) == "cancelled"


def test_what_was_waited_for_is_undone_with_what_had_come(main, hands):
    document = waits_at("event", name="paid", compensate="undo")
    document["nodes"]["late"] = {"kind": "timer", "until": "$found"}
    document["edges"] = ["w -> late -> end"]
    run = submit(main, publish(main, document))
    _, woken = events.send(main, TENANT, "paid", "much", by="ada", run=run.run)
    turns.take_turns(main, woken)
    lease = take(hands, run, "undo w#1")
    assert lease.undone == "much"
    finish(main, hands, lease)
    assert why(main, run) == ("failed", "input_failed")


def test_a_map_is_undone_as_a_whole_with_all_of_its_results(main, worker):
    register(main, "item", "def item(state):\n    return state['item'] * 2")
    register(main, "forget", "def forget(state):\n    print('forgets', state['result'])")
    document = waits_at("map", over=[1, 2], do="item", compensate="forget")
    document["nodes"]["late"] = {"kind": "timer", "until": "$run.id"}
    document["edges"] = ["w -> late -> end"]
    run = submit(main, publish(main, document))
    assert carry_out(main, worker, run).reason == "input_failed"
    assert [line.text for line in views.logs(main, run)] == ["forgets [2, 4]"]


def test_a_child_of_a_run_that_undoes_is_cancelled_first(main, hands):
    publish(main, {**waits_at("event", name="go"), "workflow": "inner"})
    document = {
        "workflow": "outer",
        "nodes": {
            "a": {"uses": "noop", "compensate": "undo"},
            "w": {"kind": "workflow", "workflow": "inner"},
        },
        "edges": ["a -> w -> end"],
    }
    run = submit(main, publish(main, document))
    finish(main, hands, take(hands, run, "a#1"))
    control.cancel(main, run, by="bob", compensate=True)
    assert [one.status for one in views.runs(main, TENANT, parent=run)] == ["cancelled"]
    finish(main, hands, take(hands, run, "undo a#1"))
    assert status(main, run) == "cancelled"


def test_a_lock_is_given_up_before_undoing_begins(main, hands):
    document = {
        "workflow": "locked",
        "nodes": {
            "a": {"uses": "noop", "compensate": "undo"},
            "w": {
                "kind": "event",
                "name": "go",
                "lock": {"name": "k", "of": "tenant"},
                "expires": "1h",
            },
        },
        "edges": ["a -> w -> end"],
    }
    run = submit(main, publish(main, document))
    finish(main, hands, take(hands, run, "a#1"))
    wake(main.settings)
    sweep.sweep(main)
    assert live(main, run) == {"undo a#1": "ready"}
    assert sql(main, "SELECT FROM lock") == []
    finish(main, hands, take(hands, run, "undo a#1"))
    assert why(main, run) == ("failed", "expired")
