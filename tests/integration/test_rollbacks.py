"""Runs that go back to an earlier place of their own: what ends, what begins anew, what it cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.runs import (
    answers,
    attempts,
    calls,
    checkpoints,
    control,
    diagrams,
    explanations,
    launch,
    migrations,
    replays,
    restarts,
    rollbacks,
    shredding,
    turns,
    usage,
    views,
)
from engine.runs.attempts import Succeeded, Suspended
from engine.runs.origins import Edits
from engine.runs.rollbacks import WentBack
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import forking
from tests.support.forking import AGAIN, LOOP, World, after, line_of
from tests.support.platforms import LINE, TENANT, finish, publish, sql, submit, take
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


def back(world: World, run: RunId, place: int | str, *removed: str, **variables: Json) -> WentBack:
    edits = Edits(variables=variables, removed=removed)
    went = rollbacks.roll_back(
        world.main, run, place, edits, by="ada", reason="a wrong turn", choices=AGAIN
    )
    assert went is not None
    return went


def start(world: World, run: RunId) -> int:
    """Where a run has just begun its first step."""
    return line_of(world.main, run, "Admitted", "a#1")


def diverges(world: World, run: RunId) -> object:
    """Where it would be decided otherwise."""
    return replays.of_itself(world.main, run).first


# --- where no run goes back ----------------------------------------------------------------------


def test_nobody_goes_back_to_a_line_that_is_not_there(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    for place in (0, 99):
        with pytest.raises(NotFound, match=f"no line {place}"):
            back(world, run, place)
    with pytest.raises(NotFound, match="no place that is called 'before'"):
        back(world, run, "before")
    for other in (RunId(TENANT, "nonsense"), RunId("other", run.run)):
        with pytest.raises(NotFound, match="Run not found"):
            back(world, other, 1)
    assert live(world.main, run) == {"a#1": "ready"}


def test_who_has_ended_or_has_not_begun_does_not_go_back(world: World) -> None:
    version = publish(world.main, dict(LINE))
    queued = launch.submit(world.main, TENANT, version, {}, by="ada").run
    with pytest.raises(Conflict, match="cannot go back: it has not begun"):
        back(world, queued, 1)
    run = submit(world.main, version)
    control.cancel(world.main, run, by="ada")
    with pytest.raises(
        Conflict, match="cannot go back: it has already ended: it is cancelled; fork"
    ):
        back(world, run, 1)
    turns.take_turns(world.main, [queued])


def test_nobody_goes_back_to_within_a_decision(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    world.do(run, "a#1")
    reported = line_of(world.main, run, "AttemptSucceeded", "a#1")
    with pytest.raises(Conflict, match="step a#1 is being settled there"):
        back(world, run, reported)
    assert live(world.main, run) == {"b#1": "ready"}


def test_nobody_goes_back_to_a_map_under_way_and_everybody_from_one(world: World) -> None:
    document: Json = {
        "workflow": "mapping",
        "nodes": {"a": {"uses": "noop"}, "w": {"kind": "map", "over": [1, 2], "do": "noop"}},
        "edges": ["a -> w -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    world.do(run, "a#1")
    with pytest.raises(Conflict, match="the map of step w#1 is under way there"):
        back(world, run, views.status(world.main, run).seq)
    assert live(world.main, run).keys() == {"w#1", "w#1.0", "w#1.1"}
    went = back(world, run, start(world, run))
    assert went.ended == ("w#1", "w#1.0", "w#1.1")
    assert live(world.main, run) == {"a#2": "ready"}
    world.do(run, "a#2")
    assert live(world.main, run).keys() == {"w#2", "w#2.0", "w#2.1"}
    assert diverges(world, run) is None


def test_nobody_goes_back_to_a_thread_that_keeps_a_lock(world: World) -> None:
    lock = {"name": "one", "until": "b"}
    document: Json = {**LINE, "nodes": {"a": {"uses": "noop", "lock": lock}, "b": {"uses": "noop"}}}
    run = submit(world.main, publish(world.main, document))
    world.do(run, "a#1")
    with pytest.raises(Conflict, match="a thread holds the lock one there"):
        back(world, run, after(world.main, run, "a#1"))
    back(world, run, line_of(world.main, run, "RequestStart", "a#1"))
    turns.take_turns(world.main, [run])
    # It was its own, and is given up and taken again.
    assert live(world.main, run) == {"a#2": "ready"}
    other = submit(world.main, publish(world.main, {**document, "workflow": "other"}))
    assert live(world.main, other) == {"a#1": "ready"}


def test_nobody_goes_back_to_before_another_version(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    publish(world.main, {**LINE, "version": "2.0.0", "outputs": {"given": 1}})
    before = start(world, run)
    assert migrations.migrate(world.main, run, "2.0.0", by="ada").migrated
    with pytest.raises(Conflict, match="under another version of its workflow since; migrate"):
        back(world, run, before)
    moved = line_of(world.main, run, "Migrated")
    back(world, run, moved)
    assert live(world.main, run) == {"a#2": "ready"}
    world.do(run, "a#2")
    world.do(run, "b#1")
    assert views.run(world.main, run).status == "completed"
    assert diverges(world, run) is None


def test_edits_that_the_workflow_does_not_take_change_nothing(world: World) -> None:
    run = submit(world.main, publish(world.main, BESIDE))
    before = views.status(world.main, run)
    for removed, variables in [((), {"all": 1}), (("all",), {}), (("none",), {})]:
        with pytest.raises(Invalid):
            back(world, run, 2, *removed, **variables)
    assert views.status(world.main, run) == before


def test_a_run_that_ends_by_what_was_reported_before_does_not_go_back(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    world.do(run, "a#1")
    place = after(world.main, run, "a#1")
    lease = take(world.worker, run, "b#1")
    attempts.report(world.worker, "w1", [(lease, Succeeded())])
    with pytest.raises(Conflict, match="it is completed; fork it"):
        back(world, run, place)
    assert views.status(world.main, run).status == "completed"
    assert diverges(world, run) is None


# --- going back ------------------------------------------------------------------------------------


def test_twice_from_live_branches_and_then_to_the_end(world: World) -> None:
    run = submit(world.main, publish(world.main, BESIDE))
    world.do(run, "s#1")
    place = after(world.main, run, "s#1")
    checkpoints.name(world.main, run, place, "forked", by="ada")
    there = views.state_at(world.main, run, place)
    late = []
    for lap, at in enumerate((place, "forked"), start=1):
        world.do(run, f"x#{lap}", all=[f"x{lap}"])
        late.append(take(world.worker, run, f"y#{lap}"))
        went = back(world, run, at)
        assert (went.to, went.ended) == (place, (f"y#{lap}",))
        assert went.spent_there == {"cost_usd": 0.25}
        assert went.spent == {"cost_usd": 0.25 * (lap + 1)}
        now = views.state_at(world.main, run, went.seq)
        assert (now.variables, now.tokens, now.scopes) == (
            there.variables,
            there.tokens,
            there.scopes,
        )
        assert {step.node: step.thread for step in now.steps.values()} == {
            step.node: step.thread for step in there.steps.values()
        }
        assert live(world.main, run) == {f"x#{lap + 1}": "ready", f"y#{lap + 1}": "ready"}
    for lease in late:
        # Whoever was at work reports in vain, and what it used is charged.
        done = Succeeded(patch={"all": ["late"]}, usage={"cost_usd": 1}, own={"cost_usd": 1})
        assert not finish(world.main, world.worker, lease, done)
    refused = sql(
        world.main, "SELECT step FROM refusal WHERE run_id = :run ORDER BY 1", run=run.run
    )
    assert [row.step for row in refused] == ["y#1", "y#2"]
    world.do(run, "y#3", all=["y"])
    world.do(run, "x#3", all=["x"])
    world.do(run, "j#1")
    ended = views.run(world.main, run)
    assert (ended.status, ended.variables) == ("completed", {"all": ["x", "y"]})
    (used,) = usage.page(world.main, TENANT, by=("run",))
    assert float(used.used["cost_usd"]) == 2.0
    assert diverges(world, run) is None
    told = {step.key: step.status for step in views.steps(world.main, run)}
    assert told == {
        **dict.fromkeys(("s#1", "x#3", "y#3", "j#1", "end#1"), "succeeded"),
        **dict.fromkeys(("x#1", "y#1", "x#2", "y#2"), "rolled_back"),
    }


def test_a_lap_of_a_loop_is_counted_on(world: World) -> None:
    run = submit(world.main, publish(world.main, LOOP), n=0)
    world.do(run, "a#1", n=1)
    world.do(run, "a#2", n=2)
    went = back(world, run, after(world.main, run, "a#1"), n=3)
    assert (went.ended, went.anew) == (("a#3",), {})
    assert views.run(world.main, run).variables == {"n": 3}
    world.do(run, "a#4", n=4)
    world.do(run, "b#1")
    assert views.status(world.main, run).status == "completed"
    line = views.history(world.main, run, after=went.seq - 2, limit=1, payloads=True)[0]
    assert (line.kind, line.body["by"], line.body["reason"]) == (
        *("RollbackRequested", "ada"),
        "a wrong turn",
    )
    assert (line.body["edited"], line.payload["variables"]) == (["n"], {"n": 3})
    assert diverges(world, run) is None


def test_a_paused_run_goes_back_and_waits_to_be_resumed(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    world.do(run, "a#1")
    control.pause(world.main, run, by="ada")
    back(world, run, start(world, run))
    assert live(world.main, run) == {"a#2": "held"}
    control.resume(world.main, run, by="ada")
    world.do(run, "a#2")
    assert live(world.main, run) == {"b#2": "ready"}


def test_who_was_asked_is_asked_anew_and_the_earlier_question_is_closed(world: World) -> None:
    run = submit(world.main, publish(world.main, waits_at("approval")))
    back(world, run, views.status(world.main, run).seq)
    assert live(world.main, run) == {"w#2": "waiting"}
    with pytest.raises((Conflict, NotFound)):
        answers.answer(world.main, run, "w#1", choice="approve", by="ada")
    answers.answer(world.main, run, "w#2", choice="approve", by="ada")
    assert views.status(world.main, run).status == "completed"


def test_a_child_run_ends_with_the_step_that_waited_for_it(world: World) -> None:
    publish(world.main, dict(LINE))
    document: Json = {
        "workflow": "parent",
        "nodes": {"a": {"uses": "noop"}, "c": {"kind": "workflow", "workflow": "line"}},
        "edges": ["a -> c -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    world.do(run, "a#1")
    (child,) = views.runs(world.main, TENANT, parent=run)
    back(world, run, after(world.main, run, "a#1"))
    turns.take_turns(world.main, [RunId(TENANT, child.id)])
    assert views.status(world.main, RunId(TENANT, child.id)).status == "cancelled"
    begun = [one for one in views.runs(world.main, TENANT, parent=run) if one.id != child.id]
    assert [one.parent_step for one in begun] == ["c#2"]
    control.cancel(world.main, run, by="ada")
    turns.take_turns(world.main, [RunId(TENANT, one.id) for one in begun])


def test_calls_that_had_ended_there_are_served_and_one_that_had_begun_is_asked_about(
    world: World,
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    none: Json = {"args": [], "kwargs": {}}
    call = calls.authorise(world.worker, lease, 1, "send", none)
    assert isinstance(call, calls.Authorised)
    calls.settle(world.worker, lease, call, calls.Answer(value="sent", usage={"cost_usd": 5}))
    assert isinstance(calls.authorise(world.worker, lease, 2, "send", none), calls.Authorised)
    control.pause(world.main, run, by="ada")
    control.resume(world.main, run, by="ada")
    went = back(world, run, views.status(world.main, run).seq)
    assert (went.spent, went.charged) == ({}, {"calls": 1.0, "cost_usd": 5.0})
    again = take(world.worker, run, "a#2")
    assert again.attempt == 2
    assert calls.authorise(world.worker, again, 1, "send", none) == calls.Recorded(value="sent")
    asked = calls.authorise(world.worker, again, 2, "send", none)
    assert isinstance(asked, Suspended)
    finish(world.main, world.worker, again, asked)
    told = {step.key: step.status for step in views.steps(world.main, run)}
    assert told == {"a#1": "rolled_back", "a#2": "waiting"}


# --- afterwards ------------------------------------------------------------------------------------


def test_a_fork_of_a_fork_of_a_run_that_went_back(world: World) -> None:
    """A line is a place whether the run has gone back over it or not: the state is that of the line."""
    run = submit(world.main, publish(world.main, LOOP), n=0)
    world.do(run, "a#1", n=1)
    over = after(world.main, run, "a#1")
    went = back(world, run, start(world, run))
    world.do(run, "a#3", n=3)
    before = world.fork(run, over)
    assert (live(world.main, before), views.run(world.main, before).variables) == (
        {"a#2": "ready"},
        {"n": 1},
    )
    since = world.fork(run, went.seq)
    assert live(world.main, since) == {"a#3": "ready"}
    world.do(since, "a#3", n=3)
    second = world.fork(since, after(world.main, since, "a#3"))
    assert live(world.main, second) == {"a#4": "ready"}
    back(world, second, 1)
    assert live(world.main, second) == {"a#5": "ready"}
    again = restarts.restart(world.main, run, "a#3", Edits(), by="bob", choices=AGAIN).run
    turns.take_turns(world.main, [again])
    assert live(world.main, again) == {"a#3": "ready"}
    for one in (run, before, since, second, again):
        assert diverges(world, one) is None


def test_one_can_go_back_to_what_one_has_gone_back_over(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)), n=0)
    world.do(run, "a#1", n=1)
    place = after(world.main, run, "a#1")
    back(world, run, start(world, run))
    world.do(run, "a#2", n=2)
    told = {point.step: point.rolled_back for point in views.checkpoints(world.main, run)}
    assert told == {"a#1": True, "a#2": False}
    back(world, run, place)
    assert (live(world.main, run), views.run(world.main, run).variables) == (
        {"b#3": "ready"},
        {"n": 1},
    )
    told = {point.step: point.rolled_back for point in views.checkpoints(world.main, run)}
    assert told == {"a#1": False, "a#2": True}
    statuses = {step.key: step.status for step in views.steps(world.main, run)}
    assert statuses == {
        **dict.fromkeys(("a#1",), "succeeded"),
        **dict.fromkeys(("b#1", "a#2", "b#2"), "rolled_back"),
        "b#3": "ready",
    }


def test_whatever_looks_at_a_run_tells_one_that_went_back(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)), n=0)
    world.do(run, "a#1", n=1)
    went = back(world, run, start(world, run))
    told = explanations.explain(world.main, run)
    assert {each.step: each.rolled_back for each in told.decisions} == {
        "a#1": True,
    }
    assert told.waits[0].step == "a#2"
    place = checkpoints.at(world.main, run, went.seq, against=went.seq - 2)
    assert place.difference is not None
    assert (place.difference.begun, place.difference.settled) == (("a#2",), ("b#1",))
    assert "<svg" in diagrams.of_run(world.main, run, "svg")
    assert views.step(world.main, run, "b#1").status == "rolled_back"


def test_what_was_gone_back_to_can_be_shredded(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)), n="canary")
    back(world, run, views.status(world.main, run).seq)
    control.cancel(world.main, run, by="ada")
    shredding.shred(world.main, run, by="ada", why="asked for")
    last = views.status(world.main, run).seq
    assert "canary" not in str(views.state_at(world.main, run, last).variables)
    assert (
        sql(
            world.main,
            "SELECT FROM payload WHERE run_id = :run AND body::text LIKE '%canary%'",
            run=run.run,
        )
        == []
    )
