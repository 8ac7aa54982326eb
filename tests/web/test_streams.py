"""Live streams of a real server: nothing missed, nothing twice, nobody starved."""

from __future__ import annotations

import contextlib
import json
import random
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websocket
from flask import Request
from werkzeug.test import EnvironBuilder

from engine import live
from engine.platform import DatabaseRole, Platform
from engine.runs import access, catalogue, views
from engine.runs import control as controls
from engine.runs.logs import Log
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support import server as servers
from tests.support.fleet import wait_until
from tests.support.platforms import as_owner, finish, take
from tests.support.proxy import between
from tests.support.server import Server, Socket
from tests.support.services import Services
from web.server import SPARE_THREADS
from web.websocket import opened

STREAMS = 6
NODES = 8
CHAIN = {
    "workflow": "chain",
    "nodes": {f"n{n}": {"uses": "noop"} for n in range(NODES)},
    "edges": [" -> ".join([*(f"n{n}" for n in range(NODES)), "end"])],
}
ZERO = "01a00000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def own(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with site.of_its_own(shared_services, tmp_path_factory.mktemp("home")) as settings:
        yield replace(site.local(settings), streams=STREAMS, wait_seconds=5)


@pytest.fixture(scope="module")
def control(own: Settings) -> Iterator[Platform]:
    with site.controlled(own) as platform:
        platforms.register(platform, "noop")
        platforms.publish(platform, CHAIN)
        yield platform


@pytest.fixture(scope="module")
def worker(own: Settings, control: Platform) -> Iterator[Platform]:
    with platforms.platform(own, DatabaseRole.WORKER) as platform:
        yield platform


@pytest.fixture(scope="module")
def server(
    own: Settings, control: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with servers.running(own, tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture(scope="module")
def headers(control: Platform) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.create_key(control.database, access.LOCAL)}"}


@pytest.fixture(scope="module")
def idle(control: Platform) -> RunId:
    """A run that nothing happens to."""
    return platforms.submit(control, catalogue.find(control, "local", "chain").id)


@pytest.fixture(autouse=True)
def places_are_given_back(server: Server, idle: RunId) -> Iterator[None]:
    """Whatever a test did, all places are free again soon after."""
    yield
    wait_until(lambda: free_places(server, idle) == STREAMS, seconds=20, what="free places")


def free_places(server: Server, idle: RunId) -> int:
    with contextlib.ExitStack() as stack:
        for taken in range(STREAMS):
            try:
                socket = server.socket_now(f"/graph/ws/{idle.run}?after=1000000")
            except websocket.WebSocketBadStatusException:
                return taken
            stack.enter_context(contextlib.closing(socket))
    return STREAMS


class Play:
    """A run, one node at a time."""

    def __init__(self, control: Platform, worker: Platform) -> None:
        self._control, self._worker = control, worker
        version = catalogue.find(control, "local", "chain").id
        self.run: RunId = platforms.submit(control, version)
        self._next = 0

    def go(self, nodes: int = 1, *, log: int = 0) -> None:
        for _ in range(nodes):
            lease = take(self._worker, self.run, f"n{self._next}#1")
            printed = Log(self._worker, lease)
            for line in range(log):
                printed.add("stdout", f"{lease.node} says {line}")
                printed.flush()
            finish(self._control, self._worker, lease, done=self._next)
            self._next += 1

    def end(self) -> None:
        self.go(NODES - self._next)


@pytest.fixture
def play(control: Platform, worker: Platform) -> Play:
    return Play(control, worker)


def cut_off(*platforms: Platform) -> None:
    """Break every connection to the database but ours, which are opened anew."""
    for platform in platforms:
        platform.database.dispose()
    as_owner(
        platforms[0].settings,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def receive(socket: Socket, number: int) -> list[dict[str, Any]]:
    return [json.loads(socket.recv()) for _ in range(number)]


def until_closed(socket: Socket) -> tuple[list[dict[str, Any]], int]:
    """Every message that is left, and the code of the frame that closes."""
    found = []
    with contextlib.closing(socket):
        while True:
            opcode, data = socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return found, int.from_bytes(data[:2], "big")
            if opcode == websocket.ABNF.OPCODE_TEXT:
                found.append(json.loads(data))


def whole(server: Server, run: RunId) -> list[dict[str, Any]]:
    """The log as `/graph/state` tells it."""
    answer = httpx2.get(f"{server.url}/graph/state/{run.run}").raise_for_status()
    steps: list[dict[str, Any]] = answer.json()["execution_log"]["steps"]
    return steps


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", [ZERO, "nope", "0", "x" * 200])
def test_a_run_that_is_not_there_closes_with_a_reason(server: Server, run_id: str) -> None:
    assert until_closed(server.socket(f"/graph/ws/{run_id}")) == ([], 4404)


@pytest.mark.parametrize(
    "given",
    [
        {"suppress_origin": False, "origin": "http://evil.example"},
        {"host": "evil.example"},
        {"header": ["X-Forwarded-For: 127.0.0.1"]},
        {"header": ["Authorization: Bearer nope"]},
    ],
    ids=["origin", "host", "proxy", "credential"],
)
def test_who_may_not_ask_is_told_so_after_the_handshake(
    server: Server, play: Play, given: dict[str, Any]
) -> None:
    assert until_closed(server.socket(f"/graph/ws/{play.run.run}", **given)) == ([], 4401)


def test_who_may_not_read_runs_is_told_so_after_the_handshake(
    server: Server, play: Play, control: Platform
) -> None:
    nobody = replace(access.LOCAL, user="nobody", roles=frozenset())
    header = [f"Authorization: Bearer {access.create_key(control.database, nobody)}"]
    socket = server.socket(f"/graph/ws/{play.run.run}", header=header)
    assert until_closed(socket) == ([], 4403)


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 40, "%00", "1&after=2"])
def test_a_place_in_the_stream_that_cannot_be_is_refused(
    server: Server, play: Play, after: str
) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as raised:
        server.socket(f"/graph/ws/{play.run.run}?after={after}")
    assert raised.value.status_code == 422


