"""A run told as seed 001 tells it: executions of tasks and plans, each pointing to its parents.

An execution is one attempt of one step. A node of role `task` gives a TaskExecution; a plan,
and a control node, which only says what comes next, gives a PlanExecution. Between two tasks
there is a plan, if only an *implicit* one: it is derived here when somebody looks, and costs a
run nothing. So from any execution the ids of its parents lead to the start without a gap: of a
task to the plan before it, of a plan to the tasks before it, or to the plan where one plan
follows another.

Nothing is stored in this shape. What is known of an attempt is gathered in a `Trial`, by the
platform from its rows and by tests from a history in memory, and shown by `record`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from engine.core import messages as msg
from engine.core.graph import EdgeId, Graph, NodeId, Role
from engine.core.values import Json

#: How many plans in a row are looked through for the results of the tasks before them.
DEPTH = 16
#: The last part of an implicit plan's id, where others have the number of their attempt.
_IMPLICIT = "plan"


class Status(StrEnum):
    """Where an execution stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"  #: its run, or its thread, went on without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all executions of a run have in common."""

    run: str
    tenant: str
    #: The id of the workflow version.
    version: str
    graph: Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All that is known of one attempt of a step, and of the step it is of."""

    step: msg.StepKey
    node: NodeId
    iteration: int
    attempt: int
    parents: tuple[msg.StepKey, ...]
    requested_at: datetime
    #: The coordinator passed the node by itself.
    passed: bool = False
    #: No later attempt was asked for.
    last: bool = True
    #: The step is not settled, nor given up.
    live: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: `succeeded`, `failed`, `lost`.
    outcome: str | None = None
    message: str | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    #: When the step left its tokens, and on which edges.
    settled_at: datetime | None = None
    taken: tuple[tuple[EdgeId, NodeId], ...] = ()
    #: Who let it count as done, and why.
    skipped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A result as it is shown: as it is, or where it is to be had."""

    size: int
    inline: Json = None
    uri: str | None = None

    def told(self) -> dict[str, Json]:
        place: dict[str, Json] = {"inline": self.inline} if self.uri is None else {"uri": self.uri}
        return {**place, "size_bytes": self.size}


#: Of tasks' and plans' steps, by step and attempt.
Results = Mapping[tuple[msg.StepKey, int], Shown]
#: The last attempt of each step.
Trials = Mapping[msg.StepKey, Trial]

NO_RESULT = Shown(size=0)


class NotAnId(ValueError):
    """A text is no id of an execution of the run."""


def exec_id(run: str, step: msg.StepKey, attempt: int) -> str:
    """The id of an attempt's execution."""
    return f"{run}:{step.replace('#', ':')}:{attempt}"


def read_id(run: str, text: str) -> tuple[msg.StepKey, int | None]:
    """The step and attempt that an id names; no attempt: the implicit plan before the step.

    Raises `NotAnId`.
    """
    node, iteration, attempt = _parts(text.removeprefix(f"{run}:"))
    if not text.startswith(f"{run}:") or not node:
        raise NotAnId(text)
    step = msg.step_key(NodeId(node), iteration)
    return step, attempt


def is_plan(graph: Graph, node: NodeId) -> bool:
    """Whether executions of a node are those of a plan."""
    return graph.node(node).role is not Role.TASK


def parents(graph: Graph, trial: Trial) -> list[msg.StepKey]:
    """The steps that led to a step, in the order of the edges that they came by.

    Not in that of their arrival: what code sees must not depend on who was quicker.
    """
    places = {
        edge.source: place
        for place, edge in reversed(list(enumerate(graph.edges)))
        if edge.target == trial.node
    }
    last = len(graph.edges)

    def place(step: msg.StepKey) -> tuple[int, str, int]:
        node, _, iteration = step.rpartition("#")
        return places.get(NodeId(node), last), node, int(iteration)

    return sorted(trial.parents, key=place)


def has_implicit(graph: Graph, trial: Trial) -> bool:
    """Whether an implicit plan stands before a step: a task that no single plan led to."""
    if is_plan(graph, trial.node) or not trial.parents:
        return False
    return len(trial.parents) > 1 or not is_plan(graph, _node(trial.parents[0]))


def upstream(graph: Graph, trials: Trials, trial: Trial) -> list[Trial]:
    """The attempts of tasks whose results reach a step: its parents', or through plans theirs."""
    found: dict[msg.StepKey, Trial] = {}
    level = parents(graph, trial)
    for _ in range(DEPTH):
        known = [trials[step] for step in level if step in trials]
        found |= {one.step: one for one in known if not is_plan(graph, one.node)}
        plans = (one for one in known if is_plan(graph, one.node))
        level = list(dict.fromkeys(step for one in plans for step in parents(graph, one)))
    return list(found.values())


