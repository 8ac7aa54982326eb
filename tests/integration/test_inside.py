"""Runs that go on from a place inside a map, a child run or a lap: what is done again, counted outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound, Undecided
from engine.runs import (
    calls,
    control,
    effects,
    explanations,
    forks,
    replays,
    restarts,
    shredding,
    turns,
    views,
    waits,
)
from engine.runs.origins import Edits
from engine.runs.restarts import Given
from engine.settings import Settings
from engine.store.ids import RunId, StepId
from tests.support import forking
from tests.support.forking import AGAIN, World, hashes, line_of
from tests.support.platforms import finish, publish, sql, submit, take
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
        world.main, run, step, Edits(variables=edits), by="bob", given=given, choices=AGAIN
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


# --- child runs --------------------------------------------------------------------------------

CHILD: dict[str, Json] = {
    "workflow": "child",
    "variables": {"n": {"default": 0}},
    "inputs": {"of": {"default": 0}},
    "outputs": {"n": "$n", "of": "$of"},
    "nodes": {name: {"uses": "noop"} for name in ("x", "y", "z")},
    "edges": ["x -> y -> z -> end"],
}
PARENT: dict[str, Json] = {
    "workflow": "parent",
    "variables": {"found": {}},
    "nodes": {
        "a": {"uses": "noop"},
        "w": {"kind": "workflow", "workflow": "child", "save": {"found": "$result"}},
        "b": {"uses": "noop"},
    },
    "edges": ["a -> w -> b -> end"],
}


def child_of(world: World, run: RunId, step: str | None = None) -> RunId:
    """The newest run that a run, or a step of it, has started."""
    started = views.runs(world.main, run.tenant, parent=run)
    return RunId(run.tenant, next(one.id for one in started if step in (None, one.parent_step)))


def family(world: World, *, ended: bool = True) -> tuple[RunId, RunId]:
    """A run of `parent`, and the run of `child` that its second step has started."""
    publish(world.main, CHILD)
    run = submit(world.main, publish(world.main, PARENT))
    world.do(run, "a#1")
    child = child_of(world, run)
    world.do(child, "x#1", n=1)
    world.do(child, "y#1", n=2)
    if ended:
        world.do(child, "z#1", n=3)
        world.do(run, "b#1")
        assert views.status(world.main, run).status == "completed"
    return run, child


def test_a_child_run_alone_goes_on_alone_and_nobody_waits_for_it(world: World) -> None:
    run, child = family(world, ended=False)
    made = world.fork(child, forking.after(world.main, child, "x#1"))
    shown = views.run(world.main, made)
    assert (shown.parent_run, shown.parent_step, shown.forked_run) == (None, None, child.run)
    world.do(made, "y#1", n=5)
    world.do(made, "z#1")
    assert why(world.main, made) == ("completed", "end")
    assert live(world.main, run) == {"w#1": "waiting"}
    control.cancel(world.main, run, by="ada")


def test_what_does_not_fit_the_child_is_told_and_starts_nothing(world: World) -> None:
    _, child = family(world)
    with pytest.raises(NotFound, match="Step not found"):
        restart(world, child, "y#2")
    with pytest.raises(Invalid, match="do not fit"):
        restarts.restart(
            world.main, child, "y#1", Edits(removed=("none",)), by="bob", choices=AGAIN
        )
    with pytest.raises(Invalid, match="not valid"):
        restart(world, child, "y#1", Given(result=1, choice="nowhere"))
    assert len(views.runs(world.main, child.tenant)) == 2


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("given", [None, Given(result="mine")])
def test_from_a_step_of_a_child_its_root_goes_on_and_earlier_calls_of_both_are_not_repeated(
    world: World, given: Given | None, *, ended: bool
) -> None:
    run, child = family(world, ended=ended)
    before = hashes(world.main, run), hashes(world.main, child)
    made = restart(world, child, "y#1", given, n=7)
    inner = child_of(world, made)
    shown, within = views.run(world.main, made), views.run(world.main, inner)
    assert (shown.parent_run, shown.forked_run) == (None, run.run)
    assert (within.parent_run, within.parent_step, within.forked_run) == (
        made.run,
        "w#1",
        child.run,
    )
    assert (within.variables["n"], within.submitted_by) == (7, "bob")
    if given is None:
        world.do(inner, "y#1", n=8)
    world.do(inner, "z#1")
    world.do(made, "b#1")
    assert why(world.main, made) == ("completed", "end")
    n = 8 if given is None else 7
    assert found(world.main, made) == {"n": n, "of": 0}
    assert world.sent_by(inner) == {"z#1"} | ({"y#1"} if given is None else set())
    assert world.sent_by(made) == {"b#1"}
    assert all(count == 1 for count in world.sent.values())
    assert (hashes(world.main, run), hashes(world.main, child)) == before
    assert replays.of_itself(world.main, made).outcome == "same"
    assert replays.of_itself(world.main, inner).outcome == "same"
    control.cancel(world.main, run, by="ada") if not ended else None


@pytest.mark.parametrize("ended", [True, False])
def test_calls_of_a_child_that_is_started_anew_are_asked_about(world: World, ended: bool) -> None:
    run, child = family(world, ended=ended)
    place = forking.after(world.main, run, "a#1")
    steps = ("x#1", "y#1", "z#1") if ended else ("x#1", "y#1")
    names = {f"{child.run}/{step}.1" for step in steps} | ({"b#1.1"} if ended else set())
    assert {one.name for one in effects.at(world.main, run, place)} == names

    def forked(**choices: str) -> RunId:
        return forks.fork(world.main, run, place, Edits(), by="bob", choices=choices).run

    with pytest.raises(Undecided) as missing:
        forked()
    assert {one.path for one in missing.value.problems} == {f"choices.{name}" for name in names}
    for choice in ("reuse", "skip"):
        with pytest.raises(Invalid) as refused:
            forked(**{**dict.fromkeys(names, "execute"), f"{child.run}/x#1.1": choice})
        assert "is started anew" in refused.value.problems[0].message
    made = forked(at_most_once="execute")
    turns.take_turns(world.main, [made])
    anew = child_of(world, made)
    for step in ("x#1", "y#1", "z#1"):
        world.do(anew, step)
    world.do(made, "b#1")
    assert why(world.main, made) == ("completed", "end")
    # What went on from within it is not started anew: of that it is chosen call by call.
    inner = {
        one.name: one.anew
        for one in restarts.fates(world.main, restarts.stages(world.main, anew, "z#1"))
    }
    assert inner == {"z#1.1": False, f"{made.run}/b#1.1": False}
    control.cancel(world.main, run, by="ada") if not ended else None


def test_the_plan_tells_of_the_calls_of_the_child_and_of_what_is_around_it(world: World) -> None:
    run, child = family(world)
    lineage = restarts.stages(world.main, child, "z#1")
    assert [(one.run, one.step) for one in lineage] == [(run, "w#1"), (child, "z#1")]
    told = [(one.run, one.step, one.becomes) for one in restarts.fates(world.main, lineage)]
    assert told == [(run.run, "b#1", "undecided"), (child.run, "z#1", "undecided")]


def test_what_becomes_of_calls_of_the_child_and_of_what_is_around_it_is_chosen_for_each(
    world: World,
) -> None:
    run, child = family(world)
    around, within = f"{run.run}/b#1.1", "z#1.1"

    def restarted(**choices: str) -> RunId:
        return restarts.restart(world.main, child, "z#1", Edits(), by="bob", choices=choices).run

    with pytest.raises(Undecided) as missing:
        restarted()
    assert [one.path for one in missing.value.problems] == [
        f"choices.{around}",
        f"choices.{within}",
    ]
    with pytest.raises(Invalid, match="no call of that name"):
        restarted(**{"b#1.1": "skip", within: "reuse"})
    made = restarted(**{around: "skip", within: "reuse"})
    turns.take_turns(world.main, [made])
    inner = child_of(world, made)
    for one, key, value in ((inner, "z#1", "sent"), (made, "b#1", None)):
        lease = take(world.worker, one, key)
        asked = {"args": [], "kwargs": {}}
        served = calls.authorise(world.worker, lease, 1, "send", asked)
        assert isinstance(served, calls.Recorded)
        assert served.value == value
        assert finish(world.main, world.worker, lease)
    assert why(world.main, made) == ("completed", "end")


def test_from_a_step_of_a_child_of_an_item_of_a_map_two_runs_deep(
    world: World, worker: Worker
) -> None:
    publish(world.main, CHILD)
    middle = {**PARENT, "workflow": "middle", "outputs": {"got": "$found"}}
    publish(world.main, middle)
    document = waits_at(
        "map", over=[1, 2], at_once=1, do={"kind": "workflow", "workflow": "middle"}
    )
    run = submit(world.main, publish(world.main, document))

    def through(outer: RunId, item: str, *, only: tuple[str, ...] = ()) -> tuple[RunId, RunId]:
        middle = child_of(world, outer, item)
        if not only:
            world.do(middle, "a#1")
        inner = child_of(world, middle)
        for key in only or ("x#1", "y#1", "z#1"):
            world.do(inner, key, n=key)
        world.do(middle, "b#1")
        return middle, inner

    through(run, "w#1.0")
    _, inner = through(run, "w#1.1")
    gather(world, worker, run)
    before = [hashes(world.main, one) for one in (run, inner)]
    made = restart(world, inner, "z#1", n=9, big="x" * 300_000)
    assert views.run(world.main, made).forked_run == run.run
    assert live(world.main, made) == {"w#1": "waiting", "w#1.1": "waiting"}
    anew, innermost = through(made, "w#1.1", only=("z#1",))
    assert gather(world, worker, made) == [
        {"got": {"n": "z#1", "of": 0}},
        {"got": {"n": "z#1", "of": 0}},
    ]
    assert views.run(world.main, innermost).variables["big"] == "x" * 300_000
    assert [world.sent_by(one) for one in (made, anew, innermost)] == [set(), {"b#1"}, {"z#1"}]
    assert [hashes(world.main, one) for one in (run, inner)] == before


def test_a_step_of_a_child_in_a_lap_of_its_parent_is_restarted_with_the_laps_before_it(
    world: World,
) -> None:
    publish(world.main, CHILD)
    document = {
        **PARENT,
        "workflow": "laps",
        "variables": {"found": {}, "lap": {"default": 0}},
        "edges": [
            "a -> w -> b",
            {"from": "b", "to": "w", "label": "loop", "when": "$lap < 3"},
            "b -> end",
        ],
    }
    run = submit(world.main, publish(world.main, document))
    world.do(run, "a#1")
    children = []
    for lap in (1, 2, 3):
        children.append(child_of(world, run, f"w#{lap}"))
        for key in ("x#1", "y#1", "z#1"):
            world.do(children[-1], key)
        world.do(run, f"b#{lap}", lap=lap)
    before = hashes(world.main, run)
    made = restart(world, children[1], "z#1")
    second = child_of(world, made, "w#2")
    world.do(second, "z#1")
    world.do(made, "b#2", lap=2)
    # What the step starts in a later lap begins at its start.
    third = child_of(world, made, "w#3")
    for key in ("x#1", "y#1", "z#1"):
        world.do(third, key)
    world.do(made, "b#3", lap=3)
    assert why(world.main, made) == ("completed", "end")
    assert (world.sent_by(made), world.sent_by(second)) == ({"b#2", "b#3"}, {"z#1"})
    assert hashes(world.main, run) == before


def test_a_run_that_is_gone_on_from_before_its_child_has_begun_keeps_where_that_goes_on(
    world: World,
) -> None:
    _, child = family(world)
    made = restart(world, child, "z#1", n=7)
    again = world.fork(made, 1)
    inner = child_of(world, again)
    assert live(world.main, inner) == {"z#1": "ready"}
    assert views.run(world.main, inner).variables["n"] == 7


def test_a_child_whose_place_is_not_kept_any_more_fails_its_step_and_says_why(
    world: World,
) -> None:
    _, child = family(world)
    made = restarts.restart(world.main, child, "z#1", Edits(), by="bob", choices=AGAIN).run
    shredding.shred(world.main, child, by="ada", why="asked for")
    turns.take_turns(world.main, [made])
    shown = views.run(world.main, made)
    assert (shown.status, shown.reason) == ("failed", "cannot_go_on")
    assert "was shredded" in (shown.message or "")
    with pytest.raises(Conflict, match="was shredded"):
        restart(world, child, "z#1")


def test_what_was_asked_for_twice_under_a_key_is_one_family(world: World) -> None:
    _, child = family(world)

    def ask(step: str) -> RunId:
        asked = restarts.restart(
            world.main, child, step, Edits(), by="bob", idempotency_key="k", choices=AGAIN
        )
        return asked.run

    first = ask("z#1")
    assert ask("z#1") == first
    with pytest.raises(Conflict, match="Idempotency-Key"):
        ask("y#1")
    turns.take_turns(world.main, [first])
