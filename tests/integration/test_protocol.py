"""The protocol over a real Postgres, one transaction at a time: who may write what, when."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text

from engine.core import codec
from engine.core import messages as msg
from engine.core.transitions import RunStatus
from engine.errors import Conflict, GaveUp, Invalid, NotFound, OutOfReach, Unavailable
from engine.platform import DatabaseRole, build
from engine.runs import (
    attempts,
    control,
    doctor,
    launch,
    letters,
    sweep,
    turns,
    upkeep,
    views,
)
from engine.runs.attempts import Failed, Succeeded
from engine.store import history, inbox, session, steps
from engine.store import runs as run_rows
from engine.store.ids import RunId, StepId
from tests.support import platforms
from tests.support.fleet import wait_until
from tests.support.hands import beside
from tests.support.platforms import (
    LINE,
    TENANT,
    Sent,
    as_owner,
    finish,
    lose_leases,
    publish,
    register,
    sql,
    status,
    submit,
    take,
)

RETRIED = {
    "workflow": "retried",
    "nodes": {"a": {"uses": "noop", "retry": {"attempts": 2, "backoff": 3600}}},
    "edges": ["a -> end"],
}


@pytest.fixture
def main(settings):
    with platforms.platform(settings) as built:
        sent = replace(built, broker=Sent(app=built.broker.app))
        register(sent, "noop")
        yield sent


@pytest.fixture
def worker(settings, main):
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield built


# --- sad paths ------------------------------------------------------------------------------


def test_a_doubled_message_finds_nothing_to_lease(main, worker):
    run = submit(main, publish(main, LINE))
    step = StepId(*run, "a#1")
    assert len(attempts.lease(worker, [step], "w1")) == 1
    assert attempts.lease(worker, [step], "w2") == ()


def test_a_message_for_a_step_that_is_gone_finds_nothing(main, worker):
    run = submit(main, publish(main, LINE))
    finish(main, worker, take(worker, run, "a#1"))
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w1") == ()
    assert attempts.lease(worker, [StepId("local", run.run, "nowhere#1")], "w1") == ()
    assert attempts.lease(worker, [StepId("other", run.run, "b#1")], "w1") == ()


def test_a_late_report_is_refused_and_kept(main, worker, settings):
    run = submit(main, publish(main, LINE))
    late = take(worker, run, "a#1")
    lose_leases(settings)
    sweep.sweep(main)
    second = take(worker, run, "a#1", name="w2")
    assert (late.attempt, second.attempt) == (1, 2)
    assert not finish(main, worker, late, n=1)
    assert finish(main, worker, second, n=2)
    assert views.run(main, run).variables == {"n": 2}
    refused = sql(main, "SELECT step, attempt, worker, outcome FROM refusal")
    assert refused == [("a#1", 1, "w1", "succeeded")]
    ends = sql(main, "SELECT attempt, outcome FROM result WHERE step = 'a#1' ORDER BY attempt")
    assert ends == [(1, "lost"), (2, "succeeded")]


def test_a_report_is_counted_once_however_often_it_is_sent(main, worker):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    assert finish(main, worker, lease)
    assert not finish(main, worker, lease)
    assert len(sql(main, "SELECT FROM result")) == 1


def test_a_lease_that_never_began_costs_no_attempt(main, worker, settings):
    run = submit(main, publish(main, LINE))
    (lease,) = attempts.lease(worker, [StepId(*run, "a#1")], "w1")
    lose_leases(settings)
    sweep.sweep(main)
    assert attempts.begin(worker, [lease]) == ()
    assert take(worker, run, "a#1", name="w2").attempt == 1
    assert main.broker.hints[-1].step == StepId(*run, "a#1")


def test_a_cancelled_run_takes_its_steps_away_from_their_workers(main, worker):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    assert control.cancel(main, run, by="ada", reason="enough") == RunStatus.CANCELLED
    assert attempts.beat(worker, [lease.held]) == frozenset()
    assert attempts.held(worker, [lease.held]) == frozenset()
    assert not finish(main, worker, lease)
    with pytest.raises(Conflict, match="already ended: it is cancelled"):
        control.cancel(main, run, by="ada")


def test_a_run_that_does_not_exist_cannot_be_cancelled(main):
    with pytest.raises(NotFound):
        control.cancel(main, RunId("local", "01900000-0000-7000-8000-000000000000"), by="ada")


def test_another_tenant_does_not_see_the_run(main):
    run = submit(main, publish(main, LINE))
    with pytest.raises(NotFound):
        control.cancel(main, RunId("other", run.run), by="eve")
    assert status(main, run) == "running"


def test_a_function_that_is_gone_from_nowhere_is_named(main):
    with pytest.raises(Invalid) as refused:
        publish(main, {**LINE, "nodes": {"a": {"uses": "nope"}, "b": {"uses": "noop"}}})
    assert [p.message for p in refused.value.problems] == ["Function not found: nope"]


def test_oversize_inputs_that_have_to_stay_are_refused_and_nothing_is_stored(main):
    version = publish(main, {**LINE, "variables": {"x": {"reduce": "append"}}})
    with pytest.raises(Invalid) as refused:
        launch.submit(main, "local", version, {"x": ["y" * 300_000]}, by="ada")
    assert "262144 are allowed" in refused.value.problems[0].message
    assert sql(main, "SELECT FROM run") == sql(main, "SELECT FROM blob") == []


def test_a_key_stands_for_one_submission(main):
    version = publish(main, LINE)
    first = launch.submit(main, "local", version, {"n": 1}, by="ada", idempotency_key="k")
    again = launch.submit(main, "local", version, {"n": 1}, by="ada", idempotency_key="k")
    assert (again.run, again.replayed) == (first.run, True)
    with pytest.raises(Conflict, match="another submission"):
        launch.submit(main, "local", version, {"n": 2}, by="ada", idempotency_key="k")
    assert len(sql(main, "SELECT FROM run")) == 1


def test_a_run_whose_turn_fails_is_set_aside_and_holds_nobody_up(main, worker, settings):
    version = publish(main, LINE)
    bad, good = submit(main, version), submit(main, version)
    leases = [take(worker, run, "a#1") for run in (bad, good)]
    attempts.report(worker, "w1", [(lease, Succeeded()) for lease in leases])
    head = sql(main, "SELECT head::text AS head FROM run WHERE id = :id", id=bad.run)[0].head
    as_owner(settings, "UPDATE run SET head = '{\"nonsense\": 1}' WHERE id = :id", id=bad.run)
    turns.take_turns(main, [bad, good])
    assert [row.key for row in sql(main, "SELECT key FROM step WHERE status = 'ready'")] == ["b#1"]
    stuck = sql(main, "SELECT stuck_count, stuck_error FROM run WHERE id = :id", id=bad.run)[0]
    assert stuck.stuck_count == 1
    assert "nonsense" in stuck.stuck_error
    assert turns.take_turns(main, [bad]) == 0, "a stuck run is left alone for its time"
    assert len(sql(main, "SELECT FROM inbox WHERE run_id = :id", id=bad.run)) == 1
    mended = "UPDATE run SET head = :head WHERE id = :id"
    as_owner(settings, mended, id=bad.run, head=head)
    assert control.retry_stuck(main, bad, by="ada") == "running"
    assert finish(main, worker, take(worker, bad, "b#1"))
    assert status(main, bad) == "completed"


def test_a_turn_that_can_only_time_out_holds_up_no_other(main, worker, settings, monkeypatch):
    version = publish(main, LINE)
    bad = submit(main, version)
    good = [launch.submit(main, TENANT, version, {}, by="ada").run for _ in range(3)]
    take(worker, bad, "a#1")
    put(main, bad, msg.CancelRequested(at=codec.UNTIMED, by="ada"))
    monkeypatch.setattr(session, "STATEMENT_TIMEOUT_MS", 500)
    with platforms.platform(settings) as hasty, locked(settings, bad):
        assert turns.take_turns(replace(hasty, broker=main.broker), [bad, *good]) == len(good)
    assert [status(main, run) for run in (bad, *good)] == ["running"] * 4
    (stuck,) = sql(main, "SELECT id::text, stuck_error FROM run WHERE stuck_error IS NOT NULL")
    assert stuck.id == bad.run
    assert "GaveUp" in stuck.stuck_error
    assert control.retry_stuck(main, bad, by="ada") == "cancelled"


def test_a_deadlock_is_told_from_a_database_that_is_away(main):
    version = publish(main, LINE)
    runs = [submit(main, version) for _ in range(2)]
    met = threading.Barrier(2)
    raised = []

    def cross(first, second):
        try:
            with session.transaction(main.database) as connection:
                steps.clear(connection, [first])
                connection.exec_driver_sql("SELECT")  # which takes with it what waits to be sent
                met.wait(10)
                steps.clear(connection, [second])
        except GaveUp as error:
            raised.append(error)

    with beside(cross, *runs), beside(cross, *reversed(runs)):
        pass
    assert len(raised) == 1
    assert "deadlock" in raised[0].message


def test_connections_that_are_all_in_use_set_no_run_aside(main, settings):
    run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run
    busy = build(settings, DatabaseRole.CONTROL, connections=1)
    busy.database.pool._timeout = 0.05
    with busy.database.connect(), busy.database.connect():
        with pytest.raises(Unavailable, match="every connection"):
            turns.take_turns(busy, [run])
    busy.close()
    assert sql(main, "SELECT FROM run WHERE stuck_error IS NOT NULL") == []
    assert turns.take_turns(main, [run]) == 1


def test_who_stands_still_in_a_turn_does_not_keep_its_runs(main, settings, monkeypatch):
    run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run
    inside, go, ends = threading.Event(), threading.Event(), []

    def fault(point):
        if point == "turn.inside":
            inside.set()
            go.wait(30)

    def stand_still(platform):
        with pytest.raises(Unavailable) as raised:
            turns.take_turns(platform, [run])
        ends.append(raised.value.message)

    # Long enough for a turn on a busy machine, which reads between its statements, too.
    monkeypatch.setattr(session, "IDLE_TIMEOUT_MS", 2000)
    with platforms.platform(settings) as still:
        with beside(stand_still, replace(still, fault=fault)):
            assert inside.wait(10)
            wait_until(lambda: turns.take_turns(main, [run]) == 1, seconds=20)
            go.set()
    assert status(main, run) == "running"
    assert len(ends) == 1


def test_a_stuck_run_can_be_cancelled(main, worker, settings):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    as_owner(
        settings,
        "UPDATE run SET stuck_count = 12, stuck_error = 'boom',"
        " stuck_until = clock_timestamp() + interval '1 hour'",
    )
    assert control.cancel(main, run, by="ada") == "cancelled"
    assert attempts.held(worker, [lease.held]) == frozenset()


def test_a_cancel_that_cannot_be_carried_out_waits_and_says_so(main, settings):
    run = submit(main, publish(main, LINE))
    (row,) = sql(main, "SELECT head::text AS head FROM run")
    as_owner(settings, """UPDATE run SET head = '{"nonsense": 1}'""")
    assert control.cancel(main, run, by="ada") == "running"
    as_owner(settings, "UPDATE run SET head = :head", head=row.head)
    assert control.retry_stuck(main, run, by="ada") == "cancelled"


@pytest.mark.parametrize("moved", ["clear", "clear_nodes", "delete"])
def test_leases_are_kept_and_ended_in_one_order(main, worker, settings, moved):
    """Whatever the order in which they were made, asked for, or lie in the table."""
    version = publish(main, LINE)
    runs = [launch.submit(main, TENANT, version, {}, by="ada").run for _ in range(3)]
    for run in reversed(runs):
        turns.take_turns(main, [run])
    leases = [take(worker, run, "a#1").held for run in reversed(runs)]
    ends = []

    def beat():
        ends.append(len(attempts.beat(worker, leases)))

    def end():
        with session.transaction(main.database) as connection:
            if moved == "clear":
                steps.clear(connection, runs)
            elif moved == "clear_nodes":
                steps.clear_nodes(connection, [(run, "a") for run in reversed(runs)])
            else:
                steps.delete(connection, [StepId(*run, "a#1") for run in runs])
            ends.append(moved)

    with contextlib.ExitStack() as stack, locked(settings, runs[1]):
        for waiting, action in enumerate((end, beat), start=1):
            stack.enter_context(beside(action))
            wait_until(lambda waiting=waiting: waiting_for_locks(main) == waiting, seconds=10)
    assert len(ends) == 2
    assert moved in ends


def test_two_writers_of_one_run_collide_and_neither_overwrites(main):
    run = submit(main, publish(main, LINE))
    with pytest.raises(session.MovedOn, match="1 of 1 runs had moved on"):
        _save_late(main, run)


def _save_late(main, run):
    with session.transaction(main.database) as connection:
        (row,) = run_rows.lock(connection, [run])
        head = run_rows.Head(
            run=run,
            was=row.seq - 1,
            status="running",
            seq=row.seq,
            hash=b"",
            head="{}",
            variables=None,
            snapshot_seq=0,
            patched=0,
            reason=None,
            message=None,
            ended_step=None,
            wake=None,
            outputs=None,
            began=row.now,
        )
        run_rows.save(connection, [head])


# --- going on -------------------------------------------------------------------------------


def test_a_run_goes_from_submission_to_its_end(main, worker):
    run = submit(main, publish(main, LINE), n=0)
    assert finish(main, worker, take(worker, run, "a#1"), n=1)
    assert finish(main, worker, take(worker, run, "b#1"), m=2)
    detail = views.run(main, run)
    assert (detail.status, detail.variables) == ("completed", {"n": 1, "m": 2})
    assert sql(main, "SELECT FROM step") == []
    assert sql(main, "SELECT FROM inbox") == []


def test_a_message_that_was_never_answered_is_sent_again(main, settings):
    run = submit(main, publish(main, LINE))
    main.broker.hints.clear()
    assert sweep.sweep(main).resent == 0
    as_owner(settings, "UPDATE step SET wake_at = clock_timestamp() - interval '1 second'")
    assert sweep.sweep(main).resent == 1
    assert main.broker.hints[0].step == StepId(*run, "a#1")
    assert sweep.sweep(main).resent == 0


def test_an_event_that_nobody_took_up_is_found_by_the_sweeper(main, settings):
    version = publish(main, LINE)
    run = launch.submit(main, "local", version, {}, by="ada").run
    assert sweep.sweep(main).turns == 0
    as_owner(settings, "UPDATE inbox SET received_at = received_at - interval '1 minute'")
    assert sweep.sweep(main).turns == 1
    assert status(main, run) == "running"


def test_a_failed_attempt_waits_for_its_backoff_in_the_database(main, worker, settings):
    run = submit(main, publish(main, RETRIED))
    finish(main, worker, take(worker, run, "a#1"), Failed(reason="error", message="boom"))
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w1") == ()
    assert sweep.sweep(main).woken == 0
    as_owner(settings, "UPDATE step SET wake_at = clock_timestamp() - interval '1 second'")
    assert sweep.sweep(main).woken == 1
    again = take(worker, run, "a#1")
    assert again.attempt == 2
    finish(main, worker, again, Failed(reason="error", message="boom again"))
    detail = views.run(main, run)
    assert (detail.status, detail.reason, detail.message) == ("failed", "error", "boom again")


def test_a_beat_keeps_a_lease_and_a_step_can_be_handed_back(main, worker):
    run = submit(main, publish(main, LINE))
    (lease,) = attempts.lease(worker, [StepId(*run, "a#1")], "w1")
    assert attempts.beat(worker, [lease.held]) == {lease.held}
    attempts.give_back(worker, [lease.held])
    assert attempts.beat(worker, [lease.held]) == frozenset()
    assert take(worker, run, "a#1").attempt == 1


def test_a_step_that_is_handed_back_to_a_paused_run_waits_with_it(main, worker):
    run = submit(main, publish(main, LINE))
    (lease,) = attempts.lease(worker, [StepId(*run, "a#1")], "w1")
    control.pause(main, run, by="ada")
    attempts.give_back(worker, [lease.held])
    assert [step.status for step in views.run(main, run).steps] == ["held"]
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w2") == ()
    control.resume(main, run, by="ada")
    assert take(worker, run, "a#1").attempt == 1


def test_a_step_that_became_ready_beside_a_pause_is_not_carried_out(main, worker, settings):
    run = submit(main, publish(main, LINE))
    control.pause(main, run, by="ada")
    as_owner(settings, "UPDATE step SET status = 'ready', wake_at = clock_timestamp()")
    assert attempts.lease(worker, [StepId(*run, "a#1")], "w1") == ()
    control.resume(main, run, by="ada")
    assert take(worker, run, "a#1").attempt == 1


def test_a_value_that_is_not_kept_any_more_holds_up_its_own_run_alone(main, monkeypatch):
    version = publish(main, LINE)
    lame, well = (launch.submit(main, TENANT, version, {}, by="ada").run for _ in range(2))
    append = history.append

    def gone(connection, lines):
        if any(line.run == lame for line in lines):
            raise OutOfReach("blob abc is not kept any more")
        append(connection, lines)

    monkeypatch.setattr(history, "append", gone)
    turns.take_turns(main, [lame, well])
    assert views.run(main, well).status == "running"
    assert "not kept any more" in views.run(main, lame).stuck_error
    monkeypatch.undo()
    turns.take_turns(main, [lame], force=True)
    assert views.run(main, lame).status == "running"


def test_a_run_is_taken_once_however_often_a_message_names_it(main, monkeypatch):
    version = publish(main, LINE)
    runs = [launch.submit(main, TENANT, version, {}, by="ada").run for _ in range(3)]
    together = counted(monkeypatch, run_rows, "lock")
    assert turns.take_turns(main, [*runs, *runs]) == 3
    assert together == [3]


def test_many_runs_and_many_events_are_taken_some_at_a_time(main, monkeypatch):
    version = publish(main, LINE)
    loud = launch.submit(main, TENANT, version, {}, by="ada").run
    for _ in range(2 * inbox.BATCH):
        put(main, loud, msg.Woke(at=codec.UNTIMED, step=msg.StepKey("nowhere#1")))
    runs = [loud, *(launch.submit(main, TENANT, version, {}, by="ada").run for _ in range(44))]
    together = counted(monkeypatch, run_rows, "lock")
    taken = []
    take_letters = inbox.take

    def seen(connection, of):
        rows = take_letters(connection, of)
        taken.append(len(rows))
        return rows

    monkeypatch.setattr(inbox, "take", seen)
    turns.take_turns(main, runs)
    assert max(together) == turns.TOGETHER
    assert max(taken) == inbox.BATCH
    assert sum(taken) == len(runs) + 2 * inbox.BATCH
    assert {status(main, run) for run in runs} == {"running"}


def test_an_event_is_kept_as_it_was_written_and_read_as_it_is_meant_now(main, worker, monkeypatch):
    run = submit(main, publish(main, LINE))
    attempts.report(
        worker, "w1", [(take(worker, run, "a#1"), Failed(reason="error", message="boom"))]
    )
    (row,) = sql(main, "SELECT body::text AS body FROM inbox")
    old = row.body.replace('"reason"', '"why"')
    assert old != row.body
    sql(main, "UPDATE inbox SET body = CAST(:body AS json) RETURNING id", body=old)

    def lift(kind, body):
        return kind, {("reason" if name == "why" else name): part for name, part in body.items()}

    monkeypatch.setattr(codec, "FORMAT", 2)
    monkeypatch.setattr(codec, "UPCASTERS", {1: lift})
    turns.take_turns(main, [run])
    (kept,) = sql(
        main, "SELECT format, body::text AS body FROM history WHERE kind = 'AttemptFailed'"
    )
    assert (kept.format, kept.body) == (1, old)
    assert sql(main, "SELECT DISTINCT format FROM history WHERE kind = 'FinishRun'") == [(2,)]
    state = views.state_at(main, run, views.status(main, run).seq)
    assert (state.terminal, state.ending.reason) == (True, "error")
    assert doctor.examine(main.database) == ()


def test_the_times_of_history_never_go_back(main, monkeypatch):
    """Not even where an event arrives between a turn's lock and its look into the inbox."""
    run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run
    lock = run_rows.lock

    def then_one_arrives(connection, runs, **options):
        rows = lock(connection, runs, **options)
        put(main, run, msg.Woke(at=codec.UNTIMED, step=msg.StepKey("nowhere#1")))
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(run_rows, "lock", then_one_arrives)
        patched.setattr(inbox, "waiting", lambda *_: ())
        turns.take_turns(main, [run])
    told = views.history(main, run)
    assert "Woke" in [line.kind for line in told]
    assert [line.at for line in told] == sorted(line.at for line in told)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ("lease_until = lease_until + interval '1 minute'", True),
        ("fence = fence + 1, begun = false", False),
    ],
)
def test_a_report_that_waits_for_its_step_sees_what_became_of_that(
    main, worker, settings, change, counts
):
    """Its lease was extended meanwhile, or taken away."""
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    accepted = []

    def report():
        accepted.append(attempts.report(worker, "w1", [(lease, Succeeded())]))

    with contextlib.ExitStack() as stack:
        with locked(settings, run, change):
            stack.enter_context(beside(report))
            wait_until(lambda: waiting_for_locks(main) > 0)
    assert accepted == [{lease.held} if counts else set()]
    turns.take_turns(main, [run])
    kinds = [line.kind for line in views.history(main, run)]
    assert ("AttemptSucceeded" in kinds) is counts


