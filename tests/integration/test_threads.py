"""Threads over a real Postgres: forks, joins, overlays and cancelled branches as rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from engine.errors import NotFound
from engine.platform import DatabaseRole
from engine.runs import attempts, control, doctor, turns, views
from engine.store import session
from engine.store.ids import StepId
from tests.support import platforms
from tests.support.platforms import LINE, Sent, finish, publish, register, status, submit, take

WIDE = [f"n{number}" for number in range(6)]


def diamond(**options):
    middle = options.pop("middle", ["a", "b", "c"])
    return {
        "workflow": "diamond",
        "variables": options.pop("variables", {}),
        "nodes": {
            "f": {"uses": "noop"},
            **{name: {"uses": "noop"} for name in middle},
            "j": {"uses": "noop", **options},
        },
        "edges": [
            {"from": "f", "to": middle, "type": "parallel"},
            {"from": middle, "to": "j", "type": "join"},
            "j -> end",
        ],
    }


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


def rows(main, statement):
    with session.transaction(main.database) as connection:
        return connection.execute(text(statement)).all()


def test_branches_that_contradict_each_other_fail_the_run(main, worker):
    run = submit(main, publish(main, diamond(middle=["a", "b"])))
    finish(main, worker, take(worker, run, "f#1"))
    finish(main, worker, take(worker, run, "a#1"), x=1)
    finish(main, worker, take(worker, run, "b#1"), x=2)
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "contradiction")
    assert doctor.examine(main.database) == ()


def test_branches_run_beside_each_other_and_meet(main, worker):
    run = submit(main, publish(main, diamond()), base=1)
    finish(main, worker, take(worker, run, "f#1"))
    leases = [take(worker, run, f"{name}#1") for name in "cab"]
    finish(main, worker, leases[0], c=3)
    finish(main, worker, leases[1], a=1)
    assert attempts.lease(worker, [StepId(*run, "j#1")], "w1") == ()
    finish(main, worker, leases[2], b=2)
    joined = take(worker, run, "j#1")
    assert joined.variables == {"base": 1, "a": 1, "b": 2, "c": 3}
    finish(main, worker, joined)
    assert status(main, run) == "completed"
    assert doctor.examine(main.database) == ()


def test_a_step_reads_its_threads_own_variables(main, worker):
    document = diamond(middle=["a", "b"])
    document["nodes"]["a2"] = {"uses": "noop"}
    document["edges"] = [
        {"from": "f", "to": ["a", "b"], "type": "parallel"},
        "a -> a2",
        {"from": ["a2", "b"], "to": "j", "type": "join"},
        "j -> end",
    ]
    run = submit(main, publish(main, document), base=1)
    finish(main, worker, take(worker, run, "f#1"))
    finish(main, worker, take(worker, run, "b#1"), y=2)
    finish(main, worker, take(worker, run, "a#1"), x=1)
    assert take(worker, run, "a2#1").variables == {"base": 1, "x": 1}


def test_contributions_add_up_in_branch_order(main, worker):
    variables = {"drafts": {"type": "array", "reduce": "append", "default": []}}
    run = submit(main, publish(main, diamond(variables=variables)))
    finish(main, worker, take(worker, run, "f#1"))
    for name in "cba":
        finish(main, worker, take(worker, run, f"{name}#1"), drafts=[name])
    assert take(worker, run, "j#1").variables == {"drafts": ["a", "b", "c"]}


def test_branches_that_a_join_did_not_wait_for_are_taken_from_their_workers(main, worker):
    run = submit(main, publish(main, diamond(join="any")))
    finish(main, worker, take(worker, run, "f#1"))
    slow = take(worker, run, "a#1")
    finish(main, worker, take(worker, run, "b#1"), b=2)
    assert [row.key for row in rows(main, "SELECT key FROM step")] == ["j#1"]
    assert attempts.beat(worker, [slow.held]) == frozenset()
    assert not finish(main, worker, slow, a=1)
    finish(main, worker, take(worker, run, "j#1"))
    assert views.run(main, run).variables == {"b": 2}
    assert doctor.examine(main.database) == ()


def test_what_is_in_a_region_is_taken_from_its_workers_and_nothing_else_is(main, worker):
    document = {
        "workflow": "region",
        "nodes": {
            **{name: {"uses": "noop"} for name in "fabc"},
            "w": {"uses": "noop", "cancels": ["a", "b"]},
        },
        "edges": [
            {"from": "f", "to": ["w", "a", "b", "c"], "type": "parallel"},
            "a -> end",
        ],
    }
    version = publish(main, document)
    run, other = submit(main, version), submit(main, version)
    for one in (run, other):
        finish(main, worker, take(worker, one, "f#1"))
    held, beside, late = (take(worker, run, f"{name}#1") for name in "abc")
    assert attempts.report(worker, "w1", [(late, attempts.Succeeded(patch={"c": 3}))])
    finish(main, worker, take(worker, run, "w#1"), w=1)
    assert rows(main, f"SELECT key FROM step WHERE run_id = '{run.run}'") == []
    assert attempts.beat(worker, [held.held, beside.held]) == frozenset()
    assert not finish(main, worker, held, a=1)
    detail = views.run(main, run)
    assert (detail.status, detail.variables) == ("completed", {"w": 1, "c": 3})
    left = rows(main, f"SELECT key FROM step WHERE run_id = '{other.run}' ORDER BY key")
    assert [row.key for row in left] == ["a#1", "b#1", "c#1", "w#1"]
    assert doctor.examine(main.database) == ()


def test_a_report_that_comes_together_with_what_cancels_it_is_not_counted(main, worker):
    document = {
        "workflow": "raced",
        "nodes": {
            **{name: {"uses": "noop"} for name in "fab"},
            "w": {"uses": "noop", "cancels": ["a", "b"]},
        },
        "edges": [
            {"from": "f", "to": ["w", "a"], "type": "parallel"},
            "a -> b -> end",
            {"from": "w", "to": "b", "type": "normal"},
        ],
    }
    run = submit(main, publish(main, document))
    finish(main, worker, take(worker, run, "f#1"))
    first, second = take(worker, run, "w#1"), take(worker, run, "a#1")
    assert attempts.report(worker, "w1", [(first, attempts.Succeeded(patch={"w": 1}))])
    assert attempts.report(worker, "w1", [(second, attempts.Succeeded(patch={"a": 1}))])
    turns.take_turns(main, [run])
    assert [row.key for row in rows(main, "SELECT key FROM step")] == ["b#1"]
    finish(main, worker, take(worker, run, "b#1"))
    assert views.run(main, run).variables == {"w": 1}
    assert doctor.examine(main.database) == ()


def test_a_join_of_many_costs_as_many_turns_as_reports_and_no_more_rows(main, worker):
    run = submit(main, publish(main, diamond(middle=WIDE)))
    finish(main, worker, take(worker, run, "f#1"))
    for name in WIDE:
        finish(main, worker, take(worker, run, f"{name}#1"))
    finish(main, worker, take(worker, run, "j#1"))
    assert status(main, run) == "completed"
    kinds = [row.kind for row in rows(main, "SELECT kind FROM history ORDER BY seq")]
    assert kinds.count("JoinThreads") == 1
    assert kinds.count("AttemptSucceeded") == len(WIDE) + 2
    assert doctor.examine(main.database) == ()


def test_a_plan_chooses_by_what_it_answers(main, worker):
    document = {
        "workflow": "planned",
        "nodes": {
            "p": {"role": "plan", "uses": "noop"},
            **{name: {"uses": "noop"} for name in "abcj"},
        },
        "edges": [
            *(f"p -> {name}" for name in "abc"),
            {"from": ["a", "b", "c"], "to": "j", "type": "join"},
            "j -> end",
        ],
    }
    run = submit(main, publish(main, document))
    finish(main, worker, take(worker, run, "p#1"), attempts.Succeeded(choice=("c", "a")))
    assert sorted(r.key for r in rows(main, "SELECT key FROM step")) == ["a#1", "c#1"]
    finish(main, worker, take(worker, run, "a#1"))
    finish(main, worker, take(worker, run, "c#1"))
    finish(main, worker, take(worker, run, "j#1"))
    assert status(main, run) == "completed"
    assert doctor.examine(main.database) == ()


def test_a_paused_run_holds_its_steps_and_goes_on_where_it_was(main, worker):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    assert control.pause(main, run, by="ada", reason="look") == "paused"
    assert finish(main, worker, lease, n=1)
    assert [r.status for r in rows(main, "SELECT status FROM step")] == []
    assert control.resume(main, run, by="ada") == "running"
    finish(main, worker, take(worker, run, "b#1"))
    assert views.run(main, run).variables == {"n": 1}
    assert doctor.examine(main.database) == ()


def test_a_ready_step_of_a_paused_run_cannot_be_leased(main, worker):
    run = submit(main, publish(main, LINE))
    control.pause(main, run, by="ada")
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w1") == ()
    assert [r.status for r in rows(main, "SELECT status FROM step")] == ["held"]
    assert doctor.examine(main.database) == ()
    main.broker.hints.clear()
    control.resume(main, run, by="ada")
    assert [hint.step.key for hint in main.broker.hints] == ["a#1"]
    take(worker, run, "a#1")


def test_a_step_that_is_skipped_is_taken_from_its_worker(main, worker):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    assert control.skip(main, run, "a#1", by="ada", reason="known") == "running"
    assert not finish(main, worker, lease)
    take(worker, run, "b#1")
    with pytest.raises(NotFound, match="no live step"):
        control.skip(main, run, "a#1", by="ada")
