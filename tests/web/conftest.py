"""The API in this process, over a real Postgres; what workers do, tests do themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from engine.platform import DatabaseRole, Platform
from engine.settings import Settings
from tests.support import platforms, site
from tests.support.site import Api


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
