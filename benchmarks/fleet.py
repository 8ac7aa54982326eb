"""Us: two workers and a coordinator as an operator starts them, and a client as the API is one."""

from __future__ import annotations

import inspect
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus

import httpx2

from benchmarks import workloads
from benchmarks.servers import Servers
from benchmarks.steps import START, add_one
from benchmarks.workloads import SECONDS, Figures, Run, Size
from celeriac.embedded import processes
from celeriac.embedded.install import install
from celeriac.embedded.processes import Running
from engine.broker import Nudger
from engine.core.values import Json
from engine.live import Listener
from engine.platform import DatabaseRole, Platform, build
from engine.runs import access, catalogue, launch, policies, views
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId

PROCESSES: Mapping[str, int] = {"worker": 2, "coordinator": 1, "web": 1}
#: The same code of the step under two names: as an installed library's, and as source.
CODES: Mapping[str, str] = {"library": "library_add_one", "source": "add_one"}

_NUMBER = 3
_LOOK_SECONDS = 1.0


class Fleet:
    """The processes, and what a client needs to submit and to wait as the API does."""

    def __init__(
        self, platform: Platform, running: Mapping[str, Sequence[Running]], url: str, key: str
    ) -> None:
        self._platform = platform
        self._running = running
        self._nudger = Nudger(platform.broker)
        self._listener = Listener(platform.live)
        self._versions: dict[tuple[str, int], str] = {}
        self.http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=SECONDS
        )

    def version(self, code: str, steps: int) -> str:
        """The id of a published chain of so many steps."""
        if (code, steps) not in self._versions:
            self._versions[code, steps] = self.published(_chain(code, steps))
        return self._versions[code, steps]

    def published(self, document: Json) -> str:
        """The id of a version of a workflow."""
        return catalogue.publish(self._platform, access.LOCAL.tenant, document, by="benchmark").id

    def apply(self, policy: str) -> None:
        """Put a policy in force."""
        policies.apply(self._platform, access.LOCAL.tenant, policy, by="benchmark")

    def withdraw(self, name: str) -> None:
        """Take a policy out of force."""
        policies.withdraw(self._platform, access.LOCAL.tenant, name, by="benchmark")

    def submit(self, version: str) -> tuple[float, RunId]:
        submitted = time.time()
        run = launch.submit(
            self._platform, access.LOCAL.tenant, version, dict(START), by="benchmark"
        ).run
        self._nudger.nudge(run)
        return submitted, run

    def submit_by_rest(self, version: str) -> tuple[float, RunId]:
        body = {"version_id": version, "inputs": START}
        submitted = time.time()
        answer = self.http.post("/api/v1/runs", json=body)
        answer.raise_for_status()
        return submitted, RunId(access.LOCAL.tenant, answer.json()["run_id"])

    def ended(self, submitted: float, run: RunId) -> Run:
        """A run once it has completed."""
        deadline = time.monotonic() + SECONDS
        with self._listener.bell(run) as bell:
            while not (status := views.status(self._platform, run)).terminal:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"run {run.run} is {status.status} after {SECONDS} s")
                bell.wait(_LOOK_SECONDS)
        seen = time.time()
        found = views.run(self._platform, run)
        if found.status != "completed":
            raise RuntimeError(f"run {run.run} is {found.status}: {found.reason}: {found.message}")
        state = found.variables
        return Run(
            submitted=submitted,
            first=_number(state["first"]),
            last=_number(state["last"]),
            seen=seen,
            steps=int(_number(state["n"])),
        )

    def executed(self) -> int:
        """Attempts that workers have begun so far."""
        with session.transaction(self._platform.database) as connection:
            found = connection.exec_driver_sql("SELECT count(*) FROM attempt").scalar_one()
        return int(found)

    def pids(self) -> Mapping[str, Sequence[int]]:
        return {kind: [one.pid for one in some] for kind, some in self._running.items()}

    def close(self) -> None:
        self.http.close()
        self._listener.close()
        self._nudger.close()


