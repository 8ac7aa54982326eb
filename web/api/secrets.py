"""Secrets: put, listed, deleted, sealed anew. Nothing here ever shows a value."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from engine.runs import secrets
from engine.store.secrets import Secret
from web import pagination, principal, site
from web.routing import Routes
from web.schemas.pages import PageArguments, page_of
from web.schemas.secrets import (
    DeletedSecretSchema,
    NewSecretSchema,
    RotatedSecretsSchema,
    SecretSchema,
    SecretVersionsSchema,
)

routes = Routes(
    "secrets",
    __name__,
    url_prefix="/api/v1/secrets",
    description="Values that workers alone open, for what they are granted to.",
)


@routes.on("POST", "", needs="secret:write")
@routes.takes(NewSecretSchema)
@routes.gives(SecretSchema, HTTPStatus.CREATED)
def put(asked: dict[str, Any]) -> Secret:
    """Keep a value as the newest version of a secret, from the next attempt on."""
    who = principal.current()
    return secrets.put(
        site.current().platform,
        who.tenant,
        asked["name"],
        asked["value"],
        by=who.user,
        sensitive=asked["sensitive"],
        why=asked["reason"],
    )


@routes.on("GET", "", needs="secret:read")
@routes.query(PageArguments)
@routes.gives(page_of(SecretSchema))
def listed(arguments: dict[str, Any]) -> dict[str, Any]:
    """List secrets by name: who has put them when, and what they are sealed with."""
    limit = arguments["limit"]
    found = secrets.page(
        site.current().platform,
        principal.current().tenant,
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda secret: secret.name)


@routes.on("GET", "/<name>/versions", needs="secret:read")
@routes.gives(SecretVersionsSchema)
def versions(name: str) -> dict[str, Any]:
    """List the versions of a secret, newest first, those that are gone included."""
    found = secrets.versions(site.current().platform, principal.current().tenant, name)
    return {"items": found}


@routes.on("DELETE", "/<name>", needs="secret:write")
@routes.takes(DeletedSecretSchema, required=False)
@routes.gives(SecretSchema)
def delete(asked: dict[str, Any], name: str) -> Secret:
    """Remove what was sealed of a secret, for good."""
    who = principal.current()
    return secrets.delete(
        site.current().platform, who.tenant, name, by=who.user, why=asked["reason"]
    )


@routes.on("POST", "/rotate", needs="secret:write")
@routes.takes(DeletedSecretSchema, required=False)
@routes.gives(RotatedSecretsSchema)
def rotate(asked: dict[str, Any]) -> dict[str, Any]:
    """Seal whatever another key sealed with the first key of the ring."""
    who, platform = principal.current(), site.current().platform
    count = secrets.rotate(platform, who.tenant, by=who.user, why=asked["reason"])
    return {"key_id": platform.settings.secret_keys.sealing().id, "count": count}
