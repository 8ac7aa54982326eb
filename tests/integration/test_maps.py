"""Maps: the items of a list, each a step or a run of its own, and their results in order."""

from __future__ import annotations

import pytest

from engine.errors import Conflict, Invalid, NotFound
from engine.runs import control, events, sweep, turns, views, waits
from engine.store.ids import RunId, StepId
from tests.support.hands import carry_out
from tests.support.platforms import (
    TENANT,
    finish,
    lose_leases,
    publish,
    register,
    sql,
    status,
    submit,
    take,
)
from tests.support.waiting import found, kinds, live, of_kind, race, waits_at, why
from workers.execution import execute

pytestmark = pytest.mark.usefixtures("sound")

ITEM = """
def item(state):
    if state["item"] == "bad":
        raise ValueError("a bad item")
    return {"item": state["item"], "index": state["index"]}
"""
INNER = {
    **waits_at("event", name="go"),
    "workflow": "inner",
    "inputs": {"n": {"type": "integer"}},
    "outputs": {"n": "$n", "got": "$found"},
}


@pytest.fixture
def main(main):
    register(main, "item", ITEM)
    return main


def mapped(main, over, **fields):
    """A run whose map has begun with these items."""
    document = waits_at("map", over="$items", **{"do": "item", **fields})
    document["inputs"] = {"items": {}}
    return submit(main, publish(main, document), items=over)


def perform(main, worker, run, key):
    """Let a worker carry one step out, whatever messages there are."""
    execute(worker, StepId(*run, key))
    turns.take_turns(main, [run])


def carried(main, worker, run):
    """The run, when nothing of it is ready any more."""
    carry_out(main, worker, run)
    return run


def numbers(results):
    return [None if one is None else one["item"] for one in results]


# --- sad paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [{"a": 1}, "text", 3, None])
def test_what_is_no_list_has_no_items(main, over):
    run = mapped(main, over)
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "input_failed")
    assert "is not a list of items" in detail.message


def test_a_failed_item_fails_the_map_with_what_happened_and_lets_the_others_go(main, worker):
    run = mapped(main, [1, "bad", 3], at_once=2)
    perform(main, worker, run, "w#1.1")
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "items_failed")
    assert "1 of 3 items failed" in detail.message
    assert "a bad item" in detail.message
    (item,) = (step for step in views.steps(main, run) if step.key == "w#1.1")
    assert item.status == "failed"


def test_a_map_whose_items_failed_may_go_another_way(main, worker):
    document = waits_at("map", over=["bad", 1, 2], do="item")
    document["edges"] = [
        "w -> end",
        {"from": "w", "to": "end", "on": "error", "reason": ["items_failed"]},
    ]
    run = submit(main, publish(main, document))
    assert carry_out(main, worker, run).status == "completed"
    assert found(main, run) is None


