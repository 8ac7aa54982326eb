from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from tests.support import services
from tests.support.services import Services


@pytest.fixture
def empty_database(shared_services: Services) -> Iterator[Callable[[], str]]:
    """Makes databases without any schema; the URL of each."""
    made: list[str] = []

    def make() -> str:
        name = f"empty_{uuid4().hex[:12]}"
        services._execute(shared_services.cluster, f'CREATE DATABASE "{name}" TEMPLATE template0')
        made.append(shared_services.cluster.url(name))
        return made[-1]

    yield make
    for url in made:
        services.drop_database(shared_services, url)
