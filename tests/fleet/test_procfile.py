"""The Procfile, run for real: what a fleet must do, and what Celery's own tools say of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from tests.fleet import compose
from tests.fleet.conftest import Fleet
from tests.support.fleet import wait_until

pytestmark = pytest.mark.timeout(240)

PROCESSES = ("web", "coordinator", "worker", "beat", "flower")
DOUBLE = "def double(state):\n    state['n'] = state['n'] * 2\n    return state\n"
DOUBLING = {
    "workflow": "doubling",
    "nodes": {"first": {"uses": "double"}, "second": {"uses": "double"}},
    "edges": ["first -> second -> end"],
}
WAITING = {
    "workflow": "waiting",
    "nodes": {"hold": {"uses": "wait_for_file", "timeout": 300}},
    "edges": ["hold -> end"],
}


def test_nobody_gets_into_flower_without_its_password(fleet: Fleet) -> None:
    place = str(fleet.flower.base_url)
    assert httpx2.get(f"{place}/api/workers").status_code == 401
    assert httpx2.get(f"{place}/workers").status_code == 401
    assert httpx2.get(f"{place}/api/workers", auth=("operator", "guess")).status_code == 401


def test_nobody_gets_into_the_api_without_a_key(fleet: Fleet) -> None:
    assert httpx2.get(f"{fleet.api.base_url}/api/v1/runs").status_code == 401


def test_the_processes_carry_a_run_through(fleet: Fleet) -> None:
    answer = fleet.api.post("/api/v1/functions", json={"name": "double", "code": DOUBLE})
    assert answer.status_code == 201, answer.text
    fleet.publish(DOUBLING)
    run = fleet.ended(fleet.submit("doubling", n=5))
    assert run["status"] == "completed", run
    assert run["variables"] == {"n": 20}


def test_flower_shows_the_workflow_and_the_node_of_each_task(fleet: Fleet) -> None:
    fleet.api.post("/api/v1/functions", json={"name": "double", "code": DOUBLE})
    fleet.publish(DOUBLING)
    runs = []

    def shows_one() -> bool:
        # Workers tell of what they do from when Flower has asked them to, which it does again and again.
        runs.append(fleet.submit("doubling", n=1))
        fleet.ended(runs[-1])
        found = fleet.flower.get("/api/tasks", params={"taskname": "execute_step"}).json()
        succeeded = {task["args"] for task in found.values() if task["state"] == "SUCCESS"}
        return any(
            {f"doubling first#1 run={run}", f"doubling second#1 run={run}"} <= succeeded
            for run in runs
        )

    wait_until(shows_one, what="Flower to show the steps of a run")


def test_everything_answers_while_a_long_step_runs(fleet: Fleet) -> None:
    fleet.publish(WAITING)
    began, go = fleet.folder / "began", fleet.folder / "go"
    run = fleet.submit("waiting", began=str(began), go=str(go))
    wait_until(began.exists, what="the step to begin")
    try:
        pinged = fleet.run(
            "celery", f"--broker={fleet.environment['BROKER_URL']}", "inspect", "ping"
        )
        assert pinged.returncode == 0, pinged.stderr
        assert pinged.stdout.count("pong") == 2, pinged.stdout
        (worker,) = [name for name in _known_to_flower(fleet) if name.startswith("worker-")]
        (busy,) = _known_to_flower(fleet, workername=worker).values()
        assert [task["name"] for task in busy["active"]] == ["execute_step"]
        assert fleet.flower.get("/workers").status_code == 200
        for process in PROCESSES:
            checked = fleet.run(*_health_check(fleet, process))
            assert checked.returncode == 0, f"{process}: {checked.stderr}"
        assert fleet.api.get(f"/api/v1/runs/{run}").json()["status"] == "running"
    finally:
        go.touch()
    assert fleet.ended(run)["status"] == "completed"


@pytest.mark.parametrize("process", ["coordinator", "worker", "beat"])
def test_a_health_check_fails_where_nobody_answers(fleet: Fleet, process: str) -> None:
    # Port 1 on this machine refuses at once.
    checked = fleet.run(
        "env", "BROKER_URL=redis://:none@127.0.0.1:1/0", *_health_check(fleet, process)
    )
    assert checked.returncode != 0


def test_what_the_processes_say_is_json_and_no_complaint(fleet: Fleet) -> None:
    for process in ("web.1", "coordinator.1", "worker.1", "beat.1"):
        # Celery's own greeting and its warning to root stand before it connects.
        lines = list(fleet.lines(process))
        others = [i for i, line in enumerate(lines) if not line.startswith("{")]
        connected = next((i for i, line in enumerate(lines) if "Connected to" in line), len(lines))
        assert [lines[i] for i in others if i > connected] == []
        said = [json.loads(line) for line in lines if line.startswith("{")]
        assert said
        assert [line for line in said if line["level"] not in ("info", "debug")] == []
    assert "DeprecationWarning" not in fleet.transcript()
    assert "Traceback" not in fleet.transcript()


def _known_to_flower(fleet: Fleet, **which: str) -> Mapping[str, Any]:
    """What Celery's processes have just answered to Flower."""
    answer = fleet.flower.get("/api/workers", params={"refresh": "true", **which})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


def _health_check(fleet: Fleet, process: str) -> list[str]:
    """The health check of docker-compose.yml, with the ports of this fleet."""
    ports = {"8000": "CELERIAC_PORT", "5555": "FLOWER_PORT"}
    words = compose.health_check(process)
    for port, name in ports.items():
        words = [word.replace(f":{port}/", f":{fleet.environment[name]}/") for word in words]
    # A container has one Celery process, so its host's name is enough; here there are two.
    host = 'f"*@{socket.gethostname()}"'
    return [word.replace(host, f"'{process}-*@{socket.gethostname()}'") for word in words]
