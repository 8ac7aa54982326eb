"""A recorded run decided anew: what follows from its events, held against what was decided.

Line by line: an event is folded as it was told, answers of the admission and verdicts of policies
among them, and each command must be the one that `decide` names at that place, to the last field.
Nothing is asked, started or written for it.

A decision that rests on users' data that is gone (shredded, or in a blob that cannot be read)
cannot be compared. It is taken as it was told, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from engine.core import codec, overlays, references
from engine.core import messages as msg
from engine.core.decide import decide
from engine.core.fold import evolve
from engine.core.graph import Graph, Map, Node, NodeId
from engine.core.policy import Policy
from engine.core.records import replace
from engine.core.references import Read, Unread
from engine.core.state import State
from engine.core.transitions import IllegalTransition
from engine.core.undo import PREFIX
from engine.core.values import Json, canonical

#: `different`: something else was decided; `not_decided`: nothing was, where something follows;
#: `unfounded`: something was, where nothing follows; `impossible`: it cannot follow on what is before it.
Kind: TypeAlias = Literal["different", "not_decided", "unfounded", "impossible"]

#: Ends that a run comes to because of what its variables hold.
_OF_DATA = frozenset({"condition_failed", "output_failed", "contradiction"})
#: What a fold or a decision says of lines that do not belong together.
_IMPOSSIBLE = (IllegalTransition, LookupError, AssertionError, overlays.Contradiction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One line of history."""

    seq: int
    at: datetime
    record: msg.Record
    #: Its users' data is there.
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where what was decided is not what follows; both sides as data."""

    kind: Kind
    #: The line; of a decision that was cut off, the one that should be next.
    seq: int
    at: datetime
    step: str | None = None
    node: str | None = None
    recorded: Json = None
    would: Json = None
    #: The fields in which the two are not the same.
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How far a run was decided anew."""

    state: State
    seq: int = 0
    now: datetime = codec.UNTIMED
    #: What must be decided next.
    would: msg.AnyCommand | None = None
    #: Why that cannot be known.
    unread: str = ""
    #: Commands that were compared.
    decisions: int = 0
    #: Lines whose decision was taken as told, each with why.
    untold: tuple[tuple[int, str], ...] = ()
    #: The first line whose users' data is gone.
    shredded: int | None = None
    first: Divergence | None = None


def replayed(
    graph: Graph,
    policy: Policy,
    run: str,
    lines: Iterable[Recorded],
    *,
    read: Read = references.unread,
) -> Replay:
    """Decide a whole record anew."""
    replay = begun(run)
    for line in lines:
        replay = heard(graph, policy, replay, line, read=read)
    return over(graph, replay)


def begun(run: str) -> Replay:
    """Before the first line."""
    return Replay(state=State(run=run))


def heard(
    graph: Graph,
    policy: Policy,
    replay: Replay,
    line: Recorded,
    *,
    then: Graph | None = None,
    read: Read = references.unread,
) -> Replay:
    """One line more. After a divergence nothing is compared: what follows rests on it.

    `then` is the graph that the run goes on under, of a line that says so (`Migrated`).
    """
    if replay.first is not None:
        return replay
    if isinstance(line.record, msg.Event):
        replay = _after_all(graph, replay, at=line.at)
        now = line.at
    else:
        replay = _compared(graph, replay, line)
        now = replay.now
    if replay.first is not None:
        return replay
    if not line.whole and replay.shredded is None:
        replay = replace(replay, shredded=line.seq)
    try:
        state = evolve(replay.state, line.record)
        would, unread = _next(then or graph, policy, state, now, read)
    except _IMPOSSIBLE as error:
        recorded = _told(line.record)
        told = _parting("impossible", line.seq, line.at, line.record, recorded=recorded)
        return replace(replay, first=replace(told, would=f"{type(error).__name__}: {error}"))
    return replace(replay, state=state, seq=line.seq, now=now, would=would, unread=unread)


def over(graph: Graph, replay: Replay) -> Replay:
    """After the last line: nothing may be left to decide."""
    if replay.first is not None:
        return replay
    if _unsure(graph, replay):
        return _untold(replay, replay.seq + 1)
    return _after_all(graph, replay, at=replay.now)


