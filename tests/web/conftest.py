"""The API in this process, over a real Postgres; what workers do, tests do themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from engine.platform import DatabaseRole, Platform
from engine.runs import definitions, turns
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support.platforms import TENANT, Sent
from tests.support.site import Api
from workers.execution import Worker, execute
from workers.keeper import Keeper
from workers.sandbox import Sandbox

#: Carries out a run.
Work = Callable[[str], None]
Working = Callable[[], AbstractContextManager[Work]]


@pytest.fixture
def local_settings(settings: Settings) -> Settings:
    """An embedded platform that serves this machine without a credential."""
    return site.local(settings)


@pytest.fixture
def control(local_settings: Settings) -> Iterator[Platform]:
    with site.controlled(local_settings) as platform:
        yield platform


@pytest.fixture
def worker(local_settings: Settings, control: Platform) -> Iterator[Platform]:
    with platforms.platform(local_settings, DatabaseRole.WORKER) as platform:
        yield platform


@pytest.fixture
def app(control: Platform) -> Iterator[Flask]:
    with site.served(control) as app:
        yield app


@pytest.fixture
def spec(app: Flask) -> dict[str, Any]:
    """What the app says of itself."""
    found: dict[str, Any] = app.test_client().get("/openapi.json").json
    return found


@pytest.fixture
def seed(app: Flask) -> FlaskClient:
    """A client without a credential, on this machine: the routes of seed 000."""
    return app.test_client()


@pytest.fixture
def api(app: Flask, control: Platform) -> Api:
    """A client with a credential of the local tenant."""
    return site.member(app, control)


@pytest.fixture
def stranger(app: Flask, control: Platform) -> Api:
    """A client with a credential of another tenant."""
    return site.stranger(app, control)


@pytest.fixture
def working(control: Platform, worker: Platform, sandbox: Sandbox) -> Working:
    return partial(_working, control, worker, sandbox)


@contextmanager
def _working(control: Platform, worker: Platform, sandbox: Sandbox) -> Iterator[Work]:
    """A worker that carries out what a run's turns send, until nothing is left."""
    broker = control.broker
    assert isinstance(broker, Sent)
    # A process knows one database; this one has known others.
    definitions._known.clear()
    keeper = Keeper(worker)
    keeper.start()
    own = Worker(
        name="w1",
        platform=worker,
        sandbox=sandbox,
        keeper=keeper,
        coordinator=control,
        follow=partial(turns.take_turns, control),
    )

    def work(run: str) -> None:
        turns.take_turns(control, [RunId(TENANT, run)])
        while broker.hints:
            execute(own, broker.hints.pop(0).step)

    try:
        yield work
    finally:
        keeper.close()
