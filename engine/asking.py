"""What people are asked by nodes that wait for them, whether an answer fits, and what settles it.

Nothing here does I/O; the runner in memory asks the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import documents, waiting
from engine.core.document.vocabulary import DENIALS
from engine.core.graph import Asked, Escalation, Node
from engine.core.problem import Problem
from engine.core.values import Json, digest
from engine.core.values import problems as json_problems
from engine.errors import Conflict, Forbidden, Invalid

#: Characters of a reason.
MAX_REASON = 2000
#: Paths by which two values are told apart at most.
MAX_DIFFERENCES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody has said, and whose say it was: his own, or that of whoever he stands in for."""

    by: str
    of: str
    choice: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a question is settled by what was said."""

    #: None: no choice can come to its number any more, and none of them denies.
    choice: str | None
    #: Those whose answers make it, in the order in which they came.
    said: tuple[Said, ...]
    #: Why it is settled although nothing came to its number.
    why: str = ""

    @property
    def in_vain(self) -> bool:
        """Whether nothing was chosen of what could be."""
        return bool(self.why) and self.choice is None


def asks(node: Node, asked: Asked, scope: waiting.Scope) -> dict[str, Json]:
    """What people are shown and asked. Raises `Unfit`."""
    shown = None if asked.show is None else waiting.evaluated(node, "show", asked.show, scope)
    found: dict[str, Json] = {
        "title": node.title,
        "show": shown,
        "choices": [*asked.choices],
        "form": form_schema(asked),
        "from": [*asked.who],
        "quorum": dict(asked.quorums) if asked.quorums else asked.quorum,
    }
    if asked.reason:
        found["reason"] = "required"
    if asked.four_eyes:
        found["four_eyes"] = True
    if asked.escalate is not None:
        found["escalate"] = {"after": asked.escalate.after, "to": [*asked.escalate.to]}
    return found


def permit(
    bound: Mapping[str, Json],
    *,
    title: str | None = None,
    who: Sequence[str] = (),
    quorum: int | Mapping[str, int] = 1,
    policy_id: str | None = None,
    why: str = "",
    reason: bool = False,
    four_eyes: bool = True,
    escalate: Escalation | None = None,
) -> dict[str, Json]:
    """What people are asked who may let something happen: a wait of the kind `permit`.

    `bound` is all that their answer is for, and is shown to them: of a call `{tool, version,
    arguments, cost_usd}`. They answer to its digest, and to nothing else. `policy_id` and `why`
    tell who asks for it.
    """
    found: dict[str, Json] = {
        "title": title,
        "show": dict(bound),
        "choices": ["approve", "deny"],
        "form": form_schema(Asked()),
        "from": [*who],
        "quorum": quorum if isinstance(quorum, int) else dict(quorum),
        "four_eyes": four_eyes,
        "digest": digest(dict(bound)),
        "policy_id": policy_id,
        "why": why,
    }
    found |= {name: bound[name] for name in ("tool", "arguments") if name in bound}
    if reason:
        found["reason"] = "required"
    if escalate is not None:
        found["escalate"] = {"after": escalate.after, "to": [*escalate.to]}
    return found


def form_schema(asked: Asked) -> dict[str, Json]:
    """The JSON Schema of what people fill in; a field without a default must be."""
    required: list[Json] = [
        name
        for name, schema in asked.form.items()
        if not (isinstance(schema, dict) and "default" in schema)
    ]
    return {
        "type": "object",
        "properties": dict(asked.form),
        "required": required,
        "additionalProperties": False,
    }


def is_asked(who: Collection[str], user: str, roles: Collection[str]) -> bool:
    """Whether somebody is asked: by name, by a role, or because anybody is."""
    return not who or not {f"user:{user}", *(f"role:{role}" for role in roles)}.isdisjoint(who)


def not_asked(who: Sequence[str], by: str) -> Forbidden:
    """Why somebody may not answer."""
    return Forbidden(f"{by} is not asked: {', '.join(who)} may answer")


def asked_by_now(asks: Mapping[str, Any], seconds: float) -> tuple[str, ...]:
    """Who may answer a question that was asked so many seconds ago."""
    first, escalation = tuple(asks["from"]), asks.get("escalate")
    if not first or escalation is None or seconds < escalation["after"]:
        return first
    return (*first, *(one for one in escalation["to"] if one not in first))


def four_eyes(kind: str, asks: Mapping[str, Any]) -> bool:
    """Whether whoever submitted the run may not answer: of a permit that is so unless it says no."""
    return bool(asks.get("four_eyes", kind == "permit"))


def needed(asks: Mapping[str, Any], choice: str | None) -> int:
    """How many must make a choice before it counts."""
    quorum = asks.get("quorum", 1)
    return int(quorum.get(choice, 1)) if isinstance(quorum, Mapping) else int(quorum)


def most_needed(asks: Mapping[str, Any]) -> int | None:
    """How many must say the same at most; None where nobody is asked."""
    if "quorum" not in asks:
        return None
    return max(needed(asks, choice) for choice in (*asks.get("choices", ()), None))


def denial(choices: Sequence[str]) -> str | None:
    """The choice that refuses what was asked for."""
    return next((choice for choice in choices if choice in DENIALS), None)


def approves(choice: str | None) -> bool:
    """Whether an answer lets happen what was asked for."""
    return choice not in DENIALS


def check_digest(kind: str, asks: Mapping[str, Any], seen: str | None) -> None:
    """Hold what somebody saw against what is asked.

    Raises `Conflict` where it is something else, and `Invalid` where a permit is answered by
    somebody who does not say what he saw.
    """
    bound = asks.get("digest")
    if seen is None:
        if kind == "permit":
            remedy = "give the digest that is shown with what is asked"
            problem = Problem(path="digest", message="is missing", remedy=remedy)
            raise Invalid([problem], "a permit is bound to what it is for")
        return
    if bound is None:
        problem = Problem(path="digest", message="there is none here", remedy="leave it out")
        raise Invalid([problem], "the answer does not fit")
    if seen != bound:
        raise Conflict("what is asked is not what was seen: its digest is another; look again")


def checked(
    asks: Mapping[str, Any], choice: str | None, form: Mapping[str, Json], reason: str = ""
) -> dict[str, Json]:
    """What was filled in, with its defaults. Raises `Invalid` for what does not fit."""
    problems: list[Problem] = []
    choices = asks["choices"]
    if choices and choice not in choices:
        said = "no choice is made" if choice is None else f"there is no choice {choice!r}"
        remedy = f"choose one of {', '.join(choices)}"
        problems.append(Problem(path="choice", message=said, remedy=remedy))
    elif choice is not None and not choices:
        problems.append(
            Problem(path="choice", message="there is nothing to choose", remedy="leave it out")
        )
    elif _must_say_why(asks, choice) and not reason.strip():
        problems.append(Problem(path="reason", message="is missing", remedy="say why"))
    if len(reason) > MAX_REASON:
        remedy = f"write at most {MAX_REASON} characters"
        problems.append(Problem(path="reason", message=f"{len(reason)} characters", remedy=remedy))
    problems += json_problems(reason, path="reason")
    filled = _filled(asks["form"], form)
    problems += json_problems(filled, path="form")
    if not problems:
        problems += documents.schema_problems(asks["form"], filled, path="form")
    if problems:
        raise Invalid(problems, "the answer does not fit")
    return filled


def verdict(
    asks: Mapping[str, Any],
    who: Collection[str],
    every: Sequence[Said],
    *,
    barred: str | None = None,
) -> Verdict | None:
    """How a question is settled once the last of those who spoke has spoken; None: it is not.

    `who` may answer, `barred` may not whatever he is called.
    """
    last = every[-1]
    same = tuple(one for one in every if one.choice == last.choice)
    if len(same) >= needed(asks, last.choice or None):
        return Verdict(choice=last.choice or None, said=same)
    if _reachable(asks, who, every, barred):
        return None
    refused = denial(asks["choices"])
    said = tuple(one for one in every if one.choice == refused) or tuple(every)
    return Verdict(choice=refused, said=said, why="no choice can come to its number any more")


def in_vain(node: str, verdict: Verdict) -> str:
    """What a node fails with that nobody can answer any more."""
    return f"node {node} asked in vain: {verdict.why}"


def result(asks: Mapping[str, Any], verdict: Verdict, filled: Mapping[str, Json]) -> Json:
    """The result of a step that was answered: what was filled in, beside the choice if it has one.

    With the last reason that was given, whom others have answered for, and what they have seen.
    """
    if not asks["choices"]:
        return dict(filled)
    found: dict[str, Json] = {
        "choice": verdict.choice,
        "by": [one.by for one in verdict.said],
        "form": dict(filled),
    }
    if reasons := [one.reason for one in verdict.said if one.reason]:
        found["reason"] = reasons[-1]
    if behalf := {one.by: one.of for one in verdict.said if one.by != one.of}:
        found["behalf"] = dict[str, Json](behalf)
    if "digest" in asks:
        found["digest"] = asks["digest"]
    return found


def differences(before: Json, after: Json, path: str = "") -> list[str]:
    """Where two values differ, as paths: `to`, `lines[2].sum`; the empty one is the whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        parts = [
            (before.get(name, _NONE), after.get(name, _NONE), f"{path}.{name}" if path else name)
            for name in names
        ]
    elif isinstance(before, list) and isinstance(after, list):
        parts = [
            (
                before[place] if place < len(before) else _NONE,
                after[place] if place < len(after) else _NONE,
                f"{path}[{place}]",
            )
            for place in range(max(len(before), len(after)))
        ]
    else:
        same = type(before) is type(after) and before == after
        return [] if same else [path]
    found: list[str] = []
    for was, now, inner in parts:
        found += differences(was, now, inner)
        if len(found) >= MAX_DIFFERENCES:
            return found[:MAX_DIFFERENCES]
    return found


