"""Runs that go on from just before a step of another one: carried out anew, or with another result.

Where a step of another run waits for that one, all of them go on, from the root down: each from
just before the step that started the next one within it, and the innermost from just before the
step that is meant. Nothing waits for a run that goes on alone (`forks`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from engine import waiting
from engine.core import codec
from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.references import CONDITION_BYTES, Readable
from engine.core.state import State, Within
from engine.core.transitions import StepStatus
from engine.core.values import Json, plain
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import control, effects, forks, graphs, large, views
from engine.runs.effects import Choices, Effect
from engine.runs.launch import Submitted
from engine.runs.origins import Edits
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
    choices: Choices | None = None,
) -> Submitted:
    """Start a run that goes on from just before a step of another one was asked for.

    The step is carried out anew, or has the result that is given. `choices` name calls of its run; those of
    the runs around it as `RUN/STEP.ORDINAL` (`effects`). Of a run that a step of another one
    started it is the root that goes on: that one is returned. Raises as `fork` does; `NotFound` for a
    step that never began, `Conflict` where a run around it is not kept any more, and `Invalid` for a
    result or a choice that does not fit.
    """
    lineage = stages(platform, run, step)
    told = None
    if given is not None:
        asked = _asked(platform, run, step, lineage[-1].seq + 1, edits)
        told = _told(platform, run.tenant, asked, given, by=by)
    return forks.fork(
        platform,
        lineage[0].run,
        lineage[0].seq,
        edits,
        by=by,
        scopes=scopes,
        idempotency_key=idempotency_key,
        given=told,
        within=[
            Within(step=msg.StepKey(around.step), run=inside.run.run, seq=inside.seq)
            for around, inside in pairwise(lineage)
        ],
        choices=choices,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A run that a restart goes on from: just before a step, the line before that was asked for."""

    run: RunId
    step: str
    seq: int


def stages(platform: Platform, run: RunId, step: str) -> tuple[Stage, ...]:
    """From the root down, the runs around a step and that of the step itself.

    Raises `NotFound` for a step that never began, and `Conflict` where a run around it is not kept.
    """
    found = [_stage(platform, run, step)]
    while (around := views.summary(platform, found[0].run)).parent_run is not None:
        assert around.parent_step is not None
        try:
            parent = RunId(run.tenant, around.parent_run)
            found.insert(0, _stage(platform, parent, around.parent_step))
        except NotFound as gone:
            raise Conflict(
                f"run {around.id} was started by a step of run {around.parent_run}, which is not kept "
                "any more; fork a line of its own"
            ) from gone
    return tuple(found)


def fates(platform: Platform, lineage: Sequence[Stage]) -> tuple[Effect, ...]:
    """What would become of the calls of the runs that a restart goes on from. Raises as `fork` does."""
    inside = [*(stage.run.run for stage in lineage[1:]), None]
    return tuple(
        effect
        for stage, besides in zip(lineage, inside, strict=True)
        for effect in effects.at(
            platform, stage.run, stage.seq, meant=lineage[-1].run, besides=besides
        )
    )


def _stage(platform: Platform, run: RunId, step: str) -> Stage:
    return Stage(run=run, step=step, seq=views.step(platform, run, step).seq - 1)


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
        under = graphs.under(connection, run, seq, version=head.version_id, pins=head.pins)
        graph = graphs.load(connection, run.tenant, under.version)
    key = msg.StepKey(step)
    if state.steps[key].status is not StepStatus.REQUESTED:
        raise Conflict(f"step {step} is passed by the coordinator itself: it has no result")
    edited = replace(state, variables=edits.applied(state.variables))
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
