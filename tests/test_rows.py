"""That the table of rows names tests that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TESTS = Path(__file__).parent
#: `file::name`; a star stands for all of a file.
TEST = re.compile(r"`([\w/]+\.py)::(\w+|\*)`")


def test_each_test_that_the_table_names_is_there() -> None:
    table = (TESTS / "README.md").read_text()
    named = TEST.findall(table)
    assert len(named) > 100
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (TESTS / file).exists()
        or (name != "*" and f"\ndef {name}(" not in (TESTS / file).read_text())
    ]
    assert missing == []


def test_each_row_of_a_seed_is_proved_or_said_to_be_missing() -> None:
    table = (TESTS / "README.md").read_text()
    rows = {f"S3-{number:02}" for number in range(1, 38)} | {f"S3-C{n}" for n in range(1, 10)}
    rows |= {
        f"S1-{n}" for n in (*range(11, 16), 20, 50, *range(57, 62), *range(79, 88), 92, 93, 94)
    }
    assert rows - set(re.findall(r"\bS\d-C?\d+\b", table)) == set()


def test_the_licence_is_the_one_that_is_named() -> None:
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    assert project["license"] == "MIT"
    assert (TESTS.parent / "LICENSE").read_text().startswith("MIT License\n")
