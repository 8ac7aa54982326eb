"""Seeing whether a value was changed."""

from __future__ import annotations

import json
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.inside.values import canonical

_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([-1.0, -0.0, 0.0, 1.0, 1.5, 1e300, float("inf"), float("nan")]),
    st.sampled_from(["", "1", "1.0", "null", "true", "NaN"]),
)
_JSON = st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=2), max_leaves=4)


@given(_JSON, _JSON)
def test_two_values_are_the_same_where_their_json_is(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (json.dumps(one) == json.dumps(other))


class _Level(IntEnum):
    LOW = 1


class _Share(float, Enum):
    HALF = 0.5


@pytest.mark.parametrize(("value", "plain"), [(_Level.LOW, 1), (_Share.HALF, 0.5)])
def test_an_enumeration_is_what_it_stands_for(value: Any, plain: Any) -> None:
    assert canonical(value) == canonical(plain)


def test_what_is_no_json_is_none() -> None:
    assert canonical({1, 2}) is None
