"""A run's rows as the core's state, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from engine.core import codec
from engine.core import messages as msg
from engine.core.graph import NodeId
from engine.core.records import replace
from engine.core.state import Ending, State, Step
from engine.core.transitions import TERMINAL, RunStatus, StepStatus
from engine.core.values import Json, canonical
from engine.store.ids import RunId, StepId
from engine.store.steps import Needed, StepRow

#: The fields of the state that lie in `run.head`, those left out that are as `State` has them by default:
#: what that is must stay so, as it must of what lies in history.
_HEAD = (
    *("visited", "iterations", "tokens", "scopes", "reducers", "shared", "maps", "undoing"),
    *("afresh", "compensate", "governed", "spent", "halted", "waived", "memory", "moved", "within"),
)
#: Ownership is no business of the core.
_OWNED = frozenset({StepStatus.HELD, StepStatus.LEASED, StepStatus.REPORTED})


def state(row: Row[Any], live: Mapping[msg.StepKey, Step]) -> State:
    """The state of a run from its head and those of its live steps that are at hand."""
    status = RunStatus(row.status)
    head: State = codec.revive(State, {**orjson.loads(row.head), "run": row.id})
    ending = Ending(
        status=status, reason=row.reason or "", message=row.message or "", step=row.ended_step
    )
    return replace(
        head,
        status=status,
        variables=orjson.loads(row.variables),
        steps=live,
        ending=ending if status in TERMINAL else None,
    )


def maps(row: Row[Any]) -> Sequence[str]:
    """The maps whose items are under way, by the head of their run."""
    if '"maps":{"' not in row.head:  # most have none; what is found may be a user's, and is read
        return ()
    return tuple(orjson.loads(row.head).get("maps", ()))


def head(state: State) -> str:
    """What of a state lies in `run.head`. Most of it is as it usually is, and need not be told."""
    return canonical(codec.unusual(state, _HEAD))


def step(row: Row[Any]) -> Step:
    """A live step from its row."""
    status = StepStatus(row.status)
    return Step(
        key=msg.StepKey(row.key),
        node=NodeId(row.node),
        iteration=row.iteration,
        status=_status(status, waits=row.wait is not None),
        attempt=row.attempt,
        errors=row.errors,
        lost=row.lost,
        queue=row.queue,
        parents=tuple(orjson.loads(row.parents)),
        thread=thread(row),
        visits=orjson.loads(row.visits),
        wake=row.wake_at if status in _WAKES else None,
        wait=row.wait,
        of=row.of,
        index=row.item,
        holds=tuple((name, until) for name, until in orjson.loads(row.holds)),
        awaits=row.awaits,
        asked=tuple(orjson.loads(row.asked)),
        permits=tuple(orjson.loads(row.permits)),
    )


_WAKES = (StepStatus.DEFERRED, StepStatus.RETRYING, StepStatus.WAITING)


def _status(status: StepStatus, *, waits: bool) -> StepStatus:
    """Where a step stands to the core. What was reported of one that waits ended its wait."""
    if status in _OWNED:
        return StepStatus.WAITING if waits else StepStatus.READY
    return status


def thread(row: Row[Any] | Needed) -> msg.Thread:
    """The thread of a step's row."""
    return tuple((scope, branch) for scope, branch in orjson.loads(row.thread))


def seen(row: Row[Any] | Needed) -> Mapping[str, Json]:
    """The variables as the thread of a leased step sees them, large ones as references."""
    variables: dict[str, Json] = orjson.loads(row.variables)
    if row.head is None:
        return variables
    head: State = codec.revive(State, {**orjson.loads(row.head), "run": row.run_id})
    return replace(head, variables=variables).view(thread(row))


def step_row(run: RunId, step: Step) -> StepRow:
    """The row of a step that a turn made or moved."""
    return StepRow(
        step=StepId(*run, step.key),
        node=step.node,
        iteration=step.iteration,
        status=step.status,
        attempt=step.attempt,
        errors=step.errors,
        lost=step.lost,
        queue=step.queue,
        parents=_listed(step.parents),
        thread=_listed(step.thread),
        visits=canonical(step.visits) if step.visits else "{}",
        wake=step.wake,
        wait=step.wait,
        of=step.of,
        item=step.index,
        holds=_listed(step.holds),
        awaits=step.awaits,
        asked=_listed(step.asked),
        permits=_listed(step.permits),
    )


def _listed(values: tuple[Any, ...]) -> str:
    """A list as JSON; most are empty, and need no writer for that."""
    return canonical(values) if values else "[]"
