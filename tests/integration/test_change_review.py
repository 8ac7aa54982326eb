"""The kinds of nodes that the review of changes brings, on a real database and a real sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.change_review import programs
from engine.core.values import Json
from engine.platform import Platform
from engine.runs import catalogue, views
from engine.store.ids import RunId
from tests.support.hands import carry_out
from tests.support.platforms import TENANT, chain, publish, submit
from workers.execution import Worker

pytestmark = pytest.mark.usefixtures("sound")

CODE = "def double(n):\n    return 2 * n\n"


def trial(main: Platform, worker: Worker, program: Json) -> Any:
    """What a node of the kind comes to, for a program."""
    node: dict[str, Json] = {
        "kind": "change_review.trial",
        "with": {"program": "$program"},
        "save": {"told": "$result"},
        "timeout": "2s",
    }
    document = {
        **chain(a=node),
        "inputs": {"program": {}},
        "variables": {"told": {"default": "nothing"}},
        "outputs": {"told": "$told"},
    }
    run = submit(main, publish(main, document), program=program)
    ended = carry_out(main, worker, run)
    return ended.status, ended.reason, (views.run(main, run).outputs or {}).get("told")


def told(main: Platform, worker: Worker, tests: str) -> Any:
    whole = programs.program(CODE, programs.tests(tests, "double.py"))
    status, _, found = trial(main, worker, whole)
    assert status == "completed"
    return found


def test_without_a_program_there_is_nothing_to_try(main: Platform, worker: Worker) -> None:
    status, _, found = trial(main, worker, None)
    assert (status, found) == ("completed", None)


def test_what_is_no_program_is_refused(main: Platform, worker: Worker) -> None:
    status, reason, _ = trial(main, worker, 7)
    assert (status, reason) == ("failed", "input_failed")


def test_each_test_is_told_apart(main: Platform, worker: Worker) -> None:
    tests = "def test_a():\n    assert double(2) == 4\n\ndef test_b():\n    assert double(2) == 5, 'no'\n"
    assert told(main, worker, tests) == {
        "passed": ["<module>", "test_a"],
        "failed": [{"test": "test_b", "message": "AssertionError: no"}],
    }


def test_what_is_tried_reaches_no_tool_and_nothing_of_the_run(
    main: Platform, worker: Worker
) -> None:
    catalogue.register(main, TENANT, "tool", "loud", "def loud(text):\n    return text", by="ada")
    found = told(main, worker, "def test_a():\n    invoke('loud', text='psst')\n")
    (failed,) = found["failed"]
    assert "code that is tried alone calls no tools (loud)" in failed["message"]
    (run,) = views.runs(main, TENANT)
    assert not list(views.calls(main, RunId(TENANT, run.id)))


@pytest.mark.parametrize(
    "tests",
    [
        "import time\nwhile True: time.sleep(1)\n",
        "raise SystemExit(0)\n",
        "x = [0] * 10**10\n",
        "def test_a(): pass\n\nclass Liar(dict): pass\nrange(10**30)[10**40]\n",
    ],
)
def test_a_program_that_does_not_end_well_fails_its_tests_and_not_the_step(
    main: Platform, worker: Worker, tests: str
) -> None:
    found = told(main, worker, tests)
    assert found["passed"] == []
    assert [each["test"] for each in found["failed"]] == ["<module>"]


@pytest.mark.parametrize(
    "answer", ["7", "{'passed': 1, 'failed': []}", "{'passed': [], 'failed': [{'test': 1}]}"]
)
def test_an_answer_that_no_runner_gives_is_no_answer(
    main: Platform, worker: Worker, answer: str
) -> None:
    status, _, found = trial(main, worker, f"def {programs.ENTRY}():\n    return {answer}\n")
    assert (status, found["passed"]) == ("completed", [])
    assert "something else than its runner" in found["failed"][0]["message"]
