"""Deciding anew where something cannot be known any more. What is known is in `test_histories`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from engine.core import document
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Graph
from engine.core.policy import DEFAULT
from engine.core.references import Unread
from engine.core.replay import Recorded, Replay, replayed
from engine.core.state import State
from engine.core.values import Inline, Json, Ref, plain
from tests.support.play import NOW as T0
from tests.support.play import lines as lines_of
from tests.support.recordings import LOOP, PLANNED

RUN = "r1"
BLOB = Ref(sha256="ab" * 32, size=10)
MAPPED: dict[str, Json] = {
    "workflow": "w",
    "inputs": {"most": {}},
    "variables": {"found": {}},
    "nodes": {
        "m": {
            "kind": "map",
            "over": [1, 2],
            "do": "f",
            "at_once": 1,
            "stop_when": {"succeeded": "$most"},
        }
    },
    "edges": ["m -> end"],
}


def graph_of(data: Any) -> Graph:
    found = document.read(data)
    assert isinstance(found, Graph), found
    return found


def submitted(**inputs: Json) -> msg.RunSubmitted:
    return msg.RunSubmitted(at=T0, by="ada", inputs=inputs)


def admitted(key: str) -> msg.Admitted:
    return msg.Admitted(at=T0, step=msg.StepKey(key))


def done(key: str, attempt: int = 1, **patch: Json) -> msg.AttemptSucceeded:
    return msg.AttemptSucceeded(
        at=T0, step=msg.StepKey(key), attempt=attempt, fence=1, result=Inline(value=1), patch=patch
    )


def recorded(graph: Graph, *events: Any, read: Any = None) -> list[Recorded]:
    """The lines of a run that was told these events."""
    more = {} if read is None else {"read": read}
    return lines_of(advance(graph, DEFAULT, State(run=RUN), events, **more).entries)


def shredded(lines: Sequence[Recorded]) -> list[Recorded]:
    """The same lines without users' data."""
    found = []
    for line in lines:
        match line.record:
            case msg.RunSubmitted() as record:
                found.append(replace(line, record=replace(record, inputs={}), whole=False))
            case msg.AttemptSucceeded() as record:
                gone = replace(record, result=Inline(value=None), patch={})
                found.append(replace(line, record=gone, whole=False))
            case _:
                found.append(line)
    return found


def again(graph: Graph, lines: Sequence[Recorded], **more: Any) -> Replay:
    return replayed(graph, DEFAULT, RUN, lines, **more)


def where(lines: Sequence[Recorded], kind: type) -> int:
    return next(at for at, line in enumerate(lines) if isinstance(line.record, kind))


def gone(ref: Ref) -> Json:
    raise Unread(f"blob {ref.sha256} is gone")


PLAN = graph_of(PLANNED)
PLAN_LINES = recorded(
    PLAN, submitted(), admitted("ask#1"), done("ask#1", n=7), admitted("large#1"), done("large#1")
)
MAP = graph_of(MAPPED)
MAP_LINES = recorded(
    MAP,
    submitted(most=1),
    admitted("m#1"),
    msg.Opened(at=T0, step=msg.StepKey("m#1"), items=2),
    admitted("m#1.0"),
    done("m#1.0"),
)


@pytest.mark.parametrize(("graph", "lines", "untold"), [(PLAN, PLAN_LINES, 1), (MAP, MAP_LINES, 2)])
def test_what_rests_on_shredded_data_is_taken_as_told(
    graph: Graph, lines: list[Recorded], untold: int
) -> None:
    whole, found = again(graph, lines), again(graph, shredded(lines))
    assert (whole.first, whole.untold) == (None, ())
    assert found.first is None
    assert len(found.untold) == untold
    assert found.decisions == whole.decisions - untold
    assert {why for _, why in found.untold} == {"users' data of line 1 is shredded"}


def test_what_rests_on_no_data_is_compared_all_the_same() -> None:
    lines = shredded(PLAN_LINES)
    at = where(lines, msg.FinishRun)
    end = lines[at].record
    assert isinstance(end, msg.FinishRun)
    lines[at] = replace(lines[at], record=replace(end, reason="final"))
    found = again(PLAN, lines)
    assert found.first is not None
    assert (found.first.kind, found.first.differs) == ("different", ("reason",))


def test_a_step_of_no_node_is_no_excuse() -> None:
    lines = shredded(MAP_LINES)
    at = where(lines, msg.RequestStart)
    record = lines[at].record
    assert isinstance(record, msg.RequestStart)
    other = replace(record, of=msg.StepKey("nobody#1"))
    lines[at] = replace(lines[at], record=other)
    found = again(MAP, lines)
    assert found.first is not None
    assert found.first.differs == ("of",)


def test_a_decision_that_would_follow_from_what_is_left_is_not_missed() -> None:
    """Without its data a condition says otherwise: nothing is told to have been forgotten."""
    loop = graph_of({**LOOP, "edges": ["a -> b", {"from": "b", "to": "end", "when": "$n == null"}]})
    lines = recorded(loop, submitted(n=1), admitted("a#1"), done("a#1"), admitted("b#1"))
    lines = [*shredded(lines), Recorded(seq=9, at=T0, record=done("b#1"), whole=False)]
    found = again(loop, lines)
    assert found.first is None
    assert [seq for seq, _ in found.untold] == [10]


def test_every_decision_of_a_step_list_may_rest_on_its_tape() -> None:
    listed = graph_of({"workflow": "w", "steps": [{"agent": "f"}, {"agent": "f"}]})
    lines = shredded(recorded(listed, submitted(**listed.variables)))
    at = where(lines, msg.RequestStart)
    record = lines[at].record
    assert isinstance(record, msg.RequestStart)
    lines[at] = replace(lines[at], record=replace(record, queue="other"))
    assert again(listed, lines).first is None
    assert at + 1 in {seq for seq, _ in again(listed, lines).untold}


def test_what_lies_in_a_blob_that_is_gone_is_taken_as_told() -> None:
    graph = graph_of(LOOP)
    marker = plain(BLOB)
    lines = recorded(graph, submitted(n=marker), admitted("a#1"), done("a#1"), read=lambda _: 5)
    assert again(graph, lines, read=lambda _: 5).first is None
    found = again(graph, lines, read=gone)
    at = where(lines, msg.TakeEdges)
    assert (found.first, found.untold) == (None, ((at + 1, f"blob {BLOB.sha256} is gone"),))
    # But something follows, whatever it says.
    cut = again(graph, lines[:at], read=gone)
    assert cut.first is not None
    assert (cut.first.kind, cut.first.would) == ("not_decided", f"blob {BLOB.sha256} is gone")