def test_what_is_no_handshake_is_refused(server: Server, play: Play) -> None:
    place = f"{server.url}/graph/ws/{play.run.run}"
    assert 400 <= httpx2.get(place).status_code < 500
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    for more in ({}, {"Sec-WebSocket-Version": "13"}, {"Sec-WebSocket-Key": "x"}):
        answer = httpx2.get(place, headers={**upgrade, **more})
        assert answer.status_code == 400
        assert answer.json()["detail"]


def test_a_message_beyond_measure_ends_the_stream_and_not_the_server(
    server: Server, play: Play
) -> None:
    socket = server.socket(f"/graph/ws/{play.run.run}")
    receive(socket, 1)
    with contextlib.suppress(OSError, websocket.WebSocketException):
        socket.send("x" * 1_000_000)
        until_closed(socket)
    socket.close()


def test_with_every_place_taken_all_else_is_served_at_once(
    server: Server, play: Play, headers: dict[str, str]
) -> None:
    place = f"/api/v1/runs/{play.run.run}"
    with contextlib.ExitStack() as stack:
        for _ in range(STREAMS // 2):
            socket = server.socket(f"/graph/ws/{play.run.run}")
            stack.enter_context(contextlib.closing(socket))
            client = stack.enter_context(server.client(headers=headers))
            stack.enter_context(client.stream("GET", f"{place}/events"))
        with pytest.raises(websocket.WebSocketBadStatusException) as raised:
            server.socket_now(f"/graph/ws/{play.run.run}")
        assert raised.value.status_code == 503
        assert int(raised.value.resp_headers["retry-after"]) >= 1
        with server.client(headers=headers) as client:
            for refused in (
                client.get(f"{place}/events"),
                client.get(f"{place}/wait"),
                client.post("/graph/run", json={"graph_id": views_graph(client)}),
            ):
                assert refused.status_code == 503
                assert int(refused.headers["Retry-After"]) >= 1

            def ask(_: int) -> float:
                began = time.perf_counter()
                assert client.get(place).status_code == 200
                assert client.get("/graph/runs").status_code == 200
                return time.perf_counter() - began

            with ThreadPoolExecutor(16) as pool:
                took = sorted(pool.map(ask, range(200)))
        # Whoever waited for a stream to end would wait for ever.
        assert took[-1] < 10


def views_graph(client: httpx2.Client) -> str:
    graph: str = client.get("/graph/list").json()["graphs"][0]["graph_id"]
    return graph


def test_a_client_that_vanishes_gives_its_place_back(server: Server, play: Play) -> None:
    gone = [server.socket(f"/graph/ws/{play.run.run}") for _ in range(STREAMS)]
    for socket in gone:
        receive(socket, 1)
        socket.shutdown()
    # And places_are_given_back.


def test_a_request_that_never_comes_holds_up_nobody(server: Server) -> None:
    """More connections than there are threads, and not one of them asks for anything."""
    with contextlib.ExitStack() as stack:
        for _ in range(2 * (STREAMS + SPARE_THREADS)):
            stack.enter_context(sockets.create_connection(("127.0.0.1", server.port)))
        with server.client() as client:
            assert client.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/nodes/register", "/graph/create", "/api/v1/workflows"])
def test_fifty_megabytes_are_refused(server: Server, headers: dict[str, str], path: str) -> None:
    kind = {**headers, "Content-Type": "application/json"}

    def chunks() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(800):
            yield b"x" * 65_536

    with server.client(headers=kind) as client:
        whole = client.post(path, content=b"".join(chunks()))
    with server.client(headers=kind) as client:
        # Without a length the limit is met by reading.
        pieces = client.post(path, content=chunks())
        assert client.get("/health").status_code == 200
    for answer in (whole, pieces):
        assert answer.status_code == 413
        assert answer.json()["detail"]


def test_a_stream_outlives_its_connections_to_the_database(
    server: Server, control: Platform, worker: Platform, headers: dict[str, str], play: Play
) -> None:
    play.go(2)
    so_far = whole(server, play.run)
    socket = server.socket(f"/graph/ws/{play.run.run}")
    assert receive(socket, len(so_far)) == so_far
    cut_off(control, worker)
    play.end()
    rest, code = until_closed(socket)
    assert code == 1000
    assert so_far + rest == whole(server, play.run)


def test_streams_that_open_on_connections_that_were_cut_tell_everything(
    server: Server, control: Platform, worker: Platform, play: Play
) -> None:
    play.end()
    told = whole(server, play.run)
    cut_off(control, worker)
    with ThreadPoolExecutor(STREAMS) as pool:
        sockets = [*pool.map(lambda _: server.socket(f"/graph/ws/{play.run.run}"), range(STREAMS))]
        assert [*pool.map(until_closed, sockets)] == [(told, 1000)] * STREAMS


def test_a_stream_that_finds_no_database_is_told_to_come_again(
    own: Settings, play: Play, tmp_path: Path
) -> None:
    with between(own) as (behind, network), servers.running(behind, tmp_path) as server:
        network.close()
        assert until_closed(server.socket(f"/graph/ws/{play.run.run}")) == ([], 1013)


@pytest.mark.parametrize("wrong", [RuntimeError("by a fault of ours"), TimeoutError()])
def test_a_stream_that_breaks_does_not_pass_for_a_run_that_has_ended(wrong: Exception) -> None:
    near, far = sockets.socketpair()
    upgrade = {
        "Host": "here",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    }
    environ = EnvironBuilder(
        headers=[*upgrade.items()], environ_base={"werkzeug.socket": near}
    ).get_environ()
    with opened(Request(environ)):
        raise wrong
    with far:
        frame = far.recv(65_536).partition(b"\r\n\r\n")[2]
    assert int.from_bytes(frame[2:4], "big") == 1011


# --- WebSocket ---------------------------------------------------------------------------------


def test_ping_is_answered_with_pong(server: Server, play: Play) -> None:
    socket = server.socket(f"/graph/ws/{play.run.run}?after=1000000")
    for _ in range(3):
        socket.send("ping")
        assert socket.recv() == "pong"
    socket.send("anything else")
    socket.send("ping")
    assert socket.recv() == "pong"
    socket.close()


def test_history_comes_first_then_what_happens_and_then_the_end(server: Server, play: Play) -> None:
    """S0-D2: every entry arrives, also on a socket that was opened before it happened."""
    play.go(2)
    so_far = whole(server, play.run)
    socket = server.socket(f"/graph/ws/{play.run.run}")
    assert receive(socket, len(so_far)) == so_far
    play.end()
    rest, code = until_closed(socket)
    assert code == 1000
    assert so_far + rest == whole(server, play.run)
    for step in (*so_far, *rest):
        assert {"seq", "node", "status", "message", "timestamp", "iteration", "data"} == set(step)
    assert (rest[-1]["node"], rest[-1]["status"]) == ("workflow", "completed")


def test_news_arrive_within_moments_although_every_hint_is_lost(
    server: Server, control: Platform, worker: Platform
) -> None:
    silent = replace(control, live=live.connect(None, "x"))
    play = Play(silent, replace(worker, live=live.connect(None, "x")))
    socket = server.socket(f"/graph/ws/{play.run.run}")
    receive(socket, len(whole(server, play.run)))
    play.end()
    rest, code = until_closed(socket)
    assert (len(rest) >= NODES, code) == (True, 1000)


def test_a_stream_is_taken_up_after_any_entry(server: Server, play: Play) -> None:
    play.end()
    told = whole(server, play.run)
    for at in range(len(told)):
        rest, code = until_closed(
            server.socket(f"/graph/ws/{play.run.run}?after={told[at]['seq']}")
        )
        assert (rest, code) == (told[at + 1 :], 1000)
    everything, _ = until_closed(server.socket(f"/graph/ws/{play.run.run}"))
    assert everything == told


def test_a_stream_that_breaks_again_and_again_misses_nothing_and_repeats_nothing(
    server: Server, play: Play
) -> None:
    rng = random.Random(7)
    driver = threading.Thread(target=play.end)
    driver.start()
    seen: list[dict[str, Any]] = []
    while True:
        after = seen[-1]["seq"] if seen else 0
        socket = server.socket(f"/graph/ws/{play.run.run}?after={after}")
        try:
            for _ in range(rng.randint(1, 5)):
                opcode, data = socket.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    break
                seen.append(json.loads(data))
            else:
                continue
            break
        finally:
            # Without a word, as a network would.
            socket.shutdown()
    driver.join()
    assert seen == whole(server, play.run)


def test_many_watch_one_run_and_see_the_same(server: Server, play: Play) -> None:
    with ThreadPoolExecutor(STREAMS) as pool:
        watching = [
            pool.submit(until_closed, server.socket(f"/graph/ws/{play.run.run}"))
            for _ in range(STREAMS)
        ]
        play.end()
        found = [future.result() for future in watching]
    assert found == [(whole(server, play.run), 1000)] * STREAMS


def test_a_cancel_closes_the_stream(server: Server, play: Play, control: Platform) -> None:
    play.go(2)
    socket = server.socket(f"/graph/ws/{play.run.run}")
    receive(socket, 1)
    controls.cancel(control, play.run, by="ada", reason="enough")
    rest, code = until_closed(socket)
    assert code == 1000
    assert rest[-1]["data"]["status"] == "cancelled"


def test_a_credential_opens_the_stream_from_anywhere(
    server: Server, play: Play, headers: dict[str, str]
) -> None:
    play.end()
    given = [f"Authorization: {headers['Authorization']}", "X-Forwarded-For: 8.8.8.8"]
    steps, code = until_closed(server.socket(f"/graph/ws/{play.run.run}", header=given))
    assert (steps, code) == (whole(server, play.run), 1000)


# --- events ------------------------------------------------------------------------------------

Event = tuple[str, str, dict[str, Any]]


def read_events(
    server: Server,
    headers: dict[str, str],
    run: RunId,
    *,
    stop: Callable[[list[Event]], bool] = lambda _: False,
    **query: Any,
) -> list[Event]:
    """Kind, id and data of events, until the stream ends or the reader does."""
    found: list[Event] = []
    last = query.pop("last", None)
    given = {**headers, **({"Last-Event-ID": last} if last else {})}
    with (
        server.client(headers=given) as client,
        client.stream("GET", f"/api/v1/runs/{run.run}/events", params=query) as response,
    ):
        if response.status_code == 204:
            return found
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                found.append((fields["event"], fields["id"], json.loads(fields["data"])))
                fields = {}
                if stop(found):
                    break
            else:
                fields = {}
    return found


def history(control: Platform, run: RunId) -> list[int]:
    return [line.seq for line in views.history(control, run, limit=500)]


def test_events_tell_the_history_and_then_the_end(
    server: Server, headers: dict[str, str], play: Play, control: Platform
) -> None:
    play.go(3)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_events, server, headers, play.run)
        play.end()
        events = reading.result()
    assert [data["seq"] for kind, _, data in events if kind == "history"] == history(
        control, play.run
    )
    assert all(name == str(data["seq"]) for kind, name, data in events if kind == "history")
    assert events[-1][0] == "end"
    assert events[-1][2] == {"run_id": play.run.run, "status": "completed"}
    assert all("payload" not in data or data["payload"] is None for _, _, data in events)
    assert read_events(server, headers, play.run, last=events[-1][1]) == []
    told = read_events(server, headers, play.run, payloads="true")
    assert told[0][2]["payload"] == {"inputs": {}}


