"""The API while it, or the broker behind it, is killed."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from uuid import uuid4

import httpx2
import pytest

from engine import faults
from engine.broker import _SOCKET_TIMEOUT
from engine.runs import access, doctor
from engine.store.ids import RunId
from tests.faults.conftest import Stage
from tests.support.fleet import wait_until

WITH_WEB = ("web", "worker1", "coordinator1")
MOMENTS = 20


class Client:
    """A client that repeats a submission under its key until it is answered."""

    def __init__(self, stage: Stage) -> None:
        token = access.create_key(stage.platform.database, access.LOCAL)
        self._stage = stage
        self._http = httpx2.Client(
            base_url=f"http://127.0.0.1:{stage.settings.port}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )

    def close(self) -> None:
        self._http.close()

    def up(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return self._http.get("/health").is_success
        return False

    def submit(self, key: str) -> RunId:
        asked = {
            "version_id": self._stage.chain,
            "inputs": {"witness": str(self._stage.witness), "n": 0},
        }
        for _ in range(400):
            with contextlib.suppress(httpx2.TransportError):
                answer = self._http.post("/runs", json=asked, headers={"Idempotency-Key": key})
                if answer.is_success:
                    return RunId("local", answer.json()["run_id"])
                assert answer.status_code == 503, answer.text
            threading.Event().wait(0.05)
        raise AssertionError("the API never came back")

    def runs(self) -> set[str]:
        # A connection that was kept may belong to a process that has died since.
        for _ in range(400):
            with contextlib.suppress(httpx2.TransportError):
                answer = self._http.get("/runs", params={"limit": 100}).raise_for_status()
                return {run["id"] for run in answer.json()["items"]}
            threading.Event().wait(0.05)
        raise AssertionError("the API never came back")


@pytest.fixture
def client(stage):
    opened = Client(stage)
    wait_until(opened.up, what="the API")
    yield opened
    opened.close()


@pytest.mark.parametrize("stage", [WITH_WEB], indirect=True)
def test_a_submission_whose_process_dies_after_its_commit_is_found_by_its_key(stage, client):
    armed = stage.arm(faults.SUBMIT_COMMITTED)
    run = client.submit("once")
    assert not armed.exists()
    stage.check([run])
    assert client.runs() == {run.run}


@pytest.mark.parametrize("stage", [WITH_WEB], indirect=True)
def test_with_the_broker_gone_submissions_answer_at_once_and_run_when_it_is_back(stage, client):
    stage.check([client.submit("before")])
    stage.servers.crash_valkey()
    took = []
    runs = []
    for number in range(10):
        began = time.monotonic()
        runs.append(client.submit(f"away {number}"))
        took.append(time.monotonic() - began)
    # A request that waited for the broker would wait for its socket timeouts.
    assert sorted(took)[len(took) // 2] < _SOCKET_TIMEOUT
    stage.servers.start_valkey()
    stage.check(runs)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", [WITH_WEB], indirect=True)
def test_no_submission_is_lost_or_doubled_whenever_the_api_is_killed(stage, client):
    rng = random.Random("web")
    keys = [uuid4().hex for _ in range(60)]
    found: dict[str, RunId] = {}
    submitting = threading.Thread(
        target=lambda: [found.setdefault(key, client.submit(key)) for key in keys]
    )
    submitting.start()
    pause = threading.Event()
    for moment in range(MOMENTS):
        pause.wait(rng.uniform(0.3, 1.2))
        if moment % 2:
            stage.fleet.kill("web")
        else:
            stage.fleet.kill_forks("web")
    submitting.join()
    wait_until(client.up, what="the API to be back")
    runs = list(found.values())
    assert len(runs) == len(keys)
    assert client.runs() == {run.run for run in runs}
    stage.check(runs, seconds=120)
    assert doctor.examine(stage.platform.database) == ()