@pytest.mark.parametrize("late_first", [False, True])
@pytest.mark.parametrize("along", [False, True])
def test_of_two_reports_of_a_step_at_once_the_one_under_the_lease_that_holds_counts(
    main, worker, settings, along, late_first
):
    """A worker was late, lost its lease, and took the step anew: both of its threads report together."""
    run = submit(main, publish(main, LINE))
    late = take(worker, run, "a#1")
    lose_leases(settings)
    sweep.sweep(main)
    platforms.wake(settings)
    sweep.sweep(main)
    new = take(worker, run, "a#1")
    assert (late.attempt, new.attempt) == (1, 2)
    pair = [(new, Succeeded(result="new")), (late, Succeeded(result="late"))]
    pair = pair[::-1] if late_first else pair
    if along:
        accepted = turns.take_along(
            main, [run], partial(attempts.reported, worker="w1", outcomes=pair)
        ).accepted
    else:
        accepted = attempts.report(worker, "w1", pair)
        turns.take_turns(main, [run])
    assert accepted == {new.held}
    (kept,) = sql(main, "SELECT body::text AS body FROM payload WHERE id = 'a#1/2'")
    assert "new" in kept.body
    assert len(sql(main, "SELECT FROM refusal")) == 1
    assert sql(main, "SELECT FROM step WHERE key = 'b#1' AND status = 'ready'")


