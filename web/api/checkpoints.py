"""Checkpoints: places in a run's history, and the state it had there."""

from __future__ import annotations

from typing import Any

from engine.core import codec
from engine.errors import NotFound
from engine.runs import views
from web import pagination, site
from web.api.runs import named
from web.routing import Routes
from web.schemas.history import LAST, CheckpointSchema, StateSchema
from web.schemas.pages import PageArguments, page_of

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
    """List the places where a step was settled, in order."""
    limit = arguments["limit"]
    found = views.checkpoints(
        site.current().platform,
        named(run_id),
        after=pagination.seq_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda checkpoint: checkpoint.seq)


@routes.on("GET", "/<int:seq>", needs="run:read")
@routes.gives(StateSchema)
def show(run_id: str, seq: int) -> dict[str, Any]:
    """Get the state of a run just after any line of its history."""
    if seq > LAST:
        raise NotFound(f"run {run_id} has no line {seq}")
    platform, run = site.current().platform, named(run_id)
    state = views.state_at(platform, run, seq)
    variables = views.whole(platform, run, state.variables)
    return {"seq": seq, "state": {**codec.plain(state), "variables": variables}}
