"""What the examples' own code refuses, and what it makes of what it takes."""

from __future__ import annotations

import re
import runpy
from typing import Any

import pytest

from examples.coding_agent.notes import ranked
from tests.support.services import ROOT

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


def test_nothing_is_found_by_words_that_no_note_has() -> None:
    notes = [{"title": "Money", "text": "Amounts are decimal."}]
    assert ranked("the weather of it", notes) == []
    assert ranked("money", []) == []


def test_a_rare_word_finds_before_a_usual_one_and_a_short_note_before_a_long_one() -> None:
    notes = [
        {"title": "Tests", "text": "Functions have tests."},
        {"title": "Files", "text": "Functions read files."},
        {"title": "Retries", "text": f"Functions are repeated. {'So it is, and on. ' * 20}"},
    ]
    assert next(each["title"] for each in ranked("functions and retries", notes)) == "Retries"
    assert [each["title"] for each in ranked("function", notes)][-1] == "Retries"
