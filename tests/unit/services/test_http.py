"""HTTP services, their configuration and their calls, against servers that are really there."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from engine.core.values import Json
from engine.errors import Invalid
from engine.services import http, mcp
from tests.unit.services import outside
from tests.unit.services.outside import LOOPBACK, Server, asked, reply
from workers.services.http import carry
from workers.services.service import Answer

HOSTS: dict[str, Json] = {"hosts": ["https://api.example.com"]}


def problems(config: Json) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        http.read(config)
    return {problem.path: problem.message for problem in raised.value.problems}


# --- the configuration ------------------------------------------------------------------------


def test_every_problem_is_told_at_once_and_no_secret_is_quoted() -> None:
    found = problems(
        {
            "hosts": ["api.example.com", 7],
            "methods": ["FETCH"],
            "headers": {"Host": "hush-1", "X-A": "hush-2\r\nX-B: 1", "B d": "hush-3"},
            "auth": {"bearer": "hush-4\n", "basic": {}},
            "redirects": 6,
            "timeout": "2d",
            "max_bytes": 0,
            "accept": [200],
            "allow_private": ["localhost"],
            "proxy": "http://localhost",
        }
    )
    assert set(found) == {
        *("config.hosts[0]", "config.hosts[1]", "config.methods[0]", "config.headers.Host"),
        *("config.headers.X-A", "config.headers.B d", "config.auth", "config.redirects"),
        *("config.timeout", "config.max_bytes", "config.accept", "config.allow_private[0]"),
        "config.proxy",
    }
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("auth", "path"),
    [
        ({}, "config.auth"),
        ({"bearer": "a\r\nb"}, "config.auth.bearer"),
        ({"bearer": ""}, "config.auth.bearer"),
        ({"basic": {"user": "a:b", "password": "c"}}, "config.auth.basic.user"),
        ({"basic": {"user": "a"}}, "config.auth.basic.password"),
        ({"header": "X-Key"}, "config.auth.value"),
        ({"header": "Transfer-Encoding", "value": "chunked"}, "config.auth.header"),
        ({"header": "X Key", "value": "a"}, "config.auth.header"),
    ],
)
def test_credentials_that_cannot_be_sent_are_refused(auth: Json, path: str) -> None:
    assert path in problems({**HOSTS, "auth": auth})


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"auth": {"bearer": "hush"}}, "config.auth.bearer"),
        ({"auth": {"bearer": "hush$env.TOKEN"}}, "config.auth.bearer"),
        ({"auth": {"bearer": "$env.TOKEN hush"}}, "config.auth.bearer"),
        ({"auth": {"basic": {"user": "u", "password": "hush"}}}, "config.auth.basic.password"),
        ({"auth": {"header": "X-Key", "value": "Token hush"}}, "config.auth.value"),
        ({"headers": {"authorization": "hush"}}, "config.headers.authorization"),
        ({"headers": {"Cookie": "a=hush"}}, "config.headers.Cookie"),
        ({"headers": {"X-API-Key": "hush"}}, "config.headers.X-API-Key"),
        ({"headers": {"X-Auth-Token": "hush"}}, "config.headers.X-Auth-Token"),
        ({"headers": {"Client-Secret": "hush"}}, "config.headers.Client-Secret"),
    ],
)
def test_a_secret_is_not_written_out(config: dict[str, Json], path: str) -> None:
    for read, place in (
        (http.read, HOSTS),
        (mcp.read, {"url": "https://tools.example.com/mcp"}),
    ):
        with pytest.raises(Invalid) as raised:
            read({**place, **config})
        (problem,) = raised.value.problems
        assert problem.path == path
        assert "celeriac secrets put NAME -" in (problem.remedy or "")
        assert "hush" not in str(raised.value)
        # What a worker reads has it put in.
        assert read({**place, **config}, resolved=True)


def test_a_secret_is_named_alone_or_after_a_word() -> None:
    found = http.read(
        {
            **HOSTS,
            "auth": {"header": "X-Key", "value": "Token $env.TOKEN"},
            "headers": {"Cookie": "session=$env.SESSION", "X-Team": "blue"},
        }
    )
    assert found.auth == ("X-Key", "Token $env.TOKEN")
    assert found.headers == {"Cookie": "session=$env.SESSION", "X-Team": "blue"}


def test_a_config_must_name_hosts_and_a_base_among_them() -> None:
    assert "config.hosts" in problems({})
    assert "config.hosts" in problems({"hosts": []})
    assert "config.base" in problems({**HOSTS, "base": "https://evil.example/"})
    assert "config.base" in problems({**HOSTS, "base": "https://api.example.com/?a=b"})


def test_what_a_call_does_to_the_world_follows_from_its_methods() -> None:
    assert http.read(HOSTS).effect == "idempotent"
    assert http.read({**HOSTS, "methods": ["GET", "POST"]}).effect == "at_most_once"


def test_the_schema_of_a_call_takes_what_a_call_may_have() -> None:
    fits = jsonschema_rs.validator_for(dict(http.read(HOSTS).parameters)).is_valid
    assert fits({"url": "https://api.example.com/x", "query": {"a": [1, 2], "b": None}})
    assert not fits({})
    assert not fits({"url": "https://api.example.com", "method": "POST"})
    assert not fits({"url": "https://api.example.com", "header": {}})
    based = dict(http.read({**HOSTS, "base": "https://api.example.com/v1"}).parameters)
    assert jsonschema_rs.validator_for(based).is_valid({})


# --- calls ------------------------------------------------------------------------------------


def _echo(handler: Any) -> None:
    path = handler.path.partition("?")[0]
    if path.startswith("/status/"):
        reply(handler, int(path.rpartition("/")[2]), b"no\x00pe, " * 200, Retry_After="7")
    elif path == "/text":
        reply(handler, body="grüße".encode("latin-1"), content_type="text/plain; charset=latin-1")
    elif path == "/bytes":
        reply(handler, body=b"\x00\xff", content_type="application/octet-stream", set_cookie="a=b")
    elif path == "/nul":
        reply(handler, body=b"a\x00b", content_type="text/plain")
    elif path == "/broken":
        reply(handler, body=b'{"a": ', content_type="application/json")
    elif path == "/echo":
        told = json.dumps({"auth": handler.headers.get("authorization")}).encode()
        reply(handler, body=told, content_type="application/problem+json")
    else:
        reply(handler, body=b'{"fine": true}', content_type="application/json", etag='"1"')


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with outside.http(_echo) as started:
        yield started


def call(server: Server, arguments: dict[str, Json], **config: Json) -> Answer:
    server.heard.clear()
    whole: dict[str, Json] = {"hosts": [server.url], "allow_private": [*LOOPBACK], **config}
    return carry(asked(whole, {"url": f"{server.url}/", **arguments}))


def test_json_is_answered_as_json(server: Server) -> None:
    answer = call(server, {"query": {"a": [1, "x y"], "b": True, "c": None}})
    assert answer.reason is None
    assert isinstance(answer.value, dict)
    assert answer.value["json"] == {"fine": True}
    assert answer.value["status"] == 200
    assert answer.value["headers"]["etag"] == '"1"'
    (heard,) = server.heard
    assert heard.path == "/?a=1&a=x+y&b=true"
    assert heard.headers["host"] == f"127.0.0.1:{server.port}"
    assert "idempotency-key" not in heard.headers


def test_text_and_bytes_are_answered_as_they_can_be_stored(server: Server) -> None:
    text = call(server, {"url": f"{server.url}/text"}).value
    raw = call(server, {"url": f"{server.url}/bytes"}).value
    nul = call(server, {"url": f"{server.url}/nul"}).value
    assert isinstance(text, dict)
    assert isinstance(raw, dict)
    assert isinstance(nul, dict)
    assert text["text"] == "grüße"
    assert base64.b64decode(raw["base64"]) == b"\x00\xff"
    assert "set-cookie" not in raw["headers"]
    assert base64.b64decode(nul["base64"]) == b"a\x00b"


def test_what_is_said_to_be_json_and_is_not_fails(server: Server) -> None:
    answer = call(server, {"url": f"{server.url}/broken"})
    assert answer.reason == "bad_response"


@pytest.mark.parametrize(
    ("body", "sent", "kind"),
    [
        ({"json": {"b": [1]}}, b'{"b":[1]}', "application/json"),
        ({"text": "grün"}, "grün".encode(), "text/plain; charset=utf-8"),
        (
            {"form": {"a": "1&2", "b": [1, 2]}},
            b"a=1%262&b=1&b=2",
            "application/x-www-form-urlencoded",
        ),
    ],
)
def test_a_body_is_sent_with_its_kind_and_the_key_of_the_call(
    server: Server, body: dict[str, Json], sent: bytes, kind: str
) -> None:
    answer = call(server, {"method": "POST", **body}, methods=["POST"])
    assert answer.reason is None
    (heard,) = server.heard
    assert (heard.body, heard.headers["content-type"]) == (sent, kind)
    assert heard.headers["idempotency-key"] == "key-1"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        *((400, "client_error"), (404, "client_error"), (408, "timeout"), (429, "rate_limited")),
        *((500, "server_error"), (503, "server_error")),
    ],
)
def test_a_status_from_400_on_fails_unless_it_is_accepted(
    server: Server, status: int, reason: str
) -> None:
    url = f"{server.url}/status/{status}"
    answer = call(server, {"url": f"{url}?token=hush"})
    assert answer.reason == reason
    assert f"GET {url} answered {status} " in (answer.message or "")
    assert "no pe, no pe" in (answer.message or "")
    assert "Retry-After: 7" in (answer.message or "")
    assert "hush" not in (answer.message or "")
    assert len(answer.message or "") < 800
    assert call(server, {"url": url, "accept": [status]}).reason is None
    assert call(server, {"url": url}, accept=[status]).reason is None


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"bearer": "tok-123456"}, "authorization", "Bearer tok-123456"),
        ({"basic": {"user": "u", "password": "p:q"}}, "authorization", "Basic dTpwOnE="),
        ({"header": "X-Api-Key", "value": "key-123456"}, "x-api-key", "key-123456"),
    ],
)
def test_credentials_are_sent_and_not_handed_back(
    server: Server, auth: Json, name: str, value: str
) -> None:
    answer = call(server, {"url": f"{server.url}/echo"}, auth=auth)
    (heard,) = server.heard
    assert heard.headers[name] == value
    assert value.rpartition(" ")[2] not in str(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"content-length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
        {"Upgrade": "h2c"},
        {"TE": "trailers"},
        {"Expect": "100-continue"},
        {"Proxy-Authorization": "Basic eA=="},
        {"Authorization": "Bearer mine"},
        {"AUTHORIZATION": "Bearer mine"},
        {"X-Team": "red"},
        {"X-A": "1\r\nHost: evil.example"},
        {"X-A": "1\nX-B: 2"},
        {"X-A": "1\x00"},
        {"X-A": "ü"},
        {"X-A\r\nX-B": "1"},
        {"X-A:": "1"},
        {"": "1"},
    ],
)
def test_a_call_sets_no_header_that_is_not_its_own(
    server: Server, headers: dict[str, Json]
) -> None:
    answer = call(
        server, {"headers": headers}, auth={"bearer": "tok-123456"}, headers={"X-Team": "blue"}
    )
    assert answer.reason == "arguments_refused"
    assert server.heard == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"method": "POST"}, "blocked"),
        ({"method": "get"}, "blocked"),
        ({"method": "GET / HTTP/1.1\r\nX: 1\r\n\r\nGET"}, "blocked"),
        ({"json": {}, "text": ""}, "arguments_refused"),
        ({"query": {"a": {}}}, "arguments_refused"),
        ({"url": "http://evil.example/"}, "blocked"),
        ({"url": "file:///etc/passwd"}, "blocked"),
        ({"url": "/x"}, "blocked"),
    ],
)
def test_what_the_service_does_not_allow_is_not_sent(
    server: Server, arguments: dict[str, Json], reason: str
) -> None:
    assert call(server, arguments).reason == reason
    assert server.heard == []


@pytest.mark.parametrize(
    ("url", "path"),
    [
        *(("/users/7", "/v1/users/7"), ("users", "/v1/users"), ("", "/v1"), ("?a=1", "/v1?a=1")),
        *(("//x", "/v1/x"), ("a?next=http://e/", "/v1/a?next=http://e/")),
    ],
)
def test_a_url_is_relative_to_the_base(server: Server, url: str, path: str) -> None:
    assert call(server, {"url": url}, base=f"{server.url}/v1/").reason is None
    assert server.heard[0].path == path


@pytest.mark.parametrize(
    "url",
    [
        "../admin",
        "a/%2e%2e/%2E./x",
        "a%2f..%2f../x",
        "%252e%252e/x",
        "a/..;/../x",
        "..%5cx",
        "{url}/admin",
        "{url}/v1/../x",
        "{url}/v10",
    ],
)
def test_no_call_leaves_the_base(server: Server, url: str) -> None:
    answer = call(server, {"url": url.format(url=server.url)}, base=f"{server.url}/v1")
    assert answer.reason == "blocked"
    assert server.heard == []


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(server: Server) -> None:
    answer = call(
        server,
        {"method": "POST", "json": {"a": 1}, "headers": {"X-B": "2"}, "dry_run": True},
        methods=["POST"],
        auth={"bearer": "tok-123456"},
        headers={"X-Fixed": "hush"},
    )
    assert answer.reason is None
    assert isinstance(answer.value, dict)
    assert answer.value["json"] == {"a": 1}
    assert answer.value["headers"]["x-b"] == "2"
    assert answer.value["headers"]["authorization"] == "[hidden]"
    assert "tok-123456" not in str(answer)
    assert "hush" not in str(answer)
    assert server.heard == []
    assert call(server, {"dry_run": True, "url": "http://evil.example"}).reason == "blocked"
    assert call(server, {"dry_run": True}, allow_private=[]).reason == "blocked"


def test_a_secret_that_was_not_put_in_is_not_sent_by_its_name(server: Server) -> None:
    auth: Json = {"basic": {"user": "u", "password": "$env.API_PASSWORD"}}
    answer = call(server, {}, auth=auth)
    assert (answer.reason, server.heard) == ("not_granted", [])
    assert "API_PASSWORD" in (answer.message or "")


def test_a_secret_that_cannot_be_sent_is_refused_and_not_quoted(server: Server) -> None:
    answer = call(server, {}, auth={"bearer": "hush\r\nX-Evil: 1"})
    assert answer.reason == "blocked"
    assert "hush" not in (answer.message or "")
    assert server.heard == []


def test_the_time_is_that_of_the_call_and_whoever_stops_it_is_heard(server: Server) -> None:
    held = threading.Event()

    def hang(handler: Any) -> None:
        held.wait(10)

    with outside.http(hang) as slow:
        began = time.monotonic()
        assert call(slow, {}, timeout="300ms").reason == "timeout"
        stopped = threading.Event()
        threading.Timer(0.2, stopped.set).start()
        config: dict[str, Json] = {"hosts": [slow.url], "allow_private": [*LOOPBACK]}
        answer = carry(asked(config, {"url": slow.url}, stopped=stopped))
        held.set()
    assert answer.reason == "cancelled"
    assert time.monotonic() - began < 5