def test_who_misses_the_lock_leaves_and_the_holder_takes_its_event(main, worker):
    run = submit(main, publish(main, LINE))
    lease = take(worker, run, "a#1")
    attempts.report(worker, "w1", [(lease, Succeeded())])
    inside, go = threading.Event(), threading.Event()

    def fault(point):
        if point == "turn.inside" and not inside.is_set():
            inside.set()
            assert go.wait(10)

    slow = replace(main, fault=fault)
    holder = threading.Thread(target=turns.take_turns, args=(slow, [run]))
    holder.start()
    assert inside.wait(10)
    event = msg.CancelRequested(at=codec.UNTIMED, by="ada")
    with session.transaction(main.database) as connection:
        inbox.put(connection, [letters.letter(run, event)])
    assert turns.take_turns(main, [run]) == 0
    go.set()
    holder.join()
    assert sql(main, "SELECT FROM inbox") == []
    assert status(main, run) == "cancelled"


def test_who_had_nothing_to_take_looks_again_before_it_leaves(main, monkeypatch):
    run = submit(main, publish(main, LINE))
    lock, missed = turns.runs.lock, []

    def then_one_arrives(connection, of, *, force):
        rows = lock(connection, of, force=force)
        if rows and not missed:
            assert not rows[0].waiting
            missed.append(None)
            put(main, run, msg.CancelRequested(at=codec.UNTIMED, by="ada"))
            missed.append(turns.take_turns(main, [run]))
        return rows

    monkeypatch.setattr(turns.runs, "lock", then_one_arrives)
    turns.take_turns(main, [run])
    assert missed == [None, 0]
    assert status(main, run) == "cancelled"


