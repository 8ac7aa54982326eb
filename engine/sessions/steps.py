"""What a step asks for, and the event that brings it: worked out from what its session has come to."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine import tools
from engine.core import expressions, values
from engine.core.problem import Problem
from engine.core.section import below
from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.sessions import graph
from engine.sessions.config import MAX_STEPS
from engine.sessions.story import Story, named
from engine.sessions.words import AgentState, PolicyDecision, StepStatus, StepType
from engine.tools import Standing, Terms

#: What may come of a failed step: the session fails, goes on, or it is tried again and then fails.
#: Where nothing is said, the step is failed, and its client decides.
ON_FAILURE = ("stop", "skip", "retry")
STEP_ID = r"step_[0-9a-f]{12}"

_MAX_NAME = 200
#: Texts that stand for something of the context; every other text is itself.
_REFERENCE = re.compile(r"\$context[.\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A tool as whoever sends a step knows it."""

    terms: Terms
    standing: Standing
    #: The names of what its code takes.
    takes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A call of a parallel step."""

    name: str
    tool_name: str
    input_data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A step as its client asks for it."""

    step_type: StepType
    name: str
    description: str = ""
    #: Texts such as `$context.Search.result` stand for what they name.
    input_data: Mapping[str, Any] = field(default_factory=dict)
    tool_name: str | None = None
    step_id: str = field(default_factory=lambda: f"step_{secrets.token_hex(6)}")
    #: `stop`, `skip` or `retry`.
    on_failure: str | None = None
    #: An expression over `$context`, `$step_count` and `$total_cost_usd`: if it does not hold, the
    #: step is skipped.
    condition: str | None = None
    child_steps: Sequence[Child] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy of the sender says of a step."""

    decision: PolicyDecision
    policy: str
    reason: str = ""
    input_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sends a step, and what is known where it is sent."""

    by: str
    now: datetime
    #: A tool by its name; None: there is none.
    offer: Callable[[str], Offer | None]
    #: Why somebody may not use a tool by name on its terms; None where that is asked when it is called.
    forbids: Callable[[str, Terms], str | None] = lambda _name, _terms: None
    #: Whether a tool that wants an approval gets it here; else where it is called.
    asks: bool = False
    #: What policies say of a call by name and input.
    judge: Callable[[str, Mapping[str, Any]], Verdict | None] = lambda _name, _given: None


def event(story: Story, wanted: Wanted, sender: Sender) -> dict[str, Json]:
    """The event that brings a step.

    Raises `Invalid` for a step that is wrong in itself, `Conflict` for a session that has ended, is
    paused, or whose last step is not over.
    """
    _check_free(story)
    problems = [*_problems(wanted)]
    if problems:
        raise Invalid(problems, "the step is not valid")
    found = _Event(story, wanted, sender)
    return {**found.told(), "number": story.number + 1, "by": sender.by}


def completion(story: Story, by: str) -> dict[str, Json]:
    """The event that ends a session. Raises `Conflict` as `event` does."""
    _check_free(story)
    return _bare(story, "complete", by, route="done")


def rollback(story: Story, checkpoint_id: str, by: str) -> dict[str, Json]:
    """The event that sets a session back. Raises `Conflict` as `event` does, and `NotFound`."""
    _check_free(story)
    known = {each.checkpoint_id: each for each in story.workflow.checkpoints}
    if checkpoint_id not in known:
        raise NotFound(f"Checkpoint not found: {checkpoint_id}")
    if known[checkpoint_id].rolled_back:
        raise Conflict(
            f"{checkpoint_id} lies beyond a rollback: it is no place of this workflow now"
        )
    return {**_bare(story, "rollback", by, route="pass"), "checkpoint_id": checkpoint_id}


