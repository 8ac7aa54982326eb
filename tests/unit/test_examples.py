"""What the examples' own code refuses, and what it makes of what it takes."""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import dataclass, field
from typing import Any

import pytest

from examples.coding_agent.model import ModelError
from examples.coding_agent.notes import look_up, ranked
from tests.support.services import ROOT
from tests.unit.services import outside
from tests.unit.services.outside import reply

EXAMPLES = ROOT / "examples"
ACCOUNT = {"number": "00000017", "name": "ADA", "balance": "12.50", "opened": "1835-07-08"}
HEAD = r"MSH|^~\&|ADT1|WARD|ROUTER|X|20261122||ADT^A01|MSG1|P|2.5"
PATIENT = r"PID|1||P-7^^^A~9||KING \T\ SON^ADA^B~OTHER||18151210|F"


def named(path: str) -> dict[str, Any]:
    """What a file of an example defines, with what all code has without an import."""
    return runpy.run_path(str(EXAMPLES / path), {"re": re})


@pytest.fixture(scope="module")
def records() -> dict[str, Any]:
    return named("mainframe/records.py")


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    return named("hl7/messages.py")


# --- records of a mainframe -------------------------------------------------------------------


def test_a_file_that_breaks_off_is_refused(records: Any) -> None:
    with pytest.raises(ValueError, match="41 bytes are no whole number of records"):
        records["read_accounts"](records["write_accounts"]([ACCOUNT])[:-1])


@pytest.mark.parametrize(
    ("at", "byte", "said"),
    [(33, 0x00, "no packed decimal"), (30, 0xA0, "no packed decimal"), (41, 0x40, "digits")],
)
def test_a_record_that_is_damaged_is_named(records: Any, at: int, byte: int, said: str) -> None:
    data = bytearray(records["write_accounts"]([ACCOUNT, ACCOUNT]))
    data[42 + at] = byte
    with pytest.raises(ValueError, match=f"record 2: .*{said}"):
        records["read_accounts"](bytes(data))


@pytest.mark.parametrize(
    "changed",
    [
        *({"balance": "0.001"}, {"balance": "1000000000"}, {"name": "X" * 21}),
        *({"number": "17a"}, {"number": "123456789"}, {"opened": "1835-7-8"}),
    ],
)
def test_what_does_not_fit_its_field_is_not_written(records: Any, changed: Any) -> None:
    with pytest.raises(ValueError, match="record 1: "):
        records["write_accounts"]([{**ACCOUNT, **changed}])


@pytest.mark.parametrize(
    ("balance", "packed"),
    [
        ("0.00", "00000000000c"),
        ("-0.01", "00000000001d"),
        ("999999999.99", "99999999999c"),
    ],
)
def test_amounts_are_packed_two_digits_to_a_byte_and_read_again(
    records: Any, balance: str, packed: str
) -> None:
    written = records["write_accounts"]([{**ACCOUNT, "balance": balance}])
    assert written[28:34].hex() == packed
    assert records["read_accounts"](written) == [{**ACCOUNT, "balance": balance}]


def test_interest_is_rounded_half_to_even_and_debts_bear_none(records: Any) -> None:
    accounts = [{**ACCOUNT, "balance": balance} for balance in ("0.50", "1.50", "-100.00")]
    added = records["add_interest"](accounts, 1)
    assert [each["balance"] for each in added] == ["0.50", "1.52", "-100.00"]


