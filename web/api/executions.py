"""A run in the words of seed 001: executions of tasks and plans, and their timeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.runs import executions
from engine.runs.executions import Place, Timeline
from web import pagination, site
from web.api.runs import named
from web.routing import Routes
from web.schemas.executions import ExecutionSchema, TimelineArguments, TimelineSchema
from web.schemas.pages import PageArguments, page_of

routes = Routes(
    "executions",
    __name__,
    url_prefix="/api/v1/runs/<run_id>",
    description="Attempts of steps as executions that point to their parents.",
)

#: Our words for a run's status, in the seed's.
_STATUSES: Mapping[str, str] = {
    RunStatus.COMPLETED: "SUCCEEDED",
    RunStatus.CANCELLED: "CANCELED",
}


@routes.on("GET", "/executions", needs="run:read")
@routes.query(PageArguments)
@routes.gives(page_of(ExecutionSchema))
def list_executions(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """List executions in the order they were asked for. A page of large results is short."""
    found = executions.page(
        site.current().platform,
        named(run_id),
        since=_place(arguments.get("cursor")),
        limit=arguments["limit"],
    )
    return {"items": found.items, "next": _cursor(found.following)}


@routes.on("GET", "/executions/<exec_id>", needs="run:read")
@routes.gives(ExecutionSchema)
def show(run_id: str, exec_id: str) -> Mapping[str, Json]:
    """Get an execution."""
    return executions.one(site.current().platform, named(run_id), exec_id)


@routes.on("GET", "/timeline", needs="run:read")
@routes.query(TimelineArguments)
@routes.gives(TimelineSchema)
def timeline(arguments: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Tell what was executed, in order."""
    found = executions.timeline(
        site.current().platform,
        named(run_id),
        since=_place(arguments.get("cursor")),
        limit=arguments["limit"],
    )
    return _timeline(found)


def _timeline(found: Timeline) -> dict[str, Any]:
    return {
        "tenantId": found.tenant,
        "graphId": found.version,
        "lifetimeId": found.run,
        "status": _STATUSES.get(found.status, found.status.upper()),
        "entryPlanNames": [found.entry],
        "errorMessage": found.message if found.status == RunStatus.FAILED else None,
        "createdAt": found.created_at,
        "startedAt": found.started_at,
        "completedAt": found.finished_at,
        "planExecutions": found.plans,
        "taskExecutions": found.tasks,
        "events": [_event(record) for record in found.page.items],
        "next": _cursor(found.page.following),
    }


def _event(record: Mapping[str, Any]) -> dict[str, Any]:
    header, result = record["header"], record["result"]
    plan = "implicit" in record
    ids = record["parent_task_exec_ids"] if plan else [record["parent_plan_exec_id"]]
    names = record["parent_task_names"] if plan else [record["parent_plan_name"]]
    return {
        "eventType": "PLAN_EXECUTION" if plan else "TASK_EXECUTION",
        "nodeName": header["name"],
        "executionId": header["exec_id"],
        "status": header["status"],
        "createdAt": header["created_at"],
        "persistedAt": header["ended_at"],
        "parentNodeName": next(iter(names), None) or None,
        "parentExecutionId": next(iter(ids), None) or None,
        "nextTaskNames": result.get("next_task_names", []),
        "errorMessage": result["error_message"] or None,
        "implicit": record.get("implicit", False),
    }


def _place(cursor: str | None) -> Place:
    return Place() if cursor is None else Place._make(pagination.pair_of(cursor))


def _cursor(place: Place | None) -> str | None:
    return None if place is None else pagination.cursor([place.seq, place.within])
