"""Turns that several ask a coordinator for: in one transaction, unless something is in the way of one."""

from __future__ import annotations

import threading
import time

import pytest

from engine.errors import Unavailable
from engine.platform import DatabaseRole
from engine.runs import attempts, launch, turns
from engine.runs.attempts import Succeeded
from engine.store import session
from tests.support import platforms
from tests.support.platforms import LINE, TENANT, as_owner, publish, register, sql, status, submit
from tests.support.platforms import take as taken
from tests.support.waiting import waits_at

INNER = {**waits_at("event", name="go"), "workflow": "inner"}


@pytest.fixture
def main(main):
    register(main, "noop")
    return main


@pytest.fixture
def worker(settings, main):
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


def reported(main, worker, count):
    """Runs to each of which a result of its first step was reported."""
    version = publish(main, LINE)
    runs = [submit(main, version) for _ in range(count)]
    attempts.report(worker, "w1", [(taken(worker, run, "a#1"), Succeeded()) for run in runs])
    return runs


def test_what_several_ask_for_is_one_transaction(main, worker):
    runs = reported(main, worker, 5)
    assert turns.take_together(main, [runs[:2], runs[2:4], runs[3:]]) == [[], [], []]
    assert sql(main, "SELECT FROM inbox") == []
    ready = sql(main, "SELECT run_id::text, xmin::text FROM step WHERE key = 'b#1'")
    assert {row.run_id for row in ready} == {run.run for run in runs}
    assert len({row.xmin for row in ready}) == 1


def test_where_one_cannot_be_taken_all_are_left_to_those_who_asked(main, worker, settings):
    one, bad, other = reported(main, worker, 3)
    as_owner(settings, "UPDATE run SET head = '{\"nonsense\": 1}' WHERE id = :id", id=bad.run)
    asked = [[one], [bad, other]]
    assert turns.take_together(main, asked) == asked
    assert len(sql(main, "SELECT FROM inbox")) == 3
    assert sql(main, "SELECT FROM run WHERE stuck_error IS NOT NULL") == []
    assert [turns.take_turns(main, left) for left in asked] == [1, 1]
    (stuck,) = sql(main, "SELECT id::text FROM run WHERE stuck_error IS NOT NULL")
    assert stuck.id == bad.run
    # Until its time has come it is in nobody's way.
    more = reported(main, worker, 2)
    assert turns.take_together(main, [[bad], more]) == [[], []]


def test_what_has_something_waiting_again_is_left_to_who_asked_for_it(main, worker):
    publish(main, INNER)
    parent = launch.submit(
        main, TENANT, publish(main, waits_at("workflow", workflow="inner")), {}, by="ada"
    ).run
    (other,) = reported(main, worker, 1)
    first, second = turns.take_together(main, [[other], [parent]])
    # Nobody has asked for the run that was started.
    (child,) = sql(main, "SELECT id::text FROM run WHERE parent_run IS NOT NULL")
    assert ([run.run for run in first], second) == ([child.id], [])
    assert turns.take_turns(main, first) == 1
    assert status(main, first[0]) == "running"


def test_a_run_that_needs_a_value_out_of_a_blob_holds_up_no_other(main, worker):
    document = {
        "workflow": "conditional",
        "nodes": {key: {"uses": "noop"} for key in "abc"},
        "edges": [{"from": "a", "to": "b", "when": "$doc.good"}, "a -> c", "b -> end", "c -> end"],
    }
    run = submit(main, publish(main, document))
    lease = taken(worker, run, "a#1")
    large = Succeeded(patch={"doc": {"good": True, "text": "x" * 300_000}})
    attempts.report(worker, "w1", [(lease, attempts.moved_out(worker, lease, large))])
    others = reported(main, worker, 2)
    assert turns.take_together(main, [[others[0], run], [others[1]]]) == [[run], []]
    assert len(sql(main, "SELECT FROM step WHERE key = 'b#1'")) == len(others)
    assert turns.take_turns(main, [run]) == 1
    assert len(sql(main, "SELECT FROM step WHERE key = 'b#1'")) == len(others) + 1


def test_a_lock_that_is_not_given_up_holds_up_those_who_wait_for_it_alone(main, worker):
    node = {"uses": "noop", "lock": {"name": "door", "of": "tenant"}}
    document = {"workflow": "guarded", "nodes": {"a": node}, "edges": ["a -> end"]}
    guarded = launch.submit(main, TENANT, publish(main, document), {}, by="ada").run
    holder, other = reported(main, worker, 2)
    with session.transaction(main.database) as connection:
        # Whoever has taken it, and does not commit.
        connection.exec_driver_sql(
            f"INSERT INTO lock (tenant_id, name, run_id) VALUES ('{TENANT}', 'tenant:door', '{holder.run}')"
        )
        began = time.monotonic()
        assert turns.take_together(main, [[guarded], [other]]) == [[guarded], [other]]
        # By far less than a statement may take.
        assert time.monotonic() - began < session.STATEMENT_TIMEOUT_MS / 1000 / 3
        connection.exec_driver_sql("DELETE FROM lock")
    assert turns.take_together(main, [[guarded], [other]]) == [[], []]


def test_runs_that_were_told_something_are_not_forgotten_where_events_cannot_be_routed(
    main, worker, monkeypatch
):
    publish(main, INNER)
    version = publish(main, waits_at("workflow", workflow="inner"))
    parent = launch.submit(main, TENANT, version, {}, by="ada").run

    def broken(*_):
        raise RuntimeError("no way")

    monkeypatch.setattr(turns, "_route", broken)
    (left,) = turns.take_together(main, [[parent]])
    (child,) = sql(main, "SELECT id::text FROM run WHERE parent_run IS NOT NULL")
    assert [run.run for run in left] == [child.id]


def test_a_run_that_another_holds_is_left_to_him(main, worker, settings):
    held, free = reported(main, worker, 2)
    locked, go = threading.Event(), threading.Event()

    def hold():
        with session.transaction(main.database) as connection:
            connection.exec_driver_sql(f"SELECT FROM run WHERE id = '{held.run}' FOR UPDATE")
            locked.set()
            assert go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(10)
        assert turns.take_together(main, [[held], [free]]) == [[], []]
    finally:
        go.set()
        holder.join()
    assert [row.run_id for row in sql(main, "SELECT run_id::text FROM inbox")] == [held.run]
    assert turns.take_together(main, [[held]]) == [[]]


def test_a_database_that_is_away_is_told_to_all(main, worker, monkeypatch):
    runs = reported(main, worker, 1)

    def away(*_, **__):
        raise Unavailable("it is away")

    monkeypatch.setattr(turns, "_turned", away)
    with pytest.raises(Unavailable, match="away"):
        turns.take_together(main, [runs])
