"""Where an HTTP service may reach, and what becomes of servers that mean ill."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine import capabilities
from engine.core.values import Json
from engine.services import addresses, origins
from tests.unit.services import outside
from tests.unit.services.outside import LOOPBACK, asked, reply
from workers.services import reach
from workers.services.connections import Guard, Resolver, Unreached, connect, connect_unix, resolved
from workers.services.http import carry
from workers.services.service import Answer

PLACES = addresses.places(LOOPBACK)


def guard(*, seconds: float = 10.0, **fields: Any) -> Guard:
    return Guard(**{"wanted": PLACES, "opened": PLACES, **fields}, until=time.monotonic() + seconds)


def get(
    url: str,
    *,
    resolve: Resolver = resolved,
    private: tuple[str, ...] = LOOPBACK,
    **config: Json,
) -> Answer:
    """Ask for a URL whose origin is allowed, of a service that wants into loopback."""
    hosts: list[Json] = [str(origins.origin(url))]
    whole: dict[str, Json] = {"hosts": hosts, "allow_private": [*LOOPBACK], **config}
    return carry(asked(whole, {"url": url}, private=private), resolve=resolve)


def never(_host: str, _port: int) -> Sequence[str]:
    raise AssertionError("nothing is to be resolved")


# --- addresses --------------------------------------------------------------------------------

FORBIDDEN = [
    *("http://0.0.0.0/", "http://127.0.0.1/", "http://127.8.8.8:8000/", "http://10.0.0.1/"),
    *("http://172.16.0.1/", "http://192.168.0.1/", "http://169.254.169.254/latest/meta-data/"),
    *(
        "http://100.64.0.1/",
        "http://100.100.100.200/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
    ),
    *("http://[::]/", "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/"),
    *("http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[2002:7f00:1::]/"),
    *("http://[64:ff9b::7f00:1]/", "http://[2001:0:7f00:1::]/", "http://[fd00:ec2::254]/"),
    *("http://[fe80::1]/", "http://[fc00::1]/", "http://[ff02::1]/", "https://192.0.2.1/"),
]


@pytest.mark.parametrize("url", FORBIDDEN)
def test_an_address_that_is_not_public_is_not_reached(url: str) -> None:
    answer = get(url, resolve=never, allow_private=[])
    assert answer.reason == "blocked"
    assert "may not be reached" in (answer.message or "")


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["fe80::1%eth0"],
        ["169.254.169.254"],
        # One that may not be reached among those that may is not passed over.
        ["93.184.215.14", "10.0.0.1"],
        ["0.0.0.0"],
    ],
)
def test_a_name_is_judged_by_what_it_resolves_to(found: list[str]) -> None:
    answer = get("http://api.example.com/", resolve=lambda *_: found, allow_private=[])
    assert answer.reason == "blocked"


def test_localhost_is_no_name_that_helps() -> None:
    assert get("http://localhost/", allow_private=[]).reason == "blocked"


def test_what_the_service_wants_the_operator_must_have_opened() -> None:
    with outside.http(reply) as server:
        config: dict[str, Json] = {"hosts": [server.url], "allow_private": [*LOOPBACK]}
        answer = carry(asked(config, {"url": server.url}, private=()))
        assert answer.reason == "blocked"
        assert "CELERIAC_PRIVATE_HOSTS" in (answer.message or "")
        assert server.heard == []
        assert carry(asked(config, {"url": server.url})).reason is None


def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to() -> None:
    told: list[str] = []

    def rebinding(host: str, _port: int) -> Sequence[str]:
        # A public-looking answer for whoever checks, and another for whoever connects.
        told.append(host)
        return ["127.0.0.2"] if len(told) == 1 else ["127.0.0.1"]

    loopback = "127.0.0.0/8"
    with outside.http(reply) as server:
        url = f"http://rebind.example:{server.port}/"
        answer = get(url, resolve=rebinding, allow_private=[loopback], private=(loopback,))
        # Nothing listens at 127.0.0.2, and whoever asked again would have got through.
        assert answer.reason == "unreachable"
        assert server.heard == []
        assert told == ["rebind.example"]
        answer = get(url, resolve=rebinding)
        assert answer.reason is None
        assert server.heard[0].headers["host"] == f"rebind.example:{server.port}"


def test_nothing_in_the_environment_sends_it_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with outside.http(reply) as server, outside.http(reply) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert get(server.url).reason is None
        assert proxy.heard == []
        assert len(server.heard) == 1


def test_resolving_takes_no_longer_than_the_call_may() -> None:
    held = threading.Event()

    def slow(_host: str, _port: int) -> Sequence[str]:
        held.wait(10)
        return ["127.0.0.1"]

    began = time.monotonic()
    assert get("http://slow.example/", resolve=slow, timeout="200ms").reason == "timeout"
    held.set()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("x")]
)
def test_a_name_that_is_not_known_is_unreachable(error: Exception) -> None:
    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise error

    assert get("http://nowhere.example/", resolve=unknown).reason == "unreachable"
    assert get("http://nowhere.example/", resolve=lambda *_: []).reason == "unreachable"


def test_the_next_address_is_tried_where_one_does_not_listen() -> None:
    with outside.http(reply) as server:
        answer = get(
            f"http://two.example:{server.port}/",
            resolve=lambda *_: ["127.0.0.2", "127.0.0.1"],
            allow_private=["127.0.0.0/8"],
        )
    # The operator has opened 127.0.0.1 alone.
    assert answer.reason == "blocked"
    with outside.http(reply) as server:
        wide = addresses.places(["127.0.0.0/8"])
        wanted = guard(wanted=wide, opened=wide, resolve=lambda *_: ["127.0.0.2", "127.0.0.1"])
        connect(wanted, "two.example", server.port).close()


# --- the platform's own servers ---------------------------------------------------------------


def test_the_platforms_own_servers_are_reached_by_naming_them_alone() -> None:
    with outside.http(reply) as server:
        config: dict[str, Json] = {"hosts": [server.url], "allow_private": [*LOOPBACK]}
        for own in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]"):
            answer = carry(asked(config, {"url": server.url}, own=(f"{own}:{server.port}",)))
            assert (answer.reason, server.heard) == ("blocked", [])
            assert "the platform's own" in (answer.message or "")
        other = carry(asked(config, {"url": server.url}, own=("localhost:1",)))
        assert other.reason is None
        named = (*LOOPBACK, f"127.0.0.1:{server.port}")
        own = (f"localhost:{server.port}",)
        assert carry(asked(config, {"url": server.url}, private=named, own=own)).reason is None


def test_where_an_own_server_is_must_be_known() -> None:
    def resolve(host: str, _port: int) -> Sequence[str]:
        if host == "db.internal":
            raise OSError("no such name")
        return LOOPBACK

    with outside.http(reply) as server:
        config: dict[str, Json] = {
            "hosts": [f"http://a.example:{server.port}"],
            "allow_private": [*LOOPBACK],
        }
        url: dict[str, Json] = {"url": f"http://a.example:{server.port}"}
        own = (f"db.internal:{server.port}",)
        answer = carry(asked(config, url, own=own), resolve=resolve)
        assert (answer.reason, server.heard) == ("unreachable", [])
        assert "db.internal" not in (answer.message or "")
        elsewhere = ("db.internal:1",)
        assert carry(asked(config, url, own=elsewhere), resolve=resolve).reason is None


def test_an_own_socket_is_reached_by_naming_it_alone(tmp_path: Path) -> None:
    sockets, link = tmp_path / "s", tmp_path / "l"
    sockets.mkdir()
    link.symlink_to(sockets)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(sockets / ".s.PGSQL.5432"))
        listening.listen()

        def ask(*opened: str, folder: Path = sockets, own: str = "/nowhere") -> str | None:
            places = addresses.places([str(folder), *opened])
            wanted = addresses.places([str(folder)])
            held = guard(wanted=wanted, opened=places, own=("localhost:1", own))
            try:
                connect_unix(held, str(folder), ".s.PGSQL.5432").close()
            except Unreached as unreached:
                return unreached.reason
            return None

        assert ask() is None
        for own in (sockets, link, sockets / ".s.PGSQL.5432"):
            for folder in (sockets, link):
                assert ask(own=str(own), folder=folder) == "blocked"
        assert ask(f"{sockets}/.s.PGSQL.5433", own=str(sockets)) == "blocked"
        assert ask(f"{sockets}/.s.PGSQL.5432", own=str(sockets)) is None


# --- TLS --------------------------------------------------------------------------------------


def test_a_certificate_is_that_of_the_name_though_the_address_is_connected_to(
    tmp_path: Path,
) -> None:
    file = outside.certificate(tmp_path, "api.example.com")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    asked_for: list[str | None] = []
    serving.sni_callback = lambda _sock, name, _context: asked_for.append(name)
    trusting = ssl.create_default_context(cafile=file)

    def ask(name: str, port: int, tls: ssl.SSLContext | None) -> int:
        url = f"https://{name}:{port}/"
        way = reach.Reach(
            guard(resolve=lambda *_: ["127.0.0.1"]), hosts=[origins.origin(url)], tls=tls
        )
        return reach.fetch(way, httpx2.Request("GET", url)).status_code

    with outside.http(reply, tls=serving) as server:
        assert ask("api.example.com", server.port, trusting) == 200
        assert asked_for == ["api.example.com"]
        with pytest.raises(Unreached, match="certificate") as other:
            ask("other.example.com", server.port, trusting)
        with pytest.raises(Unreached, match="certificate"):
            ask("api.example.com", server.port, None)
    assert other.value.reason == "unreachable"
    with outside.http(reply) as plain, pytest.raises(Unreached):
        ask("api.example.com", plain.port, trusting)


# --- redirects --------------------------------------------------------------------------------


def _to(where: str, status: int = 302) -> Any:
    return lambda handler: reply(handler, status, location=where)


@pytest.mark.parametrize(
    "where",
    [
        *("file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "//169.254.169.254/latest/"),
        *("http://169.254.169.254/", "http://127.0.0.1:1/", "http://[::1]/", "http://0x7f.1/"),
        *(
            "http://user:word@127.0.0.1/",
            "https://evil.example/",
            "http://localhost/",
            "javascript:1",
        ),
        "http://[::ffff:7f00:1]/",
    ],
)
def test_a_redirect_is_checked_as_the_request_was(where: str) -> None:
    with outside.http(_to(where)) as server:
        answer = get(server.url, redirects=5)
        assert answer.reason == "bad_response"
        assert len(server.heard) == 1


def test_a_redirect_to_an_allowed_name_is_judged_by_its_address() -> None:
    with outside.http(_to("http://metadata.example/")) as server:
        config: dict[str, Json] = {
            "hosts": [server.url, "http://*.example"],
            "allow_private": [*LOOPBACK],
            "redirects": 5,
        }
        answer = carry(asked(config, {"url": server.url}), resolve=lambda *_: ["169.254.169.254"])
    # Not `blocked`: that is a call that never left the platform, and may be made again.
    assert answer.reason == "bad_response"
    assert "metadata" in (answer.message or "")


def test_redirects_are_off_by_default_and_come_to_an_end() -> None:
    with outside.http(lambda handler: reply(handler, 302, location=handler.path + "x")) as server:
        answer = get(f"{server.url}/")
        assert isinstance(answer.value, dict)
        assert (answer.value["status"], answer.value["headers"]["location"]) == (302, "/x")
        assert get(f"{server.url}/", redirects=3).reason == "bad_response"
        assert [heard.path for heard in server.heard] == ["/", "/", "/x", "/xx", "/xxx"]


def test_credentials_are_for_the_origin_that_they_were_given_for() -> None:
    with outside.http(reply) as other:

        def redirect(handler: Any) -> None:
            if handler.path == "/":
                reply(handler, 307, location="/again", set_cookie="session=1")
            else:
                reply(handler, 307, location=f"{other.url}/there#part")

        with outside.http(redirect) as server:
            config: dict[str, Json] = {
                "hosts": [server.url, other.url],
                "allow_private": [*LOOPBACK],
                "redirects": 5,
                "methods": ["POST"],
                "auth": {"header": "X-Key", "value": "key-123456"},
                "headers": {"X-Fixed": "hush-1"},
            }
            arguments: dict[str, Json] = {
                "url": server.url,
                "json": {"a": 1},
                "headers": {
                    "Authorization": "Bearer mine",
                    "Cookie": "c=d",
                    "X-Api-Key": "1",
                    "Accept-Language": "de",
                },
            }
            answer = carry(asked(config, arguments))
    assert answer.reason is None
    first, second = server.heard
    (third,) = other.heard
    assert first.headers["x-key"] == second.headers["x-key"] == "key-123456"
    assert "session" not in str(second.headers)
    assert second.headers["x-api-key"] == "1"
    assert third.headers.keys() == {
        *("accept", "accept-language", "user-agent", "content-type"),
        *("host", "accept-encoding", "content-length"),
    }
    assert (third.method, third.body, third.path) == ("POST", b'{"a":1}', "/there")
    assert third.headers["accept-language"] == "de"
    assert third.headers["host"] == f"127.0.0.1:{other.port}"


def test_what_is_turned_away_after_it_was_heard_is_not_said_to_be_unheard() -> None:
    def redirect(handler: Any) -> None:
        if handler.command == "POST":
            reply(handler, 303, location="/made")
        else:
            reply(handler, 429)

    with outside.http(redirect) as server:
        answer = get(server.url, methods=["POST"], redirects=1)
    assert answer.reason == "client_error"


def test_a_redirect_leads_nowhere_that_the_code_which_asks_was_not_granted() -> None:
    with outside.http(reply) as other, outside.http(_to(f"{other.url}/there")) as server:
        config: dict[str, Json] = {
            "hosts": [server.url, other.url],
            "allow_private": [*LOOPBACK],
            "redirects": 5,
        }

        def ask(*urls: str) -> Answer:
            hosts = capabilities.read({"hosts": [*urls]}).hosts
            return carry(asked(config, {"url": server.url}, hosts=hosts))

        assert ask(other.url).reason == "blocked"
        assert server.heard == []
        answer = ask(server.url)
        assert answer.reason == "bad_response"
        assert f"{other.url} is not granted" in (answer.message or "")
        assert other.heard == []
        assert ask(server.url, other.url).reason is None


@pytest.mark.parametrize(
    "where",
    ["/private", "/apis", "/api/../private", "/api/%2e%2e/private", "/", "{there}/private"],
)
def test_a_redirect_leaves_no_base(where: str) -> None:
    def redirect(handler: Any) -> None:
        reply(handler, 302, location=where.format(there=server.url))

    with outside.http(redirect) as server:
        config: dict[str, Json] = {
            "hosts": [server.url],
            "base": f"{server.url}/api",
            "allow_private": [*LOOPBACK],
            "redirects": 5,
            "auth": {"bearer": "token-123456"},
        }
        answer = carry(asked(config, {"url": "a"}))
    assert answer.reason == "bad_response"
    assert "the service's base" in (answer.message or "") or "out of" in (answer.message or "")
    assert [heard.path for heard in server.heard] == ["/api/a"]


def test_a_redirect_below_the_base_is_followed_however_the_base_is_written() -> None:
    def redirect(handler: Any) -> None:
        if handler.path == "/api/a":
            reply(handler, 302, location="b?c=d")
        else:
            reply(handler)

    with outside.http(redirect) as server:
        config: dict[str, Json] = {
            "hosts": [f"http://API.example:{server.port}"],
            "base": f"http://API.example:{server.port}/api/",
            "allow_private": [*LOOPBACK],
            "redirects": 5,
        }
        answer = carry(asked(config, {"url": "a"}), resolve=lambda *_: LOOPBACK)
    assert answer.reason is None, answer.message
    assert [heard.path for heard in server.heard] == ["/api/a", "/api/b?c=d"]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (302, "PUT", "PUT"),
        (308, "PUT", "PUT"),
    ],
)
def test_a_redirect_asks_as_its_status_says(status: int, method: str, then: str) -> None:
    def redirect(handler: Any) -> None:
        if handler.path == "/":
            reply(handler, status, location="/then")
        else:
            reply(handler)

    with outside.http(redirect) as server:
        config: dict[str, Json] = {
            "hosts": [server.url],
            "allow_private": [*LOOPBACK],
            "redirects": 1,
            "methods": [method],
        }
        assert carry(asked(config, {"url": server.url, "text": "body"})).reason is None
    assert server.heard[1].method == then
    assert server.heard[1].body == (b"" if then == "GET" else b"body")
    assert ("content-type" in server.heard[1].headers) == (then != "GET")


# --- servers that mean ill --------------------------------------------------------------------


def _dripping(head: bytes, ended: threading.Event) -> Any:
    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(head)
        while not ended.wait(0.05):
            sock.sendall(b"x")

    return talk


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_drips_is_cut_off(head: bytes) -> None:
    ended = threading.Event()
    with outside.raw(_dripping(head, ended)) as server:
        began = time.monotonic()
        answer = get(server.url, timeout="500ms")
        ended.set()
    assert answer.reason in {"timeout", "bad_response"}
    assert time.monotonic() - began < 3


def test_a_server_that_takes_nothing_is_cut_off() -> None:
    held = threading.Event()
    with outside.raw(lambda _sock: held.wait(10) and None) as server:
        config: dict[str, Json] = {
            "hosts": [server.url],
            "allow_private": [*LOOPBACK],
            "methods": ["POST"],
            "timeout": "500ms",
        }
        answer = carry(asked(config, {"url": server.url, "text": "x" * 20_000_000}))
        held.set()
    assert answer.reason == "timeout"


def _compressed(coding: str) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15, "raw": -15}[coding])
    zeros = bytes(1 << 20)
    return b"".join([*(packer.compress(zeros) for _ in range(200)), packer.flush()])


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw"])
def test_what_swells_up_is_cut_off(coding: str) -> None:
    bomb = _compressed(coding)
    assert len(bomb) < 1_000_000
    said = "deflate" if coding == "raw" else coding

    with outside.http(lambda handler: reply(handler, body=bomb, content_encoding=said)) as server:
        answer = get(server.url)
    assert answer.reason == "output_too_large"


def test_compressed_answers_are_read() -> None:
    fine = b"fine " * 1000
    bodies = {
        "/gzip": (gzip.compress(fine), "gzip"),
        "/deflate": (zlib.compress(fine), "deflate"),
        "/raw": (zlib.compress(fine)[2:-4], "deflate"),
        "/br": (b"\x0b", "br"),
        "/broken": (b"\x1f\x8b" + b"x" * 40, "gzip"),
        "/cut": (gzip.compress(fine)[:-20], "gzip"),
        "/twice": (gzip.compress(gzip.compress(fine)), "gzip, gzip"),
    }

    def answer(handler: Any) -> None:
        body, coding = bodies[handler.path]
        reply(handler, body=body, content_encoding=coding, content_type="text/plain")

    with outside.http(answer) as server:
        for path in ("/gzip", "/deflate", "/raw"):
            value = get(f"{server.url}{path}").value
            assert isinstance(value, dict)
            assert value["text"] == fine.decode()
        reasons = {path: get(f"{server.url}{path}").reason for path in bodies}
    assert reasons["/br"] == reasons["/broken"] == reasons["/twice"] == "bad_response"
    assert reasons["/cut"] == "interrupted"


def test_an_endless_answer_is_cut_off() -> None:
    def endless(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b"x" * 65536)

    with outside.raw(endless) as server:
        assert get(server.url).reason == "output_too_large"


@pytest.mark.parametrize(
    "pour",
    [b"X-More: " + b"y" * 1000 + b"\r\n", b"y" * 1000, b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["many", "long", "informational"],
)
def test_endless_headers_are_cut_off(pour: bytes) -> None:
    def endless(sock: socket.socket) -> None:
        sock.recv(65536)
        start = b"" if pour.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\nX-A: "
        sock.sendall(start)
        for _ in range(100_000):
            sock.sendall(pour)

    with outside.raw(endless) as server:
        assert get(server.url).reason in {"output_too_large", "bad_response"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "interrupted"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "interrupted"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "interrupted"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "bad_response"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "bad_response",
        ),
    ],
)
def test_what_is_no_http_fails(said: bytes, reason: str) -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(said)

    with outside.raw(talk) as server:
        assert get(server.url).reason == reason


def test_nobody_listening_is_unreachable() -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    answer = get(f"http://127.0.0.1:{port}/")
    assert answer.reason == "unreachable"
    assert "refused" in (answer.message or "")


def test_a_client_of_httpx_streams_through_the_same_guard() -> None:
    def pieces(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for index in range(3):
            handler.wfile.write(f"data: {index}\n\n".encode())
            handler.wfile.flush()

    with outside.http(pieces) as server:
        way = reach.Reach(guard(), hosts=[origins.origin(server.url)])
        with httpx2.Client(transport=way, trust_env=False) as client:
            with client.stream("GET", server.url) as answer:
                lines = [line for line in answer.iter_lines() if line]
            with pytest.raises(Unreached, match="not among"):
                client.get("http://evil.example/")
    assert lines == ["data: 0", "data: 1", "data: 2"]
