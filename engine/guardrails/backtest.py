"""Policies held against what has happened: what they would have said, asked for and saved.

Recorded moments go in, in the order of time, those of several runs among each other, so that sums
over a user, a workflow or a tenant add up over all of them. What comes out tells of each run where
the policies would have parted from the record. Once they would have blocked something that was not
blocked, the rest of that run would not have been as it was recorded, and is judged no more.

Whoever would have been asked is taken to have said yes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from engine.core.values import Json
from engine.guardrails import governance as rules
from engine.guardrails.facts import Facts
from engine.guardrails.governance import Governance
from engine.guardrails.judge import judge
from engine.guardrails.spending import ASK, Asking, Execution, Spending, Whom
from engine.guardrails.verdicts import Memory, Verdict, strongest
from engine.guardrails.vocabulary import Action

#: What becomes of a moment.
Consequence: TypeAlias = Literal["passed", "modified", "asked", "rejected", "paused", "aborted"]

#: After these nothing is as it was recorded.
BLOCKING = frozenset[Consequence]({"rejected", "paused", "aborted"})
COST = "cost_usd"
#: Things that cannot be known which are told of one run.
MAX_UNKNOWN = 20
#: What asks where a tool wants each call of it allowed.
_TOOL = "tool"

_BEFORE: Mapping[str, Consequence] = {
    "abort_lifetime": "aborted",
    "pause_lifetime": "paused",
    "reject_execution": "rejected",
    "require_approval": "asked",
}
#: By moment, what follows from a verdict of an action; nothing follows from any other.
_FOLLOWS: Mapping[str, Mapping[str, Consequence]] = {
    # What asks for its start has nothing that could be set.
    "start": {**_BEFORE, "modify": "rejected"},
    "call": {**_BEFORE, "modify": "modified"},
    "report": _BEFORE,
    "call_report": {name: said for name, said in _BEFORE.items() if said != "asked"},
}
#: From most to least: as verdicts are ordered.
_STRENGTH: tuple[Consequence, ...] = (
    *("aborted", "paused", "rejected", "asked", "modified", "passed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One recorded moment, and what is charged there."""

    at: datetime
    whom: Whom
    execution: Execution
    #: What is known of it but for sums and what people let pass; None: there is nothing to judge.
    facts: Facts | None = None
    #: What a start or a call asks to have set aside.
    amounts: Mapping[str, Decimal] = field(default_factory=dict)
    #: It is known to cost just that, nothing included.
    known: bool = False
    #: It is charged at once, and nothing stays aside: nothing of it runs.
    waits: bool = False
    #: It undoes what was done: it starts whatever it costs, and nobody is asked first.
    undoes: bool = False
    #: The same before people were asked: nothing is judged where they would not have been.
    again: Execution | None = None
    charge: Mapping[str, Decimal] = field(default_factory=dict)
    #: Whether an execution is over here.
    ends: bool = False
    #: Whether the run is.
    last: bool = False
    #: Somebody let the run go on, whatever had paused it.
    resumes: bool = False
    #: A report, or the result of a call, of what has failed: there is nothing to hold back.
    failed: bool = False
    #: What became of it.
    recorded: Consequence = "passed"
    #: People were asked, and did not allow it.
    denied: bool = False
    #: People are asked whatever policies say: its tool wants that.
    asks: bool = False
    #: Digest of what exactly people would allow.
    bound: str = ""
    #: What cannot be known of it.
    unknown: str = ""


