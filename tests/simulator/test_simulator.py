from __future__ import annotations

import os
from dataclasses import fields

import pytest

from tests.simulator.checks import violations
from tests.simulator.play import live
from tests.simulator.world import Rules

#: Every run of the suite lives through as many; more can be asked for.
SEEDS = int(os.environ.get("SIMULATOR_SEEDS", "5000"))
CHUNK = 1250


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_wrong_is_ever_recorded_and_every_run_ends(first):
    for seed in range(first, min(first + CHUNK, SEEDS)):
        assert list(violations(live(seed))) == [], f"seed {seed}"


def test_a_seed_is_a_whole_world():
    first, again = live(7), live(7)
    assert first.runs == again.runs
    assert first.effects == again.effects


@pytest.mark.parametrize("missing", [part.name for part in fields(Rules)])
def test_a_protocol_without_one_of_its_parts_is_caught(missing):
    mutant = Rules(**{missing: False})
    assert any(_broken(seed, mutant) for seed in range(3000)), f"no {missing}, and nobody noticed"


def _broken(seed: int, mutant: Rules) -> bool:
    try:
        return any(violations(live(seed, mutant, peace=1500)))
    except Exception:  # noqa: BLE001  # a fold that refuses an illegal change has noticed, too
        return True
