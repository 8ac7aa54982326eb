"""What judging comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.core.values import Json
from engine.guardrails import vocabulary as words
from engine.guardrails.vocabulary import Action, Scope, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A rule that fired: which, on what, and what follows."""

    #: `policy:rule`, under which a person's leave to pass is kept.
    id: str
    policy: str
    version: int
    rule: str
    action: Action
    #: What would follow if the policy were enforced; the action itself, if it is.
    would: Action
    #: The value that was seen, a number where the limit is one. Never content or arguments.
    observed: Json
    limit: Json
    message: str
    scope: Scope | None = None
    window: Window | None = None
    set: Mapping[str, Json] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    quorum: int = 1
    four_eyes: bool = False
    expires: float | None = None  #: seconds

    def as_json(self) -> dict[str, Json]:
        """The verdict as data, for history and answers; what is empty is left out."""
        found: dict[str, Json] = {
            "policy": self.policy,
            "version": self.version,
            "rule": self.rule,
            "action": self.action,
            "observed": self.observed,
            "limit": self.limit,
            "message": self.message,
        }
        if self.would != self.action:
            found["would"] = self.would
        if self.scope is not None:
            found["scope"] = self.scope
        if self.window not in {None, "none"}:
            found["window"] = self.window
        if self.set:
            found["set"] = dict(self.set)
        if self.action == "require_approval":
            found |= {"from": [*self.asked], "quorum": self.quorum}
            if self.four_eyes:
                found["four_eyes"] = True
        if self.expires is not None:
            found["expires"] = self.expires
        return found


#: What a run remembers between judgements, a small JSON object.
Memory = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the rules say of one moment, in the order in which they were asked."""

    verdicts: tuple[Verdict, ...] = ()
    #: What to remember, to be handed in at the next judgement of the run. The very object that
    #: was handed in, if nothing is to be added.
    memory: Memory = field(default_factory=dict)


def strongest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict that decides; the first of equal ones. None: nothing stands in the way.

    A verdict that only warns or is noted decides as well; look at its action.
    """
    return min(verdicts, key=lambda verdict: words.ACTIONS.index(verdict.action), default=None)


def modified(value: Json, verdicts: Iterable[Verdict]) -> Json:
    """A value as the verdicts that modify leave it, in their order; the value handed in stays."""
    for verdict in verdicts:
        if verdict.action == "modify":
            for path, new in verdict.set.items():
                value = _with(value, path.split("."), new)
    return value


def _with(value: Json, path: list[str], new: Json) -> Json:
    if not path:
        return new
    step, *rest = path
    if isinstance(value, list) and step.isascii() and step.isdigit() and int(step) < len(value):
        at = int(step)
        return [*value[:at], _with(value[at], rest, new), *value[at + 1 :]]
    outer = value if isinstance(value, dict) else {}
    return {**outer, step: _with(outer.get(step), rest, new)}
