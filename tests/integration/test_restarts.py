"""Runs that go on from just before a step of another one, and what of the calls is made again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.runs import calls, control, effects, restarts, shredding, turns, views
from engine.runs.origins import Edits
from engine.runs.restarts import Given
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import forking
from tests.support.forking import AGAIN, LOOP, World, hashes
from tests.support.platforms import LINE, finish, publish, register, submit, take
from tests.support.waiting import live, waits_at

SAVING: dict[str, Json] = {
    "workflow": "saving",
    "variables": {"found": {"type": "string"}},
    "nodes": {
        "a": {"uses": "noop"},
        "b": {"uses": "noop", "save": {"found": "$result.text"}},
        "c": {"uses": "noop"},
    },
    "edges": ["a -> b -> c", {"from": "c", "to": "end", "when": "$steps.b.n != 7"}],
}


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with forking.world(settings) as made:
        yield made


def restart(
    world: World, run: RunId, step: str, given: Given | None = None, **edits: Json
) -> RunId:
    made = restarts.restart(
        world.main, run, step, Edits(variables=edits), by="bob", given=given, choices=AGAIN
    ).run
    turns.take_turns(world.main, [made])
    return made


def done(world: World) -> RunId:
    run = submit(world.main, publish(world.main, SAVING), found="")
    world.do(run, "a#1")
    world.do(run, "b#1", found="theirs")
    world.do(run, "c#1")
    return run


def test_what_never_began_or_has_no_result_is_not_restarted_from(world: World) -> None:
    run = done(world)
    with pytest.raises(NotFound, match="Step not found"):
        restart(world, run, "b#2")
    line = submit(world.main, publish(world.main, dict(LINE)))
    world.do(line, "a#1")
    world.do(line, "b#1")
    with pytest.raises(Conflict, match="end#1 is passed by the coordinator itself"):
        restart(world, line, "end#1", Given(result=1))


@pytest.mark.parametrize("given", [Given(result=1), Given(result={"text": 7})])
def test_a_result_that_the_node_could_not_have_left_is_told(world: World, given: Given) -> None:
    run = done(world)
    with pytest.raises(Invalid):
        restart(world, run, "b#1", given)
    with pytest.raises(Invalid, match="not valid"):
        restart(world, run, "b#1", Given(result={"text": "x"}, choice="nowhere"))


def test_from_the_middle_with_another_result_earlier_calls_are_not_repeated_and_later_are(
    world: World,
) -> None:
    run = done(world)
    before = hashes(world.main, run)
    made = restart(world, run, "b#1", Given(result={"text": "mine"}))
    assert live(world.main, made) == {"c#1": "ready"}
    assert views.run(world.main, made).variables == {"found": "mine"}
    world.do(made, "c#1")
    ended = views.run(world.main, made)
    assert ended.status == "completed"
    assert world.sent_by(made) == {"c#1"}
    assert all(count == 1 for count in world.sent.values())
    assert hashes(world.main, run) == before
    (line,) = [x for x in views.history(world.main, made) if x.kind == "ResultGiven"]
    assert (line.body["step"], line.body["by"]) == ("b#1", "bob")
    taken = [x for x in views.history(world.main, made) if x.kind == "TakeEdges"]
    assert [x.body["step"] for x in taken][:2] == ["b#1", "c#1"]


def test_a_step_is_carried_out_anew_where_no_result_is_given(world: World) -> None:
    run = done(world)
    made = restart(world, run, "b#1", extra=1)
    world.do(made, "b#1", found="again")
    world.do(made, "c#1")
    assert views.run(world.main, made).variables == {"found": "again", "extra": 1}
    assert world.sent_by(made) == {"b#1", "c#1"}


def test_from_inside_a_lap_of_a_loop_with_another_result(world: World) -> None:
    run = submit(world.main, publish(world.main, LOOP), n=0)
    for lap in range(1, 5):
        world.do(run, f"a#{lap}", n=lap)
    before = hashes(world.main, run)
    made = restart(world, run, "a#3", Given(result=None, choice="loop"), n=3)
    world.do(made, "a#4", n=4)
    world.do(made, "b#1")
    assert views.status(world.main, made).status == "completed"
    assert world.sent_by(made) == {"a#4", "b#1"}
    assert hashes(world.main, run) == before
    control.cancel(world.main, run, by="ada")


def test_a_step_that_waits_for_people_can_be_given_its_answer(world: World) -> None:
    run = submit(world.main, publish(world.main, waits_at("event", name="paid")))
    made = restart(world, run, "w#1", Given(result={"sum": 3}))
    ended = views.run(world.main, made)
    assert (ended.status, ended.variables) == ("completed", {"found": {"sum": 3}})
    assert live(world.main, run) == {"w#1": "waiting"}


def test_a_large_result_is_given_as_any_other(world: World) -> None:
    run = done(world)
    text = "x" * 1_100_000
    made = restart(world, run, "b#1", Given(result={"text": text, "n": 3}))
    assert views.run(world.main, made).variables == {"found": text}
    world.do(made, "c#1")
    assert views.status(world.main, made).status == "completed"
    shredding.shred(world.main, made, by="ada", why="asked for")
    last = views.status(world.main, made).seq
    assert views.state_at(world.main, made, last).status == "completed"


def test_the_plan_says_what_is_served_asked_about_and_repeated(world: World) -> None:
    register(world.main, "read", namespace="tool")
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    made: list[Any] = [
        calls.authorise(world.worker, lease, ordinal, tool, {"args": [], "kwargs": {}})
        for ordinal, tool in enumerate(["send", "send", "look"], start=1)
    ]
    calls.settle(world.worker, lease, made[0], calls.Answer(value="sent"))
    control.pause(world.main, run, by="ada")
    place = views.status(world.main, run).seq
    control.resume(world.main, run, by="ada")
    calls.settle(world.worker, lease, made[1], calls.Answer(value="sent"))
    calls.settle(world.worker, lease, made[2], calls.Answer(value="seen"))
    finish(world.main, world.worker, lease)
    world.do(run, "b#1")
    found = [
        (one.step, one.ordinal, one.tool, one.effect, one.becomes)
        for one in effects.at(world.main, run, place)
    ]
    assert found == [
        ("a#1", 1, "send", "at_most_once", "served"),
        ("a#1", 2, "send", "at_most_once", "asked"),
        ("a#1", 3, "look", "idempotent", "repeated"),
        ("b#1", 1, "send", "at_most_once", "undecided"),
    ]
    later = restarts.fates(world.main, restarts.stages(world.main, run, "b#1"))
    assert [(one.step, one.becomes) for one in later] == [("b#1", "undecided")]
    with pytest.raises(NotFound):
        effects.at(world.main, run, 99)
