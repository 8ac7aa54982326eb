"""Runs: submit, look, wait, and act on one or many."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Response, request

from engine.core.problem import Problem
from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.errors import Invalid, NotFound
from engine.runs import (
    bulk,
    catalogue,
    compensations,
    control,
    diagrams,
    launch,
    migrations,
    rollbacks,
    views,
)
from engine.runs.bulk import Action, Filter, Migration, Signal
from engine.runs.launch import KeyUsed, Submitted
from engine.runs.migrations import Plan
from engine.runs.origins import Edits
from engine.runs.views import Detail, Status
from engine.store.ids import RunId
from web import body, connection, drawing, pagination, permissions, principal, site, streams
from web.routing import Routes
from web.schemas.diagrams import DiagramArguments
from web.schemas.history import (
    RollbackAnswerSchema,
    RollbackSchema,
    SettleUndoSchema,
    UndoablesSchema,
    UndoSchema,
)
from web.schemas.pages import PageArguments, page_of
from web.schemas.runs import (
    BulkAnswersSchema,
    BulkSchema,
    CancelSchema,
    MigrateSchema,
    NewRunSchema,
    PlanSchema,
    ReasonSchema,
    RunsArguments,
    RunSchema,
    StatusSchema,
    WaitArguments,
    WholeRunSchema,
)

routes = Routes(
    "runs",
    __name__,
    url_prefix="/api/v1/runs",
    description="Executions of workflows, from their submission to their end.",
)

KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "Submissions under one key are one run, however often they are sent",
    "schema": {"type": "string", "maxLength": body.IDEMPOTENCY_KEY_CHARACTERS},
}

_SIGNAL_KEY = {
    **KEY,
    "description": "For the action `signal`: each run is sent its event once under one key",
}


@routes.on("POST", "", needs="run:start")
@routes.described(parameters=[KEY])
@routes.takes(NewRunSchema)
@routes.gives(StatusSchema, HTTPStatus.CREATED)
@routes.also_gives(
    HTTPStatus.OK,
    schema=StatusSchema,
    description="The run was submitted before, under this key",
    success=True,
)
def submit(asked: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Submit a run."""
    here, who = site.current(), principal.current()
    named: dict[str, Json] = {
        name: asked[name] for name in ("workflow", "version", "version_id") if name in asked
    }
    version_id = asked.get("version_id")
    if version_id is None:
        version_id = catalogue.find(
            here.platform, who.tenant, asked["workflow"], asked.get("version")
        ).id
    return entered(submitted(version_id, asked["inputs"], named))


def entered(submitted: Submitted) -> tuple[dict[str, Any], int, dict[str, str]]:
    """A run that was accepted: where it stands, and where it is."""
    here = site.current()
    here.nudger.nudge(submitted.run)
    headers = {"Location": f"/api/v1/runs/{submitted.run.run}"}
    if not submitted.replayed:
        return standing(submitted.run, views.NEW), HTTPStatus.CREATED, headers
    status = views.status(here.platform, submitted.run)
    return standing(submitted.run, status), HTTPStatus.OK, {**headers, "Idempotent-Replay": "true"}


@routes.on("GET", "", needs="run:read")
@routes.query(RunsArguments)
@routes.gives(page_of(RunSchema))
def list_runs(arguments: dict[str, Any]) -> dict[str, Any]:
    """List runs, newest first."""
    limit = arguments["limit"]
    found = views.runs(
        site.current().platform,
        principal.current().tenant,
        statuses=[RunStatus(status) for status in arguments["status"]],
        workflow=arguments.get("workflow"),
        version_id=body.known_id(arguments.get("version_id"), "version_id"),
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda run: run.id)


@routes.on("GET", "/<run_id>", needs="run:read")
@routes.gives(WholeRunSchema)
def show(run_id: str) -> Detail:
    """Get a run with its variables and live steps."""
    return views.run(site.current().platform, named(run_id))


