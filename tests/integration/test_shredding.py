"""Users' data leaves ended runs, and everything else still holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import uuid4

import pytest

from engine import signing
from engine.core.values import Json
from engine.errors import Conflict, NotFound
from engine.platform import Platform
from engine.runs import (
    answers,
    approvals,
    attempts,
    calls,
    control,
    doctor,
    events,
    launch,
    logs,
    sealing,
    shredding,
    turns,
    verification,
    views,
)
from engine.runs.attempts import Succeeded
from engine.settings import Settings
from engine.signing import SigningKeys
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import TENANT, finish, publish, register, submit, take
from workers.execution import Worker

SECRET = "canary-7f3a"
SHREDDED: Mapping[str, Json] = {"$shredded": True}
WORKFLOW: dict[str, Json] = {
    "workflow": "told",
    "nodes": {
        "a": {"uses": "noop"},
        "ask": {
            "kind": "input",
            "show": "$mine",
            "form": {"x": {"type": "string"}},
            "save": {"answer": "$result.x"},
        },
        "paid": {"kind": "event", "name": "paid", "save": {"paid": "$result"}},
        "each": {"kind": "map", "over": "$list", "do": "noop"},
        "b": {"uses": "noop"},
    },
    "outputs": {"last": "$mine"},
    "edges": ["a -> ask -> paid -> each -> b -> end"],
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, audit_keys=SigningKeys(keys=(signing.generate("test"),)))


@pytest.fixture
def told(main: Platform, worker: Worker, sound: None) -> RunId:
    """A run that has ended, full of what must not be kept, and nowhere else."""
    register(main, "noop")
    register(main, "lookup", namespace="tool")
    run = submit(main, publish(main, WORKFLOW), mine=SECRET, list=[SECRET])
    first = take(worker.platform, run, "a#1")
    call = calls.authorise(worker.platform, first, 1, "lookup", {"q": SECRET})
    assert isinstance(call, calls.Authorised)
    calls.settle(worker.platform, first, call, calls.Answer(value=[SECRET]))
    log = logs.Log(worker.platform, first)
    log.add("stdout", SECRET)
    log.flush()
    big = attempts.moved_out(worker.platform, first, Succeeded(result=SECRET * 100_000))
    finish(main, worker.platform, first, big)
    answers.answer(main, run, "ask#1", by="ada", roles=["admin"], form={"x": SECRET}, reason=SECRET)
    _, claimed = events.send(main, TENANT, "paid", {"card": SECRET}, by="ada")
    turns.take_turns(main, claimed)
    finish(main, worker.platform, take(worker.platform, run, "each#1.0"), Succeeded(result=SECRET))
    finish(main, worker.platform, take(worker.platform, run, "each#1"), Succeeded(result=[SECRET]))
    last = take(worker.platform, run, "b#1")
    finish(main, worker.platform, last, Succeeded(result=SECRET, patch={"mine": SECRET}))
    assert views.status(main, run).status == "completed"
    sealing.seal(main)
    return run


def found(main: Platform) -> set[str]:
    """The tables in which the secret can still be read."""
    tables = platforms.sql(
        main,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'",
    )
    return {
        row.relname
        for row in tables
        if platforms.seen_by_owner(
            main.settings,
            f"SELECT FROM {row.relname} x WHERE strpos(x::text, :secret) > 0 LIMIT 1",
            secret=SECRET,
        )
    }


def test_nothing_of_it_can_be_read_and_all_of_it_verifies(main: Platform, told: RunId) -> None:
    before = views.history(main, told, limit=500)
    references = len(platforms.sql(main, "SELECT FROM blob_reference"))
    kept = {"payload", "run", "call", "call_result", "log", "event", "question", "answer"}
    assert kept <= found(main)
    assert references
    assert shredding.shred(main, told, by="ada", why="asked to") > 5
    assert found(main) == set()
    assert platforms.sql(main, "SELECT FROM blob_reference") == []
    assert views.history(main, told, limit=500) == before
    assert doctor.examine(main.database) == ()
    report = verification.verify(main, TENANT)
    assert report.faults == []
    assert report.shredded > 5
    sealing.seal(main)
    assert verification.verify(main, TENANT).faults == []


def test_whoever_reads_is_shown_that_it_was_shredded(main: Platform, told: RunId) -> None:
    shredding.shred(main, told, by="ada", why="asked to")
    assert views.inputs(main, told) == SHREDDED
    result = views.result(main, told, "b#1")
    assert result is not None
    assert (result.result, result.patch) == (SHREDDED, {})
    detail = views.run(main, told)
    assert detail.outputs == SHREDDED
    assert detail.variables == SHREDDED
    (call,) = views.calls(main, told)
    assert (call.arguments, call.value) == (SHREDDED, SHREDDED)
    assert views.logs(main, told) == ()
    (asked,) = approvals.of_step(main, told, "ask#1")
    assert (asked.show, asked.answers[0].form, asked.answers[0].reason) == (SHREDDED, SHREDDED, "")
    lines = views.history(main, told, limit=500, payloads=True)
    assert lines[0].payload == {"inputs": SHREDDED}
    assert views.state_at(main, told, lines[-1].seq).variables["$shredded"] is True


def test_the_act_says_who_and_why_and_doing_it_again_finds_nothing(
    main: Platform, told: RunId
) -> None:
    count = shredding.shred(main, told, by="ada", why="asked to")
    assert shredding.shred(main, told, by="ada", why="once more") == 0
    rows = platforms.sql(
        main,
        "SELECT by, subject, why, detail FROM admin_act WHERE action = 'run.shred' ORDER BY id",
    )
    assert [tuple(row) for row in rows] == [
        ("ada", f"run:{told.run}", "asked to", {"step": None, "payloads": count}),
        ("ada", f"run:{told.run}", "once more", {"step": None, "payloads": 0}),
    ]


def test_one_step_is_shredded_and_the_others_stay(main: Platform, told: RunId) -> None:
    assert shredding.shred(main, told, step="ask#1", by="ada", why="asked to") > 0
    assert views.result(main, told, "ask#1").result == SHREDDED  # type: ignore[union-attr]
    assert views.inputs(main, told)["mine"] == SECRET
    assert views.result(main, told, "b#1").result == SECRET  # type: ignore[union-attr]
    assert SECRET not in str(views.run(main, told).variables.get("answer"))
    assert doctor.examine(main.database) == ()
    assert verification.verify(main, TENANT).faults == []


def test_what_goes_on_is_not_shredded(main: Platform, worker: Worker) -> None:
    register(main, "noop")
    run = submit(main, publish(main, {**WORKFLOW}), mine=1, list=[])
    with pytest.raises(Conflict, match="only what has ended"):
        shredding.shred(main, run, by="ada", why="x")
    with pytest.raises(NotFound):
        shredding.shred(main, RunId(TENANT, str(uuid4())), by="ada", why="x")
    with pytest.raises(NotFound):
        shredding.shred(main, RunId("other", run.run), by="ada", why="x")
    control.cancel(main, run, by="ada")
    with pytest.raises(NotFound):
        shredding.shred(main, run, step="nothing#1", by="ada", why="x")
    assert platforms.sql(main, "SELECT FROM admin_act WHERE action = 'run.shred'") == []
    launch.submit(main, TENANT, views.run(main, run).version_id, {"mine": 1, "list": []}, by="ada")


def test_what_no_act_has_shredded_is_found_beside_what_one_has(
    main: Platform, settings: Settings, told: RunId
) -> None:
    shredding.shred(main, told, step="ask#1", by="ada", why="asked to")
    assert verification.verify(main, TENANT).faults == []
    platforms.as_owner(
        settings,
        "UPDATE payload SET body = '{}', salt = '', shredded_at = now() WHERE id = 'b#1/1'",
    )
    (fault,) = verification.verify(main, TENANT).faults
    assert (fault.table, fault.run) == ("payload", told.run)
