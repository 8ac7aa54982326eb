"""The API in this process, and those who ask it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from engine.platform import DatabaseRole, Platform
from engine.runs import access
from engine.runs.access import Principal
from engine.settings import Settings
from engine.store import session, tenants
from tests.support import platforms, services
from tests.support.platforms import Sent
from tests.support.services import Services
from web import site
from web.app import create_app

#: Apps that serve nobody now. What a platform has of its own is its site alone.
_IDLE: list[Flask] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A client with a credential."""

    client: FlaskClient
    token: str

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.send("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self.send("POST", path, **options)

    def send(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **options)


@contextmanager
def of_its_own(shared: Services, folder: Path) -> Iterator[Settings]:
    """Settings on databases that nobody else uses, for as long as a block lasts."""
    url, number = services.create_database(shared), services.take_valkey_database(shared)
    try:
        yield Settings(
            database_url=url,
            broker_url=shared.valkey.broker_url(number),
            redis_url=shared.valkey.redis_url(number),
            blob_url=(folder / "blobs").as_uri(),
            blob_keys=platforms.RING,
            secret_keys=platforms.SECRET_RING,
            home=folder,
        )
    finally:
        services.drop_database(shared, url)
        services.flush(shared.valkey.redis_url(number))


def local(settings: Settings) -> Settings:
    """An embedded platform that serves this machine without a credential, and is not patient."""
    return replace(settings, anonymous=True, supervised=True, wait_seconds=0.2, streams=4)


@contextmanager
def controlled(settings: Settings) -> Iterator[Platform]:
    """A platform whose messages are kept for the test to act on."""
    with platforms.platform(settings) as built:
        yield replace(built, broker=Sent(app=built.broker.app))


@contextmanager
def served(platform: Platform) -> Iterator[Flask]:
    """The app of a platform, behind the wall that processes of the API are behind.

    It serves one platform after the other: making one, with its description, takes longer than most
    tests do.
    """
    database = session.connect(platform.settings.database_url or "", role=DatabaseRole.API)
    given = replace(platform, database=database)
    if _IDLE:
        app = _IDLE.pop()
        site.install(app, site.build(given))
    else:
        app = create_app(given)
    try:
        yield app
    finally:
        site.of(app).close()
        database.dispose()
        _IDLE.append(app)


def member(app: Flask, platform: Platform, *, user: str = "ada") -> Api:
    """A client with a credential of the local tenant."""
    token = access.create_key(platform.database, replace(access.LOCAL, user=user))
    return Api(client=app.test_client(), token=token)


def stranger(app: Flask, platform: Platform) -> Api:
    """A client with a credential of another tenant."""
    with session.transaction(platform.database) as connection:
        tenants.ensure(connection, "other", name="Somebody else")
    principal = Principal(tenant="other", user="eve", roles=frozenset({"admin"}))
    return Api(client=app.test_client(), token=access.create_key(platform.database, principal))
