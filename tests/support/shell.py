"""The coordinator's shell in memory: rows apart from the head, and answers to what the core asks.

A turn holds what a real one holds: the head, as it is stored, the steps that its events name and
the maps. What it makes of the rows is what the statements of the store make of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from engine.core import codec
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.fold import evolve
from engine.core.graph import Asked, Awaited, Child, Graph, Map, Node, NodeId
from engine.core.policy import DEFAULT
from engine.core.scopes import around
from engine.core.state import State, Step
from engine.core.transitions import StepStatus
from engine.core.undo import undo_key
from engine.core.values import Json, plain
from engine.runs import states
from tests.support.play import at, submitted

#: Where a step may stand between turns.
RESTING = frozenset(
    {StepStatus.DEFERRED, StepStatus.WAITING, StepStatus.READY, StepStatus.RETRYING}
)
#: Seconds that a timer takes here, and after which a lock is asked for again.
TIMER, AGAIN = 10, 60

Answer = (
    msg.Admitted
    | msg.Deferred
    | msg.Opened
    | msg.NotOpened
    | msg.Saved
    | msg.NotSaved
    | msg.UndoFound
    | msg.NothingToUndo
)


class Shell:
    """One run. `narrow`: a turn holds no more than it must; `broken`: nodes that cannot wait."""

    def __init__(
        self, template: Graph, *, narrow: bool = True, broken: Collection[str] = ()
    ) -> None:
        self.template = template
        self.narrow = narrow
        self.broken = broken
        self.head = State(run="r1")
        self.rows: dict[msg.StepKey, Step] = {}
        self.locks: set[str] = set()
        self.history: list[msg.Entry] = []
        self._now = at(0)

    @property
    def state(self) -> State:
        """The whole of it."""
        return replace(self.head, steps=self.rows)

    def tell(self, *events: msg.AnyEvent) -> list[msg.Record]:
        """Take a turn; what it came to."""
        named = {getattr(event, "step", None) for event in events} | set(self.head.maps)
        loaded = {k: s for k, s in self.rows.items() if not self.narrow or k in named}
        before = replace(self.head, steps=loaded)
        turn = advance(self.template, DEFAULT, before, events)
        entries = [*turn.entries]
        while found := [*self._answers(turn.state, entries)]:
            turn = advance(self.template, DEFAULT, turn.state, found)
            entries += turn.entries
        self._write(before, turn.state, entries)
        self.history += entries
        return [entry.record for entry in entries]

    def _answers(self, state: State, entries: list[msg.Entry]) -> Iterator[Answer]:
        now = self._now = entries[-1].at
        for key in sorted(state.steps):
            step = state.steps[key]
            node = self.template.node(step.node)
            match step.status:
                case StepStatus.REQUESTED:
                    yield self._admitted(state, step, node)
                case StepStatus.OPENING if step.node in self.broken:
                    yield msg.NotOpened(at=now, step=key, reason="input_failed", message="broken")
                case StepStatus.OPENING:
                    yield self._opened(state, step, node)
                case StepStatus.SAVING:
                    yield self._saved(state, step, node)
                case _:
                    pass
        if state.undoing is not None and state.undoing.asked:
            yield self._undo(entries, state.undoing.before)

    def _admitted(self, state: State, step: Step, node: Node) -> msg.Admitted | msg.Deferred:
        now = self._now
        if node.lock is None:
            return msg.Admitted(at=now, step=step.key)
        name = str(node.lock.name.evaluate(state.view(step.thread)))
        if any(held == name for held, _ in step.holds):
            return msg.Admitted(at=now, step=step.key)
        if name in self.locks:
            until = now + timedelta(seconds=AGAIN)
            return msg.Deferred(at=now, step=step.key, rule="lock", until=until, lock=name)
        self.locks.add(name)
        return msg.Admitted(at=now, step=step.key, lock=name, kept_until=node.lock.until)

    def _opened(self, state: State, step: Step, node: Node) -> msg.Opened:
        opened = msg.Opened(at=self._now, step=step.key)
        match node.wait:
            case Awaited(expires=expires) | Asked(expires=expires) | Child(expires=expires):
                until = None if expires is None else self._now + timedelta(seconds=expires)
                return replace(opened, until=until)
            case Map(over=over):
                found = over.evaluate(state.view(step.thread))
                assert isinstance(found, list)
                return replace(opened, items=len(found))
            case _:
                return replace(opened, until=self._now + timedelta(seconds=TIMER))

    def _saved(self, state: State, step: Step, node: Node) -> msg.Saved | msg.NotSaved:
        result: Json = None if step.result is None else plain(step.result)
        if result == "unfit":
            return msg.NotSaved(at=self._now, step=step.key, reason="save_failed", message="unfit")
        scope = {**state.view(step.thread), "result": result}
        patch = {name: template.evaluate(scope) for name, template in node.save.items()}
        return msg.Saved(at=self._now, step=step.key, patch=patch)

    def _undo(
        self, entries: list[msg.Entry], before: int | None
    ) -> msg.UndoFound | msg.NothingToUndo:
        told = [*self.history, *entries][: None if before is None else before - 1]
        # Reports come doubled here; the store accepts one result of a step, so that one is found.
        begun = {e.record.step for e in self.history if isinstance(e.record, msg.RequestStart)}
        for place in range(len(told), 0, -1):
            record = told[place - 1].record
            if isinstance(record, msg.AttemptSucceeded | msg.WaitEnded):
                name, _, iteration = record.step.rpartition("#")
                node = self.template.nodes.get(NodeId(name))
                if undo_key(record.step) in begun or node is None or not iteration.isdecimal():
                    continue
                if node.compensate is not None:
                    return msg.UndoFound(at=self._now, step=record.step, node=node.id, seq=place)
        return msg.NothingToUndo(at=self._now)

    def _write(self, before: State, after: State, entries: Iterable[msg.Entry]) -> None:
        """What a turn writes, in the order of its statements."""
        records = [entry.record for entry in entries]
        rows = self.rows
        if after.terminal or (before.undoing is None and after.undoing is not None):
            rows = {}
        for record in records:
            match record:
                case msg.RollBack():
                    rows = {}
                case msg.JoinThreads(cancels=True, scope=scope):
                    rows = {k: s for k, s in rows.items() if scope not in around(s.thread)}
                case msg.CancelRegion(steps=steps):
                    rows = {k: s for k, s in rows.items() if s.node not in steps}
                case _:
                    pass
        gone = before.maps.keys() - after.maps.keys()
        rows = {k: s for k, s in rows.items() if s.of not in gone}
        rows = {k: s for k, s in rows.items() if k not in before.steps.keys() - after.steps.keys()}
        self.rows = rows | {key: stored(step) for key, step in after.steps.items()}
        head = codec.revive(State, {**json.loads(states.head(after)), "run": after.run})
        self.head = replace(
            head, status=after.status, variables=after.variables, ending=after.ending
        )
        held = {name for step in self.rows.values() for name, _ in step.holds}
        self.locks &= held | {name for token in after.tokens for name, _ in token.holds}


def stored(step: Step) -> Step:
    """A step as its row keeps it."""
    assert step.status in RESTING, step
    return replace(step, opens=False, result=None, choice=None, failure=None)


def run(template: Graph, *events: msg.AnyEvent, **options: bool) -> Shell:
    """A run from its submission, one turn for each event."""
    shell = Shell(template, **options)
    first: tuple[msg.AnyEvent, ...] = ()
    if not (events and isinstance(events[0], msg.RunSubmitted)):
        first = (submitted(),)
    for event in (*first, *events):
        shell.tell(event)
    return shell


def told(shell: Shell, *kinds: type[msg.Record]) -> list[msg.Record]:
    """The lines of a history that are of some kinds."""
    return [entry.record for entry in shell.history if isinstance(entry.record, kinds)]


def folded(shell: Shell) -> State:
    """The state that the history of a run tells."""
    state = State(run="r1")
    for entry in shell.history:
        state = evolve(state, entry.record)
    return state
