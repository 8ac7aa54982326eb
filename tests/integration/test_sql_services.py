"""SQL services against a real Postgres: what comes back, what is refused, and what is left behind."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest

from engine.core import values
from engine.core.values import Json
from workers.services.service import Answer, Asked
from workers.services.sql import carry

Call = Callable[..., Answer]


@pytest.fixture
def folder(database: str) -> str:
    """Where the sockets of the database's server are."""
    return parse_qs(urlsplit(database).query)["host"][0]


@pytest.fixture
def direct(database: str) -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    """Look at the database by another way."""
    with contextlib.closing(psycopg2.connect(database.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True

        def look(statement: str) -> list[tuple[object, ...]]:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

        look("CREATE TABLE parcel (id integer PRIMARY KEY, note text)")
        look("INSERT INTO parcel SELECT n, 'note ' || n FROM generate_series(1, 5) AS n")
        yield look


@pytest.fixture
def call(database: str, folder: str) -> Call:
    """Call a service of this database."""
    name = urlsplit(database).path[1:]
    url = f"postgresql://celeriac@/{name}?host={folder}"

    def made(
        statement: str,
        parameters: Json = None,
        *,
        stopped: threading.Event | None = None,
        **config: Json,
    ) -> Answer:
        return carry(
            Asked(
                config={"url": url, "allow_private": [folder], "timeout": "20s", **config},
                arguments={"statement": statement, "parameters": parameters},
                idempotency_key="key-1",
                seconds=20,
                private=(folder,),
                stopped=stopped or threading.Event(),
            )
        )

    return made


def rows(answer: Answer) -> list[dict[str, Json]]:
    assert answer.reason is None, answer.message
    assert isinstance(answer.value, dict)
    found = answer.value["rows"]
    assert isinstance(found, list)
    return found  # type: ignore[return-value]  # rows are objects


# --- what comes back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        *(("NULL", None), ("true", True), ("42", 42), ("9223372036854775807", 9223372036854775807)),
        *(("1.5::float8", 1.5), ("'NaN'::float8", "NaN"), ("'-Infinity'::float8", "-Infinity")),
        *(("1.10::numeric", 1.1), ("0.1234567890123456789", "0.1234567890123456789")),
        *(("100::numeric", 100), ("99999999999999999999::numeric", "99999999999999999999")),
        *(("'NaN'::numeric", "NaN"), ("'grün'::text", "grün"), ("'a'::char(3)", "a  ")),
        ("timestamptz '2026-02-01 12:00:00.5+05:30'", "2026-02-01T06:30:00.5+00:00"),
        ("timestamp '2026-02-01 12:00:00'", "2026-02-01T12:00:00"),
        ("timestamptz 'infinity'", "infinity"),
        ("timestamp '0044-03-15 12:00:00 BC'", "0044-03-15 12:00:00 BC"),
        *(("date '2026-02-01'", "2026-02-01"), ("time '12:30'", "12:30:00")),
        *(("interval '1 day 2 hours'", "P1DT2H"), (r"'\x00ff'::bytea", "AP8=")),
        ("'5a3f0b1e-0000-4000-8000-000000000001'::uuid", "5a3f0b1e-0000-4000-8000-000000000001"),
        ("""'{"a": [1, null]}'::jsonb""", {"a": [1, None]}),
        ("'123456789012345678901234567890'::jsonb", "123456789012345678901234567890"),
        *(("array[1, NULL, 3]", [1, None, 3]), ("array[[1, 2], [3, 4]]", [[1, 2], [3, 4]])),
        *(("array['a,b', 'c\"d', '']", ["a,b", 'c"d', ""]), ("array[]::text[]", [])),
        *(
            ("'10.0.0.0/8'::inet", "10.0.0.0/8"),
            ("row(1, 'a')", "(1,a)"),
            ("int4range(1, 5)", "[1,5)"),
        ),
    ],
)
def test_values_come_back_as_json(call: Call, sql: str, value: Json) -> None:
    (row,) = rows(call(f"SELECT {sql} AS v"))
    assert row == {"v": value}
    assert not list(values.problems(row))