class Steps:
    """A fleet, with the code of its steps in one of its two forms."""

    def __init__(self, fleet: Fleet, code: str) -> None:
        self._fleet = fleet
        self._code = code
        self.executed = fleet.executed
        self.pids = fleet.pids

    def run(self, steps: int) -> Run:
        return self._fleet.ended(*self._fleet.submit(self._fleet.version(self._code, steps)))

    def run_by_rest(self, steps: int) -> Run:
        version = self._fleet.version(self._code, steps)
        return self._fleet.ended(*self._fleet.submit_by_rest(version))

    def many(self, runs: int, steps: int) -> Sequence[Run]:
        version = self._fleet.version(self._code, steps)
        return [
            self._fleet.ended(*one) for one in [self._fleet.submit(version) for _ in range(runs)]
        ]


def measure(servers: Servers, size: Size, *, worker_turns: bool) -> Iterator[tuple[str, Figures]]:
    """The figures of one fleet, for each form of the code as they come."""
    with started(servers, worker_turns=worker_turns) as fleet:
        for code in CODES:
            steps = Steps(fleet, code)
            figures = workloads.measure(steps, size, servers.pids())
            rest = workloads.first_step(steps.run_by_rest, size, "first_step_rest")
            yield code, {**figures, **rest}


@contextmanager
def started(servers: Servers, *, worker_turns: bool) -> Iterator[Fleet]:
    """Processes on a database of their own for the length of a block."""
    name = f"benchmark_{secrets.token_hex(4)}"
    home = servers.folder / name
    settings = Settings(
        database_url=servers.database(name),
        broker_url=servers.broker_url(_NUMBER),
        redis_url=servers.redis_url(_NUMBER),
        blob_url=(home / "blobs").as_uri(),
        home=home,
        libraries=("benchmarks.steps",),
        worker_turns=worker_turns,
        port=_free_port(),
    )
    servers.flush(_NUMBER)
    key = home / "admin.key"
    install(settings, key_file=key)
    platform = build(settings, DatabaseRole.CONTROL)
    catalogue.register(
        platform,
        access.LOCAL.tenant,
        "function",
        CODES["source"],
        inspect.getsource(add_one),
        by="benchmark",
    )
    running = {
        kind: [_process(servers, settings, kind, number) for number in range(count)]
        for kind, count in PROCESSES.items()
    }
    fleet = Fleet(
        platform, running, f"http://{settings.host}:{settings.port}", key.read_text().strip()
    )
    try:
        servers.await_answers(platform.broker.app, PROCESSES["worker"] + PROCESSES["coordinator"])
        _await_web(fleet)
        yield fleet
    finally:
        fleet.close()
        servers.end([one for some in running.values() for one in some])
        platform.close()
        servers.drop(name)


def _process(servers: Servers, settings: Settings, kind: str, number: int) -> Running:
    """What the Procfile starts, with its output in a file."""
    return processes.spawn(
        [sys.executable, "-m", "celeriac", kind],
        log=servers.folder / f"{settings.home.name}-{kind}{number}.log",
        environment={**servers.environment, **settings.to_environment()},
        folder=servers.folder,
        leash=signal.SIGTERM,
    )


def _await_web(fleet: Fleet) -> None:
    def ready() -> bool:
        try:
            return fleet.http.get("/api/v1/ready").status_code == HTTPStatus.OK
        except httpx2.TransportError:
            return False

    if not processes.wait_until(ready, seconds=SECONDS):
        raise RuntimeError("the API does not answer")


def _chain(code: str, steps: int) -> Json:
    """The document of a workflow that is one chain."""
    nodes = [f"step{number}" for number in range(steps)]
    return {
        "workflow": f"{code}-{steps}",
        "nodes": {node: {"uses": CODES[code]} for node in nodes},
        "edges": [" -> ".join((*nodes, "end"))],
    }


def _number(value: Json) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
