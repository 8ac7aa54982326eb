"""Living through a seed: actors that die, a broker that cheats, then peace."""

from __future__ import annotations

import math
import random

from engine.core import messages as msg
from engine.core.graph import Map
from engine.core.values import Inline, Json
from tests.simulator.graphs import GRAPHS, LIBRARY
from tests.simulator.world import EPOCH, LEASE, Actor, Lease, Rules, Run, World


def live(seed: int, rules: Rules = Rules(), *, faults: int = 250, peace: int = 6000) -> World:  # noqa: B008  # frozen
    """The world after a seed's faults and the peace that follows."""
    world = World(rng=random.Random(seed), rules=rules, library=LIBRARY)
    rng = world.rng
    world.talk = rng.choice((0.0, 0.05, 0.5))
    actors: list[Actor] = []
    for number in range(rng.randint(1, 3)):
        graph = rng.choice(GRAPHS)
        world.submit(f"r{number}", graph, {} if graph.reducers else {"n": 0})
        if rng.random() < 0.7:
            world.send("coordinate", f"r{number}")
    for _ in range(faults):
        _trouble(world, actors)
        _step(world, actors)
        if world.violations:
            return world
    for run in world.runs:
        world.resume(run)
    for tick in range(peace):
        if all(resting(run) for run in world.runs.values()) or world.violations:
            break
        if tick % 10 == 0:
            actors.append(_sweeper(world))
        _step(world, actors)
        world.now += rng.uniform(0.15, 0.25)
    return world


def _trouble(world: World, actors: list[Actor]) -> None:
    """Whatever may go wrong before the next step."""
    rng = world.rng
    match rng.randrange(30):
        case 0 if actors:
            actors.pop(rng.randrange(len(actors))).close()
        case 1 if world.messages:
            world.messages.pop(rng.randrange(len(world.messages)))
        case 2 if world.messages:
            world.messages.append(rng.choice(world.messages))
        case 3 if world.sent:
            world.messages.append(rng.choice(world.sent))
        case 4 if rng.random() < 0.2:
            world.messages.clear()
        case 5:
            world.now += rng.choice((0.5, 4.0, LEASE * 1.1))
        case 6:
            _interference(world)
        case 7 | 8:
            actors.append(_sweeper(world))
        case 9 if actors:
            # As SIGSTOP would, or a machine that sleeps: it goes on later as if nothing had been.
            until = world.now + rng.choice((1.0, LEASE * 1.2, LEASE * 2))
            world.stalled.append((until, actors.pop(rng.randrange(len(actors)))))
        case 10 | 11:
            actors.append(_sender(world))
        case 15 | 16 as coin if rng.random() < 0.4:
            _hold(world, pauses=coin == 15)  # one of two sides
        case 12 | 13 | 14 if rng.random() < world.talk:
            _answer(world)
        case _:
            # Never the same time twice: no clock of a database tells it.
            world.now += rng.uniform(0.04, 0.06)


def _interference(world: World) -> None:
    """Somebody ends a run, or has a step of one begun anew."""
    rng = world.rng
    if rng.random() < 0.1:
        world.cancel(rng.choice(list(world.runs)), compensate=rng.random() < 0.5)
        return
    rows = [(name, key) for name, run in world.runs.items() for key in run.rows]
    if rows:
        world.retry(*rng.choice(rows))


def _hold(world: World, *, pauses: bool) -> None:
    """Somebody pauses a run, or lets it go on."""
    (world.pause if pauses else world.resume)(world.rng.choice(list(world.runs)))


def resting(run: Run) -> bool:
    """Whether a run has ended, or waits for people alone: nothing goes on by itself."""
    if run.state.terminal:
        return not run.inbox
    asked = {key for key, wait in run.waits.items() if wait.kind in ("approval", "input")}
    return (
        not run.inbox
        and bool(asked)
        and all(
            row.status == "waiting" and row.wake == math.inf and key in asked
            for key, row in run.rows.items()
        )
    )


def _answer(world: World) -> None:
    """Somebody answers one of the open questions, or one that was open before."""
    asked = [(name, key) for name, run in world.runs.items() for key in run.waits]
    if asked:
        world.answer(*world.rng.choice(asked), choice=world.rng.choice(("approve", "reject")))


