"""MCP services: a server of the official SDK, and servers that are none, or mean no good."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.core.values import Json
from engine.errors import Invalid
from engine.services import mcp
from tests.support import tool_servers
from tests.support.tool_servers import ToolServer
from tests.unit.services import outside
from tests.unit.services.outside import LOOPBACK, Server, asked, reply
from workers.services.mcp import carry
from workers.services.service import Answer
from workers.services.tool_server import MOST_REQUESTS, MOST_TOOLS

URL: dict[str, Json] = {"url": "https://tools.example.com/mcp"}
OBJECT: Json = {"type": "object"}


def problems(config: Json) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        mcp.read(config)
    return {problem.path: problem.message for problem in raised.value.problems}


# --- the configuration ------------------------------------------------------------------------


def test_every_problem_is_told_at_once_and_no_secret_is_quoted() -> None:
    found = problems(
        {
            "url": "ftp://x",
            "tool": "has space",
            "schema": {"type": "array"},
            "headers": {"Mcp-Session-Id": "hush-1", "Host": "hush-2", "Accept": "hush-3"},
            "auth": {"bearer": "hush-4\n"},
            "timeout": "2d",
            "max_bytes": 0,
            "allow_private": ["localhost"],
            "methods": ["GET"],
        }
    )
    assert set(found) == {
        *("config.url", "config.tool", "config.schema.type", "config.headers.Mcp-Session-Id"),
        *("config.headers.Host", "config.headers.Accept", "config.auth.bearer", "config.timeout"),
        *("config.max_bytes", "config.allow_private[0]", "config.methods"),
    }
    assert "hush" not in str(found)


@pytest.mark.parametrize("field", ["command", "args", "env", "cwd", "stdio"])
def test_no_process_is_started_for_a_server(field: str) -> None:
    assert "no process is started" in problems({**URL, field: "npx"})[f"config.{field}"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "http://169.254.169.254/schema"}}},
        {"type": "object", "$ref": "file:///etc/passwd"},
        {"type": "object", "properties": {"a": {"type": "strange"}}},
        {"type": "object", "description": "x" * 70_000},
        {"type": "object", "properties": {"a": {"default": "$env.TOKEN"}}},
        [],
    ],
)
def test_a_schema_that_reaches_out_or_is_none_is_refused(schema: Json) -> None:
    assert any(
        path.startswith("config.schema")
        for path in problems({**URL, "tool": "a", "schema": schema})
    )


def test_a_schema_needs_a_tool() -> None:
    assert "config.schema" in problems({**URL, "schema": OBJECT})
    assert "config.url" in problems({})


def test_a_server_is_asked_for_nothing_and_a_tool_is_what_was_agreed_to() -> None:
    server = mcp.read(URL)
    assert (server.effect, server.parameters["additionalProperties"]) == ("pure", False)
    tool = mcp.read({**URL, "tool": "a", "schema": {**OBJECT, "required": ["x"]}})  # type: ignore[dict-item]
    assert (tool.effect, tool.parameters["required"]) == ("at_most_once", ["x"])


# --- a server that is one ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=[{}, {"json_response": True}, {"stateless": True}], ids=str)
def sums(request: pytest.FixtureRequest) -> Iterator[ToolServer]:
    with tool_servers.serving(**request.param) as server:
        yield server


def call(url: str, arguments: dict[str, Json], *, tool: str | None = None, **config: Any) -> Answer:
    at = {"url": url, "allow_private": [*LOOPBACK], **config}
    return carry(asked(at if tool is None else {**at, "tool": tool}, arguments))


def test_the_tools_of_a_server_are_listed(sums: ToolServer) -> None:
    answer = call(sums.url, {})
    assert answer.reason is None
    value: Any = answer.value
    found = {tool["name"]: tool for tool in value["tools"]}
    assert found.keys() == {"add", "look", "fail", "draw/it"}
    assert found["add"]["description"] == "Add two numbers."
    assert found["add"]["schema"]["required"] == ["a", "b"]
    assert found["add"]["annotations"] == {"idempotentHint": True}
    assert found["fail"]["annotations"] == {}


def test_a_tool_is_called_and_told_the_key_of_the_call(sums: ToolServer) -> None:
    sums.called.clear()
    answer = call(sums.url, {"a": 1, "b": 2}, tool="add")
    assert answer.value == {"text": "3", "structured": {"result": 3}, "content": []}
    assert sums.called == [("add", [1, 2], "key-1")]
    looked: Any = call(sums.url, {"path": "x"}, tool="look").value
    assert looked["structured"] == {"path": "x", "size": 3}


def test_what_is_no_text_stands_in_the_content(sums: ToolServer) -> None:
    value: Any = call(sums.url, {}, tool="draw/it").value
    assert (value["text"], value["structured"]) == ("", None)
    assert value["content"] == [{"type": "image", "data": "iVBORw==", "mimeType": "image/png"}]


def test_what_a_tool_calls_an_error_is_one(sums: ToolServer) -> None:
    answer = call(sums.url, {"why": "because"}, tool="fail")
    assert answer.reason == "error"
    assert "no: because" in (answer.message or "")
    answer = call(sums.url, {}, tool="nope")
    assert answer.reason in {"error", "bad_response"}
    assert "nope" in (answer.message or "")


def test_a_worker_without_the_extra_says_which_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "workers.services.tool_server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.client.session", None)
    # An attribute of the package stands for the module that was imported once.
    monkeypatch.delattr("workers.services.tool_server", raising=False)
    answer = call("https://tools.example.com/mcp", {})
    assert answer.reason == "no_such_service"
    assert "celeriac[mcp]" in (answer.message or "")


# --- servers that are none --------------------------------------------------------------------

Script = Callable[[dict[str, Any], Any], None]


@pytest.fixture
def scripted() -> Iterator[Callable[[dict[str, Script]], Server]]:
    """A server whose answers by method are written down; what is not is answered as it should be."""
    stack: list[Any] = []

    def start(script: dict[str, Script]) -> Server:
        def handle(handler: Any) -> None:
            if handler.command != "POST":
                reply(handler, 405)
                return
            message = json.loads(server.heard[-1].body)
            script.get(message.get("method", ""), usual)(message, handler)

        context = outside.http(handle)
        server = context.__enter__()
        stack.append(context)
        return server

    yield start
    for context in stack:
        context.__exit__(None, None, None)


def result(message: Any, value: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": value}).encode()


def error(message: Any, code: int, text: str) -> bytes:
    told = {"code": code, "message": text}
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": told}).encode()


def usual(message: dict[str, Any], handler: Any) -> None:
    if "id" not in message or "method" not in message:
        reply(handler, 202)
        return
    about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
    body = result(message, {**about, "serverInfo": {"name": "s", "version": "1"}})
    reply(handler, body=body, content_type="application/json")


def says(body: bytes | str, content_type: str = "application/json", status: int = 200) -> Script:
    content = body if isinstance(body, bytes) else body.encode()
    return lambda _, handler: reply(handler, status, content, content_type=content_type)


def results(value: Any) -> Script:
    return lambda message, handler: reply(
        handler, body=result(message, value), content_type="application/json"
    )


def tools(count: int, **more: Any) -> Script:
    listed = [{"name": f"t{at}", "inputSchema": {"type": "object"}} for at in range(count)]
    return results({"tools": listed, **more})


def never(_message: Any, handler: Any) -> None:
    handler.connection.settimeout(20)
    handler.rfile.read(1)


def endless(event: bytes, times: int = 1_000_000) -> Script:
    """Server-sent events without end; those of requests would each be answered."""

    def script(_message: Any, handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for at in range(times):
            handler.wfile.write(b"data: " + event.replace(b"%d", b"%d" % at) + b"\n\n")

    return script


NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
PING = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}'


@pytest.mark.parametrize("method", ["initialize", "notifications/initialized", "tools/call"])
def test_a_server_that_never_answers_is_left_in_time(scripted: Any, method: str) -> None:
    server = scripted({method: never})
    began = time.monotonic()
    answer = call(server.url, {}, tool="t", timeout=0.5)
    assert answer.reason == "timeout"
    assert time.monotonic() - began < 5


def test_an_attempt_that_is_to_end_ends(scripted: Any) -> None:
    server, stopped = scripted({"tools/call": never}), threading.Event()
    config: dict[str, Json] = {"url": server.url, "tool": "t", "allow_private": [*LOOPBACK]}
    threading.Timer(0.3, stopped.set).start()
    began = time.monotonic()
    assert carry(asked(config, {}, stopped=stopped)).reason == "cancelled"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("script", "reason", "said"),
    [
        (says("{"), "bad_response", ""),
        (says("[]"), "bad_response", ""),
        (says('{"jsonrpc": "2.0", "id": 77, "result": {}}'), "timeout", ""),
        (says("<html>", "text/html"), "bad_response", ""),
        (says("", status=202), "bad_response", "202"),
        (says('{"jsonrpc":"2.0","method":"x"}\n', "text/event-stream"), "interrupted", ""),
        (says("id: 1\nretry: 50\ndata:\n\n", "text/event-stream"), "interrupted", ""),
        (says("data: {\n\n", "text/event-stream"), "bad_response", ""),
        (results({}), "bad_response", ""),
        (results({"content": "x"}), "bad_response", ""),
        (results({"content": [{"type": "text"}]}), "bad_response", ""),
        (results({"content": [{"type": "text", "text": "a\0"}]}), "bad_response", "kept"),
        (results({"content": [], "structuredContent": {"a": 2**70}}), "bad_response", "kept"),
        (results({"content": [], "structuredContent": {"$blob": "x"}}), "bad_response", "kept"),
        (results({"content": [], "isError": True}), "error", "not why"),
        (says("nope", "text/plain", 401), "client_error", "401 Unauthorized: nope"),
        (says("slow", "text/plain", 429), "rate_limited", "429"),
        (says("oh", "text/plain", 503), "server_error", "503"),
        (says("x" * 100_000, "text/plain", 500), "server_error", "500"),
    ],
)
def test_what_is_not_the_protocol_fails_with_its_reason(
    scripted: Any, script: Script, reason: str, said: str
) -> None:
    server = scripted({"tools/call": script})
    answer = call(server.url, {}, tool="t", timeout=2)
    assert (answer.reason, said in (answer.message or "")) == (reason, True), answer.message
    assert len(answer.message or "") < 2_100


def test_an_error_of_the_protocol_is_told(scripted: Any) -> None:
    def script(message: Any, handler: Any) -> None:
        body = error(message, -32602, "no such tool: t")
        reply(handler, 400, body, content_type="application/json")

    answer = call(scripted({"tools/call": script}).url, {}, tool="t")
    assert answer.reason == "bad_response"
    assert "no such tool: t" in (answer.message or "")


def test_a_server_of_another_version_is_refused(scripted: Any) -> None:
    about = {"protocolVersion": "1999-01-01", "capabilities": {}}
    script = results({**about, "serverInfo": {"name": "s", "version": "1"}})
    answer = call(scripted({"initialize": script}).url, {}, tool="t")
    assert answer.reason == "bad_response"
    assert "1999-01-01" in (answer.message or "")


def test_a_server_that_knows_only_what_came_after_the_handshake_is_spoken_to(
    scripted: Any,
) -> None:
    def gone(message: Any, handler: Any) -> None:
        data = {"supported": ["2026-07-28"], "requested": "2025-11-25"}
        told = {"code": -32022, "message": "gone", "data": data}
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": told}).encode()
        reply(handler, 400, body, content_type="application/json")

    about = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    modern = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    done = {**modern, "content": [{"type": "text", "text": "hi"}]}
    script = {
        "initialize": gone,
        "server/discover": results({**modern, **about}),
        "tools/call": results(done),
    }
    server = scripted(script)
    value: Any = call(server.url, {}, tool="t").value
    assert value["text"] == "hi"
    assert server.heard[-1].headers["mcp-protocol-version"] == "2026-07-28"
    script["tools/call"] = results({**modern, "resultType": "input_required"})
    assert call(scripted(script).url, {}, tool="t").reason == "bad_response"


def test_an_answer_that_nests_for_ever_is_refused(scripted: Any) -> None:
    def deep(message: Any, handler: Any) -> None:
        body = result(message, {"content": [], "structuredContent": "DEEP"})
        nested = b"[" * 50_000 + b"]" * 50_000
        reply(handler, body=body.replace(b'"DEEP"', nested), content_type="application/json")

    assert call(scripted({"tools/call": deep}).url, {}, tool="t").reason == "bad_response"


@pytest.mark.parametrize("event", [NOTE, b"x" * 60_000, b":" * 60_000])
def test_a_stream_without_end_is_cut_off(scripted: Any, event: bytes) -> None:
    server = scripted({"tools/call": endless(event)})
    answer = call(server.url, {}, tool="t", max_bytes=100_000, timeout=20)
    assert answer.reason in {"output_too_large", "bad_response"}


def test_a_server_that_asks_on_and_on_is_left(scripted: Any) -> None:
    def script(message: Any, handler: Any) -> None:
        endless(PING, times=MOST_REQUESTS + 50)(message, handler)
        never(message, handler)

    server = scripted({"tools/call": script})
    began = time.monotonic()
    answer = call(server.url, {}, tool="t", timeout=20)
    # Not only when its time was over.
    assert time.monotonic() - began < 15
    assert answer.reason == "bad_response"
    assert f"more than {MOST_REQUESTS} requests" in (answer.message or "")
    assert len(server.heard) <= MOST_REQUESTS + 1


def test_a_server_gets_no_model_no_person_and_no_folder(scripted: Any) -> None:
    asks = [
        {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 9}},
        {"method": "roots/list"},
        {
            "method": "elicitation/create",
            "params": {"message": "?", "requestedSchema": {"type": "object", "properties": {}}},
        },
    ]
    given: list[Any] = []
    enough = threading.Event()

    def script(message: Any, handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for at, each in enumerate(asks):
            told = json.dumps({"jsonrpc": "2.0", "id": f"q{at}", **each}).encode()
            handler.wfile.write(b"data: " + told + b"\n\n")
        assert enough.wait(10)
        handler.wfile.write(b"data: " + result(message, {"content": []}) + b"\n\n")

    def handle(handler: Any) -> None:
        message = json.loads(server.heard[-1].body or b"{}")
        if str(message.get("id", "")).startswith("q"):
            given.append(message)
            reply(handler, 202)
            if len(given) == len(asks):
                enough.set()
        else:
            (script if message.get("method") == "tools/call" else usual)(message, handler)

    with outside.http(handle) as server:
        assert call(server.url, {}, tool="t").reason is None
    assert all("error" in each for each in given)


@pytest.mark.parametrize(
    ("script", "most"),
    [
        (tools(MOST_TOOLS + 1), 10_000_000),
        (tools(1, nextCursor="again"), 10_000_000),
        (tools(900), 10_000),
    ],
)
def test_a_list_of_tools_has_an_end(scripted: Any, script: Script, most: int) -> None:
    server = scripted({"tools/list": script})
    answer = call(server.url, {}, max_bytes=most, timeout=30)
    assert answer.reason == "output_too_large"


def test_pages_of_a_list_are_put_together(scripted: Any) -> None:
    def script(message: Any, handler: Any) -> None:
        first = "cursor" not in (message.get("params") or {})
        (tools(2, nextCursor="2") if first else tools(3))(message, handler)

    value: Any = call(scripted({"tools/list": script}).url, {}).value
    assert len(value["tools"]) == 5


def test_what_a_tool_says_of_its_output_is_not_held_against_it(scripted: Any) -> None:
    """A schema of the server's choosing would be looked up, or take for ever."""
    lies: Json = {"type": "object", "required": ["x"], "$ref": "http://127.0.0.1:1/schema"}
    listed = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": lies}
    done = {"content": [], "structuredContent": {"y": 1}}
    server = scripted({"tools/list": results({"tools": [listed]}), "tools/call": results(done)})
    value: Any = call(server.url, {}, tool="t").value
    assert value["structured"] == {"y": 1}
    assert b"tools/list" not in b"".join(each.body for each in server.heard)


