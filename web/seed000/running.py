"""`/graph/run`, `/graph/run_async`, and what is asked of a run afterwards."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any

from flask import request

from engine.core.problem import Problem
from engine.core.transitions import TERMINAL, RunStatus
from engine.errors import Conflict, Invalid, NotFound, Unavailable
from engine.runs import control, launch, views
from engine.runs.launch import KeyUsed
from engine.store.ids import RunId
from web import body, connection, pagination, principal, site, streams
from web.routing import Routes
from web.schemas.seed000 import (
    CancelledSchema,
    ListArguments,
    RunGraphSchema,
    RunsSchema,
    SeedResultSchema,
    SeedStatusSchema,
    StartedSchema,
    StateAnswerSchema,
)
from web.seed000 import answers, graphs, shape

routes = Routes("graph-runs", __name__, url_prefix="/graph", description="Runs of graphs.")


@routes.on("POST", "/run", needs="run:start")
@routes.takes(RunGraphSchema)
@routes.gives(SeedResultSchema)
@routes.also_gives(
    HTTPStatus.ACCEPTED,
    schema=StartedSchema,
    description="The run takes longer than requests may wait; it goes on",
    success=True,
)
def run(asked: dict[str, Any]) -> Any:
    """Run a graph and wait for its end."""
    here = site.current()
    with here.places.taken():
        submitted = _submit(asked)
        status = streams.until_ended(
            here,
            submitted,
            seconds=here.platform.settings.wait_seconds,
            gone=partial(connection.is_gone, request.environ),
        )
        if not status.terminal:
            place = {"Location": f"/graph/state/{submitted.run}"}
            return _RUNNING.dump(_started(submitted)), HTTPStatus.ACCEPTED, place
        return answers.result(here.platform, submitted)


@routes.on("POST", "/run_async", needs="run:start")
@routes.takes(RunGraphSchema)
@routes.gives(StartedSchema)
def run_async(asked: dict[str, Any]) -> dict[str, str]:
    """Run a graph in the background."""
    return _started(_submit(asked))


@routes.on("GET", "/status/<run_id>", needs="run:read")
@routes.gives(SeedStatusSchema)
def status(run_id: str) -> dict[str, str]:
    """Get the status of a run."""
    found = views.status(site.current().platform, named(run_id))
    return {"run_id": run_id, "status": shape.status(found.status)}


@routes.on("GET", "/state/<run_id>", needs="run:read")
@routes.gives(StateAnswerSchema)
def state(run_id: str) -> dict[str, Any]:
    """Get the state of a run, ended or not, and its log."""
    return answers.current(site.current().platform, named(run_id))


@routes.on("POST", "/cancel/<run_id>", needs="run:control")
@routes.gives(CancelledSchema)
def cancel(run_id: str) -> dict[str, str]:
    """Cancel a run."""
    refusal = f"Run not found or not cancellable: {run_id}"
    try:
        found = control.cancel(site.current().platform, named(run_id), by=principal.current().user)
    except (NotFound, Conflict) as error:
        raise NotFound(refusal) from error
    if found == RunStatus.CANCELLED:
        return {"run_id": run_id, "status": shape.status(RunStatus.CANCELLED)}
    if found in TERMINAL:  # it has ended by itself meanwhile
        raise NotFound(refusal)
    raise Unavailable(f"run {run_id} is asked to stop and could not be stopped yet; ask again")


@routes.on("GET", "/runs", needs="run:read")
@routes.query(ListArguments)
@routes.gives(RunsSchema)
def runs(arguments: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """List all runs, newest first; a `Link` header leads on where there are very many."""
    limit = arguments["limit"]
    found = views.runs(
        site.current().platform,
        principal.current().tenant,
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    page = pagination.page(found, limit=limit, key=lambda run: run.id)
    shown = [
        {"run_id": run.id, "graph_id": run.version_id, "status": shape.status(run.status)}
        for run in page["items"]
    ]
    return {"runs": shown}, 200, answers.link(request.path, page["next"])


def named(run_id: str) -> RunId:
    """The run of an address. Raises `NotFound` for what is no id."""
    found = body.uuid(run_id)
    if found is None:
        raise NotFound(f"Run not found: {run_id}")
    return RunId(principal.current().tenant, found)


def _submit(asked: dict[str, Any]) -> RunId:
    """Submit a run and have a coordinator nudged, behind the request's back."""
    here, who = site.current(), principal.current()
    version = graphs.named(asked["graph_id"])
    key = body.idempotency_key(request)
    try:
        submitted = launch.submit(
            here.platform,
            who.tenant,
            version.id,
            asked["initial_state"],
            by=who.user,
            scopes=who.scopes,
            idempotency_key=key,
        )
    except KeyUsed as conflict:
        raise Invalid(
            [Problem(path="Idempotency-Key", message=conflict.message, remedy="use another key")]
        ) from conflict
    here.nudger.nudge(submitted.run)
    return submitted.run


def _started(run: RunId) -> dict[str, str]:
    return {"run_id": run.run, "status": "running"}


_RUNNING = StartedSchema()
