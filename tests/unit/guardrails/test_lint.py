from __future__ import annotations

import pytest

from engine.guardrails import document, lint
from engine.guardrails.lint import Known

KNOWN = Known(tools={"search", "send_email"}, workflows={"triage", "billing-eu"})


def warned(text: str, known: Known = KNOWN) -> list[tuple[str, str]]:
    return [(each.path, each.message) for each in lint.warnings(document.read(text), known)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("sum(tokens_used) < 0 → warn", "never less than 0"),
        ("steps <= -1 → warn", "can never be"),
        ("count(cost_usd) == -1 → warn", "can never be"),
        ("steps >= 0 → warn", "steps >= 0 always is"),
        ("sum(cost_usd) > -5 → warn", "always is"),
        ("sum(cost_usd) <= 5 → warn", "is so from the start"),
        ("sum(cost_used) > 5 → warn", "cost_used is known only of executions that report it"),
        ("steps > 5 → allow", "it does nothing"),
        ("{tool: serch, action: deny}", "there is no tool 'serch'"),
        ("{tool: ['db_*'], action: deny}", "there is no tool 'db_*'"),
        (
            "{content: {matches: '.*secret'}, action: deny}",
            "begins or ends with what matches anything",
        ),
        (
            "{content: {matches: 'secret.+'}, action: deny}",
            "begins or ends with what matches anything",
        ),
        ("{content: {matches: 'a*'}, action: deny}", "matches every text, even none"),
        (
            "{tool: search, arguments: {path: q, regex: '(?i).*x'}, action: deny}",
            "begins or ends with",
        ),
    ],
)
def test_what_is_hardly_meant_is_told(rule, message) -> None:
    ((path, told),) = warned(f"policy: p\nrules:\n  - {rule}")
    assert path.startswith("rules[0]")
    assert message in told


@pytest.mark.parametrize(
    "rule",
    [
        "sum(tokens_used) > 10 000 → abort_lifetime",
        "sum(tokens_used) > 0 → warn",
        "min(score) < 0.2 → warn",
        "avg(latency_ms) < 5 → warn",
        "{tool: [search, 'send_*'], action: deny}",
        r"{content: {matches: '\b\d{3}-\d{2}-\d{4}\b'}, action: deny}",
        "{content: {matches: 'a.*b'}, action: deny}",
    ],
)
def test_what_is_meant_is_not_questioned(rule) -> None:
    found = warned(f"policy: p\nrules:\n  - {rule}")
    assert [each for each in found if "report it" not in each[1]] == []


def test_the_rest_of_a_policy_is_looked_at_too() -> None:
    text = (
        "policy: p\nenforce: false\napplies_to: {workflows: [triag, 'billing-*']}\n"
        "rules: [steps > 5 → warn]\n"
        "budgets: [{scope: user, metric: credits, limit: 0}]"
    )
    assert warned(text) == [
        ("applies_to.workflows", "there is no workflow 'triag'"),
        ("budgets[0].limit", "nothing at all may be spent"),
        ("budgets[0].metric", "credits is known only of executions that report it"),
        ("enforce", "its rules only warn"),
    ]


def test_what_is_not_known_here_is_not_questioned() -> None:
    text = "policy: p\napplies_to: {workflows: [nothing]}\nrules: [{tool: nothing, action: deny}]"
    assert warned(text, lint.NOTHING) == []