def needed(graph: Graph, trials: Trials, steps: Iterable[msg.StepKey]) -> set[msg.StepKey]:
    """Steps that must be known before the parents of others can be shown, as far as is known.

    Look those up and ask again, `DEPTH` times at most.
    """
    return {
        parent
        for step in steps
        if step in trials and is_plan(graph, trials[step].node)
        for parent in trials[step].parents
        if parent not in trials
    }


def record(setting: Setting, trial: Trial, trials: Trials, results: Results) -> dict[str, Json]:
    """The execution of an attempt."""
    if is_plan(setting.graph, trial.node):
        return _plan(setting, trial, trials, results)
    return _task(setting, trial, trials, results)


def implicit(setting: Setting, trial: Trial, trials: Trials, results: Results) -> dict[str, Json]:
    """The execution of the implicit plan before a task's step."""
    settled = (trials[parent].settled_at for parent in trial.parents)
    at = max((moment for moment in settled if moment is not None), default=trial.requested_at)
    header = _header(
        setting,
        trial,
        name=_implicit_name(trial.node),
        exec_id=implicit_id(setting.run, trial.step),
        attempt=1,
        times=(at, at, at),
        status=Status.SUCCEEDED,
        edge=", ".join(
            _edge(setting.graph, edge)
            for parent in parents(setting.graph, trial)
            for edge, target in trials[parent].taken
            if target == trial.node
        ),
    )
    return {
        "header": header,
        "policy_telemetry": _telemetry({}, None, None),
        "parent_task_exec_ids": _parent_ids(setting, trial, trials),
        "parent_task_names": [_node(parent) for parent in parents(setting.graph, trial)],
        "result": {
            "id": header["exec_id"],
            "next_task_names": [trial.node],
            "upstream_tasks_results": _upstream(setting, trial, trials, results),
            "error_message": "",
        },
        "implicit": True,
    }


def previous(
    setting: Setting, trial: Trial, trials: Trials, results: Results
) -> list[dict[str, Json]]:
    """The executions that led to a step, as its code sees them."""
    if has_implicit(setting.graph, trial):
        return [implicit(setting, trial, trials, results)]
    shown = (trials[parent] for parent in parents(setting.graph, trial))
    return [record(setting, one, trials, results) for one in shown]


def shows(
    graph: Graph, trial: Trial, trials: Trials, *, implicit: bool = False
) -> list[tuple[msg.StepKey, int]]:
    """The results that the execution of an attempt shows, its own first; or the implicit plan
    before it.
    """
    found = [] if implicit or trial.passed else [(trial.step, trial.attempt)]
    if implicit or is_plan(graph, trial.node):
        found += [(one.step, one.attempt) for one in upstream(graph, trials, trial)]
    return found


def leads_to(graph: Graph, trial: Trial, trials: Trials) -> list[tuple[msg.StepKey, int]]:
    """The results that `previous` shows to the code of a step."""
    if has_implicit(graph, trial):
        return shows(graph, trial, trials, implicit=True)
    found = (shows(graph, trials[parent], trials) for parent in parents(graph, trial))
    return list(dict.fromkeys(key for keys in found for key in keys))


def implicit_id(run: str, step: msg.StepKey) -> str:
    """The id of the implicit plan before a step."""
    return f"{run}:{step.replace('#', ':')}:{_IMPLICIT}"


def _task(setting: Setting, trial: Trial, trials: Trials, results: Results) -> dict[str, Json]:
    plan, name = "", ""
    if has_implicit(setting.graph, trial):
        plan, name = implicit_id(setting.run, trial.step), _implicit_name(trial.node)
    elif trial.parents:
        (parent,) = trial.parents
        plan, name = _id(setting, trials[parent]), trials[parent].node
    return {
        "header": _own_header(setting, trial),
        "policy_telemetry": _telemetry(trial.usage, trial.started_at, trial.ended_at),
        "parent_plan_exec_id": plan,
        "parent_plan_name": name,
        "result": _result(setting, trial, results),
    }


