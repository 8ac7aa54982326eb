"""Named locks: one thread, or one run, at a time, and whoever waits comes next in line."""

from __future__ import annotations

import pytest

from engine.platform import DatabaseRole
from engine.runs import control, events, sweep, turns, views
from tests.support import platforms
from tests.support.platforms import (
    TENANT,
    finish,
    publish,
    register,
    sql,
    status,
    submit,
    take,
    wake,
)
from tests.support.waiting import kinds, live, race, why

pytestmark = pytest.mark.usefixtures("sound")


@pytest.fixture
def main(main):
    register(main, "noop")
    return main


@pytest.fixture
def worker(settings, main):
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


def guarded(**lock):
    """A workflow whose one event is awaited under a lock."""
    return {
        "workflow": "guarded",
        "inputs": {"key": {"type": "string", "default": "k"}},
        "nodes": {"w": {"kind": "event", "name": "go", "lock": {"name": "$key", **lock}}},
        "edges": ["w -> end"],
    }


def go(main, run):
    delivery = events.send(main, TENANT, "go", None, by="ada", run=run.run)
    turns.take_turns(main, delivery.woken)


def held(main):
    return [row.name for row in sql(main, "SELECT name FROM lock ORDER BY name")]


THREADS = {
    "workflow": "threads",
    "nodes": {
        "s": {"uses": "noop"},
        **{name: {"uses": "noop", "lock": "till"} for name in "abc"},
    },
    "edges": [
        {"from": "s", "to": ["a", "b", "c"], "type": "parallel"},
        *(f"{n} -> end" for n in "abc"),
    ],
}


# --- sad paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [{"a": 1}, "", True, "x" * 201])
def test_a_lock_whose_name_is_none_is_refused(main, name):
    document = guarded(of="tenant")
    document["inputs"] = {"key": {}}
    run = submit(main, publish(main, document), key=name)
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "refused")
    assert "lock" in detail.message
    assert held(main) == []


def test_who_does_not_get_the_lock_says_what_it_waits_for(main):
    version = publish(main, guarded(of="tenant"))
    first, second = submit(main, version), submit(main, version)
    (step,) = views.run(main, second).steps
    assert (step.status, step.awaits) == ("deferred", "tenant:k")
    go(main, first)
    go(main, second)
    assert status(main, second) == "completed"


@pytest.mark.parametrize("how", ["end", "cancel", "expiry", "skip"])
def test_however_the_holder_ends_the_next_one_is_woken_at_once(main, settings, how):
    document = guarded(of="tenant")
    document["nodes"]["w"]["expires"] = "1h"
    version = publish(main, document)
    first, second = submit(main, version), submit(main, version)
    assert live(main, second) == {"w#1": "deferred"}
    if how == "end":
        go(main, first)
    elif how == "cancel":
        control.cancel(main, first, by="bob")
    elif how == "skip":
        control.skip(main, first, "w#1", by="bob")
    else:
        wake(settings)
        sweep.sweep(main)
        assert why(main, first) == ("failed", "expired")
    assert live(main, second) == {"w#1": "waiting"}
    go(main, second)
    assert held(main) == []


def test_a_waiter_that_is_cancelled_is_passed_over(main):
    version = publish(main, guarded(of="tenant"))
    first, second, third = (submit(main, version) for _ in range(3))
    control.cancel(main, second, by="bob")
    go(main, first)
    assert live(main, third) == {"w#1": "waiting"}
    go(main, third)


def test_a_waiter_of_a_paused_run_lets_others_go_first(main, settings):
    version = publish(main, guarded(of="tenant"))
    first, second, third = (submit(main, version) for _ in range(3))
    control.pause(main, second, by="bob")
    go(main, first)
    assert live(main, third) == {"w#1": "waiting"}
    control.resume(main, second, by="bob")
    go(main, third)
    assert live(main, second) == {"w#1": "waiting"}
    go(main, second)


# --- who comes next ---------------------------------------------------------------------------------


def test_runs_that_wait_for_a_lock_come_in_the_order_in_which_they_asked(main):
    version = publish(main, guarded(of="tenant"))
    runs = [submit(main, version) for _ in range(5)]
    for place, run in enumerate(runs):
        waiting = [one for one in runs if live(main, one) == {"w#1": "waiting"}]
        assert waiting == [run], place
        go(main, run)
    assert held(main) == []


def test_a_lock_of_another_name_is_another_lock(main):
    version = publish(main, guarded(of="tenant"))
    runs = [submit(main, version, key=key) for key in ("a", "b")]
    assert [live(main, run) for run in runs] == [{"w#1": "waiting"}] * 2
    assert held(main) == ["tenant:a", "tenant:b"]
    for run in runs:
        go(main, run)


