"""What goes over the broker, and what happens when it does not answer."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from dataclasses import replace

import pytest
from amqp.exceptions import RecoverableConnectionError
from celery import Celery

from engine import lanes
from engine.broker import (
    BUSY,
    COORDINATE,
    STEPS,
    TAKE_TURNS,
    TURNS,
    Hint,
    Nudger,
    Pace,
    connect,
)
from engine.envelope import Lists, opened
from engine.runs.identity import new_run
from engine.store.ids import RunId, StepId
from tests.support.fleet import fleet, wait_until

MESSAGE_BYTES = 2048
LONGEST_TENANT = "t" * 63


@pytest.fixture(params=["at once", "by Celery"])
def broker(request, settings):
    """In both ways: with what Celery brings, which every broker takes, and as a Redis does."""
    made = connect(settings)
    yield made if request.param == "at once" else replace(made, lists=None)
    made.close()


def failing(monkeypatch, fail):
    """Let either way of sending fail."""
    monkeypatch.setattr(Celery, "send_task", lambda _, *__, **___: fail())
    monkeypatch.setattr(Lists, "push", lambda _, __: fail())


@pytest.fixture(params=["at once", "by Celery"])
def mute_broker(request, settings):
    """A broker that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        made = connect(replace(settings, broker_url=f"redis://127.0.0.1:{port}/0"))
        yield made if request.param == "at once" else replace(made, lists=None)
        made.close()


def test_a_broker_that_is_mute_costs_a_sender_seconds_and_never_an_error(mute_broker):
    began = time.monotonic()
    mute_broker.nudge([RunId("local", new_run())])
    assert time.monotonic() - began < 60


def test_a_nudge_in_the_background_returns_at_once_whatever_the_broker_does(mute_broker):
    nudger = Nudger(mute_broker.nudge)
    began = time.monotonic()
    for _ in range(20_000):
        nudger.nudge(RunId("local", new_run()))
    # One that waited for the broker would take its socket timeout for each.
    assert time.monotonic() - began < 60
    nudger.close()


@pytest.mark.parametrize(
    "error", [RecoverableConnectionError("already closed"), RuntimeError("of its own making")]
)
def test_whatever_a_broker_raises_costs_a_message_and_never_an_error(
    broker, queues, monkeypatch, error
):
    def fail():
        raise error

    with monkeypatch.context() as patched:
        failing(patched, fail)
        broker.send([Hint(step=StepId("local", new_run(), "a#1"), workflow="w")])
        broker.nudge([RunId("local", new_run())])
    assert queues.llen(STEPS) == queues.llen(COORDINATE) == 0


def test_a_nudge_that_fails_is_not_the_last_one(broker, queues, monkeypatch):
    failed = threading.Event()

    def fail():
        failed.set()
        raise RecoverableConnectionError("already closed")

    nudger = Nudger(broker.nudge)
    with monkeypatch.context() as patched:
        failing(patched, fail)
        nudger.nudge(RunId("local", new_run()))
        assert failed.wait(10)
    nudger.nudge(RunId("local", new_run()))
    wait_until(lambda: queues.llen(COORDINATE) == 1, seconds=10)
    nudger.close()


def test_reminders_do_not_pile_up_where_nobody_sweeps(settings, queues, tmp_path):
    with fleet(replace(settings, sweep_seconds=0.1), ["beat"], tmp_path) as processes:
        wait_until(lambda: processes.log("beat").count("Sending due task sweep") > 10)
    assert queues.llen(COORDINATE) == 1


def test_the_largest_messages_stay_under_two_kibibytes_on_the_wire(broker, queues):
    run = new_run()
    key = f"{'n' * 64}#1000000"
    workflow, queue = "\N{SEEDLING}" * 128, "q" * 100
    broker.send([Hint(step=StepId(LONGEST_TENANT, run, key), workflow=workflow, queue=queue)])
    broker.nudge([RunId(LONGEST_TENANT, new_run()) for _ in range(100)])
    step, *more = queues.lrange(queue, 0, -1)
    nudges = queues.lrange(COORDINATE, 0, -1)
    assert not more
    assert nudges
    assert max(len(message) for message in (step, *nudges)) < MESSAGE_BYTES


def nudged(queues):
    """What waits for coordinators, in both lanes."""
    lanes_of = (COORDINATE, lanes.name(COORDINATE, BUSY))
    return [message for lane in lanes_of for message in queues.lrange(lane, 0, -1)]


def test_where_workers_take_turns_they_are_nudged_within_a_tenants_pace(settings, queues):
    made = connect(replace(settings, worker_turns=True))
    made.nudge([RunId("quiet", new_run())])
    made.nudge([RunId("busy", new_run()) for _ in range(100)])
    busy = queues.lrange(lanes.name(TURNS, BUSY), 0, -1)
    taken = [json.loads(message) for message in queues.lrange(TURNS, 0, -1)]
    assert {message["headers"]["task"] for message in taken} == {TAKE_TURNS}
    assert queues.llen(STEPS) == queues.llen(COORDINATE) == 0
    assert busy
    assert not queues.exists(COORDINATE)
    named = [
        run for message in taken for run in json.loads(base64.b64decode(message["body"]))[0][0]
    ]
    tenants = [tenant for tenant, _ in named]
    assert tenants.count("quiet") == 1
    assert 0 < tenants.count("busy") < 100
    made.close()


