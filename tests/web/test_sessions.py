"""Workflows that are driven step by step on the platform: over REST, and by the engine of the SDK."""

from __future__ import annotations

import asyncio
import json
import operator
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import httpx2
import pytest
from flask import Flask

from celeriac.client import Client
from celeriac.steps import (
    AgenticWorkflowEngine,
    AgentState,
    Conflict,
    NotFound,
    StepStatus,
    StepType,
    ToolDefinition,
    Workflow,
)
from engine.errors import Forbidden
from engine.platform import Platform
from engine.runs import (
    access,
    catalogue,
    definitions,
    doctor,
    policies,
    sessions,
    sweep,
    turns,
    views,
)
from engine.sessions import story
from engine.sessions.steps import Wanted
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support.hands import carry_out
from tests.support.platforms import LINE, TENANT, Sent
from tests.support.site import Api
from tests.unit.steps import test_quick_start as quick_start
from workers.execution import Worker, execute
from workers.keeper import Keeper
from workers.sandbox import Sandbox

CALL = StepType.TOOL_CALL


def search(query: str) -> dict[str, Any]:
    return {"found": [query], "count": 1}


def count(of: list[str]) -> int:
    return len(of)


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def flaky(context: Any) -> int:
    if context.attempt < 3:
        raise ValueError(f"try {context.attempt}")
    return int(context.attempt)


@pytest.fixture
def workers(control: Platform, worker: Platform, sandbox: Sandbox) -> Iterator[None]:
    """Four workers and a sweeper, as threads, that carry out whatever turns send."""
    broker = control.broker
    assert isinstance(broker, Sent)
    # A process knows one database; this one has known others.
    definitions._known.clear()
    stop = threading.Event()

    def work(own: Worker) -> None:
        while not stop.wait(0.01):
            try:
                hint = broker.hints.pop(0)
            except IndexError:
                continue
            execute(own, hint.step)

    def tidy() -> None:
        while not stop.wait(0.05):
            sweep.sweep(control)

    with ExitStack() as stack:
        keeper = Keeper(worker)
        keeper.start()
        stack.callback(keeper.close)
        threads = [threading.Thread(target=tidy)]
        for number in range(4):
            own = Worker(
                name=f"w{number}",
                platform=worker,
                sandbox=sandbox,
                keeper=keeper,
                coordinator=control,
                follow=partial(turns.take_turns, control),
            )
            threads.append(threading.Thread(target=work, args=(own,)))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def client(app: Flask, control: Platform) -> Iterator[Client]:
    token = site.member(app, control).token
    with Client("http://127.0.0.1", token, transport=httpx2.WSGITransport(app=app)) as client:
        yield client


def played(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), 60))  # type: ignore[arg-type]  # a coroutine, always


def calls_of(control: Platform, workflow_id: str) -> list[str]:
    """The calls that were really made, by tool."""
    run = RunId(TENANT, story.run_of(workflow_id))
    return [call.tool for call in views.calls(control, run)]


# --- over REST ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "name"),
        ({"name": "", "config": {}}, "name"),
        ({"name": "a", "config": {"max_steps": 0}}, "config.max_steps"),
        ({"name": "a", "config": {"most": 1}}, "config.most"),
        ({"name": "a", "more": 1}, "more"),
    ],
)
def test_a_session_that_is_wrong_is_not_begun(api: Api, body: dict[str, Any], path: str) -> None:
    refused = api.post("/api/v1/sessions", json=body)
    assert (refused.status_code, refused.json["errors"][0]["path"]) == (422, path)
    assert api.get("/api/v1/sessions").json["items"] == []


def test_a_session_is_there_for_its_tenant_alone(
    api: Api, stranger: Api, control: Platform
) -> None:
    platforms.register(control, "noop")
    platforms.publish(control, dict(LINE))
    assert api.get("/api/v1/sessions/wf_none").status_code == 404
    run = api.post("/api/v1/runs", json={"workflow": "line", "inputs": {"n": 1}}).json["run_id"]
    assert api.get(f"/api/v1/sessions/{run}").status_code == 404
    made = api.post("/api/v1/sessions", json={"name": "Task"})
    assert (made.status_code, made.json["state"], made.json["user_id"]) == (201, "idle", "ada")
    place = made.headers["Location"]
    assert api.get(place).json == made.json
    assert api.get(f"/api/v1/sessions/{made.json['run_id']}").json == made.json
    for path in ("", "/steps/step_000000000000", "/checkpoints"):
        assert stranger.get(f"{place}{path}").status_code == 404
    step = {"step_type": "reasoning", "name": "Think"}
    for path, body in (
        ("/steps", step),
        ("/rollback", {"checkpoint_id": "ckpt_x"}),
        ("/complete", None),
        ("/cancel", {}),
    ):
        assert stranger.post(f"{place}{path}", json=body).status_code == 404
    assert stranger.get("/api/v1/sessions").json["items"] == []
    (listed,) = api.get("/api/v1/sessions").json["items"]
    assert (listed["workflow_id"], listed["status"]) == (made.json["workflow_id"], "running")


