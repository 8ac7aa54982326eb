"""What the benchmark takes for a measurement: right values, and every step carried out once."""

from __future__ import annotations

import io
import itertools
import os
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from celery.exceptions import TimeoutError as TookTooLong
from rich.console import Console

from benchmarks import configuration, raw_celery, reference, workloads
from benchmarks.__main__ import Found, _again
from benchmarks.steps import BODIES, START
from benchmarks.workloads import Fan, Run, Size, Unended

SIZE = Size(chain=3, runs=2, steps=3, worked=1, branches=4, laps=3, firsts=2, paced=2, warm=1)


class Here:
    """A system that carries steps out at once."""

    joins = 1

    def __init__(self, *, twice: bool = False, forgets: bool = False) -> None:
        self._count = 0
        self._each = 2 if twice else 1
        self._forgets = forgets

    def submit(self, steps, body="noop"):
        return time.time(), steps, body

    def ended(self, submitted):
        since, steps, body = submitted
        state = START
        for _ in range(steps - self._forgets):
            state = BODIES[body](state)
        self._count += steps * self._each
        first, last = state["first"] or since, state["last"] or since
        return Run(submitted=since, first=first, last=last, seen=time.time(), steps=state["n"])

    def fan_out(self, branches):
        since = time.time()
        self._count += branches + self.joins
        return Fan(submitted=since, seen=time.time(), total=sum(range(1, branches + 1)))

    def loop(self, laps):
        return self.ended(self.submit(laps))

    def executed(self):
        return self._count

    def pids(self):
        return {"process": [os.getpid()]}


def test_a_system_that_carries_steps_out_twice_has_no_figures():
    with pytest.raises(AssertionError, match="3 steps were asked for, 6 were carried out"):
        workloads.measure(Here(twice=True), SIZE, {})


def test_a_system_that_leaves_a_step_out_has_no_figures():
    with pytest.raises(AssertionError, match="a run of 3 steps ended with 2"):
        workloads.measure(Here(forgets=True), SIZE, {})


def test_a_join_that_comes_to_something_else_has_no_figures():
    here = Here()
    here.fan_out = lambda _: Fan(submitted=0.0, seen=1.0, total=7)
    with pytest.raises(AssertionError, match="4 branches came to 7, not 10"):
        workloads.measure(here, SIZE, {})


def test_what_a_peer_is_not_asked_for_it_has_no_figure_of():
    some = workloads.measure(
        Here(),
        Size(chain=3, runs=2, steps=3, worked=1, branches=0, laps=0, firsts=0, paced=0, warm=0),
        {},
    )
    assert "steps_per_second" in some
    assert not {"fan_out_s", "loop_ms_per_lap", "first_step_ms_p50", "hop_ms_p99"} & set(some)


def test_a_system_that_does_what_it_is_asked_has_every_figure():
    found = workloads.measure(Here(), SIZE, {"nothing": []})
    assert found["memory_mib_idle"] > 0
    # One run of three steps of 20 ms each: no more than fifty in a second.
    assert found["steps_per_second_sleep"] < 80
    assert {"fan_out_s", "loop_ms_per_lap", "first_step_ms_p50", "hop_ms_p99"} <= set(found)


def test_runs_are_paced_whatever_becomes_of_those_before():
    since = time.monotonic()
    runs = workloads.paced(Here(), 5, 3, 50.0)
    assert time.monotonic() - since >= 4 / 50
    gaps = [later.submitted - earlier.submitted for earlier, later in itertools.pairwise(runs)]
    assert sum(gaps) >= 4 / 50 - 0.01


@pytest.mark.parametrize("name", ["quick", "whole"])
def test_every_size_of_the_configuration_is_one(name):
    size = Size(**configuration.section(f"sizes.{name}"))
    for settings in configuration.section("peers").values():
        assert set(settings.get("size", {})) <= set(Size.__slots__)
    assert size.steps > 1


# --- a rival that loses a result ---------------------------------------------------------------


def measured(*, lost):
    """Measure what has no result so often."""
    left = [None] * lost

    def measure():
        if left:
            left.pop()
            raise Unended("a chain had no result")
        return 551

    found, console = Found(), Console(file=io.StringIO(), width=200)
    return _again(measure, found, console), found, console.file.getvalue()


def test_a_rival_that_loses_results_again_and_again_ends_the_benchmark():
    with pytest.raises(Unended):
        measured(lost=3)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_rival_that_loses_a_result_is_measured_again_and_told_of(lost):
    figures, found, told = measured(lost=lost)
    assert figures == 551
    assert found.unended == lost
    assert told.count("a chain had no result; it is measured again") == lost


def test_a_chain_without_a_result_is_unended():
    class Lost:
        id = "a"

        def get(self, *, timeout):
            raise TookTooLong(f"not within {timeout} s")

    with pytest.raises(Unended, match="a had no result after"):
        raw_celery.RawCelery(None, None).ended((0.0, Lost()))


def test_a_reference_that_fails_is_unended_and_says_why(monkeypatch, tmp_path):
    script = "import sys; sys.exit('no result')"
    (tmp_path / str(reference._settings()["script"])).write_text(script)
    monkeypatch.setattr(reference, "_folder", lambda: tmp_path)
    monkeypatch.setattr(reference, "_valkey", lambda _: nullcontext(6390))
    servers = SimpleNamespace(folder=tmp_path, environment=dict(os.environ))
    with pytest.raises(Unended, match="ended with 1: no result"):
        reference.measure(servers)
