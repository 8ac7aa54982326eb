"""What tenants' own rules do to runs whose documents know nothing of them: the guardrails of seed 001."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import tools
from engine.core import messages as msg
from engine.core.values import Json
from engine.platform import Platform
from engine.runs import catalogue, launch, policies, tenants, turns, views, waits
from engine.runs.attempts import Succeeded
from engine.runs.waits import Filter
from engine.store.ids import RunId
from tests.integration.test_governed import answer, said
from tests.support.hands import carry_out
from tests.support.platforms import TENANT, chain, finish, publish, register, submit, take
from workers.execution import Worker

pytestmark = pytest.mark.usefixtures("sound")

#: Tells tokens while it runs, and nothing of what it costs.
THINKS = """
def thinks(state, context):
    context.use(tokens_used=state["n"])
    return state["n"]
"""
SEND = "def send(to):\n    return 'sent ' + to"
SENDS = "def sends(state):\n    return invoke('send', to='x')"
LOOP: dict[str, Json] = {
    "workflow": "loop",
    "nodes": {"a": {"uses": "f", "max_iterations": 100}},
    "edges": [{"from": "a", "to": "end", "when": "$over == true"}, {"from": "a", "to": "a"}],
}


def apply(main: Platform, text: str, *, tenant: str = TENANT) -> None:
    policies.apply(main, tenant, text, by="ada")


def tool(main: Platform, source: str = SEND, **terms: Json) -> None:
    name = source.removeprefix("def ").partition("(")[0]
    catalogue.register(
        main, TENANT, "tool", name, source, terms=tools.terms(terms), effect="pure", by="ada"
    )


def thinking(*tokens: int) -> dict[str, Json]:
    """A document whose steps use so many tokens, one after the other."""
    nodes = {f"n{at}": {"uses": "thinks", "with": {"n": n}} for at, n in enumerate(tokens)}
    return {**chain(**nodes), "workflow": f"thinking-{'-'.join(map(str, tokens))}"}


def ended(main: Platform, worker: Worker, document: dict[str, Json]) -> Any:
    return carry_out(main, worker, submit(main, publish(main, document)))


# --- sums ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "sum(tokens_used) > 10\u2009000 → abort_lifetime",
        "sum(tokens_used) > 10 000 -> abort_lifetime",
        "sum(tokens_used) > 10000 → ABORT_LIFETIME",
    ],
)
def test_the_rule_of_the_seed_ends_a_run_at_10_001_tokens_and_not_at_10_000(
    main: Platform, worker: Worker, line: str
) -> None:
    """S1-79, S1-81."""
    apply(main, f"policy: p\nrules:\n  - {line}\n")
    register(main, "thinks", THINKS)
    even = ended(main, worker, thinking(6_000, 4_000))
    assert even.status == "completed", even.message
    over = ended(main, worker, thinking(6_000, 4_001))
    assert (over.status, over.reason) == ("failed", "aborted")
    (verdict,) = said(main, RunId(TENANT, over.id))
    assert (verdict.action, verdict.observed, verdict.limit) == ("abort_lifetime", 10_001, 10_000)


def test_a_rule_on_one_execution_counts_each_for_itself(main: Platform, worker: Worker) -> None:
    """S1-80."""
    apply(main, "policy: p\nrules: ['per execution: sum(tokens_used) > 100 → reject_execution']")
    register(main, "thinks", THINKS)
    assert ended(main, worker, thinking(100, 100)).status == "completed"
    over = ended(main, worker, thinking(100, 101))
    assert (over.status, over.reason) == ("failed", "rejected")


def test_runs_of_a_tenant_share_a_sum_that_is_no_other_tenants(
    main: Platform, worker: Worker
) -> None:
    """S1-82."""
    line = "policy: p\nrules: ['per tenant: sum(tokens_used) > 10 000 → abort_lifetime']"
    tenants.create(main.database, "other", name="Other", admin="ada")
    ends = []
    for tenant, tokens in ((TENANT, 6_000), ("other", 6_000), (TENANT, 4_001), ("other", 4_000)):
        apply(main, line, tenant=tenant)
        register(main, "thinks", THINKS, tenant=tenant)
        version = publish(main, thinking(tokens), tenant=tenant)
        run = launch.submit(main, tenant, version, {}, by="ada").run
        turns.take_turns(main, [run])
        ends.append(carry_out(main, worker, run).status)
    assert ends == ["completed", "completed", "failed", "completed"]


# --- caps that no author can get around --------------------------------------------------------


def test_code_that_tells_nothing_is_stopped_by_what_is_measured(
    main: Platform, worker: Worker
) -> None:
    """S1-11."""
    apply(main, "policy: p\nrules: ['sum(cost_usd) > 0.05 → abort_lifetime']")
    tool(main, cost_estimate_usd=0.02)
    register(main, "f", SENDS.replace("sends", "f"))
    over = ended(main, worker, LOOP)
    assert (over.status, over.reason) == ("failed", "aborted")
    assert len(views.calls(main, RunId(TENANT, over.id))) == 3


def test_a_loop_without_an_end_stops_at_the_cap_of_a_rule(main: Platform, worker: Worker) -> None:
    """S1-13, S1-14."""
    apply(main, "policy: laps\nrules: [{name: most laps, metric: iterations, op: '>', value: 5, "
          "action: abort_lifetime}]")  # fmt: skip
    register(main, "f")
    over = ended(main, worker, LOOP)
    assert (over.status, over.reason) == ("failed", "aborted")
    assert "laps:most laps" in (over.message or "")
    assert len(views.attempts(main, RunId(TENANT, over.id))) == 5


def test_a_call_that_one_request_may_not_cost_is_never_made(main: Platform, worker: Worker) -> None:
    """S3-09."""
    apply(main, "policy: p\nbudgets: [{name: request, scope: execution, metric: cost_usd, "
          "limit: 0.015}]")  # fmt: skip
    register(main, "sends", SENDS)
    for cost, status, calls in ((0.01, "completed", 1), (0.02, "failed", 0)):
        tool(main, cost_estimate_usd=cost)
        done = ended(main, worker, chain(a={"uses": "sends"}))
        assert done.status == status, done.message
        assert len(views.calls(main, RunId(TENANT, done.id))) == calls
    assert "p:request" in (done.message or "")


# --- what follows --------------------------------------------------------------------------------


def test_what_a_rule_rejects_is_not_routed_and_the_run_goes_on_as_it_says(
    main: Platform, worker: Worker
) -> None:
    """S1-59."""
    apply(main, "policy: p\nrules: ['per execution: sum(tokens_used) > 100 → reject_execution']")
    register(main, "thinks", THINKS)
    register(main, "f")
    document: dict[str, Json] = {
        "workflow": "w",
        "nodes": {
            "a": {"uses": "thinks", "with": {"n": 101}, "save": {"n": "$result"}},
            "b": {"uses": "f"},
            "c": {"uses": "f"},
        },
        "edges": ["a -> b -> end", {"from": "a", "to": "c", "on": "error"}, "c -> end"],
    }
    done = ended(main, worker, document)
    assert (done.status, done.variables) == ("completed", {})
    run = RunId(TENANT, done.id)
    assert [attempt.step for attempt in views.attempts(main, run)] == ["a#1", "c#1"]
    (verdict,) = said(main, run)
    assert (verdict.action, verdict.observed, verdict.limit) == ("reject_execution", 101, 100)


def test_what_is_under_way_when_a_rule_ends_a_run_is_stopped(
    main: Platform, worker: Worker
) -> None:
    """S1-61."""
    apply(main, "policy: p\nrules: ['sum(tokens_used) > 10 → abort_lifetime']")
    register(main, "f")
    document: dict[str, Json] = {
        "workflow": "w",
        "nodes": {"start": {"kind": "start"}, "a": {"uses": "f"}, "b": {"uses": "f"}},
        "edges": [
            {"from": "start", "to": ["a", "b"], "type": "parallel"},
            {"from": ["a", "b"], "to": "end", "type": "join"},
        ],
    }
    run = submit(main, publish(main, document))
    at = worker.platform
    one, other = take(at, run, "a#1"), take(at, run, "b#1")
    used = {"tokens_used": 11.0}
    finish(main, at, one, Succeeded(own=used, usage=used))
    over = views.run(main, run)
    assert (over.status, over.reason) == ("failed", "aborted")
    assert "sum(tokens_used) > 10" in (over.message or "")
    assert not finish(main, at, other)
    outcomes = {each.step: each.outcome for each in views.attempts(main, run)}
    assert outcomes["b#1"] != "succeeded"


def test_what_a_rule_says_is_told_before_anything_follows(main: Platform, worker: Worker) -> None:
    """S1-57, S3-15."""
    rules: Json = ["per execution: sum(tokens_used) > 0 → warn",
                   {"tool": "send", "action": "allow_with_audit"}]  # fmt: skip
    apply(main, json.dumps({"policy": "p", "rules": rules}))
    tool(main)
    register(main, "thinks", THINKS)
    register(main, "sends", SENDS)
    nodes = {"a": {"uses": "thinks", "with": {"n": 1}}, "b": {"uses": "sends"}}
    run = RunId(TENANT, ended(main, worker, chain(**nodes)).id)
    lines = [(line.kind, line.body.get("step")) for line in views.history(main, run, limit=1000)]
    heard, called = (at for at, line in enumerate(lines) if line[0] == msg.Judged.__name__)
    assert (lines[heard], lines[called]) == (("Judged", "a#1"), ("Judged", "b#1"))
    assert heard < lines.index(("TakeEdges", "a#1")) < lines.index(("RequestStart", "b#1"))
    assert called < lines.index(("AttemptSucceeded", "b#1"))


# --- languages of one's own ----------------------------------------------------------------------

PLUGIN = """
from enum import Enum, auto

