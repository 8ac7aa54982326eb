"""Which values must lie elsewhere, so that the variables of a run stay small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.overflow import Overflow, overflowing
from engine.core.values import VARIABLES_BYTES, Ref, plain, size


def text(count: int) -> str:
    """A text that takes so many bytes as JSON."""
    return "x" * (count - 2)


def test_what_fits_stays():
    exact = {"x": text(VARIABLES_BYTES - len('{"x":}'))}
    assert size(exact) == VARIABLES_BYTES
    assert overflowing(exact, exact, ()) == ()


def test_one_byte_more_moves_the_value_out():
    over = {"x": text(VARIABLES_BYTES - len('{"x":}') + 1)}
    assert overflowing(over, over, ()) == ("x",)


def test_the_largest_go_first_and_no_more_than_must():
    values = {"small": text(1000), "large": text(200_000), "middle": text(100_000)}
    assert overflowing(values, values, ()) == ("large",)
    values["other"] = text(200_000)
    assert overflowing(values, values, ()) == ("large", "other")


def test_what_was_there_before_stays_where_it_is():
    new = {"new": text(100_000)}
    assert overflowing({"old": text(200_000), **new}, new, ()) == ("new",)


def test_contributions_stay_and_may_be_too_much():
    values = {"log": text(300_000), "x": text(1000)}
    with pytest.raises(Overflow) as raised:
        overflowing(values, values, ("log",))
    assert 300_000 < raised.value.taken < 301_000


def test_moving_out_what_is_smaller_than_its_reference_helps_nobody():
    values = {f"v{number}": 7 for number in range(40_000)}
    with pytest.raises(Overflow) as raised:
        overflowing(values, values, ())
    assert raised.value.taken == size(values)


@given(st.lists(st.integers(2, 200_000), max_size=8), st.integers(2, 240_000))
def test_with_references_in_their_place_everything_fits(sizes, before):
    new = {f"v{number}": text(count) for number, count in enumerate(sizes)}
    left = {"old": text(before), **new}
    moved = overflowing(left, new, ())
    refs = {name: plain(Ref(sha256="0" * 64, size=size(new[name]))) for name in moved}
    assert size({**left, **refs}) <= VARIABLES_BYTES
    if moved:
        assert size({**left, **dict(list(refs.items())[:-1])}) > VARIABLES_BYTES
