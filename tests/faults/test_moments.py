"""`kill -9` of every process at random moments, again and again, while runs are under way."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable

import pytest
import redis

from engine.errors import Unavailable
from engine.runs import doctor
from tests.faults.conftest import Stage

MOMENTS = 20
#: How far apart they lie, in seconds.
APART = (0.1, 0.9)

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def lease_seconds() -> float:
    """Short: these tests sit them out."""
    return 2.0


def worker(stage: Stage, number: int) -> None:
    stage.fleet.kill(f"worker{number % 2 + 1}")


def worker_child(stage: Stage, _number: int) -> None:
    for name in ("worker1", "worker2"):
        stage.fleet.kill_children(name)


def coordinator(stage: Stage, number: int) -> None:
    stage.fleet.kill(f"coordinator{number % 2 + 1}")


def beat(stage: Stage, _number: int) -> None:
    stage.fleet.kill("beat")


def broker(stage: Stage, number: int) -> None:
    """Flushed, then killed and started again."""
    client = redis.Redis.from_url(stage.servers.redis_url)
    client.flushall()
    client.close()
    if number % 4 == 0:
        stage.servers.crash_valkey()
        stage.servers.start_valkey()


def postgres(stage: Stage, _number: int) -> None:
    """Stopped as by a power cut, and started again at once."""
    stage.servers.crash_postgres()
    stage.servers.start_postgres()


@pytest.mark.parametrize(
    "stage", [("worker1", "worker2", "coordinator1", "coordinator2", "beat")], indirect=True
)
@pytest.mark.parametrize("trouble", [worker, worker_child, coordinator, beat, broker, postgres])
def test_runs_complete_by_themselves_whatever_is_killed(
    stage: Stage, trouble: Callable[[Stage, int], None]
) -> None:
    rng = random.Random(trouble.__name__)
    stage.check([stage.submit()])
    runs = []
    pause = threading.Event()
    for number in range(MOMENTS):
        runs += [_submit(stage, version) for version in (stage.chain, stage.looping)]
        pause.wait(rng.uniform(*APART))
        trouble(stage, number)
    stage.check(runs, seconds=120)
    assert doctor.examine(stage.platform.database) == ()


def _submit(stage: Stage, version: str):
    """A submission that is repeated until it is answered, as a client would."""
    for _ in itertools.repeat(None, 100):
        try:
            return stage.submit(version, seconds=0.05)
        except Unavailable:
            threading.Event().wait(0.1)
    raise AssertionError("the database never came back")
