"""What is folded in one turn counts as it would in several."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection

from engine.core import codec
from engine.core import messages as msg
from engine.core.values import Json
from engine.platform import Platform
from engine.runs import attempts, doctor, letters, locks, requests, turns, views
from engine.runs.attempts import Failed, Succeeded
from engine.runs.requests import Answers
from engine.store import inbox, session
from engine.store.ids import RunId
from tests.support.fleet import wait_until
from tests.support.hands import beside, carry_out
from tests.support.platforms import finish, publish, register, sql, status, submit, take
from workers.execution import Worker

SIDE_BY_SIDE: dict[str, Json] = {
    "workflow": "side_by_side",
    "nodes": {
        "start": {"kind": "start"},
        "a": {"uses": "noop", "compensate": "noop"},
        "b": {"uses": "noop"},
    },
    "edges": [
        {"from": "start", "to": ["a", "b"], "type": "parallel"},
        {"from": ["a", "b"], "to": "end", "type": "join"},
    ],
}


def test_what_was_done_in_the_turn_of_the_failure_is_undone(main: Platform, worker: Worker) -> None:
    register(main, "noop")
    run = submit(main, publish(main, SIDE_BY_SIDE))
    done, broken = take(worker.platform, run, "a#1"), take(worker.platform, run, "b#1")
    outcomes = [(done, Succeeded(result=7)), (broken, Failed(reason="error", message="boom"))]
    attempts.report(worker.platform, "w1", outcomes)

    turns.take_turns(main, [run])

    assert [step.key for step in views.run(main, run).steps] == ["undo a#1"]
    undoing = take(worker.platform, run, "undo a#1")
    assert undoing.undone == 7
    finish(main, worker.platform, undoing)
    assert status(main, run) == "failed"
    assert doctor.examine(main.database) == ()


def test_what_is_reported_while_the_turn_of_the_failure_is_taken_is_undone(
    main: Platform, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(main, "noop")
    run = submit(main, publish(main, SIDE_BY_SIDE))
    done, broken = take(worker.platform, run, "a#1"), take(worker.platform, run, "b#1")
    boom = Failed(reason="error", message="boom")
    attempts.report(worker.platform, "w1", [(broken, boom)])
    late = [(done, Succeeded(result=7))]
    answers = requests.answers

    def answering(*given: Any, **named: Any) -> Answers:
        if late:
            # The inbox is taken, and the row not yet cleared.
            assert attempts.report(worker.platform, "w1", [late.pop()])
        return answers(*given, **named)

    monkeypatch.setattr(requests, "answers", answering)

    turns.take_turns(main, [run])

    assert [step.key for step in views.run(main, run).steps] == ["undo a#1"]
    finish(main, worker.platform, take(worker.platform, run, "undo a#1"))
    assert status(main, run) == "failed"
    assert doctor.examine(main.database) == ()


def test_nothing_is_looked_for_to_undo_while_reports_wait(
    main: Platform, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one turn may take of an inbox, what is left in it counts."""
    register(main, "noop")
    run = submit(main, publish(main, SIDE_BY_SIDE))
    done, broken = take(worker.platform, run, "a#1"), take(worker.platform, run, "b#1")
    attempts.report(worker.platform, "w1", [(broken, Failed(reason="error", message="boom"))])
    late = [(done, Succeeded(result=7))]
    answers = requests.answers

    def answering(*given: Any, **named: Any) -> Answers:
        if late:
            ahead = msg.Woke(at=codec.UNTIMED, step=msg.StepKey("nowhere#1"))
            with session.transaction(main.database) as connection:
                inbox.put(connection, [letters.letter(run, ahead)])
            assert attempts.report(worker.platform, "w1", [late.pop()])
        return answers(*given, **named)

    monkeypatch.setattr(requests, "answers", answering)
    monkeypatch.setattr(inbox, "BATCH", 1)

    turns.take_turns(main, [run])

    assert [step.key for step in views.run(main, run).steps] == ["undo a#1"]
    finish(main, worker.platform, take(worker.platform, run, "undo a#1"))
    assert status(main, run) == "failed"
    assert doctor.examine(main.database) == ()


