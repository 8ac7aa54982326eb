"""The servers that the commands of upkeep go to: a fleet's, else the embedded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy.exc

from celeriac.cli import environment
from celeriac.embedded import supervisor
from engine.errors import Unavailable
from engine.settings import Settings


@contextmanager
def reached() -> Iterator[Settings]:
    """Settings with URLs that answer, for a block: embedded servers are started if they are down.

    Raises `Unavailable` when the database is away, or goes away within the block.
    """
    with supervisor.servers(environment.settings()) as settings:
        try:
            yield settings
        except (psycopg2.OperationalError, sqlalchemy.exc.OperationalError) as error:
            reason = str(getattr(error, "orig", error)).strip()
            raise Unavailable(f"the database cannot be reached: {reason}") from error
