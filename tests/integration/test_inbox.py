"""Who is asked, who may say what for whom, and what comes of it when many say it at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.core.values import Json
from engine.errors import Conflict, Forbidden, Invalid, NotFound, Settled
from engine.platform import Platform
from engine.runs import answers, approvals, control, delegations, sweep, upkeep, views, waits
from engine.runs.answers import Answered, KeyUsed, Saying
from engine.runs.waits import Filter, Person
from engine.store import principals, session
from engine.store import waits as rows
from engine.store.ids import RunId, StepId
from tests.support.fleet import wait_until
from tests.support.hands import beside
from tests.support.platforms import TENANT, as_owner, publish, sql, status, submit, wake
from tests.support.waiting import blocked, found, kinds, live, of_kind, race, waits_at, why

pytestmark = pytest.mark.usefixtures("sound", "people")

IN_AN_HOUR = timedelta(hours=1)


@pytest.fixture
def people(main: Platform) -> None:
    """Users who can hand their say to each other."""
    with session.transaction(main.database) as connection:
        for name in ("ada", "bob", "cid", "dan", "eve", "fay", "zoe"):
            principals.add(connection, TENANT, name, roles=["approver", "boss"], by="me")


def hold(main: Platform, user: str, *roles: str, active: bool = True) -> None:
    """Let a user hold these roles alone."""
    with session.transaction(main.database) as connection:
        principals.change(connection, TENANT, user, roles=roles, permissions=(), active=active)


def asked(main: Platform, **fields: Json) -> RunId:
    """A run that ada has submitted, and that waits at an approval."""
    return submit(main, publish(main, waits_at("approval", **fields)))


def answer(main: Platform, run: RunId, by: str, choice: str = "approve", **more: Any) -> Answered:
    return answers.answer(main, run, "w#1", by=by, choice=choice, **more)


def hand(main: Platform, giver: str, taker: str, *roles: str, **bounds: Any) -> Any:
    given = bounds or {"until": datetime.now(UTC) + IN_AN_HOUR}
    person = Person(user=giver, roles=roles)
    return delegations.give(main, TENANT, person, taker, reason="away", **given)


def at(run: RunId) -> dict[str, str]:
    return {"run": run.run, "step": "w#1"}


def seen(main: Platform, view: str | None, user: str, *roles: str, **which: Any) -> list[str]:
    """The runs that a view shows somebody, in order."""
    shown = waits.page(
        main, TENANT, which=Filter(view=view, **which), person=Person(user=user, roles=roles)
    )
    return [one.run_id for one in shown]


def counted(main: Platform, user: str, *roles: str) -> tuple[int, int, int, int]:
    told = waits.counts(main, TENANT, person=Person(user=user, roles=roles))
    return told["mine"], told["team"], told["overdue"], told["all"]


def acts(main: Platform) -> list[tuple[str, str]]:
    """What people and the clock did to says and waits."""
    statement = "SELECT by, action FROM admin_act WHERE action ~ '^(delegation|wait)' ORDER BY id"
    found = sql(main, statement)
    return [(row.by, row.action) for row in found]


# --- how many, and how many of each ----------------------------------------------------------------


def test_each_choice_has_a_number_of_its_own(main: Platform) -> None:
    run = asked(main, quorum={"approve": 2, "deny": 1})
    assert answer(main, run, "bob") == Answered(settled=False, said=1, quorum=2)
    assert answer(main, run, "cid", "reject") == Answered(
        settled=True, said=1, quorum=1, verdict="reject"
    )
    assert found(main, run) == {"choice": "reject", "by": ["cid"], "form": {}}


def test_where_all_who_are_named_have_spoken_in_vain_it_is_denied(main: Platform) -> None:
    people: list[Json] = ["user:bob", "user:cid"]
    run = asked(main, quorum=2, **{"from": people})
    answer(main, run, "bob")
    assert answer(main, run, "cid", "reject").verdict == "reject"
    assert found(main, run)["by"] == ["cid"]
    with pytest.raises(Settled, match="no choice can come to its number any more, so it counts as"):
        answer(main, run, "bob")


def test_without_a_choice_that_denies_it_has_expired(main: Platform) -> None:
    people: list[Json] = ["user:bob", "user:cid"]
    run = asked(main, choices=["x", "y"], quorum=2, **{"from": people})
    answer(main, run, "bob", "x")
    came = answer(main, run, "cid", "y")
    assert (came.settled, came.verdict) == (True, None)
    assert why(main, run) == ("failed", "expired")
    (shown,) = approvals.of_step(main, run, "w#1")
    assert (shown.status, shown.settled_by) == ("expired", "user:cid")


def test_while_somebody_may_still_be_asked_it_stays_open(main: Platform) -> None:
    for more in (
        {"from": ["user:bob", "role:boss"]},
        {"escalate": {"after": "1h", "to": "user:z"}},
    ):
        run = asked(main, quorum=2, **{"from": ["user:bob", "user:cid"], **more})
        said = [("bob", "approve"), ("cid", "reject")]
        came = [answer(main, run, by, choice, roles=["boss"]) for by, choice in said]
        assert not any(one.settled for one in came)
        control.cancel(main, run, by="ada")


# --- who may not, and what must be said --------------------------------------------------------------


def test_whoever_submitted_the_run_may_not_answer_where_two_must_look(main: Platform) -> None:
    run = asked(main, four_eyes=True)
    with pytest.raises(Forbidden, match="ada submitted run"):
        answer(main, run, "ada")
    hand(main, "ada", "bob")
    with pytest.raises(Forbidden, match="has handed bob no say"):
        answer(main, run, "bob", behalf="ada")
    with pytest.raises(Forbidden, match="ada submitted"):
        hand(main, "cid", "ada", **at(run))
    assert seen(main, "mine", "ada") == []
    assert answer(main, run, "bob").settled
    assert found(main, run)["by"] == ["bob"]


def test_a_denial_says_why_where_it_must(main: Platform) -> None:
    run = asked(main, reason="required")
    for reason in ("", "  ", "x" * 2001):
        with pytest.raises(Invalid) as caught:
            answer(main, run, "bob", "reject", reason=reason)
        assert [problem.path for problem in caught.value.problems] == ["reason"]
    assert live(main, run) == {"w#1": "waiting"}
    answer(main, run, "bob", "reject", reason="too dear")
    assert found(main, run)["reason"] == "too dear"
    (shown,) = approvals.of_step(main, run, "w#1")
    assert (shown.status, shown.reason, shown.answers[0].reason) == ("denied", *["too dear"] * 2)


def test_an_approval_needs_no_reason_where_a_denial_does(main: Platform) -> None:
    assert answer(main, asked(main, reason="required"), "bob").settled


# --- saying it for somebody else -----------------------------------------------------------------------


def test_a_say_cannot_be_handed_over_that_nobody_has(main: Platform) -> None:
    run = asked(main, **{"from": ["role:boss"]})
    with pytest.raises(Forbidden, match="cid is not asked"):
        hand(main, "cid", "dan", **at(run))
    with pytest.raises(NotFound):
        hand(main, "cid", "dan", run=run.run, step="w#2")
    with pytest.raises(NotFound):
        hand(main, "cid", "dan", run="nonsense", step="w#1")
    past = datetime.now(UTC) - IN_AN_HOUR
    for taker, bounds, path in [
        ("cid", at(run), "to"),
        ("", at(run), "to"),
        ("x" * 201, at(run), "to"),
        ("dan", {"run": run.run}, "step"),
        ("dan", {**at(run), "until": past}, "until"),
        ("dan", {"until": past}, "until"),
        ("dan", {"until": past + timedelta(days=400)}, "until"),
    ]:
        with pytest.raises(Invalid) as caught:
            hand(main, "cid", taker, "boss", **bounds)
        assert [problem.path for problem in caught.value.problems] == [path], (taker, bounds)
    with pytest.raises(Invalid):
        delegations.give(main, TENANT, Person(user="cid"), "dan", reason=" ", until=past)
    assert acts(main) == []
    assert delegations.page(main, TENANT, user=None) == ()


def test_a_say_is_handed_to_active_users_alone(main: Platform) -> None:
    hold(main, "dan", "approver", active=False)
    for taker in ("dan", "nobody"):
        with pytest.raises(Invalid) as caught:
            hand(main, "cid", taker)
        assert [problem.path for problem in caught.value.problems] == ["to"]
    assert delegations.page(main, TENANT, user=None) == ()


@pytest.mark.parametrize(
    ("roles", "active"),
    [(("approver",), True), (("boss",), True), (("boss", "approver"), False)],
    ids=["lost the role", "may answer no more", "is active no more"],
)
def test_nobody_says_for_another_what_that_one_could_say_no_more(
    main: Platform, roles: tuple[str, ...], active: bool
) -> None:
    run = asked(main, **{"from": ["role:boss"]})
    hand(main, "cid", "dan", "boss")
    hand(main, "dan", "eve", **at(run))
    assert seen(main, "mine", "dan") == seen(main, "mine", "eve") == [run.run]
    hold(main, "cid", *roles, active=active)
    assert seen(main, "mine", "dan") == seen(main, "mine", "eve") == []
    assert counted(main, "dan")[0] == 0
    for by in ("dan", "eve"):
        with pytest.raises(Forbidden):
            answer(main, run, by, behalf="cid")
    with pytest.raises(Forbidden, match="dan is not asked"):
        hand(main, "dan", "fay", **at(run))
    hold(main, "cid", "approver", "boss")
    assert answer(main, run, "eve", behalf="cid").settled


def test_what_came_through_hands_that_are_tied_goes_no_further(main: Platform) -> None:
    run = asked(main, **{"from": ["user:cid"]})
    hand(main, "cid", "dan")
    hand(main, "dan", "eve")
    hold(main, "dan", "approver", active=False)
    with pytest.raises(Forbidden, match="has handed eve no say"):
        answer(main, run, "eve", behalf="cid")
    hold(main, "dan", "approver")
    assert answer(main, run, "eve").settled


def test_a_delegate_speaks_for_whoever_is_asked_and_says_so(main: Platform) -> None:
    run = asked(main, **{"from": ["role:boss"]})
    hand(main, "cid", "dan", "boss", **at(run))
    assert seen(main, "mine", "dan") == [run.run]
    assert answer(main, run, "dan").settled
    assert found(main, run) == {
        "choice": "approve",
        "by": ["dan"],
        "form": {},
        "behalf": {"dan": "cid"},
    }
    (shown,) = approvals.of_step(main, run, "w#1")
    assert [(one.by, one.behalf) for one in shown.answers] == [("dan", "cid")]
    (given,) = delegations.page(main, TENANT, user="dan")
    assert given.status == "used"
    assert acts(main) == [("cid", "delegation.create")]


def test_a_say_counts_once_whoever_uses_it_and_everybody_speaks_once(main: Platform) -> None:
    run = asked(main, quorum=3, **{"from": ["role:boss"]})
    hand(main, "cid", "dan", "boss")
    hand(main, "eve", "dan", "boss")
    assert not answer(main, run, "dan", behalf="eve").settled
    with pytest.raises(Conflict, match="dan has answered w#1 for eve before"):
        answer(main, run, "eve", roles=["boss"])
    with pytest.raises(Conflict, match="dan has answered w#1 before for eve"):
        answer(main, run, "dan", behalf="cid")
    with pytest.raises(Conflict, match="dan has answered"):
        answer(main, run, "dan", roles=["boss"])
    assert not answer(main, run, "cid", roles=["boss"]).settled
    assert seen(main, "mine", "dan") == seen(main, "mine", "eve", "boss") == []
    assert answer(main, run, "fay", roles=["boss"]).settled
    assert found(main, run)["by"] == ["dan", "cid", "fay"]


def test_what_was_taken_back_counts_no_more_and_what_was_used_stands(main: Platform) -> None:
    run = asked(main, quorum=2, **{"from": ["user:cid", "user:eve"]})
    given = hand(main, "cid", "dan", **at(run))
    with pytest.raises(NotFound):
        delegations.revoke(main, TENANT, given.id, by="mallory")
    with pytest.raises(Forbidden):
        delegations.revoke(main, TENANT, given.id, by="dan")
    with pytest.raises(NotFound):
        delegations.revoke(main, "other", given.id, by="cid")
    assert delegations.revoke(main, TENANT, given.id, by="cid").status == "revoked"
    with pytest.raises(Conflict, match="taken back before"):
        delegations.revoke(main, TENANT, given.id, by="cid")
    with pytest.raises(Forbidden, match="dan is not asked"):
        answer(main, run, "dan")
    again = hand(main, "cid", "dan", **at(run))
    answer(main, run, "dan")
    with pytest.raises(Conflict, match="it was used"):
        delegations.revoke(main, TENANT, again.id, by="cid")
    with pytest.raises(Conflict, match="dan has used it"):
        hand(main, "cid", "fay", **at(run))
    assert [act for _, act in acts(main)] == [
        *("delegation.create", "delegation.revoke", "delegation.create", "wait.answer")
    ]


def test_a_say_that_is_handed_on_never_goes_in_a_circle(main: Platform) -> None:
    run = asked(main, **{"from": ["user:cid"]})
    hand(main, "cid", "dan")
    hand(main, "dan", "eve")
    with pytest.raises(Conflict, match="in a circle"):
        hand(main, "eve", "cid")
    with pytest.raises(Conflict, match="in a circle"):
        hand(main, "dan", "cid")
    assert seen(main, "mine", "eve") == [run.run]
    assert answer(main, run, "eve").settled
    assert found(main, run)["behalf"] == {"eve": "cid"}


def test_of_two_who_would_close_a_circle_at_once_one_does(main: Platform) -> None:
    came = race(lambda: hand(main, "cid", "dan"), lambda: hand(main, "dan", "cid"))
    assert len(of_kind(came, Conflict)) == 1


def test_what_is_for_one_question_or_for_a_time_is_for_no_other(
    main: Platform, settings: Any
) -> None:
    first, second = (asked(main, **{"from": ["user:cid"]}) for _ in range(2))
    hand(main, "cid", "dan", **at(first))
    with pytest.raises(Forbidden):
        answer(main, second, "dan")
    assert seen(main, "mine", "dan") == [first.run]
    hand(main, "cid", "eve")
    assert seen(main, "mine", "eve") == [first.run, second.run]
    as_owner(settings, "UPDATE delegation SET until = clock_timestamp() WHERE until IS NOT NULL")
    assert seen(main, "mine", "eve") == []
    with pytest.raises(Forbidden):
        answer(main, second, "eve")
    assert [one.status for one in delegations.page(main, TENANT, user="eve")] == ["over"]


def test_person_and_delegate_at_once_have_one_say(main: Platform) -> None:
    run = asked(main, quorum=2, **{"from": ["role:boss"]})
    hand(main, "cid", "dan", "boss")
    came = race(lambda: answer(main, run, "cid", roles=["boss"]), lambda: answer(main, run, "dan"))
    assert len(of_kind(came, Answered)) == len(of_kind(came, Conflict)) == 1
    assert live(main, run) == {"w#1": "waiting"}


def test_a_say_that_is_taken_back_while_it_is_used_is_one_or_the_other(main: Platform) -> None:
    run = asked(main, **{"from": ["user:cid"]})
    given = hand(main, "cid", "dan", **at(run))
    said, back = race(
        lambda: answer(main, run, "dan"),
        lambda: delegations.revoke(main, TENANT, given.id, by="cid"),
    )
    assert isinstance(said, Answered) == isinstance(back, Conflict)


# --- the inbox ------------------------------------------------------------------------------------------


def test_everybody_sees_what_is_theirs(main: Platform, settings: Any) -> None:
    by_name = asked(main, **{"from": ["user:bob"]}).run
    by_role = asked(main, quorum=2, **{"from": ["role:boss", "user:cid"]})
    anybody = asked(main).run
    assert seen(main, "mine", "bob") == [by_name, anybody]
    assert seen(main, "mine", "eve", "boss", "clerk") == [by_role.run, anybody]
    assert seen(main, "team", "eve", "boss") == [by_role.run]
    assert seen(main, "team", "cid") == seen(main, "overdue", "cid") == []
    assert seen(main, None, "eve") == [by_name, by_role.run, anybody]
    assert counted(main, "eve", "boss") == (2, 1, 0, 3)
    answer(main, by_role, "eve", roles=["boss"])
    assert seen(main, "mine", "eve", "boss") == [anybody]
    assert seen(main, "team", "eve", "boss") == [by_role.run]
    assert waits.page(main, "other", which=Filter(view="mine"), person=Person(user="bob")) == ()
    assert counted(main, "eve", "boss") == (1, 1, 0, 3)


def test_an_inbox_is_narrowed_by_what_is_known_of_its_waits(main: Platform) -> None:
    run = asked(main)
    other = submit(main, publish(main, waits_at("input", form={"a": {}})))
    submit(main, publish(main, waits_at("event", name="paid")))
    assert seen(main, "mine", "bob") == [run.run, other.run]
    assert seen(main, "mine", "bob", kinds=["input"]) == [other.run]
    assert seen(main, None, "bob", workflow="a-approval") == [run.run]
    assert seen(main, None, "bob", run=other.run) == [other.run]
    assert seen(main, None, "bob", tool="mail") == []


# --- who is asked when nobody answers -------------------------------------------------------------------


def test_what_nobody_settles_in_time_is_put_to_others_too_once(
    main: Platform, settings: Any
) -> None:
    late = {"after": "1h", "to": ["role:admin"]}
    run = asked(main, escalate=late, **{"from": ["user:bob"]})
    with pytest.raises(Forbidden):
        answer(main, run, "eve", roles=["admin"])
    sweep.sweep(main)
    assert seen(main, "overdue", "eve") == []
    _make_late(settings)
    assert seen(main, "overdue", "eve") == [run.run]
    for _ in range(2):
        sweep.sweep(main)
    (one,) = waits.page(
        main, TENANT, which=Filter(view="mine"), person=Person(user="e", roles=["admin"])
    )
    assert (one.who, one.overdue, one.escalates_at) == (("user:bob", "role:admin"), True, None)
    assert acts(main) == [("clock", "wait.escalate")]
    assert answer(main, run, "eve", roles=["admin"]).settled
    (shown,) = approvals.of_step(main, run, "w#1")
    assert shown.escalated_at == one.escalated_at


def test_what_is_being_answered_is_not_put_to_others(main: Platform, settings: Any) -> None:
    run = asked(main, escalate={"after": "1h", "to": ["role:admin"]}, **{"from": ["user:bob"]})
    _make_late(settings)
    with session.transaction(main.database) as holder:
        rows.lock(holder, StepId(*run, "w#1"))
        sweep.sweep(main)
        assert acts(main) == []
    came = race(lambda: answer(main, run, "bob"), *[lambda: sweep.sweep(main)] * 2)
    assert len(of_kind(came, Answered)) == 1
    assert len(acts(main)) <= 1


def test_what_has_expired_is_put_to_nobody(main: Platform, settings: Any) -> None:
    run = asked(main, expires="2h", escalate={"after": "1h", "to": ["role:admin"]})
    _make_late(settings)
    wake(settings)
    sweep.sweep(main)
    assert acts(main) == []
    assert why(main, run) == ("failed", "expired")


def _make_late(settings: Any) -> None:
    as_owner(
        settings, "UPDATE wait SET escalates_at = clock_timestamp() WHERE escalates_at IS NOT NULL"
    )


# --- races ----------------------------------------------------------------------------------------------


def test_of_many_who_decide_at_once_one_does_and_the_others_are_told_what(main: Platform) -> None:
    run = asked(main)
    choices = ["approve", "reject"] * 4
    came = race(*(lambda n=n, c=c: answer(main, run, f"u{n}", c) for n, c in enumerate(choices)))
    (won,) = of_kind(came, Answered)
    lost = of_kind(came, Settled)
    assert len(lost) == len(choices) - 1
    who = found(main, run)["by"][0]
    assert won.verdict == found(main, run)["choice"] == choices[int(who[1:])]
    for one in lost:
        assert (one.verdict["by"], one.verdict["choice"]) == (f"user:{who}", won.verdict)
        assert one.verdict["at"] is not None
        assert f"{who} answered {won.verdict}" in one.message
    assert kinds(main, run).count("WaitEnded") == 1


def test_answer_expiry_cancel_and_escalation_at_once_leave_one_verdict(
    main: Platform, settings: Any
) -> None:
    escalate: Json = {"after": "1h", "to": ["role:admin"]}
    version = publish(main, waits_at("approval", expires="2h", escalate=escalate))
    for _ in range(4):
        run = submit(main, version)
        _make_late(settings)
        as_owner(
            settings,
            "UPDATE step SET wake_at = clock_timestamp() + interval '20 ms' WHERE run_id = CAST(:run AS uuid)",
            run=run.run,
        )
        came = race(
            lambda run=run: answer(main, run, "bob"),
            lambda: sweep.sweep(main),
            lambda run=run: control.cancel(main, run, by="cid"),
            lambda: sweep.sweep(main),
        )
        wait_until(lambda run=run: sweep.sweep(main) and views.status(main, run).terminal)
        (shown,) = approvals.of_step(main, run, "w#1")
        answered = bool(of_kind(came[:1], Answered))
        assert answered == (shown.status == "approved")
        assert shown.status in {"approved", "expired", "cancelled"}
        with pytest.raises(Conflict):
            answer(main, run, "dan")


def test_an_answer_that_stands_in_line_behind_the_verdict_is_told_it(main: Platform) -> None:
    run = asked(main)
    came: list[object] = []
    with session.transaction(main.database) as holder:
        rows.lock(holder, StepId(*run, "w#1"))

        def late() -> None:
            came.append(
                race(lambda: answer(main, run, "bob"), lambda: answer(main, run, "cid", "reject"))
            )

        with beside(late):
            wait_until(lambda: blocked(main))
            holder.exec_driver_sql("COMMIT")
    (both,) = came
    assert len(of_kind(both, Answered)) == len(of_kind(both, Settled)) == 1  # type: ignore[arg-type]


# --- many at once -----------------------------------------------------------------------------------------


def test_many_are_answered_each_for_itself_and_again_the_same_under_a_key(main: Platform) -> None:
    runs = [asked(main) for _ in range(3)]
    named = asked(main, **{"from": ["user:zoe"]})
    names = [one.request_id for one in waits.page(main, TENANT) if one.request_id]
    answer(main, runs[0], "zoe", "reject")
    bob = Person(user="bob")

    def send(**more: Any) -> list[tuple[str, bool, str | None]]:
        came = answers.answer_many(
            main, TENANT, bob, Saying(choice="approve", reason="fine"), key="k", **more
        )
        return [(one.outcome, one.settled, one.verdict) for one in came]

    first = send(names=[*names, "apr_nonsense", names[0]])
    assert first == [
        *(("refused", False, "reject"), *[("done", True, "approve")] * 2),
        *(("refused", False, None), ("refused", False, None)),
    ]
    assert status(main, runs[1]) == status(main, runs[2]) == "completed"
    # Now he could: but this key has been refused once for all.
    hand(main, "zoe", "bob", **at(named))
    assert send(names=[*names, "apr_nonsense", names[0]]) == first
    assert live(main, named) == {"w#1": "waiting"}
    with pytest.raises(KeyUsed):
        send(names=names)
    as_owner(main.settings, "UPDATE batch SET at = at - interval '8 days'")
    upkeep.upkeep(main)
    assert send(names=names)[3] == ("done", True, "approve")


def test_a_filter_means_the_same_questions_again_under_a_key(main: Platform) -> None:
    runs = [asked(main) for _ in range(2)]
    send = lambda: answers.answer_many(  # noqa: E731  # twice the same
        main,
        TENANT,
        Person(user="bob"),
        Saying(choice="reject"),
        which=Filter(view="mine"),
        key="k",
    )
    first = send()
    assert [one.run_id for one in first] == [run.run for run in runs]
    asked(main)
    assert send() == first
    assert seen(main, "mine", "bob") != []


def test_one_key_twice_at_once_answers_once(main: Platform) -> None:
    runs = [asked(main, quorum=2) for _ in range(3)]
    names = [one.request_id for one in waits.page(main, TENANT) if one.request_id]
    send = lambda: answers.answer_many(  # noqa: E731  # twice the same
        main, TENANT, Person(user="bob"), Saying(choice="approve"), names=names, key="k"
    )
    first, second = race(send, send)
    assert first == second
    assert [(one.outcome, one.said) for one in first] == [("done", 1)] * 3  # type: ignore[union-attr]
    assert all(status(main, run) == "running" for run in runs)


def test_many_wants_names_or_a_filter(main: Platform) -> None:
    for more in ({}, {"names": ["a"], "which": Filter()}):
        with pytest.raises(Invalid):
            answers.answer_many(main, TENANT, Person(user="bob"), Saying(), **more)  # type: ignore[arg-type]


# --- what is left of them ----------------------------------------------------------------------------------


def test_a_request_lives_from_pending_to_its_end(main: Platform, settings: Any) -> None:
    runs = {
        name: asked(main, expires="24h", title=name)
        for name in ("pending", "approved", "denied", "expired", "cancelled")
    }
    answer(main, runs["approved"], "bob", reason="go")
    answer(main, runs["denied"], "bob", "reject", reason="no")
    control.cancel(main, runs["cancelled"], by="ada")
    as_owner(
        settings,
        "UPDATE step SET wake_at = clock_timestamp() WHERE run_id = CAST(:run AS uuid)",
        run=runs["expired"].run,
    )
    for _ in range(2):
        shown = {one.title: one for one in approvals.page(main, TENANT)}
        assert {title: one.status for title, one in shown.items()} == {name: name for name in runs}
        for name in runs:
            (only,) = approvals.page(main, TENANT, status=name)
            assert only == approvals.get(main, TENANT, only.request_id) == shown[name]
        # What is over in time is expired, whether somebody has looked or not.
        sweep.sweep(main)
    one = shown["approved"]
    assert one.request_id.startswith("apr_")
    assert (one.requested_by, one.policy_id, one.expiry_hours) == ("ada", None, 24)
    assert (one.approved_by, one.reason) == (("bob",), "go")
    assert one.approved_at == one.settled_at
    assert (shown["denied"].approved_by, shown["denied"].approved_at) == ((), None)
    assert shown["denied"].reason == "no"
    for name in (shown["pending"].request_id + "x", "apr_x", "nonsense"):
        with pytest.raises(NotFound):
            approvals.get(main, TENANT, name)
    with pytest.raises(NotFound):
        approvals.get(main, "other", shown["pending"].request_id)
    with pytest.raises(NotFound):
        approvals.of_step(main, runs["pending"], "x#1")
