"""Us: two workers and a coordinator as an operator starts them, and a client as the API is one."""

from __future__ import annotations

import contextlib
import inspect
import json
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any

import httpx2
from sqlalchemy import text

from benchmarks import configuration, workloads
from benchmarks.servers import Servers
from benchmarks.steps import BODIES, START, branch
from benchmarks.workloads import SECONDS, Fan, Figures, Run, Size
from celeriac.embedded import processes
from celeriac.embedded.install import install
from celeriac.embedded.processes import Running
from engine.broker import Nudger
from engine.core.values import Json
from engine.errors import Conflict
from engine.live import Listener
from engine.platform import DatabaseRole, Platform, build
from engine.runs import access, catalogue, control, launch, libraries, policies, tenants, views
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId

PROCESSES: Mapping[str, int] = configuration.section("celeriac.processes")
#: The same code of the steps under two names: an installed library's have a prefix, source has none.
CODES: Mapping[str, str] = {"library": "library_", "source": ""}

#: Modules whose functions are installed.
LIBRARIES = ("benchmarks.steps", "benchmarks.naps")

_NUMBER = 3
_LOOK_SECONDS = 1.0
#: From the result of a step, as it is committed, to the start of the attempt that follows.
_TURNS = """
    SELECT 1e3 * extract(epoch FROM next - ended_at) FROM (
        SELECT r.ended_at, lead(a.started_at) OVER (PARTITION BY a.run_id ORDER BY a.started_at) AS next
        FROM attempt a JOIN result r USING (tenant_id, run_id, step, attempt)
        WHERE a.run_id = ANY (CAST(:runs AS uuid[]))) AS turns
    WHERE next IS NOT NULL
"""

#: What would be written with less than a synchronous commit of a logged table.
_LESS = """
    SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relpersistence = 'u'
    UNION ALL SELECT setting FROM pg_db_role_setting, unnest(setconfig) AS setting
        WHERE setting LIKE 'synchronous_commit=%'
    UNION ALL SELECT 'synchronous_commit=' || current_setting('synchronous_commit')
        WHERE current_setting('synchronous_commit') <> 'on'
"""

Sent = tuple[float, RunId]


class Fleet:
    """The processes, and what a client needs to submit and to wait as the API does."""

    def __init__(
        self, platform: Platform, running: Mapping[str, Sequence[Running]], url: str, key: str
    ) -> None:
        #: The name of its database.
        self.database = platform.database.url.database or ""
        self.platform = platform
        self._running = running
        self._nudger = Nudger(platform.broker.nudge)
        self._listener = Listener(platform.live)
        self._versions: dict[str, str] = {}
        self.http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=SECONDS
        )

    def version(self, code: str, steps: int, body: str = "noop") -> str:
        """The id of a published chain of so many steps."""
        return self.once(_chain(f"{CODES[code]}{BODIES[body].__name__}", steps))

    def once(self, document: Json) -> str:
        """The id of a version of a workflow, published when it is first asked for."""
        key = json.dumps(document)
        if key not in self._versions:
            self._versions[key] = self.published(document)
        return self._versions[key]

    def published(self, document: Json, *, tenant: str = access.LOCAL.tenant) -> str:
        """The id of a version of a workflow."""
        return catalogue.publish(self.platform, tenant, document, by="benchmark").id

    def welcome(self, tenant: str) -> None:
        """Make a tenant, with the same functions."""
        tenants.create(self.platform.database, tenant, name=tenant, admin="benchmark")
        libraries.install(self.platform.database, tenant, LIBRARIES)

    def apply(self, policy: str) -> None:
        """Put a policy in force."""
        policies.apply(self.platform, access.LOCAL.tenant, policy, by="benchmark")

    def withdraw(self, name: str) -> None:
        """Take a policy out of force."""
        policies.withdraw(self.platform, access.LOCAL.tenant, name, by="benchmark")

    def submit(
        self,
        version: str,
        inputs: Mapping[str, Json] = START,
        *,
        tenant: str = access.LOCAL.tenant,
    ) -> Sent:
        submitted = time.time()
        run = launch.submit(self.platform, tenant, version, dict(inputs), by="benchmark").run
        self._nudger.nudge(run)
        return submitted, run

    def submit_by_rest(self, version: str) -> Sent:
        body = {"version_id": version, "inputs": START}
        submitted = time.time()
        answer = self.http.post("/api/v1/runs", json=body)
        answer.raise_for_status()
        return submitted, RunId(access.LOCAL.tenant, answer.json()["run_id"])

    def ended(self, submitted: float, run: RunId) -> Run:
        """A run once it has completed."""
        seen, state = self.variables(run)
        return Run(
            submitted=submitted,
            first=_number(state["first"]),
            last=_number(state["last"]),
            seen=seen,
            steps=int(_number(state["n"])),
        )

    def variables(self, run: RunId) -> tuple[float, Mapping[str, Json]]:
        """When a run was seen to have completed, and what it came to."""
        deadline = time.monotonic() + SECONDS
        with self._listener.bell(run, at_end=True) as bell:
            while not (status := views.status(self.platform, run)).terminal:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"run {run.run} is {status.status} after {SECONDS} s")
                bell.wait(_LOOK_SECONDS)
        seen = time.time()
        found = views.run(self.platform, run)
        if found.status != "completed":
            raise RuntimeError(f"run {run.run} is {found.status}: {found.reason}: {found.message}")
        return seen, found.variables

    def turns_ms(self, runs: Sequence[RunId]) -> list[float]:
        """How long each result of runs took to become the next attempt, by the database's clock."""
        with session.transaction(self.platform.database) as connection:
            found = connection.execute(text(_TURNS), {"runs": [one.run for one in runs]})
            return [float(value) for value in found.scalars()]

    def check_durability(self) -> None:
        """Whatever is written with less than the rest is named in the configuration."""
        with session.transaction(self.platform.database) as connection:
            found = set(connection.execute(text(_LESS)).scalars())
        if unnamed := found - set(configuration.section("celeriac.less")):
            raise AssertionError(f"written with less, and nobody says why: {sorted(unnamed)}")

    def cancel(self, run: RunId) -> None:
        """End a run, if it has not ended."""
        with contextlib.suppress(Conflict):
            control.cancel(self.platform, run, by="benchmark")

    def executed(self) -> int:
        """Attempts that workers have begun so far."""
        with session.transaction(self.platform.database) as connection:
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

    #: The map itself, which puts the results of its items together.
    joins = 1

    def __init__(self, fleet: Fleet, code: str) -> None:
        self._fleet = fleet
        self._code = code
        #: In order, those over REST left out.
        self.submitted: list[RunId] = []
        self.executed = fleet.executed
        self.pids = fleet.pids

    def submit(self, steps: int, body: str = "noop") -> Sent:
        sent = self._fleet.submit(self._fleet.version(self._code, steps, body))
        self.submitted.append(sent[1])
        return sent

    def run_by_rest(self) -> Run:
        return self.ended(self._fleet.submit_by_rest(self._fleet.version(self._code, 1)))

    def ended(self, submitted: Sent) -> Run:
        return self._fleet.ended(*submitted)

    def fan_out(self, branches: int) -> Fan:
        version = self._fleet.once(_map(f"{CODES[self._code]}{branch.__name__}"))
        submitted, run = self._fleet.submit(version, {"items": list(range(branches))})
        seen, state = self._fleet.variables(run)
        found: Any = state["found"]
        return Fan(submitted=submitted, seen=seen, total=sum(one["found"] for one in found))

    def loop(self, laps: int) -> Run:
        version = self._fleet.once(_loop(f"{CODES[self._code]}{BODIES['noop'].__name__}", laps))
        return self.ended(self._fleet.submit(version))


