"""Hints that a run has something new: said in the background, much together, the end of a run at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis

from engine import live
from engine.live import Live
from engine.store.ids import RunId

CHANNEL = "celeriac:live:test"
MANY = 500


@pytest.fixture
def ours(valkey_url: str) -> Iterator[Live]:
    found = live.connect(valkey_url, CHANNEL)
    yield found
    found.close()


@pytest.fixture
def heard(valkey_url: str) -> Iterator[Any]:
    """A subscription of somebody else's."""
    with redis.Redis.from_url(valkey_url) as client, client.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        assert subscription.get_message(timeout=5)["type"] == "subscribe"
        yield subscription


def told(subscription: Any, until: str) -> list[list[str]]:
    """The names in each message, up to the one in which a name is."""
    found: list[list[str]] = []
    while not found or until not in found[-1]:
        message = subscription.get_message(timeout=10)
        assert message is not None
        found.append(message["data"].decode().split())
    return found


def run(number: int) -> RunId:
    return RunId("t", f"r{number}")


class Mute:
    """What accepts hints and never answers."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.texts: list[str] = []

    def publish(self, _channel: str, text: str) -> None:
        self.texts.append(text)
        self.asked.set()
        self.answers.wait()

    def close(self) -> None:
        """Nothing was opened."""


def said_to(redis_like: Mute) -> Live:
    return Live(cast("redis.Redis", redis_like), CHANNEL)


def test_nobody_waits_for_a_redis_that_does_not_answer() -> None:
    mute = Mute()
    ours = said_to(mute)
    ours.publish([run(0)])
    assert mute.asked.wait(10)
    for number in range(MANY):
        ours.publish([run(number), run(1)])
    assert mute.texts == ["t/r0"]
    mute.answers.set()
    ours.close()
    assert sorted(" ".join(mute.texts[1:]).split()) == sorted(f"t/r{n}" for n in range(MANY))


def test_what_gathers_is_said_together(ours: Live, heard: Any) -> None:
    for number in range(MANY):
        ours.publish([run(number)])
    ours.publish([run(MANY)], ended=[run(MANY)])
    found = told(heard, f"t/r{MANY}!")
    assert len(found) < MANY / 2
    assert {name for names in found for name in names} == {
        *(f"t/r{number}" for number in range(MANY)),
        f"t/r{MANY}!",
    }


def test_the_end_of_a_run_does_not_wait_for_what_gathers(
    ours: Live, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MOMENT", 600)
    ours.publish([run(0)])
    told(heard, "t/r0")
    ours.publish([run(1)])
    ours.publish([run(2)], ended=[run(2)])
    assert told(heard, "t/r2!") == [["t/r1", "t/r2!"]]


def test_a_run_that_has_ended_stays_ended_whatever_else_is_said_of_it() -> None:
    mute = Mute()
    ours = said_to(mute)
    ours.publish([run(0)])
    assert mute.asked.wait(10)
    ours.publish([run(1)], ended=[run(1)])
    ours.publish([run(1)])
    mute.answers.set()
    ours.close()
    assert mute.texts == ["t/r0", "t/r1!"]


def test_what_is_left_is_said_at_the_end_of_a_process(
    valkey_url: str, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MOMENT", 600)
    ours = live.connect(valkey_url, CHANNEL)
    ours.publish([run(1)])
    told(heard, "t/r1")
    ours.publish([run(2)])
    ours.close()
    told(heard, "t/r2")


def test_a_redis_that_is_away_costs_hints_alone() -> None:
    ours = live.connect("redis://127.0.0.1:1/0", CHANNEL)
    for number in range(3):
        ours.publish([run(number)], ended=[run(number)])
    ours.close()
    assert ours._new == {}


def test_without_a_redis_nothing_is_said() -> None:
    ours = live.connect(None, CHANNEL)
    ours.publish([run(1)])
    assert (ours._new, ours._thread) == ({}, None)
    ours.close()


class Broken(Mute):
    """What fails once, in a way that nobody has thought of."""

    def publish(self, _channel: str, text: str) -> None:
        self.texts.append(text)
        self.asked.set()
        if len(self.texts) == 1:
            raise ValueError("closed")


def test_what_goes_wrong_costs_the_hints_that_follow_nothing() -> None:
    broken = Broken()
    ours = said_to(broken)
    ours.publish([run(0)])
    assert broken.asked.wait(10)
    ours.publish([run(1)])
    ours.close()
    assert broken.texts == ["t/r0", "t/r1"]


def test_where_no_thread_can_be_started_hints_wait_for_the_next(
    ours: Live, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        ours.publish([run(1)])
    ours.publish([run(2)])
    assert told(heard, "t/r2") == [["t/r1", "t/r2"]]
