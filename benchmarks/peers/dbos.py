"""DBOS Transact: runs are queued, and each is carried out by one of two worker processes.

A step is committed with its result before the next begins.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient

from benchmarks import peers
from benchmarks.peers import Task
from benchmarks.steps import BODIES, START
from benchmarks.workloads import Fan, Run

_QUEUE = "runs"
_RELEASE = "1"
_WORKER = "BENCHMARK_DBOS_WORKER"

Sent = tuple[float, Any]


@DBOS.step()
def step(state: dict[str, Any], body: str) -> Any:
    """One step of a chain."""
    return BODIES[body](state)


@DBOS.step()
async def branch(item: int) -> int:
    """One branch of the fan-out."""
    return item + 1


@DBOS.workflow()
def chain(steps: int, body: str) -> Any:
    """A chain, and a loop, which is the same to it."""
    state: Any = START
    for _ in range(steps):
        state = step(state, body)
    return state


@DBOS.workflow()
async def fan_out(branches: int) -> int:
    """Branches at once, added up."""
    return sum(await asyncio.gather(*(branch(item) for item in range(branches))))


class Dbos:
    """Two workers, and a client that queues runs for them."""

    joins = 0

    def __init__(self, task: Task, workers: Sequence[int]) -> None:
        self._task = task
        self._workers = workers
        self._client = DBOSClient(system_database_url=task.url())
        self._polling = task.settings["result_polling_seconds"]

    def submit(self, steps: int, body: str = "noop") -> Sent:
        return time.time(), self._queued(chain, steps, body)

    def ended(self, submitted: Sent) -> Run:
        since, handle = submitted
        state = self._result(handle)
        return Run(
            submitted=since,
            first=state["first"],
            last=state["last"],
            seen=time.time(),
            steps=state["n"],
        )

    def fan_out(self, branches: int) -> Fan:
        since = time.time()
        total = self._result(self._queued(fan_out, branches))
        return Fan(submitted=since, seen=time.time(), total=total)

    def loop(self, laps: int) -> Run:
        return self.ended(self.submit(laps))

    def executed(self) -> int:
        """Steps whose results are kept."""
        with psycopg.connect(self._task.url()) as connection:
            found = connection.execute("SELECT count(*) FROM dbos.operation_outputs").fetchone()
        assert found is not None
        return int(found[0])

    def pids(self) -> Mapping[str, Sequence[int]]:
        return {"worker": self._workers}

    def _queued(self, workflow: Any, *arguments: object) -> Any:
        options: Any = {
            "workflow_name": workflow.__qualname__,
            "queue_name": _QUEUE,
            "app_version": _RELEASE,
        }
        return self._client.enqueue(options, *arguments)

    def _result(self, handle: Any) -> Any:
        return handle.get_result(polling_interval_sec=self._polling)


def _work(task: Task, number: str) -> None:
    """Be a worker until somebody ends it."""
    settings = task.settings
    DBOS(
        config={
            "name": "bench",
            "system_database_url": task.url(),
            "sys_db_pool_size": settings["pool"],
            "application_version": _RELEASE,
            "executor_id": number,
            "max_executor_threads": settings["executor_threads"],
            "notification_listener_polling_interval_sec": settings["polling_seconds"],
            "log_level": "ERROR",
            "console_log_level": "ERROR",
        }
    )
    DBOS.launch()
    DBOS.register_queue(
        _QUEUE,
        worker_concurrency=settings["worker_concurrency"],
        polling_interval_sec=settings["polling_seconds"],
    )
    print("ready", flush=True)
    while True:
        time.sleep(3600)


def main() -> None:
    """Start the workers and measure; or be one."""
    task = peers.asked()
    if number := os.environ.get(_WORKER):
        _work(task, number)
    with ExitStack() as stack:
        workers = []
        for number in map(str, range(1, task.settings["workers"] + 1)):
            log = task.log(f"worker{number}")
            command = [sys.executable, "-m", "benchmarks.peers.dbos"]
            process = peers.running(command, log=log, environment={_WORKER: number})
            workers.append(stack.enter_context(process).pid)
            # One after the other: the first makes the tables.
            peers.wait_until(lambda log=log: "ready" in log.read_text())
        peers.answer(task, Dbos(task, workers))


if __name__ == "__main__":
    main()
