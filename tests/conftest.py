"""Fixtures that every test may ask for; what they start is real, and shared where that is safe."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from celeriac.drill.servers import Servers
from engine.settings import Settings
from tests.support import platforms, services
from tests.support.services import Services
from workers.sandbox import Sandbox

# The same examples every time, and none fails for a machine that is busy.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[*hypothesis.HealthCheck],
)
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_OPENED] = services.join_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.stash.get(_OPENED, False):
        services.end_session()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while ten thousand tests are made, none of which is let go."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def shared_services() -> Services:
    """The Postgres and the Valkey of this test session."""
    return services.shared()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One for all tests of this process: it attacks its own walls when it starts, which takes a second."""
    with Sandbox() as started:
        yield started


@pytest.fixture
def database(shared_services: Services) -> Iterator[str]:
    """The URL of a database with today's schema, for this test alone."""
    url = services.create_database(shared_services)
    yield url
    services.drop_database(shared_services, url)


@pytest.fixture
def valkey_number(shared_services: Services) -> Iterator[int]:
    """The number of an empty Valkey database, for this test alone."""
    number = services.take_valkey_database(shared_services)
    yield number
    services.flush(shared_services.valkey.redis_url(number))


@pytest.fixture
def valkey_url(shared_services: Services, valkey_number: int) -> str:
    """This test's Valkey database, as redis-py wants it."""
    return shared_services.valkey.redis_url(valkey_number)


@pytest.fixture
def settings(
    shared_services: Services, database: str, valkey_number: int, tmp_path: Path
) -> Settings:
    """Settings of a platform on this test's databases; `dataclasses.replace` what must differ."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(
        database_url=database,
        broker_url=shared_services.valkey.broker_url(valkey_number),
        redis_url=shared_services.valkey.redis_url(valkey_number),
        blob_url=(home / "blobs").as_uri(),
        blob_keys=platforms.RING,
        secret_keys=platforms.SECRET_RING,
        home=home,
    )


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder for sockets, whose paths must be short."""
    with services.short_folder() as folder:
        yield folder


@pytest.fixture
def own_servers(short_folder: Path) -> Iterator[Servers]:
    """A Postgres and a Valkey for this test alone, to kill and to start again; no schema yet."""
    servers = Servers(short_folder)
    yield servers
    servers.close()


_OPENED = pytest.StashKey[bool]()
