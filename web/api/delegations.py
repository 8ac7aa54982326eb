"""Says that people hand to others."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from engine.runs import delegations
from engine.runs.delegations import Delegation
from engine.runs.waits import Person
from web import body, pagination, principal, site
from web.routing import Routes
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import ReasonSchema
from web.schemas.waits import DelegationSchema, NewDelegationSchema

routes = Routes(
    "delegations",
    __name__,
    url_prefix="/api/v1/delegations",
    description="Says in what steps ask, handed to others: for one question, or until a time.",
)


@routes.on("POST", "", needs="approval:answer")
@routes.takes(NewDelegationSchema)
@routes.gives(DelegationSchema, HTTPStatus.CREATED)
def delegate(asked: dict[str, Any]) -> Delegation:
    """Hand my say to another user: in what one step asks, or in all that I am asked until then."""
    who = principal.current()
    return delegations.give(
        site.current().platform,
        who.tenant,
        Person(user=who.user, roles=sorted(who.roles)),
        asked["to"],
        reason=asked["reason"],
        run=body.known_id(asked["run_id"], "run_id"),
        step=asked["step"],
        until=asked["until"],
    )


@routes.on("GET", "", needs="run:read")
@routes.query(PageArguments)
@routes.gives(page_of(DelegationSchema))
def list_delegations(arguments: dict[str, Any]) -> dict[str, Any]:
    """List the says that I have handed to others, and they to me, newest first."""
    limit, who = arguments["limit"], principal.current()
    found = delegations.page(
        site.current().platform,
        who.tenant,
        user=who.user,
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda one: one.id)


@routes.on("POST", "/<delegation>/revoke", needs="approval:answer")
@routes.takes(ReasonSchema, required=False)
@routes.gives(DelegationSchema)
def revoke(asked: dict[str, Any], delegation: str) -> Delegation:
    """Take my say back, unless it was used."""
    who = principal.current()
    return delegations.revoke(
        site.current().platform, who.tenant, delegation, by=who.user, reason=asked["reason"]
    )
