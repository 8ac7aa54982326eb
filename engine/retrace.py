"""Recorded runs led through another graph: the same events, other decisions, and nothing carried out.

What a step reported is taken for what the step of that node and iteration would report in the other
graph. The events come in the order in which they came, each as soon as its step is there to hear
it; what the coordinator itself works out (waits, items, what a result leaves) is worked out anew.

It ends where the other graph ends the run, or where it asks for something that was never done.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Literal, Protocol, TypeAlias, TypeGuard

from engine import documents, waiting
from engine.core import codec, remembered
from engine.core import messages as msg
from engine.core.decide import advance, outputs
from engine.core.fold import evolve
from engine.core.graph import Graph, Map, Node, NodeId
from engine.core.policy import Policy
from engine.core.references import CONDITION_BYTES, Readable
from engine.core.state import State, Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Inline, Json, Ref, canonical, digest, marked, plain
from engine.waiting import Overflowing, Unfit

#: What can be different: its `inputs` do not fit; a step (`step`), an attempt of one (`attempt`) or
#: an item (`items`) is asked for that was never done; a step leaves by other `edges`; the run comes
#: to another `end`, or with other `variables` to the same.
Kind: TypeAlias = Literal["inputs", "step", "attempt", "items", "edges", "end", "variables"]

_ADMISSIONS = msg.Admitted | msg.Refused | msg.Deferred | msg.Parked
#: What the coordinator works out: it is worked out anew.
_OWN = msg.Opened | msg.NotOpened | msg.Saved | msg.NotSaved
#: Heard wherever a step stands.
_SKIP = msg.SkipRequested
_CONTROLS = (
    msg.CancelRequested
    | msg.TerminateRequested
    | msg.PauseRequested
    | msg.ResumeRequested
    | msg.Ticked
)
#: What is told where a run is led otherwise: what is led through one version stays under that.
_ELSEWHERE = (
    msg.Governed
    | msg.Forked
    | msg.RollbackRequested
    | msg.MigrateRequested
    | msg.Migrated
    | msg.NotMigrated
    | msg.Command
)
#: Gives an event, and takes it from where it waits.
_Give: TypeAlias = Callable[[], msg.AnyEvent]
_ASLEEP = (StepStatus.RETRYING, StepStatus.DEFERRED)


class Reader(Protocol):
    """Reads values that lie elsewhere."""

    def __call__(self, ref: Ref) -> Json:
        """The value that a reference stands for."""
        ...

    def whole(self, value: Json) -> Json:
        """A value, wherever it lies."""
        ...

    def know(self, ref: Ref, value: Json) -> None:
        """Take a value for what a reference stands for."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where the other graph parts from the record; both sides as data, without users' values."""

    kind: Kind
    at: datetime
    step: str | None = None
    recorded: Json = None
    would: Json = None

    def as_json(self) -> dict[str, Json]:
        """It as data."""
        return {
            "kind": self.kind,
            "at": self.at.isoformat(),
            "step": self.step,
            "recorded": self.recorded,
            "would": self.would,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraced:
    """What became of a run in the other graph."""

    #: None: it comes to no end, for the record does not reach so far.
    status: RunStatus | None
    reason: str | None
    first: Parting | None
    #: Whether every step leaves by the edges that it left by, and no other step is asked for.
    same_path: bool
    same_end: bool
    #: Steps and attempts that were admitted.
    made: frozenset[tuple[str, int]]
    #: Steps that are asked for, and have no recorded result.
    missing: tuple[str, ...]
    #: Nodes that stand for other work in the other graph, and whose recorded results were taken.
    changed: tuple[str, ...]
    #: What the other graph decides until it parts from the record: so many commands.
    decisions: int


def retrace(
    graph: Graph,
    other: Graph,
    run: str,
    lines: Sequence[msg.Entry],
    *,
    policy: Policy,
    read: Reader,
) -> Retraced:
    """Lead a recorded run of one graph through another. What `read` raises is passed on."""
    return _Retrace(graph, other, run, lines, policy=policy, read=read).done()


def works_alike(one: Node, other: Node) -> bool:
    """Whether two nodes stand for the same work, as far as their document tells."""
    return _work(one) == _work(other)


def _work(node: Node) -> tuple[object, ...]:
    return (node.kind, node.uses, node.called, node.choose, node.inputs, node.wait, node.output)


@dataclass(slots=True, kw_only=True)
class _Undone:
    """When it was answered what is to be undone next, and how often that was asked."""

    #: The line of each answer, and its time.
    answers: deque[tuple[int, datetime]] = field(default_factory=deque)
    asked: int = 0

    def due(self) -> float:
        """When the next answer came: never, or at once if it was not asked."""
        if self.answers:
            return self.answers[0][0]
        return math.inf if self.asked > 0 else 0

    def answered(self) -> datetime | None:
        """Take note of an answer; the time of the one that came then."""
        self.asked -= 1
        return self.answers.popleft()[1] if self.answers else None


@dataclass(slots=True, kw_only=True)
class _Told:
    """What the record tells."""

    submitted: msg.RunSubmitted | None = None
    #: By step, what was said of it, each with its line.
    events: dict[str, deque[tuple[int, msg.AnyEvent]]] = field(default_factory=dict)
    controls: deque[tuple[int, msg.AnyEvent]] = field(default_factory=deque)
    asked: set[str] = field(default_factory=set)
    #: Attempts that were asked for.
    attempts: set[tuple[str, int]] = field(default_factory=set)
    #: Steps of which the coordinator asked for a wait, or for what they leave.
    opens: set[str] = field(default_factory=set)
    saves: set[str] = field(default_factory=set)
    undone: _Undone = field(default_factory=_Undone)
    taken: dict[str, msg.TakeEdges] = field(default_factory=dict)
    items: dict[str, int | None] = field(default_factory=dict)
    finish: msg.FinishRun | None = None


class _Retrace:
    def __init__(
        self,
        graph: Graph,
        other: Graph,
        run: str,
        lines: Sequence[msg.Entry],
        *,
        policy: Policy,
        read: Reader,
    ) -> None:
        self._graph, self._other = graph, other
        self._policy, self._read = policy, read
        self._told = _told(lines)
        self._lines = lines
        self._state = State(run=run)
        self._entries: list[msg.Entry] = []
        self._now = lines[0].at if lines else codec.UNTIMED
        #: The last line that was heard in the order of the record.
        self._heard: float = 0
        #: Steps that have been live.
        self._met: set[str] = set()
        self._first: Parting | None = None
        self._same_path = True
        #: Variables may hold something else by now.
        self._apart = False
        self._made: set[tuple[str, int]] = set()
        self._missing: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._finish: msg.FinishRun | None = None
        self._decisions = 0

    def done(self) -> Retraced:
        """Go as far as the record reaches."""
        submitted = self._told.submitted
        if submitted is not None and (event := self._submission(submitted)) is not None:
            self._feed(1, event)
            self._go()
        ended = self._state.ending if self._state.terminal else None
        recorded = self._told.finish
        if ended is not None and recorded is not None:
            self._compare_end(recorded)
        if ended is None and recorded is not None:
            # They wait for what never came, or for what is missing.
            self._missing = self._missing or dict.fromkeys(self._state.steps)
            waiting_at = next(iter(self._missing), None)
            self._part("end", waiting_at, _ended(recorded), None)
        if recorded is None and ended is not None:
            self._part("end", None, None, {"status": ended.status, "reason": ended.reason})
        same_end = (ended is None and recorded is None and not self._missing) or (
            ended is not None
            and recorded is not None
            and (ended.status, ended.reason) == (recorded.status, recorded.reason)
        )
        return Retraced(
            status=None if ended is None else ended.status,
            reason=None if ended is None else ended.reason,
            first=self._first,
            same_path=self._same_path,
            same_end=same_end,
            made=frozenset(self._made),
            missing=tuple(self._missing),
            changed=tuple(self._changed),
            decisions=self._decisions,
        )

    # --- events -------------------------------------------------------------------------------

    def _go(self) -> None:
        while not self._state.terminal and (following := self._following()) is not None:
            self._feed(*following)

    def _feed(self, seq: float, event: msg.AnyEvent) -> None:
        # As they came, times may go back with the clock. What had to wait to be heard is heard now.
        came = self._heard < seq < math.inf
        self._now = event.at if came else max(self._now, event.at)
        self._heard = seq if came else self._heard
        event = replace(event, at=self._now)
        self._met |= self._state.steps.keys()
        turn = advance(self._other, self._policy, self._state, [event], read=self._read)
        self._state = turn.state
        for entry in turn.entries:
            self._entries.append(entry)
            self._decisions += self._first is None and isinstance(entry.record, msg.Command)
            self._compare(entry.record)

    def _following(self) -> tuple[float, msg.AnyEvent] | None:
        """What comes next, and its line: what came first of all that somebody is there to hear.

        What the coordinator answers comes when it came then, for a turn hears all that has come
        before it answers anything.
        """
        steps = self._state.steps.values()
        offers = [offer for step in steps if (offer := self._offer(step)) is not None]
        undoing = self._state.undoing
        if undoing is not None and undoing.asked:
            before = undoing.before
            offers.append((self._told.undone.due(), lambda: self._undo(before)))
        if self._told.controls:
            controls = self._told.controls
            offers.append((controls[0][0], lambda: controls.popleft()[1]))
        offers += self._unheard()
        if not offers:
            return None
        seq, give = min(offers, key=lambda offer: offer[0])
        return seq, give()

    def _unheard(self) -> list[tuple[float, _Give]]:
        """What came for steps that were gone by then."""
        gone = self._met - self._state.steps.keys()
        late = [events for key in gone if (events := self._told.events.get(key))]
        return [(events[0][0], partial(self._late, events)) for events in late]

    def _late(self, events: deque[tuple[int, msg.AnyEvent]]) -> msg.AnyEvent:
        """What nobody hears more of than the time, unless it says that something was done.

        That is to be undone although it came late. Where a step is gone here alone, what it did would have
        been refused.
        """
        event = events.popleft()[1]
        return event if self._first is None and _is_done(event) else msg.Ticked(at=event.at)

    def _offer(self, step: Step) -> tuple[float, _Give] | None:
        """What there is for a step to hear, and when it came."""
        match step.status:
            case StepStatus.REQUESTED:
                return self._admission(step)
            case StepStatus.OPENING:
                return self._own(step, self._told.opens, lambda: self._opened(step))
            case StepStatus.SAVING:
                return self._own(step, self._told.saves, lambda: self._saved(step))
            case _:
                pass
        events = self._told.events.get(step.key, deque())
        while events:
            seq, event = events[0]
            if isinstance(event, _ADMISSIONS):
                if step.status in _ASLEEP:
                    if self._state.status is not RunStatus.RUNNING:
                        return None
                    # It came at once then, and has to be waited for now.
                    return seq, partial(msg.Woke, at=event.at, step=step.key)
                events.popleft()
            elif isinstance(event, _OWN):
                events.popleft()
            else:
                return seq, lambda: self._as_here(events.popleft()[1])
        return None

    def _own(self, step: Step, asked: set[str], answer: _Give) -> tuple[float, _Give]:
        """The coordinator's own answer, as it came: never, or at once if it was not asked."""
        events = self._told.events.get(step.key, deque())
        if step.key in asked and any(isinstance(event, _OWN | _SKIP) for _, event in events):
            while not isinstance(events[0][1], _OWN | _SKIP):
                # A step that waits for that answer hears of nothing else.
                events.popleft()
        if events and isinstance(events[0][1], _SKIP):
            return events[0][0], lambda: events.popleft()[1]
        if events and isinstance(events[0][1], _OWN):
            return events[0][0], answer
        return (math.inf if step.key in asked else 0), answer

    def _as_here(self, event: msg.AnyEvent) -> msg.AnyEvent:
        """An event as the other graph hears it."""
        if not _is_done(event) or (step := self._state.steps.get(event.step)) is None:
            return event
        if isinstance(event, msg.WaitEnded):
            self._note(step)
        elif step.attempt == event.attempt:
            return self._left(step, event)
        return event

    def _left(
        self, step: Step, event: msg.AttemptSucceeded | msg.AttemptWithheld
    ) -> msg.AttemptSucceeded | msg.AttemptWithheld | msg.AttemptFailed:
        """A report, with what its result leaves by the other graph; or would, if it is withheld."""
        self._note(step)
        before, node = self._before(step.node), self._other.node(step.node)
        same = before is not None and before.save == node.save and not self._apart
        if before is None:
            self._apart = True
        if same or step.of is not None or before is None:
            # Where nothing is different yet, it leaves what it left.
            return event
        if not node.save and not before.save:
            return event
        if not node.save:
            # What its code has set itself was not kept: the `save` of that time stood for it.
            self._apart = True
            return _leaving(event, {})
        result: Json = event.result.value if isinstance(event.result, Inline) else None
        names = waiting.scope_of(self._state, step, result, read=self._read)
        if not isinstance(event.result, Inline):
            names["result"] = plain(event.result)
        try:
            scope = Readable(names, self._read, limit=CONDITION_BYTES)
            found = waiting.patch(self._other, node, scope)
            waiting.check(self._other, node, found)
        except Unfit as unfit:
            return msg.AttemptFailed(
                at=event.at,
                step=event.step,
                attempt=event.attempt,
                fence=event.fence,
                reason=unfit.reason,
                message=unfit.message,
                terminal=True,
                usage=event.usage,
            )
        if isinstance(event, msg.AttemptSucceeded):
            self._apart = self._apart or digest(found) != digest(dict(event.patch))
        return _leaving(event, found)

    def _note(self, step: Step) -> None:
        """Take note of a result that other work has left."""
        before = self._before(step.node)
        if before is None or not works_alike(before, self._other.node(step.node)):
            self._changed[step.node] = None

    def _before(self, node: NodeId) -> Node | None:
        try:
            return self._graph.node(node)
        except KeyError:
            return None

    def _submission(self, submitted: msg.RunSubmitted) -> msg.RunSubmitted | None:
        """The submission as one of the other graph; None where its inputs do not fit."""
        usual = {**self._graph.variables, **documents.with_defaults(self._graph, {})}
        given = {
            name: value
            for name, value in submitted.inputs.items()
            if name not in usual or value != usual[name]
        }
        whole = {name: self._read.whole(value) for name, value in given.items()}
        if problems := documents.input_problems(self._other, whole):
            told: list[Json] = [f"{one.path}: {one.message}" for one in problems[:_MOST]]
            self._now = submitted.at
            self._part("inputs", None, None, told)
            return None
        inputs = {**self._other.variables, **documents.with_defaults(self._other, given)}
        self._apart = digest(inputs) != digest(dict(submitted.inputs))
        return replace(
            submitted,
            inputs=inputs,
            reducers=remembered.reducers(self._other),
            shared=tuple(sorted(self._other.shared)),
        )

    # --- what the coordinator is asked --------------------------------------------------------

    def _admission(self, step: Step) -> tuple[float, _Give] | None:
        """What was answered to a request then; None: nothing was, or it was never made."""
        if step.key in self._missing:
            return None
        events = self._told.events.get(step.key, deque())
        while events:
            seq, event = events[0]
            # What was said of the request comes first: the run may have been cut off by it. Or somebody
            # let the step count as done before it was answered.
            if isinstance(event, msg.Judged | _SKIP | _ADMISSIONS):
                return seq, lambda: self._admitted(step, events.popleft()[1])
            events.popleft()
        if (step.key, step.attempt) not in self._told.attempts:
            self._missing[step.key] = None
            if step.key in self._told.asked:
                self._part("attempt", step.key, None, {"attempt": step.attempt})
        return None

    def _admitted(self, step: Step, event: msg.AnyEvent) -> msg.AnyEvent:
        if isinstance(event, msg.Admitted):
            self._made.add((step.key, step.attempt))
            if self._other.node(step.node).lock is None:
                return replace(event, lock=None, kept_until=None)
        return event

    def _opened(self, step: Step) -> msg.AnyEvent:
        """Set up a wait: what was waited for then comes again, but for items."""
        node, events = self._other.node(step.node), self._told.events.get(step.key, deque())
        kept = events.popleft()[1] if events and isinstance(events[0][1], _OWN) else None
        # An answer has a time of its own: that of the turn, whatever clocks said to who was heard in it.
        now = self._now if kept is None else kept.at
        before = self._before(step.node)
        if isinstance(node.wait, Map):
            names = waiting.scope_of(self._state, step, read=self._read)
            scope = Readable(names, self._read, limit=CONDITION_BYTES)
            try:
                count = len(waiting.items(node, node.wait, scope))
            except Unfit as unfit:
                return msg.NotOpened(
                    at=now, step=step.key, reason=unfit.reason, message=unfit.message
                )
            told = self._told.items.get(step.key)
            if told != count:
                self._part("items", step.key, told, count)
            return msg.Opened(at=now, step=step.key, items=count)
        if isinstance(kept, msg.Opened) or (
            isinstance(kept, msg.NotOpened) and before is not None and before.wait == node.wait
        ):
            return kept
        return msg.Opened(at=now, step=step.key)

    def _saved(self, step: Step) -> msg.Saved | msg.NotSaved:
        events = self._told.events.get(step.key)
        now = self._now
        if events and isinstance(events[0][1], _OWN):
            now = events.popleft()[1].at
        before = self._before(step.node)
        if before is None or before.save != self._other.node(step.node).save:
            self._apart = True
        kept: dict[str, Json] = {}
        while True:
            try:
                return waiting.saved(
                    self._other, self._state, step, now, read=self._read, kept=kept
                )
            except Overflowing as overflowing:
                # They would be kept as blobs; a name by which they are known is all that it takes.
                for value in overflowing.values:
                    ref = Ref(sha256=digest(value), size=len(canonical(value).encode()))
                    self._read.know(ref, value)
                    kept[ref.sha256] = plain(ref)

    def _undo(self, before: int | None) -> msg.UndoFound | msg.NothingToUndo:
        """The last thing done, in what has come of it here, that has a handler."""
        now = self._told.undone.answered() or self._now
        nodes = {node.id for node in self._other.nodes.values() if node.compensate}
        last = len(self._entries) + 1 if before is None else before
        seen: set[msg.StepKey] = set()
        for seq in range(len(self._entries), 0, -1):
            record = self._entries[seq - 1].record
            # A step was done where it was done last.
            if _is_done(record) and record.step not in seen:
                seen.add(record.step)
                node, _, iteration = record.step.rpartition("#")
                if seq < last and node in nodes and iteration.isdigit():
                    return msg.UndoFound(at=now, step=record.step, node=NodeId(node), seq=seq)
        return msg.NothingToUndo(at=now)

    # --- comparing ----------------------------------------------------------------------------

    def _compare(self, record: msg.Record) -> None:
        match record:
            case msg.RequestStart(step=key, attempt=1) | msg.PassNode(step=key):
                if key not in self._told.asked:
                    self._same_path = False
                    self._part("step", key, None, {"node": record.node})
                    if isinstance(record, msg.RequestStart):
                        self._missing[key] = None
            case msg.TakeEdges(step=key):
                told = self._told.taken.get(key)
                if told is None or _ways(told) != _ways(record):
                    self._same_path = False
                    self._part("edges", key, None if told is None else _left(told), _left(record))
            case msg.FinishRun():
                self._finish = record
                told_end = self._told.finish
                if told_end is not None and _end(told_end) != _end(record):
                    self._part("end", record.step, _ended(told_end), _ended(record))
            case _:
                pass

    def _compare_end(self, recorded: msg.FinishRun) -> None:
        """Whether the same variables and outputs are left."""
        finish = self._finish
        if finish is None or _end(finish) != _end(recorded):
            return
        ended = _folded(self._state.run, self._lines)
        one, other = remembered.visible(ended.variables), remembered.visible(self._state.variables)
        differ = _differing(one, other)
        if self._state.status is RunStatus.COMPLETED and not differ:
            gave = outputs(self._graph, ended.run, ended.variables, self._read)
            gives = outputs(self._other, ended.run, self._state.variables, self._read)
            differ = [f"outputs.{name}" for name in _differing(gave, gives)]
        if differ:
            names: list[Json] = [*differ[:_MOST]]
            self._part("variables", None, None, names)

    def _part(self, kind: Kind, step: str | None, recorded: Json, would: Json) -> None:
        self._apart = True
        self._first = self._first or Parting(
            kind=kind, at=self._now, step=step, recorded=recorded, would=would
        )


#: Names and problems that are told of one parting.
_MOST = 20


def _told(lines: Sequence[msg.Entry]) -> _Told:
    found = _Told()
    for seq, entry in enumerate(lines, start=1):
        record = entry.record
        match record:
            case msg.RunSubmitted():
                found.submitted = record
            case msg.RequestStart(step=key, attempt=attempt):
                found.asked.add(key)
                found.attempts.add((key, attempt))
            case msg.PassNode(step=key):
                found.asked.add(key)
            case msg.TakeEdges(step=key):
                found.taken[key] = record
            case msg.FinishRun():
                found.finish = record
            case msg.OpenWait(step=key):
                found.opens.add(key)
            case msg.SaveResult(step=key):
                found.saves.add(key)
            case msg.FindUndo():
                found.undone.asked += 1
            case msg.UndoFound() | msg.NothingToUndo():
                found.undone.answers.append((seq, record.at))
            case _ if isinstance(record, _ELSEWHERE):
                pass
            case _ if isinstance(record, _CONTROLS):
                found.controls.append((seq, record))
            case msg.Opened(step=key, items=items):
                found.items[key] = items
                found.events.setdefault(key, deque()).append((seq, record))
            case _:
                found.events.setdefault(record.step, deque()).append((seq, record))
    return found


def _is_done(
    record: msg.Record,
) -> TypeGuard[msg.AttemptSucceeded | msg.AttemptWithheld | msg.WaitEnded]:
    """Whether something was done there: what people allow is yet to be."""
    if isinstance(record, msg.WaitEnded):
        return not record.permit
    return isinstance(record, msg.AttemptSucceeded | msg.AttemptWithheld)


def _leaving(
    event: msg.AttemptSucceeded | msg.AttemptWithheld, patch: Mapping[str, Json]
) -> msg.AttemptSucceeded | msg.AttemptWithheld:
    """A report that leaves just that; what is withheld leaves nothing yet."""
    if isinstance(event, msg.AttemptWithheld):
        return event
    return replace(event, patch=patch, removed=())


def _folded(run: str, lines: Sequence[msg.Entry]) -> State:
    state = State(run=run)
    for line in lines:
        state = evolve(state, line.record)
    return state


def _ways(record: msg.TakeEdges) -> tuple[msg.Choice, tuple[NodeId, ...]]:
    return record.choice, tuple(taken.target for taken in record.taken)


def _left(record: msg.TakeEdges) -> Json:
    choice: Json = [*record.choice] if isinstance(record.choice, tuple) else record.choice
    return {"choice": choice, "to": [taken.target for taken in record.taken]}


def _end(record: msg.FinishRun) -> tuple[RunStatus, str]:
    return record.status, record.reason


def _ended(record: msg.FinishRun) -> Json:
    return {"status": record.status, "reason": record.reason}


def _differing(one: Mapping[str, Json], other: Mapping[str, Json]) -> list[str]:
    return [
        name
        for name in sorted({*one, *other})
        if name not in one or name not in other or _same(one[name]) != _same(other[name])
    ]


def _same(value: Json) -> str:
    """By what two values are the same, wherever they lie."""
    ref = marked(value)
    return digest(value) if ref is None else ref.sha256
