"""`/nodes/register`, `/tools/register`, `/tools/list`."""

from __future__ import annotations

from typing import Any

from flask import request

from engine.errors import Invalid
from engine.runs import catalogue
from engine.store.functions import Namespace
from web import pagination, principal, site
from web.errors import BadRequest
from web.routing import Routes
from web.schemas.seed000 import (
    NewSourceSchema,
    RegisteredSchema,
    ToolsArguments,
    ToolsSchema,
)
from web.seed000 import answers

node_routes = Routes(
    "nodes", __name__, url_prefix="/nodes", description="Functions that nodes run."
)
tool_routes = Routes(
    "tool-registry", __name__, url_prefix="/tools", description="Tools that nodes call."
)


@node_routes.on("POST", "/register", needs="definition:write")
@node_routes.takes(NewSourceSchema)
@node_routes.gives(RegisteredSchema)
def register_node(asked: dict[str, Any]) -> dict[str, str]:
    """Register the source of a function."""
    return _register("function", asked)


@tool_routes.on("POST", "/register", needs="definition:write")
@tool_routes.takes(NewSourceSchema)
@tool_routes.gives(RegisteredSchema)
def register_tool(asked: dict[str, Any]) -> dict[str, str]:
    """Register the source of a tool."""
    return _register("tool", asked)


@tool_routes.on("GET", "/list", needs="definition:read")
@tool_routes.query(ToolsArguments)
@tool_routes.gives(ToolsSchema)
def tools(arguments: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """List all tools, with their parameters."""
    limit = arguments["limit"]
    found = catalogue.function_list(
        site.current().platform,
        principal.current().tenant,
        "tool",
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    page = pagination.page(found, limit=limit, key=lambda tool: tool.name)
    return {"tools": page["items"]}, 200, answers.link(request.path, page["next"])


def _register(namespace: Namespace, asked: dict[str, Any]) -> dict[str, str]:
    who = principal.current()
    try:
        found = catalogue.register(
            site.current().platform,
            who.tenant,
            namespace,
            asked["name"],
            asked["code"],
            description=asked["description"] or "",
            by=who.user,
        )
    except Invalid as invalid:
        raise BadRequest(invalid.problems, invalid.message) from invalid
    return {"status": "registered", "name": found.name}
