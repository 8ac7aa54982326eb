"""Reports and the turns that follow from them, in one commit, where a worker may take turns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.core import codec
from engine.core import messages as msg
from engine.errors import Unavailable
from engine.platform import Platform
from engine.runs import control, doctor, launch, letters, turns, views
from engine.runs.attempts import Succeeded, Suspended
from engine.store import inbox, session
from engine.store import runs as run_rows
from engine.store.ids import RunId, StepId
from tests.support.platforms import LINE, TENANT, Sent, kinds, publish, register, sql, submit, take
from workers.execution import Ended, Worker, execute, turn

pytestmark = pytest.mark.usefixtures("sound")


def sent(main: Platform) -> list[str]:
    assert isinstance(main.broker, Sent)
    return [hint.step.key for hint in main.broker.hints]


def begun(
    main: Platform, worker: Worker, *runs: RunId, step: str = "a#1", goes_on: bool = False
) -> list[Ended]:
    """The first steps of runs, begun by a worker, and what comes of them."""
    main.broker.hints.clear()  # type: ignore[attr-defined]  # see `sent`
    return [
        Ended(
            lease=take(worker.platform, run, step, name=worker.name),
            outcome=Succeeded(result=1),
            goes_on=goes_on,
        )
        for run in runs
    ]


def cut_off(both: Worker, ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """Report over a connection that is cut when all has been committed."""
    done = turns.take_along

    def cut(*given, **more):  # type: ignore[no-untyped-def]
        done(*given, **more)
        raise Unavailable("the connection was cut")

    with monkeypatch.context() as patched:
        patched.setattr(turns, "take_along", cut)
        with pytest.raises(Unavailable):
            both.reporting.ask(ended)


def test_a_report_and_its_turn_are_one_commit(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    run = submit(main, publish(main, LINE))
    (outcome,) = begun(main, both, run)
    assert both.reporting.ask(outcome).accepted
    assert sent(main) == ["b#1"]
    assert followed == []
    (commits,) = sql(
        main,
        "SELECT count(DISTINCT xmin) FROM (SELECT xmin::text FROM result UNION ALL SELECT"
        " (SELECT xmin::text FROM history ORDER BY seq DESC LIMIT 1) UNION ALL"
        " SELECT xmin::text FROM run) AS written (xmin)",
    )
    assert tuple(commits) == (1,)


def test_a_run_that_somebody_else_holds_is_reported_to_and_looked_at_again(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    run = submit(main, publish(main, LINE))
    (outcome,) = begun(main, both, run)
    with session.transaction(main.database) as holder:
        assert run_rows.lock(holder, [run])
        assert both.reporting.ask(outcome).accepted
        assert sent(main) == []
    assert followed == [run]
    assert turns.take_turns(main, followed) == 1
    assert sent(main) == ["b#1"]


def test_a_turn_that_cannot_be_taken_costs_no_report(
    main: Platform, both: Worker, followed: list[RunId], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish(main, LINE)
    runs = [submit(main, version) for _ in range(2)]
    outcomes = begun(main, both, *runs)
    taken = turns._turn

    def failing(connection, policy, found, *others, **more):  # type: ignore[no-untyped-def]
        if found.row.id == runs[0].run:
            raise RuntimeError("of its own making")
        return taken(connection, policy, found, *others, **more)

    with monkeypatch.context() as patched:
        patched.setattr(turns, "_turn", failing)
        assert [heard.accepted for heard in both._report(outcomes)] == [True, True]
        assert sorted(followed) == sorted(runs)
        turns.take_turns(main, followed)
    assert [views.run(main, run).stuck_error is not None for run in runs] == [True, False]
    assert sent(main) == ["b#1"]
    assert turns.take_turns(main, runs[:1], force=True) == 1
    assert sent(main) == ["b#1", "b#1"]


def test_a_report_that_comes_too_late_is_refused_and_what_waits_is_done(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    run = submit(main, publish(main, LINE))
    (outcome,) = begun(main, both, run)
    control.cancel(main, run, by="ada")
    assert not both.reporting.ask(outcome).accepted
    assert [tuple(row) for row in sql(main, "SELECT step, outcome FROM refusal")] == [
        ("a#1", "succeeded")
    ]
    assert sent(main) == followed == []


def test_a_commit_that_may_have_been_is_reported_again_and_counts_once(
    main: Platform, both: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(main, publish(main, LINE))
    (outcome,) = begun(main, both, run)
    cut_off(both, outcome, monkeypatch)
    assert not both.reporting.ask(outcome).accepted
    assert sent(main) == ["b#1"]
    attempts = [attempt for attempt in views.attempts(main, run) if attempt.step == "a#1"]
    assert [attempt.outcome for attempt in attempts] == ["succeeded"]


def test_the_end_of_a_run_is_one_commit_with_its_last_report(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    run = submit(main, publish(main, LINE))
    for step in ("a#1", "b#1"):
        if sent(main) == [step]:
            (outcome,) = begun(main, both, run, step=step)
            assert both.reporting.ask(outcome).accepted
    assert views.status(main, run).status == "completed"
    assert followed == []


def leased(main: Platform) -> list[tuple[str, str, str]]:
    rows = sql(main, "SELECT key, status, worker FROM step ORDER BY key")
    return [(row.key, row.status, row.worker) for row in rows]


def test_the_step_that_follows_is_the_workers_in_the_same_commit(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    run = submit(main, publish(main, LINE))
    (ended,) = begun(main, both, run, goes_on=True)
    heard = both.reporting.ask(ended)
    assert heard.accepted
    assert heard.following is not None
    assert heard.following.step == StepId(*run, "b#1")
    assert sent(main) == followed == []
    assert leased(main) == [("b#1", "leased", both.name)]
    assert execute(both, heard.following.step, goes_on=lambda: True) is None
    assert views.status(main, run).status == "completed"
    assert both.at_hand == {}
    assert not both.known


def test_a_thread_gets_one_of_many_steps_and_the_others_are_sent(
    main: Platform, both: Worker
) -> None:
    names = ["b", "c", "d"]
    document = {
        "workflow": "wide",
        "nodes": {name: {"uses": "noop"} for name in ["a", *names]},
        "edges": [{"from": "a", "to": names, "type": "parallel"}, *(f"{n} -> end" for n in names)],
    }
    run = submit(main, publish(main, document))
    (ended,) = begun(main, both, run, goes_on=True)
    following = both.reporting.ask(ended).following
    assert following is not None
    assert sorted([following.step.key, *sent(main)]) == ["b#1", "c#1", "d#1"]
    assert [key for key, status, _ in leased(main) if status == "leased"] == [following.step.key]


def test_who_does_not_go_on_gets_nothing_of_what_others_do(main: Platform, both: Worker) -> None:
    version = publish(main, LINE)
    first, second = (submit(main, version) for _ in range(2))
    ended = [*begun(main, both, first, goes_on=True), *begun(main, both, second)]
    heard = both._report(ended)
    assert [one.following and one.following.step.run for one in heard] == [first.run, None]
    assert [hint.step.run for hint in main.broker.hints] == [second.run]  # type: ignore[attr-defined]


def test_what_follows_a_commit_that_may_have_been_is_let_go(
    main: Platform, both: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(main, publish(main, LINE))
    (ended,) = begun(main, both, run, goes_on=True)
    cut_off(both, ended, monkeypatch)
    again = both.reporting.ask(ended)
    assert not again.accepted
    assert again.following is not None
    found = [(one.step, one.attempt, one.reason) for one in views.attempts(main, run)]
    assert sorted(found) == [("a#1", 1, None), ("b#1", 1, "lost"), ("b#1", 2, None)]
    execute(both, again.following.step)
    assert views.status(main, run).status == "completed"


def test_what_its_thread_never_hears_of_is_let_go(main: Platform, both: Worker) -> None:
    run = submit(main, publish(main, LINE))
    (ended,) = begun(main, both, run, goes_on=True)
    following = both.reporting.ask(ended).following
    assert following is not None
    assert {held.step for held in both.known} == {following.step}
    both.give_up([following.step], "its task was revoked")
    assert not both.known
    assert turns.take_turns(main, [run]) == 1
    (lost,) = [one for one in views.attempts(main, run) if one.step == "b#1"]
    assert lost.reason == "lost"


def test_a_run_that_is_paused_meanwhile_goes_on_with_nothing(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    run = submit(main, publish(main, LINE))
    (ended,) = begun(main, both, run, goes_on=True)
    control.pause(main, run, by="ada")
    heard = both.reporting.ask(ended)
    assert (heard.accepted, heard.following) == (True, None)
    assert sent(main) == followed == []
    control.resume(main, run, by="ada")
    turns.take_turns(main, [run])
    assert sent(main) == ["b#1"]


def test_a_step_that_this_release_cannot_read_is_lost_and_looked_at_again(
    main: Platform, both: Worker, followed: list[RunId], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(main, publish(main, LINE))
    (ended,) = begun(main, both, run, goes_on=True)

    def unknown(*_: object) -> object:
        raise ValueError("no such state")

    with monkeypatch.context() as patched:
        patched.setattr("engine.runs.states.seen", unknown)
        heard = both.reporting.ask(ended)
    assert (heard.accepted, heard.following) == (True, None)
    assert set(followed) == {run}
    assert turns.take_turns(main, followed) == 1
    (lost,) = [one for one in views.attempts(main, run) if one.step == "b#1"]
    assert "cannot read the run's state" in (lost.message or "")


def test_a_run_that_was_nudged_for_begins_with_its_first_turn(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    version = publish(main, LINE)
    run, beside = (launch.submit(main, TENANT, version, {}, by="ada").run for _ in range(2))
    following = turn(both, [run, beside], goes_on=lambda: True)
    assert following is not None
    assert following.step == StepId(*run, "a#1")
    # One thread goes on with one step; the other run's first is sent.
    assert [hint.step.run for hint in main.broker.hints] == [beside.run]  # type: ignore[attr-defined]
    assert followed == []
    assert turn(both, [run, beside], goes_on=lambda: True) is None


def test_a_worker_that_takes_no_turns_asks_who_does(
    main: Platform, worker: Worker, followed: list[RunId]
) -> None:
    register(main, "noop")
    run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run
    assert turn(replace(worker, follow=followed.extend), [run], goes_on=lambda: True) is None
    assert followed == [run]


def test_what_a_first_turn_takes_is_let_go_where_its_commit_may_not_have_been(
    main: Platform, both: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run
    done, asked = turns.take_along, []

    def cut_once(*given, **more):  # type: ignore[no-untyped-def]
        asked.append(given)
        found = done(*given, **more)
        if len(asked) == 1:
            raise Unavailable("the connection was cut")
        return found

    monkeypatch.setattr(turns, "take_along", cut_once)
    following = turn(both, [run], goes_on=lambda: True)
    assert len(asked) == 2
    assert following is not None
    found = [(one.step, one.attempt, one.reason) for one in views.attempts(main, run)]
    assert sorted(found) == [("a#1", 1, "lost"), ("a#1", 2, None)]


def test_a_first_turn_that_fails_is_looked_at_by_itself(
    main: Platform, both: Worker, followed: list[RunId], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run

    def failing(*_: object) -> None:
        raise RuntimeError("of its own making")

    with monkeypatch.context() as patched:
        patched.setattr(turns, "_turn", failing)
        assert turn(both, [run], goes_on=lambda: True) is None
    assert followed == [run]


def test_what_was_taken_with_a_turn_that_was_not_committed_is_given_to_nobody(
    main: Platform, both: Worker, followed: list[RunId], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(main, publish(main, LINE))
    (ended,) = begun(main, both, run, goes_on=True)

    def failing(*_: object) -> None:
        raise RuntimeError("of its own making")

    with monkeypatch.context() as patched:
        patched.setattr(turns, "_tell", failing)
        heard = both.reporting.ask(ended)
    assert (heard.accepted, heard.following) == (True, None)
    assert both.at_hand == {}
    assert followed == [run]
    turns.take_turns(main, followed)
    assert sent(main) == ["b#1"]


def waiting(main: Platform, run: RunId, *events: msg.AnyEvent) -> None:
    """Leave events in a run's inbox."""
    with session.transaction(main.database) as connection:
        inbox.put(connection, [letters.letter(run, event) for event in events])


