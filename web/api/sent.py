"""Events from outside: sending them, and what became of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import request

from engine.core.problem import Problem
from engine.errors import Invalid, NotFound
from engine.runs import events
from engine.runs.events import Event, KeyUsed
from web import body, pagination, principal, site
from web.api.runs import named
from web.routing import Routes
from web.schemas.pages import page_of
from web.schemas.sent import NewEventSchema, SentArguments, SentEventSchema

routes = Routes(
    "sent",
    __name__,
    url_prefix="/api/v1",
    description="Events from outside: to a run, or to whoever waits with the same match.",
)

_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "What is sent under one key is one event, however often it is sent",
    "schema": {"type": "string", "maxLength": body.IDEMPOTENCY_KEY_CHARACTERS},
}
_AGAIN: dict[str, Any] = {
    "schema": SentEventSchema,
    "description": "It was sent before, under this key",
    "success": True,
}
_KEPT: dict[str, Any] = {
    "schema": SentEventSchema,
    "description": "Nobody waits for it yet; it is kept",
    "success": True,
}


@routes.on("POST", "/runs/<run_id>/events/<name>", needs="event:send")
@routes.described(parameters=[_KEY])
@routes.takes(NewEventSchema, required=False)
@routes.gives(SentEventSchema, HTTPStatus.CREATED)
@routes.also_gives(HTTPStatus.OK, **_AGAIN)
@routes.also_gives(HTTPStatus.ACCEPTED, **_KEPT)
def send_to_run(asked: dict[str, Any], run_id: str, name: str) -> tuple[Event, int, dict[str, str]]:
    """Send an event to a run; a step that waits for it goes on, now or later."""
    return _send(name, asked, run=named(run_id).run)


@routes.on("POST", "/events/<event>", needs="event:send")
@routes.described(parameters=[_KEY])
@routes.takes(NewEventSchema, required=False)
@routes.gives(SentEventSchema, HTTPStatus.CREATED)
@routes.also_gives(HTTPStatus.OK, **_AGAIN)
@routes.also_gives(HTTPStatus.ACCEPTED, **_KEPT)
def send(asked: dict[str, Any], event: str) -> tuple[Event, int, dict[str, str]]:
    """Send an event, by its name, to whichever step waits with the same match."""
    return _send(event, asked)


@routes.on("GET", "/events", needs="run:read")
@routes.query(SentArguments)
@routes.gives(page_of(SentEventSchema))
def list_events(arguments: dict[str, Any]) -> dict[str, Any]:
    """List events that were sent, newest first."""
    limit = arguments["limit"]
    found = events.page(
        site.current().platform,
        principal.current().tenant,
        states=arguments["state"],
        run=body.known_id(arguments.get("run_id"), "run_id"),
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda one: one.id)


@routes.on("GET", "/events/<event>", needs="run:read")
@routes.gives(SentEventSchema)
def show(event: str) -> Event:
    """Get an event by its id, and what became of it."""
    found = body.uuid(event)
    if found is None:
        raise NotFound(f"Event not found: {event}")
    return events.get(site.current().platform, principal.current().tenant, found)


def _send(
    name: str, asked: dict[str, Any], run: str | None = None
) -> tuple[Event, int, dict[str, str]]:
    here, who = site.current(), principal.current()
    try:
        event, woken = events.send(
            here.platform,
            who.tenant,
            name,
            asked["payload"],
            by=who.user,
            run=run,
            match=asked["match"],
            key=body.idempotency_key(request),
            transient=asked["transient"],
            seconds=asked["keep_seconds"],
        )
    except KeyUsed as used:
        # As with submissions: sending it again would not help.
        problem = Problem(path="Idempotency-Key", message=used.message, remedy="use another key")
        raise Invalid([problem]) from used
    for run_id in woken:
        here.nudger.nudge(run_id)
    headers = {"Location": f"/api/v1/events/{event.id}"}
    if event.replayed:
        return event, HTTPStatus.OK, {**headers, "Idempotent-Replay": "true"}
    kept = event.state == "kept"
    return event, HTTPStatus.ACCEPTED if kept else HTTPStatus.CREATED, headers