def measure(servers: Servers, size: Size, *, worker_turns: bool) -> Iterator[tuple[str, Figures]]:
    """The figures of one fleet, for each form of the code as they come."""
    policy = configuration.section("celeriac.policy")
    with started(servers, worker_turns=worker_turns) as fleet:
        fleet.apply(json.dumps(policy))
        for code in CODES:
            steps = Steps(fleet, code)
            figures = workloads.measure(steps, size, servers.pids())
            rest = workloads.first_step(steps.run_by_rest, size.firsts, "first_step_rest")
            # The last that were submitted are those of half load.
            turns = fleet.turns_ms(steps.submitted[-size.paced :])
            found = {"p50": workloads.quantile(turns, 0.5), "p99": workloads.quantile(turns, 0.99)}
            yield (
                code,
                {
                    **figures,
                    **rest,
                    **{f"turn_ms_{name}": value for name, value in found.items()},
                },
            )


@contextmanager
def started(
    servers: Servers, *, worker_turns: bool, number: int = _NUMBER, **given: Any
) -> Iterator[Fleet]:
    """Processes on a database of their own for the length of a block.

    `number` is that of the broker's database; `given` are settings in the place of those of the configuration.
    """
    name = f"benchmark_{secrets.token_hex(4)}"
    home = servers.folder / name
    settings = Settings(
        database_url=servers.database(name),
        broker_url=servers.broker_url(number),
        redis_url=servers.redis_url(number),
        blob_url=(home / "blobs").as_uri(),
        home=home,
        libraries=LIBRARIES,
        worker_turns=worker_turns,
        **{**configuration.section("celeriac.settings"), **given},
        port=_free_port(),
    )
    servers.flush(number)
    key = home / "admin.key"
    install(settings, key_file=key)
    platform = build(settings, DatabaseRole.CONTROL)
    for function in (*BODIES.values(), branch):
        source = inspect.getsource(function)
        catalogue.register(
            platform, access.LOCAL.tenant, "function", function.__name__, source, by="benchmark"
        )
    running = {
        kind: [_process(servers, settings, kind, which) for which in range(count)]
        for kind, count in PROCESSES.items()
    }
    fleet = Fleet(
        platform, running, f"http://{settings.host}:{settings.port}", key.read_text().strip()
    )
    try:
        servers.await_answers(platform.broker.app, PROCESSES["worker"] + PROCESSES["coordinator"])
        _await_web(fleet)
        fleet.check_durability()
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


def _chain(function: str, steps: int) -> Json:
    """The document of a workflow that is one chain."""
    nodes = [f"step{number}" for number in range(steps)]
    return {
        "workflow": f"{function}-{steps}",
        "nodes": {node: {"uses": function} for node in nodes},
        "edges": [" -> ".join((*nodes, "end"))],
    }


def _map(function: str) -> Json:
    """The document of a workflow that is one fan-out, joined."""
    return {
        "workflow": f"{function}-map",
        "inputs": {"items": {"type": "array"}},
        "variables": {"found": {}},
        "nodes": {
            "all": {
                "kind": "map",
                "over": "$items",
                "do": function,
                "at_once": 500,
                "save": {"found": "$result"},
            }
        },
        "edges": ["all -> end"],
    }


def _loop(function: str, laps: int) -> Json:
    """The document of a workflow of one node that leads back to itself."""
    return {
        "workflow": f"{function}-loop",
        "limits": {"steps": laps + 1},
        "nodes": {"lap": {"uses": function, "max_iterations": laps}},
        "edges": [
            {"from": "lap", "to": "lap", "when": f"$n < {laps}", "label": "loop"},
            "lap -> end",
        ],
    }


def _number(value: Json) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
