"""Workflows that are driven step by step, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from celeriac.steps import (
    AgenticWorkflowEngine,
    AgentState,
    Config,
    Conflict,
    Invalid,
    NotFound,
    PolicyDecision,
    StepStatus,
    StepType,
    ToolDefinition,
    Workflow,
    WorkflowStatus,
    WorkflowStep,
)

CALL = StepType.TOOL_CALL


class Desk:
    """An engine with tools that write down what they are called with."""

    def __init__(self, config: dict[str, Any] | None = None, **more: Any) -> None:
        self.engine = AgenticWorkflowEngine(config, **more)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.workflow: Workflow

    def tool(self, name: str, work: Callable[..., Any] | None = None, **terms: Any) -> None:
        def handler(**given: Any) -> Any:
            self.calls.append((name, given))
            return {"echo": given} if work is None else work(**given)

        terms.setdefault("parameters", None)
        self.engine.tool_registry.register(ToolDefinition(name, name, **terms), handler)

    async def begin(self, **more: Any) -> Workflow:
        self.workflow = await self.engine.create_workflow("Task", "To do", "ada", **more)
        return self.workflow

    async def step(self, name: str, tool: str | None = None, **given: Any) -> WorkflowStep:
        kind = given.pop("step_type", CALL)
        options = {
            each: given.pop(each)
            for each in ("on_failure", "condition", "child_steps", "step_id")
            if each in given
        }
        return await self.engine.execute_step(
            self.workflow.workflow_id, kind, name, input_data=given, tool_name=tool, **options
        )


def played(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), 20))  # type: ignore[arg-type]  # a coroutine, always


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "path"),
    [
        ({"step_type": CALL, "name": "a"}, "tool_name"),
        ({"step_type": StepType.REASONING, "name": "a", "tool_name": "look"}, "tool_name"),
        ({"step_type": CALL, "name": "", "tool_name": "look"}, "name"),
        ({"step_type": CALL, "name": "a", "tool_name": "look", "on_failure": "x"}, "on_failure"),
        ({"step_type": CALL, "name": "a", "tool_name": "look", "step_id": "x"}, "step_id"),
        ({"step_type": StepType.PARALLEL, "name": "a"}, "child_steps"),
        (
            {"step_type": CALL, "name": "a", "tool_name": "look", "condition": "$context.a >"},
            "condition",
        ),
        (
            {
                "step_type": CALL,
                "name": "a",
                "tool_name": "look",
                "input_data": {"a": ["$context.["]},
            },
            "input_data.a[0]",
        ),
        (
            {"step_type": CALL, "name": "a", "tool_name": "look", "input_data": {"a": object()}},
            "input_data.a",
        ),
    ],
)
def test_a_step_that_is_wrong_in_itself_changes_nothing(step: dict[str, Any], path: str) -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("look")
        workflow = await desk.begin()
        with pytest.raises(Invalid) as refused:
            await desk.engine.execute_step(workflow.workflow_id, **step)
        assert [problem.path for problem in refused.value.problems] == [path]
        assert (await desk.engine.get_workflow(workflow.workflow_id)).steps == ()
        assert desk.calls == []

    played(play)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"max_steps": 0}, "config.max_steps"),
        ({"max_steps": 1.5}, "config.max_steps"),
        ({"max_cost_usd": -1}, "config.max_cost_usd"),
        ({"max_stepps": 1}, "config.max_stepps"),
        ({"enable_checkpoints": 1}, "config.enable_checkpoints"),
        ({"sensitive_tools": "a"}, "config.sensitive_tools"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused(given: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        AgenticWorkflowEngine(given)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_what_is_not_there_is_not_found() -> None:
    async def play() -> None:
        desk = Desk()
        with pytest.raises(NotFound):
            await desk.engine.get_workflow("wf_none")
        await desk.begin()
        with pytest.raises(NotFound):
            await desk.engine.rollback(desk.workflow.workflow_id, "ckpt_none")
        with pytest.raises(NotFound):
            await desk.engine.approve_step(desk.workflow.workflow_id, "step_000000000000")
        step = await desk.step("Call", "missing")
        assert (step.status, step.error) == (
            StepStatus.FAILED,
            "tool 'missing' is not registered",
        )

    played(play)


def test_an_argument_that_does_not_fit_is_named_and_nothing_is_called() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("look", parameters={"query": {"type": "string"}, "n": {"maximum": 3}})
        desk.tool("off", status="disabled")
        await desk.begin()
        step = await desk.step("Look", "look", query=1, n=4, more=2)
        assert step.status is StepStatus.FAILED
        for name in ("query", "n", "more"):
            assert f"input_data.{name}" in (step.error or "")
        assert (await desk.step("Off", "off")).error == "tool off is disabled"
        assert desk.calls == []
        assert desk.workflow.total_cost_usd == 0

    played(play)


def test_who_lacks_a_permission_reaches_no_handler() -> None:
    async def play() -> None:
        desk = Desk(permissions={"eve": ["read:documents"], "ada": ["read:mail"]})
        desk.tool("look", required_permissions=["read:documents"])
        await desk.begin()
        step = await desk.step("Look", "look")
        assert (step.status, step.error) == (StepStatus.FAILED, "ada lacks read:documents")
        assert desk.calls == []
        eve = await desk.engine.create_workflow("Task", "", "eve")
        await desk.engine.execute_step(eve.workflow_id, CALL, "Look", tool_name="look")
        assert len(desk.calls) == 1

    played(play)


def test_who_calls_too_often_reaches_no_handler() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("look", rate_per_minute=2)
        desk.tool("read", rate_per_hour=1)
        await desk.begin()
        steps = [await desk.step("Look", tool) for tool in ("look", "read") for _ in range(3)]
        assert [each.status is StepStatus.COMPLETED for each in steps] == [
            *(True, True, False),
            *(True, False, False),
        ]
        assert "2 times a minute" in (steps[2].error or "")
        assert "1 times a hour" in (steps[4].error or "")
        assert len(desk.calls) == 3
        often = Desk({"max_steps": 100})
        often.tool("look", rate_per_minute=60)
        await often.begin()
        told = [(await often.step("Look", "look")).status for _ in range(61)]
        assert told == [StepStatus.COMPLETED] * 60 + [StepStatus.FAILED]
        assert len(often.calls) == 60

    played(play)


# --- what steps do --------------------------------------------------------------------------------


def test_steps_are_kept_in_order_with_what_they_say_and_later_ones_read_them() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("look", lambda query: [query, "b"])
        desk.tool("count", lambda of: [len(each) for each in of])
        await desk.begin(context={"patient": "p1"})
        assert desk.workflow.status is WorkflowStatus.CREATED
        thought = await desk.step("Think", step_type=StepType.REASONING, reasoning="Look first")
        await desk.step("Search docs", "look", query="$context.patient")
        step = await desk.step("Count", "count", of='$context["Search docs"].result')
        chosen = await desk.step("Choose", step_type="decision", decision="more", cost="$5")
        assert thought.output_data == {"reasoning": "Look first"}
        assert chosen.output_data == {"decision": "more"}
        assert (step.input_data, step.output_data) == ({"of": ["p1", "b"]}, {"result": [2, 1]})
        assert [each.name for each in desk.workflow.steps] == [
            "Think",
            "Search docs",
            "Count",
            "Choose",
        ]
        assert desk.workflow.context_keys == (
            "patient",
            "Think",
            "Search docs",
            "Count",
            "Choose",
        )
        assert (desk.workflow.state, desk.workflow.step_count) == (AgentState.IDLE, 4)
        assert desk.workflow.steps[-1].input_data["cost"] == "$5"

    played(play)


def test_a_step_whose_condition_does_not_hold_is_skipped() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("look")
        await desk.begin(context={"n": 1})
        skipped = await desk.step("A", "look", condition="$context.n > 1")
        done = await desk.step("B", "look", condition="$context.n == 1 and $step_count == 1")
        assert (skipped.status, done.status) == (StepStatus.SKIPPED, StepStatus.COMPLETED)
        assert "$context.n > 1" in (skipped.error or "")
        assert len(desk.calls) == 1

    played(play)


@pytest.mark.parametrize(
    ("on_failure", "step_status", "state"),
    [
        (None, StepStatus.FAILED, AgentState.IDLE),
        ("skip", StepStatus.SKIPPED, AgentState.IDLE),
        ("stop", StepStatus.FAILED, AgentState.FAILED),
        ("retry", StepStatus.FAILED, AgentState.FAILED),
    ],
)
def test_what_comes_of_a_failure_is_what_the_step_says(
    on_failure: str | None, step_status: StepStatus, state: AgentState
) -> None:
    async def play() -> None:
        desk = Desk({"max_retries": 1, "retry_backoff_seconds": 0.01})
        desk.tool("look", lambda: 1 / 0)
        await desk.begin()
        step = await desk.step("Look", "look", on_failure=on_failure)
        assert (step.status, desk.workflow.state) == (step_status, state)
        assert "ZeroDivisionError" in (step.error or "")
        assert len(desk.calls) == (2 if on_failure == "retry" else 1)
        if state is AgentState.FAILED:
            assert desk.workflow.error == f"step Look failed: {step.error}"
            with pytest.raises(Conflict, match="takes no more steps"):
                await desk.step("More", "look")

    played(play)


def test_a_refused_step_that_stops_its_workflow_fails_it() -> None:
    async def play() -> None:
        desk = Desk()
        await desk.begin()
        await desk.step("Look", "missing", on_failure="stop")
        assert desk.workflow.state is AgentState.FAILED

    played(play)


def test_what_fails_twice_and_then_succeeds_is_tried_again_with_growing_pauses() -> None:
    async def play() -> None:
        desk = Desk({"max_retries": 3, "retry_backoff_seconds": 0.1})
        moments: list[float] = []

        def flaky() -> str:
            moments.append(time.monotonic())
            if len(moments) < 3:
                raise ValueError(f"try {len(moments)}")
            return "done"

        desk.tool("flaky", flaky, cost_estimate_usd=0.01)
        await desk.begin()
        step = await desk.step("Try", "flaky", on_failure="retry")
        assert (step.status, step.output_data) == (StepStatus.COMPLETED, {"result": "done"})
        tried = [(each.attempt, each.outcome, each.reason) for each in step.attempts]
        assert tried == [(1, "failed", "error"), (2, "failed", "error"), (3, "succeeded", None)]
        first, second = moments[1] - moments[0], moments[2] - moments[1]
        assert 0.1 <= first < second
        assert second >= 0.2
        assert [each.again_at is not None for each in step.attempts] == [True, True, False]
        assert (desk.workflow.total_tool_calls, desk.workflow.total_cost_usd) == (3, 0.03)

    played(play)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_handler_that_takes_too_long_is_timed_out(kind: str) -> None:
    async def play() -> None:
        desk = Desk()
        ended: list[bool] = []

        def slow() -> Any:
            if kind == "async":
                return asyncio.sleep(60)
            time.sleep(1.2)
            return ended.append(True)

        desk.tool("slow", slow, timeout_seconds=1)
        await desk.begin()
        began = time.monotonic()
        step = await desk.step("Slow", "slow")
        assert (step.status, step.error, step.reason) == (
            StepStatus.FAILED,
            "timed out after 1s",
            "timeout",
        )
        assert time.monotonic() - began < 30

    played(play)


def test_parallel_calls_are_made_side_by_side_up_to_the_limit() -> None:
    async def play() -> None:
        desk = Desk({"max_parallel_steps": 2})
        at_once: list[int] = []
        now = 0

        async def slow(n: int) -> int:
            nonlocal now
            now += 1
            at_once.append(now)
            await asyncio.sleep(0.2)
            now -= 1
            if n == 3:
                raise ValueError("three")
            return n

        desk.tool("slow", slow, cost_estimate_usd=0.5)
        await desk.begin()
        calls = [{"name": f"c{n}", "tool_name": "slow", "input_data": {"n": n}} for n in range(4)]
        step = await desk.step("All", step_type=StepType.PARALLEL, child_steps=calls)
        assert max(at_once) == 2
        assert [each.name for each in step.child_steps] == ["c0", "c1", "c2", "c3"]
        assert [each.output_data for each in step.child_steps[:3]] == [
            {"result": n} for n in range(3)
        ]
        assert step.status is StepStatus.FAILED
        assert "1 of 4 failed: c3: ValueError: three" in (step.error or "")
        assert desk.workflow.total_cost_usd == 2.0

    played(play)


# --- limits ---------------------------------------------------------------------------------------


def test_the_step_after_the_last_is_denied() -> None:
    async def play() -> None:
        desk = Desk()
        await desk.begin()
        for number in range(50):
            await desk.step(f"T{number}", step_type=StepType.REASONING)
        desk.tool("look")
        step = await desk.step("Over", "look")
        assert (step.status, step.error) == (StepStatus.FAILED, "Exceeded maximum steps (50)")
        assert (desk.workflow.step_count, desk.calls) == (50, [])
        assert desk.workflow.state is AgentState.IDLE

    played(play)


def test_a_call_that_would_cost_too_much_is_denied_and_one_that_comes_near_is_asked_for() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("dear", cost_estimate_usd=4)
        desk.tool("cheap", cost_estimate_usd=0.01)
        desk.tool("odd", cost_estimate_usd=2.5)
        await desk.begin()
        for _ in range(2):
            assert (await desk.step("D", "dear")).status is StepStatus.COMPLETED
        asked = await desk.step("C", "cheap")
        assert asked.status is StepStatus.WAITING_APPROVAL
        assert asked.approval is not None
        assert "8.01, over 80%" in asked.approval.reason
        done = await desk.engine.approve_step(desk.workflow.workflow_id, asked.step_id, "eve")
        assert done.status is StepStatus.COMPLETED
        over = await desk.step("O", "odd")
        assert (over.error or "").startswith("Exceeded maximum cost (10.0 USD)")
        assert desk.workflow.spent_usd == 8.01

    played(play)


def test_a_workflow_that_takes_too_long_fails_whatever_it_is_at() -> None:
    async def play() -> None:
        desk = Desk({"max_duration_seconds": 0.3})
        desk.tool("slow", lambda: asyncio.sleep(5))
        await desk.begin()
        step = await desk.step("Slow", "slow")
        assert step.status is StepStatus.CANCELLED
        assert (desk.workflow.state, desk.workflow.error) == (
            AgentState.FAILED,
            "Exceeded maximum duration (0.3 s)",
        )
        idle = await desk.engine.create_workflow("Idle")
        await asyncio.sleep(0.35)
        assert (await desk.engine.get_workflow(idle.workflow_id)).state is AgentState.FAILED

    played(play)


# --- people ---------------------------------------------------------------------------------------


def test_a_sensitive_tool_waits_and_then_really_runs() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("send_email")
        desk.tool("guarded", requires_approval=True)
        await desk.begin()
        for name in ("send_email", "guarded"):
            step = await desk.step("Ask", name, to="bob")
            assert (step.status, desk.calls) == (StepStatus.WAITING_APPROVAL, [])
            assert desk.workflow.state is AgentState.WAITING_APPROVAL
            assert desk.workflow.status is WorkflowStatus.WAITING_HUMAN
            with pytest.raises(Conflict, match="when it is over"):
                await desk.step("More", "send_email")
            found = await desk.engine.approve_step(
                desk.workflow.workflow_id, step.step_id, "eve", "fine"
            )
            assert found.output_data == {"result": {"echo": {"to": "bob"}}}
            assert found.approval is not None
            assert found.approval.request_id.startswith("apr_")
            assert (found.approval.status, found.approval.approved_by) == ("approved", "eve")
            assert desk.calls.pop() == (name, {"to": "bob"})
            with pytest.raises(Conflict, match="nobody is asked"):
                await desk.engine.deny_step(desk.workflow.workflow_id, step.step_id)

    played(play)


def test_a_denied_step_has_failed_and_calls_nothing() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("file_delete")
        await desk.begin()
        step = await desk.step("Ask", "file_delete")
        denied = await desk.engine.deny_step(
            desk.workflow.workflow_id, step.step_id, "eve", "not now"
        )
        assert (denied.status, denied.error) == (StepStatus.FAILED, "denied by eve: not now")
        again = await desk.step("Ask", "file_delete", on_failure="stop")
        await desk.engine.deny_step(desk.workflow.workflow_id, again.step_id, "eve")
        assert (desk.workflow.state, desk.calls) == (AgentState.FAILED, [])

    played(play)


def test_an_approval_that_nobody_gives_expires() -> None:
    async def play() -> None:
        desk = Desk({"approval_expiry_hours": 0.0001})
        desk.tool("send_email")
        await desk.begin()
        step = await desk.step("Ask", "send_email")
        assert step.status is StepStatus.WAITING_APPROVAL
        await asyncio.sleep(0.4)
        workflow = await desk.engine.get_workflow(desk.workflow.workflow_id)
        (late,) = workflow.steps
        assert (late.status, late.reason) == (StepStatus.FAILED, "expired")
        assert late.approval is not None
        assert late.approval.status == "expired"

    played(play)


def test_a_person_gives_a_step_what_it_waits_for() -> None:
    async def play() -> None:
        desk = Desk()
        await desk.begin()
        step = await desk.step("Ask", step_type=StepType.HUMAN_INPUT, question="How many?")
        assert step.status is StepStatus.WAITING_APPROVAL
        with pytest.raises(Conflict):
            await desk.engine.approve_step(desk.workflow.workflow_id, step.step_id)
        done = await desk.engine.provide_input(desk.workflow.workflow_id, step.step_id, {"n": 3})
        assert (done.status, done.output_data) == (StepStatus.COMPLETED, {"input": {"n": 3}})
        assert desk.workflow.context["Ask"] == {"input": {"n": 3}}

    played(play)


def test_policies_of_the_client_are_asked_and_obeyed() -> None:
    class Careful:
        name = "careful"

        def evaluate(self, action: dict[str, Any], context: dict[str, Any]) -> Any:
            assert context["user_id"] == "ada"
            match action["arguments"].get("how"):
                case "deny":
                    return PolicyDecision.DENY, "too bold"
                case "ask":
                    return "REQUIRE_APPROVAL"
                case "mend":
                    action["arguments"]["how"] = "well"
                    return "modify"
                case "break":
                    raise KeyError("how")
                case _:
                    return PolicyDecision.ALLOW

    async def play() -> None:
        desk = Desk()
        desk.tool("work")
        desk.engine.add_policy(Careful())
        await desk.begin()
        denied = await desk.step("W", "work", how="deny")
        assert (denied.status, denied.error) == (
            StepStatus.FAILED,
            "policy careful: too bold",
        )
        broken = await desk.step("W", "work", how="break")
        assert (broken.status, "KeyError" in (broken.error or "")) == (StepStatus.FAILED, True)
        assert desk.calls == []
        asked = await desk.step("W", "work", how="ask")
        assert asked.approval is not None
        assert asked.approval.policy_id == "careful"
        await desk.engine.approve_step(desk.workflow.workflow_id, asked.step_id)
        await desk.step("W", "work", how="mend")
        assert desk.calls == [("work", {"how": "ask"}), ("work", {"how": "well"})]

    played(play)


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_rollback_restores_what_was_and_marks_what_came_later() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("work", cost_estimate_usd=0.1)
        await desk.begin()
        for number in range(7):
            await desk.step(f"W{number}", "work", n=number)
        (kept,) = desk.workflow.checkpoints
        assert kept.checkpoint_id.startswith("ckpt_")
        assert kept.state["step_count"] == 5
        assert (desk.workflow.step_count, desk.workflow.total_cost_usd) == (7, 0.7)

        await desk.engine.rollback(desk.workflow.workflow_id, kept.checkpoint_id)

        workflow = desk.workflow
        assert (workflow.step_count, workflow.total_cost_usd) == (5, 0.5)
        assert workflow.spent_usd == 0.7
        assert workflow.context == kept.state["context"]
        assert [each.rolled_back for each in workflow.steps] == [False] * 5 + [True] * 2
        (rollback,) = workflow.rollbacks
        assert rollback.step_ids == tuple(each.step_id for each in workflow.steps[5:])
        again = await desk.step("W5", "work", n="$context.W4.result.echo.n")
        assert again.output_data == {"result": {"echo": {"n": 4}}}
        assert (desk.workflow.step_count, desk.workflow.spent_usd) == (6, 0.8)
        assert len(desk.calls) == 8

    played(play)


def test_checkpoints_are_made_when_they_are_asked_for_and_every_so_many_steps() -> None:
    async def play() -> None:
        desk = Desk({"checkpoint_interval_steps": 2})
        await desk.begin()
        for number in range(4):
            await desk.step(f"T{number}", step_type=StepType.REASONING)
        first, second = desk.workflow.checkpoints
        assert (first.state["step_count"], second.state["step_count"]) == (2, 4)
        made = await desk.engine.create_checkpoint(desk.workflow.workflow_id, "before")
        assert made.state["step_count"] == 5
        await desk.engine.rollback(desk.workflow.workflow_id, first.checkpoint_id)
        with pytest.raises(Conflict, match="beyond a rollback"):
            await desk.engine.rollback(desk.workflow.workflow_id, second.checkpoint_id)
        off = Desk({"enable_checkpoints": False})
        await off.begin()
        for number in range(6):
            await off.step(f"T{number}", step_type=StepType.REASONING)
        assert off.workflow.checkpoints == ()

    played(play)


# --- ends -----------------------------------------------------------------------------------------


def test_what_is_complete_takes_no_more_steps() -> None:
    async def play() -> None:
        desk = Desk()
        desk.tool("look")
        await desk.begin()
        await desk.step("Look", "look")
        done = await desk.engine.complete_workflow(desk.workflow.workflow_id)
        assert done is desk.workflow
        assert (done.state, done.status) == (AgentState.COMPLETED, WorkflowStatus.COMPLETED)
        assert done.completed_at is not None
        for refused in (desk.step("More", "look"), desk.engine.complete_workflow(done.workflow_id)):
            with pytest.raises(Conflict, match="is completed; it takes no more steps"):
                await refused
        assert len(desk.calls) == 1

    played(play)


def test_a_workflow_is_paused_resumed_and_cancelled_while_a_step_is_under_way() -> None:
    async def play() -> None:
        desk = Desk()
        begun = asyncio.Event()

        async def slow() -> None:
            begun.set()
            await asyncio.sleep(5)

        desk.engine.tool_registry.register(ToolDefinition("slow"), slow)
        await desk.begin()
        workflow_id = desk.workflow.workflow_id
        await desk.engine.pause_workflow(workflow_id)
        assert desk.workflow.state is AgentState.PAUSED
        for refused in (desk.step("Slow", "slow"), desk.engine.complete_workflow(workflow_id)):
            with pytest.raises(Conflict, match="is paused; resume it first"):
                await refused
        await desk.engine.resume_workflow(desk.workflow.workflow_id)
        under_way = asyncio.create_task(desk.step("Slow", "slow"))
        await begun.wait()
        await desk.engine.cancel_workflow(desk.workflow.workflow_id, "enough")
        assert (await under_way).status is StepStatus.CANCELLED
        assert desk.workflow.state is AgentState.CANCELLED
        with pytest.raises(Conflict):
            await desk.engine.cancel_workflow(desk.workflow.workflow_id)

    played(play)


@pytest.mark.parametrize("effect", ["pure", "at_most_once"])
def test_a_call_whose_client_goes_away_is_made_again_only_if_it_may_be(effect: str) -> None:
    async def play() -> None:
        desk = Desk()
        begun = asyncio.Event()
        calls: list[int] = []

        async def slow() -> int:
            calls.append(len(calls))
            begun.set()
            await asyncio.sleep(0.2)
            return len(calls)

        desk.engine.tool_registry.register(ToolDefinition("slow", effect=effect), slow)
        await desk.begin()
        gone = asyncio.create_task(desk.step("Slow", "slow"))
        await begun.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        (step,) = (await desk.engine.get_workflow(desk.workflow.workflow_id)).steps
        if effect == "pure":
            assert (step.status, step.output_data) == (StepStatus.COMPLETED, {"result": 2})
            assert [each.outcome for each in step.attempts] == ["lost", "succeeded"]
        else:
            assert (step.status, step.reason) == (StepStatus.FAILED, "unknown_outcome")
            assert calls == [0]

    played(play)


def test_steps_that_are_sent_at_once_follow_each_other_and_the_same_one_is_one() -> None:
    async def play() -> None:
        desk = Desk(Config(max_steps=10).told())
        desk.tool("look")
        await desk.begin()
        steps = await asyncio.gather(*(desk.step(f"S{n}", "look") for n in range(5)))
        assert len({each.step_id for each in steps}) == len(desk.calls) == 5
        again = await desk.step("S0", "look", step_id=steps[0].step_id)
        assert (again.step_id, len(desk.calls)) == (steps[0].step_id, 5)

    played(play)


def test_a_tool_that_is_registered_while_a_workflow_runs_can_be_called_at_once() -> None:
    async def play() -> None:
        desk = Desk()
        await desk.begin()
        assert (await desk.step("Late", "late")).status is StepStatus.FAILED
        desk.tool("late")
        assert (await desk.step("Late", "late")).status is StepStatus.COMPLETED

    played(play)
