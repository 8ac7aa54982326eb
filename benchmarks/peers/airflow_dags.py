"""What Airflow's DAG processor reads: chains of each length and body, and one fan-out.

The sizes come in the variable that the peer was asked in.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from benchmarks import peers
from benchmarks.peers import airflow
from benchmarks.steps import BODIES, START


def chain(steps: int, body: str) -> None:
    """One DAG that is a chain."""

    @dag(dag_id=f"chain{steps}-{body}", schedule=None, catchup=False, max_active_runs=16)
    def made() -> None:
        state: Any = START
        for number in range(1, steps + 1):
            state = task(BODIES[body], task_id=f"step{number}")(state)

    made()


def fan_out(branches: int) -> None:
    """One DAG of branches and the task that adds them up."""

    def branch(item: int) -> int:
        return item + 1

    def join(found: list[int]) -> int:
        return sum(found)

    @dag(dag_id=f"fan{branches}", schedule=None, catchup=False)
    def made() -> None:
        found = [task(branch, task_id=f"branch{item}")(item) for item in range(branches)]
        task(join)(found)

    made()


_SIZE = peers.asked().size
for _steps, _body in airflow.chains(_SIZE):
    chain(_steps, _body)
fan_out(_SIZE["branches"])
