"""Policies of a client, asked before each call of a tool in this process.

On a platform its own policies are asked, where nobody who sends a step can go around them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from engine.sessions.steps import Verdict
from engine.sessions.words import PolicyDecision

#: An object with `evaluate(action, context)`, or such a function.
Policy = Any


def judge(
    policies: Sequence[Policy], context: Mapping[str, Any]
) -> Callable[[str, Mapping[str, Any]], Verdict | None]:
    """A function that asks policies about a call: those of the least `priority` first.

    A denial wins, then whoever wants an approval; changes add up. A policy that fails denies.
    """
    ordered = sorted(policies, key=lambda policy: getattr(policy, "priority", 100))

    def judged(tool: str, given: Mapping[str, Any]) -> Verdict | None:
        asked: Verdict | None = None
        arguments = copy.deepcopy(dict(given))
        for policy in ordered:
            name = str(getattr(policy, "name", type(policy).__name__))
            action: dict[str, Any] = {"tool": tool, "tool_name": tool, "arguments": arguments}
            try:
                decision, reason = _answer(_evaluate(policy)(action, copy.deepcopy(dict(context))))
            except Exception as error:  # noqa: BLE001  # whatever it is, it must let nothing pass
                said = f"{type(error).__name__}: {error}"
                return Verdict(decision=PolicyDecision.DENY, policy=name, reason=said)
            if decision is PolicyDecision.DENY:
                return Verdict(decision=decision, policy=name, reason=reason)
            if decision is PolicyDecision.MODIFY:
                arguments = dict(action["arguments"])
            if decision is PolicyDecision.REQUIRE_APPROVAL and asked is None:
                asked = Verdict(decision=decision, policy=name, reason=reason)
        if asked is None and arguments == given:
            return None
        return Verdict(
            decision=PolicyDecision.MODIFY if asked is None else asked.decision,
            policy="" if asked is None else asked.policy,
            reason="" if asked is None else asked.reason,
            input_data=arguments,
        )

    return judged


def _evaluate(policy: Policy) -> Callable[..., Any]:
    found: Any = getattr(policy, "evaluate", policy)
    return found  # type: ignore[no-any-return]  # whatever is no function fails, and denies


def _answer(answer: Any) -> tuple[PolicyDecision, str]:
    """A decision and its reason, from whatever says it. Raises `ValueError`."""
    reason = ""
    if isinstance(answer, tuple) and answer:
        reason = str(answer[1]) if len(answer) > 1 else ""
        answer = answer[0]
    elif hasattr(answer, "decision"):
        reason, answer = str(getattr(answer, "reason", "")), answer.decision
    word = answer.value if isinstance(answer, Enum) else answer
    return PolicyDecision(str(word).lower()), reason
