"""Policies and versions of workflows, held against what has happened."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.errors import Invalid, NotFound
from engine.guardrails import document
from engine.guardrails import governance as rules
from engine.guardrails.governance import Active
from engine.guardrails.spending import Asking as Wanting
from engine.guardrails.spending import Execution, Spending, Whom
from engine.platform import DatabaseRole, Platform
from engine.runs import (
    answers,
    backtests,
    budgets,
    calls,
    control,
    ledgers,
    policies,
    shredding,
    turns,
    waits,
)
from engine.runs.attempts import Failed, Outcome, Succeeded, Suspended
from engine.runs.backtests import Filter, Judged, Led, PolicyBacktest, VersionBacktest
from engine.runs.budgets import Asking, Charged
from engine.runs.waits import Filter as Open
from engine.settings import Settings
from engine.store import ledger, session, tables
from engine.store.ids import RunId, StepId
from engine.store.ledger import Unopened
from tests.support import platforms
from tests.support.platforms import (
    TENANT,
    Sent,
    as_owner,
    publish,
    register,
    seen_by_owner,
    sql,
    submit,
    take,
)

ALL = Filter()
FIRST = "0190ffff-0000-7000-8000-000000000000"


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    with platforms.platform(settings) as built:
        yield replace(built, broker=Sent(app=built.broker.app))


@pytest.fixture
def worker(settings: Settings, main: Platform) -> Iterator[Platform]:
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        yield replace(built, broker=Sent(app=built.broker.app))


def line(*names: str, **more: Json) -> dict[str, Any]:
    """Nodes that follow each other, each estimated at a dollar."""
    nodes = {name: {"uses": "noop", "estimate": {"cost_usd": 1}} for name in names}
    return {"workflow": "line", "nodes": nodes, "edges": [" -> ".join((*names, "end"))], **more}


def cost(dollars: float, result: Json = None, **patch: Json) -> Succeeded:
    used = {"cost_usd": dollars}
    return Succeeded(result=result, patch=patch, usage=used, own=used)


def do(main: Platform, worker: Platform, run: RunId, **outcomes: Outcome) -> None:
    """Carry steps out, each with its outcome, and take the turns that follow."""
    for node, outcome in outcomes.items():
        lease = take(worker, run, f"{node}#1")
        assert platforms.finish(main, worker, lease, outcome)


def held(main: Platform, text: str, which: Filter = ALL, **options: Any) -> PolicyBacktest:
    return backtests.of_policy(main, TENANT, text, which, **options)


def led(main: Platform, which: Filter = ALL, version: str | None = None) -> VersionBacktest:
    return backtests.of_version(main, TENANT, "line", version, which)


def block(run: Judged) -> tuple[Any, ...]:
    told = run.block
    assert isinstance(told, dict)
    names = ("moment", "step", "recorded", "would", "rule", "observed", "limit")
    return tuple(told.get(name) for name in names)


def digests(main: Platform) -> dict[str, Any]:
    """A digest of every row there is."""
    return {
        table.name: tuple(
            seen_by_owner(
                main.settings,
                "SELECT count(*), md5(string_agg(to_jsonb(t)::text, ',' ORDER BY to_jsonb(t)::text))"
                f" FROM {table.name} t",
            )[0]
        )
        for table in tables.metadata.sorted_tables
    }


# --- what goes wrong --------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_and_says_where(main: Platform) -> None:
    register(main, "noop")
    publish(main, line("a"))
    with pytest.raises(Invalid) as caught:
        held(main, "policy: p\nrules: [steps > 1 → warn]\nrulez: 1")
    (problem,) = caught.value.problems
    assert (problem.path, "(line 3, column 8)" in problem.message) == ("rulez", True)
    text = "policy: p\nrules: [steps > 1 → warn]"
    with pytest.raises(NotFound, match="Workflow not found: lin"):
        held(main, text, Filter(workflow="lin"))
    with pytest.raises(NotFound, match="Workflow not found: line@9"):
        led(main, version="9")
    with pytest.raises(NotFound, match=f"Run not found: {FIRST}"):
        held(main, text, Filter(ids=(FIRST,)))
    with pytest.raises(NotFound, match=f"Run not found: {FIRST}"):
        led(main, Filter(ids=(FIRST,)))


def test_where_there_are_no_runs_nothing_would_be_blocked(main: Platform) -> None:
    register(main, "noop")
    publish(main, line("a"))
    found = held(main, "policy: p\nrules: [steps > 0 → abort_lifetime]")
    assert (found.runs, found.extent.runs, found.extent.truncated) == ((), 0, False)
    assert (found.totals.blocked, found.totals.cost_usd, found.totals.saved_usd) == (0, 0, 0)
    assert (led(main).runs, led(main).totals.same) == ((), 0)


def test_runs_of_another_tenant_are_not_there(
    main: Platform, worker: Platform, settings: Settings
) -> None:
    register(main, "noop")
    run = submit(main, publish(main, line("a")))
    as_owner(settings, "INSERT INTO tenant (id, name) VALUES ('other', 'Other')")
    text = "policy: p\nrules: [steps > 1 → warn]"
    with pytest.raises(NotFound, match="Run not found"):
        backtests.of_policy(main, "other", text, Filter(ids=(run.run,)))
    with pytest.raises(NotFound, match="Workflow not found"):
        backtests.of_version(main, "other", "line", None, Filter(ids=(run.run,)))
    assert backtests.of_policy(main, "other", text, ALL).runs == ()


def test_what_is_too_much_is_cut_off_and_said(main: Platform, monkeypatch: Any) -> None:
    register(main, "noop")
    version = publish(main, line("a"))
    runs = [submit(main, version).run for _ in range(3)]
    text = "policy: p\nrules: [steps > 1 → warn]"
    found = held(main, text, Filter(limit=2))
    assert [run.run for run in found.runs] == [runs[2], runs[1]]
    assert (found.extent.truncated, found.extent.because) == (True, "runs")
    found = held(main, text, seconds=-1)
    assert (found.runs, found.extent.truncated, found.extent.because) == ((), True, "time")
    late = backtests.of_version(main, TENANT, "line", None, ALL, seconds=-1)
    assert (late.runs, late.extent.because) == ((), "time")
    monkeypatch.setattr(backtests, "MAX_LINES", 5)
    found = held(main, text)
    assert ([run.run for run in found.runs], found.extent.because) == ([runs[2]], "size")


def test_nothing_is_written_and_nothing_carried_out(main: Platform, worker: Platform) -> None:
    register(main, "noop")
    run = submit(main, publish(main, line("a", "b")))
    do(main, worker, run, a=cost(1), b=cost(1))
    publish(main, line("a", "c"))
    before = digests(main)
    assert before["history"][0] > 0
    sent = [*main.broker.hints]  # type: ignore[attr-defined]
    text = "policy: p\nrules: [sum(cost_usd) > 1 → abort_lifetime]\nbudgets: [{scope: user, window: day, metric: cost_usd, limit: 1}]"
    assert held(main, text, beside=True).totals.blocked == 1
    assert led(main).totals.different == 1
    assert digests(main) == before
    assert main.broker.hints == sent  # type: ignore[attr-defined]


# --- policies ---------------------------------------------------------------------------------


def test_a_rule_would_have_ended_a_run_and_saved_what_came_after(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    version = publish(main, line("a", "b", "c"))
    dear, cheap = submit(main, version), submit(main, version)
    do(main, worker, dear, a=cost(0.7), b=cost(0.4), c=cost(0.123456789))
    do(main, worker, cheap, a=cost(0.1), b=cost(0.1), c=cost(0.1))
    text = "policy: p\nrules: ['sum(cost_usd) > 1 → abort_lifetime', 'sum(cost_usd) > 0.6 → warn']"
    found = held(main, text)
    second, first = found.runs
    assert (second.run, second.would, second.block, second.saved_usd) == (
        *(cheap.run, "passed", None, 0),
    )
    assert (second.moments, second.cost_usd, second.unknown) == (6, Decimal("0.3"), ())
    assert block(first) == (
        *("report", "b#1", "passed", "aborted", "sum(cost_usd) > 1 → abort_lifetime", 1.1, 1),
    )
    assert (first.was, first.would, first.moments) == ("passed", "aborted", 4)
    assert (first.saved_usd, first.cost_usd) == (Decimal("0.123456789"), Decimal("1.223456789"))
    totals = found.totals
    assert (totals.blocked, totals.blocked_by, totals.diverged) == (1, {"aborted": 1}, 1)
    assert (totals.saved_usd, totals.cost_usd) == (Decimal("0.123456789"), Decimal("1.523456789"))
    # It warns when a has reported, and when b is about to start and has.
    assert totals.fired == {
        "p:sum(cost_usd) > 1 → abort_lifetime": 1,
        "p:sum(cost_usd) > 0.6 → warn": 3,
    }
    # A policy that only looks on is judged as if it were enforced, and that is said.
    looking = held(main, text + "\nenforce: false")
    assert (looking.totals.blocked, "as if it were" in looking.notes[-1]) == (1, True)


def test_budgets_add_up_over_the_runs_in_the_order_of_time(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    version = publish(main, line("a", "b"))
    one, two = submit(main, version), submit(main, version)
    do(main, worker, one, a=cost(1))
    do(main, worker, two, a=cost(1))
    do(main, worker, one, b=cost(0.25))
    do(main, worker, two, b=cost(0.5))
    text = "policy: p\nbudgets: [{name: hourly, scope: user, window: %s, metric: cost_usd, limit: %s, on_shortfall: %s}]"
    # Both first steps are set aside and spent; b of the first has room, that of the second has not.
    found = held(main, text % ("hour", 3, "deny"))
    second, first = found.runs
    assert first.block is None
    assert block(second) == ("start", "b#1", "passed", "rejected", "hourly", 4, 3)
    assert (second.saved_usd, found.totals.fired) == (Decimal("0.5"), {"p:hourly": 1})
    paused = held(main, text % ("day", 3, "pause"))
    assert (paused.totals.blocked_by, paused.runs[0].would) == ({"paused": 1}, "paused")
    asked = held(main, text % ("hour", 3, "ask"))
    assert (asked.totals.blocked, asked.totals.more, asked.runs[0].would_ask) == (0, 1, 1)
    assert held(main, text % ("hour", 4, "deny")).totals.diverged == 0
    # Of a run alone there is always room.
    assert held(main, text % ("hour", 3, "deny"), Filter(ids=(two.run,))).totals.blocked == 0
    # One execution may not ask for more than it may have.
    single = "policy: p\nbudgets: [{name: each, scope: execution, metric: cost_usd, limit: 0.5}]"
    assert held(main, single).totals.blocked_by == {"rejected": 2}


def test_whoever_runs_are_of_and_when_is_chosen(main: Platform, worker: Platform) -> None:
    register(main, "noop")
    version = publish(main, line("a"))
    done, live = submit(main, version), submit(main, version)
    do(main, worker, done, a=cost(1))
    text = "policy: p\nrules: [sum(cost_usd) > 0 → abort_lifetime]"

    def chosen(**which: Any) -> list[str]:
        return [run.run for run in held(main, text, Filter(**which)).runs]

    now = datetime.now(UTC)
    assert chosen() == [live.run, done.run]
    assert chosen(statuses=(RunStatus.COMPLETED,)) == [done.run]
    assert chosen(workflow="line", user="ada") == [live.run, done.run]
    assert chosen(user="eve") == chosen(since=now + timedelta(hours=1)) == []
    assert chosen(until=now - timedelta(hours=1)) == []
    assert chosen(ids=(live.run,)) == [live.run]


def test_approvals_are_counted_against_those_that_there_were(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    version = publish(main, line("a", "b"))
    asking = "policy: four\nrules: [{name: ask, when: $node == 'b', at: [start], action: require_approval}]"
    policies.apply(main, TENANT, asking, by="ada")
    run = submit(main, version)
    do(main, worker, run, a=cost(1))
    answered(main, run, "b#1")
    do(main, worker, run, b=cost(1))
    assert platforms.status(main, run) == "completed"
    # What was asked would be asked: nothing else follows.
    same = held(main, asking)
    assert (same.totals.diverged, same.totals.asked, same.totals.would_ask) == (0, 1, 1)
    fewer = held(main, "policy: p\nrules: [steps > 100 → warn]")
    assert (fewer.totals.fewer, fewer.totals.more, fewer.totals.diverged) == (1, 0, 1)
    assert fewer.runs[0].first is not None
    assert fewer.runs[0].unknown == ()
    more = held(main, asking.replace("$node == 'b'", "$node != 'c'"))
    assert (more.totals.more, more.totals.would_ask, more.totals.blocked) == (1, 2, 0)
    # Beside what is in force, that asks as well.
    beside = held(main, "policy: p\nrules: [steps > 100 → warn]", beside=True)
    assert (beside.totals.fewer, beside.totals.diverged) == (0, 0)


def test_what_people_did_not_allow_or_a_policy_stopped_is_not_made_up(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    version = publish(main, line("a", "b"))
    rule = "policy: no\nrules: [{name: stop, when: $node == 'b', at: [start], action: %s}]"
    policies.apply(main, TENANT, rule % "deny", by="ada")
    stopped = submit(main, version)
    do(main, worker, stopped, a=cost(1))
    policies.apply(main, TENANT, rule % "require_approval", by="ada")
    denied = submit(main, version)
    do(main, worker, denied, a=cost(1))
    answered(main, denied, "b#1", choice="deny")
    assert {platforms.status(main, run) for run in (stopped, denied)} == {"failed"}
    found = held(main, "policy: p\nrules: [steps > 100 → warn]")
    two, one = found.runs
    assert (one.was, one.would, two.was, two.would) == ("rejected", "passed", "passed", "passed")
    assert one.unknown == (
        "start of b#1 was rejected, and would have passed; what would have followed was never recorded",
    )
    assert two.unknown == (one.unknown[0].replace("rejected", "not allowed by people"),)
    assert (found.totals.were_blocked, found.totals.freed, found.totals.unknown) == (1, 1, 2)
    # What stops the same at the same place is no news.
    assert held(main, rule % "deny", Filter(ids=(stopped.run,))).totals.diverged == 0


def test_a_policy_that_was_in_force_parts_from_nothing(main: Platform, worker: Platform) -> None:
    """What it did then it would do again: rules and budgets, over runs that share what they spend."""
    register(main, "noop")
    version = publish(main, line("a", "b"))
    text = """
