"""What a function sees of what led to its step, and how the code of bundles is called."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sandbox.test_functions import source
from workers.sandbox import CallAnswer, Outcome, Sandbox
from workers.sandbox.inside import agentic
from workers.sandbox.inside.records import Record, of
from workers.sandbox.inside.state import Context

HEADER = {"name": "find", "exec_id": "r:find:1:1", "status": "SUCCEEDED", "attempt": 1}
TASK = {
    "header": HEADER,
    "policy_telemetry": {"latency_ms": 3.0},
    "parent_plan_exec_id": "r:p:1:1",
    "parent_plan_name": "p",
    "result": {"id": "r:find:1:1", "inline": {"n": 1}, "size_bytes": 7, "error_message": ""},
}
PLAN = {
    "header": {**HEADER, "name": "p", "exec_id": "r:p:1:1", "graph_id": "g", "lifetime_id": "r"},
    "policy_telemetry": {},
    "parent_task_exec_ids": ["r:find:1:1"],
    "parent_task_names": ["find"],
    "result": {
        "id": "r:p:1:1",
        "next_task_names": ["answer"],
        "upstream_tasks_results": [
            TASK["result"],
            {"id": "r:far:1:2", "uri": "/api/v1/blobs/x", "size_bytes": 9, "error_message": "late"},
        ],
        "error_message": "",
    },
    "implicit": False,
}


def run(sandbox: Sandbox, body: str, answer: CallAnswer) -> tuple[Outcome, int]:
    """How a function of that body ends, and how often it asked."""
    asked = []

    def previous() -> CallAnswer:
        asked.append(1)
        return answer

    text = f"def f(state, context):\n    {body}"
    return sandbox.run(source("f", text, {}), on_previous=previous), len(asked)


# --- inside ---------------------------------------------------------------------------------


def test_what_cannot_be_shown_is_an_error_with_its_reason(sandbox: Sandbox) -> None:
    refused = CallAnswer(ok=False, message="they hold 9 bytes, and 4 can be shown")
    outcome, _ = run(sandbox, "return context.previous", refused)
    assert (outcome.ok, outcome.reason) == (False, "error")
    assert "they hold 9 bytes, and 4 can be shown" in outcome.message


def test_nothing_is_looked_up_until_it_is_asked_for_and_then_once(sandbox: Sandbox) -> None:
    shown = CallAnswer(ok=True, value=[TASK])
    assert run(sandbox, "return 1", shown)[1] == 0
    outcome, asked = run(sandbox, "return [e.header.name for e in context.previous * 2]", shown)
    assert (outcome.value, asked) == (["find", "find"], 1)
    outcome, asked = run(sandbox, "return len(context.previous) + len(context.previous)", shown)
    assert (outcome.value, asked) == (2, 1)


def test_where_nobody_answers_nothing_led_to_the_step(sandbox: Sandbox) -> None:
    text = "def f(state, context):\n    return context.previous"
    assert sandbox.run(source("f", text, {})).value == []


def test_records_have_keys_and_attributes(sandbox: Sandbox) -> None:
    body = (
        "e = context.previous[0]\n    "
        "return [e['result']['inline']['n'], e.result.inline.n, e.nothing, list(e.header)]"
    )
    outcome, _ = run(sandbox, body, CallAnswer(ok=True, value=[TASK]))
    assert outcome.value == [1, 1, None, list(HEADER)]


def test_a_megabyte_of_results_reaches_the_function(sandbox: Sandbox) -> None:
    large = {**TASK, "result": {**TASK["result"], "inline": "x" * 1_048_574}}  # type: ignore[dict-item]
    shown = CallAnswer(ok=True, value=[large, large, large])
    outcome, _ = run(sandbox, "return sum(len(e.result.inline) for e in context.previous)", shown)
    assert outcome.value == 3 * 1_048_574


@pytest.mark.parametrize(
    "text",
    [
        "import json\ndef f(state):\n    return json.dumps([1])",
        "import json as j\ndef f(state):\n    return j.dumps([1])",
        "from json import dumps\ndef f(state):\n    return dumps([1])",
        "from __future__ import annotations\ndef f(state: Nobody):\n    return '[1]'",
        "import agentic_common.pb as pb\ndef f(state):\n    return str(pb.StoredData(uri='[1]').uri)",
        "import agentic_common.pb\ndef f(state):\n    return agentic_common.pb.StoredData(uri='[1]').uri",
        "from typing import List, Optional\ndef f(state) -> Optional[List]:\n    return '[1]'",
    ],
)
def test_what_may_be_imported_is_there(sandbox: Sandbox, text: str) -> None:
    assert sandbox.run(source("f", text, {})).value == "[1]"


@pytest.mark.parametrize(
    "text", ["import os", "from typing import get_type_hints", "from json import decoder"]
)
def test_nothing_else_is(sandbox: Sandbox, text: str) -> None:
    outcome = sandbox.run(source("f", f"{text}\ndef f(state):\n    return 1", {}))
    assert (outcome.ok, outcome.reason) == (False, "error")
    assert "import" in outcome.message.lower()


# --- the messages of bundles -----------------------------------------------------------------


def context(*previous: Any) -> Context:
    facts = {"run_id": "r", "version_id": "g", "node": "n", "idempotency_key": "r/n#1"}
    return Context(facts, invoke=None, tools=None, previous=lambda: of(list(previous)))


def test_a_message_has_its_fields_and_no_others() -> None:
    result = agentic.PlanResult()
    result.next_task_names.append("a")
    result.error_message = "no"
    assert result == {
        "upstream_tasks_results": [],
        "next_task_names": ["a"],
        "error_message": "no",
    }
    assert agentic.PlanResult().next_task_names == []
    with pytest.raises(AttributeError, match="PlanResult has no names; it has"):
        agentic.PlanResult(names=["a"])
    with pytest.raises(AttributeError, match="has no names"):
        result.names = ["a"]


def test_a_plan_is_given_the_tasks_before_it() -> None:
    seen: list[agentic.PlanInput] = []

    def plan(given: agentic.PlanInput) -> Any:
        seen.append(given)
        return ["a"]

    answer = agentic.run_plan(plan, {"q": 1}, context(TASK))
    assert answer.value == {"next_task_names": ["a"]}
    (given,) = seen
    assert (given.plan_name, given.graph_id, given.lifetime_id) == ("n", "g", "r")
    assert given.variables == {"q": 1}
    (task,) = given.task_executions
    assert isinstance(task, agentic.TaskExecution)
    assert (task.header.name, task.parent_plan_name) == ("find", "p")
    assert task.result.inline_data == {"n": 1}
    assert task.policy_telemetry.latency_ms == 3.0


def test_a_plan_after_a_plan_is_given_the_tasks_whose_results_it_passed_on() -> None:
    seen: list[agentic.PlanInput] = []
    agentic.run_plan(lambda given: seen.append(given) or [], {}, context(PLAN))  # type: ignore[func-returns-value]
    first, second = seen[0].task_executions
    assert (first.header.name, first.result.inline_data) == ("find", {"n": 1})
    assert (second.header.name, second.header.status) == ("far", "FAILED")
    assert second.result.external_data.uri == "/api/v1/blobs/x"
    assert second.result.error_message == "late"


def test_a_task_is_given_the_plan_before_it_or_an_empty_one() -> None:
    seen: list[agentic.TaskInput] = []
    agentic.run_task(seen.append, {}, context(PLAN))
    agentic.run_task(seen.append, {}, context())
    chosen, first = seen
    assert chosen.plan_execution.result.next_task_names == ["answer"]
    assert chosen.plan_execution.result.upstream_tasks_results[0].inline_data == {"n": 1}
    assert chosen.plan_execution.parent_task_names == ["find"]
    assert first.plan_execution.header.exec_id == ""


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (None, None),
        ([1], [1]),
        ({"a": 1}, {"a": 1}),
        ({"id": "x", "a": 1}, {"id": "x", "a": 1}),
        ({"id": "x"}, {"id": "x"}),
        ({"id": "x", "inline_data": [1]}, [1]),
        ({"inline_data": [1], "more": 2}, {"inline_data": [1], "more": 2}),
        (agentic.TaskResult(inline_data=7), 7),
        (agentic.TaskResult(), None),
        (
            agentic.TaskResult(external_data=agentic.StoredData(uri="s3://x")),
            {"uri": "s3://x", "metadata": {}},
        ),
        (Record(a=1), {"a": 1}),
    ],
)
def test_what_a_task_returns_is_its_result(answer: Any, value: Any) -> None:
    assert agentic.run_task(lambda _: answer, {}, context()).value == value


@pytest.mark.parametrize("answer", [None, 7, "a", {"next_task_names": "a"}, {}, [1]])
def test_a_plan_answers_with_a_list_of_names(answer: Any) -> None:
    with pytest.raises(TypeError, match="no list of names"):
        agentic.run_plan(lambda _: answer, {}, context())


def test_an_error_message_is_a_failure() -> None:
    for answer in ({"error_message": "no"}, agentic.PlanResult(error_message="no")):
        with pytest.raises(agentic.Declined, match="no"):
            agentic.run_plan(lambda _, answer=answer: answer, {}, context())
        with pytest.raises(agentic.Declined, match="no"):
            agentic.run_task(lambda _, answer=answer: answer, {}, context())
