"""`/graph/create`, `/graph/list`, `/graph/<graph_id>`: a graph's id is that of its version."""

from __future__ import annotations

from typing import Any

from flask import request

from engine.errors import Invalid, NotFound
from engine.runs import catalogue
from engine.store.workflows import WorkflowVersion
from web import body, pagination, principal, site
from web.errors import BadRequest
from web.routing import Routes
from web.schemas.seed000 import (
    CreatedGraphSchema,
    GraphSchema,
    GraphsSchema,
    ListArguments,
    NewGraphSchema,
)
from web.seed000 import answers

routes = Routes(
    "graph", __name__, url_prefix="/graph", description="Graphs of the simple language."
)


@routes.on("POST", "/create", needs="definition:write")
@routes.takes(NewGraphSchema)
@routes.gives(CreatedGraphSchema)
def create(asked: dict[str, Any]) -> dict[str, Any]:
    """Create a graph from nodes and edges."""
    who = principal.current()
    try:
        version = catalogue.publish_simple(site.current().platform, who.tenant, asked, by=who.user)
    except Invalid as invalid:
        raise BadRequest(invalid.problems, invalid.message) from invalid
    graph = answers.graph(version)
    return {
        "graph_id": version.id,
        "name": graph["name"],
        "node_count": len(graph["nodes"]),
        "edge_count": len(graph["edges"]),
    }


@routes.on("GET", "/list", needs="definition:read")
@routes.query(ListArguments)
@routes.gives(GraphsSchema)
def graphs(arguments: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """List all graphs, newest first; a `Link` header leads on where there are very many."""
    limit = arguments["limit"]
    found = catalogue.versions(
        site.current().platform,
        principal.current().tenant,
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    page = pagination.page(found, limit=limit, key=lambda version: version.id)
    shown = [answers.graph(version) for version in page["items"]]
    return {"graphs": shown}, 200, answers.link(request.path, page["next"])


@routes.on("GET", "/<graph_id>", needs="definition:read")
@routes.gives(GraphSchema)
def graph(graph_id: str) -> dict[str, Any]:
    """Get a graph."""
    return answers.graph(named(graph_id))


def named(graph_id: str) -> WorkflowVersion:
    """The version that a graph's id names. Raises `NotFound` in the words of seed 000."""
    found = body.uuid(graph_id)
    try:
        if found is not None:
            return catalogue.version(site.current().platform, principal.current().tenant, found)
    except NotFound:
        pass
    raise NotFound(f"Graph not found: {graph_id}")
