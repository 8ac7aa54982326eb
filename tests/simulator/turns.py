"""Turns over the tables of a world: read, written and committed apart, so that others come between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from engine.core import deadlines, references
from engine.core import messages as msg
from engine.core.decide import Turn, advance, outputs
from engine.core.records import replace as changed
from engine.core.state import State, Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Json
from tests.simulator.answers import Asker, answers
from tests.simulator.tables import Committed, Read, Row, Run, Turning
from tests.simulator.world import EPOCH, POLICY, RESEND, Message, World

#: Runs that share a transaction.
TOGETHER = 4
#: Seconds for which a run is set aside whose turn has failed.
STUCK = 2.0


def read(world: World, waiting: Iterable[str]) -> Turning:
    """Lock the runs that nobody holds, and read what waits for them and the rows it names."""
    held = []
    for name in dict.fromkeys(waiting):
        it = world.runs[name]
        if (it.held and world.rules.lock) or it.stuck > world.now:
            world.met["missed a lock"] += it.held
            continue
        held.append(name)
        it.held = True
    reads, left = [], world.batch
    for name in held:
        it = world.runs[name]
        letters = tuple(it.inbox[:left])
        left -= len(letters)
        if not letters:
            continue
        named = {e.step for e in letters if hasattr(e, "step")} | it.state.maps.keys()
        loaded = {row.step.key: _loaded(row) for key, row in it.rows.items() if key in named}
        before = changed(it.state, steps=loaded)
        reads.append(Read(run=name, now=world.at(), letters=letters, before=before))
    world.met["runs together"] += len(reads) > 1
    world.met["several letters"] += any(len(one.letters) > 1 for one in reads)
    return Turning(held=tuple(held), reads=tuple(reads))


def write(world: World, turning: Turning) -> bool:
    """Hold the ready steps of runs that are about to be paused; whether any is.

    The commit is yet to come.
    """
    pausing = [one.run for one in turning.reads if world.rules.hold and _pauses(one)]
    for name in pausing:
        for row in world.runs[name].rows.values():
            if row.status == "ready" and not row.locked:
                row.locked = True
                turning.locked.append(row)
    return bool(pausing)


def _pauses(one: Read) -> bool:
    """Whether a run is paused at the end of a turn, if it has not ended."""
    paused = one.before.status is RunStatus.PAUSED
    for letter in one.letters:
        if isinstance(letter, msg.PauseRequested | msg.ResumeRequested):
            paused = isinstance(letter, msg.PauseRequested)
    return paused


def release(world: World, turning: Turning) -> None:
    """The transaction is over, whatever became of it."""
    for name in turning.held:
        world.runs[name].held = False
    for row in turning.locked:
        row.locked = False


def roll_back(world: World, turning: Turning) -> None:
    """Nothing of it has happened."""
    world.met["rolled back"] += bool(turning.reads)
    if not world.rules.whole:
        for one in turning.reads:
            del world.runs[one.run].inbox[: len(one.letters)]


def stick(world: World, run: str) -> None:
    """Set a run aside whose turn has failed."""
    world.met["stuck"] += 1
    world.runs[run].stuck = world.now + STUCK


def commit(world: World, turning: Turning) -> Committed:
    """The end of turns, whatever has come meanwhile."""
    hints: list[Message] = []
    told: list[str] = []
    asked = [(one, *_decided(world, one)) for one in turning.reads]
    for one, asker, taken in asked:
        hints += _written(world, one, taken, asker, turning.locked)
        if began_undoing(one.before, taken.state) and world.rules.onward:
            asker.run.inbox.append(msg.Ticked(at=world.at()))
        told += asker.started
    for one, _, _ in asked:
        told += [*_told(world, one.run), *_let_go(world, one.run), *_give_up(world, one.run)]
    return Committed(hints=tuple(hints), told=tuple(told))


def _decided(world: World, one: Read) -> tuple[Asker, Turn]:
    it = world.runs[one.run]
    if world.rules.consume:
        del it.inbox[: len(one.letters)]
    # What is answered here was said last, though the lock is older than the last letter.
    asker = Asker(world=world, name=one.run, run=it, now=max(one.now, one.letters[-1].at))
    graph = it.graph
    taken = advance(graph, POLICY, one.before, one.letters)
    entries = taken.entries
    while said := answers(asker, taken.state, entries):
        taken = advance(graph, POLICY, taken.state, said)
        entries += taken.entries
    it.history += entries
    it.state = changed(taken.state, steps={})
    wake = deadlines.next_wake(graph, taken.state)
    it.wake = math.inf if wake is None else _seconds(wake)
    return asker, Turn(state=taken.state, entries=entries)


def _written(
    world: World, one: Read, taken: Turn, asker: Asker, locked: Sequence[Row]
) -> list[Message]:
    """Write the rows of a turn; messages for the steps that became ready."""
    name, before, state = one.run, one.before, taken.state
    it = world.runs[name]
    _remove(it, _gone(world, it, before, taken))
    hints: list[Message] = []
    for key, step in state.steps.items():
        if before.steps.get(key) == step:
            continue
        row = it.rows.get(key)
        if row is None:
            row = it.rows[key] = Row(step=step, status="new", asked=world.now)
        if row.status in ("ready", "held", "leased"):
            world.violations.append(f"{name} {key}: a turn moved it, and it was {row.status}")
        row.step = changed(step, opens=False, result=None, choice=None, failure=None)
        row.status, row.begun, row.wake, row.lease_until = step.status, False, math.inf, math.inf
        if step.status is StepStatus.READY:
            row.wake = world.now + RESEND
            hints.append(("execute", name, key))
        elif step.wake is not None:
            row.wake = _seconds(step.wake)
        if key in asker.waits and step.status is StepStatus.WAITING:
            it.waits[key] = replace(asker.waits[key], since=world.now)
    if state.status is RunStatus.PAUSED:
        made = {("execute", name, key) for key in state.steps} & set(hints)
        hints = []
        for key, row in it.rows.items():
            held = any(row is other for other in locked) or ("execute", name, key) in made
            if row.status == "ready" and held and world.rules.hold:
                row.status, row.wake = "held", math.inf
                world.met["held"] += 1
    elif before.status is RunStatus.PAUSED and world.rules.release:
        for key, row in it.rows.items():
            if row.status == "held":
                row.status, row.wake = "ready", world.now + RESEND
                hints.append(("execute", name, key))
    return hints


def _gone(world: World, it: Run, before: State, taken: Turn) -> list[str]:
    """The rows that a turn leaves nothing of, whether it has read them or not."""
    state = taken.state
    if state.terminal or began_undoing(before, state):
        return list(it.rows)
    gone: list[str] = [*(before.steps.keys() - state.steps.keys())]
    if over := before.maps.keys() - state.maps.keys():
        gone += [key for key, row in it.rows.items() if row.step.of in over]
    for entry in taken.entries:
        match entry.record:
            case msg.JoinThreads(cancels=True, scope=scope) if world.rules.clear:
                world.met["threads cancelled"] += 1
                gone += [key for key, row in it.rows.items() if _runs_in(row.step, scope)]
            case msg.RollBack() if world.rules.clear:
                world.met["went back"] += 1
                gone += list(it.rows)
            case msg.CancelRegion(steps=nodes) if world.rules.clear:
                world.met["region cancelled"] += 1
                gone += [key for key, row in it.rows.items() if row.step.node in nodes]
            case _:
                pass
    # What the turn itself has made is not among it.
    return [key for key in gone if key not in state.steps]


def _runs_in(step: Step, scope: str) -> bool:
    return not scope or any(name == scope for name, _ in step.thread)


def _remove(run: Run, keys: Iterable[str]) -> None:
    for key in keys:
        run.rows.pop(key, None)
        run.waits.pop(key, None)


def _told(world: World, name: str) -> list[str]:
    """A run that has ended tells the step that waits for it."""
    it = world.runs[name]
    if not it.state.terminal or it.parent is None:
        return []
    run, key, attempt = it.parent
    by = f"run:{name}"
    if it.state.status is RunStatus.COMPLETED:
        result: Json = outputs(it.graph, name, it.state.variables, references.unread)
        world.end(run, key, attempt, by, result=result)
    else:
        reason = {"failed": "child_failed", "cancelled": "child_cancelled"}
        world.end(run, key, attempt, by, reason=reason[it.state.status])
    return [run]


def _let_go(world: World, name: str) -> list[str]:
    """Cancel the children that no step of a run waits for any more."""
    if not world.rules.let_go or not world.runs[name].graph.children:
        return []
    found = [
        child
        for child, it in world.runs.items()
        if it.parent is not None
        and it.parent[0] == name
        and it.orphan == "cancel"
        and not it.state.terminal
        and not world.awaited(it)
        and not any(isinstance(e, msg.CancelRequested) for e in it.inbox)
    ]
    for child in found:
        world.met["orphaned"] += 1
        world.cancel(child)
    return found


def _give_up(world: World, name: str) -> list[str]:
    """Give up the locks that a run holds no more, and wake who comes next."""
    if name not in world.locks.values():
        return []
    kept = world.keeps(name)
    freed = [lock for lock, by in world.locks.items() if by == name and lock not in kept]
    woken = []
    for lock in freed:
        del world.locks[lock]
        waiters = sorted(
            (row.asked, other, key)
            for other, it in world.runs.items()
            for key, row in it.rows.items()
            if row.status == "deferred" and row.step.awaits == lock
        )
        if waiters and world.rules.wake:
            world.met["woken for a lock"] += 1
            _, other, key = waiters[0]
            woke = msg.Woke(at=world.at(), step=msg.StepKey(key), again=True)
            world.runs[other].inbox.append(woke)
            woken.append(other)
        if waiters and not any(_wakes(world.runs[run], key) for _, run, key in waiters):
            world.violations.append(f"{lock} is free, {waiters} wait for it and nobody knows")
    return woken


def _wakes(run: Run, key: str) -> bool:
    return any(isinstance(e, msg.Woke) and e.step == key for e in run.inbox)


def began_undoing(before: State, after: State) -> bool:
    return before.undoing is None and after.undoing is not None


def _seconds(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()


def _loaded(row: Row) -> Step:
    """A step as a turn finds it: ownership is no business of the core."""
    step = row.step
    status = StepStatus(row.status)
    if status in (StepStatus.HELD, StepStatus.LEASED, StepStatus.REPORTED):
        status = StepStatus.READY if step.wait is None else StepStatus.WAITING
    wakes = status in (StepStatus.DEFERRED, StepStatus.RETRYING, StepStatus.WAITING)
    return changed(step, status=status, wake=step.wake if wakes else None)
