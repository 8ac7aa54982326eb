"""Live runs that go on under another version of their workflow, because somebody asks for it.

What would become of each live step, and all that keeps a run where it is, is worked out first
(`core.migration`); with that alone nothing is changed. Then the request is an event in the run's inbox, and
the turn that hears it looks once more (`moves`): the run is under the other version in that transaction, or
stays as it is.

An attempt that is under way keeps the graph that it was leased with, and what it reports is folded under
the new one. What starts afterwards has the functions, tools and workflows that are pinned by the move.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from engine.core import codec, migration
from engine.core import messages as msg
from engine.core.graph import NodeId
from engine.core.problem import Problem
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.errors import Blocked, Conflict, NotFound
from engine.platform import Platform
from engine.runs import catalogue, graphs, identity, letters, moves, states, submission, turns
from engine.runs.graphs import Pins
from engine.store import inbox, migrations, reads, runs, session, steps
from engine.store.ids import RunId

#: How long is waited for the turn that hears a request, where somebody else takes it.
_PATIENCE = 5.0
_GLANCE = 0.02
#: Live steps that are told.
MAX_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A live step, the node it stands at, and the one that it would stand at."""

    step: str
    node: str
    becomes: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would become of a run under another version, or has."""

    run: str
    workflow: str
    version: str
    to: str
    to_id: str
    status: RunStatus
    steps: tuple[Move, ...] = ()
    #: What keeps it where it is.
    problems: tuple[Problem, ...] = ()
    #: The pins that it would have, where they are others.
    pins: Pins
    migrated: bool = False


def plan(platform: Platform, run: RunId, to: str, nodes: Mapping[str, str] | None = None) -> Plan:
    """What would become of a run under another version of its workflow; nothing is changed.

    `to` names a version, or a range; `nodes` are those that have another name there. Raises `NotFound`,
    `Conflict` for a version that is retired, and `Invalid` where what it names is not there, and for a run
    of the platform's own.
    """
    with reads.reading(platform.database) as connection:
        head = reads.run(connection, run)
        if head is None:
            raise NotFound(f"Run not found: {run.run}")
    catalogue.check_name(head.workflow)
    wanted = catalogue.find(platform, run.tenant, head.workflow, to)
    if wanted.retired_at is not None:
        raise Conflict(
            f"version {wanted.version} of {wanted.workflow} is retired; name another one"
        )
    renamed = _renamed(nodes)
    with reads.reading(platform.database) as connection:
        state = _state(connection, run)
        head = reads.run(connection, run)
        assert head is not None
        old = graphs.load(connection, run.tenant, str(head.version_id))
        new = graphs.load(connection, run.tenant, wanted.id)
        same = str(head.version_id) == wanted.id
        problems = (
            *migration.obstacles(old, new, state, renamed, same=same),
            *moves.undone_since(connection, run, new),
        )
        pins = submission.pins(connection, run.tenant, new, wanted.id)
    return Plan(
        run=run.run,
        workflow=head.workflow,
        version=head.version,
        to=wanted.version,
        to_id=wanted.id,
        status=state.status,
        steps=tuple(
            Move(
                step=step.key,
                node=step.node,
                becomes=renamed.get(step.node, step.node),
                status=step.status.value,
            )
            for step in sorted(state.steps.values(), key=lambda each: each.key)[:MAX_STEPS]
        ),
        problems=problems,
        pins={name: pin for name, pin in pins.items() if head.pins.get(name) != pin},
    )


def migrate(
    platform: Platform,
    run: RunId,
    to: str,
    nodes: Mapping[str, str] | None = None,
    *,
    by: str,
    reason: str = "",
) -> Plan:
    """Let a run go on under another version of its workflow.

    Raises as `plan` does, and `Blocked` with all that keeps it where it is: then nothing is changed.
    Where nobody has taken the turn in time, the request stays in the run's inbox, and `migrated` is false.
    """
    turns.take_turns(platform, [run], force=True)  # where it has not begun yet
    planned = plan(platform, run, to, nodes)
    if planned.problems:
        raise _blocked(planned, planned.problems)
    request = identity.new_run()
    with session.transaction(platform.database) as connection:
        standing = reads.status(connection, run)
        assert standing is not None
        graph = graphs.load(connection, run.tenant, planned.to_id)
        event = msg.MigrateRequested(
            at=codec.UNTIMED,
            by=by,
            reason=reason,
            request=request,
            version=planned.to_id,
            pins=submission.pins(connection, run.tenant, graph, planned.to_id),
            nodes=_renamed(nodes),
        )
        inbox.put(connection, [letters.letter(run, event)])
    turns.take_turns(platform, [run], force=True)
    answer = _answer(platform, run, request, after=standing.seq)
    if answer is None:
        return planned
    if answer["kind"] == "NotMigrated":
        raise _blocked(planned, [Problem(**each) for each in answer["body"]["problems"]])
    return replace(planned, migrated=True)


def _answer(
    platform: Platform, run: RunId, request: str, *, after: int
) -> Mapping[str, Any] | None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with session.transaction(platform.database) as connection:
            row = migrations.answer(connection, run, request, after=after)
        if row is not None:
            return {"kind": row.kind, "body": row.body}
        if time.monotonic() >= deadline:
            return None
        time.sleep(_GLANCE)


def _renamed(nodes: Mapping[str, str] | None) -> Mapping[NodeId, NodeId]:
    """Nodes that have another name there; who names one as it is says nothing."""
    return {NodeId(old): NodeId(new) for old, new in (nodes or {}).items() if old != new}


def _state(connection: Connection, run: RunId) -> State:
    """Where a run stands, with all of its live steps and variables."""
    glance = runs.glance(connection, run)
    live = {step.key: step for step in map(states.step, steps.load_all(connection, run))}
    head = reads.run(connection, run)
    assert head is not None
    variables: Mapping[str, Json] = head.variables
    return replace(states.state(glance, live), variables=variables)


def _blocked(planned: Plan, problems: Any) -> Blocked:
    return Blocked(
        problems,
        f"run {planned.run} stays under version {planned.version} of {planned.workflow}: it cannot "
        f"go on under {planned.to} from where it stands",
    )
