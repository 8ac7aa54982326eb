"""The benchmark, small: that it runs, counts right and says what it ran on; never how fast."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.services import ROOT

COMMAND = (sys.executable, "-m", "benchmarks", "--quick")

FIGURES = {"chain_ms_per_step", "steps_per_second", "first_step_ms_p50", "cpu_us_per_step"}


@pytest.mark.timeout(660)
def test_the_benchmark_runs_and_its_counts_are_right() -> None:
    # It asserts final values and the number of executions itself, and fails where one is off.
    ended = subprocess.run(
        COMMAND,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    found = json.loads(line)
    assert set(found["systems"]) == {
        "raw Celery chain",
        "Celeriac, library",
        "Celeriac, source",
        "Celeriac, worker turns, library",
        "Celeriac, worker turns, source",
    }
    for system, told in found["systems"].items():
        assert set(told["median"]) >= FIGURES, system
        assert all(told["median"][figure] > 0 for figure in FIGURES - {"cpu_us_per_step"}), system
        assert told["ratio"]["steps_per_second"] > 0, system
    loop = found["growth"]["loop"]
    assert loop["statements_first"] == loop["statements_last"] > 0
    assert loop["wal_bytes_ratio"] < 1.05
    assert found["whole"] is True
    assert found["servers"]["postgres fsync"] == "on"
    assert found["servers"]["postgres synchronous_commit"] == "on"
    assert found["servers"]["valkey maxmemory-policy"] == "noeviction"
    assert {"python", "celery", "celeriac"} <= set(found["versions"])


@pytest.mark.timeout(360)
def test_a_benchmark_that_is_stopped_shows_what_it_has_measured() -> None:
    with subprocess.Popen(
        COMMAND,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        try:
            assert any(line.startswith("loop: ") for line in running.stderr)
            running.send_signal(signal.SIGTERM)
            told, _ = running.communicate(timeout=300)
        finally:
            running.kill()
    assert running.returncode == 128 + signal.SIGTERM
    (line,) = told.splitlines()
    found = json.loads(line)
    assert found["whole"] is False
    assert found["growth"]["loop"]["steps"] == 200
