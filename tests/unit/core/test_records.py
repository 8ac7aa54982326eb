from __future__ import annotations

import dataclasses

import pytest

from engine.core import messages as msg
from engine.core.records import replace
from engine.core.scopes import Scope
from engine.core.state import State, Step
from engine.core.transitions import RunStatus, StepStatus
from tests.support.play import ticked

STEP = Step(key="a#1", node="a", iteration=1, status=StepStatus.READY)
RECORDS = [
    (STEP, {"attempt": 2, "wake": None}),
    (Scope(), {"branches": 3}),
    (ticked(), {}),
    (msg.OpenWait(step="a#1", kind="timer"), {"step": "a#2"}),
]


def test_a_field_that_a_record_has_not_cannot_be_changed():
    with pytest.raises(TypeError, match="colour"):
        replace(STEP, colour="red")


def test_what_is_changed_is_another_record():
    state = State(run="r1")
    assert replace(state, status=RunStatus.RUNNING).status is RunStatus.RUNNING
    assert state.status is RunStatus.QUEUED


@pytest.mark.parametrize(("record", "changes"), RECORDS)
def test_a_changed_record_is_what_dataclasses_would_make_of_it(record, changes):
    found = replace(record, **changes)
    assert found == dataclasses.replace(record, **changes)
    assert type(found) is type(record)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(found, dataclasses.fields(found)[0].name, None)
