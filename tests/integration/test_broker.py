"""What goes over the broker, and what happens when it does not answer."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from dataclasses import replace

import pytest
import redis
from amqp.exceptions import RecoverableConnectionError

from engine.broker import COORDINATE, STEPS, Broker, Hint, Nudger, celery_app
from engine.runs.identity import new_run
from engine.store.ids import RunId, StepId
from tests.support.fleet import fleet, wait_until

MESSAGE_BYTES = 2048
LONGEST_TENANT = "t" * 63


@pytest.fixture
def broker(settings):
    made = Broker(app=celery_app(settings))
    yield made
    made.close()


@pytest.fixture
def queues(valkey_url):
    client = redis.Redis.from_url(valkey_url)
    yield client
    client.close()


@pytest.fixture
def mute_broker(settings):
    """A broker that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        made = Broker(app=celery_app(replace(settings, broker_url=f"redis://127.0.0.1:{port}/0")))
        yield made
        made.close()


def test_a_broker_that_is_mute_costs_a_sender_seconds_and_never_an_error(mute_broker):
    began = time.monotonic()
    mute_broker.nudge([RunId("local", new_run())])
    assert time.monotonic() - began < 60


def test_a_nudge_in_the_background_returns_at_once_whatever_the_broker_does(mute_broker):
    nudger = Nudger(mute_broker)
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
    def fail(**_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(broker.app, "send_task", fail)
        broker.send([Hint(step=StepId("local", new_run(), "a#1"), workflow="w")])
        broker.nudge([RunId("local", new_run())])
    assert queues.llen(STEPS) == queues.llen(COORDINATE) == 0


def test_a_nudge_that_fails_is_not_the_last_one(broker, queues, monkeypatch):
    failed = threading.Event()

    def fail(**_):
        failed.set()
        raise RecoverableConnectionError("already closed")

    nudger = Nudger(broker)
    with monkeypatch.context() as patched:
        patched.setattr(broker.app, "send_task", fail)
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


def test_every_nudged_run_is_named_once(broker, queues):
    runs = [RunId("local", new_run()) for _ in range(50)]
    broker.nudge(runs)
    messages = [json.loads(message) for message in queues.lrange(COORDINATE, 0, -1)]
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
        receiver = broker.app.events.Receiver(connection, handlers={"*": heed})
        receiver.capture(limit=None, timeout=60)
    assert len(asked & swept) > 3