def test_a_lock_of_the_run_keeps_no_other_run_out(main):
    version = publish(main, guarded())
    runs = [submit(main, version) for _ in range(2)]
    assert [live(main, run) for run in runs] == [{"w#1": "waiting"}] * 2
    for run in runs:
        go(main, run)


def test_of_runs_that_ask_at_once_one_gets_the_lock(main):
    version = publish(main, guarded(of="tenant"))
    runs = [platforms.launch.submit(main, TENANT, version, {}, by="ada").run for _ in range(6)]
    race(*(lambda run=run: turns.take_turns(main, [run]) for run in runs))
    for _ in runs:
        (holder,) = [one for one in runs if live(main, one) == {"w#1": "waiting"}]
        go(main, holder)
    assert {status(main, run) for run in runs} == {"completed"}
    assert held(main) == []


def test_threads_of_a_run_go_through_a_critical_section_one_by_one(main, worker):
    run = submit(main, publish(main, THREADS))
    finish(main, worker, take(worker, run, "s#1"))
    done = []
    for _ in range(3):
        (ready,) = [key for key, where in live(main, run).items() if where == "ready"]
        done.append(ready)
        finish(main, worker, take(worker, run, ready))
    assert done == ["a#1", "b#1", "c#1"]
    assert status(main, run) == "completed"
    assert held(main) == []


def test_a_step_that_fails_and_is_tried_again_keeps_its_place_or_gives_it_up(main, worker):
    document = {**THREADS, "nodes": {**THREADS["nodes"]}}
    document["nodes"]["a"] = {
        "uses": "noop",
        "lock": "till",
        "retry": {"attempts": 2, "backoff": "1h"},
    }
    run = submit(main, publish(main, document))
    finish(main, worker, take(worker, run, "s#1"))
    failed = platforms.attempts.Failed(reason="error", message="boom")
    finish(main, worker, take(worker, run, "a#1"), failed)
    assert live(main, run)["a#1"] == "retrying"
    # It has not left the section: nobody else is let in meanwhile.
    assert sorted(live(main, run).values()) == ["deferred", "deferred", "retrying"]
    wake(main.settings)
    sweep.sweep(main)
    finish(main, worker, take(worker, run, "a#1"))
    finish(main, worker, take(worker, run, "b#1"))
    finish(main, worker, take(worker, run, "c#1"))
    assert status(main, run) == "completed"


# --- sections ----------------------------------------------------------------------------------------


def section():
    """`a` takes the lock, and keeps it until `c` is done."""
    return {
        "workflow": "section",
        "nodes": {
            "a": {"uses": "noop", "lock": {"name": "k", "of": "tenant", "until": "c"}},
            "b": {"kind": "event", "name": "go"},
            "c": {"uses": "noop"},
            "d": {"kind": "event", "name": "done"},
        },
        "edges": ["a -> b -> c -> d -> end"],
    }


def test_a_section_is_held_from_its_first_node_to_its_last(main, worker):
    version = publish(main, section())
    first, second = submit(main, version), submit(main, version)
    finish(main, worker, take(worker, first, "a#1"))
    assert live(main, second) == {"a#1": "deferred"}
    go(main, first)
    assert live(main, second) == {"a#1": "deferred"}
    finish(main, worker, take(worker, first, "c#1"))
    assert live(main, first) == {"d#1": "waiting"}
    assert live(main, second) == {"a#1": "ready"}
    for run in (first, second):
        control.cancel(main, run, by="bob")
    assert held(main) == []


def test_a_section_that_is_left_by_a_failure_is_open_again(main, worker):
    version = publish(main, section())
    first, second = submit(main, version), submit(main, version)
    finish(main, worker, take(worker, first, "a#1"))
    go(main, first)
    failed = platforms.attempts.Failed(reason="error", message="boom", terminal=True)
    finish(main, worker, take(worker, first, "c#1"), failed)
    assert status(main, first) == "failed"
    assert live(main, second) == {"a#1": "ready"}
    control.cancel(main, second, by="bob")
    assert held(main) == []


def test_who_holds_the_lock_does_not_wait_for_itself(main, worker):
    document = section()
    document["nodes"]["c"] = {"uses": "noop", "lock": {"name": "k", "of": "tenant"}}
    run = submit(main, publish(main, document))
    finish(main, worker, take(worker, run, "a#1"))
    go(main, run)
    assert live(main, run) == {"c#1": "ready"}
    finish(main, worker, take(worker, run, "c#1"))
    assert held(main) == []
    assert kinds(main, run).count("Deferred") == 0
    control.cancel(main, run, by="bob")
