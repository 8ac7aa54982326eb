"""The policies that people begin with do what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from celeriac.rego import Rego
from engine import reading
from engine.guardrails import document, lint, schema, trial

FOLDER = Path(__file__).parents[3] / "examples" / "policies"
FILES = sorted(FOLDER.glob("*.yaml"))


def actions(name: str, *facts: dict[str, Any]) -> list[str]:
    policy = document.read((FOLDER / f"{name}.yaml").read_text())
    about = [{"workflow": "intake", "node": "n", **each} for each in facts]
    tried = trial.attempt(policy, trial.read(list(about)), {"rego": Rego})
    return [each.as_json()["action"] for each in tried]


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_an_example_is_valid_and_meant(file) -> None:
    text = file.read_text()
    policy = document.read(text)
    assert policy.name == file.stem
    assert list(lint.warnings(policy)) == []
    assert jsonschema_rs.is_valid(schema.policy_schema(), reading.read(text).data)


def test_spending() -> None:
    assert actions(
        "spending",
        {"moment": "report", "totals": {"tokens_used": 10_000}},
        {"moment": "report", "totals": {"tokens_used": 10_001}},
        {"moment": "report", "usage": {"cost_usd": 0.51}},
        {"moment": "start", "iteration": 201},
        {"moment": "start", "live": {"seconds": 3601}},
    ) == ["allow", "abort_lifetime", "reject_execution", "abort_lifetime", "pause_lifetime"]
    budgets = document.read((FOLDER / "spending.yaml").read_text()).budgets
    assert [budget.name for budget in budgets] == ["request", "user-hour", "tenant-day"]


def test_sensitive_tools() -> None:
    def mail(to: str) -> dict[str, Any]:
        return {"tool": "send_email", "arguments": {"to": to}}

    assert actions(
        "sensitive-tools",
        {"tool": "search", "arguments": {}},
        {"tool": "file_delete", "arguments": {"path": "/tmp/x"}},
        {"tool": "api_call_external", "arguments": {}},
        {"tool": "database_write", "arguments": {"statement": "insert into t values (1)"}},
        {"tool": "database_write", "arguments": {"statement": "DROP table t"}},
        mail("ada@Example.com"),
        mail("eve@elsewhere.org"),
    ) == [
        "allow",
        "require_approval",
        "require_approval",
        "require_approval",
        "reject_execution",
        "require_approval",
        "reject_execution",
    ]


def test_no_progress() -> None:
    same = {"moment": "report", "state": "a"}
    assert actions("no-progress", same, same, same) == ["allow", "allow", "pause_lifetime"]
    calls = [{"tool": "t", "repeats": repeats} for repeats in (3, 4)]
    assert actions("no-progress", *calls) == ["allow", "reject_execution"]
    scores = [
        {"moment": "report", "state": str(lap), "result": {"score": 0.7 + lap / 1000}}
        for lap in range(4)
    ]
    assert actions("no-progress", *scores) == ["allow"] * 3 + ["pause_lifetime"]
    costs = [
        {"moment": "report", "state": str(lap), "usage": {"cost_usd": lap / 10}} for lap in range(5)
    ]
    assert actions("no-progress", *costs) == ["allow"] * 4 + ["pause_lifetime"]


def test_health_data() -> None:
    assert actions(
        "health-data",
        {"result": {"note": "SSN 123-45-6789"}},
        {"result": "mrn: 1234567"},
        {"tool": "send", "arguments": {"text": "Date of birth unknown"}},
        {"tool": "phi_read", "arguments": {"id": 5}},
        {"inputs": {"text": "nothing to see"}},
        {"result": "SSN 123-45-6789", "workflow": "billing"},
    ) == [
        "reject_execution",
        "reject_execution",
        "require_approval",
        "allow_with_audit",
        "allow",
        "allow",
    ]


def test_a_policy_in_rego() -> None:
    pytest.importorskip("regopy", reason="make rego installs it")

    def deploy(environment: str, user: str) -> dict[str, Any]:
        return {"tool": "deploy", "arguments": {"environment": environment}, "user": user}

    assert actions(
        "night-shift",
        deploy("production", "night-shift"),
        deploy("production", "ada"),
        deploy("staging", "night-shift"),
        {"tool": "look"},
    ) == ["reject_execution", "require_approval", "allow", "allow"]
