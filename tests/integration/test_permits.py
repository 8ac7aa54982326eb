"""Answers that are bound to what they are for: the call of a tool with its exact arguments.

Here a step that asks for an approval is made to ask for a permit first. Who parks such steps, and
for what, is the concern of whoever guards them; their history tells of it, here it does not.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Forbidden, Invalid, Settled
from engine.platform import Platform
from engine.runs import answers, approvals, waits
from engine.runs.answers import Saying
from engine.runs.waits import Filter, Person
from engine.store.ids import RunId
from tests.support.permits import of, permit
from tests.support.platforms import TENANT, publish, sql, submit
from tests.support.waiting import live, waits_at, why


def answer(
    main: Platform, run: RunId, by: str = "bob", choice: str = "approve", **more: Any
) -> Any:
    return answers.answer(main, run, "w#1", by=by, choice=choice, **more)


def shown(main: Platform, run: RunId) -> waits.Open:
    (one,) = waits.page(main, TENANT, which=Filter(run=run.run, kinds=["permit"]))
    return one


def test_a_permit_is_answered_by_what_was_seen_or_not_at_all(main: Platform) -> None:
    run, seen = permit(main, {"to": "x"}), of({"to": "x"})
    with pytest.raises(Invalid) as caught:
        answer(main, run)
    assert [problem.path for problem in caught.value.problems] == ["digest"]
    with pytest.raises(Conflict, match="is not what was seen"):
        answer(main, run, digest=of({"to": "y"}))
    with pytest.raises(Forbidden, match="ada submitted"):
        answer(main, run, by="ada", digest=seen)
    assert live(main, run) == {"w#1": "waiting"}
    assert sql(main, "SELECT FROM answer") == []
    assert answer(main, run, digest=seen).verdict == "approve"
    _, settled, following = approvals.of_step(main, run, "w#1")
    assert (settled.kind, settled.status, settled.policy_id) == ("permit", "approved", "p7")
    assert (settled.digest, settled.answers[0].digest) == (seen, seen)
    # What it is for begins only now: the step asks what it is there to ask.
    assert (following.kind, following.status) == ("approval", "pending")
    assert sql(main, "SELECT FROM attempt") == sql(main, "SELECT FROM result") == []


def test_a_permit_that_is_denied_fails_the_step_and_says_who_was_against_it(main: Platform) -> None:
    run = permit(main, {}, reason=True)
    with pytest.raises(Invalid, match="reason: is missing"):
        answer(main, run, choice="deny", digest=of({}))
    answer(main, run, choice="deny", digest=of({}), reason="not today")
    assert why(main, run) == ("failed", "denied")
    (_, settled) = approvals.of_step(main, run, "w#1")
    assert (settled.status, settled.reason, settled.settled_by) == (
        "denied",
        "not today",
        "user:bob",
    )
    with pytest.raises(Settled, match="bob answered deny"):
        answer(main, run, by="cid", digest=of({}))


def test_a_digest_is_of_no_use_where_there_is_none(main: Platform) -> None:
    run = submit(main, publish(main, waits_at("approval")))
    with pytest.raises(Invalid) as caught:
        answer(main, run, digest=of({}))
    assert [problem.path for problem in caught.value.problems] == ["digest"]


def test_where_it_says_so_whoever_submitted_may_answer(main: Platform) -> None:
    run = permit(main, {}, four_eyes=False)
    assert answer(main, run, by="ada", digest=of({})).settled


def test_arguments_are_told_apart_from_those_that_were_approved_last(main: Platform) -> None:
    before: Json = {"to": "x", "lines": [1, 2], "sum": 1}
    first = permit(main, before)
    assert shown(main, first).differs is None
    denied = permit(main, {"to": "never"})
    answer(main, denied, choice="deny", digest=of({"to": "never"}))
    answer(main, first, digest=of(before))
    same, other = permit(main, before), permit(main, {"to": "y", "lines": [1], "sum": True, "n": 0})
    assert shown(main, same).differs == ()
    assert shown(main, other).differs == ("lines[1]", "sum", "to", "n")
    assert [one.tool for one in waits.page(main, TENANT, which=Filter(tool="mail"))] == ["mail"] * 2
    assert waits.page(main, TENANT, which=Filter(tool="sms")) == ()


def test_many_permits_are_answered_each_by_its_own_digest(main: Platform) -> None:
    runs = [permit(main, {"n": n}) for n in range(3)]
    named = {one.run_id: one.request_id or "" for one in waits.page(main, TENANT)}
    first, second, third = (named[run.run] for run in runs)
    came = answers.answer_many(
        main,
        TENANT,
        Person(user="bob"),
        Saying(choice="approve"),
        which=Filter(view="mine"),
        digests={first: of({"n": 0}), second: of({"n": 0})},
    )
    assert [(one.request_id, one.outcome) for one in came] == [
        *((first, "done"), (second, "refused"), (third, "refused"))
    ]
    assert [one.why.partition(":")[0] for one in came] == [
        *("", "what is asked is not what was seen", "digest")
    ]
