"""What a turn makes of a request that its run go on under another version of its workflow.

It looks once more whether the run can (`core.migration`), by where it stands when everything that was
reported before is settled. The answer is a line of history either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from engine.core import messages as msg
from engine.core import migration
from engine.core.graph import Graph, NodeId
from engine.core.problem import Problem
from engine.core.state import State, Step
from engine.core.values import Json
from engine.runs import graphs, items
from engine.runs.children import Parent
from engine.runs.hearing import Letter
from engine.store import calls, choices, migrations, resting, undone
from engine.store.ids import RunId

#: Obstacles that history keeps of one request.
_TOLD = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The answer to a request, and under what the run goes on."""

    answer: msg.Migrated | msg.NotMigrated
    graph: Graph
    parent: Parent
    #: The line of history that says so, and what was pinned before.
    seq: int = 0
    was_pins: Mapping[str, Json]


def parts(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    """What a turn hears together: a request is heard by itself, when all before it is settled."""
    part: list[Letter] = []
    for letter in letters:
        if isinstance(letter.event, msg.MigrateRequested):
            if part:
                yield part
            yield [letter]
            part = []
        else:
            part.append(letter)
    if part:
        yield part


def answered(
    connection: Connection,
    graph: Graph,
    state: State,
    request: msg.MigrateRequested,
    *,
    parent: Parent,
    was: str,
) -> Moved:
    """The answer to a request, by where its run stands in the turn."""
    other = graphs.load(connection, parent.run.tenant, request.version)
    same = was == request.version
    # Nobody begins to undo something of it now.
    resting.rest(connection, [parent.run])
    if problems := (
        *migration.obstacles(graph, other, state, request.nodes, same=same),
        *undone_since(connection, parent.run, other),
    ):
        answer = msg.NotMigrated(
            at=request.at,
            request=request.request,
            version=request.version,
            problems=tuple(
                {"path": each.path, "message": each.message, "remedy": each.remedy}
                for each in problems[:_TOLD]
            ),
        )
        return Moved(answer=answer, graph=graph, parent=parent, was_pins=parent.pins)
    return Moved(
        answer=migration.migrated(graph, other, state, request, was=was),
        graph=other,
        parent=replace(parent, pins=request.pins),
        was_pins=parent.pins,
    )


def undone_since(connection: Connection, run: RunId, other: Graph) -> Iterator[Problem]:
    """What keeps a run from another graph besides: a handler would undo once more what is undone behind the run."""
    handled = {node.id for node in other.nodes.values() if node.compensate}
    for step in undone.behind(connection, run, never=calls.NEVER_MADE) if handled else ():
        if items.node_of(step) in handled:
            yield Problem(
                path=f"nodes.{items.node_of(step)}",
                message=f"calls of step {step} are undone, and a handler would undo it once more",
                remedy="name no handler there",
            )


def write(
    connection: Connection, run: RunId, moved: Iterable[Moved], steps: Iterable[Step]
) -> None:
    """Write that a run is under another version, and where its live steps stand there."""
    renamed: set[NodeId] = set()
    for one in moved:
        assert isinstance(one.answer, msg.Migrated)
        version, was = one.answer.version, one.answer.was
        migrations.put(connection, run, one.seq, version=version, was=was, was_pins=one.was_pins)
        migrations.move(connection, run, version, one.answer.pins)
        if one.answer.nodes:
            choices.rename(connection, run, one.answer.nodes, since=one.seq)
        renamed |= set(one.answer.nodes.values())
    migrations.rename(
        connection,
        run,
        [
            (step.key, step.node, step.visits, step.holds)
            for step in steps
            if step.node in renamed or step.visits or step.holds
        ],
    )
