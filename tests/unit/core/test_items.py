"""Maps: the items of a list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core import expressions
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Child, Join, Map, NodeId, Retry, Route
from engine.core.policy import DEFAULT
from engine.core.transitions import RunStatus
from engine.core.values import Inline
from tests.support.play import (
    at,
    commands,
    edge,
    failed,
    fork,
    graph,
    lost,
    meet,
    node,
    submitted,
    succeeded,
)
from tests.support.shell import Shell, folded, run, told

TEXT = expressions.template
PAUSE = msg.PauseRequested(at=at(1), by="ada")
RESUME = msg.ResumeRequested(at=at(2), by="ada")
CANCEL = msg.CancelRequested(at=at(2), by="ada")


def mapping(count=3, *more, retry=None, do=None, steps=1000, **options):
    """`m` does something with each of some items; then comes `a`."""
    item = node("m/item", retry=retry or Retry(), **(do or {}))
    wait = Map(over=TEXT(["x"] * count), do=item, **options)
    return graph(edge("m -> a"), *more, nodes=[node("m", kind="map", wait=wait)], steps=steps)


def beside(**options):
    """`f` forks to the map `m` and to `b`; `options` say what `j` and `b` do to `m`."""
    wait = Map(over=TEXT(["x", "y"]), do=node("m/item"))
    return graph(
        *fork("f", "m", "b"),
        *meet("j", "m", "b"),
        nodes=[
            node("f", route=Route.ALL),
            node("m", kind="map", wait=wait),
            node("b", cancels=options.get("cancels", ())),
            node("j", join=options.get("join", Join())),
        ],
    )


def done(*indices, **options):
    return [succeeded(f"m#1.{index}", **options) for index in indices]


def added(count, *, seconds=1):
    items = tuple(f"new {index}" for index in range(count))
    return msg.ItemsAdded(at=at(seconds), step=msg.StepKey("m#1"), by="ada", items=items)


def complete():
    return msg.CompleteRequested(at=at(1), step=msg.StepKey("m#1"), by="ada")


def standing(shell):
    return {key: str(step.status) for key, step in shell.rows.items()}


def gathered(shell):
    return [(c.count, c.because) for c in told(shell, msg.GatherItems)]


# --- sad paths ------------------------------------------------------------------------------


def test_an_item_that_fails_fails_the_map():
    shell = run(mapping(3, at_once=2), failed("m#1.1"))
    assert (shell.head.status, shell.head.ending.reason) == (RunStatus.FAILED, "items_failed")
    assert shell.head.ending.message == "1 of 3 items failed, the last with: boom"
    assert shell.rows == {}


def test_a_map_that_fails_takes_the_edge_for_that_without_its_items():
    template = mapping(3, edge("m -> b", on="error", reasons=["items_failed"]))
    shell = run(template, failed("m#1.1"), succeeded("m#1.0"))
    assert standing(shell) == {"b#1": "ready"}
    assert shell.head.maps == {}


def test_a_map_bears_as_many_failed_items_as_it_says():
    shell = run(mapping(3, most_failed=2), failed("m#1.1"), *done(0, 2))
    assert gathered(shell) == [(3, "all")]
    shell = run(mapping(3, most_failed=2), failed("m#1.1"), failed("m#1.2"))
    assert shell.head.ending.reason == "items_failed"


def test_items_that_cannot_be_begun_fail_the_map():
    do = {"kind": "workflow", "wait": Child(workflow="inner")}
    shell = Shell(mapping(2, do=do), broken=["m/item"])
    shell.tell(submitted())
    assert shell.head.ending.message == "1 of 2 items failed, the last with: broken"


def test_a_list_that_is_none_fails_the_map():
    shell = Shell(mapping(2), broken=["m"])
    shell.tell(submitted())
    assert (shell.head.ending.reason, shell.head.maps) == ("input_failed", {})


@pytest.mark.parametrize("said", ["$later", "'two'", "true"])
def test_a_number_of_items_that_is_none_fails_the_map(said):
    shell = run(mapping(2, enough=TEXT(f"$({said})" if said[0] != "$" else said)))
    assert shell.head.ending.reason == "input_failed"
    assert shell.head.ending.message.startswith("node m, stop_when.succeeded: ")


def test_items_count_against_the_budget_of_steps():
    shell = run(mapping(9, at_once=2, steps=3), *done(0, 1))
    assert (shell.head.status, shell.head.ending.reason) == (RunStatus.FAILED, "step_budget")
    assert "is spent at item 2 of 9 of node m" in shell.head.ending.message


@pytest.mark.parametrize("event", [added(2), complete(), succeeded("m#1.0"), failed("m#1.1")])
def test_what_comes_when_the_items_are_put_together_changes_nothing(event):
    shell = run(mapping(2), *done(0, 1))
    before = shell.state
    shell.tell(event)
    assert shell.state == before


# --- going through a list -------------------------------------------------------------------


def test_items_run_side_by_side_as_many_as_it_says():
    shell = run(mapping(5, at_once=2))
    assert standing(shell) == {"m#1": "waiting", "m#1.0": "ready", "m#1.1": "ready"}
    shell.tell(*done(1))
    assert standing(shell) == {"m#1": "waiting", "m#1.0": "ready", "m#1.2": "ready"}
    items = shell.head.maps["m#1"]
    assert (items.count, items.next, items.running, items.succeeded) == (5, 3, 2, 1)


def test_a_worker_puts_the_results_together_when_all_are_done():
    shell = run(mapping(2), *done(1, 0))
    assert standing(shell) == {"m#1": "ready"}
    assert (shell.rows["m#1"].index, shell.rows["m#1"].wait) == (2, None)
    shell.tell(succeeded("m#1", result=["x", "y"], patch={"found": ["x", "y"]}))
    assert standing(shell) == {"a#1": "ready"}
    assert shell.head.variables == {"found": ["x", "y"]}


def test_a_list_of_nothing_is_put_together_at_once():
    assert gathered(run(mapping(0))) == [(0, "all")]


def test_putting_the_results_together_is_tried_again_as_work_is():
    shell = run(mapping(2), *done(0, 1), lost("m#1"))
    assert (standing(shell), shell.rows["m#1"].attempt) == ({"m#1": "ready"}, 2)
    assert shell.rows["m#1"].index == 2


def test_enough_items_are_enough():
    shell = run(mapping(5, at_once=3, enough=TEXT(2)), *done(0, 2))
    assert gathered(shell) == [(5, "enough")]
    assert standing(shell) == {"m#1": "ready"}


def test_an_item_is_tried_again_as_its_node_says():
    shell = run(mapping(1, retry=Retry(attempts=2, backoff=0)), failed("m#1.0"))
    assert shell.rows["m#1.0"].attempt == 2
    assert shell.head.maps["m#1"].running == 1
    shell.tell(succeeded("m#1.0", attempt=2))
    assert gathered(shell) == [(1, "all")]


def test_items_may_be_runs():
    do = {"kind": "workflow", "wait": Child(workflow="inner"), "save": {}}
    shell = run(mapping(2, do=do))
    assert standing(shell) == dict.fromkeys(("m#1", "m#1.0", "m#1.1"), "waiting")
    for index in (0, 1):
        step = msg.StepKey(f"m#1.{index}")
        shell.tell(msg.WaitEnded(at=at(3), step=step, attempt=1, result=Inline(value=index)))
    assert gathered(shell) == [(2, "all")]


def test_an_item_leaves_its_result_alone():
    """What its function sets beside would hang on which item was quicker."""
    shell = run(mapping(2), *done(1, 0, patch={"n": 1}))
    assert shell.head.variables == {}


def test_an_item_can_be_skipped():
    skip = msg.SkipRequested(at=at(1), by="ada", step=msg.StepKey("m#1.0"))
    shell = run(mapping(2), skip, *done(1))
    assert gathered(shell) == [(2, "all")]


def test_a_map_can_be_skipped_with_its_items():
    shell = run(mapping(2), msg.SkipRequested(at=at(1), by="ada", step=msg.StepKey("m#1")))
    assert standing(shell) == {"a#1": "ready"}
    assert shell.head.maps == {}


# --- while it runs --------------------------------------------------------------------------


def test_items_may_be_added_while_it_runs():
    shell = run(mapping(1, at_once=2), added(2), *done(0))
    assert standing(shell) == {"m#1": "waiting", "m#1.1": "ready", "m#1.2": "ready"}
    (command,) = told(shell, msg.AddItems)
    assert (command.first, command.count) == (1, 2)
    shell.tell(*done(1), *done(2))
    assert gathered(shell) == [(3, "all")]


def test_items_that_are_added_to_a_paused_run_have_their_places_and_wait():
    shell = run(mapping(1, at_once=2), PAUSE, added(2))
    assert shell.head.maps["m#1"].count == 3
    assert standing(shell) == {"m#1": "waiting", "m#1.0": "ready"}
    shell.tell(*done(0))
    shell.tell(RESUME)
    assert standing(shell) == {"m#1": "waiting", "m#1.1": "ready", "m#1.2": "ready"}


def test_somebody_may_say_that_it_has_enough():
    shell = run(mapping(5, at_once=2), *done(0), complete())
    assert gathered(shell) == [(5, "asked")]
    assert standing(shell) == {"m#1": "ready"}


def test_a_paused_map_that_has_enough_is_put_together_when_it_goes_on():
    shell = run(mapping(3), PAUSE, complete(), added(1))
    assert gathered(shell) == []
    shell.tell(RESUME)
    assert gathered(shell) == [(4, "asked")]


def test_several_maps_go_on_in_the_order_of_their_names_however_they_were_read():
    maps = [
        node(name, kind="map", wait=Map(over=TEXT(["x"] * 2), do=node(f"{name}/item"), at_once=1))
        for name in ("b", "a")
    ]
    template = graph(*fork("f", "b", "a"), nodes=[node("f", route=Route.ALL), *maps])
    shell = run(template, succeeded("f#1"), PAUSE, succeeded("b#1.0"), succeeded("a#1.0"))
    for names in (["a#1", "b#1"], ["b#1", "a#1"]):
        state = replace(shell.state, maps={name: shell.head.maps[name] for name in names})
        started = commands(advance(template, DEFAULT, state, [RESUME]))
        assert [command.step for command in started] == ["a#1.1", "b#1.1"]


# --- what ends a map ------------------------------------------------------------------------


def test_nothing_is_left_of_a_map_when_its_run_is_cancelled():
    shell = run(mapping(3), CANCEL)
    assert (shell.rows, shell.head.maps) == ({}, {})


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("options", [{"cancels": (NodeId("m"),)}, {"join": Join(count=1)}])
def test_nothing_is_left_of_a_map_that_is_not_waited_for(options, narrow):
    shell = run(beside(**options), succeeded("f#1"), narrow=narrow)
    shell.tell(succeeded("b#1"), *done(0))
    assert standing(shell) == {"j#1": "ready"}
    assert shell.head.maps == {}
    assert folded(shell) == shell.state


def test_a_join_waits_for_a_map():
    shell = run(beside(), succeeded("f#1"), succeeded("b#1"), *done(0, 1))
    assert standing(shell) == {"m#1": "ready"}
    shell.tell(succeeded("m#1"))
    assert standing(shell) == {"j#1": "ready"}
