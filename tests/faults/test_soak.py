"""A platform under load for a while takes up no more at the end than in the middle.

`CELERIAC_SOAK_SECONDS=600` asks for ten minutes instead of a minute and a half; what each process took up is
printed (`pytest -s`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx2
import pytest
import redis

from celeriac.drill import resources
from celeriac.drill.load import Load
from celeriac.drill.resources import Taken
from celeriac.drill.stage import Stage, staged
from celeriac.embedded import processes
from engine import lanes
from engine.broker import BUSY, COORDINATE, STEPS, TURNS
from engine.runs import doctor
from engine.store import session
from web.server import SPARE_THREADS

SECONDS = float(os.environ.get("CELERIAC_SOAK_SECONDS", "90"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(SECONDS + 300)]

_LOOK = 2.0
#: A process may take up so much more at the end than in the middle: allocators are no clockwork.
MEBIBYTES, DESCRIPTORS, THREADS = 12.0, 8, 8
#: What any one has at any time: the API has a large answer or two under way.
PEAK = 400.0
#: The API makes its threads as it needs them, up to so many, and some that look after things.
POOL = 64 + SPARE_THREADS + 16
#: With forty runs under way, of a few steps each.
ROWS = 2_000
LARGE = 10_000_000
QUEUES = (
    *lanes.names(STEPS),
    *(lanes.name(queue, lane) for queue in (COORDINATE, TURNS) for lane in (0, BUSY)),
)
WRITE = f"def write(state):\n    return {{'text': 'x' * {LARGE}}}"
WRITTEN = {"workflow": "written", "nodes": {"a": {"uses": "write"}}, "edges": ["a -> end"]}


@dataclass(slots=True)
class Seen:
    """What was seen at each look."""

    taken: list[Mapping[str, Taken]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)


def test_under_load_memory_descriptors_threads_tables_and_queues_stay_as_they_are() -> None:
    with staged(lease_seconds=30.0) as running, reading(running) as answers:
        load = Load(running, seed=7, step_seconds=0.05)
        load.start()
        try:
            seen = watched(running)
        finally:
            load.stop(seconds=60)
        assert load.wrong == []
        assert len(load.submitted) > SECONDS / 2
        assert answers.count("large") > 3, answers
        assert answers.count("stream") > 3, answers
        assert processes.wait_until(lambda: held(running) == (0, 0), seconds=90), held(running)
        assert doctor.examine(running.database) == ()
        assert not running.fleet.dead
    assert max(seen.rows) < ROWS
    assert max(seen.queued) <= lanes.FULL
    assert max(one.memory for look in seen.taken for one in look.values()) < PEAK
    grown = {name: growth([look[name] for look in seen.taken]) for name in seen.taken[0]}
    for name, (memory, descriptors, threads, end) in grown.items():
        told = f"{memory:+.1f} MiB, {descriptors:+g} descriptors, {threads:+g} threads"
        sys.stderr.write(f"{name}: {told}; {end}\n")
    for name, (memory, descriptors, threads, end) in grown.items():
        assert memory < MEBIBYTES, (name, grown)
        assert descriptors < DESCRIPTORS, (name, grown)
        assert threads < THREADS or end.threads <= POOL, (name, grown)


def watched(running: Stage) -> Seen:
    seen, until = Seen(), time.monotonic() + SECONDS
    pause = threading.Event()
    while time.monotonic() < until:
        seen.taken.append(resources.of_fleet(running.fleet))
        rows, queued = held(running)
        seen.rows.append(rows)
        seen.queued.append(queued)
        pause.wait(_LOOK)
    return seen


def held(running: Stage) -> tuple[int, int]:
    """Rows of what is live, and the messages of the longest queue."""
    with session.transaction(running.database) as connection:
        rows = connection.exec_driver_sql(
            "SELECT (SELECT count(*) FROM step) + (SELECT count(*) FROM inbox)"
        ).scalar_one()
    with redis.Redis.from_url(running.servers.redis_url, socket_timeout=5) as client:
        return int(rows), max(int(client.llen(queue)) for queue in QUEUES)


def growth(looks: Sequence[Taken]) -> tuple[float, float, float, Taken]:
    """What the last third of the looks has more than the middle one, and the last of them.

    Of memory what is there at the least: while a large answer is under way there is more.
    """
    third = len(looks) // 3
    middle, last = looks[third : 2 * third], looks[2 * third :]
    memory = min(one.memory for one in last) - min(one.memory for one in middle)
    descriptors, threads = (
        statistics.median(getattr(one, what) for one in last)
        - statistics.median(getattr(one, what) for one in middle)
        for what in ("descriptors", "threads")
    )
    return memory, descriptors, threads, looks[-1]


@contextlib.contextmanager
def reading(running: Stage) -> Iterator[list[str]]:
    """Clients that fetch a large answer, and that follow runs and go away, for the length of a block."""
    answers: list[str] = []
    ended = threading.Event()
    headers = {"Authorization": f"Bearer {running.key}"}

    def read() -> None:
        with httpx2.Client(base_url=f"{running.url}/api/v1", headers=headers, timeout=60) as client:
            client.post("/functions", json={"name": "write", "code": WRITE}).raise_for_status()
            client.post("/workflows", json=WRITTEN).raise_for_status()
            written = client.post("/runs", json={"workflow": "written"}).raise_for_status()
            while not ended.wait(0.5):
                run = written.json()["run_id"]
                shown = client.get(f"/runs/{run}").raise_for_status().json()
                if len(shown["variables"].get("text", "")) == LARGE:
                    answers.append("large")
                found = client.get("/runs", params={"limit": 1}).raise_for_status().json()
                newest = found["items"][0]["id"]
                with client.stream("GET", f"/runs/{newest}/events") as events:
                    answers.extend("stream" for _ in itertools.islice(events.iter_raw(), 1))

    reader = threading.Thread(target=read, name="reader", daemon=True)
    reader.start()
    try:
        yield answers
    finally:
        ended.set()
        reader.join(60)
