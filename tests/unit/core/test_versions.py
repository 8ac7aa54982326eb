"""What texts ask for, held against the numbers that they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import versions
from engine.core.versions import LATEST, Asked, Numbers

NUMBERS = st.tuples(*[st.integers(0, 3)] * 3)


def holds(asked: Asked, numbers: Numbers) -> bool:
    return numbers >= asked.low and (asked.high is None or numbers < asked.high)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "x", "1.", ".1", "v1.2.0", "1.0.0.0", "01.0.0", "1.2.3-", "^1.2.3-rc.1", "^", "^^1"),
        *("1,", ",1", ">=1 <2", "1 ", "1\n", "1.x.3", "=>1", "newest", "1.2.3+build", "1234567890"),
        ", ".join(["1"] * 9),
        "\u0661.\u0660.\u0660",
    ],
)  # fmt: skip
def test_what_names_no_version_is_told_apart(text: str) -> None:
    assert versions.asked(text) is None


@pytest.mark.parametrize("text", ["1.2.0", "0.0.0", "999999999.0.1", "1.2.0-rc.1", "1.0.0--"])
def test_one_number_asks_for_itself(text: str) -> None:
    assert versions.asked(text) == Asked(exact=text)


@pytest.mark.parametrize("text", ["latest", "*", ">=0"])
def test_the_latest_is_whatever_there_is(text: str) -> None:
    assert versions.asked(text) == LATEST


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("1", (1, 0, 0), (2, 0, 0)),
        ("1.x", (1, 0, 0), (2, 0, 0)),
        ("1.2", (1, 2, 0), (1, 3, 0)),
        ("1.2.*", (1, 2, 0), (1, 3, 0)),
        ("^1.2", (1, 2, 0), (2, 0, 0)),
        ("^1.2.3", (1, 2, 3), (2, 0, 0)),
        ("^0.2.3", (0, 2, 3), (0, 3, 0)),
        ("^0.0.3", (0, 0, 3), (0, 0, 4)),
        ("^0.0", (0, 0, 0), (0, 1, 0)),
        ("^0", (0, 0, 0), (1, 0, 0)),
        ("~1.2.3", (1, 2, 3), (1, 3, 0)),
        ("~1.2", (1, 2, 0), (1, 3, 0)),
        ("~1", (1, 0, 0), (2, 0, 0)),
        (">=1,<2", (1, 0, 0), (2, 0, 0)),
        (">=1.1 , <1.4.2", (1, 1, 0), (1, 4, 2)),
        (">1.2.3,<=2.0.0", (1, 2, 4), (2, 0, 1)),
        (">1", (2, 0, 0), None),
        ("<=1.2", (0, 0, 0), (1, 3, 0)),
        ("=1.2.3", (1, 2, 3), (1, 2, 4)),
        (">=2,<1", (2, 0, 0), (1, 0, 0)),
        ("^1,~1.2,<1.2.9", (1, 2, 0), (1, 2, 9)),
    ],
)
def test_a_range_is_between_two_numbers(text: str, low: Numbers, high: Numbers | None) -> None:
    assert versions.asked(text) == Asked(low=low, high=high)


@given(st.sampled_from(["", "=", "<", "<=", ">", ">=", "^", "~"]), NUMBERS, NUMBERS)
def test_comparing_with_three_numbers_is_comparing_numbers(
    sign: str, numbers: Numbers, other: Numbers
) -> None:
    found = versions.asked(f"{sign}{'.'.join(map(str, numbers))}")
    assert found is not None
    if not sign:
        assert found.exact == ".".join(map(str, numbers))
        return
    expected = {
        "=": other == numbers,
        "<": other < numbers,
        "<=": other <= numbers,
        ">": other > numbers,
        ">=": other >= numbers,
        "~": other >= numbers and other[:2] == numbers[:2],
        "^": other >= numbers and _same_until_first(numbers, other),
    }
    assert holds(found, other) is expected[sign]


def _same_until_first(one: Numbers, other: Numbers) -> bool:
    """Whether two agree up to the first number of one that is not 0."""
    first = next((place for place, number in enumerate(one) if number), 2)
    return one[: first + 1] == other[: first + 1]


@given(NUMBERS)
def test_whatever_is_asked_together_holds_of_each(other: Numbers) -> None:
    whole = versions.asked(">=1.1,<3,~1.2")
    parts = [versions.asked(part) for part in (">=1.1", "<3", "~1.2")]
    assert whole is not None
    assert holds(whole, other) == all(part is not None and holds(part, other) for part in parts)


@pytest.mark.parametrize("text", ["1.2.0", "1.2.0-rc.1", "1.0.0-0.a-b.x1", "1.0.0-1a", "1.0.0--"])
def test_what_semver_calls_a_version(text: str) -> None:
    assert versions.is_version(text)


@pytest.mark.parametrize("text", ["1.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0-.a", "1.0.0+b"])
def test_what_semver_does_not(text: str) -> None:
    assert not versions.is_version(text)