def test_events_are_taken_up_by_header_or_parameter(
    server: Server, headers: dict[str, str], play: Play
) -> None:
    play.end()
    whole_of = read_events(server, headers, play.run)
    assert whole_of[-1][0] == "end"
    for at in range(0, len(whole_of) - 2, 5):
        rest = whole_of[at + 1 :]
        assert read_events(server, headers, play.run, last=whole_of[at][1]) == rest
        assert read_events(server, headers, play.run, after=whole_of[at][1]) == rest
        # What a browser saw last counts for more than where it once began.
        both = read_events(server, headers, play.run, last=whole_of[at][1], after="0")
        assert both == rest


def test_what_nodes_print_is_told_as_it_is_printed_and_before_they_end(
    server: Server, headers: dict[str, str], play: Play, worker: Platform
) -> None:
    lease = take(worker, play.run, "n0#1")
    printed = Log(worker, lease)
    heard = threading.Event()

    def stop(found: list[Event]) -> bool:
        logs = [kind for kind, _, _ in found if kind == "log"]
        if logs:
            heard.set()
        return len(logs) == 2

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(
            read_events,
            server,
            headers,
            play.run,
            stop=stop,
        )
        printed.add("stdout", "hello")
        printed.flush()
        assert heard.wait(5)
        printed.add("stderr", "world")
        printed.flush()
        events = reading.result()
    logs = [data for kind, _, data in events if kind == "log"]
    assert [(line["stream"], line["text"]) for line in logs] == [
        ("stdout", "hello"),
        ("stderr", "world"),
    ]
    rest = read_events(
        server,
        headers,
        play.run,
        last=events[-2][1],
        stop=lambda found: found[-1][0] == "log",
    )
    assert [data["text"] for kind, _, data in rest if kind == "log"] == ["world"]