class PolicyDecision(Enum):
    ALLOW = auto()
    DENY = auto()
    REQUIRE_APPROVAL = auto()
    MODIFY = auto()

class Policy:
    def __init__(self, domain):
        self.domain = domain

    def evaluate(self, action, context):
        to = action["arguments"]["to"]
        if "@" not in to:
            action["arguments"]["to"] = f"{to}@{self.domain}"
            return PolicyDecision.MODIFY
        if context["user"] == "ada" and to.startswith("eve@"):
            return PolicyDecision.DENY, "ada does not write to eve"
        return PolicyDecision.REQUIRE_APPROVAL if "ceo" in to else PolicyDecision.ALLOW
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of somebody else's, installed as packages are."""
    (tmp_path / "their_policies.py").write_text(PLUGIN)
    about = tmp_path / "their_policies-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-policies\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[celeriac.policies]\naddresses = their_policies:Policy\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    policies.installed.cache_clear()
    yield
    policies.installed.cache_clear()
    sys.modules.pop("their_policies", None)


@pytest.mark.usefixtures("installed")
def test_a_policy_class_of_somebody_elses_is_obeyed(main: Platform, worker: Worker) -> None:
    """S3-27, S1-86."""
    apply(main, "policy: mail\nplugins: [{use: addresses, with: {domain: x.org}, at: [call]}]")
    tool(main)
    register(main, "f", "def f(state):\n    return invoke('send', to=state['to'])")
    node = {"uses": "f", "save": {"got": "$result"}}
    document = {**chain(a=node), "inputs": {"to": {"type": "string"}}}
    version = publish(main, document)

    def sent(to: str) -> tuple[RunId, Any]:
        run = submit(main, version, to=to)
        return run, carry_out(main, worker, run)

    run, done = sent("bob")
    assert done.variables["got"] == "sent bob@x.org"
    (call,) = views.calls(main, run)
    assert call.arguments == {"args": [], "kwargs": {"to": "bob@x.org"}}
    assert sent("bob@y.org")[1].variables["got"] == "sent bob@y.org"
    run, done = sent("eve@y.org")
    assert done.status == "failed"
    assert "ada does not write to eve" in (done.message or "")
    assert views.calls(main, run) == ()
    run, done = sent("ceo@y.org")
    assert (done.status, views.calls(main, run)) == ("running", ())
    (asked,) = waits.page(main, TENANT, which=Filter(run=run.run))
    assert asked.arguments == {"to": "ceo@y.org"}
    answer(main, run)
    assert carry_out(main, worker, run).variables["got"] == "sent ceo@y.org"


def test_a_policy_in_rego_is_obeyed(main: Platform, worker: Worker) -> None:
    """S1-87."""
    pytest.importorskip("regopy", reason="make rego installs it")
    source = (
        'package celeriac\ndefault allow := true\nallow := false if input.action.tool == "send"'
    )
    apply(
        main, json.dumps({"policy": "p", "plugins": [{"use": "rego", "with": {"source": source}}]})
    )
    tool(main)
    tool(main, "def look(to):\n    return to")
    register(main, "sends", SENDS)
    register(main, "looks", SENDS.replace("sends", "looks").replace("'send'", "'look'"))
    assert ended(main, worker, chain(a={"uses": "looks"})).status == "completed"
    denied = ended(main, worker, {**chain(a={"uses": "sends"}), "workflow": "other"})
    assert denied.status == "failed"
    assert views.calls(main, RunId(TENANT, denied.id)) == ()
