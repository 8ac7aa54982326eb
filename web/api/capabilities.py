"""Capabilities: what admins grant to functions, tools and workflows."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from engine.capabilities import Subject, subject
from engine.errors import Invalid, NotFound
from engine.runs import capabilities
from engine.store.capabilities import Granted
from web import pagination, principal, site
from web.routing import Routes
from web.schemas.pages import PageArguments, page_of
from web.schemas.secrets import (
    CapabilitySchema,
    NewCapabilitySchema,
    RevokedCapabilitySchema,
)

routes = Routes(
    "capabilities",
    __name__,
    url_prefix="/api/v1/capabilities",
    description="What code that somebody registered may reach. What is not granted is denied.",
)


@routes.on("POST", "", needs="capability:grant")
@routes.takes(NewCapabilitySchema)
@routes.gives(CapabilitySchema, HTTPStatus.CREATED)
def grant(asked: dict[str, Any]) -> Granted:
    """Grant a profile in the place of what was granted, from the next attempt on."""
    who = principal.current()
    return capabilities.grant(
        site.current().platform,
        who.tenant,
        subject(asked["subject"]),
        asked["profile"],
        by=who.user,
        why=asked["reason"],
    )


@routes.on("GET", "", needs="capability:read")
@routes.query(PageArguments)
@routes.gives(page_of(CapabilitySchema))
def listed(arguments: dict[str, Any]) -> dict[str, Any]:
    """List grants, by whom they are for."""
    limit = arguments["limit"]
    found = capabilities.page(
        site.current().platform,
        principal.current().tenant,
        after=pagination.texts_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=_key)


@routes.on("GET", "/<subject>", needs="capability:read")
@routes.gives(CapabilitySchema)
def show(subject: str) -> Granted:
    """Get the grant that holds for `function:NAME@3`: its own, else that for all versions."""
    return capabilities.show(site.current().platform, principal.current().tenant, _named(subject))


@routes.on("DELETE", "/<subject>", needs="capability:grant")
@routes.takes(RevokedCapabilitySchema, required=False)
@routes.gives(CapabilitySchema)
def revoke(asked: dict[str, Any], subject: str) -> Granted:
    """Take a grant back, from the next attempt on."""
    who = principal.current()
    return capabilities.revoke(
        site.current().platform, who.tenant, _named(subject), by=who.user, why=asked["reason"]
    )


def _named(text: str) -> Subject:
    """Whom an address names."""
    try:
        return subject(text)
    except Invalid:
        raise NotFound(f"no capabilities are granted to {text}") from None


def _key(granted: Granted) -> list[Any]:
    whose = granted.subject
    return [whose.kind, whose.name, whose.version or ""]
