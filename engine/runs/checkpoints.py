"""Places in runs: looked at, held against each other, named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from engine.core import difference
from engine.core.difference import Difference
from engine.core.state import State
from engine.errors import Conflict, NotFound
from engine.platform import Platform
from engine.runs import acts, graphs, naming, views
from engine.runs.naming import Named
from engine.store import checkpoints, reads, session
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A run just after a line of its history."""

    seq: int
    name: str | None
    named_by: str | None
    #: Large variables are shown as they are.
    state: State
    #: Since which other line what has changed; None: it was not held against another.
    against: int | None = None
    difference: Difference | None = None

    @property
    def spent(self) -> Mapping[str, float]:
        """What its attempts had used up to there."""
        return self.state.spent


def at(platform: Platform, run: RunId, seq: int, *, against: int | None = None) -> Place:
    """A run as it was at a line, and how that differs from another line. Raises `NotFound`."""
    state = views.state_at(platform, run, seq)
    with reads.reading(platform.database) as connection:
        named = checkpoints.named(connection, run, seq) or _by_its_node(connection, run, seq)
    shown = replace(state, variables=views.whole(platform, run, state.variables))
    place = Place(
        seq=seq,
        name=named.name if named else None,
        named_by=named.named_by if named else None,
        state=shown,
    )
    if against is None:
        return place
    # Large variables are compared, and shown, as references: the same value has the same.
    found = difference.between(views.state_at(platform, run, against), state)
    return replace(place, against=against, difference=found)


def name(platform: Platform, run: RunId, seq: int, name: str, *, by: str) -> Place:
    """Give a place of a run a name, instead of the one that it has.

    Raises `NotFound`, and `Conflict` when another place of the run has that name, a node of its workflow
    gives it, or the run was recorded elsewhere.
    """
    head = views.summary(platform, run)
    if head.imported is not None:
        raise Conflict(f"run {run.run} was recorded elsewhere and is read-only")
    with reads.reading(platform.database) as connection:
        giver = naming.giver(graphs.load(connection, run.tenant, head.version_id), name)
    if giver is not None:
        raise Conflict(
            f"node {giver} gives the name {name!r} in each of its laps; name this another"
        )
    place = at(platform, run, seq)
    if seq == 0:
        raise NotFound(f"run {run.run} has no line 0")
    with session.transaction(platform.database) as connection:
        checkpoints.lock(connection, run)
        other = checkpoints.called(connection, run, name)
        if other not in (None, seq):
            raise Conflict(f"line {other} of run {run.run} is called {name!r}; name this another")
        was = checkpoints.named(connection, run, seq)
        checkpoints.call(connection, run, seq, name, by=by)
        acts.record(
            connection,
            run.tenant,
            by=by,
            action="checkpoint.name",
            subject=f"run:{run.run}",
            detail={"seq": seq, "name": name, "was": was.name if was else None},
        )
    return replace(place, name=name, named_by=by)


def _by_its_node(connection: Connection, run: RunId, seq: int) -> Named | None:
    """What the node of the step calls a place that is settled there."""
    step = reads.settled_at(connection, run, seq)
    head = None if step is None else reads.summary(connection, run)
    if step is None or head is None:
        return None
    graph = graphs.load(connection, run.tenant, str(head.version_id))
    return naming.names(connection, run, graph, [step]).get(step)