def test_every_nudged_run_is_named_once(broker, queues):
    runs = [RunId("local", new_run()) for _ in range(50)]
    broker.nudge(runs)
    messages = [json.loads(message) for message in nudged(queues)]
    bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
    found = [RunId(*pair) for args, _, _ in bodies for pair in args[0]]
    assert sorted(found) == sorted(runs)


def test_reminders_make_a_coordinator_sweep_again_and_again(settings, broker, tmp_path):
    asked: set[str] = set()
    swept: set[str] = set()

    def heed(event):
        if event["type"] == "task-received" and event["name"] == "sweep":
            asked.add(event["uuid"])
        elif event["type"] == "task-succeeded":
            swept.add(event["uuid"])
        receiver.should_stop = len(asked & swept) > 3

    with (
        broker.app.connection() as connection,
        fleet(replace(settings, sweep_seconds=0.2), ["beat", "coordinator1"], tmp_path),
    ):
        wait_until(lambda: bool(broker.app.control.enable_events(reply=True)), what="an answer")
        receiver = broker.app.events.Receiver(connection, handlers={"*": heed})
        receiver.capture(limit=None, timeout=60)
    assert len(asked & swept) > 3


def test_what_is_sent_at_once_is_as_celery_would_send_it(settings, queues):
    """The conformance of `engine.envelope` with the Celery and the kombu that are installed."""
    made = connect(settings)
    hint = Hint(step=StepId("local", new_run(), "a#1"), workflow="größe")
    for way in (made, replace(made, lists=None)):
        way.send([hint])
    stock, ours = (json.loads(text) for text in queues.lrange(STEPS, 0, -1))
    for message in (ours, stock):
        message["body"] = json.loads(base64.b64decode(message["body"]))
        headers, properties = message["headers"], message["properties"]
        assert headers.pop("id") == headers.pop("root_id") == properties.pop("correlation_id")
        for unlike in (properties.pop("delivery_tag"), properties.pop("reply_to")):
            assert len(unlike) == 36
    assert ours == stock
    assert list(ours) == list(stock)
    made.close()


def test_what_is_taken_out_at_once_is_what_celery_would_have_taken(settings, queues):
    """The conformance of what a spare thread takes (`workers.relief`), the stock way and ours."""
    made = connect(settings)
    step = StepId("local", new_run(), "a#1")
    with made.app.connection() as connection, connection.SimpleQueue(STEPS) as stock:
        for way in (made, replace(made, lists=None)):
            for _ in range(2):
                way.send([Hint(step=step, workflow="größe")])
            taken = stock.get(timeout=10)
            assert made.lists is not None
            (queue, text) = made.lists.take([COORDINATE, STEPS], seconds=1)
            body, headers, properties = opened(text)
            assert queue == properties["delivery_info"]["routing_key"] == STEPS
            assert json.loads(body)[0] == taken.payload[0] == [*step]
            assert headers.keys() == taken.headers.keys()
            assert headers["id"] == properties["correlation_id"]
            assert made.lists.take([STEPS], seconds=0.01) is None
    made.close()


def test_what_has_gathered_is_nudged_for_one_tenant_as_soon_as_for_another():
    begun, go, done = threading.Event(), threading.Event(), threading.Event()
    nudged: list[RunId] = []

    def nudge(runs):
        nudged.extend(runs)
        begun.set()
        assert go.wait(10)
        if nudged[-1].tenant != "first":
            done.set()

    nudger = Nudger(nudge)
    nudger.nudge(RunId("first", new_run()))
    assert begun.wait(10)
    for tenant in ("busy",) * 50 + ("quiet",):
        nudger.nudge(RunId(tenant, new_run()))
    go.set()
    assert done.wait(10)
    assert [run.tenant for run in nudged[1:4]] == ["busy", "quiet", "busy"]
    nudger.close()


def test_a_tenant_is_beyond_its_pace_for_as_long_as_it_keeps_on():
    now = [0.0]
    pace = Pace(lambda: now[0])
    burst = [pace.beyond("busy") for _ in range(100)]
    assert (burst[0], burst[-1]) == (False, True)
    assert not pace.beyond("quiet")
    now[0] += 0.1
    assert pace.beyond("busy")
    now[0] += 60
    assert not pace.beyond("busy")


def test_tenants_that_are_heard_of_no_more_are_forgotten():
    now = [0.0]
    pace = Pace(lambda: now[0])
    for number in range(1_000):
        pace.beyond(f"tenant {number}")
    now[0] += 60
    pace.beyond("another")
    assert list(pace._ahead) == ["another"]