# --- messages of a hospital -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", "does not begin with MSH"),
        ("PID|1", "does not begin with MSH"),
        (HEAD, "about nobody"),
        (f"{HEAD.replace('MSG1', '')}\r{PATIENT}", "MSH-10 is empty"),
        (f"{HEAD}\r{PATIENT.replace('P-7', '../../admin')}", "PID-3 is no identifier"),
    ],
)
def test_a_message_that_is_wrong_says_why(messages: Any, message: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        messages["read_message"]({"message": message})


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_message_is_read_by_its_own_marks(messages: Any, end: str) -> None:
    text = f"{HEAD}{end}{PATIENT}{end}OBX|1|NM|GLU^Glucose||5.4|mmol/L"
    for marks in ("|^~&", "#@!$"):
        given = text.translate(str.maketrans("|^~&", marks))
        read = messages["read_message"]({"message": given})
        assert read["about"]["patient"]["family"] == f"KING {marks[3]} SON"
        assert read["resource"]["birthDate"] == "1815-12-10"
        assert read["places"] == {"patient": "patients/P-7", "results": "results/MSG1"}
        assert read["results"] == [{"code": "GLU", "value": "5.4", "unit": "mmol/L"}]


def test_an_acknowledgement_goes_to_whoever_sent_the_message(messages: Any) -> None:
    about = messages["read_message"]({"message": f"{HEAD}\r{PATIENT}"})["about"]
    said = messages["acknowledge"]({"about": about, "code": "AR", "why": "no"})
    assert said["acknowledgement"].split("\r") == [
        r"MSH|^~\&|CELERIAC||ADT1|WARD|20261122||ACK|MSG1|P|2.5",
        "MSA|AR|MSG1|no",
    ]


# --- what must not leave the house ------------------------------------------------------------


def test_what_is_secret_is_taken_out_and_the_rest_is_left() -> None:
    redact = named("stream/redact.py")["redact"]
    assert redact(b"a@b.example, 4111-1111-1111-1111; Bearer xyz \xff") == (
        b"[email], [card]; Bearer [token] \xff"
    )
    assert redact("order 4711 of 2026-11-22") == b"order 4711 of 2026-11-22"


# --- what the Coding Agent looks up -----------------------------------------------------------

NOTES = [
    {"title": "Tests", "text": "Functions have tests."},
    {"title": "Files", "text": "Functions read files."},
    {"title": "Retries", "text": f"Functions are repeated. {'So it is, and on. ' * 20}"},
]


@dataclass
class Told:
    """What a function tells of its use."""

    used: dict[str, float] = field(default_factory=dict)

    def use(self, **used: float) -> None:
        self.used |= used


def meaning(handler: Any) -> None:
    """A model to which money and time alone mean something."""
    texts = json.loads(handler.body)["input"]
    data = [
        {"index": at, "embedding": [text.count("float"), text.count("time"), 0.01]}
        for at, text in enumerate(texts)
    ]
    # In no order that anybody may rely on.
    body = {"data": data[::-1], "usage": {"total_tokens": 7}}
    reply(handler, body=json.dumps(body).encode(), content_type="application/json")


def test_nothing_is_found_by_words_that_no_note_has() -> None:
    assert ranked("the weather of it", NOTES) == []
    assert ranked("money", []) == []


def test_a_rare_word_finds_before_a_usual_one_and_a_short_note_before_a_long_one() -> None:
    assert next(each["title"] for each in ranked("functions and retries", NOTES)) == "Retries"
    assert ranked("function", NOTES)[-1]["title"] == "Retries"


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"data": "none"},
        {"data": [{"index": at, "embedding": [1.0] * (at + 1)} for at in range(7)]},
        {"data": [{"index": at, "embedding": ["x"]} for at in range(7)]},
    ],
)
def test_what_is_no_embedding_is_said_to_be_none(answer: Any) -> None:
    body = json.dumps(answer).encode()
    with outside.http(lambda handler: reply(handler, body=body)) as server:
        state = {"query": "x", "embedding_model": "small", "base_url": server.url}
        with pytest.raises(ModelError, match="embeddings"):
            look_up(state, Told())


def test_notes_are_found_by_what_they_mean_where_a_model_says_so() -> None:
    told = Told()
    with outside.http(meaning) as server:
        state = {"query": "a float", "embedding_model": "small", "base_url": f"{server.url}/v1"}
        found = look_up(state, told)
        (asked,) = server.heard
    assert (asked.path, json.loads(asked.body)["model"]) == ("/v1/embeddings", "small")
    assert found[0]["title"] == "Money"
    assert found[0]["score"] > found[1]["score"]
    assert told.used == {"tokens_used": 7}


def test_without_such_a_model_words_decide_and_nobody_is_asked() -> None:
    told = Told()
    state = {"query": "a sum of money", "base_url": "http://127.0.0.1:9"}
    assert look_up(state, told)[0]["title"] == "Money"
    assert told.used == {}