def test_a_cancel_during_a_turn_is_answered_after_it(main):
    run = launch.submit(main, TENANT, publish(main, LINE), {}, by="ada").run
    inside, go, answers = threading.Event(), threading.Event(), []

    def fault(point):
        if point == "turn.inside" and not inside.is_set():
            inside.set()
            assert go.wait(10)

    def cancel():
        answers.append(control.cancel(main, run, by="ada"))

    with beside(turns.take_turns, replace(main, fault=fault), [run]):
        assert inside.wait(10)
        with beside(cancel):
            # The first is the submission, which the turn has taken and not yet committed.
            wait_until(lambda: len(sql(main, "SELECT FROM inbox")) == 2)
            go.set()
    assert answers == ["cancelled"]


def test_snapshots_are_taken_when_patches_outweigh_the_state(main, worker):
    looping = {
        "workflow": "looping",
        "nodes": {"a": {"uses": "noop", "max_iterations": 1000}},
        "edges": [{"from": "a", "to": "a", "label": "loop", "when": "$n < 9"}, "a -> end"],
    }
    run = submit(main, publish(main, looping), n=0)
    for lap in range(1, 10):
        finish(main, worker, take(worker, run, f"a#{lap}"), n=lap, text=f"{lap}" * 5_000)
    assert status(main, run) == "completed"
    kept = [row.seq for row in sql(main, "SELECT seq FROM checkpoint ORDER BY seq")]
    assert 1 <= len(kept) < 9
    state = views.state_at(main, run, kept[-1])
    assert state.variables["n"] == state.iterations["a"] - 1
    with session.transaction(main.database) as connection:
        assert views.folded(connection, run, kept[-1], snapshot=False) == state


