"""Values that lie elsewhere: read where they are named, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core import codec, expressions, references, values
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import Role, Rule
from engine.core.policy import DEFAULT
from engine.core.references import CONDITION_BYTES, Readable
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Json, Ref, plain
from tests.support.play import (
    NOW,
    edge,
    fold,
    graph,
    lost,
    node,
    submitted,
    succeeded,
)

BIG = Ref(sha256="ab" * 32, size=300_000)
HUGE = Ref(sha256="cd" * 32, size=CONDITION_BYTES + 1)
FORK = graph(
    edge("a -> b", when="$answer.good"),
    edge("a -> c", when="$other == 1"),
    edge("a -> d"),
)


class Shelf:
    """What lies elsewhere, and what of it was read."""

    def __init__(self, **known: Json) -> None:
        self.known = known
        self.read: list[str] = []

    def __call__(self, ref: Ref) -> Json:
        self.read.append(ref.sha256)
        return self.known[ref.sha256]


def after(template, shelf, *events, **variables):
    """A run up to its first decision, with something elsewhere."""
    begun = advance(template, DEFAULT, State(run="r1"), [submitted(**variables)])
    admitted = msg.Admitted(at=NOW, step=msg.StepKey("a#1"))
    turn = advance(template, DEFAULT, begun.state, [admitted, *events], read=shelf)
    return replace(turn, entries=begun.entries + turn.entries)


def test_a_condition_reads_what_it_names_and_nothing_else():
    shelf = Shelf(**{BIG.sha256: {"good": False}})
    turn = after(FORK, shelf, succeeded("a#1"), answer=plain(BIG), unused=plain(HUGE), other=1)
    assert shelf.read == [BIG.sha256]
    assert [token.target for token in turn.state.tokens] == []
    assert "c#1" in turn.state.steps
    (routed,) = [e.record for e in turn.entries if isinstance(e.record, msg.TakeEdges)]
    assert routed.untaken[0].saw == {"$answer.good": False}


def test_what_was_read_never_becomes_part_of_the_state():
    shelf = Shelf(**{BIG.sha256: {"good": True}})
    turn = after(FORK, shelf, succeeded("a#1"), answer=plain(BIG))
    assert turn.state.variables == {"answer": plain(BIG)}
    assert fold(turn.entries) == turn.state
    assert codec.revive(State, codec.plain(turn.state)) == turn.state


def test_a_decision_is_the_same_wherever_its_values_lie():
    """Provenance, too: a value that is too large for it is named by the same digest."""
    value: Json = {"good": True, "text": "x" * 1000}
    whole = graph(edge("a -> b", when="$answer.good and $answer == $answer"), edge("a -> c"))
    ref = Ref(sha256=values.digest(value), size=values.size(value))
    here = after(whole, references.unread, succeeded("a#1"), answer=value)
    there = after(whole, Shelf(**{ref.sha256: value}), succeeded("a#1"), answer=plain(ref))
    assert [e.record for e in here.entries][2:] == [e.record for e in there.entries][2:]
    routed = next(e.record for e in there.entries if isinstance(e.record, msg.TakeEdges))
    assert routed.taken[0].saw["$answer"] == {"sha256": ref.sha256, "bytes": ref.size}


def test_a_result_that_lies_elsewhere_is_read_when_it_is_named():
    template = graph(edge("a -> b", when="$result.ok"), edge("a -> c"))
    shelf = Shelf(**{BIG.sha256: {"ok": True}})
    report = replace(succeeded("a#1"), result=BIG)
    assert "b#1" in after(template, shelf, report).state.steps


def test_a_rule_and_a_way_for_errors_read_as_well():
    shelf = Shelf(**{BIG.sha256: 7})
    failing = graph(edge("a -> b", on="error", when="$n == 7"), edge("a -> c"))
    report = msg.AttemptFailed(
        at=NOW, step=msg.StepKey("a#1"), attempt=1, fence=1, reason="x", message="y", terminal=True
    )
    turn = after(failing, shelf, report, n=plain(BIG))
    assert "b#1" in turn.state.steps


def test_a_value_too_large_for_a_condition_fails_the_run_and_says_what_to_do():
    turn = after(FORK, Shelf(), succeeded("a#1"), answer=plain(HUGE))
    assert turn.state.status is RunStatus.FAILED
    assert turn.state.ending.reason == "condition_failed"
    assert f"$answer is {HUGE.size} bytes" in turn.state.ending.message
    assert "variable of its own" in turn.state.ending.message


def test_a_value_too_large_for_a_rule_fails_the_run(plan_of_rules):
    turn = after(plan_of_rules, Shelf(), succeeded("a#1"), answer=plain(HUGE))
    assert turn.state.ending.reason == "condition_failed"
    assert "rule 1" in turn.state.ending.message


@pytest.fixture
def plan_of_rules():
    rule = Rule(when=expressions.compile("$answer.good"), next=("c",))
    plan = replace(node("b", role=Role.PLAN), rules=(rule,))
    return graph(edge("a -> b"), edge("b -> c"), nodes=[plan])


def test_without_anything_to_read_with_a_needed_value_is_a_defect():
    with pytest.raises(LookupError, match=BIG.sha256):
        after(FORK, references.unread, succeeded("a#1"), answer=plain(BIG))


def test_a_retry_reads_nothing():
    shelf = Shelf()
    after(FORK, shelf, lost("a#1"), answer=plain(BIG))
    assert shelf.read == []


def test_readable_values_are_a_mapping_that_reads_late():
    shelf = Shelf(**{BIG.sha256: "value"})
    known = Readable({"big": plain(BIG), "small": 1}, shelf)
    assert "big" in known
    assert "none" not in known
    assert list(known) == ["big", "small"]
    assert len(known) == 2
    assert known.get("none") is None
    more = known.beside({"result": 2})
    assert shelf.read == []
    assert dict(more) == {"big": "value", "small": 1, "result": 2}
    assert known.kept == {"big": plain(BIG), "small": 1}


def test_values_are_named_and_counted_without_being_read():
    shelf = Shelf()
    kept = Readable({"answer": plain(BIG), "other": 1}, shelf).beside({"more": 2})
    assert list(kept) == ["answer", "other", "more"]
    assert len(kept) == 3
    assert "more" in kept
    assert "less" not in kept
    assert kept.read is shelf
    other = kept.over({"last": plain(HUGE)})
    assert list(other) == ["last"]
    assert shelf.read == []
