"""Policies as code: one small port behind which any language may sit.

A plug-in is a class or a function under the entry point group `celeriac.policies`:

    class NightShift:
        def __init__(self, closes: int = 22) -> None: ...
        def evaluate(self, action, context):
            return "DENY" if context["hour"] >= self.closes else "ALLOW"

A class is made once with what the policy document gives `with` it; a function is called with
that as keyword arguments each time. `action` says what is about to be done or was done (moment,
node, tool, arguments, inputs, result, usage), `context` for whom and where. It answers ALLOW,
DENY, REQUIRE_APPROVAL or MODIFY: a text, an enum of that name or value, a `Decision`, an object
with `decision` in it, or a pair of answer and reason. With MODIFY it says what to set, by dotted
path, or changes the `arguments` (or `inputs`) that it was handed, which are a copy.

`celeriac.rego` is one of them, Rego as a second language; it evaluates in a process of its own.
What is installed is trusted: it runs here, without a limit. Whatever it raises, and whatever
it answers that is none of the four, denies, with its name. So does a plug-in that is not there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from engine.core import values
from engine.core.values import Json
from engine.guardrails.facts import Facts
from engine.guardrails.policy import Use
from engine.guardrails.vocabulary import Action, Moment

#: The group of entry points.
GROUP = "celeriac.policies"


class PolicyDecision(Enum):
    """What a plug-in may answer."""

    ALLOW = "allow"
    DENY = "deny"
    REQUIRE_APPROVAL = "require_approval"
    MODIFY = "modify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer with its reason."""

    decision: PolicyDecision
    reason: str = ""
    #: MODIFY: what becomes of arguments or inputs, by dotted path.
    set: Mapping[str, Json] = field(default_factory=dict)


class Evaluator(Protocol):
    """What a plug-in is, once it has been set up."""

    def evaluate(self, action: Mapping[str, Any], context: Mapping[str, Any], /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a plug-in came to, in the words of rules."""

    action: Action
    reason: str
    set: Mapping[str, Json] = field(default_factory=dict)


class Plugin:
    """A plug-in as a policy uses it."""

    def __init__(self, use: Use, found: Callable[..., Any] | None) -> None:
        self.name = use.name
        self.moments: frozenset[Moment] = use.moments
        self._broken = "" if found is not None else "is not installed"
        self._evaluate: Callable[[dict[str, Any], dict[str, Any]], Any] = _nobody
        if found is None:
            return
        given = dict(use.given)
        if not isinstance(found, type):
            self._evaluate = lambda action, context: found(action, context, **given)
            return
        try:
            self._evaluate = found(**given).evaluate
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not let anything pass
            self._broken = f"cannot be set up: {_told(error)}"

    @property
    def broken(self) -> str:
        """What is wrong with it, if it cannot be asked at all."""
        return self._broken

    def ask(self, facts: Facts) -> Answer | None:
        """Its answer; None if it allows."""
        if self._broken:
            return self._denied(self._broken)
        action, context = _told_of(facts)
        try:
            answer = self._evaluate(action, context)
            decision = _decision(answer)
            change = _changed(decision, facts, action)
        except Exception as error:  # noqa: BLE001  # see above
            return self._denied(f"failed: {_told(error)}")
        reason = decision.reason[:_MAX_REASON]
        match decision.decision:
            case PolicyDecision.ALLOW:
                return None
            case PolicyDecision.DENY:
                return Answer(action="reject_execution", reason=reason)
            case PolicyDecision.REQUIRE_APPROVAL:
                return Answer(action="require_approval", reason=reason)
            case PolicyDecision.MODIFY:
                return Answer(action="modify", reason=reason, set=change)

    def _denied(self, why: str) -> Answer:
        message = f"the policy plug-in {self.name} {why}"
        return Answer(action="reject_execution", reason=message[:_MAX_REASON])


_MAX_REASON = 500


def _nobody(_action: dict[str, Any], _context: dict[str, Any]) -> Any:
    return PolicyDecision.DENY


def _told_of(facts: Facts) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts in the words of the port, as copies that a plug-in may change."""
    action: dict[str, Any] = {
        "moment": facts.moment,
        "type": "step" if facts.tool is None else "tool_call",
        "node": facts.node,
        "kind": facts.kind,
        "tool": facts.tool,
        "arguments": copy.deepcopy(facts.arguments),
        **{place: copy.deepcopy(value) for place, value in facts.content.items()},
        "usage": {name: float(value) for name, value in facts.usage.items()},
        "cost_estimate_usd": float(facts.usage.get("cost_usd", 0)),
    }
    context = {
        "tenant": facts.tenant,
        "user": facts.user,
        "workflow": facts.workflow,
        "run": facts.run,
        "step": facts.step,
        "attempt": facts.attempt,
        "iteration": facts.iteration,
        "repeats": facts.repeats,
        "live": {name: float(value) for name, value in facts.live.items()},
        "totals": {
            f"{total.scope} {total.window} {total.metric}": float(value)
            for total, value in facts.totals.items()
        },
    }
    return action, context


def _decision(answer: Any) -> Decision:
    reason, change = "", {}
    if inspect.iscoroutine(answer):
        answer.close()
    if isinstance(answer, Decision):
        return answer
    if isinstance(answer, tuple) and len(answer) == 2:  # noqa: PLR2004  # answer and reason
        answer, reason = answer[0], str(answer[1])
    elif isinstance(answer, Mapping):
        reason = str(answer.get("reason", ""))
        change = answer.get("set", {})
        answer = answer.get("decision")
    if not isinstance(change, Mapping):
        raise TypeError("set is no object")
    return Decision(decision=_word(answer), reason=reason, set=dict(change))


def _word(answer: Any) -> PolicyDecision:
    """The decision that a word, or somebody's own enum, stands for."""
    for text in (answer, getattr(answer, "name", None), getattr(answer, "value", None)):
        if isinstance(text, str) and text.upper() in PolicyDecision.__members__:
            return PolicyDecision[text.upper()]
    raise TypeError(
        f"it answered {type(answer).__name__}, not ALLOW, DENY, REQUIRE_APPROVAL or MODIFY"
    )


def _changed(decision: Decision, facts: Facts, action: Mapping[str, Any]) -> Mapping[str, Json]:
    """What to set: what it says, else in what its copy differs."""
    if decision.decision is not PolicyDecision.MODIFY:
        return {}
    change = dict(decision.set)
    before: Any = facts.arguments if facts.tool is not None else facts.content.get("inputs")
    after = action["arguments"] if facts.tool is not None else action.get("inputs")
    if not change and isinstance(before, dict) and isinstance(after, dict):
        change = {
            key: value for key, value in after.items() if key not in before or before[key] != value
        }
        if gone := before.keys() - after.keys():
            raise ValueError(f"it took away {', '.join(sorted(gone))}; set it to null")
    if not change:
        raise ValueError("it answered MODIFY and says not what to set")
    for problem in values.problems(change):
        raise ValueError(f"{problem.path}: {problem.message}")
    return change


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
