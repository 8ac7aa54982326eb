"""Users of the tenant, and who asks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from engine.core.principal import granted
from engine.runs import users
from engine.store.principals import User
from web import body, pagination, principal, site
from web.permissions import ANYBODY
from web.routing import Routes
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import ReasonSchema
from web.schemas.users import ChangedUserSchema, MeSchema, NewUserSchema, UserSchema

me_routes = Routes("me", __name__, url_prefix="/api/v1/me", description="Who you are.")
routes = Routes(
    "users",
    __name__,
    url_prefix="/api/v1/users",
    description="Who may use the platform for your tenant, and what each may do.",
)


@me_routes.on("GET", "", needs=ANYBODY)
@me_routes.gives(MeSchema)
def me() -> dict[str, Any]:
    """Say who asks, and what he may do."""
    who = principal.current()
    return {
        "tenant": who.tenant,
        "user": who.user,
        "roles": who.roles,
        "permissions": granted(who.roles, who.permissions),
        "scopes": who.scopes,
        "credential": who.credential,
    }


@routes.on("GET", "", needs="user:read")
@routes.query(PageArguments)
@routes.gives(page_of(UserSchema))
def list_users(arguments: dict[str, Any]) -> dict[str, Any]:
    """List users by their ids."""
    limit = arguments["limit"]
    found = users.page(
        site.current().platform,
        principal.current().tenant,
        after=pagination.key_of(arguments.get("cursor"), str) or "",
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda user: user.id)


@routes.on("POST", "", needs="user:write")
@routes.takes(NewUserSchema)
@routes.gives(UserSchema, HTTPStatus.CREATED)
def create(asked: dict[str, Any]) -> tuple[User, int, dict[str, str]]:
    """Make a user. Nobody gives roles or permissions that he does not hold."""
    made = users.create(
        site.current().platform,
        principal.current(),
        asked["id"],
        roles=asked.get("roles", ()),
        permissions=asked.get("permissions", ()),
    )
    return made, HTTPStatus.CREATED, {"Location": body.address(f"/api/v1/users/{made.id}")}


@routes.on("GET", "/<path:user>", needs="user:read")
@routes.gives(UserSchema)
def show(user: str) -> User:
    """Get a user."""
    return users.get(site.current().platform, principal.current().tenant, user)


@routes.on("PATCH", "/<path:user>", needs="user:write")
@routes.takes(ChangedUserSchema)
@routes.gives(UserSchema)
def change(asked: dict[str, Any], user: str) -> User:
    """Change what a user holds, or whether he is active. It holds from his next request."""
    return users.change(site.current().platform, principal.current(), user, **asked)


@routes.on("DELETE", "/<path:user>", needs="user:write")
@routes.takes(ReasonSchema, required=False)
@routes.gives(UserSchema)
def deactivate(asked: dict[str, Any], user: str) -> User:
    """Deactivate a user: none of his credentials holds any more. What he did stays his."""
    return users.change(
        site.current().platform, principal.current(), user, active=False, why=asked["reason"]
    )
