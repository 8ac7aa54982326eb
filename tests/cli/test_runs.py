from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from celeriac.client import Client
from tests.cli.conftest import Shell
from tests.support.services import ROOT

pytestmark = pytest.mark.usefixtures("functions")


@pytest.mark.parametrize("command", ["runs", "graphs", "functions", "tools"])
def test_without_a_platform_nothing_is_reachable(
    shell: Shell, command: str, tmp_path: Path
) -> None:
    result = shell(command, CELERIAC_URL="", CELERIAC_HOME=str(tmp_path))

    assert result.exit_code == 3
    assert "start it with: celeriac up" in result.stderr


def test_a_platform_that_does_not_answer_is_not_reachable(shell: Shell) -> None:
    with socket.socket() as taken:
        # Bound and not listening: whoever connects is refused.
        taken.bind(("127.0.0.1", 0))
        result = shell("runs", CELERIAC_URL=f"http://127.0.0.1:{taken.getsockname()[1]}")

    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ")
    assert "`celeriac up`" in result.stderr


def test_a_key_that_is_not_known_is_wrong_usage(shell: Shell) -> None:
    result = shell("runs", CELERIAC_API_KEY="clr_0123456789abcdef." + "x" * 43)

    assert result.exit_code == 2
    assert "CELERIAC_API_KEY" in result.stderr


@pytest.mark.parametrize("command", ["show", "logs", "cancel"])
def test_a_run_that_is_not_known_is_said_to_be_so(shell: Shell, command: str) -> None:
    result = shell(command, "nope")

    assert result.exit_code == 1
    assert result.stderr == "Error: Run not found: nope\n"


def test_a_workflow_that_is_not_known_is_said_to_be_so(shell: Shell) -> None:
    assert "Workflow not found: nope" in shell("run", "nope").stderr
    assert shell("graphs", "nope").exit_code == 1


