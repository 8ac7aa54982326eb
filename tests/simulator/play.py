"""Living through a seed: actors that die, a broker that cheats, clocks that jump, then peace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from engine.core.transitions import RunStatus
from tests.simulator.actors import Actor, Process, Script, act, coordinator, sender, sweeper, worker
from tests.simulator.graphs import GRAPHS, LIBRARY
from tests.simulator.rules import Rules
from tests.simulator.tables import Run
from tests.simulator.world import LEASE, World

#: Steps of a life in which anything may go wrong.
FAULTS = 100
#: Steps in which a world that is left in peace must have come to rest.
PEACE = 4000


@dataclass(kw_only=True)
class Cast:
    """Who is alive."""

    world: World
    actors: list[Actor] = field(default_factory=list)
    #: Who stands still, and until when.
    stalled: list[tuple[float, Actor]] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    born: int = 0

    def process(self) -> Process:
        self.born += 1
        return Process(f"p{self.born}")

    def enter(self, script: Script) -> None:
        """A process of its own."""
        self.actors.append(Actor(self.process(), script))

    def leave(self, process: Process) -> list[Actor]:
        """Take a process off the stage, with all its threads."""
        gone = [actor for actor in self.actors if actor.process is process]
        self.actors = [actor for actor in self.actors if actor.process is not process]
        return gone


def live(seed: int, rules: Rules = Rules(), *, faults: int = FAULTS, peace: int = PEACE) -> World:  # noqa: B008  # frozen
    """The world after a seed's faults and the peace that follows."""
    rng = random.Random(seed)
    calm = rng.random() < 0.2
    world = World(
        rng=rng,
        rules=rules,
        library=LIBRARY,
        calm=calm,
        away=0.0 if calm else rng.choice((0.0, 0.02, 0.15)),
        talk=rng.choice((0.0, 0.05, 0.5)),
        sends=rng.choice((0.1, 0.5, 1.0)),
        worker_turns=rng.random() < 0.4,
        batch=rng.choice((1, 3, 100)),
    )
    cast = Cast(world=world)
    cast.workers = [cast.process(), cast.process()]
    for number in range(rng.choice((1, 1, 1, 2, 3))):
        graph = rng.choice(GRAPHS)
        world.submit(f"r{number}", graph, {} if graph.reducers else {"n": 0})
        if calm or rng.random() < 0.7:
            world.send("coordinate", f"r{number}")
    for _ in range(faults):
        _trouble(cast)
        _step(cast)
        _look(cast)
        if world.violations:
            return world
    _rest(cast, peace)
    return world


def _rest(cast: Cast, steps: int) -> None:
    """Nothing goes wrong any more, and whatever is paused goes on."""
    world = cast.world
    for tick in range(steps):
        if not cast.actors and not world.messages and not cast.stalled:
            paused = [
                name for name, run in world.runs.items() if run.state.status is RunStatus.PAUSED
            ]
            for run in paused:
                cast.enter(act(world, partial(world.resume, run), run))
            if not paused:
                if all(resting(run) for run in world.runs.values()) or not _wait(world):
                    return
                cast.enter(sweeper(world))
        elif tick % 40 == 0:
            cast.enter(sweeper(world))
        _step(cast)
        _look(cast)
        world.passes(0.05 if world.calm else 0.2)
        if world.violations:
            return


def _look(cast: Cast) -> None:
    """Where nothing goes wrong and nobody is at work, nothing is left undone that could be done."""
    world = cast.world
    if world.calm and not cast.actors and not world.messages:
        for event, run, key, _ in world.pairs():
            world.violations.append(f"{event.id} is there, {key} of {run} waits and nobody knows")


def _wait(world: World) -> bool:
    """Let time go by until something is due; whether anything ever is."""
    due = 0.0 if _collects(world) else world.due()
    if due == math.inf:
        return False
    world.passes(max(due - world.now, 0.0) + 0.001)
    return True


def _collects(world: World) -> bool:
    """Whether a sweeper would find events that nobody took."""
    if world.calm or not world.rules.collect:
        return False
    return any(run.inbox and run.stuck <= world.now for run in world.runs.values())


def _trouble(cast: Cast) -> None:
    """Whatever may happen before the next step, and whatever may go wrong."""
    world = cast.world
    luck = world.rng.random()
    # Never the same time twice: no clock of a database tells it.
    world.passes(0.04 + 0.02 * luck)
    if luck < 0.5:
        return
    if luck < 0.64:
        _people(cast, int((luck - 0.5) / 0.02))
    elif luck < 0.70:
        cast.enter(sweeper(world))
    elif luck < 0.72:
        world.passes(0.5 if world.calm else 4.0)
    elif not world.calm and luck < 0.94:
        _fault(cast, int((luck - 0.72) / 0.02))


def _people(cast: Cast, what: int) -> None:
    world = cast.world
    rng = world.rng
    match what:
        case 0 | 1 if rng.random() < world.sends:
            cast.enter(sender(world, "go"))
        case 2 if rng.random() < 0.6:
            _act(cast, world.pause)
        case 3 if rng.random() < 0.6:
            _act(cast, world.resume)
        case 4 | 5 if rng.random() < world.talk:
            _answer(cast)
        case 6 if rng.random() < 0.3:
            _interference(cast)
        case _:
            pass


