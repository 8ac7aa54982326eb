"""What goes over the broker, and what happens when it does not answer."""

from __future__ import annotations

import base64
import json
import socket
import time
from dataclasses import replace

import pytest
import redis

from engine.broker import COORDINATE, STEPS, Broker, Hint, Nudger, celery_app
from engine.runs.identity import new_run
from engine.store.ids import RunId, StepId

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
    assert time.monotonic() - began < 15


def test_a_nudge_in_the_background_returns_at_once_whatever_the_broker_does(mute_broker):
    nudger = Nudger(mute_broker)
    began = time.monotonic()
    for _ in range(20_000):
        nudger.nudge(RunId("local", new_run()))
    assert time.monotonic() - began < 5
    nudger.close()


def test_the_largest_messages_stay_under_two_kibibytes_on_the_wire(broker, queues):
    run = new_run()
    key = f"{'n' * 64}#1000000"
    broker.send([Hint(step=StepId(LONGEST_TENANT, run, key), workflow="w" * 200, queue=STEPS)])
    broker.nudge([RunId(LONGEST_TENANT, new_run()) for _ in range(100)])
    step, *more = queues.lrange(STEPS, 0, -1)
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
