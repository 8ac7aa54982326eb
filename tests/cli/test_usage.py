from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from celeriac.cli import main
from tests.cli.conftest import Shell

SPENDS = """
def spends(state, context):
    for _ in range(3):
        context.use(cost_usd=0.1, tokens_used=270)
    return state
"""
SPENDING = """
workflow: spending
nodes:
  a: {uses: spends}
  b: {uses: spends}
edges: [a -> b -> end]
"""
POLICY = """
policy: purse
applies_to: {workflows: [spending]}
budgets:
  - {name: day, scope: tenant, window: day, metric: cost_usd, limit: 100}
  - {name: runs, scope: run, metric: tokens_used, limit: 5000}
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "planet"], "'planet' is none of user, workflow, run"),
        (["--by", ""], "'' is none of"),
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--window", "year"], "'year' is not one of"),
        (["budgets", "--run", "x", "--user", "ada"], "leave --user and --workflow out"),
        (["everything"], "No such command"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["usage", *arguments])
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_what_a_run_used_is_told_as_soon_as_it_has_and_what_is_left(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "spending.yaml"
    file.write_text(SPENDING)
    nobody = shell("usage", "--by", "user", "--workflow", "spending")
    assert (nobody.stdout, nobody.stderr) == ("", "Nothing was used.\n")
    assert shell("usage", "budgets").stderr == "No budget is in force.\n"
    assert shell("register", "function", "-", "--name", "spends", text=SPENDS).exit_code == 0
    assert shell("policy", "apply", "-", text=POLICY).exit_code == 0
    done = json.loads(shell("run", str(file), "--json").stdout)["id"]

    lines = shell("usage", "--by", "node,tool", "--run", done).stdout.splitlines()
    heading, *rows = (line.split() for line in lines)
    assert heading[:6] == ["node", "tool", "cost_usd", "tokens_used", "steps", "attempts"]
    assert rows == [
        ["a", "-", "0.3", "810", "1", "1", "0"],
        ["b", "-", "0.3", "810", "1", "1", "0"],
    ]
    (found,) = json.loads(shell("usage", "--run", done, "--window", "day", "--json").stdout)
    assert found["used"] == {"cost_usd": 0.6, "tokens_used": 1620, "steps": 2}
    (by_day,) = json.loads(
        shell("usage", "--by", "day, workflow", "--workflow", "spending", "--json").stdout
    )
    assert by_day["by"]["workflow"] == "spending"
    assert by_day["by"]["day"].endswith("T00:00:00+00:00")

    lines = shell("usage", "budgets", "--run", done).stdout.splitlines()
    assert lines[1].split()[:8] == [
        *("purse:day", "tenant", "local", "cost_usd", "per", "day", "100", "0.6")
    ]
    assert lines[2].split() == [
        *("purse:runs", "run", done, "tokens_used", "5000", "1620", "0", "3380")
    ]
    told = json.loads(shell("usage", "budgets", "--workflow", "spending", "--json").stdout)
    assert [(each["name"], each["left"]) for each in told["budgets"]] == [
        ("day", 99.4),
        ("runs", None),
    ]
    assert shell("policy", "withdraw", "purse").exit_code == 0
    assert shell("usage", "--run", "nonsense").exit_code == 1
