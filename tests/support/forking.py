"""Runs whose calls are counted outside of the platform, and places of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.core.values import Json
from engine.platform import DatabaseRole, Platform
from engine.runs import calls, control, doctor, forks, turns, views
from engine.runs.attempts import Succeeded
from engine.runs.origins import Edits
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import Sent, finish, register, take

LOOP: dict[str, Json] = {
    "workflow": "loop",
    "nodes": {"a": {"uses": "noop"}, "b": {"uses": "noop"}},
    "edges": [{"from": "a", "to": "a", "label": "loop", "when": "$n < 4"}, "a -> b -> end"],
}


#: Whatever was called is called again.
AGAIN = {"at_most_once": "execute"}


@dataclass(frozen=True, slots=True)
class World:
    """What happens outside of the platform, and the hands that do it."""

    main: Platform
    worker: Platform
    #: How often each step of each run has sent something.
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)

    def do(self, run: RunId, key: str, result: Json = None, **patch: Json) -> None:
        """Carry a step out, which sends something once."""
        lease = take(self.worker, run, key)
        asked = calls.authorise(self.worker, lease, 1, "send", {"args": [], "kwargs": {}})
        assert isinstance(asked, calls.Authorised)
        self.sent[run.run, key] += 1
        calls.settle(self.worker, lease, asked, calls.Answer(value="sent"))
        done = Succeeded(result=result, patch=patch, usage={"cost_usd": 0.25})
        assert finish(self.main, self.worker, lease, done)

    def fork(self, run: RunId, seq: int, *removed: str, **variables: Json) -> RunId:
        """A run that goes on from there, and makes anew what was made since."""
        edits = Edits(variables=variables, removed=removed)
        made = forks.fork(self.main, run, seq, edits, by="bob", choices=AGAIN).run
        turns.take_turns(self.main, [made])
        return made

    def sent_by(self, run: RunId) -> set[str]:
        return {key for of, key in self.sent if of == run.run}


@contextmanager
def world(settings: Settings) -> Iterator[World]:
    """A platform with its tools; whatever is left behind is as it must be."""
    with (
        platforms.platform(settings) as built,
        platforms.platform(settings, DatabaseRole.WORKER) as worker,
    ):
        main = dataclasses.replace(built, broker=Sent(app=built.broker.app))
        register(main, "noop")
        register(main, "send", namespace="tool", effect="at_most_once")
        register(main, "look", namespace="tool", effect="idempotent")
        yield World(main, worker)
        assert doctor.examine(main.database, main.blobs) == ()


def hashes(main: Platform, run: RunId) -> list[str]:
    return [line.hash for line in views.history(main, run, limit=1000)]


def after(main: Platform, run: RunId, step: str) -> int:
    """The line that settles a step."""
    return next(point.seq for point in views.checkpoints(main, run) if point.step == step)


def a_line(world: World, run: RunId) -> int:
    """The last line of a live run, at which its steps are as they are."""
    control.pause(world.main, run, by="ada")
    control.resume(world.main, run, by="ada")
    return views.status(world.main, run).seq


def line_of(main: Platform, run: RunId, kind: str, step: str | None = None) -> int:
    """The first line of a kind, about a step or about the run."""
    lines = views.history(main, run, limit=1000)
    return next(one.seq for one in lines if one.kind == kind and one.body.get("step") == step)
