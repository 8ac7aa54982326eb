"""What a secret looks like in what an attempt leaves, and that nothing of it is left there."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.redaction import Redaction, restored

VALUE = "s3cr%t/+\"käse'\n\\&"
KEY = "pk_live_51HxyzABC"

#: Few letters, so that values overlap each other and themselves.
LETTERS = st.text("abA=/+ \n", min_size=6, max_size=12)
NAMED = st.dictionaries(st.sampled_from(["P", "Q", "R"]), LETTERS, min_size=1)


def shown(text: str) -> str:
    return Redaction({"KEY": VALUE}).hide_text(text)


@pytest.mark.parametrize(
    "spelt",
    [
        VALUE,
        json.dumps(VALUE)[1:-1],
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        repr(VALUE)[1:-1],
        quote(VALUE),
        quote(VALUE, safe=""),
        quote(VALUE, safe="").lower(),
        quote_plus(VALUE),
        VALUE.encode().hex(),
        VALUE.encode().hex().upper(),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
    ],
)
def test_every_spelling_is_found(spelt: str) -> None:
    assert shown(f"a {spelt} b {spelt}") == "a [secret:KEY] b [secret:KEY]"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_found_wherever_the_value_begins_in_it(
    before: str, after: str, encode: object
) -> None:
    told = encode(f"{before}{KEY}{after}".encode()).decode()  # type: ignore[operator]
    hidden = Redaction({"KEY": KEY}).hide_text(f"Basic {told}")
    assert "[secret:KEY]" in hidden
    # At most what is mixed with its neighbours is left.
    left = hidden.removeprefix("Basic ").replace("[secret:KEY]", "")
    assert len(left.rstrip("=")) <= len(encode(f"{before}{after}".encode()).decode()) + 2  # type: ignore[operator]


def test_texts_keys_and_numbers_are_looked_at() -> None:
    redaction = Redaction({"KEY": KEY, "PIN": "123456"})
    found = redaction.hide(
        {f"x {KEY}": [KEY, 123456, 1234567, 12345, True, None, {"pin": "123456"}]}
    )
    pin = "[secret:PIN]"
    assert found == {
        "x [secret:KEY]": ["[secret:KEY]", pin, f"{pin}7", 12345, True, None, {"pin": pin}]
    }


def test_keys_that_become_one_stay_apart() -> None:
    found = Redaction({"KEY": KEY}).hide({KEY: 1, "[secret:KEY]": 2, "[secret:KEY] (2)": 3})
    assert found == {"[secret:KEY]": 1, "[secret:KEY] (2)": 2, "[secret:KEY] (2) (2)": 3}


def test_of_several_lines_each_is_one() -> None:
    pem = "-----BEGIN-----\nMIIEvQIBADANBg\n  kqhkiG9w0BAQE\nend\n"
    redaction = Redaction({"PEM": pem})
    for line in ("MIIEvQIBADANBg", "kqhkiG9w0BAQE"):
        assert redaction.hide_text(f"> {line} <") == "> [secret:PEM] <"
    # As short as that, it would be found everywhere.
    assert redaction.hide_text("the end") == "the end"


def test_values_that_overlap_are_hidden_whole() -> None:
    redaction = Redaction({"A": "abcdef", "B": "efghij", "C": "bcdefg"})
    assert redaction.hide_text("-abcdefghij-") == "-[secret:A][secret:C][secret:B]-"
    assert redaction.hide_text("abcdefabcdef") == "[secret:A][secret:A]"
    assert Redaction({"A": "aaaaaa"}).hide_text("a" * 20) == "[secret:A]"


def test_the_longest_is_told() -> None:
    assert Redaction({"A": "abcdef", "B": "abcdefgh"}).hide_text("abcdefgh") == "[secret:B]"


def test_a_mark_is_left_as_it_is() -> None:
    redaction = Redaction({"A": "secret", "KEY": KEY})
    once = redaction.hide_text(f"{KEY} and secret")
    assert once == "[secret:KEY] and [secret:A]"
    assert redaction.hide_text(once) == once


def test_what_was_cut_off_is_taken_for_the_beginning_of_a_value() -> None:
    redaction = Redaction({"KEY": KEY})
    assert redaction.hide_text(f"it is {KEY[:9]}", cut=True) == "it is [secret:KEY]"
    assert redaction.hide_text(f"it is {KEY[:9]}") == f"it is {KEY[:9]}"
    assert redaction.hide_text("it is pk_li", cut=True) == "it is pk_li"
    assert redaction.hide_text(f"{KEY}{KEY[:6]}", cut=True) == "[secret:KEY][secret:KEY]"


def test_it_tells_no_value_of_itself() -> None:
    assert repr(Redaction({"KEY": KEY})) == "Redaction([secret:KEY])"


def test_without_secrets_nothing_is_touched() -> None:
    value = {"a": [1, "x"]}
    assert not Redaction()
    assert Redaction().hide(value) is value
    assert Redaction({"EMPTY": ""}).hide_text("text") == "text"


# --- in pieces ------------------------------------------------------------------------------------


def told(redaction: Redaction, pieces: list[str]) -> str:
    stream = redaction.stream()
    return "".join([*map(stream.feed, pieces), stream.close()])


@pytest.mark.parametrize("at", range(1, len(KEY)))
def test_a_value_in_two_pieces_is_found(at: int) -> None:
    assert told(Redaction({"KEY": KEY}), [f"x{KEY[:at]}", f"{KEY[at:]}y"]) == "x[secret:KEY]y"


def test_what_cannot_be_part_of_a_value_is_told_at_once() -> None:
    stream = Redaction({"KEY": KEY}).stream()
    assert stream.feed("hello p") == "hello "
    assert stream.feed("eter pk_") == "peter "
    assert stream.close() == "pk_"


@given(values=NAMED, pieces=st.lists(st.text("abA=/+ \n[secret:PQR]", max_size=9)), data=st.data())
def test_pieces_are_told_as_the_whole_would_be(
    values: dict[str, str], pieces: list[str], data: st.DataObject
) -> None:
    inserted = data.draw(st.lists(st.sampled_from([*values.values()])))
    text = "".join(pieces[:2] + inserted + pieces[2:])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    redaction = Redaction(values)
    assert told(redaction, parts) == redaction.hide_text(text)


@given(values=NAMED, around=st.text("abA=/+ \n", max_size=9), data=st.data())
def test_no_value_is_left(values: dict[str, str], around: str, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from([around, *values.values()])))
    hidden = Redaction(values).hide_text("".join(words))
    for part in hidden.replace("]", "[").split("["):
        assert not any(value in part for value in values.values())


# --- carrying out what was allowed ----------------------------------------------------------------

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([KEY, "x", "", f"k={KEY}"])
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([KEY, "a", "b"]), inner, max_size=3)
    ),
)


@given(real=JSON)
def test_what_nobody_has_changed_is_carried_out_as_it_was_asked(real: object) -> None:
    hidden = Redaction({"KEY": KEY}).hide(real)  # type: ignore[arg-type]
    assert restored(hidden, hidden, real) == real  # type: ignore[arg-type]


@given(allowed=JSON, real=JSON)
def test_a_value_comes_only_where_it_was(allowed: object, real: object) -> None:
    redaction = Redaction({"KEY": KEY})
    told = redaction.hide(allowed)  # type: ignore[arg-type]
    hidden = redaction.hide(real)  # type: ignore[arg-type]
    found = restored(told, hidden, real)  # type: ignore[arg-type]
    assert redaction.hide(found) == told


def test_what_a_policy_has_changed_is_carried_out_as_it_has_left_it() -> None:
    real = {"args": [], "kwargs": {"key": KEY, "to": "a@b.c", "more": [KEY, 1], "n": 1}}
    hidden = Redaction({"KEY": KEY}).hide(real)
    allowed = {
        "args": [],
        "kwargs": {
            "key": "[secret:KEY]",
            "to": "[secret:KEY]",
            "more": ["[secret:KEY]"],
            "n": True,
        },
    }
    assert restored(allowed, hidden, real) == {
        "args": [],
        "kwargs": {"key": KEY, "to": "[secret:KEY]", "more": ["[secret:KEY]"], "n": True},
    }
