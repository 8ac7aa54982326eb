"""Queues that no tenant has to himself, and that hold what is ready and no more."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import redis

from engine import lanes
from engine.broker import BUSY, COORDINATE, STEPS, connect
from engine.core.values import Json
from engine.platform import DatabaseRole
from engine.runs import attempts, launch, sweep, tenants, turns
from engine.store.ids import RunId, StepId
from tests.support import platforms
from tests.support.plans import noted, plans
from tests.support.platforms import LINE, TENANT, Sent, as_owner, publish, register, sql, submit

QUIET, LATE = "quiet", "late"
MANY = 30
WIDE = {
    "workflow": "wide",
    "inputs": {"items": {"type": "array"}},
    "nodes": {"all": {"kind": "map", "over": "$items", "do": "noop", "at_once": 1000}},
    "edges": ["all -> end"],
}
PATIENT = {
    "workflow": "patient",
    "nodes": {"ask": {"kind": "approval", "title": "Well?", "from": ["role:admin"]}},
    "edges": ["ask -> end"],
}


@pytest.fixture
def main(settings):
    with platforms.platform(settings) as built:
        for tenant in (QUIET, LATE):
            tenants.create(built.database, tenant, name=tenant, admin="ada")
        for tenant in (TENANT, QUIET, LATE):
            register(built, "noop", tenant=tenant)
        yield replace(built, broker=Sent(app=built.broker.app))


@pytest.fixture
def worker(settings):
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


@pytest.fixture
def sending(main, settings):
    """The same, with a broker that sends, and that broker's server."""
    broker = connect(settings)
    client = redis.Redis.from_url(settings.redis_url)
    yield replace(main, broker=broker), client
    client.close()
    broker.close()


def one(main, tenant: str, document: Json = LINE, **inputs: Json) -> StepId:
    """A run of a tenant, after its first turn; its first step."""
    version = publish(main, document, tenant=tenant)
    run = launch.submit(main, tenant, version, inputs, by="ada").run
    turns.take_turns(main, [run])
    return StepId(*run, "a#1")


def lane_of(main, step: StepId) -> int:
    (row,) = sql(main, "SELECT lane FROM step WHERE run_id = CAST(:run AS uuid)", run=step.run)
    return row.lane


def overdue(settings) -> None:
    as_owner(settings, "UPDATE step SET wake_at = clock_timestamp() - interval '1 hour'")


def test_where_one_tenant_is_busy_all_is_in_the_first_lane_which_is_named_as_its_queue(main):
    found = {lane_of(main, one(main, TENANT)) for _ in range(5)}
    assert found == {0}
    assert lanes.name(STEPS, 0) == STEPS
    assert {hint.lane for hint in main.broker.hints} == {0}


def test_who_comes_beside_a_busy_tenant_gets_a_lane_of_his_own_and_keeps_it(main, worker):
    for _ in range(3):
        one(main, TENANT)
    first, second = one(main, QUIET), one(main, QUIET)
    other = one(main, LATE)
    assert [lane_of(main, step) for step in (first, second, other)] == [1, 1, 2]
    assert lane_of(main, one(main, TENANT)) == 0
    assert len(attempts.lease(worker, [first, second], "w1")) == 2
    assert lane_of(main, one(main, QUIET)) == 1


def test_a_step_that_names_a_queue_finds_the_lanes_of_that_queue_empty(main):
    for _ in range(3):
        one(main, TENANT)
    named = {**LINE, "nodes": {name: {"uses": "noop", "queue": "gpu"} for name in LINE["nodes"]}}
    assert lane_of(main, one(main, QUIET, named)) == 0


def test_a_queue_holds_no_more_than_its_lane_and_the_rest_follows_as_it_empties(sending, settings):
    main, broker = sending
    wide = publish(main, WIDE)
    for count in (lanes.FULL, 200):
        submit(main, wide, items=list(range(count)))
    assert broker.llen(STEPS) == lanes.FULL
    for _ in range(5):
        sweep.sweep(main)
    assert broker.llen(STEPS) == lanes.FULL
    broker.ltrim(STEPS, 0, lanes.FULL - 300)
    sweep.sweep(main)
    # What was never sent is due at once, but for what was marked as waiting; what was sent is not.
    assert broker.llen(STEPS) == lanes.FULL - 299 + 200 - 5 * lanes.MARKED


def test_messages_that_nobody_takes_do_not_pile_up_however_often_they_are_overdue(
    sending, settings
):
    main, broker = sending
    for _ in range(MANY):
        one(main, TENANT)
    for _ in range(10):
        overdue(settings)
        sweep.sweep(main)
    assert broker.llen(STEPS) == MANY
    # They are known to wait all the same, by which a worker can tell that it hears nothing.
    sends = [row.sends for row in sql(main, "SELECT sends FROM step")]
    assert sum(sends) == 10 * lanes.MARKED


def test_what_a_broker_has_lost_is_sent_again_however_long_it_had_waited(sending, settings):
    main, broker = sending
    for _ in range(MANY):
        one(main, TENANT)
    # Sent for the tenth time just after the others were: its next time would come in a minute.
    as_owner(
        settings,
        "UPDATE step SET sends = 10, wake_at = clock_timestamp() + make_interval(secs => 59 - :s)",
        s=settings.resend_seconds,
    )
    sweep.sweep(main)
    assert broker.llen(STEPS) == MANY
    broker.flushdb()
    sweep.sweep(main)
    assert broker.llen(STEPS) == MANY


