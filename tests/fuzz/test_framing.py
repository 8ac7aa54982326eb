"""What is no HTTP, or says wrongly how long it is: the process that serves the API refuses it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.fuzz.world import Operation, World
from tests.support import digests, server
from tests.support.server import Server

#: What the standard asks for where an encoding is not known.
_UNKNOWN = 501
#: Says of any text what is wrong with it; some framings are none that HTTP forbids.
_LINTS = "policies.lint"
ZERO = "00000000-0000-7000-8000-000000000000"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

#: Headers after the first ones, and the body: what is in it is no text, should it ever be read.
FRAMINGS: Mapping[str, bytes] = {
    "a length beneath zero": b"Content-Length: -5\r\n\r\n\xff!",
    "a length that is none": b"Content-Length: two\r\n\r\n\xff!",
    "a length with a sign": b"Content-Length: +2\r\n\r\n\xff!",
    "a length in parts": b"Content-Length: 2, 2\r\n\r\n\xff!",
    "a length without end": b"Content-Length: " + b"9" * 40 + b"\r\n\r\n\xff!",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n\xff!",
    "less than its length": b"Content-Length: 100\r\n\r\n\xff!",
    "more than its length": b"Content-Length: 2\r\n\r\n\xff!\xff!\xff!",
    "a length, and chunks": b"Content-Length: 2\r\n" + _CHUNKED + b"2\r\n\xff!\r\n0\r\n\r\n",
    "chunks": _CHUNKED + b"2\r\n\xff!\r\n0\r\n\r\n",
    "chunks, twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\n\xff!\r\n0\r\n\r\n",
    "chunks, in disguise": b"Transfer-Encoding: \x0bchunked\r\n\r\n2\r\n\xff!\r\n0\r\n\r\n",
    "chunks, and a space": b"Transfer-Encoding : chunked\r\n\r\n2\r\n\xff!\r\n0\r\n\r\n",
    "an encoding that is none": b"Transfer-Encoding: klingon\r\n\r\n\xff!",
    "a chunk of no size": _CHUNKED + b"zz\r\n\xff!\r\n0\r\n\r\n",
    "a chunk beneath zero": _CHUNKED + b"-2\r\n\xff!\r\n0\r\n\r\n",
    "a chunk beyond measure": _CHUNKED + b"f" * 20 + b"\r\n\xff!",
    "a chunk in hexadecimal": _CHUNKED + b"0x2\r\n\xff!\r\n0\r\n\r\n",
    "a chunk that is cut off": _CHUNKED + b"5\r\n\xff!",
    "a chunk that goes on": _CHUNKED + b"2\r\n\xff!\xff!\r\n0\r\n\r\n",
    "a chunk with more to say": _CHUNKED + b"2;" + b"a" * 10_000 + b"\r\n\xff!\r\n0\r\n\r\n",
    "no last chunk": _CHUNKED + b"2\r\n\xff!\r\n",
    "a trailer": _CHUNKED + b"2\r\n\xff!\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
    "a header without end": b"X: " + b"a" * 100_000 + b"\r\nContent-Length: 2\r\n\r\n\xff!",
    "1000 headers": b"X: a\r\n" * 1_000 + b"Content-Length: 2\r\n\r\n\xff!",
    "a header with NUL": b"X: a\x00b\r\nContent-Length: 2\r\n\r\n\xff!",
    "a header over two lines": b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n\xff!",
    "a header without a name": b": a\r\nContent-Length: 2\r\n\r\n\xff!",
    "a name with a space": b"X Y: a\r\nContent-Length: 2\r\n\r\n\xff!",
    "another host": b"Host: b\r\nContent-Length: 2\r\n\r\n\xff!",
    "something expected": b"Expect: klingon\r\nContent-Length: 2\r\n\r\n\xff!",
    "no end of headers": b"Content-Length: 2\r\n",
}


@pytest.fixture(scope="module")
def process(here: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("web")
    with server.running(here.control.settings, folder) as found:
        yield found


def test_a_request_that_is_no_http_is_refused_and_changes_nothing(
    here: World, process: Server
) -> None:
    check(here, process, "secrets.rotate", "runs.cancel", "graph.create", "bundles.upload")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_route_refuses_what_is_no_http(here: World, process: Server) -> None:
    check(here, process, *(one.endpoint for one in here.operations() if one.writes))


def check(here: World, process: Server, *endpoints: str) -> None:
    before = digests.of(here.owner)
    for operation in here.operations():
        if operation.writes and operation.endpoint in endpoints:
            for what, framing in FRAMINGS.items():
                status = answered(here, process, operation, framing)
                if status == HTTPStatus.OK and operation.endpoint == _LINTS:
                    continue
                assert status in {None, *range(400, 500), _UNKNOWN}, (operation.label, what, status)
    assert digests.of(here.owner) == before
    with process.client() as client:
        assert client.get("/health").status_code == 200


def answered(here: World, process: Server, operation: Operation, framing: bytes) -> int | None:
    """The status of the answer; None where the connection is closed without one."""
    path = operation.where[1]
    for name in operation.parameters:
        path = path.replace(f"{{{name}}}", ZERO)
    kind = "multipart/form-data; boundary=x" if "upload" in path else "application/json"
    head = (
        f"{operation.method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {here.api.token}\r\nContent-Type: {kind}\r\n"
    )
    with socket.create_connection(("127.0.0.1", process.port), timeout=30) as connection:
        try:
            connection.sendall(head.encode() + framing)
            connection.shutdown(socket.SHUT_WR)
            line = connection.makefile("rb").readline()
        except (BrokenPipeError, ConnectionResetError):
            return None
    return int(line.split()[1]) if line else None
