"""Prefect: a server on Postgres; flows and their tasks run in the process that submits them.

The states of tasks are told to the server in the background, so a step that has run may be one
that nothing remembers yet.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from benchmarks import peers
from benchmarks.steps import BODIES, START
from benchmarks.workloads import Fan, Run

#: Steps carried out; an append is one operation, whichever thread it comes from.
_EXECUTED: list[None] = []

Sent = tuple[float, "Future[Any]"]


class Prefect:
    """Flows, and the loop that runs them."""

    joins = 0

    def __init__(self, server: int) -> None:
        # It reads its settings when it is imported.
        from prefect import flow, task  # noqa: PLC0415

        @task
        async def step(state: Any, body: str) -> Any:
            _EXECUTED.append(None)
            return await asyncio.to_thread(BODIES[body], state)

        @task
        async def branch(item: int) -> int:
            _EXECUTED.append(None)
            return item + 1

        @flow
        async def chain(steps: int, body: str) -> Any:
            state: Any = START
            for _ in range(steps):
                state = await step(state, body)
            return state

        @flow
        async def fan_out(branches: int) -> int:
            return sum(await asyncio.gather(*(branch(item) for item in range(branches))))

        self._chain = chain
        self._fan_out = fan_out
        self._server = server
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def submit(self, steps: int, body: str = "noop") -> Sent:
        return time.time(), self._started(self._chain(steps, body))

    def ended(self, submitted: Sent) -> Run:
        since, result = submitted
        state = result.result()
        return Run(
            submitted=since,
            first=state["first"],
            last=state["last"],
            seen=time.time(),
            steps=state["n"],
        )

    def fan_out(self, branches: int) -> Fan:
        since = time.time()
        total = self._started(self._fan_out(branches)).result()
        return Fan(submitted=since, seen=time.time(), total=total)

    def loop(self, laps: int) -> Run:
        return self.ended(self.submit(laps))

    def executed(self) -> int:
        """Tasks that have run so far."""
        return len(_EXECUTED)

    def pids(self) -> Mapping[str, Sequence[int]]:
        return {"process": [os.getpid()], "server": [self._server]}

    def _started(self, flow: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(flow, self._loop)


def main() -> None:
    """Start the server, and measure."""
    task = peers.asked()
    port = peers.free_port()
    os.environ |= {
        **task.settings["environment"],
        "PREFECT_HOME": task.folder,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    command = [peers.program("prefect"), "server", "start", "--host", "127.0.0.1", "--port"]
    database = {"PREFECT_API_DATABASE_CONNECTION_URL": task.url("asyncpg")}
    log = task.log("server")
    with peers.running([*command, str(port)], log=log, environment=database) as server:
        peers.wait_until(lambda: peers.answers(f"http://127.0.0.1:{port}/api/health"), tick=0.2)
        peers.answer(task, Prefect(server.pid))
    # Threads of the client would wait for their server.
    os._exit(0)


if __name__ == "__main__":
    main()
