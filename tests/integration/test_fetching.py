"""Fetching many messages at once, beside kombu's own way."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kombu.transport
import pytest
import redis
from kombu import Connection, Consumer, Queue

from engine import envelope
from engine.broker import STEPS, Hint, celery_app, connect
from engine.settings import Settings
from engine.store.ids import StepId
from tests.support.fleet import fleet, wait_until
from workers import fetching

ROOM = 5


def sent(settings: Settings, number: int) -> list[str]:
    """Messages of so many steps in the queue; their keys."""
    broker = connect(settings)
    keys = [f"a#{index}" for index in range(number)]
    run = "0190c0de-0000-7000-8000-000000000001"
    broker.send([Hint(step=StepId("local", run, key), workflow="w") for key in keys])
    broker.close()
    return keys


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process fetches as workers do, until the test is over."""
    for names in (kombu.transport.TRANSPORT_ALIASES, kombu.transport._transport_cache):
        for scheme in ("redis", "rediss"):
            monkeypatch.setitem(
                names, scheme, names.get(scheme)
            )  # put back, or taken out, afterwards
            monkeypatch.delitem(names, scheme)
    fetching.fetch_together()


@contextmanager
def consuming(
    settings: Settings,
    queue: str = STEPS,
    *,
    also: Callable[[Any, Any], None] = lambda *_: None,
) -> Iterator[tuple[Any, Any]]:
    """A consumer with room for a few messages: its connection, and what it got and has not let go of."""
    options = celery_app(settings).conf.broker_transport_options
    got: list[Any] = []
    with (
        Connection(settings.broker_url, transport_options=options) as connection,
        connection.channel() as channel,
    ):
        consumer = Consumer(
            channel,
            queues=[Queue(queue)],
            callbacks=[lambda body, message: got.append((body, message)), also],
        )
        consumer.qos(prefetch_count=ROOM)
        with consumer:
            yield connection, got


def drained(connection: Any, got: list[Any], number: int) -> list[str]:
    while len(got) < number:
        connection.drain_events(timeout=10)
    return [body[0][2] for body, _ in got]


@pytest.mark.usefixtures("together")
def test_what_follows_from_the_first_message_can_wait_for_the_last_that_came_with_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "HANDED_OUT_SECONDS", 10)
    sent(settings, ROOM)
    seen: list[int] = []

    def follow() -> None:
        fetching.handed_out()
        seen.append(len(got))

    threads = []

    def begin(_: Any, message: Any) -> None:
        threads.append(threading.Thread(target=follow))
        threads[-1].start()

    with consuming(settings, also=begin) as (connection, got):
        drained(connection, got, ROOM)
        for thread in threads:
            thread.join(10)
    assert seen == [ROOM] * ROOM
    fetching.handed_out()


def test_many_messages_are_all_sent_in_their_order(settings: Settings, queues: redis.Redis) -> None:
    keys = sent(settings, 2 * envelope.TOGETHER + 1)
    found = [
        json.loads(base64.b64decode(json.loads(text)["body"]))[0][2]
        for text in queues.lrange(STEPS, 0, -1)
    ]
    assert found[::-1] == keys


@pytest.mark.parametrize("way", ["stock", "together"])
def test_whoever_has_room_gets_messages_in_their_order_and_leaves_the_rest(
    settings: Settings, queues: redis.Redis, way: str, request: pytest.FixtureRequest
) -> None:
    if way == "together":
        request.getfixturevalue("together")
    keys = sent(settings, 12)
    with consuming(settings) as (connection, got):
        assert drained(connection, got, ROOM) == keys[:ROOM]
        assert queues.llen(STEPS) == len(keys) - ROOM
        for _, message in got:
            message.ack()
        assert drained(connection, got, 2 * ROOM) == keys[: 2 * ROOM]


def answering(monkeypatch: pytest.MonkeyPatch, said: Callable[[str, Any], Any]) -> None:
    """Let each answer of the server be what is said of it."""
    parse = redis.Redis.parse_response

    def answer(client: Any, connection: Any, command: str, **options: Any) -> Any:
        return said(command, parse(client, connection, command, **options))

    monkeypatch.setattr(redis.Redis, "parse_response", answer)


@pytest.mark.usefixtures("together")
def test_all_that_there_is_room_for_comes_in_one_round_trip(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answering(monkeypatch, lambda command, found: (asked.append(command), found)[1])
    sent(settings, ROOM)
    with consuming(settings) as (connection, got):
        connection.drain_events(timeout=10)
        assert len(got) == ROOM
    assert asked.count("BLMPOP") == 1
    assert "BRPOP" not in asked


@pytest.mark.usefixtures("together")
def test_a_message_that_comes_while_nobody_has_any_is_not_waited_for_by_others(
    settings: Settings,
) -> None:
    with consuming(settings) as (connection, got):
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)
        (key,) = sent(settings, 1)
        assert drained(connection, got, 1) == [key]


@pytest.mark.usefixtures("together")
def test_a_server_that_does_not_know_the_command_is_asked_the_stock_way(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def old(command: str, found: Any) -> Any:
        asked.append(command)
        if command == "BLMPOP":
            raise redis.ResponseError("unknown command 'BLMPOP', with args beginning with: '1' ")
        return found

    answering(monkeypatch, old)
    with consuming(settings) as (connection, got):
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=2)
        keys = sent(settings, 3)
        assert drained(connection, got, 3) == keys
    assert asked.count("BLMPOP") == 1
    assert "BRPOP" in asked


@pytest.mark.usefixtures("together")
def test_any_other_trouble_of_the_server_is_raised(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(command: str, found: Any) -> Any:
        if command == "BLMPOP":
            raise redis.ResponseError("LOADING Redis is loading the dataset in memory")
        return found

    answering(monkeypatch, loading)
    sent(settings, 1)
    with (
        consuming(settings) as (connection, _),
        pytest.raises(redis.ResponseError, match="LOADING"),
    ):
        connection.drain_events(timeout=10)


def test_workers_and_coordinators_fetch_so(
    settings: Settings, queues: redis.Redis, tmp_path: Path
) -> None:
    ours = queues.connection_pool.connection_kwargs["db"]

    def asking() -> int:
        return sum(
            client["cmd"] == "blmpop" and int(client["db"]) == ours
            for client in queues.client_list()
        )

    with fleet(settings, ["worker", "coordinator"], tmp_path):
        wait_until(lambda: asking() == 2, what="both to ask for many")
