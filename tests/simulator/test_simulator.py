from __future__ import annotations

import os
from dataclasses import fields

import pytest

from tests.simulator.checks import violations
from tests.simulator.play import live
from tests.simulator.rules import Rules

#: `make test` lives through as many, `make simulate` through more.
SEEDS = int(os.environ.get("SIMULATOR_SEEDS", "4000"))
CHUNK = 500
#: Within so many, whatever is rare has happened, and whatever is missing is noticed.
PATIENCE = 3000

#: What seeds live through, as worlds count it.
SITUATIONS = {
    *("message lost", "message doubled", "message stale", "flushed", "commit unknown"),
    *("died", "died with several", "stalled", "clock forward", "clock back"),
    *("taken together", "reported together", "nothing to lease", "lost", "given back", "spared"),
    *("taken away", "gave up", "heard that it is gone", "refused", "ran again"),
    *("runs together", "several letters", "missed a lock", "rolled back", "stuck"),
    *("held", "ready in a paused run", "threads cancelled", "region cancelled", "ticked"),
    "went back",
    *("ended by clock", "ended by event", "ended by run", "ended by user"),
    *("too late to end a wait", "claimed before", "woken for a lock", "orphaned", "went on"),
}


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_wrong_is_ever_recorded_and_every_run_ends(first):
    for seed in range(first, min(first + CHUNK, SEEDS)):
        assert list(violations(live(seed))) == [], f"seed {seed}"


@pytest.mark.parametrize("seed", [7, 31, 654])
def test_a_seed_is_a_whole_world(seed):
    first, again = live(seed), live(seed)
    assert first.runs == again.runs
    assert first.effects == again.effects
    assert first.met == again.met


def test_whatever_may_go_wrong_is_lived_through():
    missing = set(SITUATIONS)
    for seed in range(PATIENCE):
        missing -= (+live(seed).met).keys()
        if not missing:
            return
    assert missing == set()


@pytest.mark.parametrize("missing", [part.name for part in fields(Rules)])
def test_a_protocol_without_one_of_its_parts_is_caught(missing):
    mutant = Rules(**{missing: False})
    assert any(_broken(seed, mutant) for seed in range(PATIENCE)), f"nobody noticed: no {missing}"


def _broken(seed: int, mutant: Rules) -> bool:
    try:
        return any(violations(live(seed, mutant, peace=1500)))
    except Exception:  # noqa: BLE001  # a fold that refuses an illegal change has noticed, too
        return True