#: Where nothing is; equal to no value.
_NONE: Any = object()


def _must_say_why(asks: Mapping[str, Any], choice: str | None) -> bool:
    """Whether a reason belongs to a choice: to a denial; to any, where none of them is one."""
    if asks.get("reason") != "required":
        return False
    return choice in DENIALS or denial(asks["choices"]) is None


def _reachable(
    asks: Mapping[str, Any], who: Collection[str], every: Sequence[Said], barred: str | None
) -> bool:
    """Whether some choice can still come to its number.

    That can be told where everybody is asked by name, now and when it is escalated.
    """
    later = asks.get("escalate", {}).get("to", ())
    named = {*who, *later}
    if not who or not all(one.startswith("user:") for one in named):
        return True
    used = {one.of for one in every}
    left = len({one.removeprefix("user:") for one in named} - used - {barred})
    return any(
        sum(one.choice == choice for one in every) + left >= needed(asks, choice)
        for choice in asks["choices"] or ("",)
    )


def _filled(form: Mapping[str, Json], given: Mapping[str, Json]) -> dict[str, Json]:
    """What somebody filled in, with the defaults of what they left out."""
    fields = form.get("properties")
    assert isinstance(fields, dict)
    usual = {
        name: schema["default"]
        for name, schema in fields.items()
        if isinstance(schema, dict) and "default" in schema
    }
    return {**usual, **given}
