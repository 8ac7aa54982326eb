"""Checkpoints: places in a run's history, and the state it had there."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import request

from engine.core import codec
from engine.errors import NotFound
from engine.runs import checkpoints, effects, forks, views
from engine.runs.checkpoints import Place
from engine.runs.origins import Edits
from web import body, pagination, permissions, principal, site
from web.api.runs import KEY, entered, named
from web.routing import Routes
from web.schemas.history import (
    LAST,
    CheckpointSchema,
    EffectsArguments,
    EffectsSchema,
    ForkSchema,
    NameSchema,
    PlaceArguments,
    StateSchema,
)
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import StatusSchema

routes = Routes(
    "checkpoints",
    __name__,
    url_prefix="/api/v1/runs/<run_id>/checkpoints",
    description="Places that a run can be looked at, and taken up from.",
)


@routes.on("GET", "", needs="run:read")
@routes.query(PageArguments)
@routes.gives(page_of(CheckpointSchema))
def list_checkpoints(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """List the places where a step was settled, and those that have a name, in order."""
    limit = arguments["limit"]
    found = views.checkpoints(
        site.current().platform,
        named(run_id),
        after=pagination.seq_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda checkpoint: checkpoint.seq)


@routes.on("GET", "/<int:seq>", needs="run:read")
@routes.query(PlaceArguments)
@routes.gives(StateSchema)
def show(arguments: dict[str, Any], run_id: str, seq: int) -> dict[str, Any]:
    """Get a run as it was just after any line of its history, and what has changed since another."""
    run = named(run_id)
    _check(run_id, seq)
    here = site.current().platform
    return _shown(checkpoints.at(here, run, seq, against=arguments["against"]))


@routes.on("PUT", "/<int:seq>", needs="run:control")
@routes.takes(NameSchema)
@routes.gives(StateSchema)
def name(asked: dict[str, Any], run_id: str, seq: int) -> dict[str, Any]:
    """Name a line of a run's history, or name it anew. A name has one place in its run."""
    run = named(run_id)
    _check(run_id, seq)
    here, who = site.current().platform, principal.current()
    return _shown(checkpoints.name(here, run, seq, asked["name"], by=who.user))


@routes.on("POST", "/<int:seq>/fork", needs="run:start")
@routes.described(parameters=[KEY])
@routes.takes(ForkSchema, required=False)
@routes.gives(StatusSchema, HTTPStatus.CREATED)
@routes.also_gives(
    HTTPStatus.OK,
    schema=StatusSchema,
    description="The run was asked for before, under this key",
    success=True,
)
def fork(
    asked: dict[str, Any], run_id: str, seq: int
) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Start a run that goes on from here, perhaps with other variables; this run stays as it is.

    What was settled is not done again, what was live begins anew. It is a run by itself, even where a
    step of another one waits for this one. Who asks must be allowed to read runs as well.
    """
    here, who, run = site.current(), principal.current(), named(run_id)
    permissions.check(who, "run:read")
    _check(run_id, seq)
    submitted = forks.fork(
        here.platform,
        run,
        seq,
        Edits(variables=asked["variables"], removed=asked["removed"]),
        by=who.user,
        scopes=who.scopes,
        idempotency_key=body.idempotency_key(request),
        choices=asked["choices"],
    )
    return entered(submitted)


@routes.on("GET", "/<int:seq>/effects", needs="run:read")
@routes.query(EffectsArguments)
@routes.gives(EffectsSchema)
def show_effects(arguments: dict[str, Any], run_id: str, seq: int) -> dict[str, Any]:
    """Say what going on from here would make of the calls of the run. Nothing is carried out."""
    run = named(run_id)
    _check(run_id, seq)
    return {"seq": seq, "items": effects.at(site.current().platform, run, seq, **arguments)}


def _check(run_id: str, seq: int) -> None:
    if seq > LAST:
        raise NotFound(f"run {run_id} has no line {seq}")


def _shown(place: Place) -> dict[str, Any]:
    state = place.state
    return {
        "seq": place.seq,
        "name": place.name,
        "named_by": place.named_by,
        "frontier": {"steps": [*state.steps.values()], "tokens": state.tokens},
        "spent": place.spent,
        "state": codec.plain(state),
        "against": place.against,
        "difference": place.difference,
    }
