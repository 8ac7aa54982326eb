"""A worker that needs no Celery: its own code, a real sandbox, a real database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from engine.platform import DatabaseRole, Platform
from engine.runs import doctor
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import Sent
from workers.execution import Worker, name_of
from workers.keeper import Keeper
from workers.sandbox import Sandbox


@pytest.fixture
def queues(valkey_url: str) -> Iterator[redis.Redis]:
    """The broker's own view of its queues."""
    client = redis.Redis.from_url(valkey_url)
    yield client
    client.close()


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    """A coordinator's platform; its messages are kept for the test to act on."""
    with platforms.platform(settings) as built:
        yield replace(built, broker=Sent(app=built.broker.app))


@pytest.fixture
def worker(settings: Settings, main: Platform, sandbox: Sandbox) -> Iterator[Worker]:
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        quiet = replace(built, broker=Sent(app=built.broker.app))
        keeper = Keeper(quiet)
        keeper.start()
        yield Worker(name=name_of(os.getpid()), platform=quiet, sandbox=sandbox, keeper=keeper)
        keeper.close()


@pytest.fixture
def followed() -> list[RunId]:
    """Runs that somebody else is to look at."""
    return []


@pytest.fixture
def both(main: Platform, worker: Worker, followed: list[RunId]) -> Worker:
    """A worker that may take turns."""
    platforms.register(main, "noop")
    return replace(worker, coordinator=main, follow=followed.extend)


@pytest.fixture
def sound(main: Platform) -> Iterator[None]:
    """Whatever a test leaves behind is as it must be."""
    yield
    assert doctor.examine(main.database) == ()
