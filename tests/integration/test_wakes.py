"""What a run as a whole waits for, over a real Postgres: swept, woken, pushed on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.platform import DatabaseRole
from engine.runs import attempts, control, doctor, sweep, views
from engine.store import runs as run_rows
from engine.store import session
from tests.support import platforms
from tests.support.fleet import wait_until
from tests.support.platforms import (
    Sent,
    as_owner,
    finish,
    publish,
    register,
    sql,
    status,
    submit,
    take,
)

LONG_AGO = "clock_timestamp() - interval '61 seconds'"


@pytest.fixture
def main(settings):
    with platforms.platform(settings) as built:
        sent = replace(built, broker=Sent(app=built.broker.app))
        register(sent, "noop")
        yield sent


@pytest.fixture
def worker(settings, main):
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


def diamond(**join):
    return {
        "workflow": "diamond",
        "nodes": {
            **{name: {"uses": "noop"} for name in "fab"},
            "j": {"uses": "noop", "join": join},
        },
        "edges": [
            {"from": "f", "to": ["a", "b"], "type": "parallel"},
            {"from": ["a", "b"], "to": "j", "type": "join"},
            "j -> end",
        ],
    }


def waiting(main, worker, **join):
    """A run whose first branch has come to the join, and the lease of the other."""
    run = submit(main, publish(main, diamond(**join)))
    finish(main, worker, take(worker, run, "f#1"))
    slow = take(worker, run, "b#1")
    finish(main, worker, take(worker, run, "a#1"), a=1)
    return run, slow


def wake(main, run):
    ((found,),) = sql(main, "SELECT wake_at FROM run WHERE id = CAST(:run AS uuid)", run=run.run)
    return found


def kinds(main):
    return [row.kind for row in sql(main, "SELECT kind FROM history ORDER BY seq")]


# --- sad paths ------------------------------------------------------------------------------


def test_a_join_that_does_not_get_what_it_demands_in_time_fails_the_run(main, worker):
    run, slow = waiting(main, worker, all=True, timeout=0.05)
    wait_until(lambda: sweep.sweep(main).woken)
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "join_timeout")
    assert wake(main, run) is None
    assert not finish(main, worker, slow)
    assert doctor.examine(main.database) == ()


def test_a_wake_that_nobody_takes_up_is_pushed_on_and_not_sent_again(main, worker, settings):
    run, _ = waiting(main, worker, timeout="1h")
    as_owner(settings, f"UPDATE run SET wake_at = {LONG_AGO}")
    with session.transaction(main.database) as connection:
        assert [row.run_id for row in run_rows.wake(connection, 10)] == [run.run]
        assert run_rows.wake(connection, 10) == []
    assert sweep.sweep(main).woken == 0
    ((later,),) = sql(main, "SELECT wake_at > clock_timestamp() + interval '50 s' FROM run")
    assert later


def test_a_run_that_somebody_holds_is_passed_over(main, worker, settings):
    run, _ = waiting(main, worker, timeout="1h")
    as_owner(settings, f"UPDATE run SET wake_at = {LONG_AGO}")
    with session.transaction(main.database) as holder:
        assert run_rows.lock(holder, [run])
        with session.transaction(main.database) as connection:
            assert run_rows.wake(connection, 10) == []
    assert sweep.sweep(main).woken == 1


def test_a_stuck_run_is_left_alone_until_its_time(main, worker, settings):
    run, _ = waiting(main, worker, timeout="1h")
    with session.transaction(main.database) as connection:
        run_rows.stick(connection, run, "boom")
    as_owner(
        settings,
        f"UPDATE run SET wake_at = {LONG_AGO}, stuck_until = clock_timestamp() + interval '1 h'",
    )
    assert sweep.sweep(main).woken == 0
    as_owner(settings, f"UPDATE run SET stuck_until = {LONG_AGO}")
    assert sweep.sweep(main).woken == 1


def test_a_wake_before_its_time_changes_nothing_but_the_history(main, worker, settings):
    run, _ = waiting(main, worker, timeout="1h")
    due = wake(main, run)
    as_owner(settings, f"UPDATE run SET wake_at = {LONG_AGO}")
    assert sweep.sweep(main).turns == 1
    assert kinds(main)[-1] == "Ticked"
    assert wake(main, run) == due
    assert doctor.examine(main.database) == ()


# --- the time has come ----------------------------------------------------------------------


def test_a_join_goes_on_when_its_time_is_over_and_takes_the_others_from_their_workers(main, worker):
    run, slow = waiting(main, worker, timeout=0.05)
    wait_until(lambda: sweep.sweep(main).woken)
    assert attempts.beat(worker, [slow.held]) == frozenset()
    assert not finish(main, worker, slow, b=2)
    finish(main, worker, take(worker, run, "j#1"))
    assert status(main, run) == "completed"
    assert views.run(main, run).variables == {"a": 1}
    assert kinds(main).count("Ticked") == 1
    assert doctor.examine(main.database) == ()


def test_a_run_wakes_no_more_once_the_join_has_got_all(main, worker):
    run, slow = waiting(main, worker, timeout="1h")
    assert wake(main, run) is not None
    finish(main, worker, slow)
    assert wake(main, run) is None
    assert doctor.examine(main.database) == ()


def test_a_paused_run_is_not_woken_and_sees_what_is_over_when_it_goes_on(main, worker):
    run, _ = waiting(main, worker, timeout=0.05)
    control.pause(main, run, by="ada")
    assert wake(main, run) is None
    wait_until(
        lambda: sql(
            main,
            "SELECT FROM history WHERE at < clock_timestamp() - interval '0.05 s' AND kind = 'PauseRequested'",
        )
    )
    assert sweep.sweep(main).woken == 0
    control.resume(main, run, by="ada")
    take(worker, run, "j#1")
    assert doctor.examine(main.database) == ()


# --- milestones -----------------------------------------------------------------------------


def milestone(expires=None, **join):
    """`a` waits at `m` until somebody is at `x`, which comes after `b`, or after the join."""
    found = {"kind": "milestone", "at": "x"}
    return {
        "workflow": "milestone",
        "nodes": {
            **{name: {"uses": "noop"} for name in "fabcdx"},
            "m": found if expires is None else {**found, "expires": expires},
            "j": {"kind": "pass", **({"join": join} if join else {})},
        },
        "edges": [
            {"from": "f", "to": ["a", "b"], "type": "parallel"},
            "a -> m -> c",
            {"from": "m", "to": "d", "on": "short"},
            {"from": ["b", "c", "d"], "to": "j", "type": "join"},
            "j -> x -> end",
        ],
    }


def test_a_milestone_that_expires_takes_its_short_way(main, worker):
    run = submit(main, publish(main, milestone(expires=0.05)))
    finish(main, worker, take(worker, run, "f#1"))
    finish(main, worker, take(worker, run, "a#1"))
    assert wake(main, run) is not None
    wait_until(lambda: sweep.sweep(main).woken)
    finish(main, worker, take(worker, run, "d#1"))
    finish(main, worker, take(worker, run, "b#1"))
    finish(main, worker, take(worker, run, "x#1"))
    assert status(main, run) == "completed"
    assert doctor.examine(main.database) == ()


def test_a_run_may_wait_for_nothing_but_the_time_of_a_join(main, worker):
    run = submit(main, publish(main, milestone(timeout=0.2, surplus="finish")))
    finish(main, worker, take(worker, run, "f#1"))
    finish(main, worker, take(worker, run, "a#1"))
    finish(main, worker, take(worker, run, "b#1"))
    assert sql(main, "SELECT FROM step") == []
    assert doctor.examine(main.database) == ()
    wait_until(lambda: sweep.sweep(main).woken)
    for key in ("x#1", "c#1"):
        finish(main, worker, take(worker, run, key))
    assert status(main, run) == "completed"
    assert kinds(main).count("AbsorbToken") == 1
    assert doctor.examine(main.database) == ()
