"""The migrations: the schema of a database, as the sum of its numbered steps.

`upgrade` climbs them. Any number of processes may call it at once, on one database or on
many of one cluster: those of one database queue on an advisory lock, and whoever finds the
work done leaves. A database that is ahead of this release is left as it is, since a release
runs on the schema of the next. Alembic is imported only when there is something to do, so
that a start on a current schema costs one connection.

A step is a file `versions/NNNN_what.py`, numbered without gaps. Steps expand first and
contract a release later; the whole climb is one transaction.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import errors

VERSIONS = Path(__file__).parent / "versions"

#: Key of the advisory lock that upgrades of one database queue on.
LOCK = 0x63656C65726961  # "celeria"


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema of the database at `url` to a revision, in one transaction."""
    with closing(_connect(url)) as connection:
        if not _is_at(connection, revision):
            from migrations import climb  # noqa: PLC0415  # Alembic costs a fifth of a second

            climb.to(connection, revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Take steps back, in one transaction. What the steps had made is lost."""
    with closing(_connect(url)) as connection:
        from migrations import climb  # noqa: PLC0415  # see upgrade

        climb.down_to(connection, revision)


def current(url: str) -> str | None:
    """The revision that the database at `url` is at; None for one without our schema."""
    with closing(_connect(url)) as connection:
        return _current(connection)


def head() -> str:
    """The newest revision that this release knows."""
    return max(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*_*.py"))


def _connect(url: str) -> Any:
    # SQLAlchemy's names of the driver are unknown to libpq; the rest of the URL is one.
    dsn = re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", url)
    return psycopg2.connect(dsn, connect_timeout=10, application_name="celeriac migrations")


def _is_at(connection: Any, revision: str) -> bool:
    found = _current(connection)
    return found is not None and (found >= head() if revision == "head" else found == revision)


def _current(connection: Any) -> str | None:
    with connection.cursor() as cursor:
        try:
            cursor.execute("SELECT version_num FROM alembic_version")
            row = cursor.fetchone()
        except errors.UndefinedTable:
            row = None
    connection.rollback()
    return None if row is None else str(row[0])