def _check_free(story: Story) -> None:
    workflow = story.workflow
    if workflow.ended:
        raise Conflict(
            f"workflow {workflow.workflow_id} is {workflow.state}; it takes no more steps"
        )
    if workflow.state is AgentState.PAUSED:
        raise Conflict(f"workflow {workflow.workflow_id} is paused; resume it first")
    if (step := story.open) is not None:
        raise Conflict(f"step {step.step_id} is {step.status}; send the next one when it is over")


def _bare(story: Story, kind: str, by: str, *, route: str) -> dict[str, Json]:
    return {
        "kind": kind,
        "number": story.number + 1,
        "step_id": f"step_{secrets.token_hex(6)}",
        "route": route,
        "by": by,
    }


def _problems(wanted: Wanted) -> Sequence[Problem]:
    found: list[Problem] = []

    def fail(path: str, message: str, remedy: str) -> None:
        found.append(Problem(path=path, message=message, remedy=remedy))

    if not 0 < len(wanted.name) <= _MAX_NAME:
        fail("name", f"{len(wanted.name)} characters", f"give it 1 to {_MAX_NAME}")
    if not re.fullmatch(STEP_ID, wanted.step_id):
        fail(
            "step_id", f"{wanted.step_id[:40]!r} is no id", "write step_ and 12 hexadecimal digits"
        )
    if wanted.on_failure not in (None, *ON_FAILURE):
        fail("on_failure", f"{wanted.on_failure!r}", f"write one of {', '.join(ON_FAILURE)}")
    if wanted.on_failure == "retry" and wanted.step_type is not StepType.TOOL_CALL:
        fail("on_failure", "only a tool call is tried again", "write stop or skip")
    if wanted.step_type is StepType.TOOL_CALL and not wanted.tool_name:
        fail("tool_name", "the step calls no tool", "name one")
    if wanted.step_type is not StepType.TOOL_CALL and wanted.tool_name:
        fail("tool_name", f"a step of type {wanted.step_type} calls none", "leave it out")
    parallel = wanted.step_type is StepType.PARALLEL
    if parallel and not 0 < len(wanted.child_steps) <= MAX_STEPS:
        fail("child_steps", f"{len(wanted.child_steps)} calls", f"give 1 to {MAX_STEPS}")
    if not parallel and wanted.child_steps:
        fail("child_steps", "only a parallel step has some", "leave them out")
    names = [child.name for child in wanted.child_steps]
    if len(set(names)) != len(names):
        fail("child_steps", "two have one name", "give each its own")
    found += values.problems(dict(wanted.input_data), path="input_data")
    for index, child in enumerate(wanted.child_steps):
        path = f"child_steps[{index}].input_data"
        found += values.problems(dict(child.input_data), path=path)
    return found


