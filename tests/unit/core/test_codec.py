from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from engine.core import codec
from engine.core import messages as msg
from engine.core.graph import NodeId
from engine.core.state import State, Step
from engine.core.transitions import StepStatus
from engine.core.values import Inline, Ref, Value, digest
from tests.support.play import NOW, succeeded


def test_users_data_stays_out_of_the_body_and_is_bound_to_it_by_a_salted_digest():
    sealed = codec.seal(
        succeeded("a#1", result="secret", patch={"pin": 1234}), salted=lambda: b"salt"
    )
    assert "secret" not in sealed.body
    assert "1234" not in sealed.body
    assert sealed.payload is not None
    payload = json.loads(sealed.payload)
    assert json.loads(sealed.body)[codec.DIGEST] == digest(payload, salt=b"salt")
    assert (
        codec.seal(succeeded("a#1", result="secret"), salted=lambda: b"other").body != sealed.body
    )


def test_a_record_without_users_data_has_no_payload():
    sealed = codec.seal(msg.Woke(at=NOW, step=msg.StepKey("a#1")))
    assert (sealed.kind, sealed.body, sealed.payload) == ("Woke", '{"step":"a#1"}', None)


def test_a_value_in_the_blob_store_survives_its_storage():
    event = msg.AttemptSucceeded(
        at=NOW, step=msg.StepKey("a#1"), attempt=1, fence=1, result=Ref(sha256="ab", size=9)
    )
    written = codec.write(event)
    assert codec.read(written.kind, written.body, written.payload, at=NOW) == event


def test_a_value_that_was_shredded_is_missing_and_nothing_else():
    event = succeeded("a#1", result=[1])
    written = codec.write(event)
    shredded = codec.read(written.kind, written.body, {}, at=NOW)
    assert isinstance(shredded, msg.AttemptSucceeded)
    assert (shredded.result, shredded.step) == (Inline(value=None), event.step)


def test_an_older_shape_is_lifted_to_todays(monkeypatch):
    monkeypatch.setattr(
        codec, "UPCASTERS", {0: lambda _kind, body: ("Woke", {"step": body["node"] + "#1"})}
    )
    assert codec.read("Awoken", {"node": "a"}, {}, at=NOW, number=0) == msg.Woke(
        at=NOW, step=msg.StepKey("a#1")
    )


def test_an_unknown_field_is_refused():
    with pytest.raises(KeyError, match="nonsense"):
        codec.revive(State, {"run": "r1", "nonsense": 1})


def test_what_is_as_usual_need_not_be_told():
    state = State(run="r1", visited=3, shared=("n",))
    told = codec.unusual(state, ("visited", "tokens", "maps", "shared"))
    assert told == {"visited": 3, "shared": ["n"]}
    assert codec.revive(State, {**told, "run": "r1"}) == state


def test_a_state_between_a_report_and_its_routing_survives_its_storage():
    step = Step(
        key=msg.StepKey("a#1"),
        node=NodeId("a"),
        iteration=1,
        status=StepStatus.SUCCEEDED,
        result=Inline(value=[1]),
        choice="x",
    )
    state = State(run="r1", steps={step.key: step})
    assert codec.revive(State, json.loads(json.dumps(codec.plain(state)))) == state


@pytest.mark.parametrize("value", [Inline(value={"a": [1]}), Ref(sha256="0" * 64, size=3)])
def test_a_value_survives_its_storage(value):
    assert codec.value(json.loads(json.dumps(codec.plain(_Holding(value=value))["value"]))) == value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holding:
    value: Value
