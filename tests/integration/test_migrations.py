"""Live runs that go on under another version, and those that stay: on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine.core import codec
from engine.core import messages as msg
from engine.core.values import Json
from engine.errors import Blocked, Conflict, Invalid, NotFound
from engine.platform import DatabaseRole, Platform
from engine.runs import (
    answers,
    attempts,
    backtests,
    bulk,
    catalogue,
    control,
    diagrams,
    doctor,
    executions,
    explanations,
    forks,
    launch,
    letters,
    migrations,
    replays,
    restarts,
    retirement,
    sessions,
    turns,
    views,
)
from engine.runs.attempts import Succeeded
from engine.runs.bulk import Action, Filter, Migration, Outcome
from engine.runs.forks import Edits
from engine.sessions import story
from engine.settings import Settings
from engine.store import inbox, session
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import TENANT, Sent, finish, publish, register, sql, submit, take

USES: Json = {"uses": "noop"}


def line(version: str, *names: str, **more: Json) -> dict[str, Json]:
    nodes: dict[str, Json] = {name: {"uses": "noop"} for name in names}
    return {
        "workflow": "w",
        "version": version,
        "nodes": nodes,
        "edges": [" -> ".join((*names, "end"))],
        **more,
    }


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    with platforms.platform(settings) as built:
        register(built, "noop")
        yield replace(built, broker=Sent(app=built.broker.app))


@pytest.fixture
def hands(settings: Settings, main: Platform) -> Iterator[Platform]:
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield replace(built, broker=Sent(app=main.broker.app))


def migrate(main: Platform, run: RunId, to: str = "2.0.0", **nodes: str) -> migrations.Plan:
    return migrations.migrate(main, run, to, nodes, by="ada", reason="better")


def lines(main: Platform, run: RunId) -> list[str]:
    rows = sql(
        main,
        "SELECT kind FROM history WHERE run_id = CAST(:run AS uuid) ORDER BY seq",
        run=run.run,
    )
    return [row.kind for row in rows]


def sound(main: Platform, run: RunId) -> None:
    """What must always hold does, and deciding the run anew decides the same."""
    assert doctor.examine(main.database, main.blobs) == ()
    found = replays.of_itself(main, run)
    assert (found.outcome, found.divergences, found.untold) == ("same", 0, 0), found


def everything(main: Platform, run: RunId) -> Any:
    """All that is stored of a run."""
    return [
        sql(main, f"SELECT x::text FROM {table} x WHERE {key} = CAST(:run AS uuid)", run=run.run)
        for table, key in (("run", "id"), ("step", "run_id"), ("history", "run_id"))
    ]


# --- those that stay -------------------------------------------------------------------------------


def test_a_run_that_stands_where_the_other_version_has_nothing_stays_as_it_is(
    main: Platform, hands: Platform
) -> None:
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    publish(main, line("2.0.0", "b", "c"))
    before = everything(main, run)
    planned = migrations.plan(main, run, "2.0.0")
    assert [problem.path for problem in planned.problems] == ["steps.a#1"]
    with pytest.raises(Blocked) as blocked:
        migrate(main, run)
    assert blocked.value.problems == planned.problems
    assert everything(main, run) == before
    finish(main, hands, take(hands, run, "a#1"))
    assert migrate(main, run).migrated
    sound(main, run)


def test_what_moved_on_since_it_was_asked_about_stays_and_history_says_why(
    main: Platform, hands: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    publish(main, line("2.0.0", "a", "c"))
    lease = take(hands, run, "a#1")
    asked = migrations.plan

    def overtaken(*given: Any, **more: Any) -> migrations.Plan:
        found = asked(*given, **more)
        finish(main, hands, lease)
        return found

    monkeypatch.setattr(migrations, "plan", overtaken)
    with pytest.raises(Blocked) as blocked:
        migrate(main, run)
    assert [problem.path for problem in blocked.value.problems] == ["steps.b#1"]
    assert lines(main, run)[-2:] == ["MigrateRequested", "NotMigrated"]
    assert views.run(main, run).version == "1.0.0"
    finish(main, hands, take(hands, run, "b#1"))
    assert platforms.status(main, run) == "completed"
    sound(main, run)


def test_where_to_must_be_there_and_must_be_another_version(main: Platform) -> None:
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    other = line("2.0.0", "a", "b", limits={"steps": 9})
    publish(main, other)
    with pytest.raises(Blocked, match="of that version already"):
        migrate(main, run, "1.0.0")
    with pytest.raises(NotFound):
        migrate(main, run, "^3")
    with pytest.raises(Invalid):
        migrate(main, run, "newest")
    with pytest.raises(NotFound):
        migrate(main, RunId(TENANT, "01975c3e-0000-7000-8000-000000000001"))
    with pytest.raises(NotFound):
        migrate(main, RunId("other", run.run))
    retirement.retire(main, TENANT, "w", "2.0.0", by="ada")
    with pytest.raises(Conflict, match="is retired"):
        migrate(main, run)


def test_what_has_ended_stays(main: Platform) -> None:
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    publish(main, line("2.0.0", "a", "b", limits={"steps": 9}))
    control.cancel(main, run, by="ada")
    with pytest.raises(Blocked, match="has ended"):
        migrate(main, run)


# --- those that go on ------------------------------------------------------------------------------


def test_an_attempt_under_way_ends_under_the_version_that_it_began_with_and_counts(
    main: Platform, hands: Platform
) -> None:
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    after = line("2.0.0", "a", "x", "b", variables={"fresh": {"default": 7}})
    publish(main, after)
    lease = take(hands, run, "a#1")
    planned = migrations.plan(main, run, "^2")
    assert [(move.node, move.becomes) for move in planned.steps] == [("a", "a")]
    assert not planned.migrated
    done = migrate(main, run, "^2")
    assert (done.migrated, done.version, done.to) == (True, "1.0.0", "2.0.0")
    shown = views.run(main, run)
    assert (shown.version, shown.variables) == ("2.0.0", {"fresh": 7})
    assert finish(main, hands, lease, n=1)
    for step in ("x#1", "b#1"):
        finish(main, hands, take(hands, run, step), n=1)
    assert platforms.status(main, run) == "completed"
    assert lines(main, run).count("AttemptSucceeded") == 3
    sound(main, run)


def test_a_step_of_another_name_is_carried_out_as_the_new_version_says(
    main: Platform, hands: Platform
) -> None:
    register(main, "other")
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    held = take(hands, run, "a#1")
    publish(main, {**line("2.0.0", "c", "b"), "nodes": {"c": {"uses": "other"}, "b": USES}})
    assert migrate(main, run, a="c").migrated
    # Its lease goes on: nothing of it was taken away.
    assert finish(main, hands, held)
    publish(main, {**line("3.0.0", "c", "d"), "nodes": {"c": USES, "d": {"uses": "other"}}})
    assert migrate(main, run, "3.0.0", b="d").migrated
    lease = take(hands, run, "b#1")
    assert (lease.node, lease.graph.nodes[lease.graph.start].uses) == ("d", "noop")
    assert lease.pins == {"function:noop": 1, "function:other": 1}
    finish(main, hands, lease)
    assert platforms.status(main, run) == "completed"
    sound(main, run)


LOOPED: dict[str, Json] = {
    "workflow": "w",
    "nodes": {"a": {"uses": "noop"}, "b": {"uses": "noop", "max_iterations": 4}},
    "edges": ["a -> b", {"from": "b", "to": "a", "when": "$n < 9", "label": "loop"}, "b -> end"],
    "variables": {"n": {"default": 0}},
}


def test_laps_are_counted_on(main: Platform, hands: Platform) -> None:
    run = submit(main, publish(main, {**LOOPED, "version": "1.0.0"}))
    for lap in (1, 2):
        finish(main, hands, take(hands, run, f"a#{lap}"))
        finish(main, hands, take(hands, run, f"b#{lap}"))
    publish(main, {**LOOPED, "version": "2.0.0", "limits": {"steps": 99}})
    assert migrate(main, run).migrated
    for lap in (3, 4):
        finish(main, hands, take(hands, run, f"a#{lap}"))
        finish(main, hands, take(hands, run, f"b#{lap}"))
    # Its condition would still hold: the bound has come.
    assert platforms.status(main, run) == "completed"
    sound(main, run)


FORKED: dict[str, Json] = {
    "workflow": "w",
    "version": "1.0.0",
    "nodes": dict.fromkeys(("f", "a", "b", "j"), USES),
    "edges": [
        {"from": "f", "to": ["a", "b"], "type": "parallel"},
        {"from": ["a", "b"], "to": "j", "type": "join"},
        "j -> end",
    ],
    "variables": {"seen": {"reduce": "append", "default": []}},
}


def test_threads_meet_under_the_new_version_with_what_each_has_written(
    main: Platform, hands: Platform
) -> None:
    run = submit(main, publish(main, FORKED))
    finish(main, hands, take(hands, run, "f#1"))
    finish(main, hands, take(hands, run, "a#1"), seen=["a"])
    held = take(hands, run, "b#1")
    edges = [
        {"from": "f", "to": ["a", "c"], "type": "parallel"},
        {"from": ["a", "c"], "to": "k", "type": "join"},
        "k -> z -> end",
    ]
    nodes = dict.fromkeys(("f", "a", "c", "k", "z"), USES)
    publish(main, {**FORKED, "version": "2.0.0", "nodes": nodes, "edges": edges})
    assert migrate(main, run, b="c", j="k").migrated
    assert finish(main, hands, held, seen=["c"])
    finish(main, hands, take(hands, run, "k#1"))
    finish(main, hands, take(hands, run, "z#1"))
    shown = views.run(main, run)
    assert (shown.status, shown.variables) == ("completed", {"seen": ["a", "c"]})
    sound(main, run)


def test_whoever_is_asked_answers_under_the_new_version(main: Platform, hands: Platform) -> None:
    asks: dict[str, Json] = {
        "workflow": "w",
        "version": "1.0.0",
        "nodes": {"ok": {"kind": "approval"}, "a": USES, "b": USES},
        "edges": [
            {"from": "ok", "to": "a", "label": "approve"},
            {"from": "ok", "to": "b", "label": "reject"},
            "a -> end",
            "b -> end",
        ],
    }
    run = submit(main, publish(main, asks))
    deaf = {**asks, "version": "2.0.0", "nodes": {"ok": {"kind": "timer", "for": 5}, "a": USES}}
    publish(main, {**deaf, "edges": ["ok -> a -> end"]})
    with pytest.raises(Blocked, match="another kind"):
        migrate(main, run)
    publish(main, {**asks, "version": "3.0.0", "limits": {"steps": 9}})
    assert migrate(main, run, "3.0.0").migrated
    answers.answer(main, run, "ok#1", by="ada", choice="approve")
    turns.take_turns(main, [run])
    finish(main, hands, take(hands, run, "a#1"))
    assert platforms.status(main, run) == "completed"
    sound(main, run)


def test_what_is_pinned_follows_the_new_version(main: Platform, hands: Platform) -> None:
    first = publish(main, line("1.0.0", "a", workflow="part"))
    nodes: dict[str, Json] = {"a": USES, "p": {"kind": "workflow", "workflow": "part@^1"}}
    parent: dict[str, Json] = {
        "workflow": "w",
        "version": "1.0.0",
        "nodes": nodes,
        "edges": ["a -> p -> end"],
    }
    run = submit(main, publish(main, parent))
    second = publish(main, line("1.1.0", "b", workflow="part"))
    publish(main, {**parent, "version": "2.0.0", "limits": {"steps": 9}})
    planned = migrations.plan(main, run, "2.0.0")
    assert planned.pins == {"workflow:part@^1": second}
    assert views.run(main, run).pins["workflow:part@^1"] == first
    assert migrate(main, run).migrated
    with pytest.raises(Blocked):
        retirement.retire(main, TENANT, "part", "1.1.0", by="ada")
    finish(main, hands, take(hands, run, "a#1"))
    (child,) = views.runs(main, TENANT, parent=run)
    assert child.version == "1.1.0"
    started = RunId(TENANT, child.id)
    turns.take_turns(main, [started])
    finish(main, hands, take(hands, started, "b#1"))
    turns.take_turns(main, [run])
    assert platforms.status(main, run) == "completed"
    sound(main, run)


def test_a_paused_run_is_moved_and_goes_on_when_it_is_resumed(
    main: Platform, hands: Platform
) -> None:
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    lease = take(hands, run, "a#1")
    control.pause(main, run, by="ada")
    finish(main, hands, lease)
    publish(main, line("2.0.0", "a", "b", "c"))
    assert migrate(main, run).migrated
    assert platforms.status(main, run) == "paused"
    control.resume(main, run, by="ada")
    finish(main, hands, take(hands, run, "b#1"))
    finish(main, hands, take(hands, run, "c#1"))
    assert platforms.status(main, run) == "completed"
    sound(main, run)


def test_reports_and_requests_that_wait_together_are_heard_one_after_the_other(
    main: Platform, hands: Platform
) -> None:
    run = submit(main, publish(main, line("1.0.0", "a", "b")))
    lease = take(hands, run, "a#1")
    publish(main, line("2.0.0", "a", "b", "c"))
    planned = migrations.plan(main, run, "2.0.0")
    # The report lies in the inbox when the request comes to lie behind it.
    attempts.report(hands, "w1", [(lease, Succeeded(patch={"n": 1}))])
    assert planned.problems == ()
    assert migrate(main, run).migrated
    finish(main, hands, take(hands, run, "b#1"))
    finish(main, hands, take(hands, run, "c#1"))
    assert platforms.status(main, run) == "completed"
    sound(main, run)


# --- looking at them -------------------------------------------------------------------------------


def test_the_record_of_a_run_that_was_moved_is_read_by_the_versions_that_it_was_under(
    main: Platform, hands: Platform
) -> None:
    run = submit(main, publish(main, line("1.0.0", "old", "a", "b")))
    finish(main, hands, take(hands, run, "old#1"))
    finish(main, hands, take(hands, run, "a#1"))
    before = views.run(main, run).seq
    publish(main, line("2.0.0", "a2", "c", "d"))
    assert migrate(main, run, b="c").migrated
    moved = views.run(main, run).seq
    shown = executions.page(main, run)
    assert all(f":{node}:1" in str(shown.items) for node in ("old", "a", "b"))
    lease = take(hands, run, "b#1")
    led = executions.previous(hands, lease.step, lease.graph, lease.version)
    assert ":a:1" in str(led)
    assert explanations.explain(main, run).waits[0].node == "c"
    for notation in diagrams.NOTATIONS:
        assert diagrams.of_run(main, run, notation)
    fork = forks.fork(main, run, before, Edits(), by="ada").run
    turns.take_turns(main, [fork])
    assert views.run(main, fork).version == "1.0.0"
    finish(main, hands, take(hands, fork, "b#1"))
    assert platforms.status(main, fork) == "completed"
    later = forks.fork(main, run, moved, Edits(), by="ada").run
    turns.take_turns(main, [later])
    assert views.run(main, later).version == "2.0.0"
    finish(main, hands, take(hands, later, "b#1"))
    finish(main, hands, take(hands, later, "d#1"))
    assert platforms.status(main, later) == "completed"
    finish(main, hands, lease)
    finish(main, hands, take(hands, run, "d#1"))
    for each in (run, fork, later):
        sound(main, each)
    tried = backtests.of_version(main, TENANT, "w", "1.0.0", backtests.Filter(ids=(run.run,)))
    assert len(tried.runs) == 1
    again = restarts.restart(main, run, "a#1", Edits(), by="ada").run
    turns.take_turns(main, [again])
    assert views.run(main, again).version == "1.0.0"


# --- many ------------------------------------------------------------------------------------------


def test_many_are_moved_each_for_itself(main: Platform, hands: Platform) -> None:
    version = publish(main, line("1.0.0", "a", "b"))
    runs = [submit(main, version) for _ in range(3)]
    queued = launch.submit(main, TENANT, version, {}, by="ada").run
    finish(main, hands, take(hands, runs[0], "a#1"))
    publish(main, line("2.0.0", "a", "c"))
    which = Filter(workflow="w")

    def act(**more: Any) -> dict[str, Outcome]:
        moved = Migration(to="2.0.0", **more)
        acted = bulk.act(main, TENANT, Action.MIGRATE, which, by="ada", migration=moved)
        return {answer.run: answer.outcome for answer in acted.answers}

    asked = act(dry_run=True)
    assert asked[runs[0].run] is Outcome.REFUSED
    assert asked[runs[1].run] is Outcome.WOULD
    done = act()
    assert done == {
        runs[0].run: Outcome.REFUSED,
        runs[1].run: Outcome.DONE,
        runs[2].run: Outcome.DONE,
        queued.run: Outcome.DONE,
    }
    for run in (*runs, queued):
        sound(main, run)


@pytest.mark.parametrize("action", [Action.MIGRATE, Action.PAUSE])
def test_many_are_told_where_to_if_they_shall_go_there(main: Platform, action: Action) -> None:
    migration = None if action is Action.MIGRATE else Migration(to="2.0.0")
    with pytest.raises(Invalid) as refused:
        bulk.act(main, TENANT, action, Filter(workflow="w"), by="ada", migration=migration)
    assert [problem.path for problem in refused.value.problems] == ["migration"]


def test_a_run_of_the_platforms_own_stays(main: Platform) -> None:
    begun = sessions.begin(main, TENANT, "s", by="ada")
    run = RunId(TENANT, story.run_of(begun.workflow_id))
    with pytest.raises(Invalid, match="platform's own"):
        migrate(main, run, "latest")


def test_a_lock_that_is_given_back_in_the_same_turn_is_everybodys_again(
    main: Platform, hands: Platform
) -> None:
    locked: dict[str, Json] = {"uses": "noop", "lock": {"name": "desk", "of": "tenant"}}
    first = {**line("1.0.0", "a", "b"), "nodes": {"a": locked, "b": USES}}
    version = publish(main, first)
    run, other = submit(main, version), submit(main, version)
    lease = take(hands, run, "a#1")
    publish(main, line("2.0.0", "a", "b"))
    with pytest.raises(Blocked, match="holds the lock"):
        migrate(main, run)
    attempts.report(hands, "w1", [(lease, Succeeded(patch={}))])
    # The report is heard before the request that lies behind it.
    with session.transaction(main.database) as connection:
        event = msg.MigrateRequested(
            at=codec.UNTIMED,
            by="ada",
            request="r",
            version=catalogue.find(main, TENANT, "w", "2.0.0").id,
            pins={"function:noop": 1},
        )
        inbox.put(connection, [letters.letter(run, event)])
    turns.take_turns(main, [run])
    assert views.run(main, run).version == "2.0.0"
    turns.take_turns(main, [other])
    finish(main, hands, take(hands, other, "a#1"))
    sound(main, run)
