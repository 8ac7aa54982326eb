"""What abuse costs: a broker that is mute, a tenant that floods, and ten thousand runs that wait.

    python -m benchmarks.abuse             the whole of it, some minutes
    python -m benchmarks.abuse --quick     small, to see that it works

- **mute**: clients submit over REST while the broker answers and while it is mute; the quantiles of
  both, and that every run that was accepted completes when it is back.
- **flood**: a quiet tenant submits now and then; how long it waits for its first step alone, beside a
  tenant that keeps to its share of the workers, and beside one with twenty times as much: runs that
  never end, and a backlog besides. What the latter two come to is compared, where coordinators take turns
  and where workers do (`flood_worker_turns`).
- **waiting**: runs of a few steps, many at once, beside ten runs that wait for a person and beside ten
  thousand; what a step costs, and what a sweep does.

- **recovery**: how long what a killed worker held takes until somebody else has it, with leases as in
  production; what a flushed broker held; and all runs, to their end, after faults of every kind.

Every figure is taken beside its rival in the same run, on one machine.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import httpx2
from rich.console import Console

from benchmarks import fleet, machine, naps, servers
from benchmarks.fleet import Fleet
from benchmarks.workloads import SECONDS, Figures, quantile
from celeriac.drill import plan, stage
from celeriac.drill.drill import Order, Report, drill
from celeriac.drill.stage import Stage
from celeriac.embedded import processes
from engine.core.values import Json
from engine.runs import access
from engine.runs.sweep import sweep
from engine.store import session
from engine.store.ids import RunId

QUIET, BUSY = "quiet", "busy"
#: Threads of each of two workers; what they come to for each of two tenants. More would be kept from what
#: they do by two cores, which nobody can share out.
THREADS = 4
SHARE = THREADS


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    requests: int = 400
    clients: int = 4
    firsts: int = 60
    #: How many times its share the busy tenant takes.
    flood: int = 20
    backlog: int = 10
    active: int = 1_000
    steps: int = 3
    waiting: tuple[int, int] = (10, 10_000)
    sweeps: int = 40
    #: How long faults are done for, in seconds.
    faults: float = 60.0
    #: And between two of one kind: whose message is lost again waits again.
    apart: tuple[float, float] = (11.0, 13.0)


WHOLE = Size()
QUICK = Size(
    requests=12,
    clients=2,
    firsts=3,
    backlog=1,
    active=5,
    waiting=(2, 20),
    sweeps=3,
    faults=8.0,
    apart=plan.BETWEEN,
)


@click.command()
@click.option("--quick", is_flag=True, help="Small: only to see that it works.")
@click.option("--only", type=click.Choice(["mute", "flood", "waiting", "recovery"]))
def main(*, quick: bool, only: str | None) -> None:
    """Measure what abuse costs: lines to read, then one of JSON."""
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _frame: sys.exit(128 + number))
    console, size = Console(stderr=True, width=120), QUICK if quick else WHOLE
    found: dict[str, Figures] = {}
    if only in (None, "mute"):
        found["mute"] = mute(size)
        _show(console, "mute", found["mute"])
    if only in (None, "recovery"):
        found["recovery"] = recovery(size)
        _show(console, "recovery", found["recovery"])
    if only in (None, "flood", "waiting"):
        with servers.started(Path(tempfile.gettempdir())) as both:
            for name, measure, worker_turns in (
                ("flood", flood, False),
                ("flood_worker_turns", flood, True),
                ("waiting", waiting, False),
            ):
                if only is None or name.startswith(only):
                    with fleet.started(
                        both, worker_turns=worker_turns, concurrency=THREADS
                    ) as running:
                        found[name] = measure(running, size)
                    _show(console, name, found[name])
    click.echo(json.dumps({"benchmark": "abuse", "quick": quick, **found, **_about()}))


# --- a broker that is mute --------------------------------------------------------------------


def mute(size: Size) -> Figures:
    """Submissions over REST, with a broker that answers and with one that does not."""
    with stage.staged(lease_seconds=30.0) as running:
        first = _submitted(running, size, "first")
        heard = _submitted(running, size, "heard")
        running.broker_network.mute()
        unheard = _submitted(running, size, "unheard")
        running.broker_network.mend()
        since = time.monotonic()
        accepted = len(first) + len(heard) + len(unheard)
        if not processes.wait_until(lambda: _completed(running) == accepted, seconds=SECONDS):
            raise AssertionError(f"{_completed(running)} of {accepted} runs have completed")
        settled = time.monotonic() - since
    return {
        "requests": accepted,
        **_quantiles("heard_ms", heard),
        **_quantiles("mute_ms", unheard),
        "p99_ratio": quantile(unheard, 0.99) / quantile(heard, 0.99),
        "settled_s": settled,
    }


def _submitted(running: Stage, size: Size, name: str) -> Sequence[float]:
    """Milliseconds that each of many submissions took."""
    headers = {"Authorization": f"Bearer {running.key}"}
    with httpx2.Client(base_url=running.url, headers=headers, timeout=SECONDS) as http:
        document: Json = {"workflow": name, "nodes": {"a": {"kind": "timer", "for": 0}}}
        published = http.post("/api/v1/workflows", json={**document, "edges": ["a -> end"]})
        published.raise_for_status()

        def submit(_: int) -> float:
            since = time.perf_counter()
            http.post("/api/v1/runs", json={"workflow": name}).raise_for_status()
            return 1e3 * (time.perf_counter() - since)

        with ThreadPoolExecutor(size.clients) as clients:
            return list(clients.map(submit, range(size.requests)))


def _completed(running: Stage) -> int:
    with session.transaction(running.database) as connection:
        statement = "SELECT count(*) FROM run WHERE status = 'completed'"
        return int(connection.exec_driver_sql(statement).scalar_one())


# --- a tenant that floods ---------------------------------------------------------------------


def flood(running: Fleet, size: Size) -> Figures:
    """What a quiet tenant waits for its first step, whatever another does."""
    versions = {}
    for tenant in (QUIET, BUSY):
        running.welcome(tenant)
        versions[tenant] = running.published(_nap("once"), tenant=tenant)
    forever = running.published(_forever(), tenant=BUSY)
    _firsts(running, versions[QUIET], max(1, size.firsts // 10))
    found = _quantiles("alone_ms", _firsts(running, versions[QUIET], size.firsts))
    busy: list[RunId] = []
    for name, times in {"share": 1, "flood": size.flood}.items():
        for _ in range(SHARE * times - len(busy)):
            busy.append(running.submit(forever, tenant=BUSY)[1])  # noqa: PERF401  # it is a load
        backlog = [
            running.submit(versions[BUSY], tenant=BUSY)[1]
            for _ in range(SHARE * times * size.backlog)
        ]
        found |= _quantiles(f"{name}_ms", _firsts(running, versions[QUIET], size.firsts))
        found[f"{name}_ready"] = _ready(running)
        for run in backlog:
            running.cancel(run)
    for run in busy:
        running.cancel(run)
    for share in ("p50", "p95"):
        found[f"{share}_ratio"] = found[f"flood_ms_{share}"] / found[f"share_ms_{share}"]
    return found


def _nap(name: str) -> dict[str, Json]:
    return {"workflow": name, "nodes": {"a": {"uses": "nap"}}, "edges": ["a -> end"]}


def _forever() -> Json:
    laps: Json = {"a": {"uses": "nap", "max_iterations": 100_000}}
    edges: Json = [{"from": "a", "to": "a", "label": "loop"}, "a -> end"]
    return {"workflow": "forever", "limits": {"steps": 100_001}, "nodes": laps, "edges": edges}


def _firsts(running: Fleet, version: str, count: int) -> Sequence[float]:
    """Milliseconds from a submission of the quiet tenant to its first step, one after the other."""
    found: list[float] = []
    for _ in range(count):
        run = running.ended(*running.submit(version, tenant=QUIET))
        found.append(1e3 * (run.first - run.submitted))
    return found


def _ready(running: Fleet) -> int:
    return _counted(running, "SELECT count(*) FROM step WHERE status = 'ready'")


# --- runs that wait ---------------------------------------------------------------------------


def waiting(running: Fleet, size: Size) -> Figures:
    """What steps and sweeps cost beside few runs that wait, and beside many."""
    patient = running.published(
        {
            "workflow": "patient",
            "nodes": {"ask": {"kind": "approval", "title": "Well?", "from": ["role:admin"]}},
            "edges": ["ask -> end"],
        }
    )
    chain = running.version("library", size.steps)
    _active(running, chain, max(1, size.active // 10))
    found: dict[str, float] = {}
    there = 0
    for name, count in zip(("few", "many"), size.waiting, strict=True):
        for _ in range(count - there):
            running.submit(patient)
        there = count
        statement = "SELECT count(*) FROM step WHERE status = 'waiting'"
        if not processes.wait_until(lambda: _counted(running, statement) == there, seconds=600):  # noqa: B023
            raise AssertionError(f"{_counted(running, statement)} of {count} runs wait")
        found[f"{name}_waiting"] = count
        found[f"{name}_ms_per_step"] = _active(running, chain, size.active) / size.steps
        found[f"{name}_sweep_ms"] = _sweep(running, size.sweeps)
    for what in ("ms_per_step", "sweep_ms"):
        found[f"{what}_ratio"] = found[f"many_{what}"] / found[f"few_{what}"]
    return found


def _active(running: Fleet, chain: str, count: int) -> float:
    """Milliseconds for each of many runs, submitted at once."""
    runs = [running.ended(*sent) for sent in [running.submit(chain) for _ in range(count)]]
    whole = max(run.last for run in runs) - min(run.submitted for run in runs)
    return 1e3 * whole / count


def _sweep(running: Fleet, count: int) -> float:
    """Milliseconds of a sweep that finds nothing, as a rule."""
    took = []
    for _ in range(count):
        since = time.perf_counter()
        sweep(running.platform)
        took.append(1e3 * (time.perf_counter() - since))
    return statistics.median(took)


# --- faults -----------------------------------------------------------------------------------


def recovery(size: Size) -> Figures:
    """Seconds until what faults have struck goes on: of one kind at a time, then all there are."""
    found: dict[str, float] = {"faults": 0}
    for kind in ("worker-kill", "broker-flush"):
        struck = _drilled(
            Order(
                kinds=(kind,),
                seconds=size.faults,
                seed=3,
                lease_seconds=30.0,
                settle_seconds=90.0,
                between_seconds=size.apart,
            )
        )
        found[f"{kind}_s"] = struck.recovery_seconds[kind]
        found["faults"] += struck.injected
    struck = _drilled(Order(seconds=size.faults, settle_seconds=90.0))
    assert struck.settled_seconds is not None
    return {
        **found,
        "all_ended_s": struck.settled_seconds,
        "faults": found["faults"] + struck.injected,
    }


def _drilled(order: Order) -> Report:
    struck = drill(order)
    if not struck.held:
        raise AssertionError(str(struck))
    return struck


# --- what all have in common ------------------------------------------------------------------


def _quantiles(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}_p{share}": quantile(values, share / 100) for share in (50, 95, 99)}


def _counted(running: Fleet, statement: str) -> int:
    with session.transaction(running.platform.database) as connection:
        return int(connection.exec_driver_sql(statement).scalar_one())


def _show(console: Console, name: str, figures: Figures) -> None:
    told = ", ".join(f"{what} {value:.3g}" for what, value in figures.items())
    console.print(f"{name}: {told}")


def _about() -> Mapping[str, object]:
    return {"versions": machine.versions(), "tenant": access.LOCAL.tenant, "nap_s": naps.SECONDS}


if __name__ == "__main__":
    main()
