from __future__ import annotations

import json
from pathlib import Path

import pytest

from celeriac.client import Client
from tests.cli.conftest import Shell

ASKING = """
workflow: asking
variables: {said: {}}
outputs: {said: $said}
nodes:
  ask:
    kind: approval
    title: Ship it?
    form: {stars: {type: integer, default: 1}}
    save: {said: $result.form}
edges: [ask -> end]
"""
PATIENT = """
workflow: awaiting
inputs: {order: {type: integer}}
variables: {paid: {}}
outputs: {paid: $paid}
nodes:
  pay: {kind: event, name: paid, match: {order: $order}, save: {paid: $result}}
edges: [pay -> end]
"""


@pytest.fixture
def asking(shell: Shell, tmp_path: Path) -> str:
    """A run that asks somebody."""
    return _started(shell, tmp_path, ASKING)


def _started(shell: Shell, folder: Path, text: str, *arguments: str) -> str:
    file = folder / "flow.yaml"
    file.write_text(text)
    return shell("run", str(file), "--no-wait", *arguments).stdout.strip()


def _arrived(shell: Shell, run: str) -> None:
    """Wait until a run waits: its history tells."""
    with Client(shell.environment["CELERIAC_URL"], _key(shell)) as client:
        for event in client.events(run):
            if getattr(event.told, "kind", "") == "Opened":
                return


def _key(shell: Shell) -> str:
    return Path(shell.environment["CELERIAC_HOME"], "admin.key").read_text().strip()


# --- sad paths -------------------------------------------------------------------------------------


def test_an_answer_that_does_not_fit_fails_and_says_where(shell: Shell, asking: str) -> None:
    _arrived(shell, asking)
    result = shell("answer", asking, "ask#1", "--choice", "maybe", "--field", "stars=many")
    assert result.exit_code == 1
    assert "choice: there is no choice 'maybe'" in result.stderr
    assert shell("answer", asking, "ask#1", "--field", "stars").exit_code == 2
    shell("cancel", asking)


def test_an_answer_that_comes_too_late_fails_with_the_verdict(shell: Shell, asking: str) -> None:
    _arrived(shell, asking)
    assert shell("answer", asking, "ask#1", "--choice", "reject").stdout == "settled\n"
    result = shell("answer", asking, "ask#1", "--choice", "approve")
    assert result.exit_code == 1
    assert "is settled" in result.stderr


def test_who_is_not_asked_fails(shell: Shell, tmp_path: Path) -> None:
    text = ASKING.replace("title: Ship it?", "from: [user:nobody]")
    run = _started(shell, tmp_path, text)
    _arrived(shell, run)
    result = shell("answer", run, "ask#1", "--choice", "approve")
    assert result.exit_code == 1
    assert "is not asked: user:nobody may answer" in result.stderr
    shell("cancel", run)


def test_many_are_named_or_chosen_and_not_both(shell: Shell) -> None:
    for arguments in (
        *((), ("run",), ("--mine", "apr_x"), ("apr_x", "a#1", "b")),
        ("apr_x", "--behalf", "zoe"),
    ):
        assert shell("answer", *arguments, "--choice", "approve").exit_code == 2, arguments
    refused = shell("answer", "apr_x", "--choice", "approve")
    assert refused.exit_code == 1
    assert "there is no question apr_x" in refused.stdout


def test_a_say_is_not_handed_over_without_a_reason_or_to_oneself(shell: Shell) -> None:
    assert shell("delegate", "zoe", "--until", "2026-01-01").exit_code == 2
    assert shell("delegate", "zoe", "--reason", "away").exit_code == 1
    assert shell("revoke", "nonsense").exit_code == 1


def test_a_payload_that_is_no_json_is_wrong_usage(shell: Shell) -> None:
    assert shell("send", "paid", "--payload", "{").exit_code == 2
    assert shell("send", "paid", "--match", "order").exit_code == 2


# ---------------------------------------------------------------------------------------------------


def test_somebody_is_asked_and_answers(shell: Shell, asking: str) -> None:
    _arrived(shell, asking)
    listed = shell("waits", "--run", asking).stdout
    assert "Ship it?" in listed
    assert "anybody" in listed
    (wait,) = json.loads(shell("waits", "--run", asking, "--json").stdout)
    assert (wait["step"], wait["choices"]) == ("ask#1", ["approve", "reject"])
    assert "waits for an answer" in shell("show", asking).stdout
    answered = shell("answer", asking, "ask#1", "--choice", "approve", "--field", "stars=5")
    assert answered.stdout == "settled\n"
    shown = json.loads(shell("show", asking, "--json").stdout)
    assert (shown["status"], shown["outputs"]) == ("completed", {"said": {"stars": 5}})
    assert "Nobody is asked" in shell("waits", "--run", asking).stderr