def test_upkeep_makes_the_partitions_ahead_and_forgets_old_keys(main, settings):
    version = publish(main, LINE)
    for key in ("old", "new"):
        launch.submit(main, "local", version, {}, by="ada", idempotency_key=key)
    as_owner(
        settings,
        "UPDATE idempotency SET created_at = created_at - interval '8 days' WHERE key = 'old'",
    )
    last = _last_partition(main)
    as_owner(settings, f"DROP TABLE {last}")
    upkeep.upkeep(main)
    assert [row.key for row in sql(main, "SELECT key FROM idempotency")] == ["new"]
    assert _last_partition(main) == last


def put(main, run, event):
    with session.transaction(main.database) as connection:
        inbox.put(connection, [letters.letter(run, event)])


def counted(monkeypatch, module, name):
    """How many runs a function of the store is given each time."""
    found = []
    real = getattr(module, name)

    def seen(connection, runs, **options):
        found.append(len(runs))
        return real(connection, runs, **options)

    monkeypatch.setattr(module, name, seen)
    return found


@contextlib.contextmanager
def locked(settings, run, change="wake_at = wake_at"):
    """Somebody holds the steps of a run, and has changed them."""
    owner = session.connect(settings.database_url)
    with session.transaction(owner) as connection:
        statement = f"UPDATE step SET {change} WHERE run_id = CAST(:run AS uuid)"
        connection.execute(text(statement), {"run": run.run})
        yield
    owner.dispose()


def waiting_for_locks(main):
    (row,) = sql(
        main,
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT l.granted AND a.datname = current_database()",
    )
    return row[0]


def _last_partition(main):
    (last,) = sql(
        main,
        "SELECT max(relname) FROM pg_class WHERE relname ~ '^history_[0-9]{6}$' AND relkind = 'r'",
    )
    return last[0]
