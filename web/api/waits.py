"""Steps that wait: who is asked what, answers, and what maps are told."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from engine.runs import views, waits
from engine.runs.waits import Answered
from web import body, pagination, principal, site
from web.api.runs import named, standing
from web.routing import Routes
from web.schemas.pages import page_of
from web.schemas.runs import ReasonSchema, StatusSchema
from web.schemas.waits import (
    AnsweredSchema,
    AnswerSchema,
    ItemsSchema,
    NewItemsSchema,
    OpenWaitSchema,
    WaitsArguments,
)

routes = Routes(
    "waits",
    __name__,
    url_prefix="/api/v1",
    description="Steps that wait for people or events. In addresses, write the # of a key as %23.",
)


@routes.on("GET", "/waits", needs="run:read")
@routes.query(WaitsArguments)
@routes.gives(page_of(OpenWaitSchema))
def list_waits(arguments: dict[str, Any]) -> dict[str, Any]:
    """List open approvals, inputs and awaited events, those that have waited for longest first."""
    limit = arguments["limit"]
    found = waits.page(
        site.current().platform,
        principal.current().tenant,
        kinds=arguments["kind"],
        run=body.known_id(arguments.get("run_id"), "run_id"),
        after=pagination.wait_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(
        found, limit=limit, key=lambda one: [one.opened_at.isoformat(), one.run_id, one.step]
    )


@routes.on("POST", "/runs/<run_id>/steps/<key>/answer", needs="approval:answer")
@routes.takes(AnswerSchema)
@routes.gives(AnsweredSchema)
def answer(asked: dict[str, Any], run_id: str, key: str) -> Answered:
    """Answer a step that asks people. Whoever comes too late is told what it was."""
    who = principal.current()
    return waits.answer(
        site.current().platform,
        named(run_id),
        key,
        by=who.user,
        roles=sorted(who.roles),
        choice=asked.get("choice"),
        form=asked["form"],
    )


@routes.on("POST", "/runs/<run_id>/steps/<key>/items", needs="run:control")
@routes.takes(NewItemsSchema)
@routes.gives(ItemsSchema)
@routes.also_gives(
    HTTPStatus.ACCEPTED,
    schema=ItemsSchema,
    description="They will be taken up as soon as the run can be",
    success=True,
)
def add_items(asked: dict[str, Any], run_id: str, key: str) -> tuple[dict[str, Any], int]:
    """Send a map more items while it runs."""
    by = principal.current().user
    count = waits.add_items(site.current().platform, named(run_id), key, asked["items"], by=by)
    return {"items": count}, HTTPStatus.ACCEPTED if count is None else HTTPStatus.OK


@routes.on("POST", "/runs/<run_id>/steps/<key>/complete", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(StatusSchema)
def complete(asked: dict[str, Any], run_id: str, key: str) -> dict[str, Any]:
    """Tell a map that it has enough: what is done counts, the rest is let go."""
    here, run = site.current(), named(run_id)
    by = principal.current().user
    waits.complete(here.platform, run, key, by=by, reason=asked["reason"])
    return standing(run, views.status(here.platform, run))
