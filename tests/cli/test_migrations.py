"""`celeriac migrate`, typed against a real platform."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("functions")


@pytest.fixture
def name() -> str:
    """A workflow that no other test has."""
    return f"m{uuid4().hex[:8]}"


@pytest.fixture
def run(shell: Shell, name: str) -> str:
    """A run that waits, of a workflow with two versions more: one that fits, and one that does not."""
    waits = "{kind: event, name: never}"
    texts = {
        "1.0.0": f"nodes: {{w: {waits}, a: {{uses: increment}}}}\nedges: [w -> a -> end]",
        "2.0.0": f"nodes: {{v: {waits}, a: {{uses: increment}}}}\nedges: [v -> a -> end]",
        "3.0.0": "nodes: {a: {uses: increment}}\nedges: [a -> end]",
    }
    for number, text in texts.items():
        whole = f"workflow: {name}\nversion: {number}\n{text}\n"
        assert shell("publish", "-", text=whole).exit_code == 0
    started = shell("run", name, "--version", "1.0.0", "--no-wait")
    return started.stdout.strip()


@pytest.mark.parametrize("mapped", ["w", "w=", "=v"])
def test_what_maps_nothing_is_wrong_usage(shell: Shell, mapped: str) -> None:
    result = shell("migrate", "x", "--to", "2.0.0", "--map", mapped)

    assert result.exit_code == 2
    assert "OLD=NEW" in result.stderr


def test_nobody_is_migrated_whom_nothing_names(shell: Shell) -> None:
    result = shell("migrate", "--to", "2.0.0")

    assert result.exit_code == 2
    assert "name a run" in result.stderr


def test_what_keeps_a_run_is_said_with_what_to_do(shell: Shell, run: str) -> None:
    asked = shell("migrate", run, "--to", "3.0.0", "--dry-run")
    refused = shell("migrate", run, "--to", "3.0.0")

    assert (asked.exit_code, refused.exit_code) == (1, 1)
    for result in (asked, refused):
        assert "steps.w#1" in result.stderr
        assert "map it" in result.stderr


def test_a_run_goes_on_under_another_version(shell: Shell, run: str, name: str) -> None:
    asked = shell("migrate", run, "--to", "^2", "--map", "w=v", "--dry-run")
    assert asked.exit_code == 0, asked.stderr
    assert f"{name} 1.0.0 would go on as 2.0.0" in asked.stdout
    done = shell("migrate", run, "--to", "^2", "--map", "w=v", "--reason", "better", "--json")
    assert json.loads(done.stdout)["migrated"] is True
    shell("send", "never", "--run", run)
    assert json.loads(shell("show", run, "--json").stdout)["version"] == "2.0.0"


def test_every_run_of_a_filter_is_migrated(shell: Shell, run: str, name: str) -> None:
    asked = shell("migrate", "--workflow", name, "--to", "2.0.0", "--map", "w=v", "--dry-run")
    assert f"{run}  would" in asked.stdout
    stays = shell("migrate", "--workflow", name, "--to", "3.0.0")
    assert (stays.exit_code, "refused" in stays.stdout) == (1, True)
    done = shell("migrate", "--workflow", name, "--to", "2.0.0", "--map", "w=v")
    assert (done.exit_code, f"{run}  done" in done.stdout) == (0, True)