def _fault(cast: Cast, what: int) -> None:
    world = cast.world
    rng, actors, messages = world.rng, cast.actors, world.messages
    match what:
        case 0 | 1 if actors:
            _die(cast, rng.choice(actors).process)
        case 2 if messages:
            messages.pop(rng.randrange(len(messages)))
            world.met["message lost"] += 1
        case 3 if messages:
            messages.append(rng.choice(messages))
            world.met["message doubled"] += 1
        case 4 if world.sent:
            messages.append(rng.choice(world.sent))
            world.met["message stale"] += 1
        case 5 if rng.random() < 0.3:
            messages.clear()
            world.met["flushed"] += 1
        case 6 | 7 if actors:
            # As SIGSTOP would, or a machine that sleeps: it goes on later as if nothing had been.
            until = world.elapsed + rng.choice((1.0, LEASE * 1.2, LEASE * 2))
            cast.stalled += [(until, actor) for actor in cast.leave(rng.choice(actors).process)]
            world.met["stalled"] += 1
        case 8 if rng.random() < 0.3:
            world.jump(rng.choice((-3 * LEASE, -LEASE / 2, LEASE / 2, LEASE * 1.5)))
        case 9:
            world.passes(LEASE * 1.1)
        case 10:
            rows = [(name, key) for name, run in world.runs.items() for key in run.rows]
            if rows and rng.random() < 0.5:
                name, key = rng.choice(rows)
                cast.enter(act(world, partial(world.retry, name, key), name))
        case _:
            pass


def _die(cast: Cast, process: Process) -> None:
    """A process dies with all its threads; a worker is started again under another name."""
    world = cast.world
    world.met["died"] += 1
    gone = cast.leave(process)
    world.met["died with several"] += len(gone) > 1
    for actor in gone:
        actor.script.close()
    if process in cast.workers:
        cast.workers[cast.workers.index(process)] = cast.process()


def _act(cast: Cast, deed: Callable[[str], None]) -> None:
    """Somebody does something to some run."""
    run = cast.world.rng.choice(list(cast.world.runs))
    cast.enter(act(cast.world, partial(deed, run), run))


def _interference(cast: Cast) -> None:
    """Somebody ends a run, has one go back, or lets a step of one count as done."""
    world = cast.world
    rng = world.rng
    if rng.random() < 0.4:
        _act(cast, world.go_back)
        return
    if rng.random() < 0.5:
        _act(cast, world.terminate if rng.random() < 0.2 else _cancelling(world))
        return
    rows = [
        (name, key) for name, run in world.runs.items() if run.graph.reducers for key in run.rows
    ]
    if rows:
        name, key = rng.choice(rows)
        cast.enter(act(world, partial(world.skip, name, key), name))


def _cancelling(world: World) -> Callable[[str], None]:
    return partial(world.cancel, compensate=world.rng.random() < 0.5)


def _answer(cast: Cast) -> None:
    """Somebody answers one of the open questions, or one that was open before."""
    world = cast.world
    asked = [(name, key) for name, run in world.runs.items() for key in run.waits]
    if asked:
        name, key = world.rng.choice(asked)
        choice = world.rng.choice(("approve", "reject"))
        cast.enter(act(world, partial(world.answer, name, key, choice), name))


def resting(run: Run) -> bool:
    """Whether a run has ended, or waits for people alone: nothing goes on by itself."""
    if run.state.terminal:
        return not run.inbox
    asked = {key for key, wait in run.waits.items() if wait.kind in ("approval", "input")}
    return (
        not run.inbox
        and bool(asked)
        and run.wake == math.inf
        and all(
            row.status == "waiting" and row.wake == math.inf and key in asked
            for key, row in run.rows.items()
        )
    )


def _step(cast: Cast) -> None:
    """One actor goes on to where it may die next."""
    world = cast.world
    rng, actors = world.rng, cast.actors
    if cast.stalled:
        awake = [stalled for stalled in cast.stalled if stalled[0] <= world.elapsed]
        for stalled in awake:
            cast.stalled.remove(stalled)
            actors.append(stalled[1])
    if world.messages and (not actors or rng.random() < 0.4):
        _receive(cast, world.messages.pop(int(rng.random() * len(world.messages))))
    if not actors:
        return
    if world.calm:
        # Whoever has waited for longest is not forgotten.
        actors.append(actors.pop(0))
    chosen = -1 if world.calm and rng.random() < 0.5 else int(rng.random() * len(actors))
    try:
        next(actors[chosen].script)
    except StopIteration:
        actors.pop(chosen)


def _receive(cast: Cast, message: tuple[str, ...]) -> None:
    world = cast.world
    if message[0] == "execute":
        free = [p for p in cast.workers if all(p is not s.process for _, s in cast.stalled)]
        if not free:
            world.messages.append(message)
            return
        process = world.rng.choice(free)
        cast.actors.append(Actor(process, worker(world, process, message[1], message[2])))
        return
    runs = [message[1]]
    if world.rng.random() < 0.5:
        # As many as wait are taken together.
        together = [one for one in world.messages if one[0] == "coordinate"]
        for one in together[:3]:
            world.messages.remove(one)
            runs.append(one[1])
    cast.enter(coordinator(world, runs))