def test_what_was_sent_just_now_is_not_taken_for_lost(sending):
    main, broker = sending
    # However slow this machine is just now.
    main = replace(main, settings=replace(main.settings, resend_seconds=600))
    for _ in range(MANY):
        one(main, TENANT)
    broker.flushdb()
    assert sweep.sweep(main).resent == 0
    assert broker.llen(STEPS) == 0


def test_with_the_broker_gone_nothing_is_put_off(sending, settings):
    main, _ = sending
    one(main, TENANT)
    overdue(settings)
    nobody = connect(replace(settings, broker_url="redis://127.0.0.1:1/0"))
    assert sweep.sweep(replace(main, broker=nobody)).resent == 0
    nobody.close()
    assert sweep.sweep(main).resent == 1


def test_of_a_lane_that_tenants_share_each_is_sent_as_often_as_the_other(main, settings):
    submit(main, publish(main, WIDE), items=list(range(sweep.BATCH + 100)))
    quiet = [one(main, QUIET) for _ in range(3)]
    overdue(settings)
    # The others have waited for longer, all of them.
    as_owner(
        settings,
        "UPDATE step SET lane = 0, wake_at = wake_at"
        " + CASE tenant_id WHEN 'quiet' THEN interval '1 minute' ELSE interval '0' END",
    )
    main.broker.hints.clear()
    assert sweep.sweep(main).resent == sweep.BATCH
    assert set(quiet) <= {hint.step for hint in main.broker.hints}


def test_of_turns_that_are_overdue_a_tenant_with_few_waits_for_no_other(main, settings):
    flood = publish(main, LINE)
    for _ in range(sweep.BATCH + 20):
        launch.submit(main, TENANT, flood, {}, by="ada")
    version = publish(main, LINE, tenant=QUIET)
    quiet = launch.submit(main, QUIET, version, {}, by="ada").run
    as_owner(
        settings,
        "UPDATE inbox SET received_at = received_at - CASE tenant_id WHEN 'quiet'"
        " THEN interval '1 hour' ELSE interval '1 minute' END",
    )
    sweep.sweep(main)
    turned = [hint.step.tenant for hint in main.broker.hints]
    assert turned.index(quiet.tenant) < turns.TOGETHER


def test_runs_to_which_ever_more_is_reported_give_way_to_others(main, worker):
    class Nudged(Sent):
        def nudge(self, runs):
            nudged.extend(runs)

    nudged: list[RunId] = []
    child = {"workflow": "child", "nodes": {"a": {"uses": "noop"}}, "edges": ["a -> end"]}
    publish(main, child)
    parent = {
        "workflow": "parent",
        "nodes": {"a": {"kind": "workflow", "workflow": "child"}},
        "edges": ["a -> end"],
    }
    run = launch.submit(main, TENANT, publish(main, parent), {}, by="ada").run
    patient = replace(main, broker=Nudged(app=main.broker.app))
    # The child that it has started has something waiting, and comes later.
    assert turns.take_turns(patient, [run], seconds=0) == 1
    assert len(nudged) == 1
    assert nudged[0] != run
    assert main.broker.hints == []
    assert turns.take_turns(main, nudged) == 1
    assert [hint.step.key for hint in main.broker.hints] == ["a#1"]


def test_who_nudges_too_much_for_one_tenant_keeps_no_other_waiting(sending):
    main, broker = sending
    flood = [launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run] * 200
    version = publish(main, LINE, tenant=QUIET)
    main.broker.nudge(flood)
    before = broker.llen(COORDINATE)
    main.broker.nudge([launch.submit(main, QUIET, version, {}, by="ada").run])
    assert broker.llen(lanes.name(COORDINATE, BUSY)) > before
    assert broker.llen(COORDINATE) == before + 1
    assert before < 10


def test_beside_ten_thousand_runs_that_wait_a_sweep_reads_no_table_from_end_to_end(main, settings):
    run = submit(main, publish(main, PATIENT))
    copying = (
        "CREATE TEMP TABLE more AS SELECT gen_random_uuid() AS id FROM generate_series(1, 10000)",
        *(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(r,"
            f" jsonb_build_object('{column}', more.id, 'root', more.id))).* FROM {table} r, more"
            for table, column in (("run", "id"), ("step", "run_id"), ("wait", "run_id"))
        ),
        "ANALYZE run, step, wait, inbox",
    )
    as_owner(settings, "; ".join(copying))
    (row,) = sql(main, "SELECT count(*) AS waiting FROM step WHERE status = 'waiting'")
    assert row.waiting == 10_001
    one(main, QUIET)
    overdue_run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run
    as_owner(settings, "UPDATE inbox SET received_at = received_at - interval '1 hour'")
    with noted() as asked:
        sweep.sweep(main)
        assert platforms.status(main, overdue_run) == "running"
        assert platforms.status(main, run) == "running"
    assert {"step_expire", "step_wake", "step_lines", "step_overdue", "run_lock"} <= asked.keys()
    for plan in plans(main.database, asked).values():
        assert not re.findall(r"Seq Scan on (run|step|wait|attempt)\b", plan), plan
