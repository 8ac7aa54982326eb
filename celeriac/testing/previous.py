"""What led to a step in memory, as the platform would show it to the step's code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from engine.core import executions
from engine.core import messages as msg
from engine.core.executions import Setting, Shown, Trial
from engine.core.graph import Graph
from engine.core.values import Inline, canonical
from workers.sandbox.inside import records

#: Nothing is stored in memory: there is one tenant, and a version that was never published.
_TENANT = "local"
VERSION = "memory"


def of(graph: Graph, run: str, history: Iterable[msg.Entry], step: msg.StepKey) -> list[Any]:
    """The executions that led to a step that is under way."""
    setting = Setting(run=run, tenant=_TENANT, version=VERSION, graph=graph)
    trials: dict[msg.StepKey, Trial] = {}
    results: dict[tuple[msg.StepKey, int], Shown] = {}
    for entry in history:
        _note(trials, results, entry)
    found = executions.previous(setting, trials[step], trials, results)
    shown: list[Any] = records.of(found)
    return shown


def _note(
    trials: dict[msg.StepKey, Trial],
    results: dict[tuple[msg.StepKey, int], Shown],
    entry: msg.Entry,
) -> None:
    at = entry.at
    match entry.record:
        case msg.RequestStart() | msg.PassNode() as asked:
            trials[asked.step] = _trial(asked, at)
        case msg.Admitted(step=step):
            _change(trials, step, started_at=at)
        case msg.AttemptSucceeded(step=step, attempt=attempt, result=result, usage=usage):
            _change(trials, step, ended_at=at, outcome="succeeded", usage=usage)
            if isinstance(result, Inline):
                size = len(canonical(result.value).encode())
                results[step, attempt] = Shown(size=size, inline=result.value)
        case msg.AttemptFailed(step=step, message=message, usage=usage):
            _change(trials, step, ended_at=at, outcome="failed", message=message, usage=usage)
        case msg.AttemptLost(step=step):
            _change(trials, step, ended_at=at, outcome="lost")
        case msg.SkipRequested(step=step, by=by, reason=reason):
            why = f": {reason}" if reason else ""
            _change(trials, step, skipped=f"skipped by {by}{why}")
        case msg.TakeEdges(step=step, taken=taken):
            edges = tuple((edge.edge, edge.target) for edge in taken)
            _change(trials, step, settled_at=at, taken=edges)
        case _:
            pass


def _trial(asked: msg.RequestStart | msg.PassNode, at: datetime) -> Trial:
    return Trial(
        step=asked.step,
        node=asked.node,
        iteration=asked.iteration,
        attempt=1 if isinstance(asked, msg.PassNode) else asked.attempt,
        parents=asked.parents,
        requested_at=at,
        passed=isinstance(asked, msg.PassNode),
    )


def _change(trials: dict[msg.StepKey, Trial], step: msg.StepKey, **changes: Any) -> None:
    if step in trials:
        trials[step] = replace(trials[step], **changes)