def test_what_needs_no_worker_is_done_when_it_is_answered(api: Api) -> None:
    place = api.post(
        "/api/v1/sessions",
        json={"name": "Task", "config": {"checkpoint_interval_steps": 2, "max_steps": 6}},
    ).headers["Location"]

    def think(name: str, **more: Any) -> Any:
        body = {"step_type": "reasoning", "name": name, "input_data": {"reasoning": name}, **more}
        return api.post(f"{place}/steps", json=body)

    first = think("A", step_id="step_0123456789ab")
    assert (first.status_code, first.json["status"]) == (201, "completed")
    assert first.headers["Location"] == f"{place}/steps/step_0123456789ab"
    assert think("A", step_id="step_0123456789ab").json == first.json
    wrong = think("B", condition="$(")
    assert (wrong.status_code, wrong.json["errors"][0]["path"]) == (422, "condition")
    assert think("B", condition="$context.A.reasoning == 'B'").json["status"] == "skipped"
    assert think("C").json["output_data"] == {"reasoning": "C"}
    kept = api.post(f"{place}/checkpoints", json={"name": "here"})
    assert (kept.status_code, kept.json["state"]["step_count"]) == (201, 4)
    (earlier, later) = api.get(f"{place}/checkpoints").json["items"]
    assert (earlier["state"]["step_count"], later) == (2, kept.json)

    back = api.post(f"{place}/rollback", json={"checkpoint_id": earlier["checkpoint_id"]})
    assert (back.json["step_count"], back.json["context_keys"]) == (2, ["A"])
    assert [step["rolled_back"] for step in back.json["steps"]] == [False, False, True, True]
    none = api.post(f"{place}/rollback", json={"checkpoint_id": "ckpt_000000000000"})
    assert none.status_code == 404

    for name in "DEFG":
        assert think(name).json["status"] == "completed"
    over = think("H").json
    assert (over["status"], over["error"]) == ("failed", "Exceeded maximum steps (6)")
    done = api.post(f"{place}/complete").json
    assert (done["state"], done["status"], done["step_count"]) == ("completed", "completed", 6)
    assert done["total_duration_ms"] >= 0
    for path, body in (("/steps", {"step_type": "reasoning", "name": "I"}), ("/complete", None)):
        assert api.post(f"{place}{path}", json=body).status_code == 409
    history = api.get(f"/api/v1/runs/{done['run_id']}").json
    assert (history["status"], history["workflow"]) == ("completed", "celeriac.session")


