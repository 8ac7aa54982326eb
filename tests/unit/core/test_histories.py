"""What any release has decided, every later one decides again: recorded histories, for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from engine.core import messages as msg
from engine.core.replay import Recorded, Replay, begun, heard, over, replayed
from tests.support import histories
from tests.support.histories import History
from tests.support.recordings import SHAPES

FILES = histories.files()
EACH = pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])


def replay(history: History, lines: Sequence[Recorded]) -> Replay:
    return replayed(history.graph, history.policy, history.run, lines)


def commands(history: History) -> list[int]:
    """Where in its lines something was decided."""
    return [at for at, line in enumerate(history.lines) if isinstance(line.record, msg.Command)]


def test_there_is_a_history_of_each_shape() -> None:
    assert {histories.read(file).shape for file in FILES} == SHAPES.keys() - histories.LEFT_OUT


# --- what would be missed ---------------------------------------------------------------------


@EACH
def test_a_decision_that_is_not_there_is_missed_wherever_it_was(file: Path) -> None:
    history = histories.read(file)
    for at in commands(history):
        found = replay(history, [*history.lines[:at], *history.lines[at + 1 :]])
        assert found.first is not None
        assert (found.first.seq, found.first.kind) in {
            (at + 1, "not_decided"),
            (at + 2, "different"),
        }
        assert found.first.would is not None


@EACH
def test_a_decision_that_is_told_twice_is_unfounded_wherever_it_is(file: Path) -> None:
    history = histories.read(file)
    for at in commands(history):
        found = replay(history, [*history.lines[: at + 1], *history.lines[at:]])
        assert found.first is not None
        assert found.first.kind in {"unfounded", "different"}
        assert found.first.seq == at + 1


@EACH
def test_a_decision_of_another_time_is_another(file: Path) -> None:
    history = histories.read(file)
    at = commands(history)[0]
    line = history.lines[at]
    later = replace(line, at=line.at + timedelta(seconds=1))
    found = replay(history, [*history.lines[:at], later])
    assert found.first is not None
    assert (found.first.kind, found.first.differs) == ("different", ("at",))


@EACH
def test_after_the_first_divergence_nothing_is_compared(file: Path) -> None:
    history = histories.read(file)
    ended = replay(history, history.lines[: commands(history)[0]])
    assert ended.first is not None
    assert over(history.graph, ended) == ended
    assert heard(history.graph, history.policy, ended, history.lines[-1]) == ended


@EACH
def test_an_event_that_cannot_follow_is_impossible(file: Path) -> None:
    history = histories.read(file)
    found = replay(history, [*history.lines, history.lines[0]])
    assert found.first is not None
    assert (found.first.kind, found.first.seq) == ("impossible", history.lines[0].seq)


# --- what is decided again --------------------------------------------------------------------


@EACH
def test_a_history_is_decided_again_to_the_last_field(file: Path) -> None:
    history = histories.read(file)
    found = replay(history, history.lines)
    assert found.first is None
    assert (found.decisions, found.untold) == (len(commands(history)), ())
    ending = found.state.ending
    assert ending is not None
    assert (ending.status, ending.reason) == (history.status, history.reason)


@EACH
def test_it_does_not_matter_where_it_is_taken_up_again(file: Path) -> None:
    history = histories.read(file)
    whole = replay(history, history.lines)
    for cut in range(len(history.lines)):
        found = begun(history.run)
        for line in history.lines[:cut]:
            found = heard(history.graph, history.policy, found, line)
        for line in history.lines[cut:]:
            found = heard(history.graph, history.policy, found, line)
        assert over(history.graph, found) == whole
