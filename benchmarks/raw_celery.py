"""The rival: the canvas of a stock Celery, fixed in `configuration.toml` once and for all.

One prefork worker with two children, `acks_late` as whoever must not lose a step sets it, the
result backend that a canvas needs, on the Valkey that ours uses. The state travels in the
messages; nothing of it is kept anywhere else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery, chain, chord
from celery.exceptions import TimeoutError as TookTooLong
from celery.result import AsyncResult

from benchmarks import configuration
from benchmarks.servers import Servers
from benchmarks.steps import BODIES, START
from benchmarks.workloads import SECONDS, Fan, Run, Unended
from celeriac.embedded import processes
from celeriac.embedded.processes import Running

#: Numbers of Valkey databases.
_BROKER, _RESULTS = 1, 2
_VARIABLES = ("BENCHMARK_BROKER_URL", "BENCHMARK_RESULT_URL")

Sent = tuple[float, AsyncResult[Any]]


def application(broker: str, results: str) -> Celery:
    """Celery with its few tasks."""
    app = Celery("raw", broker=broker, backend=results, set_as_current=False)
    app.conf.update(configuration.section("raw_celery.settings"))
    for body, step in BODIES.items():
        app.task(name=body)(step)
    app.task(name="branch")(_branch)
    app.task(name="join")(_join)
    app.task(name="lap", bind=True)(_lap)
    return app


class RawCelery:
    """One worker, and a client that sends canvases to it."""

    joins = 1

    def __init__(self, app: Celery, worker: Running) -> None:
        self._app = app
        self._worker = worker

    def submit(self, steps: int, body: str = "noop") -> Sent:
        """Send a chain; when, and what to ask for its end."""
        task = self._app.tasks[body]
        links = chain(task.s(START), *(task.s() for _ in range(steps - 1)))
        submitted = time.time()
        return submitted, links.apply_async()

    def ended(self, submitted: Sent) -> Run:
        """A run once its result is there."""
        since, result = submitted
        state = _got(result)
        return Run(
            submitted=since,
            first=state["first"],
            last=state["last"],
            seen=time.time(),
            steps=state["n"],
        )

    def fan_out(self, branches: int) -> Fan:
        """A chord of tasks and the one that adds up."""
        tasks = self._app.tasks
        since = time.time()
        sent = chord((tasks["branch"].s(item) for item in range(branches)), tasks["join"].s())
        total = _got(sent.apply_async())
        return Fan(submitted=since, seen=time.time(), total=total)

    def loop(self, laps: int) -> Run:
        """A task that puts itself in its own place."""
        since = time.time()
        return self.ended((since, self._app.tasks["lap"].delay(START, laps)))

    def executed(self) -> int:
        """Tasks that the worker has carried out so far, by its own count."""
        answers = self._app.control.inspect(timeout=10, limit=1).stats() or {}
        (stats,) = answers.values()
        return sum(int(count) for count in stats["total"].values())

    def pids(self) -> Mapping[str, Sequence[int]]:
        return {"worker": [self._worker.pid]}


@contextmanager
def started(servers: Servers) -> Iterator[RawCelery]:
    """A worker on empty queues for the length of a block."""
    urls = servers.broker_url(_BROKER), servers.broker_url(_RESULTS)
    servers.flush(_BROKER, _RESULTS)
    app = application(*urls)
    options: Sequence[str] = configuration.section("raw_celery")["worker"]
    worker = processes.spawn(
        [sys.executable, "-m", "celery", "-A", "benchmarks.raw_celery", "worker", *options],
        log=servers.folder / "raw-celery.log",
        environment={**servers.environment, **dict(zip(_VARIABLES, urls, strict=True))},
        folder=servers.folder,
        leash=signal.SIGTERM,
    )
    try:
        servers.await_answers(app, 1)
        yield RawCelery(app, worker)
    finally:
        servers.end([worker])
        app.close()


def _got(result: AsyncResult[Any]) -> Any:
    try:
        return result.get(timeout=SECONDS)
    except TookTooLong as error:
        raise Unended(f"{result.id} had no result after {SECONDS:g} s") from error


def _branch(item: int) -> int:
    return item + 1


def _join(found: Sequence[int]) -> int:
    return sum(found)


def _lap(task: Any, state: Any, laps: int) -> Any:
    state = BODIES["noop"](state)
    if state["n"] >= laps:
        return state
    raise task.replace(task.s(state, laps))


# What `celery -A benchmarks.raw_celery` looks for, in the worker's process alone.
if _VARIABLES[0] in os.environ:
    app = application(*(os.environ[name] for name in _VARIABLES))
