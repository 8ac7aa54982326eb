"""The rival: a canvas chain of a stock Celery, fixed here once and for all.

One prefork worker with two children, `acks_late` as whoever must not lose a step sets it, the
result backend that a canvas chain needs, on the Valkey that ours uses. The state travels in the
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

from celery import Celery, chain
from celery.result import AsyncResult

from benchmarks.servers import Servers
from benchmarks.steps import START, add_one
from benchmarks.workloads import SECONDS, Run
from celeriac.embedded import processes
from celeriac.embedded.processes import Running

CONFIGURATION: Mapping[str, Any] = {
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_acks_late": True,
    "task_ignore_result": False,
    "result_expires": 3600,
    "worker_prefetch_multiplier": 4,
    "worker_send_task_events": False,
    "worker_hijack_root_logger": False,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {"visibility_timeout": 3600},
}
WORKER: Sequence[str] = (
    "--pool=prefork",
    "--concurrency=2",
    "--loglevel=WARNING",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
)

#: Numbers of Valkey databases.
_BROKER, _RESULTS = 1, 2
_VARIABLES = ("BENCHMARK_BROKER_URL", "BENCHMARK_RESULT_URL")


def application(broker: str, results: str) -> Celery:
    """Celery with the one task."""
    app = Celery("raw", broker=broker, backend=results, set_as_current=False)
    app.conf.update(CONFIGURATION)
    app.task(name="add_one")(add_one)
    return app


class RawCelery:
    """One worker, and a client that sends chains to it."""

    def __init__(self, app: Celery, worker: Running) -> None:
        self._app = app
        self._worker = worker

    def submit(self, steps: int) -> tuple[float, AsyncResult[Any]]:
        """Send a chain; when, and what to ask for its end."""
        task = self._app.tasks["add_one"]
        links = chain(task.s(START), *(task.s() for _ in range(steps - 1)))
        submitted = time.time()
        return submitted, links.apply_async()

    def run(self, steps: int) -> Run:
        return self._ended(*self.submit(steps))

    def many(self, runs: int, steps: int) -> Sequence[Run]:
        """Chains sent as fast as one client can, and what they came to."""
        return [self._ended(*one) for one in [self.submit(steps) for _ in range(runs)]]

    def executed(self) -> int:
        """Tasks that the worker has carried out so far, by its own count."""
        answers = self._app.control.inspect(timeout=10, limit=1).stats() or {}
        (stats,) = answers.values()
        return int(stats["total"].get("add_one", 0))

    def pids(self) -> Mapping[str, Sequence[int]]:
        return {"worker": [self._worker.pid]}

    def _ended(self, submitted: float, result: AsyncResult[Any]) -> Run:
        state = result.get(timeout=SECONDS)
        return Run(
            submitted=submitted,
            first=state["first"],
            last=state["last"],
            seen=time.time(),
            steps=state["n"],
        )


@contextmanager
def started(servers: Servers) -> Iterator[RawCelery]:
    """A worker on empty queues for the length of a block."""
    urls = servers.broker_url(_BROKER), servers.broker_url(_RESULTS)
    servers.flush(_BROKER, _RESULTS)
    app = application(*urls)
    worker = processes.spawn(
        [sys.executable, "-m", "celery", "-A", "benchmarks.raw_celery", "worker", *WORKER],
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


# What `celery -A benchmarks.raw_celery` looks for, in the worker's process alone.
if _VARIABLES[0] in os.environ:
    app = application(*(os.environ[name] for name in _VARIABLES))
