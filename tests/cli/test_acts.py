from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from celeriac.client import Client
from tests.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("functions")

NOWHERE = "01900000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("command", ["cancel", "terminate", "pause", "resume"])
def test_without_a_run_or_a_filter_nothing_is_acted_on(shell: Shell, command: str) -> None:
    result = shell(command)

    assert result.exit_code == 2
    assert "--workflow" in result.stderr


def test_a_run_that_is_not_known_is_named_among_many(shell: Shell) -> None:
    result = shell("cancel", NOWHERE, NOWHERE[:-1] + "1")

    assert result.exit_code == 1
    assert result.stdout.count("there is no such run") == 2


def test_runs_of_a_workflow_are_paused_and_terminated_together(shell: Shell, patient: str) -> None:
    runs = {shell("run", patient, "--no-wait").stdout.strip() for _ in range(2)}

    paused = shell("pause", "--workflow", "patient", "--status", "running", "--json")
    ended = shell("terminate", "--workflow", "patient", "--reason", "night")

    assert paused.exit_code == 0, paused.output
    assert {each["run_id"] for each in json.loads(paused.stdout)} <= runs
    assert ended.exit_code == 0, ended.output
    assert all(run in ended.stdout for run in runs)
    for run in runs:
        shown = json.loads(shell("show", run, "--json").stdout)
        assert (shown["status"], shown["reason"]) == ("cancelled", "terminated")


def test_a_step_that_is_under_way_is_retried_and_skipped(shell: Shell, patient: str) -> None:
    run = shell("run", patient, "--no-wait").stdout.strip()
    key = (Path(shell.environment["CELERIAC_HOME"]) / "admin.key").read_text().strip()
    with Client(shell.environment["CELERIAC_URL"], key) as client:
        begun = {1: threading.Event(), 2: threading.Event()}

        def watch() -> None:
            for event in client.events(run):
                if getattr(event.told, "text", None) == "good night":
                    begun[event.told.attempt].set()  # type: ignore[union-attr]

        follower = threading.Thread(target=watch)
        follower.start()
        assert begun[1].wait(30)
        retried = shell("retry", run, "a#1", "--reason", "it hangs")
        assert begun[2].wait(30)
        skipped = shell("skip", run, "a#1", "--reason", "known")
        follower.join(30)

    assert (retried.exit_code, retried.stdout) == (0, "running\n")
    assert (skipped.exit_code, skipped.stdout) == (0, "completed\n")
    (step,) = (s for s in json.loads(shell("show", run, "--json").stdout)["steps"] if s["attempts"])
    assert [tried["reason"] for tried in step["attempts"]] == ["retried", None]


def test_a_step_that_is_not_live_is_said_to_be_so(shell: Shell, line: str) -> None:
    run = json.loads(shell("run", line, "--json").stdout)["id"]

    for command in ("skip", "retry"):
        result = shell(command, run, "a#1")
        assert result.exit_code == 1
        assert "already ended" in result.stderr
