"""Calls of MCP services.

Without a tool an answer is `{tools: [{name, description, schema, annotations}]}`. Of a tool it is
`{text, structured, content}`: all its text, what it gives as data (null where it gives none), and of
its content what is no text, such as images and links. What the tool itself calls an error has the
reason `error`; what is not the protocol, or an error of it, `bad_response`.

A server is asked by the official SDK (the extra `mcp`), through `workers.services.reach`. It is asked
only, and asks nothing of us: it gets no model, no person and no folder to work with.
"""

from __future__ import annotations

from engine.core import values
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import mcp, settled
from engine.services.mcp import Config
from workers.services import connections
from workers.services.connections import Resolver, Unreached, resolved
from workers.services.http import cleaned
from workers.services.service import Answer, Asked

#: Characters that a message has of what a server says.
_QUOTED = 2_000


def carry(asked: Asked, *, resolve: Resolver = resolved) -> Answer:
    """List the tools of the server, or call the one that the service is."""
    try:
        # Not everybody has it, and it takes a while to import.
        from workers.services import tool_server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        message = f"this worker cannot speak to servers of tools: install celeriac[mcp] ({error})"
        return Answer(reason="no_such_service", message=message)
    if names := settled.missing(dict(asked.config)):
        message = f"it was not given the secrets that it is configured with: {', '.join(names)}"
        return Answer(reason="not_granted", message=message)
    try:
        config = mcp.read(dict(asked.config), resolved=True)
    except Invalid as error:
        return Answer(reason="blocked", message=str(error))
    guard = connections.guard(asked, config.allow_private, config.timeout, resolve=resolve)
    try:
        if config.tool is None:
            return _answered(config, {"tools": [*tool_server.tools(config, guard)]})
        said = tool_server.call(config, guard, asked.arguments, key=asked.idempotency_key)
        if said.failed:
            message = said.text or "the tool says that it failed, and not why"
            return Answer(reason="error", message=_quoted(config, message))
        told: Json = {"text": said.text, "structured": said.structured, "content": [*said.content]}
        return _answered(config, told)
    except Unreached as unreached:
        message = f"{config.origin}: {_quoted(config, unreached.message)}"
        return Answer(reason=unreached.reason, message=message)


def _answered(config: Config, value: Json) -> Answer:
    for problem in values.problems(value):
        raise Unreached("bad_response", f"its answer cannot be kept: {problem}")
    return Answer(value=_cleaned(config, value))


def _cleaned(config: Config, value: Json) -> Json:
    """A value without the credentials, should the server have sent them back."""
    match value:
        case str():
            return cleaned(config.auth, value)
        case list():
            return [_cleaned(config, each) for each in value]
        case dict():
            return {
                cleaned(config.auth, name): _cleaned(config, each) for name, each in value.items()
            }
        case _:
            return value


def _quoted(config: Config, text: str) -> str:
    told = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    return cleaned(config.auth, told.encode(errors="replace").decode())[:_QUOTED]
