"""Runs as files: what nobody has altered is read, what anybody has is named by its line."""

from __future__ import annotations

import gzip
import json
from datetime import datetime

import pytest

from engine.core import chain
from engine.formats import recording
from engine.formats.recording import Recording
from tests.support import recorded


def problem(text: str | bytes) -> str:
    """The one problem of a file, with its place."""
    found = recording.read(text.encode() if isinstance(text, str) else text)
    assert isinstance(found, tuple), "it was read"
    (one,) = found
    assert one.remedy
    return f"{one.path}: {one.message}"


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    ("number", "before", "after", "why"),
    [
        (1, '"part":"head"', '"part":"tail"', "line 1: is of no part that there is: 'tail'"),
        (1, '"format":1', '"format":2', "line 1: is of format 2"),
        (1, '"seq":24', '"seq":24.5', "line 1: has no seq"),
        (1, '"seq":24', '"seq":99999999999', "line 1: has a seq beyond"),
        (1, '"seq":24', '"seq":25', "line 1: says 25 lines of history, and 24 are there"),
        (1, '"rules":1', '"rules":true', "line 1: has no rules"),
        (1, '"rules":1', '"rules":-1', "line 1: has a rules beyond"),
        (1, '"rules":1', '"rules":1,"more":2', "line 1: has a field 'more'"),
        (1, '"run":"', '"run":"x', "line 1: names a run"),
        (2, '"part":"graph"', '"part":"head"', "line 2: has a field 'document'"),
        (3, '"part":"line"', '"part":"name"', "line 3: has a field"),
        (3, '"at":"2', '"at":"x2', "line 3: has no at that is a time"),
        (3, '+00:00"', '"', "line 3: has no at that is a time"),
        (3, '"salt":"73', '"salt":"xx', "line 3: has a salt that is none"),
        (3, '"payload":"{', '"payload":"[', "line 3: is not JSON"),
        (4, '"seq":2', '"seq":3', "line 4: line 2 of the history is not what its hash says"),
        (2, '"document":{', '"document":{"\\u0000":1,', "line 2: holds the character NUL"),
        (2, '"document":{', f'"document":{{"x":{deep(90)},', "line 2: is nested deeper than 80"),
        (2, '"document":{', f'"document":{{"x":{deep(5000)},', "line 2: is not JSON"),
    ],
)
def test_what_is_no_recording_is_named_by_its_line(
    number: int, before: str, after: str, why: str
) -> None:
    assert problem(recorded.rewritten(recorded.text(), number, before, after)).startswith(why)


def test_a_byte_that_was_altered_anywhere_is_found_in_its_line() -> None:
    text = recorded.text()
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        for place in (10, len(line) // 2):
            other = "0" if line[place] != "0" else "1"
            altered = [
                *lines[: number - 1],
                line[:place] + other + line[place + 1 :],
                *lines[number:],
            ]
            assert problem("".join(altered)).startswith(f"line {number}: "), (number, place)


def test_lines_that_are_gone_doubled_or_swapped_are_found() -> None:
    lines = recorded.text().splitlines(keepends=True)
    assert problem("".join(lines[:-1])).startswith(f"line {len(lines)}: is missing")
    assert problem("".join([*lines[:7], *lines[8:]])).startswith("line 8: was altered, moved")
    assert problem("".join([*lines[:7], *lines[6:]])).startswith("line 8: was altered, moved")
    assert problem("".join([*lines, lines[-1]])).startswith(f"line {len(lines) + 1}: follows")
    assert problem("").startswith("line 1: is missing")


def test_a_file_begins_with_its_head() -> None:
    ended = recorded.sealed(iter(['{"part":"end","lines":0}']))
    assert problem(ended).startswith("line 1: is of format None")


def test_a_part_that_is_there_once_is_there_once() -> None:
    bare = [line.partition(" ")[2] for line in recorded.text().splitlines()]
    turned = recorded.sealed(iter([bare[0], *bare[2:], bare[1]]))
    assert problem(turned).startswith("line 2: is a part 'line'")
    twice = recorded.sealed(iter([*bare[:3], bare[1], *bare[3:]]))
    assert problem(twice).startswith("line 4: is a second graph")
    fewer = recorded.sealed(iter([*bare[:-2], bare[-1]]))
    assert "is missing: the file was cut off" in problem(fewer)


def test_bytes_that_are_no_text_or_compressed_are_refused() -> None:
    text = recorded.text().encode()
    for other in (gzip.compress(text), b"\xff" + text, b"\n" * 100, b"{}"):
        assert problem(other).startswith("line 1: is no digest and JSON object")


def test_what_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    text = recorded.text()
    monkeypatch.setattr(recording, "MAX_LINE", 200)
    assert problem(text).startswith("line 1: is more than 200 bytes")
    monkeypatch.setattr(recording, "MAX_BYTES", 1000)
    assert "more than 1000 bytes" in problem(text)


def test_users_data_is_what_its_line_says_or_was_left_out() -> None:
    text = recorded.text(secret="kept")
    altered = recorded.rewritten(text, 3, "kept", "lost")
    assert "users' data of line 1 of the history is not what its digest says" in problem(altered)
    parts = [{**part} for part in recorded.parts(secret="kept")]
    for part in parts:
        if part["part"] == "line":
            part["payload"] = part["salt"] = None
    found = recording.read("".join(recording.write(parts)).encode())
    assert isinstance(found, Recording)
    assert {line.recorded().whole for line in found.lines if line.payload_id} == {False}


def test_a_line_that_is_chained_as_it_should_be_and_says_what_none_can_is_refused() -> None:
    head, graph, *lines = recorded.parts()
    lines[1]["body"] = lines[1]["body"].replace('"step":"a#1"', '"step":[1]')
    before = b""
    for line in lines:
        told = {name: line[name] for name in ("seq", "kind", "format", "body", "payload_id")}
        at = datetime.fromisoformat(line["at"])
        before = chain.line(before, run=head["run"], at=at, **told)
        line["hash"] = before.hex()
    head["hash"] = before.hex()
    file = "".join(recording.write([head, graph, *lines]))
    assert problem(file).startswith("line 4: line 2 of the history has no step that could be one")


def test_a_file_is_read_as_it_was_written() -> None:
    text = recorded.text()
    found = recording.read(text.encode())
    assert isinstance(found, Recording)
    assert found.digest == text.splitlines()[-1].partition(" ")[0]
    assert [line.seq for line in found.lines] == [*range(1, 25)]
    assert found.lines[0].recorded().whole
    assert json.loads(found.lines[0].body)["by"]
