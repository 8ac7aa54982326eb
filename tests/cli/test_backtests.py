"""`celeriac policy backtest` and `celeriac backtest`, on a real platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

STEPS = "policy: steps\nrules: [{name: second, metric: steps, op: '>', value: 1, action: abort}]"


@pytest.mark.usefixtures("functions")
def test_a_policy_and_a_version_are_held_against_what_was_run(
    shell: Shell, line: str, tmp_path: Path
) -> None:
    done = json.loads(shell("run", line, "--json").stdout)["id"]
    file = tmp_path / "steps.yaml"
    file.write_text("policy: steps\nrules: [steps > 1]")
    refused = shell("policy", "backtest", str(file), "--run", done)
    assert refused.exit_code == 1
    assert "rules[0]: no arrow leads to an action" in refused.stderr
    file.write_text(STEPS)
    unknown = shell("policy", "backtest", str(file), "--workflow", "nobody")
    assert (unknown.exit_code, "Workflow not found: nobody" in unknown.stderr) == (1, True)
    nothing = shell("policy", "backtest", str(file), "--user", "nobody")
    assert (nothing.exit_code, "There were no runs." in nothing.stderr) == (0, True)
    blocked = shell("policy", "backtest", str(file), "--run", done, "--exit-code")
    assert blocked.exit_code == 1, blocked.output
    heading, row, summary = blocked.stdout.splitlines()
    assert heading.split()[:4] == ["run", "workflow", "was", "would"]
    assert row.split()[0] == done
    assert row.split()[2:] == ["passed", "aborted", "start", "b#1", "second", "2", "1", "$0"]
    assert summary == (
        "1 of 1 runs would have been blocked; 0 approvals more, 0 fewer; $0 of $0 saved."
    )
    assert "Note: sums of users" in blocked.stderr
    told = shell("policy", "backtest", str(file), "--run", done, "--since", "2020-01-01", "--json")
    assert json.loads(told.stdout)["totals"]["blocked"] == 1
    name = json.loads(told.stdout)["runs"][0]["workflow"]
    same = shell("backtest", name, "--run", done, "--exit-code")
    assert same.exit_code == 0, same.output
    assert f"{name}@" in same.stdout
    assert "1 the same, 0 different, 0 unknown" in same.stdout
    assert shell("backtest", f"{name}@9.9.9").exit_code == 1
