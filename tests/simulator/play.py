"""Living through a seed: actors that die, a broker that cheats, then peace."""

from __future__ import annotations

import random

from engine.core import messages as msg
from engine.core.graph import Retry
from engine.core.values import Inline
from tests.simulator.world import EPOCH, LEASE, Actor, Lease, Rules, World
from tests.support.play import LINE, LOOP, edge, graph, node

TRYING = graph(
    edge("start -> a"),
    edge("a -> b", when="$result.n > 1"),
    edge("a -> a", label="loop"),
    edge("b -> end"),
    nodes=[
        node("a", retry=Retry(attempts=50, backoff=3), max_iterations=3),
        node("b", retry=Retry(attempts=50, backoff=0)),
    ],
)
GRAPHS = (LINE, LOOP, TRYING)


def live(seed: int, rules: Rules = Rules(), *, faults: int = 250, peace: int = 6000) -> World:  # noqa: B008  # frozen
    """The world after a seed's faults and the peace that follows."""
    world = World(rng=random.Random(seed), rules=rules)
    rng = world.rng
    actors: list[Actor] = []
    for number in range(rng.randint(1, 3)):
        world.submit(f"r{number}", rng.choice(GRAPHS), {"n": 0})
        if rng.random() < 0.7:
            world.send("coordinate", f"r{number}")
    for _ in range(faults):
        _trouble(world, actors)
        _step(world, actors)
        if world.violations:
            return world
    for tick in range(peace):
        if all(run.state.terminal for run in world.runs.values()):
            break
        if tick % 10 == 0:
            actors.append(_sweeper(world))
        _step(world, actors)
        world.now += 0.2
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
        case 6 if rng.random() < 0.1:
            world.cancel(rng.choice(list(world.runs)))
        case 6:
            rows = [(name, key) for name, run in world.runs.items() for key in run.rows]
            if rows:
                world.retry(*rng.choice(rows))
        case 7 | 8:
            actors.append(_sweeper(world))
        case 9 if actors:
            # As SIGSTOP would, or a machine that sleeps: it goes on later as if nothing had been.
            until = world.now + rng.choice((1.0, LEASE * 1.2, LEASE * 2))
            world.stalled.append((until, actors.pop(rng.randrange(len(actors)))))
        case _:
            world.now += 0.05


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
    while world.runs[run].inbox:
        hints = world.take_turn(run)
        yield
        for hint in hints:
            world.send(*hint)
            yield
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
    if world.rng.random() < 0.1 and world.runs[lease.run].graph is TRYING:
        return msg.AttemptFailed(
            at=EPOCH,
            step=msg.StepKey(lease.key),
            attempt=lease.attempt,
            fence=lease.fence,
            reason="error",
            message="boom",
        )
    return msg.AttemptSucceeded(
        at=EPOCH,
        step=msg.StepKey(lease.key),
        attempt=lease.attempt,
        fence=lease.fence,
        result=Inline(value={"n": lease.n + 1}),
        patch={"n": lease.n + 1},
    )


def _sweeper(world: World) -> Actor:
    for hint in world.sweep():
        if hint[0] == "coordinate":
            yield from _coordinator(world, hint[1])
        else:
            world.send(*hint)
            yield
    yield
