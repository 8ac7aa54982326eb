"""Runs that go on from a place of another one: what is done again, counted outside, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.runs import (
    answers,
    attempts,
    backtests,
    calls,
    control,
    forks,
    shredding,
    turns,
    views,
    waits,
)
from engine.runs.attempts import Suspended
from engine.runs.origins import Edits
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import forking
from tests.support.forking import LOOP, World, after, hashes, line_of
from tests.support.platforms import (
    LINE,
    TENANT,
    as_owner,
    finish,
    publish,
    sql,
    submit,
    take,
)
from tests.support.waiting import live, waits_at

BESIDE: dict[str, Json] = {
    "workflow": "beside",
    "variables": {"all": {"default": [], "reduce": "append"}},
    "nodes": {name: {"uses": "noop"} for name in ("s", "x", "y", "j")},
    "edges": [
        {"from": "s", "to": "x", "type": "parallel"},
        {"from": "s", "to": "y", "type": "parallel"},
        {"from": "x", "to": "j", "type": "join"},
        {"from": "y", "to": "j", "type": "join"},
        "j -> end",
    ],
}


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with forking.world(settings) as made:
        yield made


# --- where no run can go on --------------------------------------------------------------------


def test_nothing_goes_on_from_a_line_that_is_not_there(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    for seq in (0, 99):
        with pytest.raises(NotFound, match=f"no line {seq}"):
            world.fork(run, seq)
    for other in (RunId(TENANT, "nonsense"), RunId("other", run.run)):
        with pytest.raises(NotFound, match="Run not found"):
            world.fork(other, 1)


def test_nothing_goes_on_from_an_end_or_from_within_a_decision(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    world.do(run, "a#1")
    reported = line_of(world.main, run, "AttemptSucceeded", "a#1")
    with pytest.raises(Conflict, match="step a#1 is being settled there"):
        world.fork(run, reported)
    control.cancel(world.main, run, by="ada")
    with pytest.raises(Conflict, match="the run has ended there"):
        world.fork(run, views.status(world.main, run).seq)


def test_nothing_goes_on_from_a_thread_that_keeps_a_lock(world: World) -> None:
    lock = {"name": "one", "until": "b"}
    document: Json = {**LINE, "nodes": {"a": {"uses": "noop", "lock": lock}, "b": {"uses": "noop"}}}
    run = submit(world.main, publish(world.main, document))
    world.do(run, "a#1")
    with pytest.raises(Conflict, match="a thread holds the lock one there"):
        world.fork(run, after(world.main, run, "a#1"))


def test_edits_that_the_workflow_does_not_take_are_told(world: World) -> None:
    run = submit(world.main, publish(world.main, BESIDE))
    for removed, variables in [((), {"all": 1}), (("all",), {}), (("none",), {})]:
        with pytest.raises(Invalid):
            world.fork(run, 2, *removed, **variables)
    with pytest.raises(Invalid):
        world.fork(run, 2, **{"$steps.a": 1})
    assert len(views.runs(world.main, TENANT)) == 1


def test_nothing_goes_on_from_data_that_was_shredded(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    control.cancel(world.main, run, by="ada")
    shredding.shred(world.main, run, by="ada", why="asked for")
    with pytest.raises(Conflict, match="was shredded"):
        world.fork(run, 1)


def test_nothing_goes_on_from_a_large_value_past_its_retention(
    world: World, settings: Settings
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)), big="x" * 300_000)
    world.do(run, "a#1")
    place = after(world.main, run, "a#1")
    kept = world.fork(run, place)
    assert views.run(world.main, kept).variables["big"] == "x" * 300_000
    control.cancel(world.main, kept, by="ada")
    as_owner(settings, "UPDATE blob SET state = 'condemned'")
    with pytest.raises(Conflict, match="past its retention: blob"):
        world.fork(run, place)
    assert len(views.runs(world.main, TENANT)) == 2
    as_owner(settings, "UPDATE blob SET state = 'stored'")


# --- what is done again ------------------------------------------------------------------------


def test_what_was_settled_is_not_done_again_and_what_comes_later_is(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)), n=0)
    world.do(run, "a#1", n=1)
    world.do(run, "b#1", n=2)
    before = hashes(world.main, run)
    place = after(world.main, run, "a#1")
    made = world.fork(run, place, n=10)
    assert live(world.main, made) == {"b#1": "ready"}
    assert views.run(world.main, made).variables == {"n": 10}
    world.do(made, "b#1", m=3)
    ended = views.run(world.main, made)
    assert (ended.status, ended.variables) == ("completed", {"n": 10, "m": 3})
    assert (ended.forked_run, ended.forked_seq) == (run.run, place)
    assert (ended.submitted_by, views.inputs(world.main, made)) == ("bob", {"n": 0})
    assert world.sent == {(run.run, "a#1"): 1, (run.run, "b#1"): 1, (made.run, "b#1"): 1}
    assert hashes(world.main, run) == before
    assert views.state_at(world.main, made, ended.seq).spent == {"cost_usd": 0.25}
    (first, *_) = views.history(world.main, made, payloads=True)
    assert (first.kind, first.body["seq"], first.body["hash"]) == (
        "Forked",
        place,
        before[place - 1],
    )
    assert (first.body["edited"], first.payload["variables"]) == (["n"], {"n": 10})
    assert "n" not in json.dumps(first.body["state"].get("variables", {}))


def test_a_lap_of_a_loop_is_gone_on_from_with_the_laps_before_it(world: World) -> None:
    run = submit(world.main, publish(world.main, LOOP), n=0)
    for lap in range(1, 5):
        world.do(run, f"a#{lap}", n=lap)
    world.do(run, "b#1")
    before = hashes(world.main, run)
    made = world.fork(run, after(world.main, run, "a#2"))
    world.do(made, "a#3", n=3)
    world.do(made, "a#4", n=4)
    world.do(made, "b#1")
    assert views.status(world.main, made).status == "completed"
    assert world.sent_by(made) == {"a#3", "a#4", "b#1"}
    assert hashes(world.main, run) == before
    assert views.state_at(world.main, made, views.status(world.main, made).seq).visited == (
        views.state_at(world.main, run, len(before)).visited
    )


def test_a_fork_of_a_fork_has_the_state_of_both(world: World) -> None:
    run = submit(world.main, publish(world.main, LOOP), n=0)
    world.do(run, "a#1", n=1)
    first = world.fork(run, after(world.main, run, "a#1"), mine=1)
    world.do(first, "a#2", n=2)
    second = world.fork(first, after(world.main, first, "a#2"), n=3)
    assert views.run(world.main, second).variables == {"n": 3, "mine": 1}
    assert views.run(world.main, second).forked_run == first.run
    world.do(second, "a#3", n=4)
    world.do(second, "b#1")
    assert views.status(world.main, second).status == "completed"
    again = world.fork(second, 1)
    assert live(world.main, again) == {"a#3": "ready"}


def test_threads_go_on_with_what_each_has_written(world: World) -> None:
    run = submit(world.main, publish(world.main, BESIDE))
    world.do(run, "s#1")
    world.do(run, "x#1", all=["x"])
    made = world.fork(run, after(world.main, run, "x#1"))
    assert live(world.main, made) == {"y#1": "ready"}
    world.do(made, "y#1", all=["y"])
    world.do(made, "j#1")
    assert views.run(world.main, made).variables == {"all": ["x", "y"]}
    assert views.run(world.main, run).variables == {"all": []}


def test_who_is_asked_is_asked_anew_and_each_run_has_its_own_answer(world: World) -> None:
    run = submit(world.main, publish(world.main, waits_at("approval")))
    made = world.fork(run, views.status(world.main, run).seq)
    assert live(world.main, made) == live(world.main, run) == {"w#1": "waiting"}
    answers.answer(world.main, made, "w#1", choice="approve", by="ada")
    assert views.status(world.main, made).status == "completed"
    assert live(world.main, run) == {"w#1": "waiting"}


def test_a_paused_run_is_gone_on_from_at_once(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    control.pause(world.main, run, by="ada")
    made = world.fork(run, views.status(world.main, run).seq)
    world.do(made, "a#1")
    assert live(world.main, run) == {"a#1": "held"}
    control.resume(world.main, run, by="ada")


# --- calls of what was live --------------------------------------------------------------------


def test_calls_that_had_ended_are_served_and_their_cost_stays_where_it_was(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    call = calls.authorise(world.worker, lease, 1, "send", {"args": [], "kwargs": {}})
    assert isinstance(call, calls.Authorised)
    calls.settle(world.worker, lease, call, calls.Answer(value="sent", usage={"cost_usd": 5}))
    control.pause(world.main, run, by="ada")
    made = world.fork(run, views.status(world.main, run).seq)
    control.resume(world.main, run, by="ada")
    again = take(world.worker, made, "a#1")
    assert again.attempt == 2
    served = calls.authorise(world.worker, again, 1, "send", {"args": [], "kwargs": {}})
    assert served == calls.Recorded(value="sent")
    assert sql(world.main, "SELECT FROM ledger WHERE run_id = :run", run=made.run) == []
    finish(world.main, world.worker, again)
    assert [step.key for step in views.steps(world.main, made)] == ["a#1", "b#1"]


def test_a_call_that_may_happen_once_and_had_begun_is_unknown_and_asked_about(
    world: World,
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    begun = calls.authorise(world.worker, lease, 1, "send", {"args": [], "kwargs": {}})
    look = calls.authorise(world.worker, lease, 2, "look", {"args": [], "kwargs": {}})
    assert isinstance(begun, calls.Authorised)
    assert isinstance(look, calls.Authorised)
    control.pause(world.main, run, by="ada")
    place = views.status(world.main, run).seq
    # That it ended later is not known there.
    calls.settle(world.worker, lease, begun, calls.Answer(value="sent"))
    calls.settle(world.worker, lease, look, calls.Answer(value="seen"))
    made = world.fork(run, place)
    again = take(world.worker, made, "a#1")
    asked = calls.authorise(world.worker, again, 1, "send", {"args": [], "kwargs": {}})
    assert isinstance(asked, Suspended)
    repeated = calls.authorise(world.worker, again, 2, "look", {"args": [], "kwargs": {}})
    assert isinstance(repeated, calls.Authorised)
    calls.settle(world.worker, again, repeated, calls.Answer(value="seen"))
    attempts.report(world.worker, "w1", [(again, asked)])
    turns.take_turns(world.main, [made])
    assert live(world.main, made) == {"a#1": "waiting"}
    assert [question.kind for question in waits.page(world.main, TENANT)] == ["permit"]


# --- afterwards --------------------------------------------------------------------------------


def test_a_fork_can_be_shredded_and_its_history_still_be_read(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)), n="canary")
    world.do(run, "a#1")
    made = world.fork(run, after(world.main, run, "a#1"))
    world.do(made, "b#1")
    shredding.shred(world.main, made, by="ada", why="asked for")
    last = views.status(world.main, made).seq
    assert "canary" not in str(views.state_at(world.main, made, last).variables)
    assert views.state_at(world.main, made, last).status == "completed"
    assert views.run(world.main, run).variables == {"n": "canary"}


def test_a_fork_is_not_led_through_another_version_and_is_held_against_a_policy(
    world: World,
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    world.do(run, "a#1")
    made = world.fork(run, after(world.main, run, "a#1"))
    world.do(made, "b#1")
    which = backtests.Filter(ids=(made.run,))
    (led,) = backtests.of_version(world.main, TENANT, "line", None, which).runs
    assert (led.outcome, led.saved_usd) == ("unknown", 0)
    assert f"of run {run.run}" in led.unknown[0]
    policy = "policy: steps\nrules: [steps > 0 → abort]"
    (judged,) = backtests.of_policy(world.main, TENANT, policy, which).runs
    assert (judged.was, judged.would) == ("passed", "aborted")


def test_what_was_asked_for_twice_under_a_key_is_one_run(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))

    def ask(edits: Mapping[str, Json]) -> forks.Submitted:
        edited = Edits(variables=edits)
        return forks.fork(world.main, run, 2, edited, by="bob", idempotency_key="k")

    first, again = ask({"n": 1}), ask({"n": 1})
    assert (again.run, again.replayed) == (first.run, True)
    with pytest.raises(Conflict, match="Idempotency-Key"):
        ask({"n": 2})
    turns.take_turns(world.main, [first.run])