def test_two_that_send_a_step_at_once_do_not_both_count(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = api.post("/api/v1/sessions", json={"name": "Task"}).headers["Location"]
    step = {"step_type": "reasoning", "name": "Mine"}
    real = story.tell
    sent: list[int] = []

    def late(*args: Any) -> Any:
        found = real(*args)
        if not sent:
            sent.append(api.post(f"{place}/steps", json={**step, "name": "Theirs"}).status_code)
        return found

    def once(*args: Any) -> Any:
        monkeypatch.setattr(story, "tell", real)
        return late(*args)

    monkeypatch.setattr(story, "tell", once)
    refused = api.post(f"{place}/steps", json=step)
    assert sent == [201]
    assert (refused.status_code, "another step came before" in refused.json["detail"]) == (
        409,
        True,
    )
    assert [each["name"] for each in api.get(place).json["steps"]] == ["Theirs"]
    assert api.post(f"{place}/steps", json=step).status_code == 201


def test_nobody_else_says_what_a_session_does(api: Api, app: Flask, control: Platform) -> None:
    place = api.post("/api/v1/sessions", json={"name": "Task"}).headers["Location"]
    run = api.get(place).json["run_id"]
    bob = replace(access.LOCAL, user="bob", roles=frozenset({"operator", "approver"}))
    operator = Api(client=app.test_client(), token=access.create_key(control.database, bob))
    step = {"step_type": "reasoning", "name": "Mine"}
    for path, body in (
        ("/steps", step),
        ("/checkpoints", {}),
        ("/rollback", {"checkpoint_id": "ckpt_x"}),
        ("/complete", None),
    ):
        assert operator.post(f"{place}{path}", json=body).status_code == 403
    forged = operator.post(f"/api/v1/runs/{run}/events/celeriac.step", json={"payload": step})
    assert forged.status_code == 422
    assert api.get(place).json["steps"] == []
    admin = site.member(app, control, user="eve")
    assert admin.post(f"{place}/steps", json=step).status_code == 201


# --- with the engine of the SDK -------------------------------------------------------------------


def search_documents_handler(query: str) -> list[str]:
    return [query, "ADA Standards of Care"]


@pytest.mark.usefixtures("workers")
def test_the_quick_start_runs_on_the_platform_as_it_is_printed(
    client: Client, control: Platform
) -> None:
    found = quick_start.played(search_documents_handler, client=client)
    step, workflow = found["step"], found["workflow"]
    assert step.status is StepStatus.COMPLETED
    assert step.output_data == {"result": ["diabetes guidelines", "ADA Standards of Care"]}
    assert (workflow.state, workflow.user_id) == (AgentState.COMPLETED, "user_123")
    assert (workflow.total_cost_usd, workflow.total_tool_calls) == (0.01, 1)
    assert workflow.total_duration_ms is not None
    (call,) = views.calls(control, RunId(TENANT, workflow.run_id))
    assert (call.tool, call.arguments) == (
        "search_documents",
        {"args": [], "kwargs": {"query": "diabetes guidelines"}},
    )


@pytest.mark.usefixtures("workers")
def test_the_steps_of_a_session_are_carried_out_by_workers(
    client: Client, control: Platform
) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(
            {"max_retries": 3, "retry_backoff_seconds": 0.1}, client=client
        )
        register = engine.tool_registry.register
        register(ToolDefinition("search", parameters={"query": {"type": "string"}}), search)
        workflow = await engine.create_workflow("Task")

        async def step(name: str, tool: str, **given: Any) -> Any:
            options = {
                each: given.pop(each) for each in ("on_failure", "condition") if each in given
            }
            return await engine.execute_step(
                workflow.workflow_id, CALL, name, input_data=given, tool_name=tool, **options
            )

        await step("Search", "search", query="gout")
        # Registered while it runs, and usable at once.
        register(ToolDefinition("count"), count)
        counted = await step("Count", "count", of="$context.Search.result.found")
        assert (counted.input_data, counted.output_data) == ({"of": ["gout"]}, {"result": 1})

        wrong = await step("Search", "search", query=1)
        assert (wrong.status, "input_data.query" in wrong.error) == (StepStatus.FAILED, True)
        missing = await step("Missing", "missing", on_failure="skip")
        assert missing.status is StepStatus.SKIPPED

        register(ToolDefinition("flaky"), flaky)
        tried = await step("Flaky", "flaky", on_failure="retry")
        assert tried.output_data == {"result": 3}
        assert [each.outcome for each in tried.attempts] == ["failed", "failed", "succeeded"]
        pauses = [
            (each.again_at - each.ended_at).total_seconds()
            for each in tried.attempts
            if each.again_at is not None
        ]
        assert pauses == pytest.approx([0.1, 0.2], abs=0.01)

        register(ToolDefinition("nap", timeout_seconds=1), nap)
        late = await step("Late", "nap", seconds=5)
        assert (late.status, late.error) == (StepStatus.FAILED, "timed out after 1s")

        register(ToolDefinition("rest", timeout_seconds=10), _rest)
        children = [
            {"name": f"r{n}", "tool_name": "rest", "input_data": {"seconds": 1}} for n in range(3)
        ]
        began = time.monotonic()
        side_by_side = await engine.execute_step(
            workflow.workflow_id, StepType.PARALLEL, "Rest", child_steps=children
        )
        assert time.monotonic() - began < 3
        assert side_by_side.status is StepStatus.COMPLETED
        assert [each.output_data for each in side_by_side.child_steps] == [{"result": 1}] * 3

        stopped = await step("Stop", "flaky", on_failure="stop")
        assert (stopped.status, workflow.state) == (StepStatus.FAILED, AgentState.FAILED)
        with pytest.raises(Conflict):
            await step("More", "search", query="a")
        made = calls_of(control, workflow.workflow_id)
        assert made == ["search", "count", *["flaky"] * 3, "nap", *["rest"] * 3, "flaky"]

    played(play)


def _rest(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.usefixtures("workers")
def test_people_allow_deny_and_give(client: Client, control: Platform) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        engine.tool_registry.register(ToolDefinition("send_email"), _rest)
        workflow = await engine.create_workflow("Task")

        async def ask() -> Any:
            return await engine.execute_step(
                workflow.workflow_id,
                CALL,
                "Mail",
                input_data={"seconds": 0},
                tool_name="send_email",
            )

        step = await ask()
        assert (step.status, workflow.state) == (
            StepStatus.WAITING_APPROVAL,
            AgentState.WAITING_APPROVAL,
        )
        assert calls_of(control, workflow.workflow_id) == []
        (wait,) = client.waits(kind="approval")
        assert wait.show["tool"] == "send_email"
        done = await engine.approve_step(workflow.workflow_id, step.step_id)
        assert (done.status, done.output_data) == (StepStatus.COMPLETED, {"result": 0})
        assert done.approval.approved_by == "ada"
        denied = await ask()
        denied = await engine.deny_step(workflow.workflow_id, denied.step_id, reason="no")
        assert (denied.status, denied.error) == (StepStatus.FAILED, "denied by ada: no")
        with pytest.raises(Conflict):
            await engine.approve_step(workflow.workflow_id, denied.step_id)
        assert calls_of(control, workflow.workflow_id) == ["send_email"]
        asked = await engine.execute_step(workflow.workflow_id, StepType.HUMAN_INPUT, "Age")
        given = await engine.provide_input(workflow.workflow_id, asked.step_id, 42)
        assert given.output_data == {"input": 42}

    played(play)


@pytest.mark.usefixtures("workers")
def test_whoever_comes_after_a_client_that_died_goes_on_where_it_was(
    client: Client, control: Platform
) -> None:
    async def play() -> None:
        first = AgenticWorkflowEngine(client=client)
        first.tool_registry.register(ToolDefinition("search"), search)
        workflow = await first.create_workflow("Task")

        async def step(engine: AgenticWorkflowEngine, query: str, step_id: str) -> Any:
            return await engine.execute_step(
                workflow.workflow_id,
                CALL,
                query,
                input_data={"query": query},
                tool_name="search",
                step_id=step_id,
            )

        one = await step(first, "one", "step_000000000001")
        # It sent the second and was gone before it heard of it.
        gone = asyncio.create_task(step(first, "two", "step_000000000002"))
        await asyncio.sleep(0.05)
        gone.cancel()
        second = AgenticWorkflowEngine(client=client)
        known = await second.get_workflow(workflow.workflow_id)
        assert known.steps[0] == one
        again = [
            await step(second, "one", "step_000000000001"),
            await step(second, "two", "step_000000000002"),
            await step(second, "$context.two.result.found", "step_000000000003"),
        ]
        assert [each.status for each in again] == [StepStatus.COMPLETED] * 3
        assert again[2].input_data == {"query": ["two"]}
        assert calls_of(control, workflow.workflow_id) == ["search"] * 3

    played(play)


@pytest.mark.usefixtures("workers")
def test_a_rollback_restores_all_but_the_money(client: Client, control: Platform) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        engine.tool_registry.register(ToolDefinition("rest", cost_estimate_usd=0.25), _rest)
        workflow = await engine.create_workflow("Task")
        for number in range(7):
            await engine.execute_step(
                workflow.workflow_id,
                CALL,
                f"R{number}",
                input_data={"seconds": 0},
                tool_name="rest",
            )
        (kept,) = workflow.checkpoints
        await engine.rollback(workflow.workflow_id, kept.checkpoint_id)
        assert (workflow.step_count, workflow.total_cost_usd) == (5, 1.25)
        assert workflow.spent_usd == 1.75
        assert workflow.context == kept.state["context"]
        assert len(calls_of(control, workflow.workflow_id)) == 7
        again = await engine.execute_step(
            workflow.workflow_id, CALL, "R5", input_data={"seconds": 0}, tool_name="rest"
        )
        assert (again.status, workflow.step_count) == (StepStatus.COMPLETED, 6)

    played(play)


@pytest.mark.usefixtures("workers")
def test_a_session_that_takes_too_long_fails(client: Client) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine({"max_duration_seconds": 0.5}, client=client)
        engine.tool_registry.register(ToolDefinition("rest"), _rest)
        workflow = await engine.create_workflow("Task")
        step = await engine.execute_step(
            workflow.workflow_id, CALL, "Rest", input_data={"seconds": 5}, tool_name="rest"
        )
        assert step.status is StepStatus.CANCELLED
        assert (workflow.state, workflow.error) == (
            AgentState.FAILED,
            "Exceeded maximum duration (0.5 s)",
        )
        with pytest.raises(NotFound):
            await engine.get_workflow("wf_none")

    played(play)


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("name", ["rest", "send_email"])
def test_a_tool_that_wants_an_approval_is_parked_and_then_really_called(
    client: Client, control: Platform, name: str
) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        # A sensitive one is asked about once, too.
        engine.tool_registry.register(ToolDefinition(name, requires_approval=True), _rest)
        workflow = await engine.create_workflow("Task")

        async def ask() -> Any:
            return await engine.execute_step(
                workflow.workflow_id, CALL, "Rest", input_data={"seconds": 0}, tool_name=name
            )

        step = await ask()
        assert (step.status, workflow.state) == (
            StepStatus.WAITING_APPROVAL,
            AgentState.WAITING_APPROVAL,
        )
        assert calls_of(control, workflow.workflow_id) == []
        done = await engine.approve_step(workflow.workflow_id, step.step_id)
        assert (done.status, done.output_data) == (StepStatus.COMPLETED, {"result": 0})
        assert (done.approval.status, done.approval.approved_by) == ("approved", "ada")
        assert calls_of(control, workflow.workflow_id) == [name]
        step = await ask()
        denied = await engine.deny_step(workflow.workflow_id, step.step_id, reason="no")
        assert (denied.status, denied.error) == (StepStatus.FAILED, "denied by ada: no")
        assert calls_of(control, workflow.workflow_id) == [name]

    played(play)


@pytest.mark.usefixtures("workers")
def test_calls_side_by_side_are_allowed_one_by_one(client: Client, control: Platform) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        engine.tool_registry.register(ToolDefinition("rest", requires_approval=True), _rest)
        workflow = await engine.create_workflow("Task")
        children = [
            {"name": f"r{n}", "tool_name": "rest", "input_data": {"seconds": n}} for n in range(2)
        ]
        step = await engine.execute_step(
            workflow.workflow_id, StepType.PARALLEL, "Both", child_steps=children
        )
        assert step.status is StepStatus.WAITING_APPROVAL
        await until(engine, workflow, lambda: len([*client.waits(kind="permit")]) == 2)
        first, second = step.child_steps
        with pytest.raises(Conflict, match="child_steps"):
            await engine.approve_step(workflow.workflow_id, step.step_id)
        await engine.approve_step(workflow.workflow_id, first.step_id)
        assert workflow.steps[0].status is StepStatus.WAITING_APPROVAL
        await engine.deny_step(workflow.workflow_id, second.step_id)
        await until(engine, workflow, lambda: workflow.steps[0].completed_at is not None)
        assert workflow.steps[0].status is StepStatus.FAILED
        assert [each.status for each in workflow.steps[0].child_steps] == [
            StepStatus.COMPLETED,
            StepStatus.FAILED,
        ]
        assert calls_of(control, workflow.workflow_id) == ["rest"]

    played(play)


async def until(
    engine: AgenticWorkflowEngine, workflow: Workflow, holds: Callable[[], bool]
) -> None:
    """Look at a workflow until something holds that others bring about."""
    while not holds():
        await asyncio.sleep(0.02)
        await engine.get_workflow(workflow.workflow_id)


@pytest.mark.usefixtures("workers")
def test_what_a_step_does_not_show_is_not_allowed_by_it(client: Client, control: Platform) -> None:
    rules = [
        {"tool": "rest", "action": "modify", "set": {"seconds": 0.01}},
        {"tool": "rest", "action": "ask"},
    ]
    policies.apply(control, TENANT, json.dumps({"policy": "p", "rules": rules}), by="ada")

    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        engine.tool_registry.register(ToolDefinition("rest"), _rest)
        workflow = await engine.create_workflow("Task")
        step = await engine.execute_step(
            workflow.workflow_id, CALL, "Rest", input_data={"seconds": 5}, tool_name="rest"
        )
        with pytest.raises(Conflict, match="more is asked than step"):
            await engine.approve_step(workflow.workflow_id, step.step_id)
        assert calls_of(control, workflow.workflow_id) == []
        denied = await engine.deny_step(workflow.workflow_id, step.step_id)
        assert denied.status is StepStatus.FAILED

    played(play)


@pytest.mark.usefixtures("workers")
def test_who_lacks_a_permission_or_meets_a_closed_tool_reaches_no_handler(
    app: Flask, api: Api, control: Platform
) -> None:
    bob = replace(access.LOCAL, user="bob", roles=frozenset({"operator"}))
    operator = Api(client=app.test_client(), token=access.create_key(control.database, bob))
    tool = {"name": "rest", "code": REST, "required_permissions": ["read:documents"]}
    assert api.post("/api/v1/tools", json=tool).status_code == 201
    place = operator.post("/api/v1/sessions", json={"name": "Task"}).headers["Location"]
    run = operator.get(place).json["run_id"]

    def step() -> Any:
        asked = {"step_type": "tool_call", "name": "Rest", "tool_name": "rest"}
        made = operator.post(f"{place}/steps", json={**asked, "input_data": {"seconds": 0}})
        assert made.status_code == 201
        return settled(operator, made.headers["Location"])

    denied = step()
    assert (denied["status"], denied["reason"]) == ("failed", "forbidden")
    assert "read:documents, which bob lacks" in denied["error"]
    told = api.get("/api/v1/audit", query_string={"run": run, "action": "AttemptFailed"}).json
    (line,) = told["items"]
    assert "read:documents, which bob lacks" in json.dumps(line)
    api.send("PATCH", "/api/v1/users/bob", json={"permissions": ["read:documents"]})
    assert step()["status"] == "completed"
    catalogue.stand(control, TENANT, "rest", {"status": "disabled"}, by="ada")
    assert "disabled" in step()["error"]
    assert calls_of(control, run) == ["rest"]


REST = "def rest(seconds):\n    return seconds"


def settled(api: Api, place: str) -> dict[str, Any]:
    """A step, once it is over or waits for somebody."""
    while True:
        found: dict[str, Any] = api.get(place).json
        if found["status"] not in ("pending", "running"):
            return found
        time.sleep(0.02)


def test_a_narrower_credential_does_nothing_by_a_session_of_a_wider_one(control: Platform) -> None:
    wide, narrow = (
        RunId(TENANT, story.run_of(begun.workflow_id))
        for begun in (
            sessions.begin(control, TENANT, "Task", by="ada"),
            sessions.begin(control, TENANT, "Task", by="ada", scopes=["event:send"]),
        )
    )
    thought = Wanted(step_type=StepType.REASONING, name="Think")
    with pytest.raises(Forbidden, match="may do more"):
        sessions.step(control, wide, thought, by="ada", scopes=["event:send"])
    assert not sessions.read(control, wide).steps
    sessions.step(control, narrow, thought, by="ada", scopes=["event:send", "run:read"])
    assert len(sessions.read(control, narrow).steps) == 1


@pytest.mark.usefixtures("workers")
def test_an_approval_that_nobody_gives_expires(client: Client, control: Platform) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine({"approval_expiry_hours": 0.0001}, client=client)
        engine.tool_registry.register(ToolDefinition("send_email"), _rest)
        workflow = await engine.create_workflow("Task")
        step = await engine.execute_step(
            workflow.workflow_id, CALL, "Mail", input_data={"seconds": 0}, tool_name="send_email"
        )
        approval = step.approval
        assert approval.request_id.startswith("apr_")
        assert (approval.policy_id, approval.requested_by) == ("sensitive_tools", "ada")
        assert approval.status == "pending"
        await until(engine, workflow, lambda: workflow.steps[0].completed_at is not None)
        (late,) = workflow.steps
        assert (late.status, late.reason) == (StepStatus.FAILED, "expired")
        assert late.approval is not None
        assert late.approval.status == "expired"
        with pytest.raises(Conflict):
            await engine.approve_step(workflow.workflow_id, step.step_id)
        assert calls_of(control, workflow.workflow_id) == []

    played(play)


def test_a_call_that_comes_near_the_most_is_asked_about_and_one_beyond_it_is_denied(
    api: Api, control: Platform
) -> None:
    for name, cost in (("near", 8.01), ("below", 8), ("beyond", 10.01)):
        platforms.register(control, name, namespace="tool", cost_estimate_usd=cost)
    for name, status in (
        ("near", "waiting_approval"),
        ("below", "running"),
        ("beyond", "failed"),
    ):
        place = api.post("/api/v1/sessions", json={"name": "Task"}).headers["Location"]
        step = {"step_type": "tool_call", "name": "Call", "tool_name": name}
        made = api.post(f"{place}/steps", json={**step, "input_data": {"state": 1}}).json
        assert made["status"] == status, made
        if name == "near":
            assert "8.01, over 80% of 10" in made["approval"]["reason"]


# --- both engines ---------------------------------------------------------------------------------


def work(n: int) -> int:
    if n < 0:
        raise ValueError("below nothing")
    return n + 1


async def script(engine: AgenticWorkflowEngine) -> Workflow:
    """Something of everything."""
    engine.tool_registry.register(
        ToolDefinition("work", parameters={"n": {"type": "integer"}}, cost_estimate_usd=0.5), work
    )
    engine.tool_registry.register(ToolDefinition("send_email", cost_estimate_usd=0.25), work)
    engine.tool_registry.register(ToolDefinition("ask_first", requires_approval=True), work)
    workflow = await engine.create_workflow("Task", "To do", "ada", context={"start": 4})
    number = workflow.workflow_id

    async def step(name: str, tool: str | None = None, n: Any = 1, **more: Any) -> Any:
        given = {"n": n} if tool else {"reasoning": name}
        kind = more.pop("step_type", CALL if tool else StepType.REASONING)
        return await engine.execute_step(
            number, kind, name, "Why", input_data=given, tool_name=tool, **more
        )

    await step("Think")
    await step("Work", "work", n="$context.start")
    await step("More", "work", n="$context.Work.result")
    await step("Never", "work", condition="$context.Work.result > 9")
    await step("Wrong", "work", n="one")
    await step("Fails", "work", n=-1)
    await step("Skipped", "work", n=-1, on_failure="skip")
    await step("Tried", "work", n=-1)
    await step("Unknown", "unknown", on_failure="skip")
    for name in ("send_email", "ask_first"):
        asked = await step("Ask", name)
        await engine.approve_step(number, asked.step_id, "ada", reason="why not")
        asked = await step("Ask again", name)
        await engine.deny_step(number, asked.step_id, "ada")
    asked = await step("Age", step_type=StepType.HUMAN_INPUT)
    await engine.provide_input(number, asked.step_id, {"age": 42}, "ada")
    children = [{"name": f"c{n}", "tool_name": "work", "input_data": {"n": n}} for n in (-1, 2)]
    await step("Both", step_type=StepType.PARALLEL, child_steps=children)
    kept = await engine.create_checkpoint(number, "here")
    await step("Undone", "work")
    await engine.rollback(number, kept.checkpoint_id)
    await step("Instead", "work", n=7)
    await engine.pause_workflow(number)
    await engine.resume_workflow(number)
    await step("Tried", "work", n=-2, on_failure="retry")
    return workflow


#: What differs whenever it is played. A call that people allow is there an attempt that begins anew.
CHANGING = re.compile(r"(_at|_id|_ids|_ms|^at|^timestamp|^attempt)$|^digest$")
#: Where the code of a handler lies: here in its file, there as it was registered.
PLACE = re.compile(r" \((test_sessions\.py, )?line \d+( of \w+)?: ")


def lasting(value: Any) -> Any:
    """What is the same whenever a workflow is played."""
    match value:
        case dict():
            return {
                name: lasting(each) for name, each in value.items() if not CHANGING.search(name)
            }
        case list() | tuple():
            return [lasting(each) for each in value]
        case str():
            return PLACE.sub(" (", value)
        case _:
            return value


@pytest.mark.usefixtures("workers")
def test_both_engines_tell_the_same_of_the_same_steps(client: Client) -> None:
    settings = {"max_retries": 1, "retry_backoff_seconds": 0.01, "checkpoint_interval_steps": 4}

    async def play() -> None:
        here = await script(AgenticWorkflowEngine(settings))
        there = await script(AgenticWorkflowEngine(settings, client=client))
        for one, other in zip(here.steps, there.steps, strict=True):
            assert lasting(asdict(one)) == lasting(asdict(other))
        assert lasting(asdict(here)) == lasting(asdict(there))
        assert here.state is AgentState.FAILED
        assert len(here.checkpoints) > 3

    played(play)


# --- what is left of it ---------------------------------------------------------------------------


def test_the_audit_of_a_session_tells_all_that_became_of_it_in_order(
    api: Api, control: Platform, worker: Platform, sandbox: Sandbox
) -> None:
    rule = {"tool": "look", "action": "allow_with_audit"}
    policies.apply(control, TENANT, json.dumps({"policy": "p", "rules": [rule]}), by="ada")
    platforms.register(control, "look", "def look(n):\n    return n", namespace="tool")
    platforms.register(control, "send_email", "def send_email(n):\n    return n", namespace="tool")
    made = api.post("/api/v1/sessions", json={"name": "Task"})
    place, run = made.headers["Location"], made.json["run_id"]

    def post(what: str, **body: Any) -> Any:
        answer = api.post(f"{place}/{what}", json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json

    post("steps", step_type="reasoning", name="Think", step_id="step_00000000000a")
    call = {"step_type": "tool_call", "input_data": {"n": 1}}
    post("steps", **call, name="Look", tool_name="look", step_id="step_00000000000b")
    keeper = Keeper(worker)
    keeper.start()
    own = Worker(name="w", platform=worker, sandbox=sandbox, keeper=keeper)
    carry_out(control, own, RunId(TENANT, run))
    keeper.close()
    asked = post("steps", **call, name="Mail", tool_name="send_email", step_id="step_00000000000c")
    post(f"steps/{asked['step_id']}/deny", reason="no")
    kept = post("checkpoints", name="here")
    post("rollback", checkpoint_id=kept["checkpoint_id"])
    post("complete")
    found = api.get("/api/v1/audit", query_string={"run": run, "limit": 500}).json["items"]
    lines = [entry for entry in found if entry["seq"] is not None]
    assert [entry["seq"] for entry in lines] == [*range(1, len(lines) + 1)]
    found.sort(key=operator.itemgetter("at"))
    words = [f"{entry['action']} {entry['by']} {json.dumps(entry['detail'])}" for entry in found]
    told = (
        ("RunSubmitted ada",),
        ("session.step ada", "reasoning", "step_00000000000a"),
        ("session.step ada", "look", "step_00000000000b"),
        ("Judged", "allow_with_audit"),
        ("AttemptSucceeded", "call#1"),
        ("session.step ada", "send_email", "step_00000000000c"),
        ("Opened", "ask#1"),
        ("WaitEnded user:ada", "ask#1", "deny"),
        ("session.step ada", '"checkpoint"'),
        ("session.rollback ada", kept["checkpoint_id"]),
        ("session.complete ada",),
        ("FinishRun", "completed"),
    )
    places = [
        next((at for at, line in enumerate(words) if all(part in line for part in parts)), parts)
        for parts in told
    ]
    assert all(isinstance(place, int) for place in places), places
    assert places == sorted(places)  # type: ignore[type-var]  # numbers, as was seen
    assert api.get("/api/v1/audit/verify", query_string={"run": run}).json["sound"] is True


def test_whatever_a_client_does_to_sessions_is_told_once(api: Api, control: Platform) -> None:
    platforms.register(control, "send_email", namespace="tool")
    drawn = random.Random(7)  # the same chances every time
    places = [
        api.post("/api/v1/sessions", json={"name": f"s{n}"}).headers["Location"] for n in "ab"
    ]
    done = len(places)
    before = 0
    for _ in range(60):
        place = drawn.choice(places)
        workflow = api.get(place).json
        body: dict[str, Any] = {}
        match drawn.randrange(8):
            case 0 | 1 | 2:
                what, body = "steps", {"step_type": "reasoning", "name": "T"}
            case 3:
                what = "steps"
                body = {"step_type": "tool_call", "name": "M", "tool_name": "send_email"}
                body["input_data"] = {"state": 1}
            case 4:
                last = workflow["steps"][-1]["step_id"] if workflow["steps"] else "step_x"
                what = f"steps/{last}/deny"
            case 5:
                what, body = "checkpoints", {"name": "c"}
            case 6:
                kept = [each["checkpoint_id"] for each in workflow["checkpoints"]]
                what, body = "rollback", {"checkpoint_id": drawn.choice([*kept, "ckpt_x"])}
            case _:
                what = drawn.choice(["pause", "resume"])
        answer = api.post(f"{place}/{what}", json=body)
        assert answer.status_code in (200, 201, 404, 409), answer.text
        done += answer.status_code < 300
        before += answer.status_code >= 400
    assert done > 20
    assert before > 5
    (counted,) = platforms.sql(
        control,
        "SELECT (SELECT count(*) FROM admin_act WHERE by = 'ada' AND starts_with(action, 'session.'))"
        " + (SELECT count(*) FROM history WHERE body->>'by' IN ('ada', '[\"user:ada\"]')) AS told",
    )
    assert counted.told == done
    # What is told is what is: each run folds to what is stored of it.
    assert doctor.examine(control.database) == ()
