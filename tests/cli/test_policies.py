from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from celeriac.cli import main
from tests.cli.conftest import Shell

SPENDING = "policy: spending\nrules:\n  - sum(tokens_used) > 10\u2009000 → abort_lifetime\n"
MAIL = """\
policy: mail
rules:
  - arguments: {path: to, not_in: [a@b.c]}
    tool: send_email
    action: modify
    set: {to: a@b.c}
"""


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


# --- without a platform -----------------------------------------------------------------------


def test_a_policy_with_problems_is_told_line_by_line() -> None:
    result = run("policy", "lint", "-", "--offline", text="policy: p\nrules: [steps > many → warn]")
    assert result.exit_code == 1
    assert "rules[0]: 'many' is no number (at character 9) (line 2, column 9)" in result.stderr
    result = run("policy", "lint", "-", "--offline", "--json", text="policy: p")
    assert (result.exit_code, json.loads(result.stdout)["valid"]) == (1, False)


def test_a_policy_that_is_hardly_meant_is_valid_with_a_warning() -> None:
    result = run("policy", "lint", "-", "--offline", text="policy: p\nrules: [steps >= 0 → warn]")
    assert (result.exit_code, result.stdout) == (0, "-: the policy is valid\n")
    assert "-: warning: rules[0]: steps >= 0 always is" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--facts FILE or --run RUN"),
        (["--facts", "-", "--run", "x"], "--facts FILE or --run RUN"),
        (["--run", "x", "--offline"], "leave --offline out"),
    ],
)
def test_a_trial_is_of_facts_or_of_a_run(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(SPENDING)
    result = run("policy", "test", str(file), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_facts_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(SPENDING)
    result = run("policy", "test", str(file), "--facts", "-", "--offline", text="{")
    assert (result.exit_code, "not JSON" in result.stderr) == (2, True)
    result = run("policy", "test", str(file), "--facts", "-", "--offline", text='{"tols": 1}')
    assert (result.exit_code, "there is no field `tols`" in result.stderr) == (1, True)


def test_a_policy_is_tried_on_facts_without_a_platform(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(MAIL)
    facts = '[{"tool": "send_email", "arguments": {"to": "x@y.z"}}, {"tool": "look"}]'
    result = run("policy", "test", str(file), "--facts", "-", "--offline", text=facts)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[:3] == ["call", "send_email", "modify"]
    coded = run("policy", "test", str(file), "--facts", "-", "--offline", "--exit-code", text=facts)
    assert coded.exit_code == 1
    told = run("policy", "test", str(file), "--facts", "-", "--offline", "--json", text=facts)
    assert [each["action"] for each in json.loads(told.stdout)] == ["modify", "allow"]
    quiet = run("policy", "test", str(file), "--facts", "-", "--offline", text='{"tool": "look"}')
    assert (quiet.stdout, quiet.stderr) == ("", "No rule fires.\n")


def test_the_schema_is_printed() -> None:
    assert json.loads(run("policy", "schema").stdout)["$id"] == "urn:celeriac:policy"


# --- with one ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("functions")
def test_a_policy_is_applied_shown_tried_and_withdrawn(
    shell: Shell, line: str, tmp_path: Path
) -> None:
    refused = shell("policy", "apply", "-", text="policy: spending\nrules: [steps > 1]")
    assert refused.exit_code == 1
    assert "rules[0]: no arrow leads to an action" in refused.stderr
    applied = shell("policy", "apply", "-", "--reason", "the bill", text=SPENDING)
    assert (applied.exit_code, applied.stdout) == (0, "spending@1\n")
    again = shell("policy", "apply", "-", text=SPENDING)
    assert (again.stdout, again.stderr) == ("spending@1\n", "It was in force before.\n")
    data = shell("policy", "apply", "-", "--json", text=SPENDING.replace("10", "20"))
    assert json.loads(data.stdout)["policy"]["version"] == 2
    linted = shell("policy", "lint", "-", text=MAIL)
    assert "there is no tool 'send_email'" in linted.stderr
    assert [each["version"] for each in json.loads(shell("policy", "list", "--json").stdout)] == [2]
    assert "spending" in shell("policy", "list").stdout
    assert shell("policy", "show", "spending", "--version", "1").stdout == SPENDING
    assert json.loads(shell("policy", "show", "spending", "--json").stdout)["active"] is True
    assert len(json.loads(shell("policy", "show", "spending", "--versions", "--json").stdout)) == 2
    file = tmp_path / "steps.yaml"
    file.write_text("policy: steps\nrules: [steps > 1 → abort_lifetime]")
    done = json.loads(shell("run", line, "--json").stdout)["id"]
    tried = shell("policy", "test", str(file), "--run", done, "--json")
    assert tried.exit_code == 0, tried.output
    moments = json.loads(tried.stdout)
    assert [(each["moment"], each["step"], each["action"]) for each in moments] == [
        ("start", "a#1", "allow"),
        ("report", "a#1", "allow"),
        ("start", "b#1", "allow"),
        ("report", "b#1", "abort_lifetime"),
    ]
    gone = shell("policy", "withdraw", "spending", "--reason", "enough")
    assert (gone.exit_code, gone.stdout) == (0, "spending@2 is withdrawn\n")
    assert shell("policy", "withdraw", "spending").exit_code == 1
    assert shell("policy", "show", "nothing").exit_code == 1
