"""A coordinator and a worker without Celery: real code on threads, fed by a broker that is a queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from engine.broker import Broker, Hint
from engine.platform import DatabaseRole, Platform
from engine.runs import turns, views
from engine.runs.views import Detail
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.platforms import Sent
from workers.execution import Worker, execute
from workers.keeper import Keeper
from workers.sandbox import Sandbox

_STEPS_AT_ONCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued(Broker):
    """A broker whose messages wait in this process."""

    turns: queue.Queue[RunId | None]
    steps: queue.Queue[Hint | None]

    def send(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            self.steps.put(hint)

    def nudge(self, runs: Sequence[RunId]) -> None:
        for run in runs:
            self.turns.put(run)


@contextmanager
def at_work(settings: Settings, sandbox: Sandbox) -> Iterator[Platform]:
    """A control platform whose runs are coordinated and carried out for as long as a block lasts."""
    with (
        platforms.platform(settings) as built,
        platforms.platform(settings, DatabaseRole.WORKER) as worker_platform,
    ):
        broker = Queued(app=built.broker.app, turns=queue.Queue(), steps=queue.Queue())
        control = replace(built, broker=broker)
        keeper = Keeper(worker_platform)
        keeper.start()
        worker = Worker(
            name="w1",
            platform=replace(worker_platform, broker=broker),
            sandbox=sandbox,
            keeper=keeper,
        )
        threads = [
            _thread(broker.turns, lambda run: turns.take_turns(control, [run])),
            *(
                _thread(broker.steps, lambda hint: execute(worker, hint.step))
                for _ in range(_STEPS_AT_ONCE)
            ),
        ]
        try:
            yield control
        finally:
            broker.turns.put(None)
            for _ in range(_STEPS_AT_ONCE):
                broker.steps.put(None)
            for thread in threads:
                thread.join(timeout=30)
            keeper.close()


def carry_out(main: Platform, worker: Worker, run: RunId) -> Detail:
    """Whatever a kept message tells of, one step after the other, until nothing is ready."""
    assert isinstance(main.broker, Sent)
    while main.broker.hints:
        execute(worker, main.broker.hints.pop(0).step)
        turns.take_turns(main, [run])
    return views.run(main, run)


def through(main: Platform, worker: Worker, run: RunId) -> Detail:
    """The same, of this run and of those that it starts."""
    assert isinstance(main.broker, Sent)
    turns.take_turns(main, [run])
    while main.broker.hints:
        step = main.broker.hints.pop(0).step
        execute(worker, step)
        turns.take_turns(main, [step.run_id])
    return views.run(main, run)


@contextmanager
def beside(action: Callable[..., object], *arguments: Any) -> Iterator[threading.Thread]:
    """Something that goes on in a thread of its own, and is over at the end of the block."""
    thread = threading.Thread(target=action, args=arguments)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(timeout=30)
        assert not thread.is_alive(), f"{action} does not end"


def _thread(source: queue.Queue[Any], work: Callable[[Any], object]) -> threading.Thread:
    def run() -> None:
        while (item := source.get()) is not None:
            work(item)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
