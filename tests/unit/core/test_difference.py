"""What lies between two states of a run."""

from __future__ import annotations

from dataclasses import replace

from engine.core.difference import Change, Difference, between
from tests.support.play import LINE, play, submitted, succeeded

BEFORE = play(LINE, submitted(n=1, gone=True, same="x")).state
REPORT = replace(succeeded("a#1", patch={"n": 2, "new": 3, "$steps.a": 9}), removed=("gone",))
AFTER = play(LINE, submitted(n=1, gone=True, same="x"), REPORT).state


def test_variables_steps_visits_and_what_was_spent_are_told() -> None:
    spent = replace(AFTER, spent={"tokens": 5.0, "usd": 1.0})
    assert between(replace(BEFORE, spent={"tokens": 2.0, "usd": 1.0}), spent) == Difference(
        added={"new": 3},
        removed={"gone": True},
        changed={"n": Change(before=1, after=2)},
        begun=tuple(AFTER.steps),
        settled=tuple(BEFORE.steps),
        visited=AFTER.visited - BEFORE.visited,
        spent={"tokens": 3.0},
    )


def test_the_other_way_round_it_is_less() -> None:
    back = between(replace(AFTER, spent={"tokens": 5.0}), BEFORE)
    assert back.spent == {"tokens": -5.0}
    assert back.visited == -1
    assert (back.added, back.removed) == ({"gone": True}, {"new": 3})


def test_a_state_does_not_differ_from_itself() -> None:
    none = between(AFTER, AFTER)
    assert none == Difference(
        added={}, removed={}, changed={}, begun=(), settled=(), visited=0, spent={}
    )
