"""A run's history as the log and the state that clients of seed 000 read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.core import messages as msg
from engine.core.transitions import RunStatus
from engine.core.values import Json, marked, size

#: The pseudo-node that closes a log.
WORKFLOW = "workflow"
#: Bytes of all the snapshots of a state together, and of one value in a step's data.
SNAPSHOT_BYTES = 1_048_576
VALUE_BYTES = 65_536

Step = dict[str, Any]

_STATUSES: Mapping[RunStatus, str] = {
    RunStatus.QUEUED: "running",
    RunStatus.RUNNING: "running",
    RunStatus.PAUSED: "running",
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "error",
    RunStatus.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of history, read."""

    seq: int
    at: datetime
    record: msg.Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a history comes to in the words of seed 000."""

    steps: tuple[Step, ...] = ()
    #: Input and output of each node that was carried out.
    snapshots: tuple[dict[str, Any], ...] = ()
    #: Snapshots that are left out, because all together would be too large.
    omitted: int = 0
    transitions: int = 0
    final_node: str | None = None


def status(of: RunStatus) -> str:
    """The status of a run."""
    return _STATUSES[of]


def step(entry: Entry) -> Step | None:
    """The step that a line of history tells of, if it tells of one."""
    said = _said(entry.record)
    if said is None:
        return None
    node, iteration, word, message, data = said
    return {
        "seq": entry.seq,
        "timestamp": entry.at.isoformat(),
        "node": node,
        "iteration": iteration,
        "status": word,
        "message": message,
        "data": data,
    }


def tell(entries: Iterable[Entry]) -> Told:
    """All that a history, from its first line, tells."""
    steps: list[Step] = []
    snapshots: list[dict[str, Any]] = []
    room, omitted, transitions = SNAPSHOT_BYTES, 0, 0
    final_node: str | None = None
    variables: dict[str, Json] = {}
    back: Mapping[str, Json] = {}
    for entry in entries:
        if (found := step(entry)) is not None:
            steps.append(found)
        match entry.record:
            case msg.RunSubmitted(inputs=inputs):
                variables = dict(inputs)
            case msg.Forked(variables=there):
                variables = dict(there)
            case msg.RollbackRequested(variables=there):
                back = there
            case msg.RollBack():
                variables = dict(back)
            case msg.RequestStart(node=node) | msg.PassNode(node=node):
                final_node = node
            case msg.TakeEdges(taken=taken):
                transitions += bool(taken)
            case msg.AttemptSucceeded(patch=patch):
                after = {**variables, **patch}
                snapshot = _snapshot(entry, variables, after)
                variables = after
                room -= size(snapshot)
                if room >= 0:
                    snapshots.append(snapshot)
                else:
                    omitted += 1
            case _:
                pass
    return Told(
        steps=tuple(steps),
        snapshots=tuple(snapshots),
        omitted=omitted,
        transitions=transitions,
        final_node=final_node,
    )


def _snapshot(
    entry: Entry, before: Mapping[str, Json], after: Mapping[str, Json]
) -> dict[str, Any]:
    assert isinstance(entry.record, msg.AttemptSucceeded)
    node, iteration = _visit(entry.record.step)
    return {
        "node": node,
        "iteration": iteration,
        "timestamp": entry.at.isoformat(),
        "input": dict(_beside(before)),
        "output": dict(_beside(after)),
    }


_Said = tuple[str, int, str, str, "dict[str, Json] | None"]


def _said(record: msg.Record) -> _Said | None:
    """Node, iteration, status, message and data of the step that a record tells of."""
    match record:
        case msg.RequestStart(via=None, attempt=1) | msg.PassNode(via=None):
            return record.node, record.iteration, "started", "Workflow started", None
        case msg.PassNode():
            message = f"Node completed: {record.node}"
            return record.node, record.iteration, "completed", message, None
        case msg.Admitted(step=key):
            node, iteration = _visit(key)
            return node, iteration, "executing", f"Executing node: {node}", None
        case msg.AttemptSucceeded(step=key, patch=patch):
            node, iteration = _visit(key)
            return node, iteration, "completed", f"Node completed: {node}", _bounded(patch)
        case msg.WaitEnded(step=key):
            node, iteration = _visit(key)
            return node, iteration, "completed", f"Node completed: {node}", None
        case msg.AttemptFailed() | msg.AttemptLost() | msg.Refused():
            return _failure(record)
        case (
            msg.WaitFailed(step=key, reason=reason, message=message)
            | msg.NotOpened(step=key, reason=reason, message=message)
            | msg.NotSaved(step=key, reason=reason, message=message)
            | msg.FailStep(step=key, reason=reason, message=message)
        ):
            node, iteration = _visit(key)
            return node, iteration, "error", f"Error in node {node}: {message}", {"reason": reason}
        case msg.RetryStep(step=key, attempt=attempt, reason=reason):
            node, iteration = _visit(key)
            message = f"Trying {node} again after {reason}: attempt {attempt}"
            return node, iteration, "started", message, {"attempt": attempt, "reason": reason}
        case msg.TakeEdges():
            return _leaving(record)
        case msg.FinishRun():
            return _closing(record)
        case _:
            return None


def _failure(record: msg.AttemptFailed | msg.AttemptLost | msg.Refused) -> _Said:
    node, iteration = _visit(record.step)
    match record:
        case msg.AttemptFailed(reason="timeout", message=message, attempt=attempt):
            data: dict[str, Json] = {"reason": "timeout", "attempt": attempt}
            return node, iteration, "timeout", f"Node timed out: {node}: {message}", data
        case msg.AttemptFailed(reason=reason, message=message, attempt=attempt):
            data = {"reason": reason, "attempt": attempt}
        case msg.AttemptLost(worker=worker, attempt=attempt):
            message = f"worker {worker} stopped answering"
            data = {"reason": "lost", "attempt": attempt}
        case msg.Refused(rule=rule, message=message):
            data = {"reason": "refused", "rule": rule}
    return node, iteration, "error", f"Error in node {node}: {message}", data


def _leaving(record: msg.TakeEdges) -> _Said:
    node, iteration = _visit(record.step)
    targets = ", ".join(edge.target for edge in record.taken)
    bound = next(
        (edge.saw.get("max_iterations") for edge in record.untaken if edge.why == "max_iterations"),
        None,
    )
    data: dict[str, Json] = {"to": [edge.target for edge in record.taken]}
    if bound is not None:
        going = f"going on to {targets}" if targets else "ending here"
        message = f"Max iterations ({bound}) reached for node {node}; {going}"
        return node, iteration, "max_iterations", message, {**data, "max_iterations": bound}
    if targets:
        message = f"Transitioning from {node} to {targets}"
        return node, iteration, "transition", message, data
    message = "No condition holds; nothing follows" if record.untaken else "Reached end node"
    return node, iteration, "end_reached", message, None


def _closing(record: msg.FinishRun) -> _Said:
    data: dict[str, Json] = {"status": status(record.status), "reason": record.reason}
    match record.status:
        case RunStatus.COMPLETED:
            return WORKFLOW, 0, "completed", "Workflow completed", data
        case RunStatus.CANCELLED:
            message = f"Workflow cancelled: {record.message}"
        case _:
            message = f"Workflow error: {record.message or record.reason}"
    return WORKFLOW, 0, "error", message, data


def _visit(key: msg.StepKey) -> tuple[str, int]:
    """Node and iteration of `node#iteration`."""
    # An item of a map is told as the visit that it belongs to.
    node, _, visit = key.rpartition("#")
    return node, int(visit.partition(".")[0])


def _bounded(patch: Mapping[str, Json]) -> dict[str, Json]:
    """What a node changed; large values by their size alone."""
    return dict(_bounded_items(patch))


def _bounded_items(patch: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for name, value in _beside(patch):
        bytes_of = size(value)
        yield name, {"$omitted": bytes_of} if bytes_of > VALUE_BYTES else value


def _beside(values: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """Values by name; those that lie elsewhere by their size."""
    for name, value in values.items():
        ref = marked(value)
        yield name, value if ref is None else {"$omitted": ref.size}
