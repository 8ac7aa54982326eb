"""Workflows that are driven step by step on the platform: over REST, and by the engine of the SDK."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
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
)
from engine.platform import Platform
from engine.runs import access, catalogue, definitions, sweep, views
from engine.sessions import story
from engine.store.ids import RunId
from tests.support import platforms, site
from tests.support.platforms import LINE, TENANT, Sent
from tests.support.site import Api
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
def workers(control: Platform, worker: Platform) -> Iterator[None]:
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
                sandbox=stack.enter_context(Sandbox()),
                keeper=keeper,
                coordinator=control,
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


@pytest.mark.usefixtures("workers")
def test_the_quick_start_runs_on_the_platform(client: Client, control: Platform) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        engine.tool_registry.register(
            ToolDefinition(
                name="search_documents",
                description="Search internal documents",
                parameters={"query": {"type": "string"}},
                cost_estimate_usd=0.01,
            ),
            handler=search,
        )
        workflow = await engine.create_workflow("Research Task", "Find", "user_123")
        step = await engine.execute_step(
            workflow_id=workflow.workflow_id,
            step_type=StepType.TOOL_CALL,
            name="Search",
            description="Search for relevant documents",
            input_data={"query": "diabetes guidelines"},
            tool_name="search_documents",
        )
        await engine.complete_workflow(workflow.workflow_id)
        assert step.status is StepStatus.COMPLETED
        assert step.output_data == {"result": {"found": ["diabetes guidelines"], "count": 1}}
        assert workflow.state is AgentState.COMPLETED
        assert (workflow.total_cost_usd, workflow.total_tool_calls) == (0.01, 1)
        assert calls_of(control, workflow.workflow_id) == ["search_documents"]

    played(play)


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
        assert time.monotonic() - began < 2
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
def test_a_tool_that_wants_an_approval_is_parked_and_then_really_called(
    client: Client, control: Platform
) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        engine.tool_registry.register(ToolDefinition("rest", requires_approval=True), _rest)
        workflow = await engine.create_workflow("Task")
        step = await engine.execute_step(
            workflow.workflow_id, CALL, "Rest", input_data={"seconds": 0}, tool_name="rest"
        )
        assert step.status is StepStatus.WAITING_APPROVAL
        assert calls_of(control, workflow.workflow_id) == []
        (wait,) = client.waits(kind="permit")
        assert (wait.tool, wait.arguments) == ("rest", {"seconds": 0})
        assert step.approval.digest == wait.digest
        answer = client.sessions.answer
        with pytest.raises(Conflict, match="not what was seen"):
            answer(workflow.workflow_id, step.step_id, "approve", digest="0" * 64)
        assert calls_of(control, workflow.workflow_id) == []
        done = await engine.approve_step(workflow.workflow_id, step.step_id)
        assert done.output_data == {"result": 0}
        # Whoever names no digest answers for what the history of the session says is asked.
        step = await engine.execute_step(
            workflow.workflow_id, CALL, "Rest", input_data={"seconds": 1}, tool_name="rest"
        )
        answer(workflow.workflow_id, step.step_id, "deny", reason="no")
        denied = await engine.get_workflow(workflow.workflow_id)
        assert (denied.steps[-1].status, denied.steps[-1].error) == (
            StepStatus.FAILED,
            "denied by ada: no",
        )
        assert calls_of(control, workflow.workflow_id) == ["rest"]

    played(play)


@pytest.mark.usefixtures("workers")
def test_who_lacks_a_permission_or_meets_a_closed_tool_reaches_no_handler(
    client: Client, app: Flask, control: Platform
) -> None:
    async def play() -> None:
        engine = AgenticWorkflowEngine(client=client)
        needs = ToolDefinition("rest", required_permissions=["read:documents"])
        engine.tool_registry.register(needs, _rest)
        bob = replace(access.LOCAL, user="bob", roles=frozenset({"operator"}))
        token = access.create_key(control.database, bob)
        operator = Client("http://127.0.0.1", token, transport=httpx2.WSGITransport(app=app))
        engine = AgenticWorkflowEngine(client=operator)
        workflow = await engine.create_workflow("Task")

        async def step() -> Any:
            return await engine.execute_step(
                workflow.workflow_id, CALL, "Rest", input_data={"seconds": 0}, tool_name="rest"
            )

        denied = await step()
        assert (denied.status, "read:documents" in (denied.error or "")) == (
            StepStatus.FAILED,
            True,
        )
        catalogue.stand(control, TENANT, "rest", {"status": "disabled"}, by="ada")
        closed = await step()
        assert "disabled" in (closed.error or "")
        made = views.calls(control, RunId(TENANT, story.run_of(workflow.workflow_id)))
        assert [call for call in made if call.outcome == "succeeded"] == []

    played(play)
