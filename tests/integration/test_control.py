"""Acting on runs that are under way, on a real database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.core.transitions import RunStatus
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import DatabaseRole
from engine.runs import attempts, bulk, control, doctor, sweep, turns, views
from engine.runs.attempts import Failed
from engine.runs.bulk import Action, Filter, Outcome
from engine.store.ids import RunId, StepId
from tests.support import platforms
from tests.support.platforms import (
    LINE,
    TENANT,
    Sent,
    as_owner,
    finish,
    publish,
    register,
    sql,
    status,
    submit,
    take,
)

NOWHERE = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def main(settings):
    with platforms.platform(settings) as built:
        main = replace(built, broker=Sent(app=built.broker.app))
        register(main, "noop")
        yield main


@pytest.fixture
def worker(settings):
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


@pytest.fixture
def line(main):
    return publish(main, LINE)


def kinds(main, run):
    return [line.kind for line in views.history(main, run)]


# --- steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [control.retry, control.skip])
def test_a_step_that_is_not_live_cannot_be_acted_on(main, line, act):
    run = submit(main, line)
    before = views.status(main, run)
    with pytest.raises(NotFound, match="no live step b#1"):
        act(main, run, "b#1", by="ada")
    assert views.status(main, run) == before
    control.cancel(main, run, by="ada")
    with pytest.raises(Conflict, match="already ended"):
        act(main, run, "a#1", by="ada")
    with pytest.raises(NotFound):
        act(main, RunId("other", run.run), "a#1", by="eve")


def test_a_choice_that_no_edge_answers_to_changes_nothing(main):
    register(main, "pick")
    version = publish(
        main,
        {
            "workflow": "w",
            "nodes": {"a": {"uses": "noop", "choose": "pick"}, "b": {"uses": "noop"}},
            "edges": [
                {"from": "a", "to": "b", "label": "on"},
                {"from": "a", "to": "end", "label": "off"},
                "b -> end",
            ],
        },
    )
    run = submit(main, version)
    with pytest.raises(Invalid) as refused:
        control.skip(main, run, "a#1", by="ada", choice="sideways")
    assert [problem.path for problem in refused.value.problems] == ["choice"]
    assert status(main, run) == "running"
    assert control.skip(main, run, "a#1", by="ada", choice="off", reason="known") == "completed"
    (asked,) = [x for x in views.history(main, run) if x.kind == "SkipRequested"]
    assert asked.body == {"step": "a#1", "by": "ada", "reason": "known", "choice": "off"}


def test_an_attempt_that_hangs_is_taken_away_and_begun_anew(main, worker, line):
    run = submit(main, line)
    hanging = take(worker, run, "a#1")
    control.retry(main, run, "a#1", by="ada", reason="it hangs")
    assert attempts.beat(worker, [hanging.held]) == frozenset()
    assert not finish(main, worker, hanging, n=1)
    second = take(worker, run, "a#1", name="w2")
    assert second.attempt == 2
    assert finish(main, worker, second, n=2)
    tries = views.attempts(main, run, "a#1")
    assert [(one.outcome, one.reason) for one in tries] == [
        ("lost", "retried"),
        ("succeeded", None),
    ]
    assert tries[0].message == "ada had it begun anew: it hangs"
    assert views.run(main, run).variables == {"n": 2}
    assert main.broker.hints[-2].step == StepId(*run, "a#1")
    assert doctor.examine(main.database) == ()


def test_a_lease_that_has_not_begun_is_taken_away_without_costing_an_attempt(main, worker, line):
    run = submit(main, line)
    (lease,) = attempts.lease(worker, [StepId(*run, "a#1")], "w1")
    control.retry(main, run, "a#1", by="ada")
    assert attempts.begin(worker, [lease]) == ()
    sweep.sweep(main)
    assert main.broker.hints[-1].step == StepId(*run, "a#1")
    assert take(worker, run, "a#1", name="w2").attempt == 1
    assert doctor.examine(main.database) == ()


def test_a_step_that_waits_for_its_next_attempt_starts_at_once(main, worker):
    slow = {"uses": "noop", "retry": {"attempts": 2, "backoff": "1h"}}
    run = submit(main, publish(main, {**LINE, "nodes": {"a": slow, "b": {"uses": "noop"}}}))
    finish(main, worker, take(worker, run, "a#1"), Failed(reason="error", message="boom"))
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w1") == ()
    control.retry(main, run, "a#1", by="ada")
    assert take(worker, run, "a#1").attempt == 2
    assert kinds(main, run)[-3:] == ["RetryRequested", "RequestStart", "Admitted"]


def test_a_retry_in_a_paused_run_is_held_until_it_goes_on(main, worker, line):
    run = submit(main, line)
    hanging = take(worker, run, "a#1")
    control.pause(main, run, by="ada")
    control.retry(main, run, "a#1", by="ada")
    assert not finish(main, worker, hanging)
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w2") == ()
    control.resume(main, run, by="ada")
    assert take(worker, run, "a#1").attempt == 2
    assert doctor.examine(main.database) == ()


def test_a_step_that_is_retried_twice_at_once_loses_one_attempt(main, worker, line):
    run = submit(main, line)
    take(worker, run, "a#1")
    control.retry(main, run, "a#1", by="ada")
    control.retry(main, run, "a#1", by="eve")
    assert take(worker, run, "a#1", name="w2").attempt == 2
    assert kinds(main, run).count("RetryRequested") == 2


# --- runs -----------------------------------------------------------------------------------


def test_a_terminated_run_takes_its_steps_away_and_says_terminated(main, worker, line):
    run = submit(main, line)
    lease = take(worker, run, "a#1")
    assert control.terminate(main, run, by="ada", reason="out of hand") == "cancelled"
    assert not finish(main, worker, lease)
    ended = views.run(main, run)
    assert (ended.status, ended.reason, ended.message) == (
        RunStatus.CANCELLED,
        "terminated",
        "out of hand",
    )
    with pytest.raises(Conflict):
        control.terminate(main, run, by="ada")


def test_an_empty_filter_is_refused(main, line):
    run = submit(main, line)
    with pytest.raises(Invalid, match="names nothing"):
        bulk.act(main, TENANT, Action.CANCEL, Filter(), by="ada")
    assert status(main, run) == "running"


def test_what_is_wrong_with_one_run_holds_up_no_other(main, worker, line, settings):
    done, broken, fine, foreign = (submit(main, line) for _ in range(4))
    control.cancel(main, done, by="ada")
    as_owner(settings, "UPDATE run SET head = '[]' WHERE id = CAST(:run AS uuid)", run=broken.run)
    ids = (done.run, broken.run, fine.run, NOWHERE)
    acted = bulk.act(main, TENANT, Action.CANCEL, Filter(ids=ids), by="ada", reason="night is over")
    found = {answer.run: answer for answer in acted.answers}
    assert found[done.run].outcome is Outcome.REFUSED
    assert "already ended" in found[done.run].why
    assert found[broken.run].outcome is Outcome.ACCEPTED
    assert found[fine.run].outcome is Outcome.DONE
    assert found[fine.run].status is RunStatus.CANCELLED
    assert (found[NOWHERE].outcome, found[NOWHERE].status) == (Outcome.REFUSED, None)
    assert foreign.run not in found
    assert status(main, foreign) == "running"
    assert views.run(main, fine).message == "night is over"


def test_runs_are_paused_resumed_and_terminated_together(main, line):
    runs = [submit(main, line) for _ in range(3)]
    other = submit(main, publish(main, {**LINE, "workflow": "other"}))
    which = Filter(workflow="line")

    def acted(action):
        found = bulk.act(main, TENANT, action, which, by="ada").answers
        assert [answer.run for answer in found] == [run.run for run in reversed(runs)]
        assert {answer.outcome for answer in found} == {Outcome.DONE}
        return {answer.status for answer in found}

    assert acted(Action.PAUSE) == {RunStatus.PAUSED}
    assert acted(Action.RESUME) == {RunStatus.RUNNING}
    assert acted(Action.TERMINATE) == {RunStatus.CANCELLED}
    assert status(main, other) == "running"
    # Those that have ended are not looked at any more unless they are asked for.
    assert bulk.act(main, TENANT, Action.CANCEL, which, by="ada").answers == ()


def test_runs_are_acted_on_page_by_page(main, line):
    runs = [submit(main, line) for _ in range(5)]
    before, seen = None, []
    while True:
        acted = bulk.act(
            main,
            TENANT,
            Action.CANCEL,
            Filter(statuses=(RunStatus.RUNNING,)),
            by="ada",
            before_id=before,
            limit=2,
        )
        seen += [answer.run for answer in acted.answers]
        if (before := acted.more) is None:
            break
    assert seen == [run.run for run in reversed(runs)]
    assert {status(main, run) for run in runs} == {"cancelled"}


def test_runs_are_chosen_by_when_they_were_submitted(main, line):
    run = submit(main, line)
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    for which in (Filter(before=now - hour), Filter(after=now + hour)):
        assert bulk.act(main, TENANT, Action.CANCEL, which, by="ada").answers == ()
    which = Filter(before=now + hour, after=now - hour)
    assert [a.run for a in bulk.act(main, TENANT, Action.CANCEL, which, by="ada").answers] == [
        run.run
    ]


def test_only_stuck_runs_are_retried(main, worker, line, settings):
    fine, broken = submit(main, line), submit(main, line)
    (head,) = sql(main, "SELECT head::text FROM run WHERE id = CAST(:run AS uuid)", run=broken.run)
    as_owner(settings, "UPDATE run SET head = '[]' WHERE id = CAST(:run AS uuid)", run=broken.run)
    assert control.pause(main, broken, by="ada") == "running"
    assert (
        bulk.act(main, TENANT, Action.RETRY, Filter(workflow="line"), by="ada")
        .answers[0]
        .why.startswith("its turn fails still")
    )
    as_owner(
        settings,
        "UPDATE run SET head = CAST(:head AS json) WHERE id = CAST(:run AS uuid)",
        run=broken.run,
        head=head[0],
    )
    (answer,) = bulk.act(main, TENANT, Action.RETRY, Filter(workflow="line"), by="ada").answers
    assert (answer.run, answer.outcome, answer.status) == (
        broken.run,
        Outcome.DONE,
        RunStatus.PAUSED,
    )
    (named,) = bulk.act(main, TENANT, Action.RETRY, Filter(ids=(fine.run,)), by="ada").answers
    assert (named.outcome, named.why) == (Outcome.REFUSED, "it is not stuck")


def test_a_run_that_ends_in_the_turn_of_the_act_says_that_it_ended_first(main, worker, line):
    one = {**LINE, "workflow": "one", "nodes": {"a": {"uses": "noop"}}, "edges": ["a -> end"]}
    run = submit(main, publish(main, one))
    lease = take(worker, run, "a#1")
    attempts.report(worker, "w1", [(lease, attempts.Succeeded())])
    (answer,) = bulk.act(main, TENANT, Action.CANCEL, Filter(ids=(run.run,)), by="ada").answers
    assert (answer.outcome, answer.why) == (Outcome.REFUSED, "it ended first: it is completed")
    assert turns.take_turns(main, [run]) == 0
