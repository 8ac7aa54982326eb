"""Each thing that may be lost or doubled, planted in what a drill has found, is named."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from celeriac.drill import verdict
from celeriac.drill.load import Submitted
from celeriac.drill.steps import EFFECTS

CHAIN = sorted(EFFECTS["drill-chain"])


@pytest.fixture
def found():
    """A run of four steps, of which the second took two attempts."""
    attempts = dict(zip(CHAIN, (1, 2, 1, 1), strict=True))
    return SimpleNamespace(
        submitted=[Submitted(ticket="t1", workflow="drill-chain", run="r1", seconds=0.1)],
        runs=[row("r1", seen=[f"{step}/{number}" for step, number in attempts.items()])],
        counted={("r1", step): [number] for step, number in attempts.items()},
        book={("r1", step): Counter(range(1, number + 1)) for step, number in attempts.items()},
    )


def row(run, **more):
    given = {"ticket": "t1", "status": "completed", "seen": [], "why": "", **more}
    return SimpleNamespace(
        id=run,
        status=given["status"],
        workflow="drill-chain",
        why=given["why"],
        variables={"ticket": given["ticket"], "seen": given["seen"]},
    )


def lost(found):
    return list(verdict._lost(found.runs, found.submitted, found.counted, found.book))


def doubled(found):
    return list(verdict._doubled(found.runs, found.counted, found.book))


def test_nothing_is_lost_or_doubled_where_all_is_well(found):
    assert lost(found) == doubled(found) == []


def test_a_run_that_was_accepted_and_is_not_there_is_lost(found):
    found.runs.clear()
    assert lost(found) == ["run r1 was accepted (ticket t1), and is not there"]


@pytest.mark.parametrize("status", ["running", "failed", "cancelled", "queued", "paused"])
def test_a_run_that_has_not_completed_is_lost(found, status):
    found.runs[0].status = status
    assert lost(found) == [f"run r1 of drill-chain is {status}: "]


def test_a_step_that_does_not_count_is_lost(found):
    del found.counted["r1", "c#1"]
    assert lost(found) == ["run r1 completed, and c#1 has no accepted result"]


def test_a_step_that_counts_and_that_nobody_saw_is_lost(found):
    found.book["r1", "b#1"] = Counter({1: 1})
    assert lost(found) == ["run r1: b#1 counts attempt [2], and nobody saw it happen"]


def test_two_runs_of_one_ticket_are_doubled(found):
    found.runs.append(row("r2", status="running"))
    assert doubled(found) == ["ticket t1 became 2 runs"]


def test_a_step_that_counts_twice_is_doubled(found):
    found.counted["r1", "b#1"] = [1, 2]
    assert "run r1: b#1 counts 2 times, in attempts [1, 2]" in doubled(found)


def test_an_attempt_that_was_carried_out_twice_is_doubled(found):
    found.book["r1", "b#1"][1] += 1
    assert doubled(found) == ["run r1: attempts [1] of b#1 were carried out more than once"]


def test_a_step_that_is_executed_although_it_has_counted_is_doubled(found):
    found.book["r1", "a#1"][2] += 1
    assert doubled(found) == ["run r1: a#1 was executed in attempts [2] although one had counted"]


def test_a_step_that_was_never_to_be_is_doubled(found):
    found.book["r1", "b#2"] = Counter({1: 1})
    assert doubled(found) == ["run r1: b#2 was executed, and was never to be"]


@pytest.mark.parametrize("seen", [["a#1/1", "b#1/1", "c#1/1", "d#1/1"], ["a#1/1"], []])
def test_variables_of_other_attempts_than_those_that_count_are_named(found, seen):
    found.runs[0].variables["seen"] = seen
    (said,) = doubled(found)
    assert said.startswith("run r1: ['a#1/1', 'b#1/2', 'c#1/1', 'd#1/1'] count")
