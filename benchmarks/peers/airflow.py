"""Airflow: an API server, a scheduler with its LocalExecutor and a DAG processor, on Postgres.

A run is a DAG run that the API is asked for; state travels from task to task as XCom.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks import peers
from benchmarks.peers import Task
from benchmarks.steps import BODIES
from benchmarks.workloads import SECONDS, Fan, Run

_PROCESSES = ("api-server", "scheduler", "dag-processor")
_XCOM = """
    SELECT value FROM xcom WHERE dag_id = %s AND run_id = %s AND task_id = %s AND key = 'return_value'
"""

#: When, of which DAG, the run, and its last task.
Sent = tuple[float, str, str, str]


class Airflow:
    """Its processes, and a client of its API."""

    joins = 1

    def __init__(self, url: str, database: Any, processes: Mapping[str, Sequence[int]]) -> None:
        self._url = url
        self._database = database
        self._processes = processes
        self._token = ""
        self._token = self._asked("/auth/token")["access_token"]

    def submit(self, steps: int, body: str = "noop") -> Sent:
        return self._started(f"chain{steps}-{body}", f"step{steps}")

    def ended(self, submitted: Sent) -> Run:
        state, seen = self._result(submitted)
        return Run(
            submitted=submitted[0],
            first=state["first"],
            last=state["last"],
            seen=seen,
            steps=state["n"],
        )

    def fan_out(self, branches: int) -> Fan:
        submitted = self._started(f"fan{branches}", "join")
        total, seen = self._result(submitted)
        return Fan(submitted=submitted[0], seen=seen, total=total)

    def loop(self, laps: int) -> Run:
        raise NotImplementedError("a DAG has no loops")

    def executed(self) -> int:
        """Tries of tasks so far."""
        found = self._one("SELECT coalesce(sum(try_number), 0) FROM task_instance")
        return int(found)

    def pids(self) -> Mapping[str, Sequence[int]]:
        return self._processes

    def _started(self, name: str, last: str) -> Sent:
        since = time.time()
        run = self._asked(f"/api/v2/dags/{name}/dagRuns", {"logical_date": None})["dag_run_id"]
        return since, name, run, last

    def _result(self, submitted: Sent) -> tuple[Any, float]:
        _, name, run, last = submitted

        def done() -> bool:
            found = self._one("SELECT state FROM dag_run WHERE run_id = %s", run)
            if found == "failed":
                raise RuntimeError(f"run {run} of {name} failed")
            return bool(found == "success")

        peers.wait_until(done, seconds=SECONDS)
        seen = time.time()
        value = self._one(_XCOM, name, run, last)
        return (json.loads(value) if isinstance(value, str) else value), seen

    def _one(self, statement: str, *values: str) -> Any:
        with self._database.cursor() as cursor:
            cursor.execute(statement, values)
            (found,) = cursor.fetchone()
        return found

    def _asked(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self._url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def chains(size: Mapping[str, int]) -> frozenset[tuple[int, str]]:
    """The chains that are measured, each a DAG: how many steps, and their body."""
    some = [(size["steps"], body) for body in BODIES]
    return frozenset({(size["chain"], "noop"), (1, "noop"), *some})


def main() -> None:
    """Make the tables, start the processes, and measure."""
    task = peers.asked()
    port = peers.free_port()
    os.environ |= _environment(task, port)
    dags = Path(task.folder) / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).with_name("airflow_dags.py"), dags)
    airflow = peers.program("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, stdout=subprocess.DEVNULL)
    database = psycopg2.connect(task.url())
    database.autocommit = True
    with ExitStack() as stack:
        processes = {
            name: [stack.enter_context(peers.running([airflow, name], log=task.log(name))).pid]
            for name in _PROCESSES
        }
        wanted = len(chains(task.size)) + 1

        def ready() -> bool:
            with database.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM serialized_dag")
                return bool(cursor.fetchone()[0] == wanted)

        peers.wait_until(ready, seconds=150, tick=0.5)
        peers.wait_until(lambda: peers.answers(f"http://127.0.0.1:{port}/api/v2/version"), tick=0.5)
        peers.answer(task, Airflow(f"http://127.0.0.1:{port}", database, processes))


def _environment(task: Task, port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}"
    return {
        **task.settings["environment"],
        "AIRFLOW_HOME": task.folder,
        "AIRFLOW__CORE__DAGS_FOLDER": f"{task.folder}/dags",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": task.url("psycopg2"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "PATH": f"{Path(peers.program('airflow')).parent}:{os.environ['PATH']}",
    }


if __name__ == "__main__":
    main()
