"""Policies, budgets and permissions in force: what they stop is stopped, and history says why."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from engine import tools
from engine.core import messages as msg
from engine.core.principal import ADMIN, Principal
from engine.core.state import State
from engine.core.values import Json
from engine.errors import Forbidden, Invalid
from engine.platform import DatabaseRole, Platform
from engine.runs import (
    answers,
    attempts,
    calls,
    catalogue,
    control,
    launch,
    policies,
    sweep,
    turns,
    usage,
    users,
    views,
    waits,
)
from engine.runs.attempts import Succeeded, Suspended
from engine.runs.waits import Filter
from engine.settings import Settings
from engine.store import ledger, session
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.hands import carry_out
from tests.support.platforms import (
    TENANT,
    chain,
    finish,
    lose_leases,
    publish,
    register,
    sql,
    submit,
    take,
    wake,
)
from workers.execution import Worker

pytestmark = pytest.mark.usefixtures("sound")

ROOT = Principal(tenant=TENANT, user="root", roles=frozenset({ADMIN}))

SPENDS = (
    "def spends(state, context):\n    context.use(cost_usd=0.25, tokens_used=100)\n    return 1"
)


def govern(main: Platform, name: str = "p", **document: Json) -> None:
    policies.apply(main, TENANT, json.dumps({"policy": name, **document}), by="ada")


def tool(main: Platform, source: str, **terms: Json) -> None:
    name = source.removeprefix("def ").partition("(")[0]
    effect = str(terms.pop("effect", "pure"))
    asked = tools.terms(terms)
    catalogue.register(main, TENANT, "tool", name, source, terms=asked, effect=effect, by="ada")


def said(main: Platform, run: RunId) -> list[msg.Verdict]:
    """Whatever was said of a run, in its order."""
    rows = sql(
        main,
        "SELECT body FROM history WHERE run_id = CAST(:run AS uuid) AND kind = 'Judged' ORDER BY seq",
        run=run.run,
    )
    return [msg.Verdict(**verdict) for row in rows for verdict in row.body.get("verdicts", ())]


def spent(main: Platform) -> Decimal:
    """Dollars, by the ledger."""
    (row,) = sql(main, "SELECT coalesce(sum((usage->>'cost_usd')::numeric), 0) AS sum FROM ledger")
    found: Decimal = row.sum
    return found


def folded(main: Platform, run: RunId) -> State:
    """The state that the history of a run tells."""
    return views.state_at(main, run, len(views.history(main, run, limit=1000)))


def held(main: Platform) -> list[dict[str, Any]]:
    return [dict(row.amounts) for row in sql(main, "SELECT amounts FROM reservation ORDER BY at")]


def answer(main: Platform, run: RunId, choice: str = "approve", by: str = "eve") -> Any:
    (asked,) = waits.page(main, TENANT, which=Filter(run=run.run, kinds=["permit"]))
    step = asked.step
    return answers.answer(main, run, step, by=by, choice=choice, digest=asked.digest)


# --- before a step starts -----------------------------------------------------------------------


def test_a_step_that_a_rule_rejects_never_starts(main: Platform, worker: Worker) -> None:
    govern(main, rules=[{"when": "$node == 'b'", "action": "deny"}])
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"}, b={"uses": "f"})))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "refused")
    assert [attempt.step for attempt in views.attempts(main, run)] == ["a#1"]
    (verdict,) = said(main, run)
    assert (verdict.policy, verdict.version, verdict.action) == ("p", 1, "reject_execution")


def test_a_policy_holds_from_the_next_turn_and_until_it_is_withdrawn(
    main: Platform, worker: Worker
) -> None:
    register(main, "f")
    version = publish(main, chain(a={"uses": "f"}, b={"uses": "f"}))
    run = submit(main, version)
    govern(main, rules=["steps > 1 → abort_lifetime"])
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "aborted")
    (verdict,) = said(main, run)
    assert (verdict.observed, verdict.limit) == (2, 1)
    policies.withdraw(main, TENANT, "p", by="ada")
    assert carry_out(main, worker, submit(main, version)).status == "completed"


def test_a_run_that_is_paused_by_a_rule_goes_on_when_somebody_resumes_it(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=["steps > 1 → pause_lifetime"])
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"}, b={"uses": "f"}, c={"uses": "f"})))
    assert carry_out(main, worker, run).status == "paused"
    assert len(views.attempts(main, run)) == 1
    control.resume(main, run, by="eve")
    # It was let pass at 2: at 3 it holds anew.
    assert carry_out(main, worker, run).status == "paused"
    assert len(views.attempts(main, run)) == 2


@pytest.mark.parametrize(("choice", "ends"), [("approve", "completed"), ("deny", "failed")])
def test_a_step_that_asks_is_parked_until_people_say(
    main: Platform, worker: Worker, choice: str, ends: str
) -> None:
    govern(main, rules=[{"when": "$node == 'b'", "action": "ask", "from": ["user:eve"]}])
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"}, b={"uses": "f"})))
    assert carry_out(main, worker, run).status == "running"
    assert sql(main, "SELECT FROM step WHERE status = 'leased'") == []
    answer(main, run, choice)
    ended = carry_out(main, worker, run)
    assert ended.status == ends
    assert len(views.attempts(main, run)) == (2 if choice == "approve" else 1)


# --- what it reports ----------------------------------------------------------------------------


def test_nothing_follows_from_a_report_that_a_rule_rejects(main: Platform, worker: Worker) -> None:
    govern(main, rules=["per execution: sum(cost_usd) > 0.10 → reject_execution"])
    register(main, "spends", SPENDS)
    run = submit(main, publish(main, chain(a={"uses": "spends", "save": {"n": "$result"}})))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "rejected")
    assert ended.variables == {}
    # It was used, and is charged.
    assert spent(main) == Decimal("0.25")


def test_a_result_that_people_must_accept_counts_when_they_have(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=[{"when": "$result == 1", "action": "ask", "at": ["report"]}])
    register(main, "spends", SPENDS)
    run = submit(main, publish(main, chain(a={"uses": "spends", "save": {"n": "$result"}})))
    waiting = carry_out(main, worker, run)
    assert (waiting.status, waiting.variables) == ("running", {})
    answer(main, run)
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.variables) == ("completed", {"n": 1})
    assert len(views.attempts(main, run)) == 1
    assert spent(main) == Decimal("0.25")
    assert folded(main, run).spent["cost_usd"] == 0.25


def test_a_lap_is_counted_once_though_people_accept_it_later(
    main: Platform, worker: Worker
) -> None:
    govern(
        main,
        rules=[
            {"when": "$result == 1", "action": "ask", "at": ["report"]},
            {"no_progress": {"repeated_state": 2}, "action": "abort_lifetime"},
        ],
    )
    register(main, "spends", SPENDS)
    run = submit(main, publish(main, chain(a={"uses": "spends", "save": {"n": "$result"}})))
    carry_out(main, worker, run)
    answer(main, run)
    assert carry_out(main, worker, run).status == "completed"


def test_a_result_that_people_do_not_accept_never_counts(main: Platform, worker: Worker) -> None:
    govern(main, rules=[{"when": "$result == 1", "action": "ask", "at": ["report"]}])
    register(main, "spends", SPENDS)
    run = submit(main, publish(main, chain(a={"uses": "spends", "save": {"n": "$result"}})))
    carry_out(main, worker, run)
    answer(main, run, "deny")
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason, ended.variables) == ("failed", "denied", {})


def test_a_loop_that_makes_no_progress_is_cut_off(main: Platform, worker: Worker) -> None:
    govern(main, rules=[{"no_progress": {"repeated_state": 3}, "action": "abort_lifetime"}])
    register(main, "same", "def same(state):\n    return {'n': 1}")
    document: dict[str, Json] = {
        "workflow": "loop",
        "nodes": {"a": {"uses": "same", "max_iterations": 50}},
        "edges": [{"from": "a", "to": "end", "when": "$n == 2"}, {"from": "a", "to": "a"}],
    }
    ended = carry_out(main, worker, submit(main, publish(main, document)))
    assert (ended.status, ended.reason) == ("failed", "aborted")


# --- money --------------------------------------------------------------------------------------


def budget(**more: Json) -> Json:
    return [{"name": "b", "scope": "tenant", "metric": "cost_usd", "limit": 0.3, **more}]


def test_a_step_whose_estimate_finds_no_room_is_denied_by_the_name_of_the_budget(
    main: Platform, worker: Worker
) -> None:
    govern(main, budgets=budget())
    register(main, "spends", SPENDS)
    node = {"uses": "spends", "estimate": {"cost_usd": 0.2}}
    version = publish(main, chain(a=node))
    first, second = submit(main, version), submit(main, version)
    assert (views.run(main, second).status, views.run(main, second).reason) == ("failed", "refused")
    assert "p:b" in (views.run(main, second).message or "")
    assert held(main) == [{"cost_usd": 0.2, "steps": 1}]
    assert carry_out(main, worker, first).status == "completed"
    assert (spent(main), held(main)) == (Decimal("0.25"), [])
    (verdict,) = said(main, second)
    assert (verdict.rule, verdict.observed, verdict.limit) == ("b", 0.4, 0.3)


def test_a_budget_may_pause_the_run_until_there_is_room(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    govern(main, budgets=budget(on_shortfall="pause"))
    register(main, "f")
    version = publish(main, chain(a={"uses": "f", "estimate": {"cost_usd": 0.2}}))
    _, second = submit(main, version), submit(main, version)
    assert views.run(main, second).status == "paused"
    govern(main, budgets=budget(limit=9))
    control.resume(main, second, by="eve")
    wake(settings)
    sweep.sweep(main)
    assert carry_out(main, worker, second).status == "completed"


def test_above_its_threshold_a_budget_asks(main: Platform, worker: Worker) -> None:
    govern(main, budgets=budget(ask_above=0.5))
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f", "estimate": {"cost_usd": 0.2}})))
    assert views.run(main, run).status == "running"
    answer(main, run)
    assert carry_out(main, worker, run).status == "completed"
    assert spent(main) == Decimal("0.2")


def test_what_was_told_by_a_lost_attempt_is_charged_as_assumed(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    lease = take(worker.platform, run, "a#1")
    attempts.beat(worker.platform, [lease.held], {lease.held: {"cost_usd": 0.07}})
    lose_leases(settings)
    sweep.sweep(main)
    rows = sql(main, "SELECT usage, assumed FROM ledger")
    assert [(row.usage, row.assumed) for row in rows] == [({"cost_usd": 0.07}, True)]
    assert views.run(main, run).status == "running"
    # Its worker was only slow: what it says now sets right what was assumed.
    late = Succeeded(own={"cost_usd": 0.09}, usage={"cost_usd": 0.09})
    assert not finish(main, worker.platform, lease, late)
    assert spent(main) == Decimal("0.09")


def test_an_attempt_is_stopped_when_what_it_tells_finds_no_room(
    main: Platform, worker: Worker
) -> None:
    govern(main, budgets=budget())
    told = "def f(state, context):\n    for _ in range(100):\n        context.use(cost_usd=0.1)\n"
    register(main, "f", told)
    ended = carry_out(main, worker, submit(main, publish(main, chain(a={"uses": "f"}))))
    assert (ended.status, ended.reason) == ("failed", "over_budget"), ended.message
    assert "p:b" in (ended.message or "")
    assert spent(main) == Decimal("0.4")


def test_who_claims_to_have_cost_nothing_is_charged_the_estimate(
    main: Platform, worker: Worker
) -> None:
    govern(main, budgets=budget())
    register(main, "f", "def f(state, context):\n    context.use(cost_usd=0)\n    return 1")
    node = {"uses": "f", "estimate": {"cost_usd": 0.12}}
    assert carry_out(main, worker, submit(main, publish(main, chain(a=node)))).status == "completed"
    assert spent(main) == Decimal("0.12")


# --- calls --------------------------------------------------------------------------------------

CALLS = "def f(state):\n    return invoke('send', to='x')"
SEND = "def send(to):\n    return 'sent ' + to"


def calling(main: Platform, *, source: str = CALLS, **terms: Json) -> RunId:
    tool(main, SEND, **terms)
    register(main, "f", source)
    return submit(main, publish(main, chain(a={"uses": "f", "save": {"got": "$result"}})))


def test_a_call_that_a_rule_denies_reaches_no_handler(main: Platform, worker: Worker) -> None:
    govern(main, rules=[{"tool": "send", "action": "deny"}])
    run = calling(main)
    ended = carry_out(main, worker, run)
    assert ended.status == "failed"
    assert views.calls(main, run) == ()
    assert [verdict.action for verdict in said(main, run)] == ["reject_execution"]


def test_arguments_that_a_policy_changes_are_what_is_called_with(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=[{"tool": "send", "action": "modify", "set": {"to": "y"}}])
    run = calling(main)
    assert carry_out(main, worker, run).variables == {"got": "sent y"}
    (call,) = views.calls(main, run)
    assert call.arguments == {"args": [], "kwargs": {"to": "y"}}


def test_a_result_that_a_rule_keeps_back_is_kept_back_for_good(
    main: Platform, worker: Worker
) -> None:
    rule: Json = {
        "content": {"matches": "sent", "in": ["result"]},
        "tool": "send",
        "action": "deny",
    }
    govern(main, rules=[rule])
    run = calling(main)
    ended = carry_out(main, worker, run)
    assert ended.status == "failed"
    (call,) = views.calls(main, run)
    assert (call.reason, call.value) == ("rejected", None)


def test_a_user_needs_the_permissions_of_the_tool(main: Platform, worker: Worker) -> None:
    run = calling(main, required_permissions=["mail:send"])
    ended = carry_out(main, worker, run)
    assert ended.status == "failed"
    assert "mail:send" in (ended.message or "")
    assert views.calls(main, run) == ()
    grant = ["mail:send"]
    users.create(main, ROOT, "ada", roles=["viewer"], permissions=grant)
    again = submit(main, views.run(main, run).version_id)
    assert carry_out(main, worker, again).status == "completed"


def test_the_rate_of_a_tool_is_kept_by_user(main: Platform, worker: Worker) -> None:
    source = (
        "def f(state):\n    got = []\n    for _ in range(3):\n        try:\n"
        "            got.append(invoke('send', to='x'))\n"
        "        except Exception as error:\n            got.append(error.reason)\n    return got"
    )
    run = calling(main, source=source, rate_per_hour=2)
    ended = carry_out(main, worker, run)
    assert ended.variables == {"got": ["sent x", "sent x", "over_budget"]}


@pytest.mark.parametrize("by_rule", [True, False])
def test_an_approved_call_is_made_once_with_what_was_shown(
    main: Platform, worker: Worker, by_rule: bool
) -> None:
    if by_rule:
        govern(main, rules=[{"tool": "send", "action": "ask"}])
    run = calling(main, requires_approval=not by_rule)
    assert carry_out(main, worker, run).status == "running"
    assert sql(main, "SELECT FROM step WHERE status = 'leased'") == []
    (asked,) = waits.page(main, TENANT, which=Filter(run=run.run))
    assert asked.arguments == {"to": "x"}
    answer(main, run)
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.variables) == ("completed", {"got": "sent x"})
    (call,) = views.calls(main, run)
    assert [row.effect for row in sql(main, "SELECT effect FROM call")] == ["at_most_once"]
    assert call.reason is None


def test_a_call_that_is_denied_by_people_fails_its_step(main: Platform, worker: Worker) -> None:
    run = calling(main, requires_approval=True)
    carry_out(main, worker, run)
    answer(main, run, "deny")
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "denied")
    assert views.calls(main, run) == ()


def test_arguments_that_change_void_an_approval(main: Platform, worker: Worker) -> None:
    source = "def f(state):\n    import time\n    return invoke('send', to=str(time.time_ns()))"
    run = calling(main, source=source.replace("    import time\n", ""), requires_approval=True)
    carry_out(main, worker, run)
    answer(main, run)
    carry_out(main, worker, run)
    # It asks for something else now: nobody has allowed that.
    assert views.calls(main, run) == ()
    assert len(waits.page(main, TENANT, which=Filter(run=run.run))) == 1


def test_a_call_at_which_a_rule_pauses_the_run_is_made_when_it_goes_on(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=[{"tool": "send", "action": "pause"}])
    run = calling(main)
    assert carry_out(main, worker, run).status == "paused"
    assert views.calls(main, run) == ()
    control.resume(main, run, by="eve")
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.variables) == ("completed", {"got": "sent x"})


@pytest.mark.parametrize(
    ("form", "got"),
    [({"happened": True, "result": "sent 9"}, "sent 9"), ({"happened": False}, "sent x")],
)
def test_a_call_that_may_have_happened_is_made_again_only_if_somebody_says_that_it_did_not(
    main: Platform, worker: Worker, settings: Settings, form: Any, got: str
) -> None:
    tool(main, SEND, effect="at_most_once", cost_estimate_usd=0.01)
    govern(main, budgets=budget())
    node = {"kind": "tool", "tool": "send", "with": {"to": "x"}, "save": {"got": "$result"}}
    run = submit(main, publish(main, chain(a=node)))
    step = main.broker.hints[-1].step
    lease = take(worker.platform, run, "a#1")
    given: Json = {"args": [], "kwargs": {"to": "x"}}
    assert isinstance(calls.authorise(worker.platform, lease, 1, "send", given), calls.Authorised)
    lose_leases(settings)
    sweep.sweep(main)
    assert spent(main) == Decimal("0.01")
    assert carry_out(main, worker, run).status == "running"
    (asked,) = waits.page(main, TENANT, which=Filter(run=run.run, kinds=["permit"]))
    assert "What has become of the call of send?" in (asked.title or "")
    with pytest.raises(Invalid, match="happened"):
        answers.answer(main, run, step.key, by="eve", choice="approve", digest=asked.digest)
    # As the process that faces the network does it, behind its wall.
    with platforms.platform(settings, DatabaseRole.API) as web:
        said = {"choice": "approve", "digest": asked.digest, "form": form}
        walled = replace(web.of(TENANT), broker=main.broker)
        answers.answer(walled, run, step.key, by="eve", **said)
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.variables) == ("completed", {"got": got})
    assert len(sql(main, "SELECT FROM call")) == (1 if form["happened"] else 2)
    assert spent(main) == Decimal("0.01")


def test_a_call_costs_what_it_is_said_to_and_none_passes_the_budget(
    main: Platform, worker: Worker
) -> None:
    govern(main, budgets=budget(limit=0.02))
    source = (
        "def f(state):\n    got = []\n    for _ in range(4):\n        try:\n"
        "            got.append(invoke('send', to='x'))\n"
        "        except Exception as error:\n            got.append(error.reason)\n    return got"
    )
    run = calling(main, source=source, cost_estimate_usd=0.01)
    ended = carry_out(main, worker, run)
    assert ended.variables == {"got": ["sent x", "sent x", "over_budget", "over_budget"]}
    assert (spent(main), held(main)) == (Decimal("0.02"), [])
    assert {verdict.rule for verdict in said(main, run)} == {"b"}


# --- what somebody may try ----------------------------------------------------------------------


def test_what_rules_add_up_is_counted_where_no_budget_limits_it(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=["sum(tokens_used) > 150 → abort_lifetime"])
    register(main, "spends", SPENDS)
    node = {"uses": "spends"}
    run = submit(main, publish(main, chain(a=node, b=node, c=node)))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "aborted")
    (verdict,) = said(main, run)
    assert (verdict.observed, verdict.limit) == (200, 150)


def test_a_request_is_not_passed_in_small_steps(main: Platform, worker: Worker) -> None:
    govern(main, budgets=budget(scope="execution", limit=1))
    told = "def f(state, context):\n    for _ in range(20):\n        context.use(cost_usd=0.3)\n"
    register(main, "f", told)
    node = {"uses": "f", "estimate": {"cost_usd": 0.1}}
    ended = carry_out(main, worker, submit(main, publish(main, chain(a=node))))
    assert (ended.status, ended.reason) == ("failed", "over_budget")
    assert spent(main) <= Decimal("1.2")


def test_runs_that_a_run_starts_are_charged_to_it(main: Platform, worker: Worker) -> None:
    govern(main, budgets=budget(scope="run", limit=1))
    register(main, "f")
    inner = chain(a={"uses": "f", "estimate": {"cost_usd": 0.6}})
    publish(main, {**inner, "workflow": "inner"})
    calls_it: Json = {"kind": "workflow", "workflow": "inner"}
    run = submit(main, publish(main, chain(x=calls_it, y=calls_it)))
    ended = carry_out(main, worker, run)
    while ended.status == "running":
        sweep.sweep(main)
        ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "child_failed")
    assert spent(main) == Decimal("0.6")


def test_who_allowed_a_start_allowed_it_once(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    govern(main, rules=[{"when": "$node == 'a'", "action": "ask"}])
    register(main, "f", "def f(state):\n    return 1 / 0")
    node = {"uses": "f", "retry": {"attempts": 3}}
    run = submit(main, publish(main, chain(a=node)))
    answer(main, run)
    carry_out(main, worker, run)
    wake(settings)
    sweep.sweep(main)
    carry_out(main, worker, run)
    assert len(views.attempts(main, run)) == 1
    answer(main, run)
    carry_out(main, worker, run)
    assert len(views.attempts(main, run)) == 2


def test_those_that_ask_different_people_are_each_asked_for(main: Platform, worker: Worker) -> None:
    when: Json = {"when": "$node == 'a'", "action": "ask"}
    govern(
        main,
        rules=[
            {**when, "name": "finance", "from": ["user:eve"]},
            {**when, "name": "security", "from": ["user:bob"], "four_eyes": True},
        ],
    )
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    answer(main, run, by="eve")
    assert carry_out(main, worker, run).status == "running"
    assert views.attempts(main, run) == ()
    with pytest.raises(Forbidden):
        answer(main, run, by="eve")
    answer(main, run, by="bob")
    assert carry_out(main, worker, run).status == "completed"


def test_a_policy_about_a_tool_is_not_avoided_by_running_it_as_a_function(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=[{"tool": "send", "action": "deny"}])
    tool(main, SEND)
    node = {"uses": "send", "with": {"to": "x"}}
    ended = carry_out(main, worker, submit(main, publish(main, chain(a=node))))
    assert (ended.status, ended.reason) == ("failed", "no_such_function")


def test_what_is_given_without_a_name_is_looked_at_too(main: Platform, worker: Worker) -> None:
    govern(
        main,
        rules=[
            {"content": {"matches": "evil", "in": ["arguments"]}, "tool": "say", "action": "deny"}
        ],
    )
    tool(main, "def say(*what):\n    return what")
    register(main, "f", "def f(state):\n    return invoke('say', 'good', 'evil')")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    assert carry_out(main, worker, run).status == "failed"
    assert views.calls(main, run) == ()


def test_an_older_version_of_a_tool_asks_for_what_the_newest_does(
    main: Platform, worker: Worker
) -> None:
    tool(main, SEND)
    tool(main, SEND, requires_approval=True)
    register(main, "f", "def f(state):\n    return invoke('send@1', to='x')")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    assert carry_out(main, worker, run).status == "running"
    assert views.calls(main, run) == ()
    assert len(waits.page(main, TENANT, which=Filter(run=run.run))) == 1


def test_nothing_is_called_in_a_run_that_a_rule_has_paused(main: Platform, worker: Worker) -> None:
    govern(main, rules=[{"tool": "send", "action": "pause"}])
    tool(main, SEND)
    tool(main, "def other():\n    return 1")
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    lease = take(worker.platform, run, "a#1")
    given: Json = {"args": [], "kwargs": {"to": "x"}}
    assert isinstance(calls.authorise(worker.platform, lease, 1, "send", given), Suspended)
    turns.take_turns(main, [run])
    nothing: Json = {"args": [], "kwargs": {}}
    # Another step that is under way, say.
    assert isinstance(calls.authorise(worker.platform, lease, 2, "other", nothing), Suspended)
    control.resume(main, run, by="eve")
    assert isinstance(calls.authorise(worker.platform, lease, 3, "send", given), calls.Authorised)
    calls.settle(
        worker.platform,
        lease,
        calls.authorise(worker.platform, lease, 4, "other", nothing),  # type: ignore[arg-type]
        calls.Answer(value=1),
    )


def test_what_was_withheld_is_undone_and_what_was_only_allowed_is_not(
    main: Platform, worker: Worker
) -> None:
    register(main, "spends", SPENDS)
    register(main, "refund")
    node = {"uses": "spends", "compensate": {"uses": "refund"}}
    version = publish(main, chain(pay=node))

    def undone(run: RunId) -> int:
        while carry_out(main, worker, run).status == "running":
            turns.take_turns(main, [run])
        return sum(one.step.startswith("undo") for one in views.attempts(main, run))

    govern(main, rules=[{"when": "$node == 'pay'", "action": "ask", "at": ["start"]}])
    denied = submit(main, version)
    answer(main, denied, "deny")
    assert undone(denied) == 0
    govern(main, rules=[{"when": "$result == 1", "action": "ask", "at": ["report"]}])
    withheld = submit(main, version)
    carry_out(main, worker, withheld)
    control.cancel(main, withheld, by="eve", compensate=True)
    assert undone(withheld) == 1


def test_a_failure_that_code_has_met_is_met_again_when_it_goes_on(
    main: Platform, worker: Worker
) -> None:
    tool(main, SEND, requires_approval=True)
    tool(main, "def fails():\n    return 1 / 0", effect="at_most_once")
    source = (
        "def f(state):\n    try:\n        invoke('fails')\n    except Exception:\n"
        "        return invoke('send', to='x')"
    )
    register(main, "f", source)
    run = submit(main, publish(main, chain(a={"uses": "f", "save": {"got": "$result"}})))
    carry_out(main, worker, run)
    answer(main, run)
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.variables) == ("completed", {"got": "sent x"})
    assert len([call for call in views.calls(main, run) if call.tool == "fails"]) == 1


def test_what_was_told_by_an_attempt_that_is_cancelled_is_charged(
    main: Platform, worker: Worker
) -> None:
    govern(main, budgets=budget())
    register(main, "f")
    node = {"uses": "f", "estimate": {"cost_usd": 0.2}}
    run = submit(main, publish(main, chain(a=node)))
    lease = take(worker.platform, run, "a#1")
    attempts.beat(worker.platform, [lease.held], {lease.held: {"cost_usd": 0.05}})
    control.cancel(main, run, by="eve")
    assert (spent(main), held(main)) == (Decimal("0.05"), [])


def test_what_a_credential_was_not_for_is_not_done_by_what_it_started(
    main: Platform, worker: Worker
) -> None:
    users.create(main, ROOT, "ada", roles=["admin"])
    tool(main, SEND, required_permissions=["mail:send"])
    inner = chain(a={"kind": "tool", "tool": "send", "with": {"to": "x"}})
    publish(main, {**inner, "workflow": "inner"})
    outer = publish(main, chain(x={"kind": "workflow", "workflow": "inner"}))
    for scopes, status in (
        (["run:start"], "failed"),
        (["mail:*"], "completed"),
        (None, "completed"),
    ):
        run = launch.submit(main, TENANT, outer, {}, by="ada", scopes=scopes).run
        turns.take_turns(main, [run])
        ended = carry_out(main, worker, run)
        while ended.status == "running":
            sweep.sweep(main)
            ended = carry_out(main, worker, run)
        assert ended.status == status


def test_what_is_given_by_position_is_not_hidden_behind_a_keyword(
    main: Platform, worker: Worker
) -> None:
    rule: Json = {
        "content": {"matches": "evil", "in": ["arguments"]},
        "tool": "say",
        "action": "deny",
    }
    govern(main, rules=[rule])
    tool(main, "def say(what, *rest, flag=0):\n    return [what, *rest, flag]")
    register(main, "f", "def f(state):\n    return invoke('say', 'good', 'evil', flag=1)")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    assert carry_out(main, worker, run).status == "failed"
    assert views.calls(main, run) == ()


def test_arguments_that_a_policy_changes_are_handed_over_as_they_were_given(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=[{"tool": "say", "action": "modify", "set": {"what": "x"}}])
    tool(main, "def say(what, /, *rest, flag=0):\n    return [what, *rest, flag]")
    register(main, "f", "def f(state):\n    return invoke('say', 'a', 'b', flag=1)")
    run = submit(main, publish(main, chain(a={"uses": "f", "save": {"got": "$result"}})))
    assert carry_out(main, worker, run).variables == {"got": ["x", "b", 1]}


def test_a_pause_lets_nothing_pass_that_another_rule_holds(main: Platform, worker: Worker) -> None:
    govern(
        main,
        rules=[
            {"when": "$node == 'a'", "action": "pause", "at": ["start"]},
            {"when": "$node == 'a'", "action": "deny", "at": ["start"]},
        ],
    )
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    ended = carry_out(main, worker, run)
    if ended.status == "paused":
        control.resume(main, run, by="eve")
        ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "refused")
    assert views.attempts(main, run) == ()


def test_a_step_that_fails_is_not_tried_again_past_its_budget(
    main: Platform, worker: Worker, settings: Settings
) -> None:
    govern(main, budgets=budget())
    register(main, "f", "def f(state, context):\n    context.use(cost_usd=0.3)\n    return 1 / 0")
    run = submit(main, publish(main, chain(a={"uses": "f", "retry": {"attempts": 5}})))
    ended = carry_out(main, worker, run)
    while ended.status == "running":
        wake(settings)
        sweep.sweep(main)
        ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "refused")
    assert spent(main) == Decimal("0.3")


def test_rules_about_inputs_see_the_item_of_a_map(main: Platform, worker: Worker) -> None:
    govern(main, rules=[{"content": {"matches": "evil", "in": ["inputs"]}, "action": "deny"}])
    register(main, "f")
    document: dict[str, Json] = {
        "workflow": "each",
        "inputs": {"files": {"type": "array"}},
        "nodes": {"all": {"kind": "map", "over": "$files", "as": "file", "do": "f"}},
        "edges": ["all -> end"],
    }
    run = submit(main, publish(main, document), files=["good", "evil"])
    ended = carry_out(main, worker, run)
    assert "reject_execution" in {verdict.action for verdict in said(main, run)}
    assert ended.status == "failed"


def test_what_undoes_makes_its_calls_whatever_is_left(main: Platform, worker: Worker) -> None:
    govern(main, budgets=budget(scope="run", metric="calls", limit=1))
    tool(main, SEND)
    register(main, "pays", "def pays(state):\n    return invoke('send', to='x')")
    register(main, "refund", "def refund(state):\n    return invoke('send', to='y')")
    register(main, "fails", "def fails(state):\n    return 1 / 0")
    nodes: dict[str, Json] = {
        "pay": {"uses": "pays", "compensate": {"uses": "refund"}},
        "b": {"uses": "fails"},
    }
    run = submit(main, publish(main, chain(**nodes)))
    while carry_out(main, worker, run).status == "running":
        turns.take_turns(main, [run])
    assert [call.arguments for call in views.calls(main, run)] == [
        {"args": [], "kwargs": {"to": to}} for to in ("x", "y")
    ]


def test_a_step_that_gives_way_at_a_call_is_not_asked_about_its_start_again(
    main: Platform, worker: Worker
) -> None:
    govern(main, rules=[{"when": "$node == 'a'", "action": "ask", "at": ["start"]}])
    run = calling(main, requires_approval=True)
    for _ in range(2):
        carry_out(main, worker, run)
        answer(main, run)
    assert carry_out(main, worker, run).status == "completed"


def test_a_run_whose_accounts_are_forgotten_can_be_ended(
    main: Platform, settings: Settings
) -> None:
    govern(main, budgets=budget(window="hour"))
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f", "estimate": {"cost_usd": 0.2}})))
    platforms.as_owner(settings, "UPDATE account SET period = period - interval '9 days'")
    with session.transaction(main.database) as connection:
        assert ledger.forget(connection, 10) == 1
    assert control.cancel(main, run, by="eve") == "cancelled"
    assert held(main) == []


def test_what_is_used_is_charged_under_the_model_that_was_named(
    main: Platform, worker: Worker
) -> None:
    tool(main, "def ask(context):\n    context.use(cost_usd=0.01, model='small')\n    return 1")
    source = (
        "def f(state, context):\n    invoke('ask')\n    context.use(cost_usd=0.02, model='large')"
    )
    register(main, "f", source)
    carry_out(main, worker, submit(main, publish(main, chain(a={"uses": "f"}))))
    found = usage.page(main, TENANT, by=["model"])
    assert {one.by["model"]: one.used["cost_usd"] for one in found} == {
        "small": Decimal("0.01"),
        "large": Decimal("0.02"),
    }


def test_a_step_that_somebody_has_begun_anew_is_one_step(main: Platform, worker: Worker) -> None:
    govern(main, budgets=budget(scope="run", metric="steps", limit=1))
    register(main, "f")
    run = submit(main, publish(main, chain(a={"uses": "f"})))
    for _ in range(2):
        take(worker.platform, run, "a#1")
        control.retry(main, run, "a#1", by="eve")
    assert carry_out(main, worker, run).status == "completed"
