"""Drafts of workflows: save, look at, publish and discard them."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from flask import request

from engine.core.problem import Problem
from engine.errors import Invalid
from engine.runs import drafts
from engine.runs.drafts import Checked
from engine.store.drafts import Draft
from web import body, pagination, principal, site
from web.api import workflows
from web.errors import WrongMediaType
from web.routing import Routes
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import ReasonSchema
from web.schemas.workflows import (
    DraftSchema,
    NotesSchema,
    WholeDraftSchema,
    WholeVersionSchema,
)

routes = Routes(
    "drafts",
    __name__,
    url_prefix="/api/v1/drafts",
    description="Workflows as they are being written. They are not run; they become versions.",
)

_KINDS = frozenset({"application/json", "application/yaml", "application/x-yaml", "text/yaml"})
_REVISION = {
    "in": "header",
    "name": "If-Match",
    "description": 'The ETag of the revision that was read, such as `"3"`',
    "schema": {"type": "string"},
}
_MOST_DIGITS = 9


@routes.on("GET", "", needs="definition:read")
@routes.query(PageArguments)
@routes.gives(page_of(DraftSchema))
def listed(arguments: dict[str, Any]) -> dict[str, Any]:
    """List drafts by name."""
    limit = arguments["limit"]
    found = drafts.listed(
        site.current().platform,
        principal.current().tenant,
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda draft: draft.workflow)


@routes.on("GET", "/<name>", needs="definition:read")
@routes.gives(WholeDraftSchema)
def show(name: str) -> tuple[Checked, int, dict[str, str]]:
    """Get a draft, with all that keeps it from being published."""
    return _told(drafts.show(site.current().platform, principal.current().tenant, name))


@routes.on("PUT", "/<name>", needs="definition:write")
@routes.described(
    parameters=[_REVISION],
    requestBody={
        "required": True,
        "description": "A workflow document, as JSON or as YAML; it may be wrong still",
        "content": {"application/json": {}, "application/yaml": {}},
    },
)
@routes.gives(WholeDraftSchema)
@routes.also_gives(
    HTTPStatus.CREATED, schema=WholeDraftSchema, description="There was no draft", success=True
)
@routes.refuses(HTTPStatus.PRECONDITION_FAILED, "Somebody has saved it since")
def save(name: str) -> tuple[Checked, int, dict[str, str]]:
    """Save a draft as it is; without `If-Match` a new one."""
    if request.mimetype not in _KINDS:
        raise WrongMediaType
    who = principal.current()
    text, revision = body.read_bytes(request), _revision()
    found = drafts.save(
        site.current().platform, who.tenant, name, text, by=who.user, revision=revision
    )
    checked, _, headers = _told(found)
    status = HTTPStatus.CREATED if revision is None else HTTPStatus.OK
    place = body.address(f"/api/v1/drafts/{name}")
    return checked, status, {**headers, "Location": place}


@routes.on("POST", "/<name>/publish", needs="definition:write")
@routes.described(parameters=[_REVISION])
@routes.takes(NotesSchema, required=False)
@routes.gives(WholeVersionSchema, HTTPStatus.CREATED)
@routes.also_gives(
    HTTPStatus.OK,
    schema=WholeVersionSchema,
    description="It was published before, with the same document",
    success=True,
)
@routes.refuses(HTTPStatus.PRECONDITION_FAILED, "Somebody has saved it since")
def publish(asked: dict[str, Any], name: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Make a version of a draft, which is gone then."""
    who = principal.current()
    found = drafts.publish(
        site.current().platform,
        who.tenant,
        name,
        by=who.user,
        notes=asked["notes"],
        revision=_revision(),
    )
    return workflows.published(found)


@routes.on("DELETE", "/<name>", needs="definition:write")
@routes.described(parameters=[_REVISION])
@routes.takes(ReasonSchema, required=False)
@routes.gives(DraftSchema)
@routes.refuses(HTTPStatus.PRECONDITION_FAILED, "Somebody has saved it since")
def discard(asked: dict[str, Any], name: str) -> Draft:
    """Give a draft up."""
    who = principal.current()
    return drafts.discard(
        site.current().platform,
        who.tenant,
        name,
        by=who.user,
        why=asked["reason"],
        revision=_revision(),
    )


def _told(found: Checked) -> tuple[Checked, int, dict[str, str]]:
    return found, HTTPStatus.OK, {"ETag": f'"{found.draft.revision}"'}


def _revision() -> int | None:
    """The revision that a request is about; None where it says nothing of it."""
    given = request.headers.get("If-Match")
    if given is None:
        return None
    if re.fullmatch(rf'"[1-9][0-9]{{0,{_MOST_DIGITS - 1}}}"', given) is None:
        message = "is no revision of a draft"
        remedy = 'send the ETag as it was told, such as "3"'
        raise Invalid([Problem(path="If-Match", message=message, remedy=remedy)])
    return int(given.strip('"'))
