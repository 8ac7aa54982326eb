"""Places that nodes name: in laps of loops, in forks, beside those that people name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Invalid
from engine.runs import checkpoints, views
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import forking
from tests.support.forking import LOOP, World, after
from tests.support.platforms import publish, submit

NAMING: dict[str, Json] = {
    **LOOP,
    "nodes": {
        "a": {"uses": "noop", "checkpoint": "graded"},
        "b": {"uses": "noop", "checkpoint": "handed over"},
    },
}


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with forking.world(settings) as made:
        yield made


def named(world: World, run: RunId) -> dict[str | None, str | None]:
    """Steps by what the places after them are called."""
    found = views.checkpoints(world.main, run, limit=1000)
    return {point.name: point.step for point in found if point.name is not None}


def test_a_name_that_is_none_or_that_two_nodes_give_is_refused(world: World) -> None:
    for name in ("1", "a#1", "", "x" * 101, 7):
        with pytest.raises(Invalid, match=r"nodes\.a\.checkpoint"):
            publish(world.main, {**NAMING, "nodes": {"a": {"uses": "noop", "checkpoint": name}}})
    twice = {name: {"uses": "noop", "checkpoint": "same"} for name in ("a", "b")}
    with pytest.raises(Invalid, match="node a calls the place after it 'same' already"):
        publish(world.main, {**NAMING, "nodes": twice})


def test_the_last_lap_has_the_name_and_earlier_ones_have_theirs_with_their_lap(
    world: World,
) -> None:
    run = submit(world.main, publish(world.main, NAMING), n=0)
    world.do(run, "a#1", n=1)
    assert named(world, run) == {"graded": "a#1"}
    for lap in (2, 3):
        world.do(run, f"a#{lap}", n=lap)
    assert named(world, run) == {"graded#1": "a#1", "graded#2": "a#2", "graded": "a#3"}
    # A page of them knows which is the last.
    (first,) = views.checkpoints(world.main, run, limit=1)
    assert (first.name, first.named_by) == ("graded#1", "node:a")
    place = checkpoints.at(world.main, run, after(world.main, run, "a#3"))
    assert (place.name, place.named_by) == ("graded", "node:a")
    world.do(run, "a#4", n=4)
    world.do(run, "b#1")
    assert named(world, run)["graded"] == "a#4"
    assert named(world, run)["handed over"] == "b#1"


def test_a_run_goes_on_from_a_named_place_and_names_its_own_laps(world: World) -> None:
    run = submit(world.main, publish(world.main, NAMING), n=0)
    for lap in (1, 2):
        world.do(run, f"a#{lap}", n=lap)
    made = world.fork(run, after(world.main, run, "a#1"))
    assert named(world, made) == {}
    world.do(made, "a#2", n=9)
    assert named(world, made) == {"graded": "a#2"}


def test_people_name_what_no_node_names_and_what_they_say_of_a_place_holds(world: World) -> None:
    run = submit(world.main, publish(world.main, NAMING), n=0)
    world.do(run, "a#1", n=1)
    seq = after(world.main, run, "a#1")
    for name in ("graded", "graded#1", "handed over"):
        with pytest.raises(Conflict, match="in each of its laps; name this another"):
            checkpoints.name(world.main, run, 2, name, by="ada")
    checkpoints.name(world.main, run, seq, "mine", by="ada")
    world.do(run, "a#2", n=2)
    assert named(world, run) == {"mine": "a#1", "graded": "a#2"}
    assert checkpoints.at(world.main, run, 1).name is None