def _sender(world: World) -> Actor:
    world.tell("go")
    yield
    yield from _router(world)


def _router(world: World) -> Actor:
    """Bring events and waits together, by what was seen a while ago."""
    for pair in world.pairs():
        yield
        if world.claim(*pair):
            world.send("coordinate", pair[1])
            yield


def _step(world: World, actors: list[Actor]) -> None:
    """One actor goes on to where it may die next."""
    rng = world.rng
    awake = [stalled for stalled in world.stalled if stalled[0] <= world.now]
    for stalled in awake:
        world.stalled.remove(stalled)
        actors.append(stalled[1])
    if world.messages and (not actors or rng.random() < 0.4):
        message = world.messages.pop(rng.randrange(len(world.messages)))
        actors.append(_receive(world, message))
    if not actors:
        return
    chosen = rng.randrange(len(actors))
    try:
        next(actors[chosen])
    except StopIteration:
        actors.pop(chosen)


def _receive(world: World, message: tuple[str, ...]) -> Actor:
    if message[0] == "coordinate":
        return _coordinator(world, message[1])
    return _worker(world, message[1], message[2])


def _coordinator(world: World, run: str) -> Actor:
    while (turning := world.open_turn(run)) is not None:
        try:
            yield
            hints = world.close_turn(turning)
        finally:
            world.runs[run].held = False
        yield
        for hint in hints:
            world.send(*hint)
            yield
        if world.runs[run].waits:
            yield from _router(world)
        if not world.rules.consume:
            return


def _worker(world: World, run: str, key: str) -> Actor:
    renewed = world.now
    lease = world.lease(run, key, f"w{world.rng.randrange(9)}")
    yield
    if lease is None or not world.begin(lease):
        return
    yield
    for _ in range(world.rng.choice((0, 0, 0, 1, 3))):
        asked = world.now
        if not world.beat(lease):
            return
        renewed = asked
        yield
    if world.rules.give_up and world.now - renewed > LEASE * 0.9:
        return
    world.effect(lease)
    yield
    event = _outcome(world, lease)
    world.report(lease, event)
    yield
    if world.rng.random() < 0.1:
        # The commit went through and the answer was lost: it is tried again.
        world.report(lease, event)
        yield
    world.send("coordinate", run)


def _outcome(world: World, lease: Lease) -> msg.AttemptSucceeded | msg.AttemptFailed:
    run = world.runs[lease.run]
    node = run.graph.node(lease.step.node)
    if node.id == "boom" or (world.rng.random() < 0.1 and node.retry.attempts > 1):
        return msg.AttemptFailed(
            at=EPOCH,
            step=msg.StepKey(lease.key),
            attempt=lease.attempt,
            fence=lease.fence,
            reason="error",
            message="boom",
            terminal=node.id == "boom",
        )
    result, patch = _done(world, run, lease)
    return msg.AttemptSucceeded(
        at=EPOCH,
        step=msg.StepKey(lease.key),
        attempt=lease.attempt,
        fence=lease.fence,
        result=Inline(value=result),
        patch=patch,
    )


def _done(world: World, run: Run, lease: Lease) -> tuple[Json, dict[str, Json]]:
    """The result of a step that was carried out, and what it leaves."""
    if not run.graph.reducers:
        return {"n": lease.n + 1}, {"n": lease.n + 1}
    step = lease.step
    if step.of is not None:
        # An item, or what undoes a step.
        return None if step.index is None else run.items[step.of][step.index], {}
    if isinstance(run.graph.node(step.node).wait, Map):
        keys = [(lease.run, f"{lease.key}.{place}") for place in range(step.index or 0)]
        got = [world.results.get(key) for key in keys]
        return got, {"got": got, "n": 1}
    return None, {"n": 1}


def _sweeper(world: World) -> Actor:
    for hint in world.sweep():
        if hint[0] == "coordinate":
            yield from _coordinator(world, hint[1])
        else:
            world.send(*hint)
            yield
    yield from _router(world)
    yield
