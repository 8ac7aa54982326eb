"""A run that goes on from a place of another one: what of the state it takes over.

What is settled there stays settled, and is not done again. What is live begins anew, as its first
attempt: nobody works on it for the new run, and no wait of the other run is ended by what comes for
this one. A map under way stays under way: those of its items that have ended are settled, the others
begin anew. What was spent, halted, let pass and remembered by rules is the other run's: the new one
has spent nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from engine.core import codec
from engine.core import messages as msg
from engine.core.records import replace
from engine.core.state import State, Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json

#: Where a step is between what was reported of it and its end: a turn decides that as one.
_SETTLING = frozenset(
    {StepStatus.ANSWERED, StepStatus.SAVING, StepStatus.SUCCEEDED, StepStatus.FAILED}
)


def obstacle(state: State) -> str:
    """Why no run can go on from a state; empty where one can."""
    if state.terminal:
        return "the run has ended there"
    if state.status is RunStatus.QUEUED:
        return "the run has not begun there"
    if state.undoing is not None or state.stopping is not None:
        return "the run is about to end there"
    for step in state.steps.values():
        if step.status in _SETTLING:
            return f"step {step.key} is being settled there"
    for key, items in state.maps.items():
        if items.sent:
            return f"items that were sent to step {key} have no places yet there"
    kept = [*(held for token in state.tokens for held in token.holds), *_kept(state)]
    if kept:
        return f"a thread holds the lock {kept[0][0].partition(':')[2]} there"
    return ""


def _kept(state: State) -> list[tuple[str, Any]]:
    """Locks that steps have taken over from earlier ones, hand on, or do not ask for anew."""
    return [
        held
        for step in state.steps.values()
        for held in step.holds
        if held[1] not in (None, step.node) or step.key in state.maps
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A map that is under way, or whose results are about to be put together."""

    key: msg.StepKey
    #: How many items it has, and how many of them have been begun.
    count: int
    begun: int


def mapped(state: State) -> tuple[Mapped, ...]:
    """The maps whose items a run that goes on from a state needs."""
    return tuple(
        Mapped(key=key, count=items.count, begun=items.next) for key, items in state.maps.items()
    ) + tuple(
        Mapped(key=step.key, count=step.index, begun=step.index)
        for step in state.steps.values()
        if step.index is not None and step.of is None
    )


def anew(state: State, carried: Collection[msg.StepKey]) -> State:
    """The state that a run goes on from; `carried` are steps of which calls are known already.

    These begin with their second attempt: their first is what the other run had done.
    """
    return replace(
        state,
        status=RunStatus.RUNNING,
        steps={
            key: replace(
                _open(step) if key in state.maps else due(step, carried=key in carried), parents=()
            )
            for key, step in state.steps.items()
        },
        # Executions that led here are the other run's; this one's begin with what follows.
        tokens=tuple(replace(token, parents=()) for token in state.tokens),
        spent={},
        halted={},
        waived={},
        memory={},
        governed=0,
    )


def due(step: Step, *, carried: bool) -> Step:
    """A live step as it begins anew, with its second attempt if calls of its first are known."""
    return Step(
        key=step.key,
        node=step.node,
        iteration=step.iteration,
        status=StepStatus.DUE,
        attempt=1 + carried,
        queue=step.queue,
        parents=step.parents,
        thread=step.thread,
        visits=step.visits,
        of=step.of,
        index=step.index,
    )


def _open(step: Step) -> Step:
    """A map whose items are under way: it waits for them, as it did."""
    return replace(due(step, carried=False), status=step.status, wait=step.wait)


def told(state: State) -> tuple[Mapping[str, Json], Mapping[str, Any]]:
    """A state as history tells it, without users' data; and what threads have written, by scope."""
    overlays = {name: scope.overlays for name, scope in state.scopes.items() if scope.overlays}
    bare = {name: replace(scope, overlays={}) for name, scope in state.scopes.items()}
    frame = codec.plain(replace(state, scopes=bare))
    return {name: value for name, value in frame.items() if name not in _ELSEWHERE}, overlays


#: Fields that are not told: each run has its own, and variables are users' data.
_ELSEWHERE = frozenset({"run", "variables"})


def begun(run: str, event: msg.Forked | msg.RollbackRequested) -> State:
    """The state of a run that goes on from a place, of another one or of its own."""
    found: State = codec.revive(State, {**event.state, "run": run})
    scopes = {
        name: replace(scope, overlays=event.overlays.get(name, {}))
        for name, scope in found.scopes.items()
    }
    return replace(found, scopes=scopes, variables=event.variables)