def _next(
    graph: Graph, policy: Policy, state: State, now: datetime, read: Read
) -> tuple[msg.AnyCommand | None, str]:
    try:
        return decide(graph, policy, state, now, read), ""
    except Unread as error:
        return None, str(error)


def _after_all(graph: Graph, replay: Replay, *, at: datetime) -> Replay:
    """Before another event is heard, all that follows from the last one was decided."""
    seq = replay.seq + 1
    if replay.unread:
        told = Divergence(kind="not_decided", seq=seq, at=at, would=replay.unread)
        return replace(replay, first=told)
    if replay.would is None or _unsure(graph, replay):
        return replay
    would = _told(replay.would)
    return replace(
        replay, first=_parting("not_decided", seq, replay.now, replay.would, would=would)
    )


def _unsure(graph: Graph, replay: Replay) -> bool:
    """Whether what would be decided next may only seem to follow, for data that is gone."""
    return (
        replay.shredded is not None
        and replay.would is not None
        and _rests_on_data(graph, replay.would)
    )


def _compared(graph: Graph, replay: Replay, line: Recorded) -> Replay:
    """A recorded decision beside the one that follows."""
    if replay.unread:
        return replace(replay, untold=(*replay.untold, (line.seq, replay.unread)))
    recorded = _told(line.record)
    would = None if replay.would is None else _told(replay.would)
    differs = _differing(recorded, would or {})
    if line.at != replay.now:
        differs = (*differs, "at")
    if not differs:
        return replace(replay, decisions=replay.decisions + 1)
    told_of_data = replay.shredded is not None and _rests_on_data(graph, line.record)
    if told_of_data or _unsure(graph, replay):
        return _untold(replay, line.seq)
    if would is None:
        told = _parting("unfounded", line.seq, line.at, line.record, recorded=recorded)
    else:
        told = _parting("different", line.seq, line.at, line.record, recorded=recorded, would=would)
        told = replace(told, differs=differs)
    return replace(replay, first=told)


def _untold(replay: Replay, seq: int) -> Replay:
    why = f"users' data of line {replay.shredded} is shredded"
    return replace(replay, untold=(*replay.untold, (seq, why)))


def _rests_on_data(graph: Graph, record: msg.Record) -> bool:
    """Whether a decision may be another one if variables or results hold something else."""
    if graph.listing is not None:
        return True
    match record:
        case msg.TakeEdges(step=key, taken=taken, untaken=untaken):
            node = _find(graph, key)
            conditions = [*(edge.when for edge in taken), *(edge.when for edge in untaken)]
            ruled = node is not None and bool(node.rules)
            return ruled or any(when is not None for when in conditions)
        case msg.FinishRun(reason=reason) | msg.BeginUndo(reason=reason):
            return reason in _OF_DATA
        case msg.GatherItems(step=key) | msg.FailStep(step=key) | msg.RequestStart(of=str(key)):
            node = _find(graph, key)
            wait = None if node is None else node.wait
            return isinstance(wait, Map) and wait.enough is not None
        case _:
            return False


def _parting(
    kind: Kind,
    seq: int,
    at: datetime,
    record: msg.Record,
    *,
    recorded: Json = None,
    would: Json = None,
) -> Divergence:
    step = getattr(record, "step", None)
    node = getattr(record, "node", None) or (None if step is None else _node_of(step))
    return Divergence(
        kind=kind, seq=seq, at=at, step=step, node=node, recorded=recorded, would=would
    )


def _told(record: msg.Record) -> dict[str, Json]:
    """A record as history shows it, without users' data."""
    written = codec.write(record)
    return {"kind": written.kind, **written.body}


def _differing(one: Mapping[str, Json], other: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(
        name
        for name in sorted({*one, *other})
        if name not in one or name not in other or canonical(one[name]) != canonical(other[name])
    )


def _find(graph: Graph, step: str) -> Node | None:
    try:
        return graph.node(NodeId(_node_of(step)))
    except KeyError:
        return None


def _node_of(step: str) -> str:
    """The node of a step, of the step that another undoes, or of an item's map."""
    return step.removeprefix(PREFIX).rpartition("#")[0]