def test_events_with_logs_that_break_again_and_again_miss_nothing_and_repeat_nothing(
    server: Server, headers: dict[str, str], play: Play, control: Platform
) -> None:
    rng = random.Random(11)
    driver = threading.Thread(target=lambda: play.go(NODES, log=4))
    driver.start()
    seen: list[Event] = []
    while not seen or seen[-1][0] != "end":
        cut = rng.randint(1, 7)
        seen += read_events(
            server,
            headers,
            play.run,
            last=seen[-1][1] if seen else None,
            stop=lambda found, cut=cut: len(found) == cut,
        )
    driver.join()
    assert [data["seq"] for kind, _, data in seen if kind == "history"] == history(
        control, play.run
    )
    lines = [(d["step"], d["line"]) for kind, _, d in seen if kind == "log"]
    assert sorted(lines) == sorted((f"n{n}#1", line) for n in range(NODES) for line in range(1, 5))
    assert len(lines) == len(set(lines))
    ends = {
        data["body"]["step"]: at
        for at, (kind, _, data) in enumerate(seen)
        if kind == "history" and data["kind"] == "AttemptSucceeded"
    }
    for at, (kind, _, data) in enumerate(seen):
        if kind == "log":
            assert at < ends[data["step"]]


def test_events_without_logs_are_the_history_alone(
    server: Server, headers: dict[str, str], play: Play
) -> None:
    play.go(1, log=3)
    play.end()
    events = read_events(server, headers, play.run, logs="false")
    assert {kind for kind, _, _ in events} == {"history", "end"}
