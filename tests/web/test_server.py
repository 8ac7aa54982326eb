"""The web process: how it starts, how it ends, what survives what is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket as sockets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import websocket

from engine.platform import Platform
from engine.runs import access, catalogue
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support import server as servers
from tests.support.fleet import wait_until
from tests.support.platforms import LINE
from tests.support.server import Server
from tests.support.services import Services
from web import connection
from web import server as web_server

STREAMS = 4


@pytest.fixture(scope="module")
def own(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with site.of_its_own(shared_services, tmp_path_factory.mktemp("home")) as settings:
        yield replace(site.local(settings), streams=STREAMS, wait_seconds=30)


@pytest.fixture(scope="module")
def control(own: Settings) -> Iterator[Platform]:
    with site.controlled(own) as platform:
        platforms.register(platform, "noop")
        platforms.publish(platform, dict(LINE))
        yield platform


@pytest.fixture
def run(control: Platform) -> RunId:
    return platforms.submit(control, catalogue.find(control, "local", "line").id)


@pytest.fixture
def server(own: Settings, control: Platform, tmp_path: Path) -> Iterator[Server]:
    with servers.running(own, tmp_path) as server:
        yield server


def test_a_process_that_is_asked_to_end_ends_its_streams_and_is_gone_shortly(
    server: Server, control: Platform, run: RunId
) -> None:
    headers = {"Authorization": f"Bearer {access.create_key(control.database, access.LOCAL)}"}
    place = f"/api/v1/runs/{run.run}"
    socket = server.socket(f"/graph/ws/{run.run}?after=1000")

    def waits() -> httpx2.Response:
        while (answer := other.get(f"{place}/wait?seconds=60", timeout=60)).status_code == 503:
            pass  # who looks whether all are there took the place for a moment
        return answer

    with (
        server.client(headers=headers) as client,
        server.client(headers=headers) as other,
        client.stream("GET", f"{place}/events") as events,
        ThreadPoolExecutor() as pool,
        contextlib.closing(socket),
    ):
        waiting = [pool.submit(waits) for _ in range(STREAMS - 2)]
        told = events.iter_lines()
        assert next(told).startswith("retry")
        # With the socket and the events they take all places: then all are there.
        wait_until(lambda: other.get(f"{place}/wait?seconds=0").status_code == 503)
        began = time.monotonic()
        assert server.stop() == 0
        # What is asserted below says that it was not cut off; a stream would last for ever.
        assert time.monotonic() - began < 10 * web_server.GRACE_SECONDS
        opcode, data = socket.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        assert int.from_bytes(data[:2], "big") == 1012
        assert "event: end" not in list(told)
        assert [one.result().json()["ended"] for one in waiting] == [False] * len(waiting)


def test_a_worker_that_is_killed_is_replaced_and_streams_go_on_where_they_were(
    server: Server, run: RunId
) -> None:
    socket = server.socket(f"/graph/ws/{run.run}")
    first = json.loads(socket.recv())
    (child,) = (
        Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    )
    os.kill(int(child), signal.SIGKILL)
    socket.close()

    def answers() -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{server.url}/health").is_success
        return False

    wait_until(answers, seconds=20, what="the worker to be back")
    again = server.socket(f"/graph/ws/{run.run}?after={first['seq']}")
    assert json.loads(again.recv())["seq"] > first["seq"]
    again.close()


def test_a_master_that_is_killed_leaves_nobody_behind(server: Server) -> None:
    place = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    (child,) = place.read_text().split()
    server.process.kill()
    server.process.wait()

    def gone() -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return True

    wait_until(gone, seconds=20, what="the worker to end")


def test_every_line_that_it_logs_is_json_and_holds_no_secret(
    server: Server, control: Platform
) -> None:
    token = access.create_key(control.database, access.LOCAL)
    with server.client(headers={"Authorization": f"Bearer {token}"}) as client:
        client.get("/api/v1/runs", headers={"X-Request-ID": "r-1"})
        client.get("/graph/a%0d%0a%7B%22level%22:1%7D%1b%5B31m")
    server.stop()
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["process"] for line in lines} == {"web"}
    (request,) = (line for line in lines if line.get("request_id") == "r-1")
    assert (request["path"], request["status"], request["user"], request["tenant"]) == (
        "/api/v1/runs",
        200,
        "local",
        "local",
    )
    assert token not in text
    assert "\x1b" not in text


def test_a_socket_in_the_file_system_is_for_its_owner(
    own: Settings, control: Platform, short_folder: Path
) -> None:
    place = short_folder / "web.sock"
    settings = replace(own, host=str(place))
    assert web_server.options(settings)["bind"] == [f"unix:{place}"]
    with servers.running_at(settings, short_folder) as process:
        with httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(place)), base_url="http://localhost"
        ) as client:
            wait_until(lambda: place.exists() and _ok(client), what=f"the API {process.args}")
            assert client.get("/graph/list").status_code == 200
            assert client.get("/graph/list", headers={"Host": "evil"}).status_code == 401
        assert place.stat().st_mode & 0o077 == 0


def _ok(client: httpx2.Client) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return client.get("/health").is_success
    return False


@pytest.mark.parametrize(
    ("host", "bind"),
    [
        ("127.0.0.1", "127.0.0.1:8000"),
        ("localhost", "localhost:8000"),
        ("::1", "[::1]:8000"),
        ("unix:/run/c.sock", "unix:/run/c.sock"),
    ],
)
def test_it_listens_where_it_is_told(host: str, bind: str, own: Settings) -> None:
    found = web_server.options(replace(own, host=host, port=8000))
    assert found["bind"] == [bind]


def test_there_are_more_threads_than_streams(own: Settings) -> None:
    found = web_server.options(replace(own, streams=500))
    assert found["threads"] > 500
    assert found["graceful_timeout"] <= 10


def test_half_a_request_holds_up_nobody_for_long(server: Server) -> None:
    """More connections than threads, each of which stops in the middle of its headers."""
    with contextlib.ExitStack() as stack:
        for _ in range(STREAMS + web_server.SPARE_THREADS + 10):
            one = stack.enter_context(sockets.create_connection(("127.0.0.1", server.port)))
            one.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        assert httpx2.get(f"{server.url}/health", timeout=60).is_success
        assert time.monotonic() - began < 4 * connection.RECEIVE_SECONDS


def test_a_body_that_is_cut_off_is_not_taken_for_the_whole(
    server: Server, control: Platform
) -> None:
    """A draft may be any text: nothing of it says that there should be more."""
    key = access.create_key(control.database, access.LOCAL)
    place = "/api/v1/drafts/line"
    head = f"PUT {place} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    sent = f"{head}Content-Type: application/yaml\r\nContent-Length: 100\r\n\r\nworkflow: line"
    with sockets.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent.encode())
        connection.shutdown(sockets.SHUT_WR)
        assert b" 400 " in connection.makefile("rb").readline()
    with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
        assert client.get(place).status_code == 404


def test_many_requests_at_once_are_all_answered(server: Server) -> None:
    answered = threading.Barrier(20)

    def ask(_: int) -> set[int]:
        with server.client() as client:
            answered.wait()
            return {client.get("/graph/runs").status_code for _ in range(10)}

    with ThreadPoolExecutor(20) as pool:
        assert set().union(*pool.map(ask, range(20))) == {200}