class Met(NamedTuple):
    """What would become of a moment, and the verdict that decides it."""

    consequence: Consequence
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where policies part from what was recorded."""

    at: datetime
    facts: Facts
    recorded: Consequence
    would: Consequence
    #: None: they let pass what was not let pass, or not without asking.
    verdict: Verdict | None

    def as_json(self) -> dict[str, Json]:
        """It as data; never content or arguments."""
        found: dict[str, Json] = {
            "at": self.at.isoformat(),
            "moment": self.facts.moment,
            "node": self.facts.node,
            "step": self.facts.step,
            "attempt": self.facts.attempt,
            "tool": self.facts.tool,
            "recorded": self.recorded,
            "would": self.would,
        }
        if self.verdict is not None:
            found |= self.verdict.as_json()
        return found


@dataclass(slots=True, kw_only=True)
class Course:
    """What would have become of one run."""

    moments: int = 0
    #: The first moment at which the policies part from the record.
    first: Divergence | None = None
    #: The first at which they block what was not blocked.
    block: Divergence | None = None
    #: The first that would have been blocked, whether it was or not.
    would: Consequence = "passed"
    #: Questions to people.
    approvals: int = 0
    #: Verdicts that only warn or note.
    warnings: int = 0
    cost: Decimal = Decimal(0)
    #: What was charged for what began after the block, or was blocked itself.
    saved: Decimal = Decimal(0)
    unknown: list[str] = field(default_factory=list)
    #: How many of these there are that are not told.
    untold: int = 0
    fired: dict[str, int] = field(default_factory=dict)

    def tell(self, unknown: str) -> None:
        """Say what cannot be known, once."""
        if unknown in self.unknown:
            return
        if len(self.unknown) < MAX_UNKNOWN:
            self.unknown.append(unknown)
        else:
            self.untold += 1


class _Permit(NamedTuple):
    """That one thing is passed once, at a moment of a step, for exactly what it was asked about."""

    step: str
    moment: str
    id: str
    bound: str


@dataclass(slots=True, kw_only=True)
class _Going:
    """A run while it is gone through."""

    course: Course = field(default_factory=Course)
    memory: Memory = field(default_factory=dict)
    #: Rules that have paused it, each with the value that it saw, and those that were let pass since.
    halted: dict[str, Json] = field(default_factory=dict)
    waived: dict[str, Json] = field(default_factory=dict)
    #: Step, moment, what asks, and about what.
    permits: set[_Permit] = field(default_factory=set)
    #: What people were asked about, and what comes of it is recorded: by moment.
    asked: set[tuple[str, Execution]] = field(default_factory=set)
    begun: set[Execution] = field(default_factory=set)
    #: What follows is not what was recorded.
    parted: bool = False


def held(
    governance: Governance,
    moments: Iterable[Moment],
    *,
    late: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Course], datetime | None]:
    """What would have become of each run, by its id, and up to when there was time to look.

    None: to the end. `late` says whether the time is over.
    """
    judge_ = _Judge(governance)
    for moment in moments:
        if late():
            return judge_.courses(), moment.at
        judge_.meet(moment)
    return judge_.courses(), None


def stronger(one: Consequence, other: Consequence) -> Consequence:
    """The stronger of two."""
    return min(one, other, key=_STRENGTH.index)


def consequence(moment: str, action: Action | str) -> Consequence:
    """What follows at a moment from a verdict of an action."""
    return _FOLLOWS.get(moment, {}).get(action, "passed")


class _Judge:
    def __init__(self, governance: Governance) -> None:
        self._governance = governance
        self._spending = Spending()
        self._going: dict[str, _Going] = {}

    def courses(self) -> dict[str, Course]:
        return {run: going.course for run, going in self._going.items()}

    def meet(self, moment: Moment) -> None:
        going = self._going.setdefault(moment.whom.run, _Going())
        cost = moment.charge.get(COST, Decimal(0))
        going.course.cost += cost
        if moment.resumes:
            going.waived |= going.halted
            going.halted.clear()
        if moment.again is not None and moment.again in going.begun:
            self._spending.move(moment.again, moment.execution)
            going.begun.add(moment.execution)
        if going.parted:
            self._after(going, moment, cost)
        else:
            self._during(going, moment)
        if moment.last:
            self._spending.release_all(moment.whom.run)

    def _after(self, going: _Going, moment: Moment, cost: Decimal) -> None:
        """What was under way is still charged; what began afterwards is saved, if it was blocked."""
        if moment.execution in going.begun:
            if moment.ends:
                self._settle(moment)
        elif going.course.block is not None:
            going.course.saved += cost

    def _during(self, going: _Going, moment: Moment) -> None:
        if moment.unknown:
            going.course.tell(moment.unknown)
        facts = moment.facts
        if facts is None:
            if moment.ends:
                self._settle(moment)
            return
        if moment.again is not None:
            before = (facts.moment, moment.again)
            if before not in going.asked:
                # It has gone on already.
                self._charge_waiting(moment)
                self._compare(going, moment, facts, Met("passed"))
                return
            going.asked.remove(before)
        going.course.moments += 1
        if facts.moment == "report":
            self._beyond(going, moment)
            self._settle(moment)
        met = self._met(going, moment, facts)
        if facts.moment == "call_report":
            self._settle(moment)
        if met.consequence == "asked" and moment.recorded == "asked":
            going.asked.add((facts.moment, moment.execution))
        elif facts.moment in {"start", "call"} and met.consequence not in BLOCKING:
            going.begun.add(moment.execution)
        if facts.moment == "report" and moment.failed:
            # Who allowed it to start has allowed that once, however often it went on where it was.
            going.permits = {
                one for one in going.permits if (one.step, one.moment) != (facts.step, "start")
            }
        self._compare(going, moment, facts, met)

    def _charge_waiting(self, moment: Moment) -> None:
        """Of what waits no attempt will be reported: that it is begun is all that it uses."""
        if moment.waits:
            self._settle(moment)

    def _settle(self, moment: Moment) -> None:
        self._spending.settle(moment.whom, moment.execution, moment.charge, moment.at)

    def _beyond(self, going: _Going, moment: Moment) -> None:
        """What was used beyond what was set aside may have been stopped while it ran."""
        asking = self._spending.more(moment.execution, moment.charge, moment.at)
        if asking is None:
            return
        short = self._spending.room(asking, self._budgets(moment.whom))
        if short is not None:
            going.course.tell(
                f"step {moment.execution.step} used more than is set aside for it and passed "
                f"{short.verdict.id}; whether it would have been stopped before its end, its record "
                "does not tell"
            )

    def _compare(self, going: _Going, moment: Moment, facts: Facts, met: Met) -> None:
        course, would = going.course, met.consequence
        if would in BLOCKING and course.would == "passed":
            course.would = would
        if would == moment.recorded:
            return
        found = Divergence(
            at=moment.at,
            facts=facts,
            recorded=moment.recorded,
            would=would,
            verdict=met.verdict,
        )
        course.first = course.first or found
        if would in BLOCKING:
            course.block = found
            going.parted = True
            self._spending.release(moment.execution)
        elif moment.recorded in {"rejected", "aborted"} or moment.denied:
            going.parted = True
            course.tell(
                f"{facts.moment} of {facts.tool or facts.step} was {_told(moment)}, and would have "
                "passed; what would have followed was never recorded"
            )
        elif would == "modified":
            course.tell(
                f"the call of {facts.tool} in step {facts.step} would have had other arguments; "
                "what they would have come to was never recorded"
            )

    # --- what would become of a moment --------------------------------------------------------

    def _met(self, going: _Going, moment: Moment, facts: Facts) -> Met:
        """Judge a moment, and set aside what it asks for."""
        found = self._verdicts(going, moment, facts)
        decides = strongest(found)
        said = _said(moment, facts, decides)
        going.halted |= {one.id: one.observed for one in found if one.action == "pause_lifetime"}
        # A start that a rule pauses the run for is held with all that is set aside for it.
        if said in BLOCKING and (said, facts.moment) != ("paused", "start"):
            return Met(said, decides)
        asking = [(one.id, one.asked) for one in found if _said(moment, facts, one) == "asked"]
        short: Verdict | None = None
        if facts.moment == "start":
            questions = self._put(going, moment, facts, asking)
            if not (questions and moment.recorded == "asked"):
                short, shorts = self._afford(going, moment, facts)
                questions += len(shorts)
        else:
            if moment.asks and self._permit(moment, facts, _TOOL) not in going.permits:
                asking.append((_TOOL, ()))
            if facts.moment == "call":
                short, shorts = self._afford(going, moment, facts)
                asking += [(one, ()) for one in shorts]
            blocked = short is not None and short.action != "require_approval"
            questions = 0 if blocked else self._put(going, moment, facts, asking)
        going.course.approvals += questions
        if short is not None and short.action != "require_approval":
            going.halted |= {short.id: short.observed} if short.action == "pause_lifetime" else {}
            return Met(stronger(consequence(facts.moment, short.action), said), short)
        if questions and moment.recorded == "asked":
            self._spending.release(moment.execution)
        else:
            self._charge_waiting(moment)
        if questions and said not in BLOCKING:
            return Met("asked", decides if said == "asked" else short)
        return Met(said, decides if said != "passed" else None)

    def _put(
        self,
        going: _Going,
        moment: Moment,
        facts: Facts,
        asking: Sequence[tuple[str, Sequence[str]]],
    ) -> int:
        """Ask people, each of whom says yes: how often. `asking` is what asks, and whom.

        Those that ask the same people are asked for at once. Where a question is recorded, the next
        one comes when that is answered.
        """
        first: list[frozenset[str]] = list(dict.fromkeys(frozenset(whom) for _, whom in asking))
        rounds = first[:1] if moment.recorded == "asked" else first
        going.permits |= {
            self._permit(moment, facts, one) for one, whom in asking if frozenset(whom) in rounds
        }
        return len(rounds)

    def _permit(self, moment: Moment, facts: Facts, what: str) -> _Permit:
        return _Permit(facts.step, facts.moment, what, moment.bound)

    def _verdicts(self, going: _Going, moment: Moment, facts: Facts) -> list[Verdict]:
        wanted = rules.wants(self._governance, facts.moment)
        if not wanted.anything:
            return []
        totals = self._spending.totals(wanted.totals, moment.whom, moment.at)
        judgement = judge(
            self._governance, replace(facts, totals=totals, waived=going.waived), going.memory
        )
        for one in judgement.verdicts:
            self._count(going, one)
        left = [
            one
            for one in judgement.verdicts
            if one.action != "require_approval"
            or self._permit(moment, facts, one.id) not in going.permits
        ]
        decides = strongest(left)
        withheld = decides is not None and decides.action == "require_approval"
        if not (facts.moment == "report" and moment.recorded == "asked" and withheld):
            # A lap is remembered when its report counts.
            going.memory = judgement.memory
        return left

    def _count(self, going: _Going, verdict: Verdict) -> None:
        course = going.course
        course.fired[verdict.id] = course.fired.get(verdict.id, 0) + 1
        course.warnings += verdict.action in {"warn", "allow_with_audit"}

    def _afford(
        self, going: _Going, moment: Moment, facts: Facts
    ) -> tuple[Verdict | None, list[str]]:
        """Set aside what is asked for; the budget in the way, or the first that asks people.

        Beside it all that ask. Of a start they are asked about one budget after the other.
        """
        budgets = self._budgets(moment.whom)
        asking = Asking(
            whom=moment.whom,
            execution=moment.execution,
            at=moment.at,
            amounts=moment.amounts,
            known=moment.known,
            unasked=moment.undoes,
            exceed=moment.undoes,
        )
        first: Verdict | None = None
        asked: list[str] = []
        while (short := self._spending.reserve(asking, budgets)) is not None:
            if short.then != ASK:
                self._count(going, short.verdict)
                return short.verdict, asked
            permit = self._permit(moment, facts, short.verdict.id)
            if permit not in going.permits:
                self._count(going, short.verdict)
                first = first or short.verdict
                asked.append(permit.id)
                if facts.moment == "start":
                    going.permits.add(permit)
                    if moment.recorded == "asked":
                        break
            asking = replace(asking, allowed={*asking.allowed, permit.id})
        return first, asked

    def _budgets(self, whom: Whom) -> tuple[rules.Applying, ...]:
        return self._governance.budgets(whom.workflow, whom.user)


def _said(moment: Moment, facts: Facts, verdict: Verdict | None) -> Consequence:
    if verdict is None:
        return "passed"
    said = consequence(facts.moment, verdict.action)
    if moment.failed and said in {"rejected", "asked"}:
        return "passed"
    return said


def _told(moment: Moment) -> str:
    return "not allowed by people" if moment.denied else moment.recorded
