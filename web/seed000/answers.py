"""The bodies that clients of seed 000 are given, put together from what `shape` tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from engine.core import simple_graph
from engine.core.transitions import TERMINAL, RunStatus
from engine.platform import Platform
from engine.runs import graphs, views
from engine.runs.views import Detail
from engine.store.ids import RunId
from engine.store.workflows import WorkflowVersion
from web import lines
from web.seed000 import shape
from web.seed000.shape import Told

#: Lines of history that one answer tells; streams and `/api/v1` have them all.
MOST_LINES = 20_000
_BATCH = 1000
_CLOSING = 20


def result(platform: Platform, run: RunId) -> dict[str, Any]:
    """The answer to a run that has ended."""
    detail, told = _read(platform, run)
    return {
        "run_id": detail.id,
        "graph_id": detail.version_id,
        "status": shape.status(detail.status),
        "final_state": _state(detail, told),
        "execution_log": _log(detail, told),
    }


def current(platform: Platform, run: RunId) -> dict[str, Any]:
    """The answer to a question after a run, ended or not."""
    detail, told = _read(platform, run)
    return {
        "run_id": detail.id,
        "status": shape.status(detail.status),
        "current_state": _state(detail, told),
        "execution_log": _log(detail, told),
    }


def graph(version: WorkflowVersion) -> dict[str, Any]:
    """What is told of a graph."""
    return {"graph_id": version.id, **simple_graph.info(graphs.parse(version.document))}


def link(path: str, following: str | None) -> dict[str, str]:
    """The header that leads on from a list that was cut."""
    return {"Link": f'<{path}?cursor={following}>; rel="next"'} if following else {}


def _read(platform: Platform, run: RunId) -> tuple[Detail, Told]:
    detail = views.run(platform, run)
    if detail.seq == 0:
        # No turn has been taken yet: its variables are still on their way.
        detail = replace(detail, variables=views.inputs(platform, run))
    told = shape.tell(_entries(platform, run))
    if detail.seq > MOST_LINES and detail.status in TERMINAL:
        told = replace(told, steps=(*told.steps, *_closing(platform, run, detail.seq)))
    return detail, told


def _closing(platform: Platform, run: RunId, last: int) -> Iterator[dict[str, Any]]:
    """The steps that close the log of a run whose log is too long to be told whole."""
    after = max(MOST_LINES, last - _CLOSING)
    for line in views.history(platform, run, after=after, limit=_CLOSING, payloads=True):
        if (step := shape.step(lines.entry(line))) is not None:
            yield step


def _entries(platform: Platform, run: RunId) -> Iterator[shape.Entry]:
    after = 0
    while after < MOST_LINES:
        found = views.history(platform, run, after=after, limit=_BATCH, payloads=True)
        yield from map(lines.entry, found)
        if len(found) < _BATCH:
            return
        after = found[-1].seq


def _state(detail: Detail, told: Told) -> dict[str, Any]:
    failed = detail.status is RunStatus.FAILED
    state = {
        "run_id": detail.id,
        "graph_id": detail.version_id,
        "final_node": told.final_node,
        "iterations": told.transitions,
        "data": detail.variables,
        "started_at": _time(detail.started_at or detail.created_at),
        "completed_at": _time(detail.finished_at),
        "error": (detail.message or detail.reason) if failed else None,
        "execution_log": told.snapshots,
    }
    if told.omitted:
        state["execution_log_omitted"] = (
            f"{told.omitted} of {told.omitted + len(told.snapshots)} snapshots are left out: all"
            f" together are larger than {shape.SNAPSHOT_BYTES} bytes;"
            f" /api/v1/runs/{detail.id}/checkpoints has every state"
        )
    return state


def _log(detail: Detail, told: Told) -> dict[str, Any]:
    log = {
        "run_id": detail.id,
        "graph_id": detail.version_id,
        "started_at": _time(detail.started_at or detail.created_at),
        "completed_at": _time(detail.finished_at),
        "steps": told.steps,
    }
    if detail.seq > MOST_LINES:
        log["steps_omitted"] = (
            f"the run has {detail.seq} lines of history and this log tells {MOST_LINES};"
            f" /api/v1/runs/{detail.id}/history has them all"
        )
    return log


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
