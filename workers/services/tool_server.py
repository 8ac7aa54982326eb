"""Speaking to a server of tools, by the official SDK of the Model Context Protocol.

The SDK is asynchronous and trusts its server; here it is driven for one call, and gets its HTTP by
a transport that sends every request through `reach.Reach`. So one time holds for all of the call, and
one count of bytes; a number of requests, too, because a server can ask for more of them. What the SDK
would do beside that is refused: a standing stream (GET), and taking up one that broke off.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import anyio
import anyio.to_thread
import httpx2
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CONNECTION_CLOSED,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from pydantic import ValidationError

from engine.core.values import Json
from engine.services.mcp import Config
from workers.services import reach
from workers.services.connections import Guard, Unreached
from workers.services.http import reason_of

#: Requests in one call, those that the server asks for among them.
MOST_REQUESTS = 200
#: Tools of a server.
MOST_TOOLS = 1_000
#: Pages that a list of them may come in.
_MOST_PAGES = 50
#: Redirects within the server.
_REDIRECTS = 3
#: Seconds that the server has to hear that it is over.
_GOODBYE = 1.0
#: Bytes of an answer that is an error.
_ERROR_BYTES = 16_384
_QUOTED = 300
_END = object()

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of a call of a tool."""

    text: str
    structured: Json
    #: What is no text.
    content: tuple[Json, ...]
    #: Whether the tool calls that an error.
    failed: bool


def tools(config: Config, guard: Guard) -> tuple[Json, ...]:
    """The tools of a server: name, description, schema, annotations. Raises `Unreached`."""
    return asyncio.run(_with(config, guard, _listed))


def call(config: Config, guard: Guard, arguments: Mapping[str, Json], *, key: str) -> Said:
    """Call the tool of a service; `key` is the same in every attempt. Raises `Unreached`."""
    return asyncio.run(
        _with(config, guard, partial(_called, tool=config.tool or "", given=arguments, key=key))
    )


async def _with(config: Config, guard: Guard, act: Callable[[ClientSession], Awaitable[T]]) -> T:
    """Do something in a session of its own."""
    transport = _Guarded(config, guard)
    found: list[T] = []
    try:
        with transport.scope:
            async with anyio.create_task_group() as group:
                group.start_soon(transport.watch)
                await _in_session(transport, config, act, found)
                group.cancel_scope.cancel()
    except* Unreached as unreached:
        transport.failed = transport.failed or _first(unreached)
    except* MCPError as refused:
        transport.failed = transport.failed or _refused(_first(refused))
    except* ValidationError:
        # It quotes what it got, which may be long, and anything.
        meant = Unreached("bad_response", "what it answers is not as the protocol has it")
        transport.failed = transport.failed or meant
    except* Exception as tripped:  # noqa: BLE001  # by whatever the SDK trips over what it was sent
        meant = Unreached("bad_response", f"what it answers cannot be used: {_first(tripped)}")
        transport.failed = transport.failed or meant
    if found:
        return found[0]
    raise transport.failed or Unreached("interrupted", "the conversation broke off")


async def _in_session(
    transport: _Guarded,
    config: Config,
    act: Callable[[ClientSession], Awaitable[T]],
    found: list[T],
) -> None:
    headers = {"User-Agent": "celeriac", **config.headers}
    headers |= dict([config.auth]) if config.auth else {}
    async with (
        # Nothing is taken from the environment: no proxy, and no credentials.
        httpx2.AsyncClient(
            transport=transport, headers=headers, trust_env=False, max_redirects=_REDIRECTS
        ) as client,
        streamable_http_client(
            config.url, http_client=client, max_sse_event_size=config.max_bytes
        ) as (read, write),
        ClientSession(
            read, write, client_info=Implementation(name="celeriac", version="1")
        ) as session,
    ):
        await _begun(session)
        # What was found counts, however the server takes it that this was all.
        found.append(await act(session))
        transport.ending()


async def _begun(session: ClientSession) -> None:
    """Agree on a version: the handshake that servers know, or, where one says so, what came after."""
    try:
        await session.initialize()
    except MCPError as error:
        if error.code != UNSUPPORTED_PROTOCOL_VERSION:
            raise
        await session.discover()


async def _listed(session: ClientSession) -> tuple[Json, ...]:
    found: list[Json] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        found += map(_told, page.tools)
        cursor = page.next_cursor
        if len(found) > MOST_TOOLS:
            raise Unreached("output_too_large", f"the server has more than {MOST_TOOLS} tools")
        if cursor is None:
            return tuple(found)
    message = f"the list of the server's tools goes on after {_MOST_PAGES} pages"
    raise Unreached("output_too_large", message)


def _told(tool: Tool) -> Json:
    hints = tool.annotations
    return {
        "name": tool.name,
        "description": tool.description or tool.title or "",
        "schema": tool.input_schema,
        "annotations": {} if hints is None else _plain(hints.model_dump),
    }


async def _called(
    session: ClientSession, *, tool: str, given: Mapping[str, Json], key: str
) -> Said:
    # Not `session.call_tool`: it would ask for the list of tools, and hold what came to a schema that
    # the server chose.
    params = CallToolRequestParams.model_validate(
        {"name": tool, "arguments": given, "_meta": {"celeriac/idempotency-key": key}}
    )
    result = await session.send_request(CallToolRequest(params=params), CallToolResult)
    texts = [each.text for each in result.content if isinstance(each, TextContent)]
    rest = [each for each in result.content if not isinstance(each, TextContent)]
    return Said(
        text="\n".join(texts),
        structured=result.structured_content,
        content=tuple(_plain(each.model_dump) for each in rest),
        failed=bool(result.is_error),
    )