@pytest.mark.parametrize(
    ("sql", "value", "back"),
    [
        *(
            (":v::int + 1", 41, 42),
            (":v::text", "'; DROP TABLE parcel; --", "'; DROP TABLE parcel; --"),
        ),
        *((":v::bool", True, True), (":v::text", None, None), (":v::float8", 1e300, 1e300)),
        *((":v::jsonb", {"a": ["x'y"]}, {"a": ["x'y"]}), (":v::jsonb", [1], [1])),
        *(
            (":v::int[]", [1, None], [1, None]),
            (":v::text[]", ['a"b\\', "", "NULL"], ['a"b\\', "", "NULL"]),
        ),
        *(
            (":v::timestamptz", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00+00:00"),
            ("2 = ANY(:v)", [1, 2], True),
        ),
        ("(SELECT note FROM parcel WHERE id = :v)", 2, "note 2"),
        ("'literal :v' || :v", "!", "literal :v!"),
    ],
)
def test_values_are_bound_by_the_server(
    call: Call, direct: Callable[[str], object], sql: str, value: Json, back: Json
) -> None:
    assert rows(call(f"SELECT {sql} AS v", {"v": value})) == [{"v": back}]


def test_values_are_bound_by_their_order_too(call: Call) -> None:
    assert rows(call("SELECT $2::text AS a, $1::int AS b", [7, "x"])) == [{"a": "x", "b": 7}]
    assert call("SELECT $1::int", [1, 2]).reason == "arguments_refused"
    assert call("SELECT $1::int", [None, 2]).reason == "arguments_refused"
    assert call("SELECT :a::int", {"a": "no number"}).reason == "client_error"


def test_columns_of_one_name_are_told_apart(call: Call) -> None:
    answer = call("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4")
    assert rows(answer) == [{"a": 1, "a_2": 2, "a_2_2": 3, "?column?": 4}]


@pytest.mark.parametrize(
    "statement", ["VALUES (1)", "TABLE parcel", "WITH a AS (SELECT 1) SELECT * FROM a;"]
)
def test_queries_are_more_than_select(call: Call, direct: object, statement: str) -> None:
    assert rows(call(statement))


# --- how much ---------------------------------------------------------------------------------


def test_no_more_rows_come_than_are_wanted(call: Call) -> None:
    answer = call("SELECT generate_series(1, 1000000000) AS n", max_rows=3)
    assert rows(answer) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert isinstance(answer.value, dict)
    assert (answer.value["row_count"], answer.value["truncated"]) == (3, True)
    exact = call("SELECT n FROM generate_series(1, 3) AS n", max_rows=3).value
    assert isinstance(exact, dict)
    assert exact["truncated"] is False


def test_no_more_bytes_come_than_are_wanted(call: Call) -> None:
    answer = call("SELECT repeat('x', 1000) AS x FROM generate_series(1, 1000)", max_bytes=2500)
    assert len(rows(answer)) == 2
    assert isinstance(answer.value, dict)
    assert answer.value["truncated"] is True
    one = call("SELECT repeat('x', 50000000) AS x", max_bytes=2500)
    assert one.reason == "output_too_large"


def test_a_query_takes_no_longer_than_it_may_and_leaves_nothing_running(
    call: Call, direct: Callable[[str], list[tuple[object, ...]]]
) -> None:
    began = time.monotonic()
    assert call("SELECT pg_sleep(30)", timeout="300ms").reason == "timeout"
    # Not even where it takes away the server's own time-out.
    undone = "SELECT set_config('statement_timeout', '0', false), pg_sleep(30)"
    assert call(undone, timeout="300ms").reason == "timeout"
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    assert call("SELECT pg_sleep(30)", stopped=stopped).reason == "cancelled"
    assert time.monotonic() - began < 10
    _until(lambda: not direct(_RUNNING))


_RUNNING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'celeriac' AND state = 'active'"
    " AND query LIKE '%pg_sleep%'"
)


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


# --- what may not be --------------------------------------------------------------------------

HOSTILE = [
    "DELETE FROM parcel",
    "SELECT 1; DELETE FROM parcel",
    "COMMIT; DELETE FROM parcel",
    "COMMIT",
    "ROLLBACK",
    "SELECT 1) x; DELETE FROM parcel; --",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET SESSION AUTHORIZATION celeriac",
    "RESET ALL",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT set_config('default_transaction_read_only', 'off', true), lo_create(0)",
    "COPY parcel TO PROGRAM 'touch /tmp/celeriac-was-here'",
    "COPY parcel TO STDOUT",
    "COPY parcel FROM PROGRAM 'echo 9'",
    "DO $$ BEGIN DELETE FROM parcel; END $$",
    "CALL nothing()",
    "WITH gone AS (DELETE FROM parcel RETURNING id) SELECT * FROM gone",
    "SELECT * INTO taken FROM parcel",
    "SELECT * FROM parcel FOR UPDATE",
    "SELECT nextval('counter')",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT emptied()",
    "PREPARE p AS DELETE FROM parcel",
    "EXPLAIN ANALYZE DELETE FROM parcel",
    "LISTEN x",
    "LOCK TABLE parcel",
    "VACUUM parcel",
    "CREATE TEMP TABLE t (a int)",
    "SELECT 1 \\; DELETE FROM parcel",
    "/* */ DELETE FROM parcel",
    "SELECT ';' FROM parcel; DELETE FROM parcel WHERE note <> ';'",
]


