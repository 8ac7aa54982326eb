"""What a run did and does: its steps, their attempts, calls and logs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import request

from engine.errors import NotFound
from engine.runs import control, restarts, views
from engine.runs.origins import Edits
from engine.runs.restarts import Given
from engine.runs.views import Result, Step
from web import body, pagination, permissions, principal, site
from web.api.blobs import described
from web.api.runs import KEY, entered, named, standing
from web.routing import Routes
from web.schemas.history import EffectsSchema, RestartSchema
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import ReasonSchema, SkipSchema, StatusSchema
from web.schemas.steps import (
    AttemptsSchema,
    CallsSchema,
    LogLineSchema,
    LogsArguments,
    OfStepArguments,
    OutputSchema,
    ResultSchema,
    StepSchema,
)

routes = Routes(
    "steps",
    __name__,
    url_prefix="/api/v1/runs/<run_id>",
    description="Visits of a run to nodes. In addresses, write the # of a key as %23.",
)


@routes.on("GET", "/steps", needs="run:read")
@routes.query(PageArguments)
@routes.gives(page_of(StepSchema))
def list_steps(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """List steps in the order they were begun."""
    limit = arguments["limit"]
    found = views.steps(
        site.current().platform,
        named(run_id),
        after=pagination.seq_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda step: step.seq)


@routes.on("GET", "/steps/<key>", needs="run:read")
@routes.gives(StepSchema)
def show(run_id: str, key: str) -> Step:
    """Get a step."""
    return views.step(site.current().platform, named(run_id), key)


@routes.on("GET", "/steps/<key>/result", needs="run:read")
@routes.gives(ResultSchema)
def result(run_id: str, key: str) -> Result:
    """Get what the accepted attempt of a step left."""
    found = views.result(site.current().platform, named(run_id), key)
    if found is None:
        raise NotFound(f"step {key} of run {run_id} has no result")
    return found


@routes.on("GET", "/steps/<key>/output", needs="run:read")
@routes.gives(OutputSchema)
def output(run_id: str, key: str) -> dict[str, Any]:
    """Get where the result of a step lies: inline, or at the address of a blob."""
    found = views.output(site.current().platform, named(run_id), key)
    if found is None:
        raise NotFound(f"step {key} of run {run_id} has no result")
    return described(found)


@routes.on("POST", "/steps/<key>/skip", needs="run:control")
@routes.takes(SkipSchema, required=False)
@routes.gives(StatusSchema)
def skip(asked: dict[str, Any], run_id: str, key: str) -> dict[str, Any]:
    """Let a live step count as done; whoever carries it out loses it."""
    here, run = site.current(), named(run_id)
    control.skip(
        here.platform,
        run,
        key,
        by=principal.current().user,
        reason=asked["reason"],
        choice=asked["choice"],
    )
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/steps/<key>/retry", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(StatusSchema)
def retry(asked: dict[str, Any], run_id: str, key: str) -> dict[str, Any]:
    """Begin a live step anew, now; an attempt that is under way is taken away."""
    here, run = site.current(), named(run_id)
    control.retry(here.platform, run, key, by=principal.current().user, reason=asked["reason"])
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/steps/<key>/restart", needs="run:start")
@routes.described(parameters=[KEY])
@routes.takes(RestartSchema, required=False)
@routes.gives(StatusSchema, HTTPStatus.CREATED)
@routes.also_gives(
    HTTPStatus.OK,
    schema=StatusSchema,
    description="The run was asked for before, under this key",
    success=True,
)
def restart(
    asked: dict[str, Any], run_id: str, key: str
) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Start a run that goes on from just before a step; this run stays as it is.

    The step is carried out anew, unless its result is given. Where a step of another run waits for this
    one, it is the root of both that goes on: the run that is started stands for that one. Who asks must
    be allowed to read runs as well.
    """
    who, given = principal.current(), asked["given"]
    permissions.check(who, "run:read")
    submitted = restarts.restart(
        site.current().platform,
        named(run_id),
        key,
        Edits(variables=asked["variables"], removed=asked["removed"]),
        by=who.user,
        scopes=who.scopes,
        idempotency_key=body.idempotency_key(request),
        given=None if given is None else Given(**given),
        choices=asked["choices"],
    )
    return entered(submitted)


@routes.on("GET", "/steps/<key>/effects", needs="run:read")
@routes.gives(EffectsSchema)
def show_effects(run_id: str, key: str) -> dict[str, Any]:
    """Say what a restart from this step would make of the calls of the run. Nothing is carried out.

    Those of the runs around it, which go on with it, are told as well.
    """
    platform, run = site.current().platform, named(run_id)
    lineage = restarts.stages(platform, run, key)
    return {"seq": lineage[-1].seq, "items": restarts.fates(platform, lineage)}


@routes.on("GET", "/attempts", needs="run:read")
@routes.query(OfStepArguments)
@routes.gives(AttemptsSchema)
def attempts(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """List attempts, of a step or of all, in order of their start."""
    return {"items": views.attempts(site.current().platform, named(run_id), arguments.get("step"))}


@routes.on("GET", "/calls", needs="run:read")
@routes.query(OfStepArguments)
@routes.gives(CallsSchema)
def calls(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """List tool calls, of a step or of all, in order of their start."""
    return {"items": views.calls(site.current().platform, named(run_id), arguments.get("step"))}


@routes.on("GET", "/logs", needs="run:read")
@routes.query(LogsArguments)
@routes.gives(page_of(LogLineSchema))
def logs(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """List what steps printed, oldest first."""
    limit = arguments["limit"]
    after = _read(arguments.get("cursor"))
    found = views.logs(
        site.current().platform,
        named(run_id),
        key=arguments.get("step"),
        after=after,
        limit=limit + 1,
    )
    shown = found[:limit]
    after |= {(line.step, line.attempt): line.line for line in shown}
    return {"items": shown, "next": _write(after) if len(found) > limit else None}


def _write(after: dict[tuple[str, int], int]) -> str:
    return pagination.cursor([[step, attempt, line] for (step, attempt), line in after.items()])


def _read(cursor: str | None) -> dict[tuple[str, int], int]:
    """The last line read of each attempt."""
    return {} if cursor is None else dict(pagination.log_lines(cursor))
