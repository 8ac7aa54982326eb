"""Names of runs and of acts."""

from __future__ import annotations

import itertools
import time
import uuid

import pytest

from engine.runs.identity import new_run

#: The beginning of a millisecond, in nanoseconds.
BEGINNING = 1_800_000_000_000 * 1_000_000


def test_what_is_done_within_a_millisecond_sorts_as_it_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ids are made every half of a microsecond, over the end of one millisecond and of the next."""
    clock = itertools.count(BEGINNING, 500)
    monkeypatch.setattr(time, "time_ns", clock.__next__)
    made = [new_run() for _ in range(4000)]
    assert made == sorted(made)


def test_ids_are_uuids_of_version_7_with_their_time_in_front(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: BEGINNING + 999_999)
    made = uuid.UUID(new_run())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == BEGINNING // 1_000_000


def test_ids_of_one_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: BEGINNING)
    assert len({new_run() for _ in range(1000)}) == 1000
