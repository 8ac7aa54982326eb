"""Keys from before there were users."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2

import migrations
from engine.core.principal import LOCAL, Principal
from engine.runs import access
from engine.store import session

_PAST = datetime.now(UTC) - timedelta(days=1)


def test_a_key_that_was_there_can_do_what_it_could_and_no_more(
    empty_database: Callable[[], str],
) -> None:
    url = empty_database()
    migrations.upgrade(url, "0007")
    tokens = {
        name: _add(url, number, user, roles, until)
        for number, (name, user, roles, until) in enumerate(
            [
                ("local", "local", ["admin"], None),
                ("editor", "ada", ["editor"], None),
                ("viewer", "ada", ["viewer"], None),
                ("over", "ada", ["admin"], _PAST),
                ("nothing", "bob", [], None),
            ]
        )
    }

    migrations.upgrade(url)

    engine = session.connect(url, role="celeriac_api")
    found = {name: access.authenticate(engine, token) for name, token in tokens.items()}
    engine.dispose()
    assert found == {
        "local": LOCAL,
        "editor": _who("ada", "editor"),
        "viewer": _who("ada", "viewer"),
        "over": None,
        "nothing": _who("bob"),
    }
    assert _ask(url, "SELECT roles FROM principal WHERE id = 'ada'") == ["editor", "viewer"]

    migrations.downgrade(url, "0007")

    assert _ask(url, "SELECT array_agg(name ORDER BY id) FROM api_key") == [
        "local",
        "ada",
        "ada",
        "ada",
        "bob",
    ]


def _who(user: str, *roles: str) -> Principal:
    return Principal(tenant="local", user=user, roles=frozenset(roles))


def _add(url: str, number: int, user: str, roles: list[str], until: datetime | None) -> str:
    id, secret = f"{number:016x}", f"{number}".rjust(43, "s")  # noqa: A001  # the column's name
    _execute(
        url,
        "INSERT INTO tenant (id, name) VALUES ('local', 'This machine') ON CONFLICT DO NOTHING",
    )
    _execute(
        url,
        "INSERT INTO api_key (tenant_id, id, name, hash, roles, expires_at)"
        " VALUES ('local', %s, %s, sha256(%s), %s, %s)",
        (id, user, secret.encode(), roles, until),
    )
    return f"clr_{id}.{secret}"


def _execute(url: str, statement: str, values: tuple[Any, ...] = ()) -> None:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values)


def _ask(url: str, question: str) -> Any:
    with (
        closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(question)
        return cursor.fetchone()[0]
