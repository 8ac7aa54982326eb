"""Workflows: publish a document, read what is published."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response, request

from engine.runs import catalogue, diagrams
from engine.store.workflows import WorkflowVersion
from web import body, drawing, pagination, principal, site
from web.routing import Routes
from web.schemas.diagrams import DiagramArguments
from web.schemas.pages import PageArguments, page_of
from web.schemas.workflows import VersionSchema, WholeVersionSchema

routes = Routes(
    "workflows",
    __name__,
    url_prefix="/api/v1/workflows",
    description="What can be run: named workflows in versions that never change.",
)

_YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_DOCUMENT = {"schema": {"$ref": "/api/v1/schema"}}


@routes.on("POST", "", needs="definition:write")
@routes.described(
    requestBody={
        "required": True,
        "description": "A workflow document, as JSON or as YAML; its schema is at /api/v1/schema",
        "content": {"application/json": _DOCUMENT, "application/yaml": {}},
    }
)
@routes.gives(WholeVersionSchema, HTTPStatus.CREATED)
def publish() -> tuple[WorkflowVersion, int, dict[str, str]]:
    """Publish a version of a workflow.

    Without a `version` of its own it gets the next patch, unless nothing has changed.
    """
    platform, who = site.current().platform, principal.current()
    if request.mimetype in _YAML:
        text = body.read_bytes(request)
        found = catalogue.publish_text(platform, who.tenant, text, by=who.user)
    else:
        found = catalogue.publish(platform, who.tenant, body.read_json(request), by=who.user)
    place = f"/api/v1/workflows/{found.workflow}/versions/{found.version}"
    return found, HTTPStatus.CREATED, {"Location": body.address(place)}


@routes.on("GET", "", needs="definition:read")
@routes.query(PageArguments)
@routes.gives(page_of(VersionSchema))
def latest(arguments: dict[str, Any]) -> dict[str, Any]:
    """List workflows by name, each in its latest version."""
    limit = arguments["limit"]
    found = catalogue.latest(
        site.current().platform,
        principal.current().tenant,
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda version: version.workflow)


@routes.on("GET", "/<name>", needs="definition:read")
@routes.gives(WholeVersionSchema)
def newest(name: str) -> WorkflowVersion:
    """Get the latest version of a workflow."""
    return catalogue.find(site.current().platform, principal.current().tenant, name)


@routes.on("GET", "/<name>/versions", needs="definition:read")
@routes.query(PageArguments)
@routes.gives(page_of(VersionSchema))
def versions(arguments: dict[str, Any], name: str) -> dict[str, Any]:
    """List the versions of a workflow, newest first."""
    platform, tenant, limit = (
        site.current().platform,
        principal.current().tenant,
        arguments["limit"],
    )
    found = catalogue.versions(
        platform,
        tenant,
        name=name,
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    if not found:
        catalogue.find(platform, tenant, name)
    return pagination.page(found, limit=limit, key=lambda version: version.id)


@routes.on("GET", "/<name>/versions/<version>", needs="definition:read")
@routes.gives(WholeVersionSchema)
def version(name: str, version: str) -> WorkflowVersion:
    """Get a version of a workflow."""
    return catalogue.find(site.current().platform, principal.current().tenant, name, version)


@routes.on("GET", "/<name>/versions/<version>/diagram", needs="definition:read")
@routes.query(DiagramArguments)
@routes.described(responses=drawing.DESCRIBED)
@routes.gives(None)
def diagram(arguments: dict[str, Any], name: str, version: str) -> Response:
    """Draw a version of a workflow."""
    here, who, notation = site.current(), principal.current(), arguments["format"]
    found = diagrams.of_version(here.platform, who.tenant, name, version, notation)
    return drawing.answer(found, notation)
