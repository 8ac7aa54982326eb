"""Steps that wait: who is asked what, answers, and what maps are told."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import request

from engine.core.problem import Problem
from engine.errors import Invalid
from engine.runs import answers, approvals, views, waits
from engine.runs.answers import Answered, KeyUsed, Saying
from engine.runs.waits import Filter, Person
from web import body, pagination, principal, site
from web.api.runs import named, standing
from web.routing import Routes
from web.schemas.pages import page_of
from web.schemas.runs import ReasonSchema, StatusSchema
from web.schemas.waits import (
    AnsweredSchema,
    AnswerSchema,
    AnswersSchema,
    AskedSchema,
    CamesSchema,
    CountArguments,
    CountsSchema,
    ItemsSchema,
    NewItemsSchema,
    OpenWaitSchema,
    WaitsArguments,
)

_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "What came of it the first time under one key comes of it again",
    "schema": {"type": "string", "maxLength": body.IDEMPOTENCY_KEY_CHARACTERS},
}

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
        which=_filter(arguments),
        person=_person(),
        after=pagination.wait_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(
        found, limit=limit, key=lambda one: [one.opened_at.isoformat(), one.run_id, one.step]
    )


@routes.on("GET", "/waits/counts", needs="run:read")
@routes.query(CountArguments)
@routes.gives(CountsSchema)
def count_waits(arguments: dict[str, Any]) -> Mapping[str, int]:
    """Count what waits: mine, my team's, what is overdue, and all."""
    tenant = principal.current().tenant
    return waits.counts(site.current().platform, tenant, person=_person(), which=_filter(arguments))


@routes.on("POST", "/waits/answers", needs="approval:answer")
@routes.described(parameters=[_KEY])
@routes.takes(AnswersSchema)
@routes.gives(CamesSchema)
def answer_many(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer many questions at once, by their names or by a filter, each for itself."""
    which = asked["filter"]
    try:
        came = answers.answer_many(
            site.current().platform,
            principal.current().tenant,
            _person(),
            Saying(
                choice=asked["choice"],
                form=asked["form"],
                reason=asked["reason"],
                behalf=asked["behalf"],
            ),
            names=asked["ids"],
            which=None if which is None else _filter(which),
            digests=asked["digests"],
            key=body.idempotency_key(request),
            limit=asked["limit"],
        )
    except KeyUsed as used:
        remedy = "use a new key for another answer"
        problem = Problem(path="Idempotency-Key", message=used.message, remedy=remedy)
        raise Invalid([problem]) from used
    return {"items": came}


@routes.on("POST", "/runs/<run_id>/steps/<key>/answer", needs="approval:answer")
@routes.takes(AnswerSchema)
@routes.gives(AnsweredSchema)
def answer(asked: dict[str, Any], run_id: str, key: str) -> Answered:
    """Answer a step that asks people. Whoever comes too late is told what it was."""
    who = principal.current()
    return answers.answer(
        site.current().platform,
        named(run_id),
        key,
        by=who.user,
        roles=sorted(who.roles),
        choice=asked.get("choice"),
        form=asked["form"],
        reason=asked["reason"],
        behalf=asked["behalf"],
        digest=asked["digest"],
    )


@routes.on("GET", "/runs/<run_id>/steps/<key>/answers", needs="run:read")
@routes.gives(AskedSchema)
def list_answers(run_id: str, key: str) -> dict[str, Any]:
    """Show all that a step has asked people, who said what, when, for whom and why."""
    return {"items": approvals.of_step(site.current().platform, named(run_id), key)}


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


def _person() -> Person:
    who = principal.current()
    return Person(user=who.user, roles=sorted(who.roles))


def _filter(given: Mapping[str, Any]) -> Filter:
    return Filter(
        view=given.get("view"),
        kinds=tuple(given["kind"]),
        run=body.known_id(given.get("run_id"), "run_id"),
        workflow=given.get("workflow"),
        tool=given.get("tool"),
    )