def test_a_map_of_a_workflow_that_does_not_take_its_items_fails(main):
    publish(main, INNER)
    do = {"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}}
    run = mapped(main, ["text"], do=do)
    assert why(main, run) == ("failed", "items_failed")


def test_items_cannot_be_sent_to_what_is_no_map(main, worker):
    run = submit(main, publish(main, waits_at("timer", **{"for": "1h"})))
    with pytest.raises(Conflict, match="waits for no items"):
        waits.add_items(main, run, "w#1", [1], by="ada")
    with pytest.raises(NotFound):
        waits.add_items(main, run, "x#1", [1], by="ada")
    with pytest.raises(NotFound):
        waits.complete(main, run, "x#1", by="ada")
    control.cancel(main, run, by="ada")


def test_items_that_no_list_can_hold_are_refused(main):
    run = mapped(main, [1, 2])
    for items in ([], [float("nan")], ["\x00"]):
        with pytest.raises(Invalid):
            waits.add_items(main, run, "w#1", items, by="ada")
    assert len(live(main, run)) == 3


def test_items_come_too_late_once_the_map_waits_for_no_more(main, worker):
    run = mapped(main, [1])
    perform(main, worker, run, "w#1.0")
    assert live(main, run) == {"w#1": "ready"}
    for told in (
        lambda: waits.add_items(main, run, "w#1", [2], by="ada"),
        lambda: waits.complete(main, run, "w#1", by="ada"),
    ):
        with pytest.raises(Conflict, match="waits for no items"):
            told()
    assert numbers(found(main, carried(main, worker, run))) == [1]
    with pytest.raises(Conflict, match="waits for no items"):
        waits.add_items(main, run, "w#1", [2], by="ada")


def test_items_that_are_sent_as_the_map_gathers_are_taken_or_refused_and_never_lost(main, worker):
    for _ in range(3):
        run = mapped(main, [1])
        came = race(
            lambda: perform(main, worker, run, "w#1.0"),  # noqa: B023
            lambda: waits.add_items(main, run, "w#1", [2], by="ada"),  # noqa: B023
        )
        turns.take_turns(main, [run])
        results = numbers(found(main, carried(main, worker, run)))
        assert results == ([1, 2] if came[1] == 2 else [1])
        assert came[1] == 2 or isinstance(came[1], Conflict)


def test_a_run_that_is_cancelled_lets_its_items_go(main, worker):
    run = mapped(main, [1, 2, 3], at_once=2)
    lease = take(worker.platform, run, "w#1.0")
    control.cancel(main, run, by="bob")
    assert live(main, run) == {}
    assert not finish(main, worker.platform, lease)


def test_a_run_that_is_cancelled_cancels_the_runs_of_its_items(main):
    publish(main, INNER)
    do = {"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}}
    run = mapped(main, [1, 2, 3], do=do, at_once=2)
    assert len(views.runs(main, TENANT, parent=run)) == 2
    control.cancel(main, run, by="bob")
    assert {one.status for one in views.runs(main, TENANT, parent=run)} == {"cancelled"}


def test_a_worker_that_is_lost_costs_an_attempt_of_its_item(main, worker, settings):
    run = mapped(main, [1, 2])
    take(worker.platform, run, "w#1.0")
    lose_leases(settings)
    sweep.sweep(main)
    sweep.sweep(main)
    assert numbers(found(main, carried(main, worker, run))) == [1, 2]
    assert [one.outcome for one in views.attempts(main, run, "w#1.0")] == ["lost", "succeeded"]


# --- in order ----------------------------------------------------------------------------------------


def test_the_results_stand_in_the_order_of_the_items_however_they_end(main, worker):
    run = mapped(main, [10, 11, 12, 13], at_once=4)
    for place in (2, 0, 3, 1):
        perform(main, worker, run, f"w#1.{place}")
    carry_out(main, worker, run)
    assert found(main, run) == [{"item": 10 + n, "index": n} for n in range(4)]
    assert status(main, run) == "completed"


def test_no_more_items_are_at_work_than_may_be_at_once(main, worker):
    run = mapped(main, [1, 2, 3, 4], at_once=2)
    assert live(main, run) == {"w#1": "waiting", "w#1.0": "ready", "w#1.1": "ready"}
    perform(main, worker, run, "w#1.0")
    assert live(main, run) == {"w#1": "waiting", "w#1.1": "ready", "w#1.2": "ready"}
    assert numbers(found(main, carried(main, worker, run))) == [1, 2, 3, 4]


def test_a_map_of_no_items_is_done_with_no_results(main, worker):
    run = mapped(main, [])
    assert carry_out(main, worker, run).status == "completed"
    assert found(main, run) == []


def test_an_item_has_the_name_that_the_map_gives_it(main, worker):
    register(main, "named", "def named(state):\n    return {'got': state['x']}")
    document = waits_at(
        "map", over=[5], do={"uses": "named", "with": {"x": "$file"}}, **{"as": "file"}
    )
    run = submit(main, publish(main, document))
    carry_out(main, worker, run)
    assert found(main, run) == [{"got": 5}]


def test_a_map_over_workflows_gathers_their_outputs_in_order(main, worker):
    publish(main, INNER)
    do = {"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}}
    run = mapped(main, [7, 8, 9], do=do, at_once=2)
    while not_ended := [
        one for one in views.runs(main, TENANT, parent=run) if one.finished_at is None
    ]:
        # The newest first: they end in another order than they were started.
        child = RunId(TENANT, not_ended[0].id)
        assert len(not_ended) <= 2
        delivery = events.send(main, TENANT, "go", not_ended[0].id, by="ada", run=child.run)
        turns.take_turns(main, delivery.woken)
    carry_out(main, worker, run)
    assert [one["n"] for one in found(main, run)] == [7, 8, 9]
    assert len(views.runs(main, TENANT, parent=run)) == 3


def test_a_map_in_a_loop_begins_anew_each_time(main, worker):
    document = waits_at("map", over="$items", do="item", save={"found": "$result", "n": "$n + 1"})
    document["variables"] |= {"n": {"type": "integer", "default": 0}}
    document["inputs"] = {"items": {}}
    document["edges"] = [
        {"from": "w", "to": "w", "when": "$n < 2", "label": "loop"},
        "w -> end",
    ]
    run = submit(main, publish(main, document), items=[1, 2])
    carry_out(main, worker, run)
    assert status(main, run) == "completed"
    assert numbers(found(main, run)) == [1, 2]
    assert kinds(main, run).count("GatherItems") == 2


# --- partial completion ------------------------------------------------------------------------------


def test_as_many_items_may_fail_as_the_map_allows(main, worker):
    run = mapped(main, [1, "bad", 3, "bad"], stop_when={"failed": 3})
    assert numbers(found(main, carried(main, worker, run))) == [1, None, 3, None]


def test_a_map_has_enough_when_it_says_so_and_lets_the_rest_go(main, worker):
    run = mapped(main, [1, 2, 3, 4], at_once=2, stop_when={"succeeded": 2})
    perform(main, worker, run, "w#1.1")
    perform(main, worker, run, "w#1.0")
    assert live(main, run) == {"w#1": "ready"}
    assert numbers(found(main, carried(main, worker, run))) == [1, 2, None, None]


def test_a_map_that_gets_fewer_than_enough_goes_on_with_those(main, worker):
    run = mapped(main, [1, 2], stop_when={"succeeded": 5})
    assert numbers(found(main, carried(main, worker, run))) == [1, 2]


def test_a_map_that_is_told_to_complete_counts_what_is_done(main, worker):
    run = mapped(main, [1, 2, 3], at_once=2)
    perform(main, worker, run, "w#1.0")
    lease = take(worker.platform, run, "w#1.1")
    waits.complete(main, run, "w#1", by="bob", reason="enough")
    assert live(main, run) == {"w#1": "ready"}
    assert not finish(main, worker.platform, lease)
    assert numbers(found(main, carried(main, worker, run))) == [1, None, None]


def test_a_map_over_workflows_that_has_enough_cancels_the_others(main, worker):
    publish(main, INNER)
    do = {"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}}
    run = mapped(main, [1, 2, 3], do=do, at_once=3)
    waits.complete(main, run, "w#1", by="bob")
    assert {one.status for one in views.runs(main, TENANT, parent=run)} == {"cancelled"}
    assert found(main, carried(main, worker, run)) == [None, None, None]


# --- items that are added ----------------------------------------------------------------------------


def test_items_that_are_sent_while_it_runs_are_done_after_the_others(main, worker):
    run = mapped(main, [1])
    assert waits.add_items(main, run, "w#1", [2, 3], by="ada") == 3
    assert waits.add_items(main, run, "w#1", [4], by="ada") == 4
    assert numbers(found(main, carried(main, worker, run))) == [1, 2, 3, 4]


def test_those_who_send_items_at_once_are_each_told_their_own_place(main, worker):
    run = mapped(main, [0])
    came = race(
        *(lambda n=n: waits.add_items(main, run, "w#1", [n], by="ada") for n in range(1, 5))
    )
    assert sorted(of_kind(came, int)) == [2, 3, 4, 5]
    results = numbers(found(main, carried(main, worker, run)))
    assert [results[count - 1] for count in came] == [1, 2, 3, 4]


def test_items_that_are_sent_while_the_run_is_paused_begin_when_it_goes_on(main, worker):
    run = mapped(main, [1])
    control.pause(main, run, by="bob")
    assert waits.add_items(main, run, "w#1", [2], by="ada") == 2
    assert "w#1.1" not in live(main, run)
    control.resume(main, run, by="bob")
    assert numbers(found(main, carried(main, worker, run))) == [1, 2]


def test_items_for_a_map_of_workflows_are_runs_too(main):
    publish(main, INNER)
    do = {"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}}
    run = mapped(main, [1], do=do, at_once=5)
    assert waits.add_items(main, run, "w#1", [2, 3], by="ada") == 3
    assert len(views.runs(main, TENANT, parent=run)) == 3
    control.cancel(main, run, by="ada")


# --- pause, skip --------------------------------------------------------------------------------------


def test_a_paused_map_starts_no_more_items(main, worker):
    run = mapped(main, [1, 2], at_once=1)
    lease = take(worker.platform, run, "w#1.0")
    control.pause(main, run, by="bob")
    finish(main, worker.platform, lease)
    assert live(main, run) == {"w#1": "waiting"}
    control.resume(main, run, by="bob")
    assert live(main, run) == {"w#1": "waiting", "w#1.1": "ready"}
    control.cancel(main, run, by="bob")


def test_a_map_that_is_skipped_is_done_without_results_and_lets_its_items_go(main, worker):
    run = mapped(main, [1, 2, 3], at_once=2)
    lease = take(worker.platform, run, "w#1.0")
    control.skip(main, run, "w#1", by="bob")
    assert status(main, run) == "completed"
    assert not finish(main, worker.platform, lease)
    assert found(main, run) is None


def test_an_item_that_is_skipped_counts_as_done_without_a_result(main, worker):
    run = mapped(main, ["bad", 2])
    control.skip(main, run, "w#1.0", by="bob")
    assert numbers(found(main, carried(main, worker, run))) == [None, 2]


# --- what it costs and shows -------------------------------------------------------------------------


def test_a_map_that_waits_holds_no_message(main, worker):
    run = mapped(main, [1, 2])
    assert {hint.step.key for hint in main.broker.hints} == {"w#1.0", "w#1.1"}
    (row,) = sql(main, "SELECT status, worker, wake_at FROM step WHERE key = 'w#1'")
    assert tuple(row) == ("waiting", None, None)
    control.cancel(main, run, by="ada")


def test_the_steps_of_items_are_listed_with_how_they_ended(main, worker):
    run = mapped(main, [1, "bad"], stop_when={"failed": 2})
    carry_out(main, worker, run)
    shown = {step.key: step.status for step in views.steps(main, run) if step.node != "end"}
    assert shown == {"w#1": "succeeded", "w#1.0": "succeeded", "w#1.1": "failed"}
