"""Trying a policy on moments that somebody wrote down, or that were recorded of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine.core.problem import Problem
from engine.core.section import Section, short
from engine.core.values import Json
from engine.errors import Invalid
from engine.guardrails import governance, line
from engine.guardrails import vocabulary as words
from engine.guardrails.facts import Facts, Total
from engine.guardrails.governance import Active
from engine.guardrails.judge import judge
from engine.guardrails.policy import Policy
from engine.guardrails.verdicts import Memory, Verdict, strongest

#: Moments that are tried at once.
MAX_MOMENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One moment, and what the policy says of it."""

    facts: Facts
    verdicts: tuple[Verdict, ...]
    #: The one that would decide; None: nothing stands in the way.
    decides: Verdict | None

    def as_json(self) -> dict[str, Json]:
        """What came of it, as data."""
        return {
            "moment": self.facts.moment,
            "node": self.facts.node,
            "step": self.facts.step,
            "attempt": self.facts.attempt,
            "tool": self.facts.tool,
            "action": "allow" if self.decides is None else self.decides.action,
            "verdicts": [verdict.as_json() for verdict in self.verdicts],
        }


def attempt(
    policy: Policy,
    moments: Iterable[Facts],
    plugins: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[Tried, ...]:
    """Judge moments in order, as those of one run: it remembers from each to the next.

    Nothing is carried out, so a verdict that would have ended the run does not end the trial.
    """
    held = governance.govern(0, [Active(policy=policy, version=0)], plugins)
    memory: Memory = {}
    tried = []
    for facts in moments:
        found = judge(held, facts, memory)
        memory = found.memory
        tried.append(Tried(facts=facts, verdicts=found.verdicts, decides=strongest(found.verdicts)))
    return tuple(tried)


def read(data: Json, *, path: str = "facts") -> tuple[Facts, ...]:
    """Moments from data: one as an object, several as a list. Raises `Invalid`.

    `totals` are by scope, window and metric, what is usual left out: `tokens_used` of the run,
    `user hour cost_usd`.
    """
    entries = data if isinstance(data, list) else [data]
    problems: list[Problem] = []
    if not 1 <= len(entries) <= MAX_MOMENTS:
        problems.append(
            Problem(
                path=path,
                message=f"{len(entries)} moments",
                remedy=f"write 1 to {MAX_MOMENTS}",
            )
        )
    else:
        found = [
            _facts(Section(each, f"{path}[{index}]" if isinstance(data, list) else path, problems))
            for index, each in enumerate(entries)
        ]
    if problems:
        raise Invalid(problems[:MAX_MOMENTS])
    return tuple(found)


_TEXTS = ("tenant", "user", "workflow", "run", "node", "kind", "step")
_FIELDS = (
    "moment", *_TEXTS, "attempt", "iteration", "tool", "arguments", "inputs", "result", "usage",
    "totals", "live", "repeats", "state", "waived",
)  # fmt: skip
_MOST = 2**53


def _facts(section: Section) -> Facts:
    section.known(_FIELDS)
    fields = section.fields
    moment = section.option("moment", words.MOMENTS, ())
    if "moment" not in fields:
        moment = "call" if "tool" in fields else "report" if "result" in fields else "start"
    texts = {name: section.text(name, r"(?s).{0,500}", "text") or "" for name in _TEXTS}
    waived = fields.get("waived", {})
    if not isinstance(waived, dict):
        section.wrong(section.at("waived"), waived, "values by the id of a rule")
        waived = {}
    return Facts(
        moment=next((each for each in words.MOMENTS if each == moment), "start"),
        attempt=section.integer("attempt", 1, _MOST, 1),
        iteration=section.integer("iteration", 1, _MOST, 1),
        tool=section.text("tool", r"(?s).{1,200}", "the name of a tool"),
        arguments=fields.get("arguments"),
        content={name: fields[name] for name in ("inputs", "result") if name in fields},
        usage=_numbers(section, "usage"),
        totals={
            total: value
            for name, value in _numbers(section, "totals").items()
            if (total := _total(section, name)) is not None
        },
        live=_numbers(section, "live"),
        repeats=section.integer("repeats", 0, _MOST, 0),
        state=section.text("state", r"(?s).{0,500}", "text"),
        waived=waived,
        **texts,
    )


def _numbers(section: Section, name: str) -> dict[str, Decimal]:
    given = section.fields.get(name, {})
    if not isinstance(given, dict):
        section.wrong(section.at(name), given, "numbers by name")
        return {}
    found = {}
    for key, value in given.items():
        number = None
        if isinstance(value, str):
            number = line.number(value)
        elif type(value) in {int, float}:
            number = Decimal(str(value))
        if number is None:
            section.fail(f"{name}.{key}", f"{short(str(value))} is no number", "write a number")
        else:
            found[key] = number
    return found


def _total(section: Section, name: str) -> Total | None:
    """The sum that a name such as `user hour cost_usd` stands for."""
    *over, metric = name.split() or [""]
    scopes = [words.SCOPE_WORDS[each] for each in over if each in words.SCOPE_WORDS]
    windows = [each for each in words.WINDOWS if each in over]
    if len(scopes) + len(windows) < len(over) or len(scopes) > 1 or len(windows) > 1:
        section.fail(f"totals.{name}", f"{short(name)} is no sum", "write, say, user hour cost_usd")
        return None
    return Total(scopes[0] if scopes else "run", windows[0] if windows else "none", metric)