@routes.on("GET", "/<run_id>/children", needs="run:read")
@routes.query(PageArguments)
@routes.gives(page_of(RunSchema))
def children(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """List the runs that steps of a run have started, newest first."""
    limit, run = arguments["limit"], named(run_id)
    found = views.runs(
        site.current().platform,
        run.tenant,
        parent=run,
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda child: child.id)


@routes.on("POST", "/<run_id>/cancel", needs="run:control")
@routes.takes(CancelSchema, required=False)
@routes.gives(StatusSchema)
def cancel(asked: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Cancel a run. It holds at once; what is under way learns of it shortly."""
    here, run = site.current(), named(run_id)
    control.cancel(
        here.platform,
        run,
        by=principal.current().user,
        reason=asked["reason"],
        compensate=asked["compensate"],
    )
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/<run_id>/terminate", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(StatusSchema)
def terminate(asked: dict[str, Any], run_id: str) -> dict[str, Any]:
    """End a run as it stands. Like a cancel, and nothing of it is ever undone."""
    here, run = site.current(), named(run_id)
    control.terminate(here.platform, run, by=principal.current().user, reason=asked["reason"])
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/<run_id>/pause", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(StatusSchema)
def pause(asked: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Let nothing new of a run start; what is under way may finish."""
    here, run = site.current(), named(run_id)
    control.pause(here.platform, run, by=principal.current().user, reason=asked["reason"])
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/<run_id>/resume", needs="run:control")
@routes.takes(ReasonSchema, required=False)
@routes.gives(StatusSchema)
def resume(asked: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Let a paused run go on exactly where it was."""
    here, run = site.current(), named(run_id)
    control.resume(here.platform, run, by=principal.current().user, reason=asked["reason"])
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/<run_id>/rollback", needs="run:control")
@routes.takes(RollbackSchema)
@routes.gives(RollbackAnswerSchema)
def roll_back(asked: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Let a run go on from an earlier place of its own. Nothing is taken out of its history.

    Whatever is live ends, what was live there begins anew, variables are what they were, but for those
    that are given. What was spent stays spent. Calls that were made since, may happen only once and have
    happened must be chosen for.
    """
    here, run = site.current(), named(run_id)
    went = rollbacks.roll_back(
        here.platform,
        run,
        asked["seq"] if "seq" in asked else asked["name"],
        Edits(variables=asked["variables"], removed=asked["removed"]),
        by=principal.current().user,
        reason=asked["reason"],
        choices=asked["choices"],
    )
    return {**standing(run, views.status(here.platform, run)), "rollback": went}


@routes.on("GET", "/<run_id>/undo", needs="run:read")
@routes.gives(UndoablesSchema)
def show_undo(run_id: str) -> dict[str, Any]:
    """Say how the calls of a run would be undone, and why not. Nothing is carried out."""
    return {"items": compensations.plan(site.current().platform, named(run_id))}


@routes.on("POST", "/<run_id>/undo", needs="run:start")
@routes.described(parameters=[KEY])
@routes.takes(UndoSchema)
@routes.gives(StatusSchema, HTTPStatus.CREATED)
@routes.also_gives(
    HTTPStatus.OK,
    schema=StatusSchema,
    description="The run was asked for before, under this key",
    success=True,
)
def undo(asked: dict[str, Any], run_id: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Start a run that undoes what calls of a run have done which has ended, or gone back over them, last ones first.

    Each is undone by what its tool names for that (`undo` among its terms), at most once. A 409 lists all that
    cannot be: then none is. Who asks must be allowed to read runs as well.
    """
    here, who, run = site.current(), principal.current(), named(run_id)
    permissions.check(who, "run:read")
    submitted = compensations.undo(
        here.platform,
        run,
        asked["calls"],
        by=who.user,
        scopes=who.scopes,
        reason=asked["reason"],
        idempotency_key=body.idempotency_key(request),
    )
    return entered(submitted)


@routes.on("POST", "/<run_id>/undo/settle", needs="run:control")
@routes.takes(SettleUndoSchema)
@routes.gives(StatusSchema)
def settle_undo(asked: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Say what has become of undoing a call, where the run that undid it has ended and nobody knew."""
    here, who, run = site.current(), principal.current(), named(run_id)
    compensations.settle(
        here.platform, run, asked["call"], asked["fate"], by=who.user, reason=asked["reason"]
    )
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/<run_id>/retry", needs="run:control")
@routes.gives(StatusSchema)
def retry(run_id: str) -> dict[str, Any]:
    """Take the turn of a run that is stuck now, rather than when its wait is over."""
    here, run = site.current(), named(run_id)
    views.status(here.platform, run)
    control.retry_stuck(here.platform, run, by=principal.current().user)
    return standing(run, views.status(here.platform, run))


@routes.on("POST", "/<run_id>/migrate", needs="run:control")
@routes.takes(MigrateSchema)
@routes.gives(PlanSchema)
def migrate(asked: dict[str, Any], run_id: str) -> Plan:
    """Let a live run go on under another version of its workflow, or say what would become of it.

    A 409 lists all that keeps it where it is: then nothing was changed.
    """
    here, run = site.current(), named(run_id)
    if asked["dry_run"]:
        return migrations.plan(here.platform, run, asked["to"], asked["nodes"])
    return migrations.migrate(
        here.platform,
        run,
        asked["to"],
        asked["nodes"],
        by=principal.current().user,
        reason=asked["reason"],
    )


@routes.on("POST", "/bulk", needs="run:control")
@routes.described(parameters=[_SIGNAL_KEY])
@routes.takes(BulkSchema)
@routes.gives(BulkAnswersSchema)
def act_on_many(asked: dict[str, Any]) -> dict[str, Any]:
    """Cancel, terminate, pause, resume, retry, signal or migrate runs by filter, each for itself."""
    here, who = site.current(), principal.current()
    if asked["event"] is not None:
        permissions.check(who, "event:send")
    which, event, key = asked["filter"], asked["event"], body.idempotency_key(request)
    moved = asked["migration"]
    acted = bulk.act(
        here.platform,
        who.tenant,
        Action(asked["action"]),
        Filter(
            ids=tuple(str(run) for run in which["ids"]),
            workflow=which["workflow"],
            version_id=None if which["version_id"] is None else str(which["version_id"]),
            statuses=tuple(RunStatus(status) for status in which["status"]),
            before=which["before"],
            after=which["after"],
        ),
        by=who.user,
        reason=asked["reason"],
        signal=None if event is None else Signal(**event, key=key),
        migration=None if moved is None else Migration(**moved),
        before_id=pagination.id_of(asked["cursor"]),
        limit=asked["limit"],
    )
    following = None if acted.more is None else pagination.cursor(acted.more)
    return {"items": acted.answers, "next": following}


@routes.on("GET", "/<run_id>/wait", needs="run:read")
@routes.query(WaitArguments)
@routes.gives(StatusSchema)
def wait(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Wait until a run has ended, or until the time is over: then `ended` is false."""
    here, run = site.current(), named(run_id)
    given, usual = arguments["seconds"], here.platform.settings.wait_seconds
    with here.places.taken():
        status = streams.until_ended(
            here,
            run,
            seconds=usual if given is None else given,
            gone=partial(connection.is_gone, request.environ),
        )
    return standing(run, status)


@routes.on("GET", "/<run_id>/diagram", needs="run:read")
@routes.query(DiagramArguments)
@routes.described(responses=drawing.DESCRIBED)
@routes.gives(None)
def diagram(arguments: dict[str, Any], run_id: str) -> Response:
    """Draw the graph of a run, with the way that it took: what it passed, and how often."""
    notation = arguments["format"]
    found = diagrams.of_run(site.current().platform, named(run_id), notation)
    return drawing.answer(found, notation)


def named(run_id: str) -> RunId:
    """The run of an address, of whoever asks. Raises `NotFound` for what is no id."""
    found = body.uuid(run_id)
    if found is None:
        raise NotFound(f"Run not found: {run_id}")
    return RunId(principal.current().tenant, found)


def standing(run: RunId, status: Status) -> dict[str, Any]:
    """Where a run stands, as it is shown."""
    return {
        "run_id": run.run,
        "status": status.status,
        "seq": status.seq,
        "terminal": status.terminal,
    }


def submitted(version_id: str, inputs: dict[str, Any], named: dict[str, Json]) -> Submitted:
    """A run of a version; `named` is what was asked for, under the key of the request, if it has one."""
    here, who = site.current(), principal.current()
    found = body.uuid(version_id)
    if found is None:
        raise NotFound(f"Workflow version not found: {version_id}")
    key = body.idempotency_key(request)
    try:
        return launch.submit(
            here.platform,
            who.tenant,
            found,
            inputs,
            by=who.user,
            scopes=who.scopes,
            idempotency_key=key,
            asked=named,
        )
    except KeyUsed as conflict:
        # The draft of the header asks for 422: sending it again would not help.
        raise Invalid(
            [Problem(path="Idempotency-Key", message=conflict.message, remedy="use another key")]
        ) from conflict
