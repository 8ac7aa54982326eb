"""SQL services: their configuration, how values are kept apart, and servers that only seem to be Postgres."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema_rs
import pytest

from engine.core.values import Json
from engine.errors import Invalid
from engine.services import sql
from tests.unit.services import outside
from tests.unit.services.outside import LOOPBACK, Server, asked
from workers.services.service import Answer
from workers.services.sql import carry

URL = "postgresql://reader@db.example.com/shop"


def problems(config: Json) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        sql.read(config)
    return {problem.path: problem.message for problem in raised.value.problems}


# --- the configuration ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://u:hush@h/d", "sqlite:///tmp/hush.db", "postgresql+asyncpg://u:hush@h/d", "hush"),
        *("postgresql://h/d", "postgresql://u:hush@h", "postgresql://u:hush@h/", "postgresql:///d"),
        *(
            "postgresql://u:hush@a,b/d",
            "postgresql://u:hush@a:1,b:2/d",
            "postgresql://u:hush@h:99999/d",
        ),
        *("postgresql://u:hush@2130706433/d", "postgresql://u:hush@0x7f.1/d", "postgresql://u@*/d"),
        *("postgresql://u:hush@h/d?options=-c%20x", "postgresql://u:hush@h/d?sslmode=prefer"),
        *(
            "postgresql://u:hush@h/d?host=/run",
            "postgresql://u@/d?host=run",
            "postgresql://u:hush@h/d#x",
        ),
        *(
            "postgresql://u%00:hush@h/d",
            "postgresql://u:hush@h/d%0a",
            "postgresql://u:hush@[::1/d",
            "",
        ),
        *("postgresql://u:hush@h%2eexample/d", "postgresql://u:hush@h/d?hostaddr=127.0.0.1"),
    ],
)
def test_a_url_that_is_not_of_one_postgres_is_refused_and_not_quoted(url: str) -> None:
    found = problems({"url": url})
    assert found.keys() == {"config.url"}
    assert "hush" not in str(found)


def test_every_problem_is_told_at_once() -> None:
    config: Json = {
        "url": f"{URL}:x",
        "password": 7,
        "write": "yes",
        "max_rows": 0,
        "max_bytes": 1.5,
        "timeout": "1y",
        "allow_private": "10.0.0.1",
        "pool": 3,
    }
    assert problems(config).keys() == {
        *("config.password", "config.write", "config.max_rows", "config.max_bytes"),
        *("config.timeout", "config.allow_private", "config.pool"),
    }
    assert "config.url" in problems({})
    assert "config.url" in problems({"url": "postgresql://u:a@h/d", "password": "b"})


def test_a_url_says_where_a_database_is() -> None:
    url: Json = {"url": "postgres://a%40b:c%2Fd@[::1]:5433/e%20f?sslmode=require"}
    place = sql.read(url, resolved=True).place
    assert place == sql.Place(
        host="::1", port=5433, user="a@b", password="c/d", database="e f", mode="require"
    )
    secret = sql.read({"url": "$env.SHOP_URL", "password": "$env.SHOP_PASSWORD"})
    assert secret.place is None
    local = sql.read({"url": "postgresql://u@/d?host=/run/postgresql/"}).place
    assert local is not None
    assert (local.host, local.folder) == (None, "/run/postgresql")
    assert "hush" not in repr(sql.read({"url": URL, "password": "hush"}, resolved=True))


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"url": URL, "password": "hush"}, "config.password"),
        ({"url": URL, "password": "hush$env.WORD"}, "config.password"),
        ({"url": "postgresql://u:hush@h/d"}, "config.url"),
        ({"url": "postgresql://u:%24env.hush@h/d"}, "config.url"),
    ],
)
def test_a_password_is_not_written_out(config: Json, path: str) -> None:
    found = problems(config)
    assert found.keys() == {path}
    assert "is written out" in found[path]
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    "config",
    [{"url": URL, "password": "$env.WORD"}, {"url": "postgresql://u:$env.WORD@h/d"}],
)
def test_a_password_is_named(config: Json) -> None:
    place = sql.read(config).place
    assert place is not None
    assert place.password == "$env.WORD"


def test_what_a_call_does_to_the_world_is_what_it_may() -> None:
    assert sql.read({"url": URL}).effect == "pure"
    assert sql.read({"url": URL, "write": True}).effect == "at_most_once"
    fits = jsonschema_rs.validator_for(dict(sql.read({"url": URL}).parameters)).is_valid
    assert fits({"statement": "SELECT 1", "parameters": {"a": 1}})
    assert fits({"statement": "SELECT 1", "parameters": [1]})
    assert not fits({"statement": ""})
    assert not fits({"statement": "SELECT 1", "parameters": "a"})


# --- statements and values --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "text", "names"),
    [
        ("SELECT :a, :b, :a", "SELECT $1, $2, $1", "ab"),
        ("SELECT :a::int", "SELECT $1::int", "a"),
        (
            "SELECT ':a', \":a\", e'\\':a', 'it''s :a', :b",
            "SELECT ':a', \":a\", e'\\':a', 'it''s :a', $1",
            "b",
        ),
        ("SELECT $$:a$$, $x$ $$ :a $x$, :b", "SELECT $$:a$$, $x$ $$ :a $x$, $1", "b"),
        ("SELECT 1 -- :a\n, /* :a */ :b", "SELECT 1 -- :a\n, /* :a */ $1", "b"),
        ("SELECT x[1:2], y[:a]", "SELECT x[1:2], y[$1]", "a"),
        ("SELECT ':a", "SELECT ':a", ""),
        ("SELECT $$:a", "SELECT $$:a", ""),
    ],
)
def test_a_name_is_a_parameter_where_it_is_no_text(statement: str, text: str, names: str) -> None:
    assert sql.bound(statement, {name: name.upper() for name in names}) == (
        text,
        [name.upper() for name in names],
    )


def test_reading_a_statement_takes_time_in_proportion() -> None:
    began = time.monotonic()
    for piece in ("$a", "/*", "'", "e'\\", "$a$", ":a", "::", "--", '"', "$$"):
        sql.bound(piece * (sql.LIMIT // len(piece)), {"a": 1} if piece == ":a" else {})
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ("SELECT :a", {}),
        ("SELECT 1", {"a": 1}),
        ("SELECT\x00", {}),
        ("  ", {}),
        ("SELECT :a", None),
    ],
)
def test_parameters_go_with_their_statement(statement: str, parameters: Json) -> None:
    with pytest.raises(sql.Unbound):
        sql.bound(statement, parameters)


# --- servers that only seem to be Postgres ----------------------------------------------------


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


READY = message(b"R", struct.pack("!i", 0)) + message(b"Z", b"I")


def pretending(*said: bytes) -> Callable[[socket.socket], None]:
    """A server that says something to whatever it is asked, each thing once."""

    def talk(sock: socket.socket) -> None:
        for each in said:
            if not sock.recv(65536):
                return
            sock.sendall(each)
        while sock.recv(65536):
            pass

    return talk


def ask(server: Server, mode: str = "disable", **config: Json) -> Answer:
    whole: dict[str, Json] = {
        "url": f"postgresql://u@127.0.0.1:{server.port}/d?sslmode={mode}",
        "allow_private": [*LOOPBACK],
        "timeout": "2s",
        **config,
    }
    return carry(asked(whole, {"statement": "SELECT 1"}))


ROW = message(b"D", struct.pack("!hi", 1, 20_000) + b"x" * 20_000)
COLUMN = message(
    b"T", struct.pack("!h", 1) + b"a\x00" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ((b"",), "timeout"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "bad_response"),
        ((b"S" * 100,), "bad_response"),
        ((message(b"R", struct.pack("!i", 99)),), "bad_response"),
        ((message(b"R"),), "bad_response"),
        ((message(b"?", b"x"),), "bad_response"),
        ((b"R" + struct.pack("!i", -5),), "bad_response"),
        ((b"R" + struct.pack("!i", 2_000_000_000),), "bad_response"),
        # A password in clear text, and one asked for by who then says nothing.
        ((message(b"R", struct.pack("!i", 3)),), "blocked"),
        ((message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\x00\x00"),), "timeout"),
        (
            (READY, message(b"E", b"SERROR\x00C53300\x00Mtoo many\x00\x00") + message(b"Z", b"I")),
            "server_error",
        ),
        ((message(b"E", b"SFATAL\x00C28P01\x00Mno\x00\x00"),), "client_error"),
        ((READY, COLUMN + ROW * 400), "output_too_large"),
        ((READY, message(b"N", b"x" * 10_000) * 1_000), "output_too_large"),
    ],
)
def test_a_server_that_is_none_is_no_harm(said: tuple[bytes, ...], reason: str) -> None:
    began = time.monotonic()
    with outside.raw(pretending(*said)) as server:
        answer = ask(server, password="hush-1", max_bytes=10_000)
    assert answer.reason == reason
    assert "hush-1" not in str(answer)
    assert time.monotonic() - began < 5


def test_a_password_is_not_hashed_for_hours() -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\x00\x00"))
        nonce = sock.recv(65536).partition(b"r=")[2]
        first = b"r=" + nonce + b"x,s=c2FsdA==,i=2000000000"
        sock.sendall(message(b"R", struct.pack("!i", 11) + first))
        sock.recv(65536)

    with outside.raw(talk) as server:
        answer = ask(server, password="hush-1")
    assert answer.reason == "bad_response"
    assert "2000000000 times" in (answer.message or "")


def test_who_speaks_no_tls_is_not_told_a_password() -> None:
    heard: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        heard.append(sock.recv(65536))
        sock.sendall(b"N")
        heard.append(sock.recv(65536))

    with outside.raw(talk) as server:
        answer = ask(server, mode="verify-full", password="hush-1")
    assert answer.reason == "unreachable"
    assert "sslmode=disable" in (answer.message or "")
    assert b"".join(heard) == struct.pack("!ii", 8, 80_877_103)


def test_a_certificate_is_checked_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(outside.certificate(tmp_path, "db.example.com"))
    offered: list[str | None] = []

    def talk(sock: socket.socket) -> None:
        sock.recv(8)
        sock.sendall(b"S")
        with context.wrap_socket(sock, server_side=True) as encrypted:
            offered.append(encrypted.version())
            encrypted.recv(65536)
            # In clear text within TLS: that may be.
            encrypted.sendall(message(b"R", struct.pack("!i", 3)))
            assert b"hush-1" in encrypted.recv(65536)
            encrypted.sendall(message(b"E", b"SFATAL\x00C28P01\x00Mwrong\x00\x00"))

    with outside.raw(talk) as server:
        checked = ask(server, mode="verify-full", password="hush-1")
        unchecked = ask(server, mode="require", password="hush-1")
    assert (checked.reason, "certificate" in (checked.message or "")) == ("unreachable", True)
    assert unchecked.reason == "client_error"
    assert len(offered) == 1


def test_a_server_that_drips_is_cut_off() -> None:
    ended = threading.Event()

    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        while not ended.wait(0.05):
            sock.sendall(b"R\x00\x00\x00\x08\x00\x00\x00\x00")

    began = time.monotonic()
    with outside.raw(talk) as server:
        answer = ask(server, timeout="500ms")
        ended.set()
    assert answer.reason == "timeout"
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("postgresql://u@127.0.0.1/d", ()),
        ("postgresql://u@[::ffff:127.0.0.1]/d", ()),
        ("postgresql://u@localhost/d", ()),
        ("postgresql://u@169.254.169.254/d", ("0.0.0.0/0",)),
        ("postgresql://u@/d?host=/run/postgresql", LOOPBACK),
        ("postgresql://u@/d?host=/run/postgresql/../x", ("/run/postgresql",)),
    ],
)
def test_a_private_database_is_not_reached(url: str, private: tuple[str, ...]) -> None:
    config: dict[str, Json] = {"url": url, "allow_private": [*private]}
    arguments: dict[str, Json] = {"statement": "SELECT 1"}
    assert carry(asked(config, arguments, private=private)).reason == "blocked"
    wanted: dict[str, Json] = {"url": url, "allow_private": ["127.0.0.1", "::1", "/run/postgresql"]}
    assert carry(asked(wanted, arguments, private=())).reason == "blocked"


def test_a_dry_run_says_what_would_be_run() -> None:
    arguments: dict[str, Json] = {"statement": "SELECT :a", "parameters": {"a": 1}, "dry_run": True}
    answer = carry(asked({"url": URL, "password": "hush-1"}, arguments))
    assert answer.value == {
        "dry_run": True,
        "database": "db.example.com:5432/shop",
        "user": "reader",
        "write": False,
        "statement": "SELECT $1",
        "parameters": [1],
    }
    waiting = carry(asked({"url": URL, "password": "$env.X"}, arguments))
    assert (waiting.reason, "X" in (waiting.message or "")) == ("not_granted", True)
    assert carry(asked({"url": "x"}, arguments)).reason == "blocked"
    assert carry(asked({"url": URL}, {"statement": "SELECT :a"})).reason == "arguments_refused"
