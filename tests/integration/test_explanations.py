"""Why runs are where they are, what they wait for, and why they did not go elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from engine.core.values import Json
from engine.errors import NotFound
from engine.platform import DatabaseRole
from engine.runs import control, explanations, policies, views
from engine.runs.explanations import Explanation, Waiting, Way
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms, recordings
from tests.support.platforms import TENANT, Sent, as_owner, chain, publish, sql, take
from tests.support.recordings import FAILS, LOOP, PARALLEL, SHAPES, Scene
from tests.support.waiting import waits_at


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    with (
        platforms.platform(settings) as main,
        platforms.platform(settings, DatabaseRole.WORKER) as hands,
    ):
        yield Scene(
            main=replace(main, broker=Sent(app=main.broker.app)),
            hands=replace(hands, broker=Sent(app=hands.broker.app)),
        )


def explained(scene: Scene, run: RunId, before: int | None = None) -> Explanation:
    return explanations.explain(scene.main, run, before=before)


def only(found: Explanation, what: str = "step") -> Waiting:
    (waiting,) = (each for each in found.waits if each.what == what)
    return waiting


def ways(found: Explanation, step: str) -> dict[str, Way]:
    """What became of the edges of a step, by where they lead."""
    (decision,) = (each for each in found.decisions if each.step == step)
    return {str(way.target): way for way in decision.ways}


def test_a_run_that_is_not_there_has_no_explanation(scene: Scene) -> None:
    run = scene.submit(LOOP, n=0)
    for absent in (RunId(TENANT, "0190ffff-0000-7000-8000-000000000000"), RunId("other", run.run)):
        with pytest.raises(NotFound, match="Run not found"):
            explained(scene, absent)


# --- how it ended -----------------------------------------------------------------------------


def test_a_run_that_failed_says_why_and_at_which_step(scene: Scene) -> None:
    found = explained(scene, recordings.led(scene, "retry"))
    assert (found.status, found.reason, found.message, found.step) == (
        *("failed", "error", "boom", "b#1"),
    )
    assert found.why == "The run is failed (error) at step b#1: boom"
    assert (found.waits, found.live) == ((), {})


@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_of_any_shape_is_explained_as_ended(scene: Scene, shape: str) -> None:
    run = recordings.led(scene, shape)
    (row,) = sql(
        scene.main,
        "SELECT count(*) AS lines FROM history WHERE kind = 'TakeEdges' AND run_id = CAST(:run AS uuid)",
        run=run.run,
    )
    found = explained(scene, run)
    assert found.why.startswith(f"The run is {found.status} ({found.reason})")
    assert len(found.decisions) == row.lines
    assert (found.waits, found.before) == ((), None)


# --- why not ----------------------------------------------------------------------------------


def test_an_edge_is_not_taken_for_its_condition_with_the_values_that_it_saw(scene: Scene) -> None:
    found = explained(scene, recordings.led(scene, "loop"))
    back, on = (ways(found, "a#3")[to] for to in "ab")
    assert (back.taken, back.why, back.when, back.saw, back.verdict) == (
        *(False, "condition", "$n < 3", {"$n": 3}, False),
    )
    assert back.told == "not taken: $n < 3 is false with $n = 3"
    assert (back.target, on.target, on.taken, on.verdict, on.told) == (
        "a",
        "b",
        True,
        None,
        "taken",
    )
    back, on = (ways(found, "a#1")[to] for to in "ab")
    assert (back.taken, back.verdict, back.told) == (
        True,
        True,
        "taken: $n < 3 is true with $n = 1",
    )
    assert (on.taken, on.why, on.verdict) == (False, "earlier", None)
    assert on.told == f"not taken: {back.edge}, which is declared before it, was"


def test_an_edge_is_not_taken_for_the_choice_of_a_plan(scene: Scene) -> None:
    found = explained(scene, recordings.led(scene, "planned"))
    (small,) = (way for way in ways(found, "plan#1").values() if not way.taken)
    assert (small.target, small.why, small.told) == (
        *("small", "choice", 'not taken: ["large"] was chosen'),
    )


def test_an_edge_is_not_taken_for_the_bound_of_its_loop(scene: Scene) -> None:
    nodes: Json = {"a": {"uses": "noop", "max_iterations": 1}, "b": {"uses": "noop"}}
    run = scene.submit({**LOOP, "nodes": nodes}, n=0)
    scene.do(run, "a#1", n=1)
    back, on = (ways(explained(scene, run), "a#1")[to] for to in "ab")
    assert (back.why, back.verdict, back.saw) == (
        "max_iterations",
        True,
        {"$n": 1, "max_iterations": 1},
    )
    assert back.told == "not taken: its loop has come to its bound of 1 laps"
    assert on.taken


# --- what is waited for -----------------------------------------------------------------------


def test_a_step_waits_for_a_worker_and_then_for_its_end(scene: Scene) -> None:
    run = scene.submit(chain(a={"uses": "noop"}))
    ready = only(explained(scene, run))
    assert (ready.step, ready.status, ready.waits_for) == (
        *("a#1", "ready", "a worker of the queue default"),
    )
    assert ready.wakes_at is not None
    lease = take(scene.hands, run, "a#1")
    leased = only(explained(scene, run))
    assert (leased.status, leased.waits_for) == ("leased", "worker w1 to carry it out")
    assert leased.wakes_at is not None
    assert explained(scene, run).live == {"leased": 1}
    assert lease.step.key == "a#1"


def test_a_step_that_failed_waits_for_its_next_attempt(scene: Scene) -> None:
    run = scene.submit(
        chain(
            a={"uses": "noop", "retry": {"attempts": 2, "backoff": 3600, "max": 3600, "jitter": 0}}
        )
    )
    scene.do(run, "a#1", FAILS)
    waiting = only(explained(scene, run))
    assert waiting.waits_for == "its next attempt, 2, after attempt 1 failed (error: boom)"
    assert _hours(waiting) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "fields", "told", "of"),
    [
        ("timer", {"for": "2h"}, "its time to come", {"kind": "timer"}),
        (
            "event",
            {"name": "paid", "expires": "2h"},
            "the event paid",
            {"kind": "event", "event": "paid"},
        ),
        (
            *("approval", {"from": ["role:admin"], "expires": "2h"}),
            *("an answer of role:admin", {"kind": "approval", "who": ["role:admin"]}),
        ),
        (
            *("map", {"over": [1, 2, 3], "do": "noop", "at_once": 2}),
            "3 of its 3 items, 2 of them under way",
            {"kind": "map", "count": 3, "running": 2, "succeeded": 0, "failed": 0, "at_once": 2},
        ),
    ],
)
def test_a_step_that_waits_says_for_what_and_until_when(
    *, scene: Scene, kind: str, fields: dict[str, Any], told: str, of: dict[str, Any]
) -> None:
    run = scene.submit(waits_at(kind, **fields))
    waiting = next(each for each in explained(scene, run).waits if each.step == "w#1")
    assert (waiting.status, waiting.waits_for, waiting.of) == ("waiting", told, of)
    if kind != "map":
        assert _hours(waiting) == pytest.approx(2, abs=0.1)


def test_a_step_waits_for_a_run_that_it_started(scene: Scene) -> None:
    publish(scene.main, {**waits_at("event", name="go"), "workflow": "inner"})
    run = scene.submit(waits_at("workflow", workflow="inner"))
    (child,) = views.runs(scene.main, TENANT, parent=run)
    waiting = only(explained(scene, run))
    assert (waiting.waits_for, waiting.of["run"]) == (f"the run {child.id} to end", child.id)


def test_a_step_waits_for_a_lock_that_another_run_holds(scene: Scene) -> None:
    document = chain(a={"uses": "noop", "lock": {"name": "door", "of": "tenant"}})
    scene.submit(document)
    waiting = only(explained(scene, scene.submit(document)))
    assert (waiting.status, waiting.of) == ("deferred", {"lock": "door"})
    assert waiting.waits_for == "the lock door, which somebody else holds"


def test_threads_wait_at_a_join_for_those_that_may_still_come(scene: Scene) -> None:
    run = scene.submit(PARALLEL)
    scene.do(run, "f#1")
    scene.do(run, "b#1")
    join = only(explained(scene, run), "join")
    assert (join.node, join.waits_for) == ("j", "threads that stand at a, c; 1 are here")
    assert (join.of["coming"], join.wakes_at) == (["a", "c"], None)
    nodes: Any = {**PARALLEL["nodes"], "j": {"uses": "noop", "join": {"timeout": "2h"}}}  # type: ignore[dict-item]
    timed = scene.submit({**PARALLEL, "nodes": nodes})
    scene.do(timed, "f#1")
    scene.do(timed, "b#1")
    assert _hours(only(explained(scene, timed), "join")) == pytest.approx(2, abs=0.1)


def test_a_paused_run_says_by_whom_and_why(scene: Scene) -> None:
    run = scene.submit(LOOP, n=0)
    control.pause(scene.main, run, by="bob", reason="lunch")
    found = explained(scene, run)
    whole = only(found, "run")
    assert (whole.status, whole.waits_for) == (
        "paused",
        "somebody to resume it, paused by bob: lunch",
    )
    assert found.why == f"The run is paused: it waits for {whole.waits_for}"
    assert only(found).waits_for == "the run to be resumed"


def test_a_run_that_a_rule_paused_says_which_and_at_what(scene: Scene) -> None:
    rule = "policy: p\nrules: [{name: two, metric: steps, op: '>', value: 1, action: pause}]"
    policies.apply(scene.main, TENANT, rule, by="ada")
    run = scene.submit(LOOP, n=0)
    scene.do(run, "a#1", n=1)
    assert "two" in only(explained(scene, run), "run").waits_for


def test_a_run_whose_turn_fails_says_so_and_when_it_is_tried_again(scene: Scene) -> None:
    run = scene.submit(LOOP, n=0)
    as_owner(
        scene.main.settings,
        "UPDATE run SET stuck_error = 'KeyError: x', stuck_count = 1,"
        " stuck_until = clock_timestamp() + interval '2 hours'",
    )
    whole = only(explained(scene, run), "run")
    assert (whole.status, _hours(whole)) == ("stuck", pytest.approx(2, abs=0.1))
    assert "KeyError: x" in whole.waits_for


# --- long runs --------------------------------------------------------------------------------


def test_older_decisions_come_by_pages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recordings.led(scene, "loop")
    whole = explained(scene, run).decisions
    monkeypatch.setattr(explanations, "MAX_LINES", 3)
    found, before = [], None
    while True:
        page = explained(scene, run, before)
        found += page.decisions
        if (before := page.before) is None:
            break
    assert tuple(found) == whole


def test_a_run_of_many_live_steps_is_told_in_part(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanations, "MAX_STEPS", 2)
    run = scene.submit(waits_at("map", over=[1, 2, 3, 4], do="noop", at_once=4))
    found = explained(scene, run)
    assert (len(found.waits), found.more_waits, found.live) == (2, True, {"ready": 4, "waiting": 1})


def test_a_run_of_100_000_lines_is_explained_in_under_100_ms(scene: Scene) -> None:
    run = scene.submit(LOOP, n=0)
    scene.do(run, "a#1", n=1)
    as_owner(
        scene.main.settings,
        """
        INSERT INTO history (tenant_id, run_id, seq, at, kind, format, body, payload_id, hash)
        SELECT h.tenant_id, h.run_id, r.seq + n, h.at, h.kind, h.format, h.body, NULL, h.hash
        FROM generate_series(1, 100000) n, run r JOIN history h
            ON h.tenant_id = r.tenant_id AND h.run_id = r.id AND h.kind = 'TakeEdges'
        """,
    )
    as_owner(scene.main.settings, "UPDATE run SET seq = (SELECT max(seq) FROM history)")
    as_owner(scene.main.settings, "ANALYZE history")
    found = explained(scene, run)
    assert (found.seq > 100_000, len(found.decisions)) == (True, explanations.MAX_LINES)
    taken = []
    for before in (None, None, None, 50_000, 50_000):
        began = time.perf_counter()
        explained(scene, run, before)
        taken.append(time.perf_counter() - began)
    # The quickest of each: others use this machine, too.
    assert max(min(taken[:3]), min(taken[3:])) < 0.1, taken


def _hours(waiting: Waiting) -> float:
    assert waiting.wakes_at is not None
    now = datetime.now(waiting.wakes_at.tzinfo)
    return (waiting.wakes_at - now).total_seconds() / 3600