def _plain(dump: Callable[..., dict[str, Json]]) -> Json:
    return dump(mode="json", by_alias=True, exclude_none=True)


class _Guarded(httpx2.AsyncBaseTransport):
    """What the SDK sends its requests by; its first failure ends the conversation."""

    def __init__(self, config: Config, guard: Guard) -> None:
        # What is read is read by threads, which cannot be told otherwise.
        self._guard = replace(guard, check=self._check)
        self._hosts = (config.origin,)
        self._bytes = config.max_bytes
        self._sent = 0
        #: Whether the server has got the call of the tool, and may have done it.
        self._called = False
        self.scope = anyio.CancelScope()
        self.failed: Unreached | None = None

    async def watch(self) -> None:
        """End everything when the time is over, or the attempt was told to end."""
        while True:
            try:
                pause = self._guard.tick()
            except Unreached as unreached:
                self.fail(unreached)
                return
            await anyio.sleep(pause)

    def ending(self) -> None:
        """From now on there is nothing to wait for but good-byes."""
        until = min(self._guard.until, time.monotonic() + _GOODBYE)
        self._guard = replace(self._guard, until=until)

    def fail(self, unreached: Unreached) -> None:
        """End the conversation. The SDK would only log some failures, and wait on."""
        self.failed = self.failed or unreached
        self.scope.cancel()

    def _check(self) -> None:
        if self.failed is not None:
            raise Unreached("interrupted", "the conversation is over")

    def count(self, piece: bytes) -> None:
        """Count what was answered against what may be. Raises `Unreached`."""
        self._bytes -= len(piece)
        if self._bytes < 0:
            raise Unreached("output_too_large", "the server answers more than it may")

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, if it is one that is wanted."""
        if request.method == "GET":
            return httpx2.Response(HTTPStatus.METHOD_NOT_ALLOWED, request=request)
        try:
            return await self._answered(request)
        except Unreached as unreached:
            self.fail(unreached)
            raise

    async def _answered(self, request: httpx2.Request) -> httpx2.Response:
        self._sent += 1
        if self._sent > MOST_REQUESTS:
            raise Unreached("bad_response", f"it asks for more than {MOST_REQUESTS} requests")
        sent = httpx2.Request(
            request.method, request.url, headers=request.headers, content=await request.aread()
        )
        way = reach.Reach(self._guard, hosts=self._hosts, max_bytes=max(self._bytes, 1))
        try:
            answer = await anyio.to_thread.run_sync(way.handle_request, sent)
        except Unreached as unreached:
            if not self._called:
                raise
            raise reach.afterwards(unreached, "after the tool was called") from None
        self._called = self._called or _calls(sent)
        body = _Body(self, answer)
        if answer.status_code >= HTTPStatus.BAD_REQUEST and _asks(sent):
            return await _error(answer, body)
        return httpx2.Response(
            answer.status_code, headers=answer.headers, stream=body, request=request
        )


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, piece by piece."""

    def __init__(self, transport: _Guarded, answer: httpx2.Response) -> None:
        self._transport = transport
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: Iterator[bytes] = self._answer.iter_raw()
        while True:
            try:
                piece = await anyio.to_thread.run_sync(next, pieces, _END)
                if not isinstance(piece, bytes):
                    return
                self._transport.count(piece)
            except Unreached as unreached:
                self._transport.fail(unreached)
                raise
            yield piece

    async def aclose(self) -> None:
        self._answer.close()


async def _error(answer: httpx2.Response, body: _Body) -> httpx2.Response:
    """An answer from 400 on, if it is an error of the protocol. Raises `Unreached` for any other."""
    content = b""
    async for piece in body:
        content += piece
        if len(content) > _ERROR_BYTES:
            break
    await body.aclose()
    if b'"jsonrpc"' in content and len(content) <= _ERROR_BYTES:
        return httpx2.Response(answer.status_code, headers=answer.headers, content=content)
    status = answer.status_code
    message = f"the server answered {status} {answer.reason_phrase}".rstrip()
    if waits := answer.headers.get("retry-after"):
        message += f" (Retry-After: {waits[:40]})"
    said = " ".join(content.decode("utf-8", "replace").split())[:_QUOTED]
    raise Unreached(reason_of(status), f"{message}: {said}" if said else message)


def _asks(request: httpx2.Request) -> bool:
    """Whether a message waits for an answer; those that tell something do not."""
    return request.method == "POST" and "id" in json.loads(request.content)


def _calls(request: httpx2.Request) -> bool:
    """Whether a message is the call of a tool."""
    return request.method == "POST" and json.loads(request.content).get("method") == "tools/call"


def _refused(error: MCPError) -> Unreached:
    reason = "interrupted" if error.code == CONNECTION_CLOSED else "bad_response"
    return Unreached(reason, f"the server's answer is error {error.code}: {error.error.message}")


E_ = TypeVar("E_", bound=BaseException)


def _first(group: BaseExceptionGroup[E_]) -> E_:
    """One of those that were raised at once."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found  # type: ignore[return-value]  # a group of them holds nothing else
