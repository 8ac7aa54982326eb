"""Steps that wait for people and for the clock, and whoever comes at the same moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import Conflict, Forbidden, Invalid, NotFound
from engine.runs import answers, control, sweep, turns, views, waits
from engine.runs.answers import Answered
from engine.store import session
from engine.store import waits as rows
from engine.store.ids import StepId
from tests.support.fleet import wait_until
from tests.support.hands import beside
from tests.support.platforms import as_owner, publish, sql, status, submit, wake
from tests.support.waiting import blocked, found, kinds, live, of_kind, race, swept, waits_at, why

pytestmark = pytest.mark.usefixtures("sound")

EXPIRED = "is settled: its time is over"


def asked(main, **fields):
    """A run that waits at an approval."""
    return submit(main, publish(main, waits_at("approval", **fields)))


def answer(main, run, by="ada", choice="approve", **more):
    return answers.answer(main, run, "w#1", by=by, choice=choice, **more)


# --- who may answer, and what ------------------------------------------------------------------


def test_who_is_not_asked_may_not_answer(main):
    run = asked(main, **{"from": ["role:approver", "user:bob"]})
    with pytest.raises(Forbidden) as caught:
        answer(main, run, by="eve", roles=["editor"])
    assert str(caught.value) == "eve is not asked: role:approver, user:bob may answer"
    assert answer(main, run, by="cid", roles=["editor", "approver"]).settled
    assert status(main, run) == "completed"


def test_a_step_that_is_not_there_cannot_be_answered(main):
    run = asked(main)
    with pytest.raises(NotFound):
        answers.answer(main, run, "w#2", by="ada", choice="approve")
    with pytest.raises(NotFound):
        answers.answer(
            main, run._replace(run="00000000-0000-7000-8000-000000000000"), "w#1", by="a"
        )
    assert live(main, run) == {"w#1": "waiting"}


def test_a_step_that_asks_nobody_cannot_be_answered(main):
    run = submit(main, publish(main, waits_at("timer", **{"for": "1h"})))
    with pytest.raises(NotFound, match="asks"):
        answer(main, run)
    wake(main.settings)
    swept(main, lambda: status(main, run) == "completed")
    with pytest.raises(NotFound, match="asks"):
        answer(main, run)


@pytest.mark.parametrize("choice", [None, "maybe", ""])
def test_a_choice_that_there_is_not_is_refused_with_those_there_are(main, choice):
    run = asked(main)
    with pytest.raises(Invalid) as caught:
        answer(main, run, choice=choice)
    (problem,) = caught.value.problems
    assert (problem.path, problem.remedy) == ("choice", "choose one of approve, reject")


def test_an_answer_that_does_not_fit_its_form_changes_nothing(main):
    form = {"why": {"type": "string", "minLength": 3}, "stars": {"type": "integer", "default": 1}}
    run = asked(main, form=form)
    for given, path in [
        ({}, "form"),
        ({"why": "ok"}, "form.why"),
        ({"why": "good", "stars": "many"}, "form.stars"),
        ({"why": "good", "what": 1}, "form"),
    ]:
        with pytest.raises(Invalid) as caught:
            answer(main, run, form=given)
        assert [problem.path for problem in caught.value.problems] == [path], given
    assert answer(main, run, form={"why": "good"}).settled
    assert found(main, run) == {
        "choice": "approve",
        "by": ["ada"],
        "form": {"why": "good", "stars": 1},
    }


def test_a_form_without_choices_takes_none(main):
    run = submit(main, publish(main, waits_at("input", form={"answer": {"type": "string"}})))
    with pytest.raises(Invalid) as caught:
        answer(main, run, form={"answer": "yes"})
    assert caught.value.problems[0].path == "choice"
    assert answer(main, run, choice=None, form={"answer": "yes"}).settled
    assert found(main, run) == {"answer": "yes"}


# --- how many must ------------------------------------------------------------------------------


def test_the_same_person_counts_once(main):
    run = asked(main, quorum=2)
    assert answer(main, run) == Answered(settled=False, said=1, quorum=2)
    for choice in ("approve", "reject"):
        with pytest.raises(Conflict, match="ada has answered w#1 before"):
            answer(main, run, choice=choice)
    assert live(main, run) == {"w#1": "waiting"}
    assert answer(main, run, by="bob") == Answered(
        settled=True, said=2, quorum=2, verdict="approve"
    )
    assert found(main, run)["by"] == ["ada", "bob"]


def test_those_who_say_something_else_do_not_count(main):
    run = asked(main, quorum=2)
    assert not answer(main, run).settled
    assert answer(main, run, by="bob", choice="reject") == Answered(settled=False, said=1, quorum=2)
    assert answer(main, run, by="cid", choice="reject").settled
    assert found(main, run)["choice"] == "reject"


def test_of_those_who_answer_at_once_exactly_as_many_count_as_are_needed(main):
    run = asked(main, quorum=2)
    came = race(*(lambda name=name: answer(main, run, by=name) for name in "abcd"))
    settled = [one for one in of_kind(came, Answered) if one.settled]
    assert len(settled) == 1
    assert len(of_kind(came, Answered)) == 2
    assert len(of_kind(came, Conflict)) == 2
    assert len(found(main, run)["by"]) == 2
    assert status(main, run) == "completed"


def test_one_person_who_answers_twice_at_once_has_answered_once(main):
    run = asked(main, quorum=2)
    came = race(lambda: answer(main, run), lambda: answer(main, run, choice="reject"))
    assert len(of_kind(came, Answered)) == len(of_kind(came, Conflict)) == 1
    assert live(main, run) == {"w#1": "waiting"}


# --- whoever comes too late ---------------------------------------------------------------------


def test_an_answer_after_the_answer_is_told_what_it_was(main):
    run = asked(main)
    answer(main, run, choice="reject")
    with pytest.raises(Conflict, match="is settled: ada answered reject \\(2"):
        answer(main, run, by="bob")


def test_an_answer_after_the_time_is_over_loses_although_nobody_has_looked_yet(main):
    run = asked(main, expires="1h")
    wake(main.settings)
    with pytest.raises(Conflict, match=EXPIRED):
        answer(main, run)
    sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")


def test_an_answer_after_the_expiry_is_told_so_whoever_spoke_before(main):
    run = asked(main, expires="1h", quorum=2)
    answer(main, run)
    wake(main.settings)
    sweep.sweep(main)
    with pytest.raises(Conflict, match=EXPIRED):
        answer(main, run, by="bob")
    assert "WaitEnded" not in kinds(main, run)


def test_an_answer_that_had_to_stand_in_line_until_the_time_was_over_loses(main):
    run = asked(main, expires="1h")
    came = []
    with session.transaction(main.database) as holder:
        rows.lock(holder, StepId(*run, "w#1"))

        def late():
            try:
                came.append(answer(main, run))
            except Conflict as conflict:
                came.append(str(conflict))

        with beside(late):
            wait_until(lambda: blocked(main))
            session.run(holder, _OVER, run.tenant, run.run)
            holder.exec_driver_sql("COMMIT")
    assert came[0].endswith(EXPIRED)
    sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")


_OVER = session.Statement(
    name="test_over",
    types="text, text",
    sql="UPDATE step SET wake_at = clock_timestamp() WHERE tenant_id = $1 AND run_id = $2::uuid",
)


def test_the_clock_passes_over_what_somebody_is_just_answering(main):
    run = asked(main, expires="1h")
    wake(main.settings)
    with session.transaction(main.database) as holder:
        rows.lock(holder, StepId(*run, "w#1"))
        assert sweep.sweep(main).woken == 0
    assert sweep.sweep(main).woken == 1
    assert why(main, run) == ("failed", "expired")


def test_at_the_moment_of_expiry_exactly_one_wins(main):
    version = publish(
        main,
        {
            **waits_at("approval", expires="1h"),
            "edges": ["w -> end", {"from": "w", "to": "end", "on": "error", "reason": ["expired"]}],
        },
    )
    runs = [submit(main, version) for _ in range(12)]
    for place, run in enumerate(runs):
        as_owner(
            main.settings,
            "UPDATE step SET wake_at = clock_timestamp() + make_interval(secs => :seconds)"
            " WHERE run_id = CAST(:run AS uuid)",
            seconds=0.1 + 0.02 * place,
            run=run.run,
        )

    def people():
        came = {}
        for run in reversed(runs):
            try:
                came[run] = answer(main, run).settled
            except Conflict as conflict:
                came[run] = not str(conflict).endswith(EXPIRED)
        return came

    def clock():
        for _ in range(20):
            sweep.sweep(main)

    answered, _ = race(people, clock)
    swept(main, lambda: all(views.status(main, run).terminal for run in runs))
    for run in runs:
        told = kinds(main, run)
        assert ("WaitEnded" in told) == answered[run]
        assert ("Woke" in told) != answered[run]
        (verdict,) = views.attempts(main, run)
        assert (verdict.outcome == "succeeded") == answered[run]


def test_an_approval_of_a_cancelled_run_is_answered_no_more(main):
    run = asked(main)
    control.cancel(main, run, by="bob")
    with pytest.raises(Conflict, match="the run is cancelled"):
        answer(main, run)
    assert not waits.page(main, run.tenant)


def test_an_answer_and_a_cancel_at_once_leave_one_verdict(main):
    run = asked(main)
    came = race(lambda: answer(main, run), lambda: control.cancel(main, run, by="bob"))
    if of_kind(came[:1], Answered):
        # The cancel came after, or before the answer was folded: the answer stands in history.
        assert "WaitEnded" in kinds(main, run)
    else:
        assert status(main, run) == "cancelled"
    assert status(main, run) in {"cancelled", "completed"}


# --- what is shown meanwhile ---------------------------------------------------------------------


def test_the_inbox_tells_who_is_asked_what_and_until_when(main):
    run = asked(
        main,
        title="Ship it?",
        show={"draft": "$found"},
        choices=["yes", "no"],
        quorum=2,
        expires="1h",
        form={"why": {"type": "string"}},
        **{"from": ["role:approver"]},
    )
    (one,) = waits.page(main, run.tenant)
    assert (one.run_id, one.step, one.workflow, one.kind) == (
        run.run,
        "w#1",
        "a-approval",
        "approval",
    )
    assert (one.title, one.show, one.choices, one.quorum) == (
        "Ship it?",
        {"draft": None},
        ("yes", "no"),
        2,
    )
    assert one.who == ("role:approver",)
    assert one.form["required"] == ["why"]
    assert timedelta(minutes=59) < one.expires_at - one.opened_at < timedelta(minutes=61)


def test_those_who_have_waited_for_longest_stand_first_and_pages_do_not_shift(main):
    version = publish(main, waits_at("approval"))
    runs = [submit(main, version) for _ in range(5)]
    first = waits.page(main, runs[0].tenant, limit=2)
    answer(main, runs[0])
    last = first[-1]
    rest = waits.page(main, runs[0].tenant, after=(last.opened_at, last.run_id, last.step))
    assert [one.run_id for one in (*first, *rest)] == [run.run for run in runs]
    assert [one.run_id for one in waits.page(main, runs[0].tenant, run=runs[3].run)] == [
        runs[3].run
    ]
    assert not waits.page(main, runs[0].tenant, kinds=["event"])
    assert not waits.page(main, "other")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("approval", {}),
        ("event", {"name": "paid"}),
        ("timer", {"for": "1h"}),
        ("map", {"over": [1], "do": {"kind": "workflow", "workflow": "a-timer"}}),
        ("workflow", {"workflow": "a-timer"}),
    ],
)
def test_a_run_that_waits_holds_no_worker_and_no_message(main, kind, fields):
    publish(main, waits_at("timer", **{"for": "1h"}))
    run = submit(main, publish(main, waits_at(kind, **fields)))
    sweep.sweep(main)
    assert main.broker.hints == []
    held = sql(
        main,
        "SELECT status, worker, lease_until FROM step WHERE run_id = CAST(:run AS uuid)",
        run=run.run,
    )
    assert {tuple(row) for row in held} == {("waiting", None, None)}
    detail = views.run(main, run)
    (step,) = (step for step in detail.steps if step.key == "w#1")
    assert step.wait == kind
    assert (step.child is not None) == (kind == "workflow")


# --- pause, skip ----------------------------------------------------------------------------------


def test_an_answer_counts_while_the_run_is_paused_and_what_follows_waits(main):
    document = waits_at("approval")
    document["nodes"]["then"] = {"kind": "timer", "for": 0}
    document["edges"] = ["w -> then -> end"]
    run = submit(main, publish(main, document))
    control.pause(main, run, by="bob")
    assert answer(main, run).settled
    assert live(main, run) == {}
    assert status(main, run) == "paused"
    control.resume(main, run, by="bob")
    swept(main, lambda: status(main, run) == "completed")


def test_the_time_of_a_wait_runs_on_while_the_run_is_paused(main):
    run = asked(main, expires="1h")
    control.pause(main, run, by="bob")
    wake(main.settings)
    sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")


def test_a_waiting_step_that_is_skipped_counts_with_the_choice_given(main):
    document = waits_at("approval")
    document["edges"] = [
        {"from": "w", "to": "yes", "label": "approve"},
        {"from": "w", "to": "no", "label": "reject"},
        "yes -> end",
        "no -> end",
    ]
    document["nodes"] |= {name: {"kind": "timer", "for": "1h"} for name in ("yes", "no")}
    run = submit(main, publish(main, document))
    control.skip(main, run, "w#1", by="bob", choice="reject")
    assert live(main, run) == {"no#1": "waiting"}
    with pytest.raises(Conflict, match="bob skipped it"):
        answer(main, run)
    control.skip(main, run, "no#1", by="bob")
    assert status(main, run) == "completed"


# --- timers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "why_not"),
    [("soon", "seconds"), (-1, "seconds"), (True, "seconds"), (1e12, "seconds"), (None, "seconds")],
)
def test_a_timer_of_a_nonsensical_length_fails_and_says_what_it_got(main, given, why_not):
    document = {**waits_at("timer", **{"for": "$found"}), "variables": {"found": {}}}
    document["inputs"] = {"given": {}}
    document["nodes"]["w"]["for"] = "$given"
    run = submit(main, publish(main, document), given=given)
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "input_failed")
    assert why_not in detail.message


def test_a_timer_until_nonsense_takes_the_way_for_failures(main):
    document = waits_at("timer", until="$found")
    document["nodes"]["other"] = {"kind": "timer", "for": "1h"}
    document["edges"] = ["w -> end", {"from": "w", "to": "other", "on": "error"}, "other -> end"]
    run = submit(main, publish(main, document))
    assert live(main, run) == {"other#1": "waiting"}
    control.skip(main, run, "other#1", by="bob")


@pytest.mark.parametrize(
    "given", ["9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00"]
)
def test_a_timer_until_the_end_of_the_calendar_fails_its_run(main, given):
    document = waits_at("timer", until="$given")
    document["inputs"] = {"given": {}}
    run = submit(main, publish(main, document), given=given)
    detail = views.run(main, run)
    assert (detail.status, detail.reason) == ("failed", "input_failed")
    assert "an instant" in detail.message


def test_an_instant_in_the_past_is_over_at_once(main):
    run = submit(main, publish(main, waits_at("timer", until="2001-01-01T00:00:00")))
    sweep.sweep(main)
    assert status(main, run) == "completed"


def test_a_timer_waits_for_as_long_as_it_says_and_no_longer(main):
    run = submit(main, publish(main, waits_at("timer", **{"for": "90s"})))
    (step,) = views.run(main, run).steps
    left = step.wake_at - datetime.now(UTC)
    assert timedelta(seconds=60) < left <= timedelta(seconds=91)
    sweep.sweep(main)
    assert live(main, run) == {"w#1": "waiting"}
    wake(main.settings)
    sweep.sweep(main)
    assert status(main, run) == "completed"


def test_a_timer_until_an_instant_of_the_variables_is_that(main):
    document = waits_at("timer", until="$due")
    document["inputs"] = {"due": {"type": "string"}}
    run = submit(main, publish(main, document), due="2099-12-31T12:00:00+02:00")
    (step,) = views.run(main, run).steps
    assert step.wake_at == datetime(2099, 12, 31, 10, tzinfo=UTC)
    control.cancel(main, run, by="ada")


def test_many_timers_of_one_run_are_all_over_in_their_time(main):
    names = [f"t{place}" for place in range(5)]
    document = {
        "workflow": "fan",
        "nodes": {
            "s": {"kind": "timer", "for": 0},
            **{name: {"kind": "timer", "for": 0} for name in names},
        },
        "edges": [{"from": "s", "to": names, "type": "parallel"}, *(f"{n} -> end" for n in names)],
    }
    run = submit(main, publish(main, document))
    swept(main, lambda: status(main, run) == "completed")
    assert turns.take_turns(main, [run]) == 0
