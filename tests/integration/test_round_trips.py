"""What waits to be sent to the database, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from engine.errors import Unavailable
from engine.store import session
from engine.store.session import Statement

KEEP = Statement(
    name="trip_keep", types="text", sql="INSERT INTO tenant (id, name) VALUES ($1, $1)"
)
KEEP_OTHER = Statement(
    name="trip_keep_other",
    types="text",
    sql="INSERT INTO tenant (id, name) VALUES ($1 || 'o', $1)",
)
KEPT = Statement(
    name="trip_kept", types="text", sql="SELECT id FROM tenant WHERE id LIKE $1 ORDER BY id"
)
MOVED = Statement(name="trip_moved", types="", sql="SELECT all_written(1, 2, 'things')")
WRONG = Statement(name="trip_wrong", types="int", sql="SELECT 1 / $1")
#: A statement that Postgres cannot even plan.
UNKNOWN = Statement(name="trip_unknown", types="", sql="SELECT nothing FROM nowhere")


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = session.connect(database, size=1)
    yield made
    made.dispose()


@pytest.fixture
def name() -> str:
    return f"t{uuid4().hex[:10]}"


def kept(engine: Engine, name: str) -> list[str]:
    with session.transaction(engine) as connection:
        return [row.id for row in session.run(connection, KEPT, f"{name}%")]


def sent(connection: Connection) -> list[str]:
    """What the server was asked from now on, each round trip in one text."""
    asked: list[str] = []
    (driver,) = {connection.connection.dbapi_connection}
    assert driver is not None
    driver.cursor_factory = _cursors(asked)
    return asked


def _cursors(asked: list[str]) -> type[psycopg2.extensions.cursor]:
    class Told(psycopg2.extensions.cursor):  # type: ignore[misc]  # distributed without types
        def execute(self, query: bytes | str, given: object = None) -> None:
            asked.append(query.decode() if isinstance(query, bytes) else query)
            super().execute(query, given)

    return Told


def carry_out(engine: Engine, *steps: Callable[[Connection], object]) -> None:
    """One transaction of these steps."""
    with session.transaction(engine) as connection:
        for step in steps:
            step(connection)


# --- what goes wrong ---------------------------------------------------------------------------


def test_what_fails_late_ends_the_transaction_and_all_that_was_asked_before(
    engine: Engine, name: str
) -> None:
    with pytest.raises(IntegrityError):
        carry_out(
            engine,
            lambda connection: session.later(connection, KEEP, name),
            lambda connection: session.later(connection, KEEP, name),
            lambda connection: session.later(connection, KEEP, f"{name}2"),
        )
    assert kept(engine, name) == []


@pytest.mark.parametrize("ask", [session.run, session.later, session.committed])
def test_what_had_moved_on_ends_the_transaction_whoever_sends_it(
    engine: Engine, name: str, ask: Callable[..., object]
) -> None:
    with pytest.raises(session.MovedOn, match="1 of 2 things had moved on"):
        carry_out(
            engine,
            lambda connection: session.later(connection, KEEP, name),
            lambda connection: session.later(connection, MOVED),
            lambda connection: ask(connection, KEPT, name),
        )
    assert kept(engine, name) == []


def test_a_statement_that_fails_where_it_is_first_used_can_be_used_again(engine: Engine) -> None:
    for _ in range(2):
        with pytest.raises(DBAPIError, match="division"):
            carry_out(engine, lambda connection: session.run(connection, WRONG, 0))
    with pytest.raises(DBAPIError, match="nowhere"):
        carry_out(
            engine,
            lambda connection: session.later(connection, WRONG, 1),
            lambda connection: session.run(connection, UNKNOWN),
        )
    with session.transaction(engine) as connection:
        assert session.run(connection, WRONG, 1)[0][0] == 1


@pytest.mark.parametrize("ask", [session.run, session.later])
def test_what_an_error_of_ours_interrupts_is_not_done(
    engine: Engine, name: str, ask: Callable[..., object]
) -> None:
    def go_wrong(_: Connection) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        carry_out(engine, lambda connection: ask(connection, KEEP, name), go_wrong)
    assert kept(engine, name) == []


def test_a_connection_that_is_cut_off_is_not_used_again(engine: Engine, name: str) -> None:
    with pytest.raises(Unavailable):
        carry_out(
            engine,
            lambda connection: session.run(connection, KEEP, name),
            lambda connection: connection.connection.dbapi_connection.close(),  # type: ignore[union-attr]  # it is there
            lambda connection: session.run(connection, KEPT, name),
        )
    assert kept(engine, name) == []


def test_a_server_that_ends_the_connection_under_many_statements_is_away(
    engine: Engine, name: str
) -> None:
    ended = Statement(
        name="trip_ended", types="", sql="SELECT pg_terminate_backend(pg_backend_pid())"
    )
    for _ in range(2):
        with pytest.raises(Unavailable):
            carry_out(
                engine,
                lambda connection: session.later(connection, KEEP, name),
                lambda connection: session.later(connection, ended),
                lambda connection: session.run(connection, KEPT, name),
            )
    assert kept(engine, name) == []


# --- going on ----------------------------------------------------------------------------------


def test_a_transaction_begins_with_its_first_answer_and_ends_with_what_waits(
    engine: Engine, name: str
) -> None:
    kept(engine, name)
    with session.transaction(engine) as connection:
        session.later(connection, KEEP, name)
    with session.transaction(engine) as connection:
        asked = sent(connection)
        session.later(connection, KEEP, f"{name}2")
        assert [row.id for row in session.run(connection, KEPT, f"{name}%")] == [name, f"{name}2"]
        session.later(connection, KEEP, f"{name}3")
        session.later(connection, KEEP, f"{name}4")
    assert [[part.split()[0] for part in trip.split(";")] for trip in asked] == [
        ["BEGIN", "EXECUTE", "EXECUTE"],
        ["EXECUTE", "EXECUTE", "COMMIT"],
    ]
    assert len(kept(engine, name)) == 4


def test_what_waits_can_be_asked_otherwise_until_it_is_sent(engine: Engine, name: str) -> None:
    with session.transaction(engine) as connection:
        session.later(connection, KEEP, name)
        assert session.amend(connection, KEEP, KEEP_OTHER)
        assert not session.amend(connection, KEEP, None)
        session.later(connection, KEEP, f"{name}2")
        assert session.amend(connection, KEEP, None)
        assert [row.id for row in session.run(connection, KEPT, f"{name}%")] == [f"{name}o"]
        assert not session.amend(connection, KEEP_OTHER, None)
    assert kept(engine, name) == [f"{name}o"]


def test_a_transaction_in_which_nothing_is_asked_goes_nowhere(engine: Engine) -> None:
    with session.transaction(engine) as connection:
        asked = sent(connection)
    assert asked == []


def test_what_waits_is_sent_before_any_other_statement(engine: Engine, name: str) -> None:
    with session.transaction(engine) as connection:
        session.later(connection, KEEP, name)
        count = connection.execute(
            text("SELECT count(*) FROM tenant WHERE id = :name"), {"name": name}
        )
        assert count.scalar_one() == 1
        with connection.begin_nested() as savepoint:
            session.later(connection, KEEP, f"{name}2")
            savepoint.rollback()
        session.later(connection, KEEP, f"{name}3")
    assert kept(engine, name) == [name, f"{name}3"]


def test_what_is_seen_after_the_commit_is_what_others_see(engine: Engine, name: str) -> None:
    with session.transaction(engine) as connection:
        session.later(connection, KEEP, name)
        assert [row.id for row in session.committed(connection, KEPT, name)] == [name]
    assert kept(engine, name) == [name]


def test_who_is_bound_to_a_tenant_is_so_after_the_commit_as_well(engine: Engine) -> None:
    whose = Statement(
        name="trip_whose", types="", sql="SELECT current_setting('celeriac.tenant', true) AS tenant"
    )
    acme = session.bound(engine, "acme")
    with session.transaction(acme) as connection:
        assert session.run(connection, whose)[0].tenant == "acme"
        assert session.committed(connection, whose)[0].tenant == "acme"
    with session.transaction(engine) as connection:
        assert not session.run(connection, whose)[0].tenant


def test_who_reads_sees_one_moment_and_can_write_nothing(engine: Engine, name: str) -> None:
    with session.transaction(engine, reads=True) as connection:
        assert session.run(connection, KEPT, name) == []
        with psycopg2.connect(
            engine.url.render_as_string(hide_password=False).replace("+psycopg2", "")
        ) as other:
            other.cursor().execute("INSERT INTO tenant (id, name) VALUES (%s, %s)", (name, name))
        other.close()
        assert session.run(connection, KEPT, name) == []
    with (
        pytest.raises(Unavailable, match="read-only"),
        session.transaction(engine, reads=True) as connection,
    ):
        session.run(connection, KEEP, f"{name}2")


def test_what_is_asked_alone_goes_there_once_bound_to_its_tenant_for_that_long(
    engine: Engine,
) -> None:
    whose = Statement(
        name="trip_asked", types="", sql="SELECT current_setting('celeriac.tenant', true) AS tenant"
    )
    assert not session.ask(engine, whose)[0].tenant
    with session.alone(engine) as connection:
        asked = sent(connection)
    assert session.ask(session.bound(engine, "acme"), whose)[0].tenant == "acme"
    assert [[part.split()[0] for part in trip.split(";")] for trip in asked] == [
        ["SELECT", "EXECUTE"]
    ]
    assert not session.ask(engine, whose)[0].tenant


def test_what_is_asked_alone_of_a_server_that_is_away_says_so(engine: Engine) -> None:
    gone = Statement(
        name="trip_gone", types="", sql="SELECT pg_terminate_backend(pg_backend_pid())"
    )
    for _ in range(2):
        with pytest.raises(Unavailable):
            session.ask(engine, gone)
