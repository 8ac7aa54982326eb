"""A fleet of real processes with servers of its own.

Leases are long: a machine that is busy with other things must not make a worker lose a step
that it was not to lose. Where a lease is to run out, `Stage.age` says when; tests of outages,
which have to sit one out, override `lease_seconds` and assert nothing that time could spoil.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from celeriac.drill.servers import Servers
from engine.core.values import Json
from engine.platform import Platform
from engine.runs import launch, views
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId
from tests.support import platforms, services
from tests.support.fleet import Fleet, fleet, wait_for_end, wait_until, witnessed

NODES = ("a", "b", "c", "d")
#: Steps are held up on purpose, and must not end for that.
VISIT = {"uses": "visit", "timeout": 300}
CHAIN = {
    "workflow": "chain",
    "nodes": dict.fromkeys(NODES, VISIT),
    "edges": [" -> ".join((*NODES, "end"))],
}
LOOPING = {
    "workflow": "looping",
    "nodes": {"a": VISIT, "b": {**VISIT, "max_iterations": 3}},
    "edges": ["a -> b", {"from": "b", "to": "a", "label": "loop"}, "b -> end"],
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a fault test plays on."""

    settings: Settings
    platform: Platform
    fleet: Fleet
    servers: Servers
    witness: Path
    chain: str
    looping: str

    def submit(
        self, version: str | None = None, *, seconds: float = 0.0, go: Path | None = None
    ) -> RunId:
        """A run through the platform of a process that only submits.

        Each of its steps takes so many seconds, and waits until the file `go` is there.
        """
        inputs: dict[str, Json] = {"witness": str(self.witness), "seconds": seconds, "n": 0}
        if go is not None:
            inputs["go"] = str(go)
        run = launch.submit(
            self.platform, platforms.TENANT, version or self.chain, inputs, by="ada"
        ).run
        self.platform.broker.nudge([run])
        return run

    def arm(self, point: str) -> Path:
        """Have the next process that passes a point die there; the file is gone when one has."""
        assert self.settings.fault_dir is not None
        armed = self.settings.fault_dir / point
        armed.touch()
        return armed

    def await_death(self, armed: Path) -> None:
        """Wait until a process has died at an armed point."""
        wait_until(lambda: not armed.exists(), what=f"a process to die at {armed.name}")

    def age(self) -> list[str]:
        """Let the leases of every process that has died run out; the steps that were theirs."""
        dead = [f":{pid}" for pid in self.fleet.dead]
        with session.transaction(self.platform.database) as connection:
            return list(
                connection.execute(
                    text(
                        "UPDATE step SET lease_until = clock_timestamp() WHERE status = 'leased'"
                        " AND substring(worker FROM ':[0-9]+$') = ANY (:dead) RETURNING key"
                    ),
                    {"dead": dead},
                ).scalars()
            )

    def ran(self, run: RunId) -> dict[tuple[str, int], list[int]]:
        """Attempts that ran, for each visit to a node."""
        seen = witnessed(self.witness)
        return {(node, lap): tries for (of, node, lap), tries in seen.items() if of == run.run}

    def check(self, runs: list[RunId], *, seconds: float = 60) -> None:
        """Every run completes by itself, and no step ran again after its result was accepted."""
        wait_for_end(self.platform, runs, seconds=seconds)
        for run in runs:
            status = views.status(self.platform, run)
            assert status.status == "completed", views.run(self.platform, run)
            ran = self.ran(run)
            assert views.run(self.platform, run).variables["n"] == len(ran)
            for step in views.steps(self.platform, run):
                tries = ran.get((step.node, step.iteration))
                if tries is None:
                    continue
                (accepted,) = [a.attempt for a in step.attempts if a.outcome == "succeeded"]
                assert max(tries) == accepted, f"{step.key} ran again: {tries}, {accepted} counted"
                assert len(tries) == len(set(tries)), f"{step.key}: an attempt ran twice: {tries}"


@pytest.fixture
def lease_seconds() -> float:
    return 60.0


@pytest.fixture
def stall_seconds() -> float:
    return 600.0


@pytest.fixture
def worker_turns() -> bool:
    return False


@pytest.fixture
def chosen(lease_seconds, stall_seconds, worker_turns):
    """What a module of tests, or a test, chooses of the settings."""
    return {
        "lease_seconds": lease_seconds,
        "stall_seconds": stall_seconds,
        "worker_turns": worker_turns,
    }


@pytest.fixture
def own_servers(shared_services, short_folder):
    """As everywhere, but with today's schema."""
    services.prepare(short_folder / "postgres")
    servers = Servers(short_folder)
    yield servers
    servers.close()


@pytest.fixture
def stage(request, own_servers, tmp_path, chosen):
    fault_dir = tmp_path / "faults"
    fault_dir.mkdir()
    settings = Settings(
        database_url=own_servers.database_url,
        broker_url=own_servers.broker_url,
        redis_url=own_servers.redis_url,
        blob_url=(tmp_path / "blobs").as_uri(),
        blob_keys=platforms.RING,
        secret_keys=platforms.SECRET_RING,
        home=tmp_path,
        sweep_seconds=0.2,
        resend_seconds=1.0,
        fault_dir=fault_dir,
        **chosen,
        port=_free_port(),
    )
    names = getattr(request, "param", ("worker1", "worker2", "coordinator1", "coordinator2"))
    # Only the fleet's processes may die at an armed point.
    with platforms.platform(replace(settings, fault_dir=None)) as platform:
        platforms.register(platform, "visit", library="tests.support.witness:visit")
        with fleet(settings, names, tmp_path) as running:
            yield Stage(
                settings=settings,
                platform=platform,
                fleet=running,
                servers=own_servers,
                witness=tmp_path / "witness",
                chain=platforms.publish(platform, CHAIN),
                looping=platforms.publish(platform, LOOPING),
            )


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
