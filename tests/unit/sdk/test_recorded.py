"""Runs that were recorded on a platform, decided anew in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from celeriac.testing import Diverged, replay
from engine.errors import Invalid
from engine.formats import recording
from tests.support import recorded


def test_what_was_altered_is_no_recording(tmp_path: Path) -> None:
    file = tmp_path / "a.run"
    file.write_text(recorded.text().replace("loop", "l00p"))
    with pytest.raises(Invalid, match="line 1: was altered"):
        replay(file)
    file.write_text(recorded.rewritten(recorded.text(), 1, '"rules":1', '"rules":7'))
    with pytest.raises(Invalid, match="rules number 7"):
        replay(file)
    file.write_text(recorded.rewritten(recorded.text(), 2, '"uses":"noop"', '"uses":7'))
    with pytest.raises(Invalid, match="cannot be read"):
        replay(file)


def test_a_run_is_decided_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.run"
    file.write_text(recorded.text())
    assert (replay(file).decisions, replay(str(file)).untold) == (13, ())


def test_the_first_decision_that_would_be_another_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.run"
    file.write_text(recorded.rewritten(recorded.text(), 2, "$n < 4", "$n < 3"))
    with pytest.raises(Diverged) as caught:
        replay(file)
    told = str(caught.value)
    assert "line 5 of run" in told
    assert "(a#1) is different" in told
    assert '"when":"$n < 4"' in told
    assert '"when":"$n < 3"' in told


def test_a_value_that_was_left_out_is_not_compared_and_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.run"
    bare = [
        {**part, "payload": None, "salt": None} if part["part"] == "line" else part
        for part in recorded.parts()
    ]
    file.write_text("".join(recording.write(bare)))
    assert len(replay(file).untold) > 0
