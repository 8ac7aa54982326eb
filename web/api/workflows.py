"""Workflows: publish a document, read what is published."""

from __future__ import annotations

from dataclasses import fields
from http import HTTPStatus
from typing import Any, NoReturn

from flask import Response, request

from engine.runs import authorship, catalogue, diagrams, retirement
from engine.runs.catalogue import Published
from engine.store.workflows import WorkflowVersion
from web import body, drawing, pagination, principal, site
from web.routing import Routes
from web.schemas.diagrams import DiagramArguments
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import ReasonSchema
from web.schemas.workflows import PublishArguments, VersionSchema, WholeVersionSchema

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
@routes.query(PublishArguments)
@routes.gives(WholeVersionSchema, HTTPStatus.CREATED)
@routes.also_gives(
    HTTPStatus.OK,
    schema=WholeVersionSchema,
    description="It was published before, with the same document",
    success=True,
)
def publish(arguments: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Publish a version of a workflow.

    Without a `version` of its own it gets the next patch, unless nothing has changed.
    """
    platform, who = site.current().platform, principal.current()
    said = {"by": who.user, "notes": arguments["notes"]}
    if request.mimetype in _YAML:
        found = catalogue.publish_text(platform, who.tenant, body.read_bytes(request), **said)
    else:
        found = catalogue.publish(platform, who.tenant, body.read_json(request), **said)
    return published(found)


def published(found: Published) -> tuple[dict[str, Any], int, dict[str, str]]:
    """A version that was published, now or before, and where it is."""
    place = f"/api/v1/workflows/{found.workflow}/versions/{found.version}"
    status = HTTPStatus.CREATED if found.fresh else HTTPStatus.OK
    return _whole(found), status, {"Location": body.address(place)}


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
def newest(name: str) -> dict[str, Any]:
    """Get the latest version of a workflow."""
    return _whole(catalogue.find(site.current().platform, principal.current().tenant, name))


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
def version(name: str, version: str) -> dict[str, Any]:
    """Get a version of a workflow: by its number, or the highest of a range such as `^1.2`."""
    platform, tenant = site.current().platform, principal.current().tenant
    return _whole(catalogue.find(platform, tenant, name, version))


@routes.on("PUT", "/<name>/versions/<version>", needs="definition:write")
@routes.refuses(HTTPStatus.CONFLICT, "Always: what is published never changes")
def change(name: str, version: str) -> NoReturn:
    """Refuse to change a version, and say what to do instead."""
    here, who = site.current(), principal.current()
    raise catalogue.unchangeable(catalogue.find(here.platform, who.tenant, name, version))


@routes.on("DELETE", "/<name>/versions/<version>", needs="definition:write")
@routes.takes(ReasonSchema, required=False)
@routes.gives(VersionSchema)
def retire(asked: dict[str, Any], name: str, version: str) -> WorkflowVersion:
    """Retire a version: nothing new begins with it; the runs that it has had can still be read.

    What uses it is listed in a 409: runs that have not ended, and versions that would name nothing.
    """
    here, who = site.current(), principal.current()
    return retirement.retire(
        here.platform, who.tenant, name, version, by=who.user, why=asked["reason"]
    )


@routes.on("GET", "/<name>/versions/<version>/diagram", needs="definition:read")
@routes.query(DiagramArguments)
@routes.described(responses=drawing.DESCRIBED)
@routes.gives(None)
def diagram(arguments: dict[str, Any], name: str, version: str) -> Response:
    """Draw a version of a workflow."""
    here, who, notation = site.current(), principal.current(), arguments["format"]
    found = diagrams.of_version(here.platform, who.tenant, name, version, notation)
    return drawing.answer(found, notation)


def _whole(found: WorkflowVersion) -> dict[str, Any]:
    """A version with who has written it."""
    platform, tenant = site.current().platform, principal.current().tenant
    told = {item.name: getattr(found, item.name) for item in fields(found)}
    return {**told, "written_by": authorship.of_workflow(platform, tenant, found)}
