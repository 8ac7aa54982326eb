"""Policies in Rego, by an evaluator that is kept apart from whoever asks."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from celeriac import rego
from celeriac.rego import Rego, RegoError
from engine.guardrails import document, governance, judge
from engine.guardrails.facts import Facts
from engine.guardrails.governance import Active
from engine.guardrails.plugins import PolicyDecision

pytest.importorskip("regopy", reason="make rego installs it")

KEEP = """\
package celeriac
default decision := "ALLOW"
decision := "DENY" if input.action.tool == "file_delete"
decision := "REQUIRE_APPROVAL" if startswith(input.action.tool, "db_")
decision := "MODIFY" if input.action.tool == "send_email"
set := {"to": "a@b.c"} if input.action.tool == "send_email"
reason := sprintf("%s is watched", [input.action.tool])
"""


def decided(source: str, package: str = "celeriac", **action: Any) -> PolicyDecision:
    return Rego(source, package).evaluate(action, {}).decision


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package celeriac\ndecision := {", "this is unclosed"),
        ("package other\nx := 1", "package celeriac is not there"),
        ("package celeriac\nx := y\ny := x", "has no value"),
        ("package celeriac\nx := " + "[" * 5000 + "]" * 5000, "the evaluator died of it"),
        ("package celeriac\nx := " + "9" * 40_000, "source is no text of at most"),
        (5, "source is no text of at most"),
        (
            'package celeriac\nx := regex.match("(a+)+$", "' + "a" * 5000 + '!")',
            "the evaluator died",
        ),
        (
            'package celeriac\nx := concat("", ["aaaaaaaaaa" | numbers.range(1, 3000000)[_]])',
            "died|no answer",
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_and_does_no_harm(source, message) -> None:
    began = time.monotonic()
    with pytest.raises(RegoError, match=message):
        Rego(source)
    assert time.monotonic() - began < 5
    # Whoever comes next is answered.
    assert decided(KEEP, tool="file_delete") is PolicyDecision.DENY


def test_a_package_name_is_one() -> None:
    with pytest.raises(RegoError, match="package is no name"):
        Rego(KEEP, "celeriac; 1")


def test_a_source_that_takes_too_long_is_given_up() -> None:
    source = (
        'package celeriac\ndefault decision := "ALLOW"\n'
        'decision := "DENY" if { some n in numbers.range(1, input.action.n)\n'
        "some m in numbers.range(1, input.action.n)\nsome k in numbers.range(1, input.action.n)\n"
        "n * m * k == -1 }"
    )
    policy = Rego(source)
    began = time.monotonic()
    with pytest.raises(RegoError, match=r"no answer within 0\.5 s|died"):
        policy.evaluate({"n": 3000}, {})
    assert time.monotonic() - began < 2
    assert policy.evaluate({"n": 1}, {}).decision is PolicyDecision.ALLOW


def test_a_policy_learns_nothing_of_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hush")
    rego._EVALUATOR.close()
    source = 'package celeriac\ndecision := "ALLOW"\nreason := json.marshal(opa.runtime())'
    assert "hush" not in Rego(source).evaluate({}, {}).reason


@pytest.mark.parametrize(
    ("tool", "decision"),
    [
        ("look", PolicyDecision.ALLOW),
        ("file_delete", PolicyDecision.DENY),
        ("db_drop", PolicyDecision.REQUIRE_APPROVAL),
        ("send_email", PolicyDecision.MODIFY),
    ],
)
def test_each_decision(tool, decision) -> None:
    found = Rego(KEEP).evaluate({"tool": tool}, {})
    assert (found.decision, found.reason) == (decision, f"{tool} is watched")
    assert found.set == ({"to": "a@b.c"} if decision is PolicyDecision.MODIFY else {})


def test_the_idioms_of_opa() -> None:
    deny = 'package p\ndeny contains "no" if input.action.n > 1\ndeny contains "never" if input.action.n > 2'
    assert decided(deny, "p", n=1) is PolicyDecision.ALLOW
    assert Rego(deny, "p").evaluate({"n": 3}, {}).reason == "never; no"
    allow = 'package p.q\ndefault allow := false\nallow if input.context.user == "ada"'
    assert Rego(allow, "p.q").evaluate({}, {"user": "ada"}).decision is PolicyDecision.ALLOW
    assert Rego(allow, "p.q").evaluate({}, {"user": "bob"}).decision is PolicyDecision.DENY


@pytest.mark.parametrize(
    "source", ["x := 1", 'decision := "maybe"', "decision := 5", 'set := 1\ndecision := "MODIFY"']
)
def test_what_decides_nothing_that_is_known_is_an_error(source) -> None:
    with pytest.raises(RegoError):
        decided(f"package celeriac\n{source}")


def test_it_is_a_plug_in_of_a_policy_and_denies_when_it_fails() -> None:
    indented = KEEP.replace("\n", "\n        ")
    text = f"policy: p\nplugins:\n  - use: rego\n    with:\n      source: |\n        {indented}"
    held = governance.govern(1, [Active(policy=document.read(text), version=1)], {"rego": Rego})
    found = {
        tool: [
            (each.action, each.message)
            for each in judge.judge(
                held, Facts(moment="call", tool=tool, arguments={}), {}
            ).verdicts
        ]
        for tool in ("look", "file_delete", "send_email")
    }
    assert found == {
        "look": [],
        "file_delete": [("reject_execution", "policy p: file_delete is watched")],
        "send_email": [("modify", "policy p: send_email is watched")],
    }
    unknown = "policy: p\nplugins: [{use: rego, with: {source: 'package celeriac\n\n  x := 1'}}]"
    held = governance.govern(1, [Active(policy=document.read(unknown), version=1)], {"rego": Rego})
    (verdict,) = judge.judge(held, Facts(moment="call", tool="look"), {}).verdicts
    assert verdict.action == "reject_execution"
    assert "plug-in rego failed: RegoError: package celeriac decides nothing" in verdict.message


def test_a_child_of_the_process_asks_an_evaluator_of_its_own() -> None:
    assert decided(KEEP, tool="look") is PolicyDecision.ALLOW
    child = os.fork()
    if child == 0:
        found = decided(KEEP, tool="file_delete") is PolicyDecision.DENY
        rego._EVALUATOR.close()
        os._exit(0 if found else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert decided(KEEP, tool="file_delete") is PolicyDecision.DENY