def judged(step: str, action: str) -> msg.Judged:
    """What a policy says of an attempt by what that does."""
    verdict = msg.Verdict(
        policy="p",
        version=1,
        rule="r",
        action=action,
        message="m",
        observed=1,
        limit=1,
        scope="run",
        window="none",
    )
    return msg.Judged(
        at=codec.UNTIMED,
        step=msg.StepKey(step),
        attempt=1,
        moment="call",
        rules=1,
        verdicts=(verdict,),
        memory=None,
    )


MANY = [msg.Ticked(at=codec.UNTIMED)] * inbox.BATCH


def test_what_is_reported_is_heard_without_an_inbox(
    main: Platform, both: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(main, publish(main, LINE))
    (outcome,) = begun(main, both, run)
    monkeypatch.setattr(inbox, "take", None)
    assert both.reporting.ask(outcome).accepted
    assert "AttemptSucceeded" in kinds(main, run)


def test_a_verdict_of_an_attempt_is_heard_before_its_report_however_much_waits(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    """Else the run would be past what the policy has forbidden."""
    version = publish(main, LINE)
    busy, run = (submit(main, version) for _ in range(2))
    both.reporting.ask(*begun(main, both, run))
    outcomes = [*begun(main, both, busy), *begun(main, both, run, step="b#1")]
    waiting(main, busy, *MANY)
    waiting(main, run, judged("b#1", "abort_lifetime"))
    assert all(heard.accepted for heard in both._report(outcomes))
    assert {busy, run} <= {*followed}
    turns.take_turns(main, followed)
    assert views.status(main, run).status == "failed"
    found = kinds(main, run)
    assert found[-3:] == ["Judged", "FinishRun", "AttemptSucceeded"]
    assert doctor.examine(main.database) == ()


def test_a_pause_by_an_attempt_is_heard_before_it_gives_way(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    version = publish(main, LINE)
    busy, run = (submit(main, version) for _ in range(2))
    outcomes = begun(main, both, busy, run, goes_on=True)
    outcomes[1] = replace(outcomes[1], outcome=Suspended())
    waiting(main, busy, *MANY)
    waiting(main, run, judged("a#1", "pause_lifetime"))
    assert both._report(outcomes)[1].following is None
    turns.take_turns(main, followed)
    found = kinds(main, run)
    assert found.index("Judged") < found.index("AttemptSuspended")
    assert views.status(main, run).status == "paused"


def test_a_run_whose_cancel_waits_behind_much_else_is_not_gone_on_with(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    run = submit(main, publish(main, LINE))
    outcomes = begun(main, both, run, goes_on=True)
    waiting(main, run, *MANY, msg.CancelRequested(at=codec.UNTIMED, by="ada"))
    (heard,) = both._report(outcomes)
    assert heard.following is None
    turns.take_turns(main, followed)
    assert views.status(main, run).status == "cancelled"
    kinds(main, run)


def test_reports_of_one_run_are_of_one_time(main: Platform, both: Worker) -> None:
    names = [f"n{number}" for number in range(8)]
    wide = {
        "workflow": "wide",
        "nodes": {name: {"uses": "noop"} for name in ["a", *names]},
        "edges": [
            {"from": "a", "to": names, "type": "parallel"},
            *(f"{name} -> end" for name in names),
        ],
    }
    run = submit(main, publish(main, wide))
    both._report(begun(main, both, run))
    both._report([begun(main, both, run, step=f"{name}#1")[0] for name in reversed(names)])
    assert kinds(main, run).count("AttemptSucceeded") == 9


def test_of_runs_that_report_together_those_that_others_hold_are_told(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    version = publish(main, LINE)
    runs = [submit(main, version) for _ in range(6)]
    outcomes = begun(main, both, *runs)
    with session.transaction(main.database) as holder:
        assert len(run_rows.lock(holder, runs[::2])) == 3
        assert all(heard.accepted for heard in both._report(outcomes))
        assert sorted(followed) == sorted(runs[::2])
    turns.take_turns(main, followed)
    assert all(kinds(main, run).count("AttemptSucceeded") == 1 for run in runs)
    assert doctor.examine(main.database) == ()
