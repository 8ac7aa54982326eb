"""What comes together in one turn, or between two, on the real store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.core import codec
from engine.core import messages as msg
from engine.core.values import Json
from engine.platform import DatabaseRole, Platform
from engine.runs import attempts, control, doctor, letters, turns, views
from engine.runs.attempts import Failed, Succeeded
from engine.settings import Settings
from engine.store import inbox, session
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import finish, publish, register, status, submit, take

SIDE_BY_SIDE: dict[str, Json] = {
    "workflow": "w",
    "nodes": {
        "f": {"kind": "start"},
        "a": {"uses": "noop", "compensate": "noop"},
        "b": {"uses": "noop"},
    },
    "edges": [
        {"from": "f", "to": ["a", "b"], "type": "parallel"},
        {"from": ["a", "b"], "to": "end", "type": "join"},
    ],
}


@pytest.fixture
def worker(settings: Settings, main: Platform) -> Iterator[Platform]:
    register(main, "noop")
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


def tell(main: Platform, run: RunId, *events: msg.AnyEvent) -> None:
    with session.transaction(main.database) as connection:
        inbox.put(connection, [letters.letter(run, event) for event in events])
    turns.take_turns(main, [run])


def standing(main: Platform, run: RunId) -> dict[str, str]:
    return {step.key: step.status for step in views.run(main, run).steps}


def test_what_was_done_in_the_turn_of_the_failure_is_undone(main, worker):
    run = submit(main, publish(main, SIDE_BY_SIDE))
    done, broken = take(worker, run, "a#1"), take(worker, run, "b#1")
    outcomes = [(done, Succeeded(result=7)), (broken, Failed(reason="error", message="boom"))]
    attempts.report(worker, "w1", outcomes)
    turns.take_turns(main, [run])
    assert standing(main, run) == {"undo a#1": "ready"}
    finish(main, worker, take(worker, run, "undo a#1"))
    assert status(main, run) == "failed"
    assert doctor.examine(main.database) == ()


def test_nothing_starts_of_a_run_that_is_resumed_and_paused_in_one_turn(main, worker):
    run = submit(main, publish(main, platforms.chain(a={"uses": "noop"}, b={"uses": "noop"})))
    lease = take(worker, run, "a#1")
    control.pause(main, run, by="ada")
    finish(main, worker, lease)
    tell(
        main,
        run,
        msg.ResumeRequested(at=codec.UNTIMED, by="ada"),
        msg.PauseRequested(at=codec.UNTIMED, by="ada"),
    )
    assert (status(main, run), standing(main, run)) == ("paused", {"b#1": "held"})


def test_items_that_are_runs_are_begun_in_the_turn_that_lists_them(main):
    inner = platforms.chain(wait={"kind": "timer", "for": 60})
    publish(main, inner | {"workflow": "inner", "inputs": {"n": {"type": "integer"}}})
    do: Json = {"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}}
    run = submit(main, publish(main, platforms.chain(m={"kind": "map", "over": [1, 2], "do": do})))
    assert standing(main, run) == dict.fromkeys(("m#1", "m#1.0", "m#1.1"), "waiting")


def test_a_map_goes_on_beside_a_variable_that_looks_like_none(main, worker):
    document = {
        "workflow": "w",
        "nodes": {
            "f": {"kind": "start"},
            "m": {"kind": "map", "over": [1, 2], "do": "noop", "at_once": 1},
            "b": {"uses": "noop"},
            "c": {"uses": "noop"},
        },
        "edges": [{"from": "f", "to": ["m", "b"], "type": "parallel"}, "m -> end", "b -> c -> end"],
    }
    run = submit(main, publish(main, document))
    finish(main, worker, take(worker, run, "b#1"), maps={})
    finish(main, worker, take(worker, run, "m#1.0"))
    assert standing(main, run) == {"c#1": "ready", "m#1": "waiting", "m#1.1": "ready"}


def test_a_wake_that_comes_twice_does_not_end_the_wait_that_it_began(main, worker):
    document = {
        "workflow": "w",
        "nodes": {
            "f": {"kind": "start"},
            "a": {"uses": "noop", "lock": "l"},
            "t": {"kind": "timer", "for": 60, "lock": "l"},
        },
        "edges": [{"from": "f", "to": ["a", "t"], "type": "parallel"}, "a -> end", "t -> end"],
    }
    run = submit(main, publish(main, document))
    assert standing(main, run) == {"a#1": "ready", "t#1": "deferred"}
    finish(main, worker, take(worker, run, "a#1"))
    assert standing(main, run) == {"t#1": "waiting"}
    tell(main, run, msg.Woke(at=codec.UNTIMED, step=msg.StepKey("t#1"), again=True))
    assert standing(main, run) == {"t#1": "waiting"}


def test_an_item_leaves_its_result_alone(main, worker):
    run = submit(
        main, publish(main, platforms.chain(m={"kind": "map", "over": [1, 2], "do": "noop"}))
    )
    for key in ("m#1.1", "m#1.0"):
        finish(main, worker, take(worker, run, key), n=key)
    assert views.run(main, run).variables == {}