policy: p
rules:
  - {name: large, when: '$result.size > 5', at: [report], action: require_approval}
  - {name: dear, metric: cost_usd, op: '>=', value: 1.5, action: abort, scope: run}
budgets:
  - {name: hourly, scope: user, window: hour, metric: cost_usd, limit: 5}
  - {name: steps, scope: tenant, metric: steps, limit: 6, on_shortfall: ask}
"""
    policies.apply(main, TENANT, text, by="ada")
    runs = [submit(main, version) for _ in range(4)]
    do(main, worker, runs[0], a=cost(0.5, {"size": 9}))
    answered(main, runs[0], "a#1")
    do(main, worker, runs[1], a=cost(0.5, {"size": 9}))
    answered(main, runs[1], "a#1", choice="deny")
    do(main, worker, runs[0], b=cost(1.25))
    for run in runs[2:]:
        do(main, worker, run, a=cost(0.25, {"size": 1}))
    asked = [run for run in runs if "b#1" in asks(main, run)]
    for run in asked:
        answered(main, run, "b#1")
    for run in runs[2:]:
        if platforms.status(main, run) == "running":
            do(main, worker, run, b=cost(0.5))
    ended = Counter(platforms.status(main, run) for run in runs)
    assert ended["failed"] >= 2, ended
    found = held(main, text)
    told = [(run.first, run.unknown) for run in found.runs]
    assert found.totals.diverged == 0, told
    assert found.totals.asked == found.totals.would_ask >= 2
    assert found.totals.were_blocked >= 1
    assert [run.was for run in found.runs] == [run.would for run in found.runs]


def test_who_is_asked_one_after_the_other_would_be_asked_so(
    main: Platform, worker: Platform
) -> None:
    """Of a start, of a call and of a report: two rules that ask others, and budgets and tools."""
    register(main, "noop")
    source = "def mail(to):\n    return to"
    register(main, "mail", source, namespace="tool", requires_approval=True)
    rule = "  - {name: %s, when: '%s', at: [%s], action: require_approval, from: ['user:%s']}\n"
    start, report = '$node == "a"', "$result == 9"
    text = "policy: p\nrules:\n" + "".join(
        rule % (f"{at}{who}", when, at, who)
        for at, when in (("start", start), ("report", report))
        for who in ("bob", "eve")
    )
    text += "  - {name: call, tool: mail, action: require_approval, from: ['user:bob']}\n"
    text += "  - {name: often, when: '$result == 9', action: warn}\n"
    text += "budgets:\n  - {name: cost, scope: run, metric: cost_usd, limit: 10, ask_above: 0.05}\n"
    policies.apply(main, TENANT, text, by="ada")
    graph = line("a", "b")
    graph["nodes"]["a"] |= {"compensate": {"uses": "noop"}, "with": {"x": "$n"}}
    version = publish(main, {**graph, "variables": {"n": {"default": 1}}})

    def ask(run: RunId, *people: str, last: str = "approve") -> None:
        for place, by in enumerate(people, start=1):
            choice = last if place == len(people) else "approve"
            answered(main, run, "a#1", choice=choice, by=by)

    done, denied, undone = (submit(main, version) for _ in range(3))
    for run in (done, denied, undone):
        ask(run, "bob", "eve", "bob")
    for by in ("bob", "eve"):
        lease = take(worker, done, "a#1")
        said = calls.authorise(worker, lease, 1, "mail", {"args": ["x"], "kwargs": {}})
        assert isinstance(said, Suspended)
        platforms.finish(main, worker, lease, said)
        answered(main, done, "a#1", by=by)
    lease = take(worker, done, "a#1")
    call = calls.authorise(worker, lease, 1, "mail", {"args": ["x"], "kwargs": {}})
    assert isinstance(call, calls.Authorised)
    calls.settle(worker, lease, call, calls.Answer(value=None))
    platforms.finish(main, worker, lease, cost(0.25, 9))
    for run in (denied, undone):
        do(main, worker, run, a=cost(0.25, 9))
    ask(done, "bob", "eve")
    ask(denied, "bob", "eve", last="deny")
    answered(main, done, "b#1")
    do(main, worker, done, b=cost(0.5))
    assert platforms.status(main, done) == "completed"
    control.cancel(main, undone, by="ada", compensate=True)
    turns.take_turns(main, [undone])
    for run in (denied, undone):
        # What was withheld was done, whatever people say of it.
        do(main, worker, run, **{"undo a": cost(0.125)})
    assert [platforms.status(main, run) for run in (denied, undone)] == ["failed", "cancelled"]
    found = held(main, text)
    assert [(run.first, run.unknown) for run in found.runs] == [(None, ())] * 3
    # Of the first: three of its start, two of its call and its report, one of the next.
    assert [run.asked for run in found.runs] == [4, 5, 8]
    assert [run.would_ask for run in found.runs] == [4, 5, 8]
    # What nobody would have been asked about is looked at once, however often it was asked for.
    once = held(main, "policy: p\nrules: [{name: often, when: '$result == 9', action: warn}]")
    assert [run.warnings for run in once.runs] == [1, 1, 1]
    # The tool itself wants its call allowed, whatever policies say.
    assert (once.totals.would_ask, once.totals.cost_usd) == (1, Decimal("1.5"))
    assert "not allowed by people" in once.runs[1].unknown[0]
    assert [(run.outcome, run.first, run.would_end) for run in led(main).runs] == [
        ("same", None, "cancelled"),
        ("same", None, "failed"),
        ("same", None, "completed"),
    ]


def test_what_undoes_passes_budgets_and_what_is_tried_again_is_asked_again(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    text = """
policy: p
rules: [{name: ask, when: "$node == 'b'", at: [start], action: require_approval}]
budgets: [{name: low, scope: run, metric: cost_usd, limit: 3}, {name: steps, scope: run, metric: steps, limit: 2}]
"""
    policies.apply(main, TENANT, text, by="ada")
    graph = line("a", "b", "c")
    graph["nodes"]["a"] |= {"compensate": {"uses": "noop"}}
    graph["nodes"]["b"] |= {"retry": {"attempts": 2, "backoff": 0}}
    run = submit(main, publish(main, graph))
    used = {"cost_usd": 0.5}
    do(main, worker, run, a=cost(1.5))
    answered(main, run, "b#1")
    do(main, worker, run, b=Failed(reason="error", message="no", usage=used, own=used))
    # Who allowed it to start has allowed that once.
    answered(main, run, "b#1")
    do(main, worker, run, b=cost(0.75))
    # There is no room for c; what was done is undone all the same.
    do(main, worker, run, **{"undo a": cost(0)})
    assert platforms.status(main, run) == "failed"
    (found,) = held(main, text).runs
    assert (found.first, found.unknown, found.was, found.would) == (
        *(None, (), "rejected", "rejected"),
    )
    assert (found.asked, found.would_ask, found.cost_usd) == (2, 2, Decimal("2.75"))
    (same,) = led(main).runs
    assert (same.outcome, same.first, same.unknown) == ("same", None, ())


def test_questions_that_there_were_not_are_all_counted(main: Platform, worker: Platform) -> None:
    register(main, "noop")
    run = submit(main, publish(main, line("a")))
    do(main, worker, run, a=cost(1, 9))
    rule = "  - {name: %s, when: '$node == \"a\"', at: [%s], action: require_approval, from: ['user:%s']}\n"
    text = "policy: p\nrules:\n" + "".join(
        rule % (f"{at}{who}", at, who) for at in ("start", "report") for who in ("bob", "eve")
    )
    budgets = "budgets:\n  - {name: cost, scope: run, metric: cost_usd, limit: 2, ask_above: 0.1}\n"
    (found,) = held(main, text + budgets).runs
    assert (found.asked, found.would_ask, found.would, found.block) == (0, 5, "passed", None)


def asks(main: Platform, run: RunId) -> list[str]:
    statement = "SELECT step FROM wait WHERE run_id = CAST(:run AS uuid)"
    return [row.step for row in sql(main, statement, run=run.run)]


def test_what_is_used_beyond_what_was_set_aside_is_said(main: Platform, worker: Platform) -> None:
    register(main, "noop")
    run = submit(main, publish(main, line("a")))
    do(main, worker, run, a=cost(3))
    text = "policy: p\nbudgets: [{name: low, scope: run, metric: cost_usd, limit: 2}]"
    (found,) = held(main, text).runs
    assert (found.would, found.unknown) == (
        "passed",
        (
            (
                "step a#1 used more than is set aside for it and passed p:low; whether it would have been "
                "stopped before its end, its record does not tell"
            ),
        ),
    )


def test_what_paused_a_run_and_was_let_pass_does_not_again(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    version = publish(main, line("a", "b"))
    pausing = "policy: p\nrules: [sum(cost_usd) >= 1 → pause_lifetime]"
    policies.apply(main, TENANT, pausing, by="ada")
    run = submit(main, version)
    do(main, worker, run, a=cost(1))
    assert platforms.status(main, run) == "paused"
    control.resume(main, run, by="ada", reason="")
    turns.take_turns(main, [run])
    do(main, worker, run, b=cost(0))
    assert platforms.status(main, run) == "completed"
    (same,) = held(main, pausing).runs
    assert (same.was, same.would, same.first) == ("paused", "paused", None)
    (freed,) = held(main, pausing.replace(">= 1", ">= 2")).runs
    # It was paused for nothing, and what followed is what followed.
    assert (freed.would, freed.block, freed.unknown, freed.moments) == ("passed", None, (), 4)


def test_calls_are_judged_with_their_arguments_and_results(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    register(main, "mail", "def mail(to):\n    return to", namespace="tool")
    run = submit(main, publish(main, line("a", "b")))
    lease = take(worker, run, "a#1")
    for ordinal, to in enumerate(("x@y.z", "x@y.z", "eve@evil.example"), start=1):
        call = calls.authorise(worker, lease, ordinal, "mail", {"args": [], "kwargs": {"to": to}})
        assert isinstance(call, calls.Authorised)
        calls.settle(
            worker, lease, call, calls.Answer(value=f"sent to {to}", usage={"cost_usd": 0.1})
        )
    used = {"cost_usd": 0.5}
    platforms.finish(main, worker, lease, Succeeded(usage={"cost_usd": 0.8}, own=used))
    do(main, worker, run, b=cost(1))
    rule = "policy: p\nrules: [{name: r, %s}]"
    (by_argument,) = held(
        main, rule % "tool: mail, arguments: {path: to, regex: evil}, action: deny"
    ).runs
    assert block(by_argument)[:4] == ("call", "a#1", "passed", "rejected")
    # The call and the step after it, not what the step itself has used that had begun.
    assert (by_argument.saved_usd, by_argument.cost_usd) == (Decimal("1.1"), Decimal("1.8"))
    (by_result,) = held(
        main,
        rule % "content: {matches: 'sent to x', in: [result]}, at: [call_report], action: abort",
    ).runs
    assert (block(by_result)[:4], by_result.saved_usd) == (
        ("call_report", "a#1", "passed", "aborted"),
        Decimal("1.2"),
    )
    (repeated,) = held(main, rule % "no_progress: {same_call: 2}, action: abort").runs
    assert block(repeated)[5:] == (2, 2)
    asked = held(main, rule % "tool: mail, action: require_approval").totals
    assert (asked.more, asked.blocked, asked.fired) == (3, 0, {"p:r": 3})
    counted = "policy: p\nbudgets: [{name: few, scope: run, metric: calls, limit: 2}]"
    assert block(held(main, counted).runs[0]) == (
        *("call", "a#1", "passed", "rejected", "few", 3, 2),
    )


def test_a_call_that_people_were_asked_about_is_known_by_the_question(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    register(main, "mail", "def mail(to):\n    return to", namespace="tool")
    asking = "policy: ask\nrules: [{name: r, tool: mail, action: require_approval}]"
    policies.apply(main, TENANT, asking, by="ada")
    version = publish(main, line("a"))
    allowed, denied = submit(main, version), submit(main, version)
    for run, choice in ((allowed, "approve"), (denied, "deny")):
        lease = take(worker, run, "a#1")
        said = calls.authorise(worker, lease, 1, "mail", {"args": ["x"], "kwargs": {}})
        assert isinstance(said, Suspended)
        platforms.finish(main, worker, lease, said)
        answered(main, run, "a#1", choice=choice)
    lease = take(worker, allowed, "a#1")
    call = calls.authorise(worker, lease, 1, "mail", {"args": ["x"], "kwargs": {}})
    assert isinstance(call, calls.Authorised)
    calls.settle(worker, lease, call, calls.Answer(value=None))
    platforms.finish(main, worker, lease, cost(1))
    assert held(main, asking).totals.diverged == 0
    assert held(main, asking).totals.would_ask == 2
    two, one = held(main, "policy: p\nrules: [steps > 100 → warn]").runs
    assert (one.asked, one.would_ask, one.unknown) == (1, 0, ())
    assert two.unknown == (
        (
            "call of mail was not allowed by people, and would have passed; what would have followed "
            "was never recorded"
        ),
    )


@pytest.mark.parametrize("shredded", [True, False])
def test_what_a_rule_would_look_at_and_is_gone_is_not_guessed(
    *, main: Platform, worker: Platform, settings: Settings, shredded: bool
) -> None:
    register(main, "noop")
    run = submit(main, publish(main, line("a")))
    do(main, worker, run, a=cost(1, result="secret"))
    text = "policy: p\nrules: [{name: r, content: {matches: secret, in: [result]}, action: abort}]"
    assert held(main, text).runs[0].would == "aborted"
    if shredded:
        assert shredding.shred(main, run, by="ada", why="asked to")
    else:
        as_owner(settings, "DELETE FROM payload WHERE id = 'a#1/1'")
    (found,) = held(main, text).runs
    assert (found.would, found.unknown[-1]) == ("passed", "what step a#1 reported is shredded")
    (version,) = led(main).runs
    assert (version.outcome, version.saved_usd) == ("unknown", 0)
    assert "shredded" in version.unknown[0]


def test_inputs_and_laps_are_those_of_that_time(main: Platform, worker: Platform) -> None:
    register(main, "noop")
    graph = line("a", "b", variables={"n": {"default": 1}})
    graph["nodes"]["b"]["with"] = {"given": "$n"}
    run = submit(main, publish(main, graph), n=5)
    do(main, worker, run, a=cost(0.1, n=7), b=cost(1))
    rule = "policy: p\nrules: [{name: r, when: '$inputs.given == %d', at: [start], action: deny}]"
    assert block(held(main, rule % 7).runs[0])[:2] == ("start", "b#1")
    assert held(main, rule % 5).totals.blocked == 0
    # Of a, which takes no inputs of its own, they are all variables.
    assert block(held(main, rule.replace(".given", ".n") % 5).runs[0])[:2] == ("start", "a#1")
    grown = "policy: p\nrules: ['max(cost_usd) > 0.5 → abort_lifetime', 'seconds > 9999 → warn']"
    assert block(held(main, grown).runs[0])[:2] == ("report", "b#1")


def test_budgets_in_memory_are_those_of_the_ledger(main: Platform) -> None:
    """Whatever is asked and charged, both say the same of every request."""
    register(main, "noop")
    version = publish(main, line("a"))
    runs = [submit(main, version) for _ in range(3)]
    text = """
