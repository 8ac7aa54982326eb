"""Child runs: a step of one run that is a run of its own.

The child is submitted in the turn that opens the step, with the version that the parent has
pinned, or, where the parent has worked the name out, with the one that it names then; its variables
are its own. It tells its end to the step that waits for it, which moves on once, whoever ends the
wait. When that step is gone, by a cancel say, the child is cancelled too, unless its node lets it
finish.

Where the parent goes on from a place before the step for the sake of a place within its child
(`restarts`), the child is one that goes on from there (`forks.descend`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from engine import waiting
from engine.core import codec, versions
from engine.core import messages as msg
from engine.core.graph import Child
from engine.core.state import Ending, Step, Within
from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.runs import forks, graphs, large, letters, submission
from engine.store import children as rows
from engine.store import inbox, payloads, waits, workflows
from engine.store.ids import RunId, StepId
from engine.store.waits import End
from engine.waiting import Unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """What a child takes over from the run that starts it."""

    run: RunId
    depth: int
    by: str
    #: The versions that the parent has pinned.
    pins: Mapping[str, Any]

    @classmethod
    def of(cls, row: Row[Any]) -> Parent:
        """The run of a locked row."""
        return cls(
            run=RunId(row.tenant_id, row.id),
            depth=row.depth,
            by=row.submitted_by,
            pins=orjson.loads(row.pins),
        )


def start(
    connection: Connection,
    parent: Parent,
    step: Step,
    child: Child,
    inputs: Mapping[str, Json],
    *,
    within: Sequence[Within] = (),
    kept: Mapping[str, Json],
) -> str:
    """Submit the run that a step waits for, or one that goes on from a place; its id.

    Raises `Unfit` and `Overflowing`.
    """
    if parent.depth >= waiting.MAX_DEPTH:
        raise waiting.too_deep(step.node)
    origin = submission.Origin(
        step=StepId(*parent.run, step.key),
        attempt=step.attempt,
        orphan=child.orphan.value,
        depth=parent.depth + 1,
    )
    if within:
        try:
            return forks.descend(connection, parent.run, origin, within, by=parent.by).run
        except (NotFound, Conflict, Invalid) as gone:
            raise Unfit("cannot_go_on", f"node {step.node}: {gone.message}") from gone
    version = parent.pins.get(f"workflow:{child.workflow}")
    if version is None and child.named is not None:
        version = _newest(connection, parent.run.tenant, child.workflow)
    if version is None:
        raise waiting.no_such_workflow(step.node, child.workflow)
    graph = graphs.load(connection, parent.run.tenant, str(version))
    try:
        return submission.enter(
            connection,
            parent.run.tenant,
            str(version),
            graph,
            inputs,
            by=parent.by,
            origin=origin,
            kept=kept,
        ).run
    except Invalid as invalid:
        raise waiting.unfit_inputs(step.node, invalid.problems[0]) from invalid


def _newest(connection: Connection, tenant: str, name: str) -> str | None:
    """The version that a name stands for that a run has worked out: there was nothing to pin before."""
    name, _, wanted = name.partition("@")
    asked = versions.asked(wanted or "latest")
    found = None if asked is None else workflows.find(connection, tenant, name, asked)
    return None if found is None or found.retired_at is not None else found.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A child that has ended, and the step that waits for it."""

    run: RunId
    step: StepId
    attempt: int
    ending: Ending
    #: What it gives, if it is completed.
    outputs: Mapping[str, Json]


def ended(row: Row[Any], ending: Ending, outputs: Mapping[str, Json] | None = None) -> Ended | None:
    """A run that has ended as the child that it is; None when it is nobody's."""
    if row.parent_run is None:
        return None
    run = RunId(row.tenant_id, row.id)
    step = StepId(row.tenant_id, row.parent_run, row.parent_step)
    return Ended(
        run=run,
        step=step,
        attempt=row.parent_attempt,
        ending=ending,
        outputs=outputs or {},
    )


def tell(connection: Connection, endings: Sequence[Ended]) -> list[RunId]:
    """Tell ends to the steps that wait for them; the runs that have something to fold by it."""
    told = [
        (
            one,
            waiting.child_ended(
                one.run.run, one.ending, one.outputs, msg.StepKey(one.step.key), one.attempt
            ),
        )
        for one in endings
    ]
    won = waits.end(connection, [_end(one.step, event) for one, event in told])
    told = [(one, event) for one, event in told if one.step in won]
    sealed = [_sealed(one.step, e) for one, e in told if isinstance(e, msg.WaitEnded)]
    plain = [letters.letter(one.step.run_id, e) for one, e in told if isinstance(e, msg.WaitFailed)]
    payloads.put_all(connection, [one.payload for one in sealed])
    for one, _ in told:
        # What it gives by reference is the parent's from now on, too.
        large.refer(connection, one.step.run_id, one.outputs)
    if told:
        inbox.put(connection, [*(one.letter for one in sealed), *plain])
    return [one.step.run_id for one, _ in told]


def let_go(connection: Connection, parents: Sequence[RunId]) -> list[RunId]:
    """Cancel the children that no step of these runs waits for any more; which those are."""
    found = rows.orphans(connection, parents)
    cancels = [
        letters.letter(
            RunId(row.tenant_id, row.id),
            msg.CancelRequested(
                at=codec.UNTIMED,
                by=f"run:{row.parent_run}",
                reason=f"{row.parent_step} of run {row.parent_run} waits for it no more",
            ),
        )
        for row in found
    ]
    if cancels:
        inbox.put(connection, cancels)
    return [RunId(row.tenant_id, row.id) for row in found]


def _end(step: StepId, event: waiting.ChildEnd) -> End:
    failed = event if isinstance(event, msg.WaitFailed) else None
    return End(
        step=step,
        attempt=event.attempt,
        by=event.by[0],
        reason=failed.reason if failed else None,
        message=failed.message if failed else None,
    )


def _sealed(step: StepId, event: msg.WaitEnded) -> letters.Sealed:
    return letters.sealed(step.run_id, event, f"{step.key}/{event.attempt}")