def test_an_event_is_sent_and_the_run_prints_what_it_gives(shell: Shell, tmp_path: Path) -> None:
    run = _started(shell, tmp_path, PATIENT, "-i", "order=7")
    _arrived(shell, run)
    assert "waits for the event paid" in shell("show", run).stdout
    sent = shell("send", "paid", "--match", "order=7", "--payload", '{"sum": 3}')
    assert f"claimed by pay#1 of {run}" in sent.stdout
    # Sent before anybody waits, it is kept, and the next run ends by itself.
    kept = shell("send", "paid", "--match", "order=8", "--payload", '{"sum": 4}', "--json")
    assert json.loads(kept.stdout)["state"] == "kept"
    watched = shell("run", "awaiting", "-i", "order=8")
    assert watched.exit_code == 0
    assert '{"sum": 4}' in watched.stdout
    assert "order" not in watched.stdout
    assert "waits: event" in watched.stderr
    dropped = shell("send", "paid", "--run", run, "--transient")
    assert dropped.exit_code == 1
    assert "has ended" in dropped.stderr


def test_a_run_is_cancelled_with_what_it_did_undone(
    shell: Shell, functions: None, tmp_path: Path
) -> None:
    text = ASKING.replace(
        "nodes:", "nodes:\n  a: {uses: increment, compensate: increment}"
    ).replace("[ask -> end]", "[a -> ask -> end]")
    run = _started(shell, tmp_path, text)
    _arrived(shell, run)
    assert shell("cancel", run, "--compensate").exit_code == 0
    with Client(shell.environment["CELERIAC_URL"], _key(shell)) as client:
        ended = client.wait(run, timeout=60)
        assert ended.status == "cancelled"
        assert [step.key for step in ended.steps()] == ["a#1", "ask#1", "undo a#1"]


# --- the inbox -------------------------------------------------------------------------------------


def test_many_are_answered_with_one_reason_that_is_shown_afterwards(
    shell: Shell, tmp_path: Path
) -> None:
    text = ASKING.replace("workflow: asking", "workflow: boss-asking").replace(
        "title: Ship it?", "title: Ship it?\n    reason: required"
    )
    runs = [_started(shell, tmp_path, text) for _ in range(2)]
    for run in runs:
        _arrived(shell, run)
    of_them = ("--workflow", "boss-asking")
    listed = json.loads(shell("waits", "--mine", *of_them, "--json").stdout)
    assert [one["run_id"] for one in listed] == runs
    counted = json.loads(shell("waits", "--count", *of_them, "--json").stdout)
    assert (counted["mine"], counted["overdue"], counted["all"]) == (2, 0, 2)
    unsaid = shell("answer", "--mine", *of_them, "--choice", "reject")
    assert unsaid.exit_code == 1
    assert "reason: is missing" in unsaid.stdout
    done = shell("answer", "--mine", *of_them, "--choice", "reject", "--reason", "too dear")
    assert done.exit_code == 0, done.output
    assert "Ship it?" in done.stderr
    for run in runs:
        shown = shell("answers", run, "ask#1").stdout
        assert "denied" in shown
        assert "too dear" in shown
    denied = json.loads(shell("approvals", "--status", "denied", "--json").stdout)
    assert {one["run_id"] for one in denied} >= {*runs}
    assert "too dear" in shell("approvals").stdout


def test_a_say_is_handed_over_and_taken_back(shell: Shell, asking: str) -> None:
    _arrived(shell, asking)
    here = ("--run", asking, "--step", "ask#1", "--reason", "away", "--json")
    assert "there is no such user" in shell("delegate", "zoe", *here).stderr
    assert shell("user", "create", "zoe", "--role", "approver").exit_code == 0
    given = json.loads(shell("delegate", "zoe", *here).stdout)
    assert (given["taker"], given["status"]) == ("zoe", "open")
    assert "zoe" in shell("delegations").stdout
    assert shell("revoke", given["id"]).stdout == f"{given['id']} revoked\n"
    shell("cancel", asking)
