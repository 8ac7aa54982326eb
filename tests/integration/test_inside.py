"""Runs that go on from a place inside a map, a child run or a lap: what is done again, counted outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.runs import control, explanations, replays, restarts, turns, views, waits
from engine.runs.forks import Edits
from engine.runs.restarts import Given
from engine.settings import Settings
from engine.store.ids import RunId, StepId
from tests.support import forking
from tests.support.forking import World, hashes, line_of
from tests.support.platforms import publish, sql, submit
from tests.support.waiting import found, live, waits_at, why
from workers.execution import Worker, execute


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with forking.world(settings) as made:
        yield made


def restart(
    world: World, run: RunId, step: str, given: Given | None = None, **edits: Json
) -> RunId:
    made = restarts.restart(
        world.main, run, step, Edits(variables=edits), by="bob", given=given
    ).run
    turns.take_turns(world.main, [made])
    return made


def gather(world: World, worker: Worker, run: RunId, key: str = "w#1") -> Json:
    """Let a worker put the results of a map together; what it found."""
    execute(worker, StepId(*run, key))
    turns.take_turns(world.main, [run])
    return found(world.main, run)


# --- maps --------------------------------------------------------------------------------------


def mapped(world: World, *items: Json, **fields: Json) -> RunId:
    """A run whose map has begun with these items."""
    document = waits_at("map", over=[*items], **{"do": "noop", **fields})
    return submit(world.main, publish(world.main, document))


def test_nothing_goes_on_from_items_that_have_no_places_or_from_one_that_is_being_settled(
    world: World,
) -> None:
    run = mapped(world, 1, 2, at_once=1)
    waits.add_items(world.main, run, "w#1", [3], by="ada")
    with pytest.raises(Conflict, match="items that were sent to step w#1 have no places yet"):
        world.fork(run, line_of(world.main, run, "ItemsAdded", "w#1"))
    world.do(run, "w#1.0")
    with pytest.raises(Conflict, match=r"step w#1\.0 is being settled there"):
        world.fork(run, line_of(world.main, run, "AttemptSucceeded", "w#1.0"))


def test_nothing_goes_on_from_a_map_that_holds_a_lock(world: World) -> None:
    run = mapped(world, 1, lock="one")
    with pytest.raises(Conflict, match="a thread holds the lock one there"):
        world.fork(run, views.status(world.main, run).seq)
    again = world.fork(run, line_of(world.main, run, "RequestStart", "w#1"))
    assert live(world.main, again) == live(world.main, run)


def test_an_item_that_never_began_or_takes_no_choice_is_not_restarted_from(world: World) -> None:
    run = mapped(world, 1, 2)
    with pytest.raises(NotFound, match="Step not found"):
        restart(world, run, "w#1.2")
    with pytest.raises(Invalid, match="not valid"):
        restart(world, run, "w#1.1", Given(result=1, choice="left"))


def test_items_that_had_ended_are_taken_over_and_the_others_begin_anew(
    world: World, worker: Worker
) -> None:
    run = mapped(world, "a", "b", "c", "d", at_once=2)
    world.do(run, "w#1.0", "A")
    world.do(run, "w#1.1", "B")
    world.do(run, "w#1.2", "C")
    before = hashes(world.main, run)
    made = world.fork(run, views.status(world.main, run).seq)
    # What the other run comes to later is not known there.
    world.do(run, "w#1.3", "D")
    assert gather(world, worker, run) == ["A", "B", "C", "D"]
    assert live(world.main, made) == {"w#1": "waiting", "w#1.3": "ready"}
    world.do(made, "w#1.3", "mine")
    assert gather(world, worker, made) == ["A", "B", "C", "mine"]
    assert views.status(world.main, made).status == "completed"
    assert world.sent_by(made) == {"w#1.3"}
    assert all(count == 1 for count in world.sent.values())
    assert hashes(world.main, run)[: len(before)] == before
    spent = sql(world.main, "SELECT DISTINCT step FROM ledger WHERE run_id = :run", run=made.run)
    assert {row.step for row in spent} <= {"w#1.3", "w#1"}
    assert replays.of_itself(world.main, made).outcome == "same"


@pytest.mark.parametrize("given", [None, Given(result="mine")])
def test_from_an_item_with_another_result_or_carried_out_anew(
    world: World, worker: Worker, given: Given | None
) -> None:
    run = mapped(world, "a", "b", "c", at_once=1)
    for key, result in [("w#1.0", "A"), ("w#1.1", "B"), ("w#1.2", "C")]:
        world.do(run, key, result)
    gather(world, worker, run)
    before = hashes(world.main, run)
    made = restart(world, run, "w#1.1", given)
    if given is None:
        world.do(made, "w#1.1", "again")
    world.do(made, "w#1.2", "C2")
    assert gather(world, worker, made) == ["A", "again" if given is None else "mine", "C2"]
    assert world.sent_by(made) == {"w#1.2"} | ({"w#1.1"} if given is None else set())
    assert hashes(world.main, run) == before
    assert replays.of_itself(world.main, made).outcome == "same"


def test_a_result_that_was_given_to_an_item_is_taken_over_as_any_other(
    world: World, worker: Worker
) -> None:
    run = mapped(world, "a", "b", "c", at_once=1)
    world.do(run, "w#1.0", "A")
    first = restart(world, run, "w#1.1", Given(result="x" * 1_100_000))
    second = world.fork(first, views.status(world.main, first).seq)
    world.do(second, "w#1.2", "C")
    assert gather(world, worker, second) == ["A", "x" * 1_100_000, "C"]
    for left in (run, first):
        control.cancel(world.main, left, by="ada")


def test_a_run_that_has_taken_items_over_can_be_held_against_a_policy_and_be_explained(
    world: World, worker: Worker
) -> None:
    run = mapped(world, "a", "b", at_once=1)
    world.do(run, "w#1.0", "A")
    made = world.fork(run, views.status(world.main, run).seq)
    assert explanations.explain(world.main, made).live == {"waiting": 1, "ready": 1}
    world.do(made, "w#1.1", "B")
    gather(world, worker, made)
    policy = "policy: steps\nrules: [steps > 0 → abort]"
    judged = replays.against_policy(world.main, made, policy)
    assert (judged.outcome, judged.unknown) == ("different", ())
    assert world.fork(made, 1) != made
    control.cancel(world.main, run, by="ada")


def test_a_map_whose_items_are_about_to_be_gathered_gathers_them_in_both_runs(
    world: World, worker: Worker
) -> None:
    run = mapped(world, "a", "b", stop_when={"failed": 2})
    world.do(run, "w#1.0", "A")
    world.do(run, "w#1.1", "B")
    assert live(world.main, run) == {"w#1": "ready"}
    made = world.fork(run, views.status(world.main, run).seq)
    assert live(world.main, made) == {"w#1": "ready"}
    assert gather(world, worker, made) == gather(world, worker, run) == ["A", "B"]
    assert world.sent_by(made) == set()


def test_items_may_be_sent_to_both_runs_apart(world: World, worker: Worker) -> None:
    run = mapped(world, "a", "b", at_once=1)
    world.do(run, "w#1.0", "A")
    made = world.fork(run, views.status(world.main, run).seq)
    waits.add_items(world.main, run, "w#1", ["theirs"], by="ada")
    waits.add_items(world.main, made, "w#1", ["ours", "too"], by="ada")
    for key in ("w#1.1", "w#1.2", "w#1.3"):
        world.do(made, key, key)
    assert gather(world, worker, made) == ["A", "w#1.1", "w#1.2", "w#1.3"]
    control.cancel(world.main, run, by="ada")


def test_a_map_in_a_later_lap_of_a_loop_is_gone_on_from_inside(
    world: World, worker: Worker
) -> None:
    document = waits_at("map", over=["a", "b"], at_once=1, do="noop", save={"n": "$n + 1"})
    document["variables"] = {"n": {"type": "integer", "default": 0}}
    document["edges"] = [{"from": "w", "to": "w", "when": "$n < 3", "label": "loop"}, "w -> end"]
    run = submit(world.main, publish(world.main, document))
    for lap in (1, 2):
        for item in (0, 1):
            world.do(run, f"w#{lap}.{item}")
        execute(worker, StepId(*run, f"w#{lap}"))
        turns.take_turns(world.main, [run])
    world.do(run, "w#3.0")
    before = hashes(world.main, run)
    made = restart(world, run, "w#2.1", Given(result=1))
    execute(worker, StepId(*made, "w#2"))
    turns.take_turns(world.main, [made])
    for item in (0, 1):
        world.do(made, f"w#3.{item}")
    execute(worker, StepId(*made, "w#3"))
    turns.take_turns(world.main, [made])
    assert why(world.main, made) == ("completed", "end")
    assert world.sent_by(made) == {"w#3.0", "w#3.1"}
    assert hashes(world.main, run) == before
    control.cancel(world.main, run, by="ada")
