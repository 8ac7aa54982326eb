from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from celeriac.drill import witness
from celeriac.drill.witness import Effect
from celeriac.embedded import processes


@pytest.fixture
def place(short_folder):
    place = short_folder / "witness.sock"
    running = processes.spawn(
        [sys.executable, "-m", "celeriac.drill.witness", str(place), str(short_folder / "book")],
        log=short_folder / "log",
        environment=os.environ,
        leash=signal.SIGKILL,
    )
    assert processes.wait_until(place.exists, seconds=30)
    yield str(place)
    processes.end(running, signal.SIGKILL, seconds=10)


def test_what_it_has_answered_is_written(place, short_folder):
    for attempt in (1, 2, 2):
        witness.tell(place, Effect("r/a#1", "r", "a#1", attempt))
    witness.tell(place, Effect("r/b#1", "r", "b#1", 1))
    assert witness.told(short_folder / "book") == {
        ("r", "a#1"): {1: 1, 2: 2},
        ("r", "b#1"): {1: 1},
    }


def test_who_is_killed_while_it_speaks_has_done_nothing(place, short_folder):
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(place)
        wire.sendall(b"r/a#1 r a#1")
    witness.tell(place, Effect("r/b#1", "r", "b#1", 1))
    assert witness.told(short_folder / "book") == {("r", "b#1"): {1: 1}}


def test_without_a_witness_nothing_happens(short_folder):
    with pytest.raises(OSError, match=r"No such file"):
        witness.tell(str(short_folder / "nobody"), Effect("r/a#1", "r", "a#1", 1))


@pytest.mark.parametrize("lines", [["k r a#1 1", "l r a#1 2"], ["k r a#1 1", "k r b#1 1"]])
def test_a_key_that_is_not_the_steps_own_is_no_key(tmp_path, lines):
    book = tmp_path / "book"
    book.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(ValueError, match="key"):
        witness.told(book)


def test_a_book_that_nobody_wrote_in_is_empty(tmp_path):
    assert witness.told(tmp_path / "book") == {}