policy: p
budgets:
  - {name: each, scope: execution, metric: cost_usd, limit: 4}
  - {name: run, scope: run, metric: cost_usd, limit: 8, on_shortfall: pause}
  - {name: user, scope: user, window: hour, metric: cost_usd, limit: 20}
  - {name: tighter, scope: user, window: hour, metric: cost_usd, limit: 18, ask_above: 0.5}
  - {name: tokens, scope: tenant, window: day, metric: tokens_used, limit: 60, on_shortfall: ask}
  - {name: steps, scope: workflow, metric: steps, limit: 24}
"""
    governance = rules.govern(1, [Active(policy=document.read(text), version=1)])
    drawn = random.Random(7)
    kept = Spending()
    at = datetime.now(UTC)
    said: set[str] = set()
    for number in range(1, 60):
        run = drawn.choice(runs)
        amounts = {
            "cost_usd": Decimal(drawn.choice(["0", "0.5", "2", "3.5", "5"])),
            "steps": Decimal(1),
        }
        if drawn.random() < 0.5:
            amounts["tokens_used"] = Decimal(drawn.randrange(30))
        allowed = frozenset(
            drawn.sample(["p:user", "p:tokens", "p:run", "p:tighter:mark"], drawn.randrange(3))
        )
        before = {"cost_usd": Decimal(drawn.choice(["0", "0", "2"]))}
        undoes = drawn.random() < 0.1
        known = drawn.random() < 0.5
        whom = Whom(run=run.run, root=run.run, workflow="line", user="ada", tenant=TENANT)
        step = f"s#{number}"
        execution = Execution(run.run, step, 1, 0)
        mine = kept.reserve(
            Wanting(
                whom=whom,
                execution=execution,
                at=at,
                amounts=amounts,
                before=before,
                known=known,
                allowed=allowed,
                unasked=undoes,
                exceed=undoes,
            ),
            governance.budgets("line", "ada"),
        )
        asking = Asking(
            step=StepId(*run, step),
            attempt=1,
            ordinal=0,
            node="s",
            at=at,
            amounts=amounts,
            before=before,
            known=known,
            allowed=allowed,
            unasked=undoes,
            exceed=undoes,
        )
        theirs = reserved(main, governance, run, asking)
        assert (None if mine is None else (mine.verdict.id, mine.then)) == (
            None if theirs is None else (theirs.id, theirs.then)
        ), (number, mine, theirs)
        if mine is not None and theirs is not None:
            assert (mine.verdict.observed, mine.verdict.limit) == (
                theirs.verdict.observed,
                theirs.verdict.limit,
            )
            said.add(f"{mine.verdict.rule} {mine.then}")
            continue
        used = {"cost_usd": drawn.choice([0.25, 1, 2.5]), "steps": 1.0}
        if drawn.random() < 0.7:
            kept.settle(whom, execution, {k: Decimal(str(v)) for k, v in used.items()}, at)
            with session.transaction(main.database) as connection:
                ledger.settle(connection, StepId(*run, step), 1, 0, used=used)
    assert len(said) >= 5, said


def reserved(main: Platform, governance: Any, run: RunId, asking: Asking) -> Any:
    charged = Charged(run=run, root=run.run, workflow="line", user="ada")
    while True:
        try:
            with session.transaction(main.database) as connection:
                return budgets.reserve(connection, governance, charged, asking)
        except Unopened as unopened:
            ledgers.open_accounts(main, unopened)


def answered(
    main: Platform, run: RunId, key: str, choice: str = "approve", by: str = "bob"
) -> None:
    """People say what becomes of a step that waits for them."""
    (asked,) = waits.page(main, TENANT, which=Open(run=run.run))
    answers.answer(main, run, key, by=by, choice=choice, digest=asked.digest)
    turns.take_turns(main, [run])


# --- versions ---------------------------------------------------------------------------------


def once(run: Led) -> tuple[str | None, str | None, Any, Any]:
    first = run.first
    assert isinstance(first, dict)
    return first["kind"], first["step"], first["recorded"], first["would"]  # type: ignore[return-value]


FORK: dict[str, Any] = {
    "workflow": "line",
    "variables": {"score": {"default": 0}},
    "nodes": {
        "a": {"uses": "noop", "save": {"score": "$result"}},
        "good": {"uses": "noop"},
        "bad": {"uses": "noop"},
    },
    "edges": [
        {"from": "a", "to": "good", "when": "$score > 5"},
        "a -> bad",
        "good -> end",
        "bad -> good",
    ],
}


def forked(when: str, **nodes: Json) -> dict[str, Any]:
    first, *others = FORK["edges"]
    return {
        **FORK,
        "nodes": {**FORK["nodes"], **nodes},
        "edges": [{**first, "when": when}, *others],
    }


def test_runs_are_led_through_another_version_without_doing_anything(
    main: Platform, worker: Platform
) -> None:
    register(main, "noop")
    version = publish(main, FORK)
    high, low = submit(main, version), submit(main, version)
    do(main, worker, high, a=cost(1, 8, score=8), good=cost(2))
    do(main, worker, low, a=cost(1, 4, score=4), bad=cost(0.3), good=cost(0.5))
    # The version that they are of leads them where they went.
    same = led(main)
    assert [(run.outcome, run.same_path, run.same_end, run.first) for run in same.runs] == (
        [("same", True, True, None)] * 2
    )
    publish(main, forked("$score > 3"))
    two, one = led(main).runs
    assert (one.outcome, one.saved_usd) == ("same", 0)
    assert (two.outcome, two.would_end, two.same_end, two.same_path) == (
        *("different", "completed", True, False),
    )
    told = ("edges", "a#1", {"choice": None, "to": ["bad"]}, {"choice": None, "to": ["good"]})
    assert once(two) == told
    assert (two.not_made, two.saved_usd, two.unknown) == (("bad#1",), Decimal("0.3"), ())
    publish(main, forked("$score > 9"))
    two, one = led(main).runs
    assert (two.outcome, one.outcome, one.would_end, one.missing) == (
        *("same", "different", None, ("bad#1",)),
    )
    assert once(one)[:2] == ("edges", "a#1")
    assert one.unknown == ("its record does not reach to an end in this version",)
    totals = led(main).totals
    assert (totals.same, totals.different, totals.missing, totals.saved_usd) == (1, 1, 1, 0)
    assert totals.first == {"edges": 1}
    # An earlier version by its number.
    assert led(main, version=same.version).totals.same == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"nodes": {"a": {"uses": "noop", "save": {"score": "$result + 1"}}}}, ("variables", None)),
        ({"inputs": {"must": {"type": "string"}}}, ("inputs", None)),
        ({"limits": {"steps": 1}}, ("end", None)),
    ],
)
def test_the_first_difference_is_named(
    main: Platform, worker: Platform, change: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    register(main, "noop")
    base: dict[str, Any] = {
        "workflow": "line",
        "variables": {"score": {"default": 0}},
        "nodes": {"a": {"uses": "noop", "save": {"score": "$result"}}, "b": {"uses": "noop"}},
        "edges": ["a -> b -> end"],
    }
    run = submit(main, publish(main, base))
    do(main, worker, run, a=cost(1, 4, score=4), b=cost(2))
    if change.pop("strict_inputs", None):
        change = {
            "inputs": {"type": "object", "required": ["must"], "properties": change["inputs"]}
        }
    publish(main, {**base, **change, "nodes": {**base["nodes"], **change.get("nodes", {})}})
    (found,) = led(main).runs
    assert (found.outcome, once(found)[:2]) == ("different", expected)
    saved = {"variables": 0, "inputs": 0, "end": 2}[expected[0]]
    assert found.saved_usd == saved


def test_attempts_waits_and_people_are_followed(main: Platform, worker: Platform) -> None:
    register(main, "noop")
    graph: dict[str, Any] = {
        "workflow": "line",
        "variables": {"said": {}},
        "nodes": {
            "a": {"uses": "noop", "retry": {"attempts": 2, "backoff": 0}},
            "ask": {"kind": "approval", "save": {"said": "$result.choice"}},
            "b": {"uses": "noop"},
        },
        "edges": ["a -> ask", {"from": "ask", "to": "b", "label": "approve"}, "b -> end"],
    }
    graph["edges"].append({"from": "ask", "to": "end", "label": "reject"})
    run = submit(main, publish(main, graph))
    used = {"cost_usd": 0.25}
    do(main, worker, run, a=Failed(reason="error", message="no", usage=used, own=used))
    do(main, worker, run, a=cost(1))
    answers.answer(main, run, "ask#1", by="bob", choice="approve")
    turns.take_turns(main, [run])
    do(main, worker, run, b=cost(2))
    assert platforms.status(main, run) == "completed"
    (same,) = led(main).runs
    assert (same.outcome, same.first, same.unknown) == ("same", None, ())
    once_only = {
        **graph,
        "nodes": {**graph["nodes"], "a": {"uses": "noop", "retry": {"attempts": 1}}},
    }
    publish(main, once_only)
    (failed,) = led(main).runs
    assert (failed.would_end, failed.outcome) == ("failed", "different")
    # Its second attempt, the question and what followed it would not have been.
    assert (failed.not_made, failed.saved_usd) == (("a#1", "ask#1", "b#1"), Decimal(3))
    more = {**graph, "edges": [*graph["edges"][:2], "b -> c -> end", graph["edges"][3]]}
    more["nodes"] = {
        **graph["nodes"],
        "c": {"uses": "noop"},
        "b": {"uses": "noop", "with": {"x": 1}},
    }
    publish(main, more)
    (longer,) = led(main).runs
    assert (longer.missing, longer.would_end, longer.saved_usd) == (("c#1",), None, 0)
    assert longer.unknown[0].startswith("node b stands for other work in this version")
