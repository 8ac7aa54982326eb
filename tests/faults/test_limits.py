"""A broker that says nothing, and a tenant that asks for far more than its share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from celeriac.drill import stage as stages
from celeriac.embedded import processes
from engine.broker import _SOCKET_TIMEOUT, Nudger
from engine.runs import doctor, launch, tenants
from engine.store import session
from engine.store.ids import RunId
from tests.faults.conftest import VISIT, Stage
from tests.support import platforms
from tests.support.fleet import wait_until
from tests.support.platforms import sql

BRIEF = {
    "workflow": "brief",
    "nodes": {"pause": {"kind": "timer", "for": 0}, "done": {"kind": "pass"}},
    "edges": ["pause -> done -> end"],
}
CLIENTS = 4
#: Who comes while every thread is at a step: for the first of them there is one more.
OTHERS = ("spared", "quiet")
#: Twenty times the threads that there are.
FLOOD = 80


@pytest.fixture
def platform() -> Iterator[stages.Stage]:
    """Processes that reach their servers through networks that can be muted."""
    with stages.staged(lease_seconds=30.0, names=("web", "coordinator1")) as running:
        yield running


@pytest.fixture
def client(platform: stages.Stage) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {platform.key}"}
    with httpx2.Client(base_url=f"{platform.url}/api/v1", headers=headers, timeout=60) as opened:
        opened.post("/workflows", json=BRIEF).raise_for_status()
        yield opened


def test_with_the_broker_mute_no_request_waits_for_it_and_no_submission_is_lost(
    platform: stages.Stage, client: httpx2.Client
) -> None:
    def submit(number: int) -> tuple[float, str]:
        began = time.monotonic()
        answer = client.post("/runs", json={"workflow": "brief"}).raise_for_status()
        run = answer.json()["run_id"]
        if number % 5 == 0:
            client.get("/runs", params={"limit": 5}).raise_for_status()
        if number % 10 == 0:
            client.post(f"/runs/{run}/cancel", json={}).raise_for_status()
        return time.monotonic() - began, run

    with ThreadPoolExecutor(CLIENTS) as clients:
        submitted = list(clients.map(submit, range(1, CLIENTS + 1)))
        platform.broker_network.mute()
        muted = list(clients.map(submit, range(60)))
    took = sorted(seconds for seconds, _ in muted)
    # One that waited for the broker would wait for the time-out of its socket.
    assert took[int(0.9 * len(took))] < _SOCKET_TIMEOUT, took
    platform.broker_network.mend()
    runs = {run for _, run in (*submitted, *muted)}
    assert len(runs) == CLIENTS + 60

    def ended() -> dict[str, str]:
        with session.transaction(platform.database) as connection:
            rows = connection.exec_driver_sql(
                "SELECT id::text, status FROM run WHERE finished_at IS NOT NULL"
            )
            return {row.id: row.status for row in rows}

    assert processes.wait_until(lambda: ended().keys() == runs, seconds=60), ended()
    assert sorted(ended().values()).count("cancelled") == 6
    assert doctor.examine(platform.database) == ()


@pytest.mark.parametrize("stage", [("worker1", "coordinator1")], indirect=True)
def test_who_comes_after_a_tenant_that_floods_is_served_among_its_first(
    stage: Stage, tmp_path: Path
) -> None:
    """Told by the order in which steps were leased, not by a clock."""
    folders = {tenant: tmp_path / f"go-{tenant}" for tenant in (platforms.TENANT, *OTHERS)}
    versions = {}
    for tenant in folders:
        if tenant != platforms.TENANT:
            tenants.create(stage.platform.database, tenant, name=tenant, admin="ada")
            library = "tests.support.witness:visit"
            platforms.register(stage.platform, "visit", library=library, tenant=tenant)
        once = {"workflow": "once", "nodes": {"a": VISIT}, "edges": ["a -> end"]}
        versions[tenant] = platforms.publish(stage.platform, once, tenant=tenant)
    nudger = Nudger(stage.platform.broker.nudge)

    def submit(tenant: str) -> RunId:
        inputs = {"witness": str(stage.witness), "n": 0, "go": str(folders[tenant])}
        run = launch.submit(stage.platform, tenant, versions[tenant], inputs, by="ada").run
        nudger.nudge(run)
        return run

    busy = [submit(platforms.TENANT) for _ in range(FLOOD)]
    threads = stage.settings.concurrency
    wait_until(lambda: begun(stage) == threads, what="every thread to be at a step")
    wait_until(lambda: ready(stage) == FLOOD - threads, what="the others to be ready")
    spared = submit(OTHERS[0])
    wait_until(lambda: begun(stage) == threads + 1, what="the one thread more to be at a step")
    quiet = submit(OTHERS[1])
    wait_until(lambda: ready(stage) == FLOOD - threads + 1, what="the last one to be ready")
    for tenant in (platforms.TENANT, OTHERS[1]):
        folders[tenant].touch()
    stage.check([*busy, quiet])
    # Not by what the witness saw: the first step of a tenant waits for a child to be forked for it.
    order = sql(stage.platform, "SELECT run_id::text AS run FROM attempt ORDER BY started_at")
    # Behind those that were under way, and what each thread had fetched; not behind eighty.
    assert [row.run for row in order].index(quiet.run) <= 6 * threads
    folders[OTHERS[0]].touch()
    stage.check([spared])
    nudger.close()


def begun(stage: Stage) -> int:
    return len(stage.witness.read_text().splitlines()) if stage.witness.exists() else 0


def ready(stage: Stage) -> int:
    return len(sql(stage.platform, "SELECT FROM step WHERE status = 'ready'"))