def test_a_service_that_may_not_write_does_not(
    call: Call, direct: Callable[[str], list[tuple[object, ...]]]
) -> None:
    direct("CREATE SEQUENCE counter")
    direct(
        "CREATE FUNCTION emptied() RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM parcel; RETURN 1; END $$"
    )
    for statement in HOSTILE:
        answer = call(statement)
        assert answer.reason in {"client_error", "blocked"}, statement
    assert direct("SELECT count(*) FROM parcel") == [(5,)]
    assert direct("SELECT is_called FROM counter") == [(False,)]
    assert direct("SELECT to_regclass('taken')") == [(None,)]
    _until(lambda: direct(_LEFT) == [(0,)])


_LEFT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'celeriac' AND datname = current_database() AND pid <> pg_backend_pid()"


def test_a_service_that_may_write_does_one_statement_or_nothing(
    call: Call, direct: Callable[[str], list[tuple[object, ...]]]
) -> None:
    answer = call(
        "UPDATE parcel SET note = :note WHERE id > :id", {"note": "x", "id": 3}, write=True
    )
    assert isinstance(answer.value, dict)
    assert (answer.value["row_count"], answer.value["rows"]) == (2, [])
    returned = call("DELETE FROM parcel WHERE id = 5 RETURNING id, note", write=True)
    assert rows(returned) == [{"id": 5, "note": "x"}]
    for statement in ("DELETE FROM parcel; SELECT 1", "INSERT INTO parcel VALUES (1, 'twice')"):
        assert call(statement, write=True).reason == "client_error"
    assert call("COPY parcel TO STDOUT", write=True).reason == "bad_response"
    too_much = call("DELETE FROM parcel RETURNING id", write=True, max_rows=1)
    assert too_much.reason == "output_too_large"
    assert direct("SELECT count(*) FROM parcel") == [(4,)]


def test_whoever_holds_a_lock_is_not_waited_for_past_the_time(
    call: Call, direct: Callable[[str], list[tuple[object, ...]]]
) -> None:
    direct("BEGIN")
    direct("LOCK TABLE parcel")
    began = time.monotonic()
    assert call("TABLE parcel", timeout="500ms").reason in {"timeout", "server_error"}
    assert time.monotonic() - began < 5
    direct("ROLLBACK")


# --- where it is ------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(path: str) -> Iterator[int]:
    """The database's server by TCP: its port."""
    outside = socket.create_server(("127.0.0.1", 0))

    def pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for sock in (one, other):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                one = outside.accept()[0]
                other = socket.socket(socket.AF_UNIX)
                other.connect(path)
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield outside.getsockname()[1]
    outside.shutdown(socket.SHUT_RDWR)
    outside.close()


def test_a_database_is_reached_by_tcp_unless_it_is_the_platforms_own(
    database: str, folder: str
) -> None:
    with listening(f"{folder}/.s.PGSQL.5432") as port:

        def ask(*private: str, own: str = "localhost:1", host: str = "127.0.0.1") -> Answer:
            path = urlsplit(database).path
            return carry(
                Asked(
                    config={
                        "url": f"postgresql://celeriac@{host}:{port}{path}?sslmode=disable",
                        "allow_private": ["127.0.0.0/8"],
                    },
                    arguments={"statement": "SELECT 1 AS one"},
                    idempotency_key="key-1",
                    seconds=10,
                    private=private,
                    own=(own,),
                )
            )

        assert rows(ask("127.0.0.0/8")) == [{"one": 1}]
        assert ask().reason == "blocked"
        for own in ("localhost", "127.0.0.1", "0.0.0.0"):
            answer = ask("127.0.0.0/8", own=f"{own}:{port}")
            assert answer.reason == "blocked"
            assert "platform's own" in (answer.message or "")
        named = f"127.0.0.1:{port}"
        assert rows(ask("127.0.0.0/8", named, own=named)) == [{"one": 1}]
