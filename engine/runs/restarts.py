"""Runs that go on from just before a step of another one: carried out anew, or with another result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from engine import waiting
from engine.core import codec
from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.references import CONDITION_BYTES, Readable
from engine.core.state import State
from engine.core.transitions import StepStatus
from engine.core.values import Json, plain
from engine.errors import Conflict, Invalid
from engine.platform import Platform
from engine.runs import control, forks, graphs, large, views
from engine.runs.forks import Edits
from engine.runs.launch import Submitted
from engine.store import reads
from engine.store.ids import RunId
from engine.waiting import Overflowing


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the result of a step is to be, so that it is not carried out."""

    result: Json
    choice: msg.Choice = None


def restart(
    platform: Platform,
    run: RunId,
    step: str,
    edits: Edits,
    *,
    by: str,
    scopes: Collection[str] | None = None,
    idempotency_key: str | None = None,
    given: Given | None = None,
) -> Submitted:
    """Start a run that goes on from just before a step of another one was asked for.

    The step is carried out anew, or has the result that is given. Raises as `fork` does; `NotFound`
    for a step that never began, and `Invalid` for a result or a choice that does not fit.
    """
    seq = before(platform, run, step)
    told = None
    if given is not None:
        asked = _asked(platform, run, step, seq + 1, edits)
        told = _told(platform, run.tenant, asked, given, by=by)
    return forks.fork(
        platform,
        run,
        seq,
        edits,
        by=by,
        scopes=scopes,
        idempotency_key=idempotency_key,
        given=told,
    )


def before(platform: Platform, run: RunId, step: str) -> int:
    """The line before the one that asked for a step. Raises `NotFound`."""
    return views.step(platform, run, step).seq - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A step of the other run as it was asked for, with variables as they are to be."""

    step: msg.StepKey
    graph: Graph
    state: State

    @property
    def variables(self) -> Mapping[str, Json]:
        return self.state.view(self.state.steps[self.step].thread)


def _asked(platform: Platform, run: RunId, step: str, seq: int, edits: Edits) -> _Asked:
    with reads.reading(platform.database) as connection:
        state = views.folded(connection, run, seq)
        head = reads.run(connection, run)
        assert head is not None
        graph = graphs.load(connection, run.tenant, head.version_id)
    key = msg.StepKey(step)
    if state.steps[key].status is not StepStatus.REQUESTED:
        raise Conflict(f"step {step} is passed by the coordinator itself: it has no result")
    kept = {name: value for name, value in state.variables.items() if name not in edits.removed}
    edited = replace(state, variables={**kept, **edits.variables})
    return _Asked(step=key, graph=graph, state=edited)


def _told(
    platform: Platform, tenant: str, asked: _Asked, given: Given, *, by: str
) -> msg.ResultGiven:
    """What is told of a step whose result is given: what that leaves is worked out here."""
    live, graph = asked.state.steps[asked.step], asked.graph
    read = large.reader(platform, tenant)
    names = waiting.scope_of(asked.state, live, given.result, read=read)
    try:
        left = waiting.patch(
            graph, graph.node(live.node), Readable(names, read, limit=CONDITION_BYTES)
        )
        waiting.check(graph, graph.node(live.node), left)
        result = large.kept(platform, tenant, given.result)
        patch = _fitting(platform, tenant, asked, left, plain(result))
    except waiting.Unfit as unfit:
        raise _unfit(unfit.message) from unfit
    except large.ValueTooLarge as error:
        raise _unfit(error.message) from error
    choice = control.chosen(graph, live.node, given.choice)
    return msg.ResultGiven(
        at=codec.UNTIMED, step=live.key, by=by, result=result, patch=patch, choice=choice
    )


def _fitting(
    platform: Platform, tenant: str, asked: _Asked, patch: Mapping[str, Json], result: Json
) -> Mapping[str, Json]:
    """What a result leaves, with large values kept elsewhere. Raises `Unfit` and `ValueTooLarge`."""
    kept: Mapping[str, Json] = {}
    node = asked.graph.node(asked.state.steps[asked.step].node)
    while True:
        try:
            return waiting.fitting(
                asked.graph, node, asked.variables, patch, result=result, kept=kept
            )
        except Overflowing as overflowing:
            kept = {**kept, **large.keep_all(platform, tenant, overflowing.values)}


def _unfit(message: str) -> Invalid:
    remedy = "give a result that the node could have left"
    return Invalid([Problem(path="result", message=message, remedy=remedy)])
