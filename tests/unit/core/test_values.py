from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import values
from engine.core.values import Inline, InvalidJson, Ref


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ('{"a": "\\u0000"}', "a", "NUL"),
        ('{"\\u0000": 1}', " key", "NUL"),
        ('{"a": {"\\ud800": 1}}', "a key", "lone surrogate"),
        ('["\\ud800"]', "[0]", "lone surrogate"),
        ("NaN", "", "NaN is not a JSON number"),
        ("[Infinity]", "", "Infinity is not a JSON number"),
        ("-Infinity", "", "-Infinity is not a JSON number"),
        ("1e999", "", "not finite"),
        ('{"a": {"b": [-1e999]}}', "a.b[0]", "not finite"),
        ("9" * 5000, "", "beyond 64 bits"),
        ("9223372036854775808", "", "beyond 64 bits"),
        ("-9223372036854775808", "", "beyond 64 bits"),
        ("[" * 100_000 + "]" * 100_000, "", "deeper than 64"),
        ("[" * 1_000_000, "", "deeper than 64"),
        ("[" * 65 + "]" * 65, "[0]" * 64, "deeper than 64"),
        ('{"a": 1, "b": 2, "a": 3}', "", "'a' is given twice"),
        ('{"a": {"b": 1, "b": 1}}', "", "'b' is given twice"),
        ("{", "", "not JSON"),
        ("", "", "not JSON"),
        ("[1] 2", "", "line 1, column 5"),
        (b"\xff", "", "not UTF-8"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_path(
    text: str | bytes, path: str, message: str
) -> None:
    with pytest.raises(InvalidJson) as caught:
        values.parse(text)
    (problem,) = caught.value.problems
    assert (problem.path, message in problem.message) == (path, True)
    assert problem.remedy
    assert message in str(caught.value)


def test_every_problem_is_found_and_lies_under_the_path_given() -> None:
    with pytest.raises(InvalidJson) as caught:
        values.parse('{"a": ["\\u0000", 1e999], "b": 99999999999999999999}', path="body")
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"body.a[0]", "body.a[1]", "body.b"}


@pytest.mark.parametrize(
    ("value", "path"),
    [({1: 2}, "x"), ({"a": {1, 2}}, "x.a"), ([object()], "x[0]"), ((1, 2), "x"), (b"", "x")],
)
def test_what_is_no_json_is_refused_whatever_code_returned_it(value: Any, path: str) -> None:
    (problem,) = values.problems(value, path=path.partition(".")[0].partition("[")[0])
    assert problem.path == path


def test_depth_in_python_values_is_a_problem_and_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert [problem.message for problem in values.problems(deep)] == [
        "nested deeper than 64 levels"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "true",
        "9223372036854775807",
        "-9223372036854775807",
        "1.5e308",
        '"\\ud83d\\ude00"',
        "[" * 64 + "]" * 64,
        '{"a": [1, "größe"]}',
        b'"gr\xc3\xb6\xc3\x9fe"',
    ],
)
def test_what_can_be_stored_is_read_as_it_is(text: str | bytes) -> None:
    assert values.parse(text) == json.loads(text)


def test_one_value_has_one_text() -> None:
    assert values.canonical({"b": [1, "ö"], "a": None}) == '{"a":null,"b":[1,"ö"]}'
    assert values.size({"ö": 1}) == len('{"ö":1}'.encode())


def test_a_digest_is_of_the_value_and_its_salt() -> None:
    one = values.digest({"a": 1, "b": 2}, salt=b"x")
    assert one == values.digest({"b": 2, "a": 1}, salt=b"x")
    assert one != values.digest({"a": 1, "b": 2}, salt=b"y")
    assert one != values.digest({"a": 1, "b": 3}, salt=b"x")


def test_a_value_is_plain_wherever_it_lies() -> None:
    assert values.plain(Inline(value=[1])) == [1]
    assert values.plain(Ref(sha256="ab", size=3)) == {"$blob": "ab", "size": 3}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4)
    ),
)


@given(JSON)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert list(values.problems(value)) == []
    assert values.parse(values.canonical(value)) == value


@given(st.binary() | st.text())
def test_whatever_is_sent_only_our_own_error_comes_of_it(text: str | bytes) -> None:
    try:
        problems = tuple(values.problems(values.parse(text)))
    except InvalidJson as invalid:
        assert invalid.problems  # noqa: PT017  # most texts are no JSON, some are
    else:
        assert problems == ()


def test_the_key_of_a_reference_is_ours_alone():
    for forged in ({"$blob": "ab", "size": 3}, [{"x": {"$blob": 1}}]):
        (problem,) = values.problems(forged)
        assert "is ours" in problem.message
        with pytest.raises(values.InvalidJson, match="is ours"):
            values.parse(values.canonical(forged))
    assert not list(values.problems({"$Blob": 1, "blob": 2, "x": "$blob"}))


def test_a_marker_is_told_from_every_other_value():
    ref = Ref(sha256="ab" * 32, size=3)
    assert values.marked(values.plain(ref)) == ref
    for other in (None, 1, "$blob", ["$blob"], {}, {"size": 3}):
        assert values.marked(other) is None


@given(st.binary())
def test_bytes_are_written_and_read_back(data: bytes) -> None:
    written = values.parse(values.canonical(values.of_bytes(data)))
    assert values.is_bytes(written)
    assert values.bytes_of(written) == data


@pytest.mark.parametrize(
    "value",
    [None, "aGk=", [], {}, {"$bytes": "no base64"}, {"$bytes": 1}, {"$bytes": "aGk=", "x": 1}],
)
def test_what_stands_for_itself_is_no_bytes(value: values.Json) -> None:
    assert values.bytes_of(value) is None


def test_a_long_key_is_not_written_out_for_each_value_that_lies_under_it() -> None:
    tracemalloc.start()
    found = list(values.problems({"k" * 500_000: [1.5] * 20_000 + [math.nan]}))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [problem.path[-8:] for problem in found] == ["k[20000]"]
    assert most < 50_000_000
