"""Going on with a run as it was left, where nobody else has had anything to say to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import text

from engine.core import codec
from engine.core import messages as msg
from engine.core.graph import NodeId
from engine.core.records import replace as with_changes
from engine.core.values import Json, Ref, plain
from engine.platform import Platform
from engine.runs import (
    attempts,
    control,
    doctor,
    launch,
    letters,
    migrations,
    policies,
    states,
    sweep,
    turns,
    views,
)
from engine.runs.attempts import Failed, Leased, Outcome, Succeeded
from engine.runs.known import Clock
from engine.settings import Settings
from engine.store import inbox, session, steps
from engine.store import runs as run_rows
from engine.store.ids import RunId, StepId
from tests.support.platforms import (
    TENANT,
    as_owner,
    chain,
    kinds,
    lose_leases,
    publish,
    register,
    sql,
    status,
    take,
    wake,
)
from workers.execution import Ended, Heard, Ours, Worker, _stood, execute, turn

pytestmark = pytest.mark.usefixtures("sound")

LONG = chain(**{name: {"uses": "noop"} for name in "abcd"})
LAPS: dict[str, Json] = {
    "workflow": "laps",
    "variables": {"seen": {"reduce": "append"}, "n": {}, "words": {}},
    "nodes": {
        "a": {"uses": "noop", "max_iterations": 9, "save": {"seen": "$result"}},
        "b": {"uses": "noop", "retry": {"attempts": 3, "backoff": 0}},
    },
    "edges": [
        {"from": "a", "to": "a", "when": "$n < 4", "label": "loop"},
        "a -> b",
        "b -> end",
    ],
}
APART: dict[str, Json] = {
    "workflow": "apart",
    "variables": {"v": {}, "w": {}},
    "nodes": {name: {"uses": "noop"} for name in "abcde"},
    "edges": [
        {"from": "a", "to": ["b", "c"], "type": "parallel"},
        "b -> d",
        {"from": ["c", "d"], "to": "e", "type": "join"},
        "e -> end",
    ],
}
FORKED: dict[str, Json] = {
    "workflow": "forked",
    "nodes": {name: {"uses": "noop"} for name in "abcde"},
    "edges": [
        {"from": "a", "to": ["b", "c"], "type": "parallel"},
        {"from": ["b", "c"], "to": "d", "type": "join"},
        "d -> e -> end",
    ],
}


class Reads:
    """How often runs were read, and what they were expected to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locked: list[RunId] = []
        lock = run_rows.lock

        def locking(connection: Any, runs: Any, **more: Any) -> Any:
            self.locked += runs
            return lock(connection, runs, **more)

        monkeypatch.setattr(run_rows, "lock", locking)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the database is asked, the names of what goes there together."""
    found: list[list[str]] = []
    send = session._send

    def sending(connection: Any, asked: Any) -> Any:
        found.append([what if isinstance(what, str) else what.name for what, _ in asked])
        return send(connection, asked)

    monkeypatch.setattr(session, "_send", sending)
    return found


def begun(main: Platform, both: Worker, document: Json = LONG, **inputs: Json) -> Ours:
    """The first step of a new run, taken with its first turn."""
    run = launch.submit(main, TENANT, publish(main, document), inputs, by="ada").run
    hint = turn(both, [run], goes_on=lambda: True)
    assert hint is not None
    return taken(main, both, hint.step)


def taken(main: Platform, both: Worker, step: StepId) -> Ours:
    """A step that was taken, held against what another worker would have found of it and of its run."""
    ours = both.at_hand.pop(step)
    with session.transaction(main.database) as connection:
        (needed,) = connection.execute(
            text(
                f"SELECT {steps._NEEDED} FROM step s JOIN run r"  # our own constant
                " ON r.tenant_id = s.tenant_id AND r.id = s.run_id"
                " WHERE s.run_id = CAST(:run AS uuid) AND s.key = :key"
            ),
            {"run": step.run, "key": step.key},
        )
        (lease,), _ = attempts.taken(both.platform, connection, [needed], both.name)
        (row,) = run_rows.lock(connection, [step.run_id])
        (live,) = steps.load(connection, [step])
    assert plainly(ours.lease) == plainly(lease)
    if ours.stands is not None:
        read = states.step(live)
        assert ours.stands.state == states.state(row, {read.key: read})
        assert as_read(ours.stands.row) == as_read(row)
    return ours


def plainly(lease: Leased) -> tuple[Leased, Any]:
    return with_changes(lease, variables=None), lease.variables.kept


def as_read(row: Any) -> dict[str, Any]:
    """What is read of a run, but for when."""
    return {**row._asdict(), "now": None, "waiting": None, "hash": bytes(row.hash)}


def ended(ours: Ours, outcome: Outcome | None = None, **patch: Json) -> Ended:
    return Ended(
        lease=ours.lease,
        outcome=outcome or Succeeded(patch=patch),
        goes_on=True,
        stood=ours.stands,
    )


def goes_on(main: Platform, both: Worker, ours: Ours, **patch: Json) -> Ours:
    """The step that follows."""
    heard = both.reporting.ask(ended(ours, **patch))
    assert heard.accepted
    assert heard.following is not None
    return taken(main, both, heard.following.step)


# --- what is not as it was left ----------------------------------------------------------------


def paused(main: Platform, run: RunId) -> None:
    control.pause(main, run, by="ada")


def about_to_pause(main: Platform, run: RunId) -> None:
    with session.transaction(main.database) as connection:
        event = msg.PauseRequested(at=codec.UNTIMED, by="ada", reason="")
        inbox.put(connection, [letters.letter(run, event)])


@pytest.mark.parametrize("pause", [paused, about_to_pause])
def test_a_run_that_was_paused_meanwhile_goes_on_with_nothing(
    main: Platform, both: Worker, reads: Reads, pause: Callable[[Platform, RunId], None]
) -> None:
    ours = begun(main, both)
    run = ours.lease.step.run_id
    pause(main, run)
    reads.locked.clear()
    heard = both.reporting.ask(ended(ours))
    assert (heard.accepted, heard.following) == (True, None)
    assert reads.locked == [run]
    assert status(main, run) == "paused"
    assert both.at_hand == {}


def test_policies_that_came_in_force_meanwhile_judge_what_is_reported(
    main: Platform, both: Worker
) -> None:
    ours = begun(main, both)
    policies.apply(
        main, TENANT, '{"policy": "p", "rules": ["steps > 0 → abort_lifetime"]}', by="ada"
    )
    heard = both.reporting.ask(ended(ours, n=2))
    assert (heard.accepted, heard.following) == (True, None)
    assert status(main, ours.lease.step.run_id) == "failed"
    assert "Governed" in kinds(main, ours.lease.step.run_id)


def test_what_is_reported_while_somebody_else_holds_the_run_waits_for_its_turn(
    main: Platform, both: Worker, followed: list[RunId]
) -> None:
    ours = begun(main, both)
    run = ours.lease.step.run_id
    with session.transaction(main.database) as holder:
        assert run_rows.lock(holder, [run])
        heard = both.reporting.ask(ended(ours))
    assert (heard.accepted, heard.following) == (True, None)
    assert both.at_hand == {}
    assert followed == [run]
    assert turns.take_turns(main, followed) == 1
    assert [step.key for step in views.run(main, run).steps] == ["b#1"]


def cancelled(main: Platform, settings: Settings, run: RunId) -> None:
    control.cancel(main, run, by="ada")


def terminated(main: Platform, settings: Settings, run: RunId) -> None:
    control.terminate(main, run, by="ada")


def lost(main: Platform, settings: Settings, run: RunId) -> None:
    lose_leases(settings)
    sweep.sweep(main)
    wake(settings)
    sweep.sweep(main)


@pytest.mark.parametrize("ending", [cancelled, terminated, lost])
def test_a_report_of_an_attempt_that_was_ended_is_refused_and_nothing_follows(
    main: Platform,
    both: Worker,
    settings: Settings,
    ending: Callable[[Platform, Settings, RunId], None],
) -> None:
    ours = begun(main, both)
    both.kept(ours.lease)
    ending(main, settings, ours.lease.step.run_id)
    assert both.reporting.ask(ended(ours)) == Heard(accepted=False)
    assert both.at_hand == {}
    assert not both.known
    assert len(sql(main, "SELECT FROM refusal")) == 1
    assert doctor.examine(main.database) == ()


def test_nothing_follows_in_a_run_that_was_set_aside(
    main: Platform, both: Worker, settings: Settings, followed: list[RunId]
) -> None:
    ours = begun(main, both)
    as_owner(
        settings,
        "UPDATE run SET stuck_until = now() + interval '1 hour', stuck_count = 1, stuck_error = 'e'",
    )
    assert both.reporting.ask(ended(ours)) == Heard(accepted=True)
    assert both.at_hand == {}
    assert followed == [ours.lease.step.run_id]


def test_a_lease_that_is_gone_while_its_run_is_as_it_was_is_refused(
    main: Platform, both: Worker, settings: Settings
) -> None:
    """Nothing has been folded yet that says so."""
    ours = begun(main, both)
    as_owner(settings, "UPDATE step SET fence = fence + 1")
    assert not both.reporting.ask(ended(ours)).accepted
    assert len(sql(main, "SELECT FROM refusal")) == 1
    as_owner(settings, "UPDATE step SET fence = fence - 1")
    assert both.reporting.ask(ended(ours)).accepted


@pytest.mark.parametrize("seconds", [60, -60])
def test_a_time_that_is_not_the_databases_is_asked_for(
    main: Platform, both: Worker, reads: Reads, seconds: int
) -> None:
    ours = begun(main, both)
    assert ours.stands is not None
    clock = ours.stands.clock
    wrong = Clock(clock.at + timedelta(seconds=seconds), clock.heard)
    reads.locked.clear()
    step = goes_on(main, both, replace(ours, stands=replace(ours.stands, clock=wrong)))
    assert reads.locked[:1] == [ours.lease.step.run_id]
    kinds(main, ours.lease.step.run_id)
    reads.locked.clear()
    both.reporting.ask(ended(step))
    assert reads.locked == []


def test_an_answer_that_comes_late_makes_no_time_earlier(
    main: Platform, both: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = run_rows.lock

    def slow(*given: Any, **more: Any) -> Any:
        found = lock(*given, **more)
        time.sleep(0.2)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(run_rows, "lock", slow)
        ours = begun(main, both)
    run = ours.lease.step.run_id
    both.reporting.ask(ended(goes_on(main, both, ours)))
    kinds(main, run)
    assert not sql(
        main,
        "SELECT FROM history h JOIN attempt a ON a.run_id = h.run_id AND a.step = h.body->>'step'"
        " WHERE h.kind = 'AttemptSucceeded' AND h.at < a.started_at",
    )
    assert len(sql(main, "SELECT FROM history WHERE kind = 'AttemptSucceeded'")) == 2


def test_a_step_that_made_calls_is_reported_by_the_databases_time(
    main: Platform, both: Worker, reads: Reads
) -> None:
    """A call has such a time, too, and lies before the report."""
    register(main, "look", "def look():\n    return 1", namespace="tool")
    register(main, "looks", "def looks(state):\n    return invoke('look')")
    ours = begun(main, both, chain(a={"uses": "looks"}, b={"uses": "noop"}))
    step = ours.lease.step
    both.at_hand[step] = ours
    reads.locked.clear()
    assert execute(both, step, goes_on=lambda: True) is not None
    assert reads.locked == [step.run_id]
    assert not sql(
        main,
        "SELECT FROM history h, call_result c WHERE h.kind = 'AttemptSucceeded' AND h.at < c.ended_at",
    )


def test_a_turn_that_cannot_be_taken_costs_no_report(
    main: Platform, both: Worker, followed: list[RunId], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = begun(main, both)
    run = ours.lease.step.run_id

    def failing(*_: object) -> None:
        raise RuntimeError("of its own making")

    with monkeypatch.context() as patched:
        patched.setattr(turns, "_tell", failing)
        heard = both.reporting.ask(ended(ours))
    assert (heard.accepted, heard.following, followed) == (True, None, [run])
    turns.take_turns(main, followed)
    assert [step.key for step in views.run(main, run).steps] == ["b#1"]


def test_what_fails_is_tried_again_as_its_node_says(main: Platform, both: Worker) -> None:
    document = chain(
        a={"uses": "noop", "retry": {"attempts": 2, "backoff": 60}}, b={"uses": "noop"}
    )
    ours = begun(main, both, document)
    heard = both.reporting.ask(ended(ours, Failed(reason="error", message="boom")))
    assert (heard.accepted, heard.following) == (True, None)
    (step,) = views.run(main, ours.lease.step.run_id).steps
    assert (step.status, step.attempt) == ("retrying", 2)


# --- what is ----------------------------------------------------------------------------------


def test_a_run_that_stands_as_it_was_left_is_not_read_again(
    main: Platform, both: Worker, reads: Reads
) -> None:
    ours = begun(main, both)
    run = ours.lease.step.run_id
    for n in range(3):
        reads.locked.clear()
        following = both.reporting.ask(ended(ours, n=n)).following
        assert reads.locked == []
        assert following is not None
        ours = taken(main, both, following.step)
    reads.locked.clear()
    assert both.reporting.ask(ended(ours, n=3)) == Heard(accepted=True)
    assert reads.locked == []
    detail = views.run(main, run)
    assert (detail.status, detail.variables) == ("completed", {"n": 3})
    found = kinds(main, run)
    assert found.count("AttemptSucceeded") == 4
    assert found[-1] == "FinishRun"


def test_runs_that_are_known_are_read_with_others_that_are_not(
    main: Platform, both: Worker, reads: Reads
) -> None:
    one, other = begun(main, both), begun(main, both)
    reads.locked.clear()
    heard = both._report([ended(one, n=1), replace(ended(other, n=2), stood=None)])
    assert reads.locked == [one.lease.step.run_id, other.lease.step.run_id]
    assert [each.following and each.following.step.run for each in heard] == [
        one.lease.step.run,
        other.lease.step.run,
    ]
    for each in heard:
        assert each.following is not None
        taken(main, both, each.following.step)


def test_of_runs_that_are_reported_together_one_that_moved_on_costs_the_others_nothing(
    main: Platform, both: Worker
) -> None:
    one, other = begun(main, both), begun(main, both)
    control.cancel(main, other.lease.step.run_id, by="ada")
    heard = both._report([ended(one), ended(other)])
    assert [each.accepted for each in heard] == [True, False]
    assert heard[0].following is not None
    taken(main, both, heard[0].following.step)
    assert heard[1].following is None


def test_of_runs_that_are_reported_together_one_ends_and_one_goes_on(
    main: Platform, both: Worker, reads: Reads
) -> None:
    one, other = begun(main, both), begun(main, both)
    for n in range(3):
        following = both.reporting.ask(ended(one, n=n)).following
        assert following is not None
        one = taken(main, both, following.step)
    reads.locked.clear()
    heard = both._report([ended(one, n=3), ended(other, n=0)])
    assert reads.locked == []
    assert [each.accepted for each in heard] == [True, True]
    assert status(main, one.lease.step.run_id) == "completed"
    assert heard[0].following is None
    assert heard[1].following is not None
    left = sql(main, "SELECT run_id::text, key, fence FROM step")
    assert [tuple(row) for row in left] == [(other.lease.step.run, heard[1].following.step.key, 1)]


def test_of_runs_that_are_reported_together_one_goes_on_and_one_is_tried_again(
    main: Platform, both: Worker, reads: Reads
) -> None:
    document = chain(
        a={"uses": "noop", "retry": {"attempts": 2, "backoff": 60}}, b={"uses": "noop"}
    )
    one, other = begun(main, both, document), begun(main, both, document)
    reads.locked.clear()
    failed = Failed(reason="error", message="boom")
    heard = both._report([ended(one, n=0), ended(other, failed)])
    assert reads.locked == []
    assert [each.accepted for each in heard] == [True, True]
    # Its fence stays what it was: the next lease must be known from the one that is over.
    left = sql(main, "SELECT run_id::text, node, attempt, fence FROM step")
    assert {tuple(row) for row in left} == {
        (one.lease.step.run, "b", 1, 1),
        (other.lease.step.run, "a", 2, 1),
    }


def test_a_step_that_is_followed_goes_with_its_report_in_one_message(
    main: Platform, both: Worker, sent: list[list[str]]
) -> None:
    ours = begun(main, both)
    sent.clear()
    heard = both.reporting.ask(ended(ours, n=0))
    assert sent == [
        [
            "BEGIN",
            "run_expect",
            "result_expect_settled",
            "history_append",
            "run_save",
            "step_save_untold",
            "COMMIT",
            "inbox_left",
        ]
    ]
    assert heard.following is not None
    taken(main, both, heard.following.step)


def test_who_lets_go_of_what_was_set_aside_says_so_before_it_locks_a_step(
    main: Platform, both: Worker, sent: list[list[str]]
) -> None:
    ours = begun(main, both, chain(a={"uses": "noop"}))
    sent.clear()
    both.reporting.ask(ended(ours, n=0))
    assert sent[0][:4] == ["BEGIN", "ledger_share", "run_expect", "result_expect"]
    assert status(main, ours.lease.step.run_id) == "completed"


def test_a_run_is_known_through_loops_reducers_and_what_rules_remember(
    main: Platform, both: Worker
) -> None:
    policies.apply(
        main,
        TENANT,
        '{"policy": "p", "rules": ["steps > 50 → warn",'
        ' {"no_progress": {"repeated_state": 3}, "action": "abort_lifetime"}]}',
        by="ada",
    )
    ours = begun(main, both, LAPS)
    run = ours.lease.step.run_id
    for n in range(1, 5):
        assert ours.stands is not None
        ours = goes_on(main, both, ours, n=n, words={"é": [n, 1.5, None]})
    assert ours.lease.node == "b"
    assert both.reporting.ask(ended(ours)).accepted
    assert status(main, run) == "completed"


def test_a_run_is_known_where_its_threads_have_joined_and_not_before(
    main: Platform, both: Worker
) -> None:
    ours = begun(main, both, FORKED)
    run = ours.lease.step.run_id
    assert ours.stands is not None
    branch = goes_on(main, both, ours)
    assert branch.stands is None
    (beside,) = [step.key for step in views.run(main, run).steps if step.status == "ready"]
    assert both.reporting.ask(ended(branch)).following is None
    lease = take(both.platform, run, beside, name=both.name)
    join = goes_on(main, both, Ours(lease=lease, since=0.0))
    assert join.lease.node == "d"
    assert join.stands is not None
    last = goes_on(main, both, join)
    both.reporting.ask(ended(last))
    assert status(main, run) == "completed"


def test_a_long_run_keeps_snapshots_of_what_is_known(main: Platform, both: Worker) -> None:
    document = {
        "workflow": "long",
        "nodes": {"a": {"uses": "noop", "max_iterations": 99}},
        "edges": [{"from": "a", "to": "a", "when": "$n < 5", "label": "loop"}, "a -> end"],
    }
    ours = begun(main, both, document)
    for n in range(1, 5):
        ours = goes_on(main, both, ours, n=n, text=f"{n}" * turns.SNAPSHOT_BYTES)
    run = ours.lease.step.run_id
    (snapshots,) = sql(
        main, "SELECT count(*) FROM checkpoint WHERE run_id = CAST(:run AS uuid)", run=run.run
    )
    assert snapshots[0] > 0
    assert doctor.examine(main.database) == ()


def test_a_thread_among_others_goes_on_with_what_it_wrote(main: Platform, both: Worker) -> None:
    branch = goes_on(main, both, begun(main, both, APART), v=1)
    last = goes_on(main, both, branch, w=2)
    assert (last.lease.node, last.stands) == ("d", None)
    assert last.lease.variables.kept == {"v": 1, "w": 2}


def test_a_run_that_is_to_move_to_another_version_goes_on_under_that(
    main: Platform, both: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(main, "other")
    ours = begun(main, both)
    newer = publish(main, {**LONG, "nodes": {**LONG["nodes"], "b": {"uses": "other"}}})
    # Its turn is the one that hears the report, too.
    monkeypatch.setattr(migrations.turns, "take_turns", lambda *_, **__: 0)
    monkeypatch.setattr(migrations, "_PATIENCE", 0)
    (version,) = sql(
        main, "SELECT version FROM workflow_version WHERE id = CAST(:id AS uuid)", id=newer
    )
    migrations.migrate(main, ours.lease.step.run_id, version.version, by="ada")
    following = goes_on(main, both, ours)
    assert following.lease.graph.node(NodeId("b")).uses == "other"
    assert following.stands is None


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded(own={"cost_usd": 1.0}, usage={"cost_usd": 1.0}),
        Failed(reason="lost", message="its worker stopped"),
        Succeeded(patch={"x": plain(Ref(sha256="0" * 64, size=2_000_000))}),
    ],
)
def test_what_more_follows_from_than_a_turn_is_not_done_so(
    both: Worker, main: Platform, outcome: Outcome
) -> None:
    """Charges, and references to what is kept elsewhere."""
    one = ended(begun(main, both), outcome)
    assert _stood([one]) == {}
    assert _stood([ended(begun(main, both))])


def test_what_is_taken_as_new_must_be_new(main: Platform, both: Worker, settings: Settings) -> None:
    ours = begun(main, both)
    assert ours.stands is not None
    (step,) = ours.stands.state.steps.values()
    row = states.step_row(ours.lease.step.run_id, step)
    as_owner(
        settings,
        "UPDATE step SET status = 'retrying', wake_at = now(), worker = NULL, lease_until = NULL,"
        " begun = false",
    )
    with (
        pytest.raises(session.MovedOn, match="1 of 1 steps"),
        session.transaction(main.database) as connection,
    ):
        steps.save(
            connection,
            [row],
            resend_after=5,
            taking=steps.Taking(steps=[row.step], worker="w2", seconds=30),
            # Of which nothing is looked at.
            known={row.step: cast("Any", None)},
        )
    as_owner(
        settings,
        "UPDATE step SET status = 'leased', wake_at = NULL, worker = 'w1', begun = true,"
        " lease_until = now() + interval '1 minute'",
    )


def test_of_two_answers_the_one_that_was_under_way_for_less_tells_the_time() -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    quick = Clock(then, 100.0)
    for late in (Clock(then + timedelta(seconds=3), 103.5), Clock(then, 100.1)):
        assert quick.better(late) is late.better(quick) is quick


def test_what_is_counted_is_read_again(main: Platform, both: Worker) -> None:
    """Something is set aside for it, of which only the database knows."""
    policies.apply(
        main,
        TENANT,
        '{"policy": "p", "budgets": [{"name": "b", "metric": "steps", "limit": 9, "scope": "run"}]}',
        by="ada",
    )
    ours = begun(main, both)
    assert ours.stands is None
    assert ours.lease.reserved
    assert goes_on(main, both, ours).lease.reserved