class _Refused(Exception):
    """The step is not carried out."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class _Event:
    """Works one event out."""

    def __init__(self, story: Story, wanted: Wanted, sender: Sender) -> None:
        self._story = story
        self._wanted = wanted
        self._sender = sender
        self._config = story.config
        #: Why somebody must be asked first, and by which rule.
        self._ask: tuple[str, str] | None = None

    def told(self) -> dict[str, Json]:
        wanted = self._wanted
        scope = self._scope()
        base: dict[str, Json] = {
            "kind": "step",
            "step_id": wanted.step_id,
            "step_type": str(wanted.step_type),
            "name": wanted.name,
            "description": wanted.description,
            "on_failure": wanted.on_failure,
            "input_data": dict(wanted.input_data),
            "tool_name": wanted.tool_name,
            "cost_usd": 0.0,
            "stop": wanted.on_failure in ("stop", "retry"),
            "retry": wanted.on_failure == "retry",
            "condition": wanted.condition,
            "child_steps": [],
            "counts": True,
        }
        if wanted.condition is not None and not self._holds(wanted.condition, scope):
            message = f"its condition does not hold: {wanted.condition}"
            return {**base, **_passed(StepStatus.SKIPPED, None, "condition", message)}
        base["input_data"] = self._filled(wanted.input_data, scope, "input_data")
        try:
            self._check_limits()
            return {**base, **self._way(base, scope)}
        except _Refused as refused:
            counts = refused.reason != "limit"
            status = StepStatus.SKIPPED if wanted.on_failure == "skip" else StepStatus.FAILED
            passed = _passed(status, None, refused.reason, refused.message)
            if base["stop"]:
                passed["route"] = graph.HALT
            return {**base, **passed, "counts": counts}

    def _way(self, base: Mapping[str, Json], scope: Mapping[str, Json]) -> dict[str, Json]:
        """What the step does: its part of the event. Raises `_Refused`."""
        wanted = self._wanted
        given: Any = base["input_data"]
        match wanted.step_type:
            case StepType.TOOL_CALL:
                assert wanted.tool_name is not None
                call = self._call(wanted.tool_name, given)
                self._check_cost(Decimal(str(call["cost_usd"])))
                return {
                    **call,
                    **self._routed(graph.RETRIED if base["retry"] else graph.CALL, call),
                }
            case StepType.PARALLEL:
                children: list[Json] = []
                cost = Decimal(0)
                for index, child in enumerate(wanted.child_steps):
                    path = f"child_steps[{index}].input_data"
                    filled = self._filled(child.input_data, scope, path)
                    called = self._call(child.tool_name, filled)
                    step_id = named("step", wanted.step_id, index)
                    children.append({"step_id": step_id, "name": child.name, **called})
                    cost += Decimal(str(called["cost_usd"]))
                self._check_cost(cost)
                told: dict[str, Json] = {"child_steps": children, "cost_usd": float(cost)}
                return {**told, **self._routed(graph.PARALLEL, told)}
            case StepType.HUMAN_INPUT:
                return {"route": graph.INPUT, "shown": {"title": wanted.description, **given}}
            case StepType.CHECKPOINT:
                return _passed(StepStatus.COMPLETED, {})
            case word:
                return _passed(StepStatus.COMPLETED, {word.value: given.get(word.value, given)})

    def _call(self, name: str, given: dict[str, Json]) -> dict[str, Json]:
        """A call of a tool, if it can be made. Raises `_Refused`."""
        offer = self._sender.offer(name)
        if offer is None:
            raise _Refused("no_such_tool", f"tool {name!r} is not registered")
        verdict = self._sender.judge(name, given)
        if verdict is not None:
            given = self._judged(verdict, name, given)
        if offer.standing.status in tools.CLOSED:
            raise _Refused("tool_closed", f"tool {name} is {offer.standing.status}")
        if (why := self._sender.forbids(name, offer.terms)) is not None:
            raise _Refused("forbidden", why)
        bound = tools.bound(
            offer.terms.schema, offer.takes, {"args": [], "kwargs": given}, path="input_data"
        )
        if bound.problems:
            said = "; ".join(f"{each.path}: {each.message}" for each in bound.problems)
            raise _Refused("arguments_refused", f"arguments of {name}: {said}")
        settings = self._config
        sensitive = settings.require_approval_for_sensitive and name in settings.sensitive_tools
        # Where the tool itself asks when it is called, nobody is asked twice.
        if sensitive and (self._sender.asks or not offer.terms.requires_approval):
            self._ask = self._ask or ("sensitive_tools", f"{name} is a sensitive tool")
        if offer.terms.requires_approval and self._sender.asks:
            self._ask = self._ask or ("requires_approval", f"{name} wants an approval")
        cost = float(offer.terms.cost_estimate_usd)
        return {"tool_name": name, "input_data": dict(bound.arguments), "cost_usd": cost}

    def _judged(self, verdict: Verdict, name: str, given: dict[str, Json]) -> dict[str, Json]:
        why = verdict.reason or f"policy {verdict.policy} says {verdict.decision} of {name}"
        match verdict.decision:
            case PolicyDecision.DENY:
                raise _Refused("policy", f"policy {verdict.policy}: {why}")
            case PolicyDecision.REQUIRE_APPROVAL:
                self._ask = (verdict.policy, why)
            case PolicyDecision.MODIFY if verdict.input_data is not None:
                return dict(verdict.input_data)
            case _:
                pass
        return given

    def _routed(self, way: str, call: Mapping[str, Json]) -> dict[str, Json]:
        """The way of a call: by somebody who is asked, where that must be."""
        if self._ask is None:
            return {"route": way}
        policy, why = self._ask
        shown: dict[str, Json] = {
            "why": why,
            "step": self._wanted.name,
            "tool": call.get("tool_name"),
            "input": call.get("input_data"),
            "calls": call.get("child_steps", []),
            "cost_usd": call["cost_usd"],
        }
        return {"route": graph.ASK, "policy_id": policy, "shown": shown}

    def _check_limits(self) -> None:
        settings, workflow = self._config, self._story.workflow
        if workflow.step_count >= settings.max_steps:
            raise _Refused("limit", f"Exceeded maximum steps ({settings.max_steps})")
        most = settings.max_duration_seconds
        assert workflow.started_at is not None
        if most is not None and (self._sender.now - workflow.started_at).total_seconds() > most:
            raise _Refused("limit", f"Exceeded maximum duration ({most:g} s)")

    def _check_cost(self, cost: Decimal) -> None:
        """Look whether the session may spend so much more; above a share of it, somebody is asked."""
        most, settings = Decimal(str(self._config.max_cost_usd)), self._config
        after = self._story.spent + cost
        if cost and after > most:
            raise _Refused(
                "limit",
                f"Exceeded maximum cost ({most} USD): {self._story.spent} spent, {cost} asked",
            )
        if cost and after > most * Decimal(str(settings.approval_cost_share)):
            share = f"{settings.approval_cost_share:.0%} of {most} USD"
            self._ask = self._ask or (
                "cost_control",
                f"it brings the cost to {after}, over {share}",
            )

    def _scope(self) -> dict[str, Json]:
        workflow = self._story.workflow
        return {
            "context": workflow.context,
            "step_count": workflow.step_count,
            "total_cost_usd": float(self._story.total),
        }

    def _holds(self, condition: str, scope: Mapping[str, Json]) -> bool:
        try:
            return expressions.holds(expressions.compile(condition).evaluate(scope).value)
        except (expressions.ExpressionError, expressions.EvaluationError) as error:
            remedy = "write an expression such as $context.Search.result == 3"
            problem = Problem(path="condition", message=str(error), remedy=remedy)
            raise Invalid([problem], "the step is not valid") from error

    def _filled(
        self, given: Mapping[str, Any], scope: Mapping[str, Json], path: str
    ) -> dict[str, Json]:
        found = _resolved(dict(given), scope, path)
        assert isinstance(found, dict)
        return found


def _passed(
    status: StepStatus,
    output: Mapping[str, Json] | None,
    reason: str | None = None,
    error: str | None = None,
) -> dict[str, Json]:
    """A step that is over as soon as it has come."""
    return {
        "route": "pass",
        "status": str(status),
        "output_data": None if output is None else dict(output),
        "reason": reason,
        "error": error,
    }


def _resolved(value: Json, scope: Mapping[str, Json], path: str) -> Json:
    """A value with what its references stand for. Raises `Invalid` for one that cannot be read."""
    match value:
        case str() if _REFERENCE.match(value):
            try:
                return expressions.compile(value).evaluate(scope).value
            except (expressions.ExpressionError, expressions.EvaluationError) as error:
                problem = Problem(
                    path=path, message=str(error), remedy="write $context.NAME.result"
                )
                raise Invalid([problem], "the step is not valid") from error
        case list():
            return [_resolved(each, scope, f"{path}[{i}]") for i, each in enumerate(value)]
        case dict():
            return {name: _resolved(each, scope, below(path, name)) for name, each in value.items()}
        case _:
            return value
