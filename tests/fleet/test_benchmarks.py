"""The benchmark, small: that it runs, counts right and says what it ran on; never how fast."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.support.services import ROOT

COMMAND = (sys.executable, "-m", "benchmarks", "--quick", "--peers", "none")

FIGURES = {
    "chain_ms_per_step",
    "steps_per_second",
    "steps_per_second_cpu",
    "steps_per_second_sleep",
    "fan_out_s",
    "loop_ms_per_lap",
    "first_step_ms_p50",
    "hop_ms_p99",
    "memory_mib_after",
    "cpu_us_per_step",
}


def printed(command: Sequence[str]) -> str:
    """What a benchmark prints that ends as it should."""
    ended = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.long
@pytest.mark.timeout(660)
def test_the_benchmark_runs_and_its_counts_are_right() -> None:
    # It asserts final values and the number of executions itself, and fails where one is off.
    told = printed(COMMAND)
    (line,) = told.splitlines()
    found = json.loads(line)
    assert set(found["systems"]) == {
        "raw Celery",
        "Celeriac",
        "Celeriac, sandboxed",
        "Celeriac, worker turns",
        "Celeriac, worker turns, sandboxed",
    }
    for system, figures in found["systems"].items():
        assert set(figures["median"]) >= FIGURES, system
        assert all(figures["median"][figure] > 0 for figure in FIGURES - {"cpu_us_per_step"}), (
            system
        )
        assert figures["ratio"]["steps_per_second"] > 0, system
    loop = found["growth"]["loop"]
    assert loop["round_trips_first"] == loop["round_trips_last"] > 0
    assert loop["wal_bytes_ratio"] < 1.05
    for kind, levels in found["burden"].items():
        assert len(levels) == 2, kind
        assert all(cost["chain_ms_per_step_ratio"] > 0 for cost in levels.values()), kind
    assert found["whole"] is True
    assert found["less_durable"] == {}
    assert found["servers"]["postgres fsync"] == "on"
    assert found["servers"]["postgres synchronous_commit"] == "on"
    assert found["servers"]["valkey maxmemory-policy"] == "noeviction"
    assert {"python", "celery", "celeriac"} <= set(found["versions"])


@pytest.mark.long
@pytest.mark.timeout(660)
def test_what_abuse_costs_is_measured_and_no_run_is_lost_meanwhile() -> None:
    told = printed((sys.executable, "-m", "benchmarks.abuse", "--quick"))
    found = json.loads(told)
    assert found["mute"]["requests"] == 36
    assert found["mute"]["mute_ms_p99"] > 0
    # How many steps are left when it is looked depends on how busy the machine is.
    for flood in ("flood", "flood_worker_turns"):
        assert min(found[flood][f"{name}_ms_p50"] for name in ("alone", "share", "flood")) > 0
    assert found["waiting"]["many_waiting"] == 20
    assert found["recovery"]["faults"] > 0


@pytest.mark.long
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