def _plan(setting: Setting, trial: Trial, trials: Trials, results: Results) -> dict[str, Json]:
    own: dict[str, Json]
    if trial.passed:
        own = {"id": _id(setting, trial), "error_message": ""}
    else:
        own = _result(setting, trial, results)
    settles = trial.last and trial.settled_at is not None
    next_names: list[Json] = [target for _, target in trial.taken] if settles else []
    return {
        "header": _own_header(setting, trial),
        "policy_telemetry": _telemetry(trial.usage, trial.started_at, trial.ended_at),
        "parent_task_exec_ids": _parent_ids(setting, trial, trials),
        "parent_task_names": [_node(parent) for parent in parents(setting.graph, trial)],
        "result": {
            **own,
            "next_task_names": next_names,
            "upstream_tasks_results": _upstream(setting, trial, trials, results),
        },
        "implicit": False,
    }


def _own_header(setting: Setting, trial: Trial) -> dict[str, Json]:
    edges = [_edge(setting.graph, edge) for edge, _ in trial.taken] if trial.last else []
    times = (trial.requested_at, trial.started_at, trial.ended_at)
    if trial.passed:
        times = (trial.requested_at, trial.requested_at, trial.settled_at)
    elif trial.skipped and trial.last and trial.ended_at is None:
        times = (trial.requested_at, trial.started_at, trial.settled_at)
    return _header(
        setting,
        trial,
        name=trial.node,
        exec_id=_id(setting, trial),
        attempt=trial.attempt,
        times=times,
        status=_status(trial),
        edge=", ".join(edges),
    )


def _header(
    setting: Setting,
    trial: Trial,
    *,
    name: str,
    exec_id: str,
    attempt: int,
    times: tuple[datetime | None, ...],
    status: Status,
    edge: str,
) -> dict[str, Json]:
    created, started, ended = (_time(moment) for moment in times)
    return {
        "name": name,
        "exec_id": exec_id,
        "graph_id": setting.version,
        "lifetime_id": setting.run,
        "tenant_id": setting.tenant,
        "attempt": attempt,
        "iteration_idx": trial.iteration - 1,
        "created_at": created,
        "started_at": started,
        "ended_at": ended,
        "status": status.value,
        "edge_taken": edge,
    }


def _status(trial: Trial) -> Status:
    if not trial.last:
        return Status.FAILED
    if trial.outcome is not None and not (trial.skipped and trial.settled_at):
        return Status.SUCCEEDED if trial.outcome == "succeeded" else Status.FAILED
    if trial.settled_at is not None:
        return Status.SUCCEEDED
    if not trial.live:
        return Status.CANCELED
    return Status.PENDING if trial.started_at is None else Status.RUNNING


def _telemetry(
    usage: Mapping[str, float], started: datetime | None, ended: datetime | None
) -> dict[str, Json]:
    left = dict(usage)
    seconds = left.pop("seconds", 0.0)
    if started is not None and ended is not None:
        seconds = (ended - started).total_seconds()
    return {
        "tokens_used": left.pop("tokens_used", 0),
        "cost_usd": left.pop("cost_usd", 0.0),
        "latency_ms": round(seconds * 1000, 3),
        "memory_bytes": int(left.pop("max_rss", 0)),
        "cpu_ms": round(left.pop("cpu_seconds", 0.0) * 1000, 3),
        "custom_metrics": dict(left),
    }


def _result(setting: Setting, trial: Trial, results: Results) -> dict[str, Json]:
    shown = results.get((trial.step, trial.attempt), NO_RESULT)
    error = trial.message or ""
    if trial.skipped and trial.last:
        error = trial.skipped
    return {"id": _id(setting, trial), **shown.told(), "error_message": error}


def _upstream(setting: Setting, trial: Trial, trials: Trials, results: Results) -> list[Json]:
    return [_result(setting, one, results) for one in upstream(setting.graph, trials, trial)]


def _parent_ids(setting: Setting, trial: Trial, trials: Trials) -> list[Json]:
    return [_id(setting, trials[parent]) for parent in parents(setting.graph, trial)]


def _id(setting: Setting, trial: Trial) -> str:
    return exec_id(setting.run, trial.step, trial.attempt)


def _implicit_name(node: NodeId) -> str:
    return f"{_IMPLICIT}:{node}"


def _edge(graph: Graph, edge: EdgeId) -> str:
    found = graph.edge(edge)
    return found.label or found.title or found.id


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _node(step: msg.StepKey) -> NodeId:
    return NodeId(step.rpartition("#")[0])


def _parts(text: str) -> tuple[str, int, int | None]:
    """Node, iteration and attempt. Raises `NotAnId`."""
    node, _, rest = text.rpartition(":")
    node, _, iteration = node.rpartition(":")
    if not _is_number(iteration) or not (_is_number(rest) or rest == _IMPLICIT):
        raise NotAnId(text)
    return node, int(iteration), None if rest == _IMPLICIT else int(rest)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < len(str(2**31))
