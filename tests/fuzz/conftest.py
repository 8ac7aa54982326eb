"""A platform with one of everything, for requests of every kind."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.fuzz import world
from tests.fuzz.world import World
from tests.support.services import Services


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Tens of thousands of requests without a line for each; errors are told."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def here(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world.opened(shared_services, tmp_path_factory.mktemp("home")) as found:
        yield found
