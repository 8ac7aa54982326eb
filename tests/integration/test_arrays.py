"""Arrays come to the database as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from engine.store import arrays, session
from engine.store.session import Statement

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
KINDS = {
    "text[]": TEXTS,
    "bigint[]": st.integers(-(2**63), 2**63 - 1),
    "boolean[]": st.booleans(),
    "bytea[]": st.binary(),
    "timestamptz[]": st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC)),  # noqa: DTZ001  # Hypothesis adds it
}


class Colour(StrEnum):
    RED = "red"


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = session.connect(database, size=1)
    yield made
    made.dispose()


def back(engine: Engine, kind: str, values: Sequence[Any]) -> list[Any]:
    """What the database has of an array."""
    echo = Statement(
        name=f"arrays_{kind.removesuffix('[]')}", types=kind, sql="SELECT unnest($1) AS one"
    )
    with session.transaction(engine) as connection:
        found = [row.one for row in session.run(connection, echo, list(values))]
    return [bytes(one) if isinstance(one, memoryview) else one for one in found]


@pytest.mark.parametrize("value", [{}, [], object(), 1j])
def test_what_is_no_element_is_refused_before_anything_is_sent(value: object) -> None:
    with pytest.raises(TypeError, match="is no element of an array"):
        arrays.text(["fine", value])


@pytest.mark.parametrize("kind", KINDS)
def test_every_element_comes_as_it_is(engine: Engine, kind: str) -> None:
    @given(st.lists(st.none() | KINDS[kind]))
    def holds(values: list[Any]) -> None:
        assert back(engine, kind, values) == values

    holds()


@pytest.mark.parametrize(
    "values",
    [
        ["NULL", "null", None, ""],
        ["a,b", "{c}", "{}", " d ", "'", '"', "\\", '\\"', "%s", "%%", "\n", "\x7f"],
        ['{"a": ["\\\\", "\\"", "\u00fc\U0001f331"]}', "[]"],
        ['","'],
        [],
    ],
)
def test_texts_that_look_like_parts_of_an_array_are_texts(
    engine: Engine, values: list[Any]
) -> None:
    assert back(engine, "text[]", values) == values


def test_members_of_enumerations_come_as_their_values(engine: Engine) -> None:
    assert back(engine, "text[]", [Colour.RED, "blue"]) == ["red", "blue"]
    assert back(engine, "text[]", ["blue", Colour.RED]) == ["blue", "red"]
