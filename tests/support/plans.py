"""What the database is asked, and how it means to carry that out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from engine.store import session
from engine.store.session import Statement

Asked = dict[str, tuple[Statement, tuple[object, ...]]]


@contextmanager
def noted() -> Iterator[Asked]:
    """The hot statements that are executed in a block, by name, each with what it was last given."""
    asked: Asked = {}
    send = session._send

    def note(connection, statements):  # type: ignore[no-untyped-def]
        asked.update(
            {one.name: (one, given) for one, given in statements if not isinstance(one, str)}
        )
        return send(connection, statements)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session, "_send", note)
        yield asked


def plans(engine: Engine, asked: Asked) -> Mapping[str, str]:
    """How statements would be carried out with what they were given, by name."""
    found: dict[str, str] = {}
    with engine.connect() as connection:
        cursor = connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
        for name, (statement, given) in asked.items():
            session._prepare(connection, cursor, [statement])
            cursor.execute(f"EXPLAIN {session._execute(name, len(given))}", given or None)
            found[name] = "\n".join(line for (line,) in cursor.fetchall())
    return found
