"""Undoing calls behind a live run: those that it has gone back over, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.core.values import Json
from engine.errors import Blocked, Conflict
from engine.runs import calls, control, effects, forks, migrations, rollbacks, turns, views
from engine.runs.origins import Edits
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId
from tests.support import refunds
from tests.support.forking import World, a_line, after
from tests.support.platforms import LINE, finish, publish, status, submit, take
from tests.support.refunds import (
    back,
    inside,
    make,
    paid,
    refused,
    serve,
    undo,
    undo_all,
    words,
)

FIRST = {"compensable": "compensate"}


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with refunds.world(settings) as made:
        yield made


@pytest.fixture
def outside() -> list[str]:
    """What happened outside of the platform, in its order."""
    return []


def gone_back(world: World, outside: list[str]) -> tuple[RunId, int]:
    """A paused run that has paid and gone back over it, so that it is undone, and the line from which it goes on."""
    run, place = paid(world, outside)
    control.pause(world.main, run, by="ada")
    back(world, run, place, FIRST)
    return run, place


# --- which choice it is ------------------------------------------------------------------------


def test_a_run_that_would_go_on_meanwhile_is_to_be_paused(world: World, outside: list[str]) -> None:
    run, place = paid(world, outside)
    before = views.status(world.main, run)
    with pytest.raises(Blocked) as offered:
        rollbacks.roll_back(world.main, run, place, Edits(), by="bob", choices=FIRST)
    (problem,) = offered.value.problems
    assert (problem.path, f"celeriac pause {run.run}" in problem.remedy) == ("choices.b#1.1", True)
    assert views.status(world.main, run) == before


def test_it_is_no_choice_for_a_fork_of_a_run_that_has_not_ended(
    world: World, outside: list[str]
) -> None:
    run, place = paid(world, outside)
    control.pause(world.main, run, by="ada")
    ways = [effects.at(world.main, run, place, itself=one)[0].choices for one in (False, True)]
    assert [("compensate" in each) for each in ways] == [False, True]
    with pytest.raises(Blocked, match="cannot be undone first"):
        forks.fork(world.main, run, place, Edits(), by="bob", choices=FIRST)


@pytest.mark.parametrize("tool", ["shout", "send"])
def test_it_is_no_choice_for_what_nothing_undoes(
    world: World, outside: list[str], tool: str
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    make(world, outside, take(world.worker, run, "b#1"), tool)
    place = after(world.main, run, "a#1")
    control.pause(world.main, run, by="ada")
    with pytest.raises(Blocked, match="cannot be undone first"):
        back(world, run, place, {"b#1.1": "compensate"})


def test_what_a_handler_would_undo_once_more_is_left_to_it(
    world: World, outside: list[str]
) -> None:
    document: Json = {
        **LINE,
        "nodes": {"a": {"uses": "noop"}, "b": {"uses": "noop", "compensate": "noop"}},
    }
    run = submit(world.main, publish(world.main, document))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    make(world, outside, take(world.worker, run, "b#1"), "pay", state="x1")
    place = after(world.main, run, "a#1")
    control.pause(world.main, run, by="ada")
    with pytest.raises(Blocked, match="a handler undoes it"):
        back(world, run, place, FIRST)
    back(world, run, place, {"compensable": "execute"})
    assert "a handler undoes what step b#1" in refused(world, run).message


# --- what is undone ----------------------------------------------------------------------------


def test_what_was_gone_back_over_is_undone_and_made_anew(world: World, outside: list[str]) -> None:
    run, place = gone_back(world, outside)
    undo_all(world, outside, run, "b#1.1")
    assert status(world.main, run) == "paused"
    assert [(one.happened, one.choices) for one in effects.at(world.main, run, place)] == [
        ("undone", ())
    ]
    control.resume(world.main, run, by="ada")
    lease = take(world.worker, run, "b#2")
    assert make(world, outside, lease, "pay", state="x1") == {"id": 3}
    finish(world.main, world.worker, lease)
    assert words(outside) == ["pay", "refund", "pay"]
    assert status(world.main, run) == "completed"
    undo_all(world, outside, run)
    assert words(outside) == ["pay", "refund", "pay", "refund"]


def test_until_it_is_undone_it_is_not_made_anew(world: World, outside: list[str]) -> None:
    run, _ = gone_back(world, outside)
    control.resume(world.main, run, by="ada")
    lease = take(world.worker, run, "b#2")
    for _ in range(2):
        denied = make(world, outside, lease, "pay", state="x1")
        assert isinstance(denied, calls.Denied)
        assert denied.terminal
        assert "is to be undone before it is made again" in denied.message
    undoing = undo(world, run, "b#1.1")
    assert isinstance(make(world, outside, lease, "pay", state="x1"), calls.Denied)
    refunds.undo_next(world, outside, undoing, 0)
    assert make(world, outside, lease, "pay", state="x1") == {"id": 3}
    # It stands for one call.
    assert make(world, outside, lease, "pay", 2, state="x1") == {"id": 4}
    assert words(outside) == ["pay", "refund", "pay", "pay"]


def test_a_fork_from_there_does_not_make_it_anew_either_until_it_is_undone(
    world: World, outside: list[str]
) -> None:
    run, _ = gone_back(world, outside)
    control.resume(world.main, run, by="ada")
    line = a_line(world, run)
    fork = forks.fork(world.main, run, line, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    lease = take(world.worker, fork, "b#2")
    assert isinstance(make(world, outside, lease, "pay", state="x1"), calls.Denied)
    # It goes on from after the going back, and does not know of the call.
    undo_all(world, outside, run, "b#1.1")
    assert make(world, outside, lease, "pay", state="x1") == {"id": 3}
    control.cancel(world.main, run, by="ada")
    assert forks.fork(world.main, run, line, Edits(), by="bob")


@pytest.mark.parametrize("choice", ["reuse", "skip", "compensate"])
@pytest.mark.parametrize("forks_on", [False, True])
def test_what_was_made_anew_is_not_made_once_more_by_who_goes_on_from_between(
    world: World, outside: list[str], choice: str, forks_on: bool
) -> None:
    run, _ = gone_back(world, outside)
    undo_all(world, outside, run, "b#1.1")
    control.resume(world.main, run, by="ada")
    line = a_line(world, run)
    made = make(world, outside, take(world.worker, run, "b#2"), "pay", state="x1")
    on, step = run, "b#3"
    if choice == "compensate":
        control.pause(world.main, run, by="ada")
        back(world, run, line, {"b#2.1": choice})
        control.resume(world.main, run, by="ada")
    elif forks_on:
        on = forks.fork(world.main, run, line, Edits(), by="bob", choices={"b#2.1": choice}).run
        turns.take_turns(world.main, [on])
        step = "b#2"
    else:
        back(world, run, line, {"b#2.1": choice})
    again = make(world, outside, take(world.worker, on, step), "pay", state="x1")
    if choice == "compensate":
        assert isinstance(again, calls.Denied)
    else:
        assert again == calls.Recorded(value=made if choice == "reuse" else None)
    assert words(outside) == ["pay", "refund", "pay"]


@pytest.mark.parametrize("choice", ["reuse", "skip", "compensate"])
def test_what_was_chosen_holds_for_a_node_that_gets_another_name(
    world: World, outside: list[str], choice: str
) -> None:
    run, place = paid(world, outside)
    control.pause(world.main, run, by="ada")
    back(world, run, place, {"b#1.1": choice})
    control.resume(world.main, run, by="ada")
    line = a_line(world, run)
    to_bee(world, run)
    fork = forks.fork(world.main, run, line, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    for on in (run, fork):
        made = make(world, outside, take(world.worker, on, "b#2"), "pay", state="x1")
        assert isinstance(made, calls.Recorded | calls.Denied)
    assert words(outside) == ["pay"]


def to_bee(world: World, run: RunId) -> None:
    """Let a run go on under a version in which its second node is called otherwise."""
    nodes: Json = {"a": {"uses": "noop"}, "bee": {"uses": "noop"}}
    renamed: dict[str, Json] = {
        **LINE,
        "version": "2.0.0",
        "nodes": nodes,
        "edges": ["a -> bee -> end"],
    }
    publish(world.main, renamed)
    assert migrations.migrate(world.main, run, "2.0.0", {"b": "bee"}, by="ada").migrated


@pytest.mark.parametrize("choice", ["reuse", "skip", "compensate"])
def test_what_a_renamed_step_did_is_known_to_be_of_the_node_that_it_was_of(
    world: World, outside: list[str], choice: str
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    before = a_line(world, run)
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    lease = take(world.worker, run, "b#1")
    to_bee(world, run)
    line = a_line(world, run)
    make(world, outside, lease, "pay", state="x1")
    control.pause(world.main, run, by="ada")
    back(world, run, line, {"b#1.1": choice})
    control.resume(world.main, run, by="ada")
    again = make(world, outside, take(world.worker, run, "bee#2"), "pay", state="x1")
    assert isinstance(again, calls.Recorded | calls.Denied)
    if choice != "compensate":
        control.cancel(world.main, run, by="ada")
        chosen = {"b#1.1": choice}
        fork = forks.fork(world.main, run, before, Edits(), by="bob", choices=chosen).run
        turns.take_turns(world.main, [fork])
        finish(world.main, world.worker, take(world.worker, fork, "a#1"))
        again = make(world, outside, take(world.worker, fork, "b#1"), "pay", state="x1")
        assert isinstance(again, calls.Recorded)
    assert words(outside) == ["pay"]


@pytest.mark.parametrize("choice", ["reuse", "skip"])
def test_what_a_node_of_another_name_did_is_known_where_it_still_had_its_old_one(
    world: World, outside: list[str], choice: str
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    before = a_line(world, run)
    to_bee(world, run)
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    make(world, outside, take(world.worker, run, "bee#1"), "pay", state="x1")
    chosen = {"bee#1.1": choice}
    fork = forks.fork(world.main, run, before, Edits(), by="bob", choices=chosen).run
    turns.take_turns(world.main, [fork])
    finish(world.main, world.worker, take(world.worker, fork, "a#1"))
    again = make(world, outside, take(world.worker, fork, "b#1"), "pay", state="x1")
    assert isinstance(again, calls.Recorded)


def test_what_let_a_call_through_lets_no_other_one_through_though_it_was_chosen_otherwise(
    world: World, outside: list[str]
) -> None:
    run, place = paid(world, outside)
    back(world, run, place, {"b#1.1": "execute"})
    line = a_line(world, run)
    control.pause(world.main, run, by="ada")
    back(world, run, place, FIRST)
    undo_all(world, outside, run, "b#1.1")
    control.resume(world.main, run, by="ada")
    make(world, outside, take(world.worker, run, "b#3"), "pay", state="x1")
    back(world, run, line, {"b#3.1": "reuse"})
    again = make(world, outside, take(world.worker, run, "b#4"), "pay", state="x1")
    assert isinstance(again, calls.Recorded)
    assert words(outside) == ["pay", "refund", "pay"]


def test_it_is_chosen_once_more_though_a_fork_goes_on_from_there(
    world: World, outside: list[str]
) -> None:
    run, place = gone_back(world, outside)
    control.resume(world.main, run, by="ada")
    line = a_line(world, run)
    fork = forks.fork(world.main, run, line, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    control.pause(world.main, run, by="ada")
    back(world, run, place, FIRST)
    back(world, run, place, FIRST)
    undo_all(world, outside, run, "b#1.1")
    made = make(world, outside, take(world.worker, fork, "b#2"), "pay", state="x1")
    assert made == {"id": 3}


def test_a_result_that_was_to_be_given_again_can_be_undone_instead(
    world: World, outside: list[str]
) -> None:
    run, place = paid(world, outside)
    back(world, run, place, {"b#1.1": "reuse"})
    control.pause(world.main, run, by="ada")
    back(world, run, place, FIRST)
    undo_all(world, outside, run, "b#1.1")


@pytest.mark.parametrize("choice", ["reuse", "skip", "compensate"])
def test_who_goes_back_and_ends_at_once_leaves_what_was_chosen_to_those_who_go_on(
    world: World, outside: list[str], choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, place = paid(world, outside)
    control.pause(world.main, run, by="ada")
    line = views.status(world.main, run).seq
    with monkeypatch.context() as held_up:
        held_up.setattr(control, "fold", lambda *_: None)
        chosen = {"b#1.1": choice}
        asked = rollbacks.roll_back(world.main, run, place, Edits(), by="bob", choices=chosen)
        assert asked is None
    control.cancel(world.main, run, by="ada")
    lines = views.history(world.main, run, limit=100)
    seq = next(one.seq for one in lines if one.seq > line and one.kind == "RollBack")
    fork = forks.fork(world.main, run, seq, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    made = make(world, outside, take(world.worker, fork, "b#2"), "pay", state="x1")
    assert isinstance(made, calls.Recorded | calls.Denied)
    assert words(outside) == ["pay"]


# --- what is not -------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["reuse", "skip"])
def test_what_it_is_yet_to_be_served_is_not_undone(
    world: World, outside: list[str], choice: str
) -> None:
    run, place = paid(world, outside)
    back(world, run, place, {"b#1.1": choice})
    assert "is to be served its result" in refused(world, run).message
    if choice == "reuse":
        serve(world, outside, run, "b#2")
        assert "is to be served its result" in refused(world, run).message
    # Another choice since, for what has not been served.
    else:
        back(world, run, place, {"b#1.1": "execute"})
        undo_all(world, outside, run, "b#1.1")


def test_what_a_live_fork_rests_on_is_not_undone_behind_the_run(
    world: World, outside: list[str]
) -> None:
    run, place = paid(world, outside)
    line = a_line(world, run)
    fork = forks.fork(world.main, run, line, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    control.pause(world.main, run, by="ada")
    with pytest.raises(Blocked, match="a run rests on it"):
        back(world, run, place, FIRST)
    back(world, run, place, {"compensable": "execute"})
    assert f"run {fork.run} goes on from after it" in refused(world, run).message
    control.cancel(world.main, fork, by="ada")
    undo_all(world, outside, run)


def test_nobody_goes_back_to_where_it_was_made(world: World, outside: list[str]) -> None:
    run, place = paid(world, outside)
    line = a_line(world, run)
    control.pause(world.main, run, by="ada")
    back(world, run, place, FIRST)
    undo_all(world, outside, run)
    with pytest.raises(Conflict, match=r"call b#1\.1 of pay.* has undone since"):
        back(world, run, line)
    with pytest.raises(Conflict, match=r"call b#1\.1 of pay.* has undone since"):
        forks.fork(world.main, run, line, Edits(), by="bob")


def test_what_it_is_about_to_go_back_to_is_not_undone(
    world: World, outside: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, place = paid(world, outside)
    line = a_line(world, run)
    control.pause(world.main, run, by="ada")
    back(world, run, place, FIRST)
    with monkeypatch.context() as held_up:
        held_up.setattr(control, "fold", lambda *_: None)
        assert rollbacks.roll_back(world.main, run, line, Edits(), by="bob") is None
        assert f"run {run.run} is about to go back" in refused(world, run).message
    turns.take_turns(world.main, [run])
    assert "which is paused, rests on it" in refused(world, run).message


def test_what_was_gone_back_to_again_counts_again(world: World, outside: list[str]) -> None:
    run, place = paid(world, outside)
    line = a_line(world, run)
    control.pause(world.main, run, by="ada")
    back(world, run, place, FIRST)
    back(world, run, line)
    assert "which is paused, rests on it" in refused(world, run).message


def test_a_version_that_would_undo_it_once_more_is_none_for_the_run(
    world: World, outside: list[str]
) -> None:
    run, _ = gone_back(world, outside)
    undo_all(world, outside, run)
    nodes: Json = {"a": {"uses": "noop"}, "b": {"uses": "noop", "compensate": "noop"}}
    publish(world.main, {**LINE, "version": "2.0.0", "nodes": nodes})
    with pytest.raises(Blocked, match="b: calls of step b#1 are undone, and a handler would undo"):
        migrations.migrate(world.main, run, "2.0.0", by="ada")
    publish(world.main, {**LINE, "version": "2.0.1"})
    assert migrations.migrate(world.main, run, "2.0.1", by="ada").migrated


# --- runs within -------------------------------------------------------------------------------


def around(world: World, outside: list[str], *, ends: bool = True) -> tuple[RunId, RunId, int]:
    """A live run, the one within it that has paid and perhaps ended, and the line before that was started."""
    publish(world.main, {**LINE, "workflow": "inner"})
    document: dict[str, Json] = {
        "workflow": "outer",
        "nodes": {
            "a": {"uses": "noop"},
            "w": {"kind": "workflow", "workflow": "inner"},
            "b": {"uses": "noop"},
        },
        "edges": ["a -> w -> b -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    child = inside(world, run)
    finish(world.main, world.worker, take(world.worker, child, "a#1"))
    lease = take(world.worker, child, "b#1")
    make(world, outside, lease, "pay", state="x1")
    if ends:
        finish(world.main, world.worker, lease)
        turns.take_turns(world.main, [run])
    return run, child, after(world.main, run, "a#1")


def test_calls_of_a_run_within_are_undone_when_the_one_around_it_went_back(
    world: World, outside: list[str]
) -> None:
    run, child, place = around(world, outside)
    name = f"{child.run}/b#1.1"
    assert f"run {run.run}, which is running, rests on it" in refused(world, run, name).message
    control.pause(world.main, run, by="ada")
    with pytest.raises(Blocked, match="of a run within"):
        back(world, run, place, {name: "compensate"})
    back(world, run, place, {name: "execute"})
    control.resume(world.main, run, by="ada")
    turns.take_turns(world.main, [run])
    # The one that is started since knows nothing of it.
    fresh = next(
        one.id for one in views.runs(world.main, run.tenant, parent=run) if one.id != child.run
    )
    assert status(world.main, RunId(run.tenant, fresh)) == "running"
    undo_all(world, outside, run, name)


def test_calls_of_a_run_within_that_was_begun_anew_are_undone(
    world: World, outside: list[str]
) -> None:
    run, child, _ = around(world, outside, ends=False)
    line = a_line(world, run)
    name = f"{child.run}/b#1.1"
    back(world, run, line, {name: "execute"})
    turns.take_turns(world.main, [child])
    assert status(world.main, child) == "cancelled"
    undo_all(world, outside, run, name)


def test_a_run_within_that_is_still_ending_is_waited_for(world: World, outside: list[str]) -> None:
    run, child, place = around(world, outside, ends=False)
    name = f"{child.run}/b#1.1"
    with session.transaction(world.main.database) as connection:
        # Its turn is held up.
        of_child = "SELECT id FROM run WHERE id = %(id)s FOR NO KEY UPDATE"
        connection.exec_driver_sql(of_child, {"id": child.run}).all()
        back(world, run, place, {name: "execute"})
        message = refused(world, run, name).message
    assert f"run {child.run}, which is running, rests on it" in message
    turns.take_turns(world.main, [child])
    assert status(world.main, child) == "cancelled"
    undo_all(world, outside, run, name)