# --- where it goes ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_to_somewhere_else_is_not_followed(scripted: Any, status: int) -> None:
    with outside.http(reply) as inner:

        def moved(_message: Any, handler: Any) -> None:
            reply(handler, status, location=f"http://127.0.0.1:{inner.port}/mcp")

        for method in ("initialize", "tools/call"):
            answer = call(scripted({method: moved}).url, {}, tool="t")
            assert answer.reason in {"bad_response", "blocked"}
        # The server had the call: it is not one that was never sent.
        assert answer.reason == "bad_response", answer.message
        assert inner.heard == []


def test_a_redirect_within_the_server_is_followed_so_often(scripted: Any) -> None:
    def moved(_message: Any, handler: Any) -> None:
        reply(handler, 307, location="/again")

    server = scripted({"initialize": moved})
    assert call(server.url, {}, tool="t").reason == "bad_response"
    assert len(server.heard) == 4


def test_a_private_server_is_reached_only_where_it_was_opened(scripted: Any) -> None:
    server = scripted({})
    config: dict[str, Json] = {"url": server.url}
    assert carry(asked(config, {})).reason == "blocked"
    assert (
        carry(asked({**config, "allow_private": [*LOOPBACK]}, {}, private=())).reason == "blocked"
    )
    assert server.heard == []
    named: dict[str, Json] = {"url": "http://tools.example.com/mcp"}
    answer = carry(asked(named, {}), resolve=lambda _host, _port: ["169.254.169.254"])
    assert answer.reason == "blocked"


