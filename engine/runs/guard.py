"""What a turn asks of the tenant's policies: before a step starts, and of what it reports.

The rules are judged by `engine.guardrails`, which is pure; what they look at is gathered here,
and what they say goes into the run's history as an event. A report is judged before the core
folds it, so that nothing can follow from it unjudged. A result that people must accept first is
set aside, beside the step that waits for them, and is folded when they have.

Policies are not pinned: a turn goes by those that hold when it begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection

from engine import asking as permits
from engine import waiting
from engine.core import expressions
from engine.core import messages as msg
from engine.core.graph import Graph
from engine.core.permits import moment_of, permit
from engine.core.references import CONDITION_BYTES, Read, Readable, TooLarge
from engine.core.state import PERMIT, State, Step
from engine.core.transitions import StepStatus
from engine.core.values import Inline, Json, canonical, digest, plain
from engine.guardrails import governance as rules
from engine.guardrails import judge, verdicts
from engine.guardrails.facts import Facts
from engine.guardrails.governance import Governance, Wants
from engine.guardrails.verdicts import Judgement
from engine.guardrails.vocabulary import Moment
from engine.runs import budgets, items
from engine.runs.budgets import Charged
from engine.store.ids import StepId
from engine.store.ledger import Account
from engine.store.waits import Wait

#: Seconds for which people may allow something, where no rule says otherwise.
PERMIT_SECONDS = 86_400.0

#: What stands in a step's way, the strongest first.
ABORT, PAUSE = "abort_lifetime", "pause_lifetime"
REJECT, ASK, MODIFY = "reject_execution", "require_approval", "modify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What judging a run has at hand, all through a turn."""

    connection: Connection
    governance: Governance
    charged: Charged
    graph: Graph
    #: Reads what lies in blobs.
    read: Read
    started_at: datetime | None
    #: What was charged by now, as far as it was looked up: nothing that a turn does changes it.
    charges: dict[Account, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What people are asked to allow."""

    #: Each thing that asks, and what exactly it is asked about.
    permits: tuple[str, ...]
    asks: dict[str, Json]
    until: datetime


def start(guard: Guard, state: State, step: Step, now: datetime) -> Judgement:
    """What the rules say of a step that asks to start. What people have allowed stands."""
    wanted = rules.wants(guard.governance, "start")
    if not wanted.anything:
        return Judgement(memory=state.memory)
    node = guard.graph.node(step.node)
    facts = _facts(
        guard,
        state,
        step,
        wanted,
        now,
        moment="start",
        content=_inputs(guard, state, step) if "inputs" in wanted.places else {},
        usage={name: Decimal(str(amount)) for name, amount in node.estimate.items()},
    )
    return judge.judge(guard.governance, facts, state.memory)


def reported(
    guard: Guard,
    state: State,
    step: Step,
    event: msg.AttemptSucceeded | msg.AttemptFailed,
    memory: Mapping[str, Json],
) -> Judgement:
    """What the rules say of a report; `memory` as the report before it left it."""
    wanted = rules.wants(guard.governance, "report")
    if not wanted.anything:
        return Judgement(memory=memory)
    content: dict[str, Json] = {}
    leaves = None
    if isinstance(event, msg.AttemptSucceeded):
        if "result" in wanted.places or wanted.memory:
            content["result"] = _value(event)
        if "inputs" in wanted.places:
            content |= _inputs(guard, state, step)
        if event.patch and wanted.memory:
            leaves = digest({**state.view(step.thread), **event.patch})
    facts = _facts(
        guard,
        state,
        step,
        wanted,
        event.at,
        moment="report",
        content=content,
        usage={name: Decimal(str(amount)) for name, amount in event.usage.items()},
        leaves=leaves,
    )
    return judge.judge(guard.governance, facts, memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A call of a tool that a running step makes."""

    tool: str
    #: By name.
    arguments: dict[str, Json]
    #: What it is taken to use; what it used, once it is `reported`.
    usage: Mapping[str, Decimal]
    #: How often the run has made this very call before.
    repeats: int = 0
    reported: bool = False
    result: Json = None


def wants(guard: Guard, moment: Moment) -> Wants:
    """What the rules of a moment look at."""
    return rules.wants(guard.governance, moment)


def called(guard: Guard, state: State, step: Step, call: Called, now: datetime) -> Judgement:
    """What the rules say of a call before it is made, or of its result."""
    moment: Moment = "call_report" if call.reported else "call"
    facts = _facts(
        guard,
        state,
        step,
        wants(guard, moment),
        now,
        moment=moment,
        content={"result": call.result} if call.reported else {},
        usage=call.usage,
    )
    told = replace(facts, tool=call.tool, arguments=call.arguments, repeats=call.repeats)
    return judge.judge(guard.governance, told, state.memory)


def decisive(found: Iterable[verdicts.Verdict]) -> verdicts.Verdict | None:
    """The verdict that decides what becomes of a thing; a pause is of the run, beside it."""
    return verdicts.strongest(one for one in found if one.action != PAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said of a report, and what people are to be asked before it counts."""

    step: Step
    judged: msg.Judged
    question: Question | None = None


def hear(
    guard: Guard, before: State, event: msg.AnyEvent, memory: Mapping[str, Json]
) -> Said | None:
    """Judge an event, if it is a report that some step waits for and there are rules for those."""
    if not isinstance(event, msg.AttemptSucceeded | msg.AttemptFailed):
        return None
    step = before.steps.get(event.step)
    if step is None or step.attempt != event.attempt or not _reports(step):
        return None
    if not rules.wants(guard.governance, "report").anything:
        return None
    if is_withheld(step):
        # It is judged once more, by what holds now, and what people have allowed stands.
        step = replace(step, permits=(*step.permits, *step.asked))
    judgement = reported(guard, before, step, event, memory)
    bound: dict[str, Json] = {"node": step.node, "step": step.key, "attempt": event.attempt}
    if isinstance(event, msg.AttemptSucceeded):
        bound["result"] = _value(event)
    found = standing(judgement.verdicts, step, "report", bound)
    strongest = decisive(found)
    withheld = (
        isinstance(event, msg.AttemptSucceeded)
        and strongest is not None
        and strongest.action == ASK
    )
    said = judged(
        step,
        "report",
        # A lap is remembered when its report counts.
        Judgement(verdicts=found, memory=memory if withheld else judgement.memory),
        memory,
        at=event.at,
        rules=len(guard.governance.bound["report"]),
    )
    if not withheld:
        return Said(step=step, judged=said)
    asked = question(
        "report",
        [(one.id, one) for one in found if one.action == ASK],
        bound,
        title=f"Accept the result of {guard.graph.node(step.node).title or step.node}?",
        now=event.at,
    )
    return Said(step=step, judged=said, question=asked)


def withhold(
    guard: Guard, said: Said, event: msg.AttemptSucceeded, letter: Mapping[str, Json]
) -> tuple[msg.AttemptWithheld, Wait]:
    """Keep a report beside the step that waits until people accept it."""
    asked = said.question
    assert asked is not None
    withheld = msg.AttemptWithheld(
        at=event.at,
        step=event.step,
        attempt=event.attempt,
        fence=event.fence,
        permits=asked.permits,
        until=asked.until,
        result=event.result,
        usage=event.usage,
    )
    here = StepId(*guard.charged.run, said.step.key)
    return withheld, wait(here, asked, letter=dict(letter))


def is_withheld(step: Step) -> bool:
    """Whether a step waits for people to accept what it has reported."""
    return bool(step.asked) and moment_of(step.asked[0]) == "report"


def _reports(step: Step) -> bool:
    """Whether a report of it is waited for, or was set aside and is folded now."""
    return step.status is StepStatus.READY or is_withheld(step)


def judged(
    step: Step,
    moment: str,
    judgement: Judgement,
    before: Mapping[str, Json],
    *,
    at: datetime,
    rules: int,
) -> msg.Judged:
    """A judgement as the event that history keeps."""
    changed = judgement.memory is not before
    return msg.Judged(
        at=at,
        step=step.key,
        attempt=step.attempt,
        moment=moment,
        rules=rules,
        verdicts=tuple(map(recorded, judgement.verdicts)),
        memory=dict(judgement.memory) if changed else None,
    )


def recorded(verdict: verdicts.Verdict) -> msg.Verdict:
    """A verdict as history keeps it."""
    return msg.Verdict(
        policy=verdict.policy,
        version=verdict.version,
        rule=verdict.rule,
        action=verdict.action,
        message=verdict.message,
        observed=verdict.observed,
        limit=verdict.limit,
        scope=verdict.scope or "run",
        window=verdict.window or "none",
    )


def standing(
    found: Sequence[verdicts.Verdict], step: Step, moment: str, bound: Mapping[str, Json]
) -> tuple[verdicts.Verdict, ...]:
    """The verdicts that still ask after all that people have allowed for this step."""
    if not any(verdict.action == ASK for verdict in found):
        return tuple(found)
    what = digest(dict(bound))
    return tuple(
        verdict
        for verdict in found
        if verdict.action != ASK or permit(moment, verdict.id, what) not in step.permits
    )


def question(
    moment: str,
    asking: Sequence[tuple[str, verdicts.Verdict | msg.Verdict]],
    bound: Mapping[str, Json],
    *,
    title: str,
    now: datetime,
) -> Question:
    """What people are asked.

    `asking` are rules, budgets and tools that ask, by id; `bound` is all that an answer is for. Those
    that ask the same people are asked for at once, on the strictest of their terms; of those that ask
    others the step comes to speak when these have answered.
    """
    first = _people(asking[0][1])
    asking = [one for one in asking if _people(one[1]) == first]
    rules = [one for _, one in asking if isinstance(one, verdicts.Verdict)]
    seconds = min((one.expires for one in rules if one.expires), default=PERMIT_SECONDS)
    asks = permits.permit(
        bound,
        title=title,
        who=sorted(first),
        quorum=max((one.quorum for one in rules), default=1),
        policy_id=", ".join(name for name, _ in asking),
        why="; ".join(one.message for _, one in asking),
        four_eyes=any(one.four_eyes for one in rules),
    )
    what = digest(dict(bound))
    return Question(
        permits=tuple(permit(moment, name, what) for name, _ in asking),
        asks=asks,
        until=now + timedelta(seconds=seconds),
    )


def _people(asking: verdicts.Verdict | msg.Verdict) -> frozenset[str]:
    """Who is asked; nobody by name: whoever may answer at all."""
    return frozenset(asking.asked) if isinstance(asking, verdicts.Verdict) else frozenset()


def wait(step: StepId, asked: Question, **beside: Json) -> Wait:
    """The row of a step that waits for people who must allow it something."""
    return Wait(step=step, kind=PERMIT, asks=canonical({**asked.asks, **beside}))


def of_start(guard: Guard, state: State, step: Step) -> dict[str, Json]:
    """What exactly people allow who let a step start: this visit, with this, at this price."""
    node = guard.graph.node(step.node)
    bound: dict[str, Json] = {
        "node": step.node,
        "step": step.key,
        "estimate": dict(node.estimate),
    }
    return bound if node.inputs is None else {**bound, **_inputs(guard, state, step)}


def _facts(
    guard: Guard,
    state: State,
    step: Step,
    wanted: Wants,
    now: datetime,
    *,
    moment: Moment,
    content: Mapping[str, Json],
    usage: Mapping[str, Decimal],
    leaves: str | None = None,
) -> Facts:
    charged = guard.charged
    since = guard.started_at or now
    return Facts(
        moment=moment,
        tenant=charged.run.tenant,
        user=charged.user,
        workflow=charged.workflow,
        run=charged.run.run,
        node=step.node,
        kind=guard.graph.node(step.node).kind,
        step=step.key,
        attempt=step.attempt,
        iteration=step.iteration,
        content=content,
        usage=usage,
        totals=budgets.totals(guard.connection, wanted.totals, charged, now, guard.charges),
        live={
            "steps": Decimal(state.visited),
            "seconds": Decimal(str(max((now - since).total_seconds(), 0.0))),
            "parallelism": Decimal(_parallel(state)),
        },
        state=leaves,
        waived=state.waived,
    )


def _parallel(state: State) -> int:
    """Steps that are at work or wait, items of maps with them."""
    return state.live + sum(one.running for one in state.maps.values())


def _inputs(guard: Guard, state: State, step: Step) -> dict[str, Json]:
    """What a step is given, as far as it can be told before a worker works it out."""
    node = guard.graph.node(step.node)
    scope = Readable(
        waiting.scope_of(state, step, read=guard.read), guard.read, limit=CONDITION_BYTES
    )
    item: dict[str, Json] = {}
    if step.of is not None and step.index is not None:
        run = guard.charged.run
        item = items.names(guard.connection, run, guard.graph, step.of, step.index)
        scope = scope.beside(item)
    if node.inputs is None:
        return {"inputs": {**state.view(step.thread), **item}}
    try:
        return {"inputs": node.inputs.evaluate(scope)}
    except (expressions.EvaluationError, TooLarge):
        # The attempt will fail for it, and say so.
        return {}


def _value(event: msg.AttemptSucceeded) -> Json:
    return event.result.value if isinstance(event.result, Inline) else plain(event.result)
