"""API keys: made, listed, revoked, rotated."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from engine.runs import keys
from engine.store.keys import Key
from web import pagination, principal, site
from web.routing import Routes
from web.schemas.pages import page_of
from web.schemas.runs import ReasonSchema
from web.schemas.users import (
    KeysArguments,
    KeySchema,
    MadeKeySchema,
    NewKeySchema,
    RotatedSchema,
)

routes = Routes(
    "keys",
    __name__,
    url_prefix="/api/v1/keys",
    description="Keys by which programs are known, each as one user.",
)


@routes.on("GET", "", needs="key:read")
@routes.query(KeysArguments)
@routes.gives(page_of(KeySchema))
def list_keys(arguments: dict[str, Any]) -> dict[str, Any]:
    """List keys, newest first, with those that are over."""
    limit = arguments["limit"]
    found = keys.page(
        site.current().platform,
        principal.current().tenant,
        user=arguments.get("user"),
        before=pagination.moment_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda key: [key.created_at.isoformat(), key.id])


@routes.on("POST", "", needs="key:write")
@routes.takes(NewKeySchema)
@routes.gives(MadeKeySchema, HTTPStatus.CREATED)
def create(asked: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Make a key. Its token is shown this once, and nobody can read it again."""
    who = principal.current()
    made, token = keys.create(
        site.current().platform,
        who,
        user=asked.get("user", who.user),
        name=asked["name"],
        scopes=asked["scopes"],
        expires_at=asked["expires_at"],
    )
    return _made(made, token), HTTPStatus.CREATED


@routes.on("POST", "/<key>/rotate", needs="key:write")
@routes.takes(RotatedSchema, required=False)
@routes.gives(MadeKeySchema, HTTPStatus.CREATED)
def rotate(asked: dict[str, Any], key: str) -> tuple[dict[str, Any], int]:
    """Make a key in another's place, for the same user and use; the old one ends."""
    made, token = keys.rotate(
        site.current().platform, principal.current(), key, grace_seconds=asked["grace_seconds"]
    )
    return _made(made, token), HTTPStatus.CREATED


@routes.on("DELETE", "/<key>", needs="key:write")
@routes.takes(ReasonSchema, required=False)
@routes.gives(KeySchema)
def revoke(asked: dict[str, Any], key: str) -> Key:
    """Revoke a key. It holds from the next request, and for good."""
    return keys.revoke(site.current().platform, principal.current(), key, why=asked["reason"])


def _made(key: Key, token: str) -> dict[str, Any]:
    return {**asdict(key), "token": token}