def test_credentials_are_sent_and_kept_out_of_answers_and_logs(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    caplog.set_level(logging.INFO)
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    texts = [{"type": "text", "text": "you are canary-token"}]
    done = {"content": texts, "structuredContent": {"canary-token": ["canary-token"]}}
    server = scripted({"tools/call": results(done)})
    secret: dict[str, Any] = {
        "auth": {"bearer": "canary-token"},
        "headers": {"X-Team": "blue"},
    }
    answer = call(server.url, {}, tool="t", **secret)
    assert answer.value == {
        "text": "you are [hidden]",
        "structured": {"[hidden]": ["[hidden]"]},
        "content": [],
    }
    assert {each.headers["authorization"] for each in server.heard} == {"Bearer canary-token"}
    assert {each.headers["x-team"] for each in server.heard} == {"blue"}
    server = scripted({"tools/call": says("canary-token {", "text/plain", 500)})
    assert "canary" not in (call(server.url, {}, tool="t", **secret).message or "")
    server = scripted({"tools/call": says('{"canary-token"')})
    assert "canary" not in (call(server.url, {}, tool="t", **secret).message or "")
    assert "canary" not in caplog.text


def test_a_secret_that_was_not_granted_sends_nothing(scripted: Any) -> None:
    server = scripted({})
    answer = call(server.url, {}, auth={"bearer": "$env.TOKEN"})
    assert answer.reason == "not_granted"
    assert server.heard == []
