"""A server of tools that is really one: the official SDK's, over streamable HTTP, in a thread."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations


@dataclass
class ToolServer:
    """A server on this machine; `mcp` may be given more tools while it runs."""

    port: int
    mcp: Any
    #: What was called, with the idempotency key that came along.
    called: list[tuple[str, Any, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


@contextlib.contextmanager
def serving(*, json_response: bool = False, stateless: bool = False) -> Iterator[ToolServer]:
    """A server with tools that add, look, fail and answer with a picture."""
    with _logging_as_it_was():
        mcp = MCPServer("sums")
    server = ToolServer(port=0, mcp=mcp)

    @mcp.tool(annotations=ToolAnnotations(idempotent_hint=True))
    def add(a: int, b: int, ctx: Context) -> int:
        """Add two numbers."""
        meta: Any = ctx.request_context.meta or {}
        server.called.append(("add", [a, b], meta.get("celeriac/idempotency-key")))
        return a + b

    @mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
    def look(path: str) -> dict[str, Any]:
        """Look at something."""
        return {"path": path, "size": 3}

    @mcp.tool()
    def fail(why: str) -> str:
        """Fail."""
        raise ToolError(f"no: {why}")

    @mcp.tool(name="draw/it")
    def draw() -> Image:
        """Draw a picture."""
        return Image(data=b"\x89PNG", format="png")

    with _listening(mcp, json_response=json_response, stateless=stateless) as port:
        server.port = port
        yield server


@contextlib.contextmanager
def _listening(mcp: Any, *, json_response: bool, stateless: bool) -> Iterator[int]:
    app = mcp.streamable_http_app(json_response=json_response, stateless_http=stateless)
    sock = socket.create_server(("127.0.0.1", 0))
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, ws="none")
    running = Server(config)
    thread = threading.Thread(target=running.run, args=([sock],), daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield sock.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(10)


@contextlib.contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """The SDK's server sets up the logging of the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
