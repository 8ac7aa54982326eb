"""Large values, from user code to blob and back, on a real database and a real folder."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy import event
from sqlalchemy import text as text_of

from engine.blobs import Blobs
from engine.core.values import INLINE_BYTES, Inline, Json, Ref, canonical, plain
from engine.errors import Damaged, NotFound, OutOfReach
from engine.keys import Key, Ring
from engine.platform import DatabaseRole
from engine.runs import attempts, calls, doctor, large, launch, sweep, turns, upkeep, views
from engine.runs.attempts import Failed, Succeeded
from engine.settings import Settings
from engine.store import blobs as rows
from engine.store import session
from tests.support import platforms
from tests.support.hands import beside, carry_out
from tests.support.objects import s3 as s3_of
from tests.support.platforms import (
    LINE,
    TENANT,
    Sent,
    as_owner,
    chain,
    finish,
    publish,
    register,
    sql,
    submit,
    take,
    wake,
)


class Watched(Blobs):
    """Blobs that tell what they are asked for, and may be held up in it."""

    def __init__(self, settings: Settings, *, deleting: Callable[[], None] = lambda: None) -> None:
        super().__init__(settings.blob_url, settings.blob_keys)
        self.written: list[str] = []
        self.read: list[str] = []
        self._deleting = deleting

    def put(self, tenant: str, sha256: str, data: bytes) -> None:
        super().put(tenant, sha256, data)
        self.written.append(sha256)

    def get(self, tenant: str, sha256: str) -> bytes:
        self.read.append(sha256)
        return super().get(tenant, sha256)

    def delete(self, tenant: str, sha256: str) -> None:
        self._deleting()
        super().delete(tenant, sha256)


@pytest.fixture
def watched(settings):
    return Watched(settings)


@pytest.fixture
def hand(worker, watched):
    """The platform of a worker that reports by hand."""
    return replace(worker.platform, blobs=watched)


def folder(settings: Settings):
    """Where the objects lie."""
    return Path(unquote(urlsplit(settings.blob_url).path))


def text(count: int) -> str:
    """A text that takes so many bytes as JSON."""
    return "x" * (count - 2)


def report(main, hand, lease, outcome) -> bool:
    """Report as a worker does."""
    return finish(main, hand, lease, attempts.moved_out(hand, lease, outcome))


def age(settings: Settings) -> None:
    """As if nobody had touched a blob for a day."""
    as_owner(settings, "UPDATE blob SET touched_at = touched_at - interval '25 hours'")


def states(main) -> list[str]:
    return sorted(row.state for row in sql(main, "SELECT state FROM blob"))


def objects(settings: Settings) -> int:
    return sum(1 for place in folder(settings).rglob("*") if place.is_file())


# --- what is large --------------------------------------------------------------------------


def test_a_result_of_one_mebibyte_is_inline_and_one_byte_more_is_a_blob(main, hand, settings):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    exact, more = text(INLINE_BYTES), text(INLINE_BYTES + 1)
    assert report(main, hand, take(hand, run, "a#1"), Succeeded(result=exact))
    assert sql(main, "SELECT FROM blob") == []
    assert report(main, hand, take(hand, run, "b#1"), Succeeded(result=more))
    assert views.output(main, run, "a#1") == Inline(value=exact)
    digest = hashlib.sha256(f'"{more}"'.encode()).hexdigest()
    assert views.output(main, run, "b#1") == Ref(sha256=digest, size=INLINE_BYTES + 1)
    assert [views.result(main, run, key).result for key in ("a#1", "b#1")] == [exact, more]
    (small,) = sql(main, "SELECT length(body::text) AS size FROM payload WHERE id = 'b#1/1'")
    assert small.size < 200
    assert b"xxxx" not in next(folder(settings).rglob(digest)).read_bytes()
    assert doctor.examine(main.database, main.blobs) == ()


def test_bytes_count_and_not_characters(main, hand):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    assert report(main, hand, take(hand, run, "a#1"), Succeeded(result="é" * (INLINE_BYTES // 2)))
    assert isinstance(views.output(main, run, "a#1"), Ref)


def test_the_largest_variables_go_first_and_what_went_is_read_like_any_other(main, hand):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    patch: dict[str, Json] = {"big": text(200_000), "mid": text(100_000), "n": 1}
    assert report(main, hand, take(hand, run, "a#1"), Succeeded(patch=patch))
    (stored,) = sql(main, "SELECT variables FROM run")
    assert stored.variables["mid"] == patch["mid"]
    assert stored.variables["big"].keys() == {"$blob", "size"}
    assert views.run(main, run).variables == patch
    after = take(hand, run, "b#1")
    assert after.variables["n"] == 1
    assert hand.blobs.read == []
    assert after.variables["big"] == after.variables["big"] == patch["big"]
    assert len(hand.blobs.read) == 1


def test_inputs_that_do_not_fit_are_kept_as_blobs(main, hand):
    register(main, "noop")
    given: dict[str, Json] = {"long": text(300_000), "n": 1}
    run = submit(main, publish(main, LINE), **given)
    assert views.inputs(main, run) == views.run(main, run).variables == given
    (row,) = sql(main, "SELECT length(variables::text) AS size FROM run")
    assert row.size < 200
    assert take(hand, run, "a#1").variables["long"] == given["long"]
    assert doctor.examine(main.database, main.blobs) == ()


def test_an_idempotent_submission_keeps_nothing_twice(main, watched):
    register(main, "noop")
    control, version = replace(main, blobs=watched), publish(main, LINE)
    inputs: dict[str, Json] = {"long": text(300_000)}
    first, again = (
        launch.submit(control, TENANT, version, inputs, by="ada", idempotency_key="k")
        for _ in range(2)
    )
    assert (again.run, again.replayed) == (first.run, True)
    assert len(watched.written) == 1


def test_contributions_that_do_not_fit_fail_for_good(main, hand):
    register(main, "noop")
    document = {**LINE, "variables": {"log": {"reduce": "append"}}}
    run = submit(main, publish(main, document))
    lease = take(hand, run, "a#1")
    outcome = attempts.moved_out(hand, lease, Succeeded(patch={"log": text(300_000)}))
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.terminal) == ("variables_too_large", True)
    assert hand.blobs.written == []


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Succeeded(result=text(2_000_001)), "result_too_large"),
        (Succeeded(patch={"x": text(2_000_001)}), "variables_too_large"),
    ],
)
def test_no_value_is_larger_than_the_operator_allows(main, hand, outcome, reason):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    tight = replace(hand, settings=replace(hand.settings, value_bytes=2_000_000))
    assert report(main, tight, take(tight, run, "a#1"), outcome)
    ended = views.run(main, run)
    assert (ended.status, ended.reason) == ("failed", reason)
    assert "CELERIAC_VALUE_BYTES" in (ended.message or "")
    assert hand.blobs.written == []


def test_a_call_keeps_its_arguments_and_its_value_like_any_other(main, hand):
    register(main, "noop")
    register(main, "lookup", namespace="tool")
    run = submit(main, publish(main, LINE))
    lease = take(hand, run, "a#1")
    arguments: Json = {"args": [text(1_100_000)], "kwargs": {}}
    value: Json = {"found": text(1_200_000)}
    call = calls.authorise(hand, lease, 1, "lookup", arguments)
    assert isinstance(call, calls.Authorised)
    calls.settle(hand, lease, call, calls.Answer(value=value))
    assert calls.authorise(hand, lease, 1, "lookup", arguments) == calls.Recorded(value=value)
    (call,) = views.calls(main, run)
    assert (call.arguments, call.value) == (arguments, value)
    (row,) = sql(
        main,
        "SELECT length(c.arguments::text) + length(x.value::text) AS size"
        " FROM call c JOIN call_result x USING (run_id, step, ordinal)",
    )
    assert row.size < 300
    assert doctor.examine(main.database, main.blobs) == ()


# --- user code and conditions -----------------------------------------------------------------


def test_a_million_characters_pass_from_code_to_code_and_through_templates(main, worker):
    register(main, "write", "def write(state):\n    state['text'] = 'x' * 1_000_000")
    register(main, "look", "def look(state):\n    return {'n': len(state['text'])}")
    register(main, "echo", "def echo(given):\n    return len(given['copy'])", namespace="tool")
    nodes = {
        "a": {"uses": "write"},
        "b": {"uses": "look"},
        "c": {
            "kind": "tool",
            "tool": "echo",
            "with": {"given": {"copy": "$text"}},
            "save": {"m": "$result", "other": {"again": "$text"}},
        },
    }
    run = submit(main, publish(main, chain(**nodes)))
    ended = carry_out(main, worker, run)
    assert ended.status == "completed", ended.message
    assert (ended.variables["n"], ended.variables["m"]) == (1_000_000, 1_000_000)
    assert ended.variables["other"] == {"again": "x" * 1_000_000}
    (row,) = sql(main, "SELECT length(variables::text) AS size FROM run")
    assert row.size < 1000
    assert doctor.examine(main.database, main.blobs) == ()


def conditional(main) -> str:
    register(main, "noop")
    document = {
        "workflow": "conditional",
        "nodes": {name: {"uses": "noop"} for name in "abc"},
        "edges": [
            {"from": "a", "to": "b", "when": "$doc.good and $result.ok"},
            "a -> c",
            "b -> end",
            "c -> end",
        ],
    }
    return publish(main, document)


def test_a_condition_reads_what_it_names(main, hand, watched):
    control = replace(main, blobs=watched)
    run = submit(control, conditional(main))
    patch: dict[str, Json] = {
        "doc": {"good": True, "text": text(300_000)},
        "other": text(1_000_000),
    }
    result: Json = {"ok": True, "text": text(1_100_000)}
    assert report(control, hand, take(hand, run, "a#1"), Succeeded(patch=patch, result=result))
    assert [step.key for step in views.steps(main, run)] == ["a#1", "b#1"]
    assert len(watched.read) == 2
    (routed,) = [
        line.body for line in views.history(main, run, limit=1000) if line.kind == "TakeEdges"
    ]
    assert routed["taken"][0]["saw"] == {"$doc.good": True, "$result.ok": True}
    (row,) = sql(main, "SELECT length(head::text) + length(variables::text) AS size FROM run")
    assert row.size < 1000
    assert doctor.examine(main.database, main.blobs) == ()


def test_a_value_that_cannot_be_read_sets_its_run_aside_and_no_other(main, hand, settings):
    version = conditional(main)
    one, other = submit(main, version), submit(main, version)
    patch: dict[str, Json] = {"doc": {"good": True, "text": text(300_000)}}
    for run, outcome in ((one, Succeeded(patch=patch)), (other, Succeeded())):
        lease = take(hand, run, "a#1")
        attempts.report(hand, "w1", [(lease, attempts.moved_out(hand, lease, outcome))])
    keyless = replace(
        main, blobs=Blobs(settings.blob_url, Ring(keys=(Key(id="x", secret=b"k" * 32),)))
    )
    turns.take_turns(keyless, [one, other])
    assert "sealed with the key 'test'" in (views.run(main, one).stuck_error or "")
    assert [step.key for step in views.steps(main, other)] == ["a#1", "c#1"]
    turns.take_turns(main, [one], force=True)
    assert [step.key for step in views.steps(main, one)] == ["a#1", "c#1"]
    assert views.run(main, one).stuck_error is None


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_report_while_the_objects_are_out_of_reach_is_lost_and_made_again(main, worker, settings):
    register(main, "f", f"def f(state):\n    return 'x' * {INLINE_BYTES}")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    shutil.rmtree(folder(settings), ignore_errors=True)
    folder(settings).write_text("in the way")
    hasty = replace(worker.platform.settings, lease_seconds=0.2)
    away = replace(worker, platform=replace(worker.platform, settings=hasty))
    assert carry_out(main, away, run).status == "running"
    before = views.attempts(main, run)
    assert {attempt.reason for attempt in before} == {"lost"}
    assert "cannot write blob" in (before[0].message or "")
    folder(settings).unlink()
    wake(settings)
    sweep.sweep(main)
    ended = carry_out(main, worker, run)
    assert ended.status == "completed"
    assert views.attempts(main, run)[-1].outcome == "succeeded"
    assert len(views.attempts(main, run)) == len(before) + 1
    assert doctor.examine(main.database, main.blobs) == ()


def test_a_value_that_was_changed_on_the_disk_fails_its_step_for_good(main, worker, settings):
    register(main, "f", "def f(state):\n    return len(state['long'])")
    run = submit(main, publish(main, chain(a={"uses": "f"})), long=text(300_000))
    (found,) = (place for place in folder(settings).rglob("*") if place.is_file())
    found.write_bytes(found.read_bytes()[:-1])
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "damaged")
    assert found.name in (ended.message or "")
    ref = Ref(sha256=found.name, size=300_000)
    with pytest.raises(Damaged, match=found.name):
        large.read(main, TENANT, ref)
    shown = ended.variables["long"]
    assert shown == {**plain(ref), "why": shown["why"]}
    assert "damaged" in shown["why"] or "cut short" in shown["why"]


def test_a_doubled_report_writes_nothing_twice(main, hand):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    lease = take(hand, run, "a#1")
    outcome = Succeeded(result=text(1_100_000), patch={"x": text(300_000)})
    assert report(main, hand, lease, outcome)
    assert not report(main, hand, lease, outcome)
    assert len(hand.blobs.written) == 2
    assert sql(main, "SELECT count(*) AS n FROM blob_reference")[0].n == 2


def test_a_refused_report_leaves_no_reference(main, hand, settings):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    stale = take(hand, run, "a#1")
    platforms.lose_leases(settings)
    sweep.sweep(main)
    assert not report(main, hand, stale, Succeeded(result=text(1_100_000)))
    assert sql(main, "SELECT FROM blob_reference") == []
    age(settings)
    assert large.collect(main) == 1
    assert objects(settings) == 0


def test_a_writer_that_died_before_it_wrote_is_made_up_for(main, hand):
    value = text(1_100_000)
    data = canonical(value).encode()
    with session.transaction(hand.database) as connection:
        assert not rows.touch(connection, TENANT, hashlib.sha256(data).hexdigest(), len(data))
    assert states(main) == ["wanted"]
    ref = large.keep(hand, TENANT, value)
    assert large.read(main, TENANT, ref) == value
    assert states(main) == ["stored"]


def test_nothing_refers_to_what_is_not_stored(main, hand):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    lease = take(hand, run, "a#1")
    forged = Succeeded(patch={"x": plain(Ref(sha256="ab" * 32, size=300_000))})
    with pytest.raises(OutOfReach, match="not kept any more"):
        attempts.report(hand, "w1", [(lease, forged)])
    assert sql(main, "SELECT FROM result") == []


def test_a_bucket_that_goes_away_and_comes_back_loses_no_run(settings, tmp_path, monkeypatch):
    with s3_of(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        distant = replace(settings, blob_url=server.url)
        with (
            platforms.platform(distant) as built,
            platforms.platform(distant, DatabaseRole.WORKER) as hand,
        ):
            main = replace(built, broker=Sent(app=built.broker.app))
            run = submit(main, conditional(main))
            lease = take(hand, run, "a#1")
            outcome = Succeeded(patch={"doc": {"good": False, "text": text(300_000)}})
            server.end()
            with pytest.raises(OutOfReach, match="does not answer"):
                attempts.moved_out(hand, lease, outcome)
            assert states(main) == ["wanted"]
            server.start()
            assert report(main, hand, lease, outcome)
            assert [step.key for step in views.steps(main, run)] == ["a#1", "c#1"]
            assert views.run(main, run).variables == outcome.patch
            assert doctor.examine(main.database, main.blobs) == ()
            age(settings)
            assert large.collect(main) == 0


# --- collection -----------------------------------------------------------------------------


def test_what_a_run_refers_to_is_kept_and_what_nobody_does_is_taken_after_a_day(
    main, hand, settings
):
    register(main, "noop")
    submit(main, publish(main, LINE), long=text(300_000))
    left = large.keep(hand, TENANT, text(1_100_000))
    assert large.collect(main) == 0
    assert objects(settings) == 2
    age(settings)
    assert large.collect(main) == 1
    assert objects(settings) == 1
    with pytest.raises(NotFound):
        large.stream(main, TENANT, left.sha256)
    assert large.read(main, TENANT, large.keep(hand, TENANT, text(1_100_000))) == text(1_100_000)
    assert doctor.examine(main.database, main.blobs) == ()


def test_who_touches_a_marked_blob_keeps_it(main, hand, settings):
    value = text(1_100_000)
    large.keep(hand, TENANT, value)
    age(settings)
    with session.transaction(main.database) as connection:
        assert rows.condemn(connection, older_than=large.UNTOUCHED, limit=10) == 1
    assert states(main) == ["condemned"]
    large.keep(hand, TENANT, value)
    assert states(main) == ["stored"]
    assert large.collect(main) == 0
    assert objects(settings) == 1


def test_a_writer_waits_for_the_collector_and_writes_anew(main, hand, settings):
    value = text(1_100_000)
    ref = large.keep(hand, TENANT, value)
    age(settings)
    inside, go = threading.Event(), threading.Event()

    def deleting() -> None:
        inside.set()
        assert go.wait(30)

    collecting = replace(main, blobs=Watched(settings, deleting=deleting))
    with beside(large.collect, collecting):
        assert inside.wait(30)
        with beside(large.keep, hand, TENANT, value):
            await_lock(settings)
            go.set()
    assert hand.blobs.written == [ref.sha256, ref.sha256]
    assert states(main) == ["stored"]
    assert large.read(main, TENANT, ref) == value


def test_the_collector_passes_over_what_is_just_being_referred_to(main, hand, settings):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    ref = large.keep(hand, TENANT, text(1_100_000))
    age(settings)
    with session.transaction(main.database) as connection:
        rows.condemn(connection, older_than=large.UNTOUCHED, limit=10)
    as_owner(settings, "UPDATE blob SET state = 'stored'")
    with session.transaction(hand.database) as connection:
        large.refer(connection, run, {"x": plain(ref)})
        assert large.collect(main) == 0
    assert large.collect(main) == 0
    assert objects(settings) == 1


def test_a_reference_made_while_a_blob_was_being_marked_saves_it(main, hand, settings):
    register(main, "noop")
    run = submit(main, publish(main, LINE))
    ref = large.keep(hand, TENANT, text(1_100_000))
    with session.transaction(hand.database) as connection:
        large.refer(connection, run, {"x": plain(ref)})
    age(settings)
    as_owner(settings, "UPDATE blob SET state = 'condemned'")
    large.collect(main)
    assert states(main) == ["stored"]
    assert objects(settings) == 1


def test_a_collector_that_dies_on_the_way_is_made_up_for(main, hand, settings):
    large.keep(hand, TENANT, text(1_100_000))
    age(settings)

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        large.collect(replace(main, blobs=Watched(settings, deleting=die)))
    assert states(main) == ["condemned"]
    shutil.rmtree(folder(settings))
    assert large.collect(main) == 1
    assert states(main) == []


def test_upkeep_goes_on_while_the_objects_are_out_of_reach(main, hand, settings):
    large.keep(hand, TENANT, text(1_100_000))
    age(settings)

    def away() -> None:
        raise OutOfReach("away")

    upkeep.upkeep(replace(main, blobs=Watched(settings, deleting=away)))
    assert states(main) == ["condemned"]
    upkeep.upkeep(main)
    assert states(main) == []


# --- what it costs ------------------------------------------------------------------------------


def test_a_run_without_large_values_says_nothing_of_blobs(main, worker):
    register(main, "f", "def f(state):\n    return {'n': 1}")
    said: list[str] = []

    def heard(_connection, _cursor, statement, *_more) -> None:
        said.append(statement)

    for platform in (main, worker.platform):
        event.listen(platform.database, "before_cursor_execute", heard)
    run = submit(main, publish(main, chain(a={"uses": "f"})), x=1)
    assert carry_out(main, worker, run).status == "completed"
    assert said
    assert not [statement for statement in said if "blob" in statement]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_result_of_200_megabytes(main, worker):
    register(main, "f", "def f(state):\n    return {'big': 'x' * 200_000_000}")
    node = {"uses": "f", "timeout": 120, "save": {"n": 1}}
    run = submit(main, publish(main, chain(a=node)))
    settings = replace(worker.platform.settings, sandbox_bytes=1024 * 1024 * 1024)
    roomy = replace(worker, platform=replace(worker.platform, settings=settings))
    ended = carry_out(main, roomy, run)
    assert ended.status == "completed", ended.message
    found = views.output(main, run, "a#1")
    assert isinstance(found, Ref)
    assert found.size == 200_000_000 + len('{"big":""}')
    digest = hashlib.sha256()
    for piece in large.stream(main, TENANT, found.sha256).pieces:
        digest.update(piece)
    assert digest.hexdigest() == found.sha256
    assert len(views.result(main, run, "a#1").result["big"]) == 200_000_000


def await_lock(settings: Settings) -> None:
    """Wait until somebody waits for the row of a blob."""
    owner = session.connect(settings.database_url or "")
    waiting = text_of(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND query LIKE '%blob_touch%'"
    )
    deadline = time.monotonic() + 30
    while True:
        with session.transaction(owner) as connection:
            if connection.execute(waiting).scalar_one():
                break
        assert time.monotonic() < deadline
        time.sleep(0.01)
    owner.dispose()