def test_what_was_done_in_the_turn_of_a_cancel_is_undone(main: Platform, worker: Worker) -> None:
    register(main, "noop")
    run = submit(main, publish(main, SIDE_BY_SIDE))
    attempts.report(
        worker.platform, "w1", [(take(worker.platform, run, "a#1"), Succeeded(result=7))]
    )
    cancel = msg.CancelRequested(at=codec.UNTIMED, by="ada", compensate=True)
    with session.transaction(main.database) as connection:
        inbox.put(connection, [letters.letter(run, cancel)])

    turns.take_turns(main, [run])

    assert [step.key for step in views.run(main, run).steps] == ["undo a#1"]
    finish(main, worker.platform, take(worker.platform, run, "undo a#1"))
    assert status(main, run) == "cancelled"


def test_items_that_are_runs_start_in_the_turn_that_lists_them(main: Platform) -> None:
    inner: dict[str, Json] = {
        "workflow": "inner",
        "inputs": {"n": {"type": "integer"}},
        "nodes": {"wait": {"kind": "timer", "for": 60}},
        "edges": ["wait -> end"],
    }
    outer: dict[str, Json] = {
        "workflow": "outer",
        "nodes": {
            "m": {
                "kind": "map",
                "over": [1, 2],
                "do": {"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}},
            }
        },
        "edges": ["m -> end"],
    }
    publish(main, inner)
    run = submit(main, publish(main, outer))
    assert sorted(step.key for step in views.run(main, run).steps) == ["m#1", "m#1.0", "m#1.1"]
    assert doctor.examine(main.database) == ()


def test_what_an_items_function_leaves_is_its_result_alone(main: Platform, worker: Worker) -> None:
    """Else it would hang on who is last what the variables are."""
    register(main, "twice", 'def twice(state):\n    return {"n": state["item"] * 2}')
    mapping: dict[str, Json] = {
        "workflow": "mapping",
        "nodes": {"m": {"kind": "map", "over": [1, 2], "do": "twice", "save": {"all": "$result"}}},
        "edges": ["m -> end"],
    }
    done = carry_out(main, worker, submit(main, publish(main, mapping)))
    assert (done.status, done.variables) == ("completed", {"all": [{"n": 2}, {"n": 4}]})


def test_two_runs_that_hand_each_other_their_locks_are_not_set_aside(
    main: Platform, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sees the other's lock taken, then gives up its own: the database lets one of them go."""
    register(main, "noop")
    crossing: dict[str, Json] = {
        "workflow": "crossing",
        "inputs": {"first": {"type": "string"}, "second": {"type": "string"}},
        "nodes": {
            "a": {"uses": "noop", "lock": {"name": "$first", "until": "a", "of": "tenant"}},
            "b": {"uses": "noop", "lock": {"name": "$second", "of": "tenant"}},
        },
        "edges": ["a -> b -> end"],
    }
    version = publish(main, crossing)
    runs = [
        submit(main, version, first="x", second="y"),
        submit(main, version, first="y", second="x"),
    ]
    begun = [(take(worker.platform, run, "a#1"), Succeeded()) for run in runs]
    attempts.report(worker.platform, "w1", begun)
    both = threading.Barrier(len(runs))
    give_up = locks.give_up
    # Only the turns that stand in each other's way wait for each other.
    waits = {run.run: both for run in runs}

    def giving_up(connection: Connection, kept: Mapping[RunId, Sequence[str]]) -> list[RunId]:
        for run in kept:
            if barrier := waits.pop(run.run, None):
                barrier.wait(30)
        return give_up(connection, kept)

    monkeypatch.setattr(locks, "give_up", giving_up)
    with beside(turns.take_turns, main, runs[:1]), beside(turns.take_turns, main, runs[1:]):
        pass

    assert sql(main, "SELECT id FROM run WHERE stuck_until IS NOT NULL") == []
    for run in runs:
        wait_until(
            lambda run=run: turns.take_turns(main, [run]) >= 0 and _ready(main, run) == ["b#1"],  # type: ignore[misc]
            seconds=20,
            what="b to be ready",
        )
        finish(main, worker.platform, take(worker.platform, run, "b#1"))
        assert status(main, run) == "completed"
    assert doctor.examine(main.database) == ()


def _ready(main: Platform, run: RunId) -> list[str]:
    return [step.key for step in views.run(main, run).steps if step.status == "ready"]
