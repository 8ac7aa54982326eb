from __future__ import annotations

from collections import Counter

import pytest

from celeriac.drill import plan


def test_the_same_seed_is_the_same_plan_and_another_is_another():
    first = plan.plan(plan.KINDS, seconds=60, seed=7)
    assert first == plan.plan(plan.KINDS, seconds=60, seed=7)
    assert first != plan.plan(plan.KINDS, seconds=60, seed=8)


@pytest.mark.parametrize("kind", plan.KINDS)
def test_a_kind_alone_is_done_again_and_again_until_the_time_is_over(kind):
    found = plan.plan([kind], seconds=40, seed=3)
    assert {fault.kind for fault in found} == {kind}
    assert len(found) >= 40 / plan.BETWEEN[1]
    assert [fault.at for fault in found] == sorted(fault.at for fault in found)
    assert all(0 <= fault.at < 40 for fault in found)


@pytest.mark.parametrize("seed", range(5))
def test_a_mix_has_every_kind_in_turn_and_thousands_in_minutes(seed):
    found = plan.plan(plan.KINDS, seconds=150, seed=seed)
    times = Counter(fault.kind for fault in found)
    assert times.keys() == set(plan.KINDS)
    blows = [times[kind] for kind in plan.BLOWS]
    assert max(blows) - min(blows) <= 1
    assert len(found) > 2_500


def test_one_kind_more_does_not_move_the_others_pricks():
    alone = plan.plan(["connection-cut"], seconds=30, seed=1)
    mixed = plan.plan(plan.KINDS, seconds=30, seed=1)
    assert alone == tuple(fault for fault in mixed if fault.kind == "connection-cut")
