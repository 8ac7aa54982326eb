"""What a session has come to, folded from the history of its run."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.core import messages as msg
from engine.core.permits import moment_of, rule_of, what_of
from engine.core.reasons import REASONS
from engine.core.transitions import RunStatus
from engine.core.values import Value, marked, plain
from engine.sessions import config, graph
from engine.sessions.config import Config
from engine.sessions.words import (
    SETTLED,
    AgentState,
    Approval,
    Attempt,
    Checkpoint,
    Rollback,
    StepStatus,
    StepType,
    ToolInvocation,
    Workflow,
    WorkflowStatus,
    WorkflowStep,
)

#: How a value of history is read, wherever it lies.
Look = Callable[[Value], Any]

PREFIX = "wf_"
_CALLS = (graph.CALL, graph.RETRIED)


@dataclass(slots=True, kw_only=True)
class Story:
    """A session as its history tells it."""

    workflow: Workflow
    config: Config = field(default_factory=Config)
    #: Events that were taken up: the next one is for the number after it.
    number: int = 0
    #: Steps that came when another had come before them, and were not taken up.
    stale: set[str] = field(default_factory=set)
    #: USD, exactly: of the steps that count, and of all.
    total: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)

    @property
    def open(self) -> WorkflowStep | None:
        """The step that is not over; None where the next may come."""
        last = self.workflow.steps[-1] if self.workflow.steps else None
        return None if last is None or last.status in SETTLED else last


def tell(run: str, entries: Iterable[msg.Entry], look: Look = plain) -> Story:
    """What the history of a run comes to, from its first line."""
    teller = _Teller(run, look)
    for entry in entries:
        teller.take(entry.at, entry.record)
    teller.close()
    return teller.story


def workflow_id(run: str) -> str:
    """The id of the session that a run is."""
    return PREFIX + run.replace("-", "")


def run_of(session: str) -> str:
    """The id of the run that a session is; whatever else is given, unchanged."""
    plainly = session.removeprefix(PREFIX)
    if plainly == session or len(plainly) != 32:  # noqa: PLR2004  # hexadecimal digits of a UUID
        return session
    parts = (plainly[:8], plainly[8:12], plainly[12:16], plainly[16:20], plainly[20:])
    return "-".join(parts)


def named(prefix: str, *parts: object) -> str:
    """An id that is the same whenever the same history is told."""
    text = "|".join(map(str, parts))
    return f"{prefix}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class _Teller:
    """Takes a history line by line."""

    def __init__(self, run: str, look: Look) -> None:
        self._look = look
        self._run = run
        self._paused = False
        self._ended: msg.FinishRun | None = None
        #: What the step under way was asked as.
        self._asked: dict[str, Any] = {}
        self._steps: list[WorkflowStep] = []
        self._checkpoints: list[Checkpoint] = []
        self._rollbacks: list[Rollback] = []
        workflow = Workflow(
            workflow_id=workflow_id(run), run_id=run, name="", description="", user_id=""
        )
        self.story = Story(workflow=workflow)

    def take(self, at: datetime, record: msg.Record) -> None:  # one case per record
        match record:
            case msg.RunSubmitted(inputs=inputs):
                self._begin(at, {name: self._look_in(value) for name, value in inputs.items()})
            case msg.WaitEnded(step=key, result=result) if _node(key) == graph.NEXT:
                self._next(at, self._look(result))
            case msg.FinishRun():
                self._ended = record
                self._end(at, record)
            case msg.PauseRequested():
                self._paused = True
            case msg.ResumeRequested():
                self._paused = False
            case _:
                self._follow(at, record)

    def close(self) -> None:
        """Put together what a client is shown."""
        told, workflow = self.story, self.story.workflow
        workflow.steps = tuple(self._steps)
        workflow.checkpoints = tuple(self._checkpoints)
        workflow.rollbacks = tuple(self._rollbacks)
        workflow.context_keys = tuple(workflow.context)
        workflow.total_cost_usd, workflow.spent_usd = float(told.total), float(told.spent)
        workflow.config = told.config.told()
        workflow.state, workflow.status = self._state()

    def _begin(self, at: datetime, inputs: dict[str, Any]) -> None:
        workflow = self.story.workflow
        workflow.name, workflow.description = inputs["name"], inputs["description"]
        workflow.user_id, workflow.started_at = inputs["user_id"], at
        workflow.context = dict(inputs["context"])
        self.story.config = config.read(inputs["config"])

    # --- the next step ------------------------------------------------------------------------

    def _next(self, at: datetime, asked: dict[str, Any]) -> None:
        self.story.number += 1
        if asked["number"] != self.story.number:
            self.story.stale.add(asked["step_id"])
            return
        self._asked = asked
        if asked["kind"] == "rollback":
            self._roll_back(at, asked)
            return
        if asked["kind"] != "step":
            return
        step = WorkflowStep(
            step_id=asked["step_id"],
            step_type=StepType(asked["step_type"]),
            name=asked["name"],
            description=asked["description"],
            input_data=asked["input_data"],
            status=StepStatus.RUNNING,
            started_at=at,
            child_steps=tuple(
                WorkflowStep(
                    step_id=child["step_id"],
                    step_type=StepType.TOOL_CALL,
                    name=child["name"],
                    input_data=child["input_data"],
                )
                for child in asked["child_steps"]
            ),
        )
        self._steps.append(step)
        if asked["counts"]:
            self.story.workflow.step_count += 1
        if asked["route"] in ("pass", graph.HALT):
            self._settle(at, StepStatus(asked["status"]), asked["output_data"])
            step.error, step.reason = asked["error"], asked["reason"]
        elif asked["route"] == graph.ASK:
            step.approval = Approval(
                request_id=named("apr", self._run, step.step_id),
                policy_id=asked["policy_id"],
                requested_by=asked["by"],
                reason=asked["shown"]["why"],
            )

    def _roll_back(self, at: datetime, asked: dict[str, Any]) -> None:
        """Be again as a checkpoint was; what came later is marked, what was spent is not."""
        workflow = self.story.workflow
        found = next(c for c in self._checkpoints if c.checkpoint_id == asked["checkpoint_id"])
        workflow.context = copy.deepcopy(found.state["context"])
        workflow.step_count = found.state["step_count"]
        self.story.total = Decimal(str(found.state["total_cost_usd"]))
        ids = [step.step_id for step in self._steps]
        since = ids.index(found.step_id) + 1 if found.step_id is not None else 0
        undone = [step for step in self._steps[since:] if not step.rolled_back]
        for step in undone:
            step.rolled_back = True
        for later in self._checkpoints[self._checkpoints.index(found) + 1 :]:
            later.rolled_back = True
        rollback = Rollback(
            checkpoint_id=found.checkpoint_id,
            by=asked["by"],
            at=at,
            step_ids=tuple(step.step_id for step in undone),
        )
        self._rollbacks.append(rollback)

    # --- what becomes of it -------------------------------------------------------------------

    def _follow(self, at: datetime, record: msg.Record) -> None:
        """Take a line that speaks of what the step under way does."""
        key: str | None = getattr(record, "step", None)
        if key is None or not self._steps:
            return
        step, node = self._steps[-1], _node(key)
        if node == graph.ASK:
            self._approval(at, step, record)
        elif node == graph.INPUT:
            self._input(at, record)
        elif node in _CALLS:
            self._call(at, step, record, key, self._asked)
            if isinstance(record, msg.AttemptSucceeded):
                invocation = step.tool_invocation
                assert invocation is not None
                self._settle(at, StepStatus.COMPLETED, {"result": invocation.result})
            elif isinstance(record, msg.TakeEdges) and step.status is StepStatus.FAILED:
                # Only now it is not tried again.
                skipped = self._asked["on_failure"] == "skip"
                self._settle(at, StepStatus.SKIPPED if skipped else StepStatus.FAILED, None)
        elif node == graph.PARALLEL and "." in key:
            index = int(key.rpartition(".")[2])
            child = step.child_steps[index]
            self._call(at, child, record, key, self._asked["child_steps"][index])
            if isinstance(record, msg.AttemptSucceeded):
                assert child.tool_invocation is not None
                child.status = StepStatus.COMPLETED
                child.output_data = {"result": child.tool_invocation.result}
            _time(child, at)
            asked = any(each.status is StepStatus.WAITING_APPROVAL for each in step.child_steps)
            if step.status not in SETTLED:
                step.status = StepStatus.WAITING_APPROVAL if asked else StepStatus.RUNNING
        elif node == graph.PARALLEL:
            self._parallel(at, step, record)

    def _approval(self, at: datetime, step: WorkflowStep, record: msg.Record) -> None:
        approval = step.approval
        assert approval is not None
        match record:
            case msg.Opened(until=until):
                step.status = StepStatus.WAITING_APPROVAL
                approval.expires_at = until
            case msg.WaitEnded(by=by, result=result, choice=choice):
                self._answered(at, step, by, self._look(result), choice)
                if step.status is StepStatus.FAILED:
                    self._settle(at, StepStatus.FAILED, None)
            case msg.Woke() if step.status is StepStatus.WAITING_APPROVAL:
                approval.status = "expired"
                self._expire(at, step)
            case _:
                pass

    def _answered(
        self, at: datetime, step: WorkflowStep, by: tuple[str, ...], said: Any, choice: msg.Choice
    ) -> None:
        """People have allowed a step, or not."""
        approval = step.approval
        assert approval is not None
        approval.approved_by = ", ".join(name.removeprefix("user:") for name in by)
        approval.approved_at = at
        found = said if isinstance(said, dict) else {}
        form = found.get("form")
        # Who is asked for a session fills it in; who is asked by a policy says it beside the form.
        filled = form.get("reason") if isinstance(form, dict) else None
        reason = filled or found.get("reason", "")
        if choice == graph.APPROVE:
            approval.status, step.status = "approved", StepStatus.RUNNING
            approval.reason = reason or approval.reason
            return
        approval.status, approval.reason = "denied", reason
        _fail(
            step, "denied", f"denied by {approval.approved_by}" + (f": {reason}" if reason else "")
        )

    def _expire(self, at: datetime, step: WorkflowStep) -> None:
        """Nobody has answered in time."""
        hours = self.story.config.approval_expiry_hours
        step.error, step.reason = f"nobody answered within {hours:g} hours", "expired"
        self._settle(at, StepStatus.FAILED, None)

    def _input(self, at: datetime, record: msg.Record) -> None:
        step = self._steps[-1]
        match record:
            case msg.Opened():
                step.status = StepStatus.WAITING_APPROVAL
            case msg.WaitEnded(result=result):
                self._settle(at, StepStatus.COMPLETED, {"input": self._look(result)["input"]})
            case msg.Woke() if step.status is StepStatus.WAITING_APPROVAL:
                self._expire(at, step)
            case _:
                pass

    def _call(
        self, at: datetime, step: WorkflowStep, record: msg.Record, key: str, asked: dict[str, Any]
    ) -> None:
        """What a line says of a call, to the step that makes it."""
        match record:
            case msg.Admitted():
                step.status, step.started_at = StepStatus.RUNNING, step.started_at or at
                number = len(step.attempts) + 1
                step.tool_invocation = ToolInvocation(
                    invocation_id=named("inv", self._run, key, number),
                    tool_name=asked["tool_name"],
                    parameters=asked["input_data"],
                    timestamp=at,
                )
            case msg.AttemptSucceeded(attempt=attempt, result=result, usage=usage):
                self._tried(step, Attempt(attempt=attempt, outcome="succeeded", ended_at=at))
                self._charge(step, usage.get("cost_usd", asked["cost_usd"]))
                step.error = step.reason = None
                invocation = step.tool_invocation
                assert invocation is not None
                invocation.result, invocation.success = self._look(result), True
            case msg.AttemptFailed(attempt=attempt, reason=reason, message=message, usage=usage):
                tried = Attempt(
                    attempt=attempt, outcome="failed", ended_at=at, reason=reason, message=message
                )
                self._tried(step, tried)
                self._charge(
                    step, usage.get("cost_usd", asked["cost_usd"] if reason in _CALLED else 0.0)
                )
                _fail(step, reason, message)
            case msg.AttemptLost(attempt=attempt, worker=worker, usage=usage):
                self._charge(step, usage.get("cost_usd", asked["cost_usd"]))
                message = f"its worker {worker} was lost"
                tried = Attempt(
                    attempt=attempt, outcome="lost", ended_at=at, reason="lost", message=message
                )
                self._tried(step, tried)
                _fail(step, "lost", message)
            case msg.Refused(rule=rule, message=message):
                _fail(step, rule, message)
            case (
                msg.Parked(permits=permits, until=until)
                | msg.AttemptSuspended(permits=permits, until=until)
                | msg.AttemptWithheld(permits=permits, until=until)
            ) if permits:
                step.status = StepStatus.WAITING_APPROVAL
                if any(moment_of(one) == "call" for one in permits):
                    # Nothing has been called yet: what follows an approval is an attempt of its own.
                    step.tool_invocation = None
                step.approval = Approval(
                    request_id=named("apr", self._run, key, at),
                    policy_id=", ".join(map(rule_of, permits)),
                    requested_by=self._asked["by"],
                    expires_at=until,
                    digest=what_of(permits[0]),
                )
            case msg.WaitEnded(by=by, result=result, choice=choice):
                self._answered(at, step, by, self._look(result), choice)
            case msg.Woke() if step.approval is not None and step.approval.status == "pending":
                step.approval.status = "expired"
                _fail(step, "expired", "nobody answered in time")
            case msg.RetryStep(not_before=again):
                if step.attempts:
                    step.attempts[-1].again_at = again
                step.status, step.completed_at = StepStatus.PENDING, None
                step.duration_ms = None
            case _:
                pass

    def _tried(self, step: WorkflowStep, tried: Attempt) -> None:
        step.attempts = (*step.attempts, tried)
        invocation = step.tool_invocation
        if invocation is None:
            return
        passed = tried.ended_at - invocation.timestamp
        invocation.duration_ms = round(passed.total_seconds() * 1000)
        invocation.error_message = tried.message
        if tried.reason is None or tried.reason in _CALLED:
            self.story.workflow.total_tool_calls += 1

    def _charge(self, step: WorkflowStep, cost: float) -> None:
        amount = Decimal(str(cost))
        self.story.total += amount
        self.story.spent += amount
        if step.tool_invocation is not None:
            step.tool_invocation.cost_usd = cost

    def _parallel(self, at: datetime, step: WorkflowStep, record: msg.Record) -> None:
        match record:
            case msg.AttemptSucceeded():
                failed = [each for each in step.child_steps if each.status is StepStatus.FAILED]
                output = {each.name: each.output_data for each in step.child_steps}
                if failed:
                    step.reason = "child_failed"
                    step.error = f"{len(failed)} of {len(step.child_steps)} failed: " + "; ".join(
                        f"{each.name}: {each.error}" for each in failed
                    )
                status = StepStatus.FAILED if failed else StepStatus.COMPLETED
                self._settle(at, status, {"results": output})
            case msg.AttemptFailed(reason=reason, message=message):
                step.error, step.reason = message, reason
                self._settle(at, StepStatus.FAILED, None)
            case msg.FailStep(reason=reason, message=message):
                step.error, step.reason = message, reason
                self._settle(at, StepStatus.FAILED, None)
            case _:
                pass

    # --- ends ---------------------------------------------------------------------------------

    def _settle(self, at: datetime, status: StepStatus, output: dict[str, Any] | None) -> None:
        """End the step under way, and keep what later steps may refer to."""
        step, workflow = self._steps[-1], self.story.workflow
        step.status, step.output_data = status, output
        _time(step, at)
        if status is StepStatus.COMPLETED and output is not None:
            workflow.context[step.name] = output
        if not self._asked["counts"]:
            return
        settings = self.story.config
        due = workflow.step_count % settings.checkpoint_interval_steps == 0
        if step.step_type is StepType.CHECKPOINT:
            found = self._keep(at, step.step_id)
            step.output_data = {"checkpoint_id": found.checkpoint_id}
        elif settings.enable_checkpoints and due and status in _KEPT:
            self._keep(at, step.step_id)

    def _keep(self, at: datetime, step_id: str) -> Checkpoint:
        workflow = self.story.workflow
        found = Checkpoint(
            checkpoint_id=named("ckpt", self._run, step_id, self.story.number),
            workflow_id=workflow.workflow_id,
            step_id=step_id,
            state={
                "context": copy.deepcopy(workflow.context),
                "step_count": workflow.step_count,
                "total_cost_usd": float(self.story.total),
            },
            created_at=at,
        )
        if not self._checkpoints or self._checkpoints[-1].checkpoint_id != found.checkpoint_id:
            self._checkpoints.append(found)
        return found

    def _end(self, at: datetime, ended: msg.FinishRun) -> None:
        workflow = self.story.workflow
        workflow.completed_at = at
        assert workflow.started_at is not None
        workflow.total_duration_ms = round((at - workflow.started_at).total_seconds() * 1000)
        if ended.status is RunStatus.FAILED:
            workflow.error = self._why(ended)
        elif ended.status is RunStatus.CANCELLED:
            workflow.error = ended.message or ended.reason
        last = self._steps[-1] if self._steps else None
        if last is not None and last.status not in SETTLED:
            last.status, last.error = StepStatus.CANCELLED, workflow.error
        if last is not None and last.completed_at is None:
            _time(last, at)

    def _why(self, ended: msg.FinishRun) -> str:
        if ended.step is not None and _node(ended.step) == graph.DEADLINE:
            return f"Exceeded maximum duration ({self.story.config.max_duration_seconds:g} s)"
        last = self._steps[-1] if self._steps else None
        if last is not None and last.error:
            return f"step {last.name} failed: {last.error}"
        return ended.message or ended.reason

    def _state(self) -> tuple[AgentState, WorkflowStatus]:
        if self._ended is not None:
            word = self._ended.status.value
            return AgentState(word), WorkflowStatus(word)
        if self._paused:
            return AgentState.PAUSED, WorkflowStatus.PAUSED
        step = self._steps[-1] if self._steps else None
        if step is None:
            return AgentState.IDLE, WorkflowStatus.CREATED
        if step.status is StepStatus.WAITING_APPROVAL:
            return AgentState.WAITING_APPROVAL, WorkflowStatus.WAITING_HUMAN
        busy = step.status not in SETTLED
        return (AgentState.EXECUTING if busy else AgentState.IDLE), WorkflowStatus.RUNNING

    def _look_in(self, value: Any) -> Any:
        """A variable as it is, wherever it lies."""
        ref = marked(value)
        return value if ref is None else self._look(ref)


#: Steps after which there is something to go back to.
_KEPT = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED})
#: A call that failed so has reached its tool, and is taken to have cost something.
_CALLED = frozenset({*REASONS, "killed", "lost"})


def _fail(step: WorkflowStep, reason: str, message: str) -> None:
    step.status, step.error, step.reason = StepStatus.FAILED, message, reason


def _time(step: WorkflowStep, at: datetime) -> None:
    if step.status not in SETTLED:
        return
    step.completed_at = at
    if step.started_at is not None:
        step.duration_ms = round((at - step.started_at).total_seconds() * 1000)


def _node(key: str) -> str:
    """The node that a step's key names."""
    return key.partition("#")[0]
