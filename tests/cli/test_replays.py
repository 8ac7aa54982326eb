"""`celeriac replay` and `celeriac explain`, on a real platform."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

STEPS = "policy: steps\nrules: [{name: second, metric: steps, op: '>', value: 1, action: abort}]"


@pytest.mark.usefixtures("functions")
def test_a_run_is_decided_once_more(shell: Shell, line: str, tmp_path: Path) -> None:
    # Of a workflow of its own: another version of `line` would be news to other tests.
    own = Path(line).read_text().replace("workflow: line", "workflow: decided")
    Path(line).write_text(own)
    done = json.loads(shell("run", line, "--json").stdout)["id"]
    file = tmp_path / "steps.yaml"
    file.write_text(STEPS)
    both = shell("replay", done, "--policy", str(file), "--version", "1.0.0")
    assert (both.exit_code, "not both" in both.stderr) == (2, True)
    assert shell("replay", done, "--beside").exit_code == 2
    assert shell("replay", "nobody").exit_code == 1
    same = shell("replay", done, "--exit-code")
    assert same.exit_code == 0, same.output
    assert re.fullmatch(r"\d+ decisions, 0 divergences\n", same.stdout)
    assert json.loads(shell("replay", done, "--json").stdout)["outcome"] == "same"
    blocked = shell("replay", done, "--policy", str(file), "--exit-code")
    assert blocked.exit_code == 1, blocked.output
    first = blocked.stdout.splitlines()
    assert first[0].endswith(" decisions, 1 divergence against steps")
    assert first[1:5] == [
        "first: start at b#1",
        "  recorded  passed",
        "  would     aborted",
        "  rule      second: 2 against 1",
    ]
    Path(line).write_text(own.replace("  b: {uses: increment}\n", "").replace("a -> b", "a"))
    newer = json.loads(shell("run", line, "--json").stdout)
    told = shell("replay", done, "--version", newer["version"])
    assert told.exit_code == 0, told.output
    assert f"1 divergence against {newer['workflow']}@{newer['version']}" in told.stdout
    assert "first: edges at a#1" in told.stdout
    assert "It would not do: b#1." in told.stdout


@pytest.mark.usefixtures("functions")
def test_a_run_is_explained(shell: Shell, line: str) -> None:
    done = json.loads(shell("run", line, "--json").stdout)["id"]
    assert shell("explain", "nobody").exit_code == 1
    told = shell("explain", done)
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("The run is completed (end)")
    assert [row.split()[1:] for row in told.stdout.splitlines() if "->" in row] == [
        ["b#1", "b->end", "taken"],
        ["a#1", "a->b", "taken"],
    ]
    assert json.loads(shell("explain", done, "--json").stdout)["waits"] == []
    assert "a#1" not in shell("explain", done, "--before", "3").stdout