def test_a_document_with_problems_is_not_run(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("workflow: broken\nnodes:\n  a: {uses: no_such_function}\nedges: [a -> end]\n")

    result = shell("run", str(file))

    assert result.exit_code == 1
    assert "nodes.a.uses: Function not found: no_such_function" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-i", "n"), "'n' is not KEY=VALUE"),
        (("-i", "=3"), "is not KEY=VALUE"),
        (("--input", "[1]"), "must be a JSON object"),
        (("--input", "{"), "--input"),
        (("--input", "@/nope.json"), "cannot read /nope.json"),
        (("--version", "1.0.0"), "leave out --version"),
    ],
)
def test_inputs_that_cannot_be_read_are_wrong_usage(
    shell: Shell, line: str, arguments: tuple[str, ...], said: str
) -> None:
    result = shell("run", line, *arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_file_that_is_not_there_is_wrong_usage(shell: Shell) -> None:
    assert shell("run", "nope.yaml").exit_code == 2


def test_inputs_that_do_not_fit_are_told_with_their_place(shell: Shell, line: str) -> None:
    result = shell("run", line, "-i", "n=many")

    assert result.exit_code == 1
    assert "inputs.n: " in result.stderr


def test_a_run_that_fails_is_a_failure_that_says_why(shell: Shell, failing: str) -> None:
    result = shell("run", failing)

    assert result.exit_code == 1
    assert "✗ a#1" in result.stderr
    assert result.stdout.startswith("failed after ")
    assert "at a#1: error: ValueError: it went \\x1b[31mwrong" in result.stdout
    assert "\x1b" not in result.output


def test_a_list_of_steps_is_published_and_run(shell: Shell) -> None:
    result = shell("run", str(ROOT / "examples" / "loop-test.yaml"), "-i", "loop_max=3")

    assert result.exit_code == 0, result.output
    assert result.stderr.count("\u2713 1 echo#") == 3
    assert "  loop_idx_1  3\n" in result.stdout


def test_a_run_is_watched_to_its_end(shell: Shell, line: str) -> None:
    result = shell("run", line, "-i", "n=5")

    assert result.exit_code == 0
    told = result.stderr.splitlines()
    assert told[0].endswith("of line 1.0.0")
    assert [entry[:7] for entry in told if entry.startswith("✓")] == ["✓ a#1  ", "✓ b#1  "]
    assert "  | n is 5" in told
    assert result.stdout.startswith("completed after ")
    assert "  n  7\n" in result.stdout


def test_a_terminal_that_knows_few_characters_is_no_reason_to_fail(shell: Shell, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celeriac", "run", line],
        env={**os.environ, **shell.environment, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "\\u2713 a#1" in done.stderr


def test_a_run_is_told_to_programs(shell: Shell, line: str) -> None:
    shell("run", line)

    result = shell("run", "line", "--input", '{"n": 7}', "--json")

    answer = json.loads(result.stdout)
    assert answer["status"] == "completed"
    assert answer["variables"] == {"n": 9}
    assert answer["created_at"].endswith("Z")


def test_an_input_comes_before_the_same_one_of_the_object(
    shell: Shell, line: str, tmp_path: Path
) -> None:
    file = tmp_path / "inputs.json"
    file.write_text('{"n": 1}')

    result = shell("run", line, "--input", f"@{file}", "-i", "n=3", "--json")

    assert json.loads(result.stdout)["variables"] == {"n": 5}


def test_what_is_not_json_is_text(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "free.yaml"
    file.write_text("workflow: free\nnodes:\n  a: {uses: increment}\nedges: [a -> end]\n")

    result = shell("run", str(file), "-i", "who=ada", "-i", "bad=NaN", "-i", "ok=[1]", "--json")

    assert json.loads(result.stdout)["variables"] == {
        "who": "ada",
        "bad": "NaN",
        "ok": [1],
        "n": 1,
    }


def test_a_run_that_nobody_waits_for_prints_its_id_alone(shell: Shell, line: str) -> None:
    result = shell("run", line, "--no-wait")

    assert result.exit_code == 0
    shown = shell("show", result.stdout.strip(), "--json")
    assert json.loads(shown.stdout)["id"] == result.stdout.strip()


def test_a_run_that_failed_is_shown_with_its_reason_and_its_steps(
    shell: Shell, failing: str
) -> None:
    run = json.loads(shell("run", failing, "--json").stdout)["id"]

    result = shell("show", run)

    assert result.exit_code == 0
    assert "status    failed after " in result.stdout
    (step,) = [row for row in result.stdout.splitlines() if row.startswith("a#1")]
    assert step.split()[:3] == ["a#1", "failed", "1"]
    assert "ValueError: it went \\x1b[31mwrong" in step


def test_a_run_is_shown_with_its_history(shell: Shell, line: str) -> None:
    run = json.loads(shell("run", line, "--json").stdout)["id"]

    assert "RunSubmitted" in shell("show", run, "--history").stdout
    answer = json.loads(shell("show", run, "--history", "--json").stdout)
    assert [entry["seq"] for entry in answer["history"]] == list(range(1, answer["seq"] + 1))
    assert [step["key"] for step in answer["steps"]][:2] == ["a#1", "b#1"]


def test_runs_are_listed_by_status_and_workflow(shell: Shell, line: str, failing: str) -> None:
    failed = json.loads(shell("run", failing, "--json").stdout)["id"]
    completed = json.loads(shell("run", line, "--json").stdout)["id"]

    listed = shell("runs", "--status", "failed", "--workflow", "failing", "--limit", "1")
    assert failed in listed.stdout
    assert completed not in listed.stdout
    told = json.loads(shell("runs", "--json", "--limit", "2").stdout)
    assert [run["id"] for run in told] == [completed, failed]


def test_no_runs_are_an_empty_list(shell: Shell) -> None:
    assert json.loads(shell("runs", "--workflow", "nope", "--json").stdout) == []
    assert shell("runs", "--workflow", "nope").stderr == "There are no such runs.\n"


def test_what_steps_printed_is_printed(shell: Shell, line: str) -> None:
    run = json.loads(shell("run", line, "-i", "n=1", "--json").stdout)["id"]

    assert shell("logs", run).stdout == "a#1 | n is 1\nb#1 | n is 2\n"
    assert shell("logs", run, "--step", "b#1").stdout == "b#1 | n is 2\n"
    assert shell("logs", run, "-f").stdout == "a#1 | n is 1\nb#1 | n is 2\n"
    told = [json.loads(row) for row in shell("logs", run, "--json").stdout.splitlines()]
    assert [entry["text"] for entry in told] == ["n is 1", "n is 2"]


def test_a_run_that_is_under_way_is_followed_and_cancelled(shell: Shell, patient: str) -> None:
    run = shell("run", patient, "--no-wait").stdout.strip()
    key = (Path(shell.environment["CELERIAC_HOME"]) / "admin.key").read_text().strip()
    with Client(shell.environment["CELERIAC_URL"], key) as client:
        printed = threading.Event()

        def watch() -> None:
            for event in client.events(run):
                if getattr(event.told, "text", None) == "good night":
                    printed.set()

        follower = threading.Thread(target=watch)
        follower.start()
        assert printed.wait(30)
        result = shell("cancel", run, "--reason", "enough")
        follower.join(30)

    assert result.exit_code == 0
    assert result.stdout == "cancelled\n"
    assert shell("logs", run, "-f").stdout == "a#1 | good night\n"
    assert "cancelled after " in shell("show", run).stdout
    assert "enough" in shell("show", run).stdout


def test_a_run_that_has_ended_is_not_cancelled(shell: Shell, line: str) -> None:
    run = json.loads(shell("run", line, "--json").stdout)["id"]

    result = shell("cancel", run)

    assert result.exit_code == 1
    assert "already ended" in result.stderr
