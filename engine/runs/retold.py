"""A recorded run told once more, as the moments at which policies are asked, with all that they see.

The state of the run is folded along, so that what rules look at is what they would have looked at
then. What was stopped or kept back at the time has left less of a record, and so has what was
shredded: where something is not known, that is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from engine import tools, waiting
from engine.core import expressions
from engine.core import messages as msg
from engine.core.fold import evolve
from engine.core.fold.steps import expected
from engine.core.permits import rule_of
from engine.core.references import CONDITION_BYTES, Readable, TooLarge, Unread
from engine.core.state import State, Step
from engine.core.values import Inline, Json, digest, plain
from engine.guardrails import backtest
from engine.guardrails import governance as rules
from engine.guardrails.backtest import Consequence, Moment
from engine.guardrails.facts import Facts
from engine.guardrails.governance import Governance
from engine.guardrails.spending import Execution, Whom
from engine.guardrails.vocabulary import Moment as When
from engine.runs.records import Key, Reader, Record, Told
from engine.store.functions import Function

#: Gives a version of a tool by name and number.
Tools = Callable[[str, int], Function | None]

_REPORTS = msg.AttemptSucceeded | msg.AttemptFailed | msg.AttemptWithheld
_QUESTIONS = msg.Parked | msg.AttemptSuspended | msg.AttemptWithheld
_STARTS = msg.Admitted | msg.Refused | msg.Deferred | msg.Parked
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What policies made of a run when it was carried out."""

    #: The first time that they stood in its way.
    was: Consequence = "passed"
    #: Questions to people, those that tools ask for included.
    approvals: int = 0


def happened(record: Record) -> Happened:
    """What policies made of a run."""
    was: Consequence = "passed"
    approvals = 0
    for line in record.lines:
        match line.record:
            case msg.Judged() as judged:
                came = _came(judged)
                was = came if was == "passed" and came in backtest.BLOCKING else was
            case msg.Parked() | msg.AttemptSuspended() | msg.AttemptWithheld() as question:
                approvals += _by_rules(question)
            case _:
                pass
    return Happened(was=was, approvals=approvals)


def moments(
    record: Record, governance: Governance, find_tool: Tools, reader: Reader
) -> tuple[Moment, ...]:
    """The moments of a run in their order, as the policies given will look at them."""
    return tuple(_Telling(record, governance, find_tool, reader).told())


@dataclass(slots=True, kw_only=True)
class _Beforehand:
    """What later lines tell of earlier ones."""

    #: By attempt, the report that was folded in the end, and whether it is shredded.
    told: dict[Key, tuple[msg.AttemptSucceeded | msg.AttemptFailed, bool]] = field(
        default_factory=dict
    )
    #: Lines at which people were asked and said no, or nothing.
    denied: set[int] = field(default_factory=set)
    #: Calls, by step and ordinal, that tools wanted people asked about.
    by_tools: set[tuple[str, int]] = field(default_factory=set)
    #: Of steps, what was said of results of calls and when.
    kept_back: dict[Key, list[tuple[datetime, Consequence]]] = field(default_factory=dict)


class _Telling:
    def __init__(
        self, record: Record, governance: Governance, find_tool: Tools, reader: Reader
    ) -> None:
        self._record = record
        self._governance = governance
        self._tool = find_tool
        self._reader = reader
        head = record.head
        self._whom = Whom(
            run=record.run.run,
            root=record.root,
            workflow=head.workflow,
            user=head.submitted_by,
            tenant=record.run.tenant,
        )
        self._began = head.started_at or head.created_at
        self._state = State(run=record.run.run)
        self._steps: dict[str, Step] = {}
        self._left = {key: dict(used) for key, used in record.charges.items()}
        self._settled: set[Key] = set()
        self._before = _beforehand(record)
        #: What was said of what comes next, by step and moment.
        self._said: dict[tuple[str, When], Consequence] = {}
        #: What people were asked about, by what comes again when they have answered.
        self._asked: dict[tuple[str, When, int], Execution] = {}
        self._made: Counter[str] = Counter()
        self._seen: set[tuple[str, int]] = set()

    def told(self) -> Iterator[Moment]:
        calls = _in_time(self._record.calls)
        at = self._began
        for line in self._record.lines:
            at = max(at, line.at)
            while calls and calls[0][0] <= at:
                yield from self._call(*calls.pop(0))
            yield from self._line(line, at)
            self._state = evolve(self._state, line.record)
            about: msg.StepKey | None = getattr(line.record, "step", None)
            if about is not None and about in self._state.steps:
                self._steps[about] = self._state.steps[about]
        for called in calls:
            yield from self._call(*called)
        yield from self._rest(max([at, *(called[0] for called in calls)]))

    def _rest(self, at: datetime) -> Iterator[Moment]:
        """What was charged, and nobody reported."""
        for key in [key for key, used in self._left.items() if used]:
            yield self._charged(key, at)
        key = Key("", 0)
        yield Moment(at=at, whom=self._whom, execution=self._execution(key), last=True)

    # --- lines of history ---------------------------------------------------------------------

    def _line(self, line: Told, at: datetime) -> Iterator[Moment]:
        record = line.record
        match record:
            case msg.RunSubmitted() if line.shredded:
                yield self._unknown(Key("", 0), at, "its inputs are shredded")
            case msg.Judged():
                yield from self._judged(record, at)
            case msg.Admitted() | msg.Refused() | msg.Deferred() | msg.Parked():
                yield from self._start(line, record, at)
            case msg.AttemptWithheld():
                denied = line.seq in self._before.denied
                yield replace(self._report(record, at, shredded=line.shredded), denied=denied)
            case msg.AttemptSucceeded() | msg.AttemptFailed():
                yield self._report(record, at, shredded=line.shredded)
            case msg.AttemptLost(step=key, attempt=attempt):
                yield self._charged(Key(key, attempt), at)
            case msg.AttemptSuspended(step=key, attempt=attempt):
                yield from self._suspended(record, at, denied=line.seq in self._before.denied)
                yield self._charged(Key(key, attempt), at, suspended=True)
            case msg.ResumeRequested():
                run = self._execution(Key("", 0))
                yield Moment(at=at, whom=self._whom, execution=run, resumes=True)
            case msg.RetryRequested(step=key, attempt=int(attempt)):
                yield self._charged(Key(key, attempt), at)
            case _:
                pass

    def _judged(self, judged: msg.Judged, at: datetime) -> Iterator[Moment]:
        came = _came(judged)
        key = Key(judged.step, judged.attempt)
        match judged.moment:
            case "start":
                if came == "aborted" and judged.step in self._state.steps:
                    # Nothing else is said of what is asked for in a run that is cut off.
                    yield self._started(self._state.steps[judged.step], at, recorded=came)
                else:
                    self._said[judged.step, "start"] = came
            case "report":
                self._said[judged.step, "report"] = came
                if came == "aborted" and key in self._before.told:
                    # The run ends of it before its report is folded.
                    report, shredded = self._before.told[key]
                    yield self._report(report, at, shredded=shredded)
            case "call" if came in backtest.BLOCKING:
                names = ", ".join(f"{one.policy}:{one.rule}" for one in judged.verdicts)
                unknown = f"a call of step {judged.step} was stopped by {names}; which it was, is not recorded"
                yield self._unknown(key, at, unknown)
            case "call" if any(one.action == "modify" for one in judged.verdicts):
                unknown = (
                    f"arguments of a call of step {judged.step} are recorded as a policy left them"
                )
                yield self._unknown(key, at, unknown)
            case _:
                pass

    def _start(self, line: Told, answer: _STARTS, at: datetime) -> Iterator[Moment]:
        step = self._state.steps.get(answer.step)
        if step is None or not expected(self._state, step, answer):
            return
        came: Consequence = "passed"
        match answer:
            case msg.Refused(rule="lock"):
                return
            case msg.Deferred(rule=rule) if not rule.startswith("budget "):
                return
            case msg.Refused():
                came = "rejected"
            case msg.Parked():
                came = "asked"
            case _:
                pass
        came = backtest.stronger(came, self._said.pop((step.key, "start"), "passed"))
        parked, denied = isinstance(answer, msg.Parked), line.seq in self._before.denied
        moment = self._started(step, at, recorded=came, denied=denied, parked=parked)
        if isinstance(answer, msg.Admitted) and moment.waits:
            moment = replace(moment, charge=self._charge(Key(step.key, step.attempt)))
        yield moment

    def _started(
        self,
        step: Step,
        at: datetime,
        *,
        recorded: Consequence,
        denied: bool = False,
        parked: bool = False,
    ) -> Moment:
        node = self._record.graph.node(step.node)
        execution = self._execution(Key(step.key, step.attempt))
        again = self._again((step.key, "start", 0), execution, asked=parked)
        estimate = {name: Decimal(str(amount)) for name, amount in node.estimate.items()}
        content, unknown = self._inputs(step, "start")
        bound: dict[str, Json] = {"node": step.node, "step": step.key}
        if node.inputs is not None and (parked or again is not None or step.attempt > 1):
            bound |= self._given(step, node.inputs)[0]
        return Moment(
            at=at,
            whom=self._whom,
            execution=execution,
            facts=self._facts(step, "start", at, usage=estimate, content=content),
            amounts={**estimate, "steps": _ONE} if _first(step) else estimate,
            known=node.wait is not None or node.calls or step.attempt - 1 > step.errors + step.lost,
            waits=node.wait is not None,
            undoes=step.of is not None and step.index is None,
            again=again,
            recorded=recorded,
            denied=denied,
            bound=digest({**bound, "estimate": dict(node.estimate)}),
            unknown=unknown,
        )

    def _report(self, report: _REPORTS, at: datetime, *, shredded: bool = False) -> Moment:
        key = Key(report.step, report.attempt)
        came = self._said.pop((report.step, "report"), "passed")
        step = self._state.steps.get(report.step)
        if step is None or not expected(self._state, step, report):
            return self._charged(key, at)
        wanted = rules.wants(self._governance, "report")
        looks = bool(wanted.places) or wanted.memory
        if shredded and looks:
            unknown = f"what step {step.key} reported is shredded"
            return self._unknown(key, at, unknown, ends=True)
        execution, withheld = self._execution(key), isinstance(report, msg.AttemptWithheld)
        content: dict[str, Json] = {}
        unknown, leaves, result = "", None, None
        if not isinstance(report, msg.AttemptFailed) and looks:
            inline = isinstance(report.result, Inline)
            result = report.result.value if isinstance(report.result, Inline) else None
            content["result"] = result if inline else plain(report.result)
            more, unknown = self._inputs(step, "report")
            content |= more
            patch = self._patch(report)
            if patch is None and self._governance.remembering:
                unknown = unknown or f"what step {step.key} would have left was not accepted"
            if patch and wanted.memory:
                leaves = digest({**self._state.view(step.thread), **patch})
        usage = {name: Decimal(str(amount)) for name, amount in report.usage.items()}
        bound: dict[str, Json] = {"node": step.node, "step": step.key, "attempt": report.attempt}
        return Moment(
            at=at,
            whom=self._whom,
            execution=execution,
            facts=replace(
                self._facts(step, "report", at, usage=usage, content=content), state=leaves
            ),
            again=self._again((step.key, "report", 0), execution, asked=withheld),
            charge=self._charge(key),
            ends=True,
            failed=isinstance(report, msg.AttemptFailed),
            recorded=came,
            bound=digest(bound),
            unknown=unknown,
        )

    def _patch(
        self, report: msg.AttemptSucceeded | msg.AttemptWithheld
    ) -> Mapping[str, Json] | None:
        """What a report leaves in the variables; None: that is kept only if it came to count."""
        if isinstance(report, msg.AttemptSucceeded):
            return report.patch
        told, _ = self._before.told.get(Key(report.step, report.attempt), (None, False))
        return told.patch if isinstance(told, msg.AttemptSucceeded) else None

    def _again(
        self, about: tuple[str, When, int], execution: Execution, *, asked: bool
    ) -> Execution | None:
        """The same before people were asked, if they were; take note if they are `asked` now."""
        before = self._asked.pop(about, None)
        if asked:
            self._asked[about] = execution
        return before

    def _suspended(
        self, event: msg.AttemptSuspended, at: datetime, *, denied: bool
    ) -> Iterator[Moment]:
        """A call that people are asked about: the question tells of it, and its record if it was made."""
        place = _place(event)
        step = self._steps.get(event.step)
        tool, arguments = event.asks.get("tool"), event.asks.get("arguments")
        if place is None or step is None or not isinstance(tool, str):
            return
        shown = event.asks.get("show")
        version = shown.get("version") if isinstance(shown, dict) else None
        known = self._tool(tool, version) if isinstance(version, int) else None
        made = next(
            (call for call in self._record.calls if (call.step, call.ordinal) == place), None
        )
        unknown, repeats = "", 0
        if made is not None:
            arguments, unknown = self._arguments(made, known)
            repeats = self._made[made.digest]
        facts = replace(
            self._facts(replace(step, attempt=event.attempt), "call", at, usage={}, content={}),
            tool=tool,
            arguments=arguments,
            repeats=repeats,
        )
        key = Key(event.step, event.attempt, place[1])
        asking = self._asking(key, at, facts, known, asked=True)
        yield replace(asking, recorded="asked", denied=denied, unknown=unknown)

    def _asking(
        self, key: Key, at: datetime, facts: Facts, known: Function | None, *, asked: bool
    ) -> Moment:
        """A call that asks to be made."""
        estimate = {} if known is None else _estimate(known)
        execution, place = self._execution(key), (key.step, key.ordinal)
        return Moment(
            at=at,
            whom=self._whom,
            execution=execution,
            facts=replace(facts, usage=estimate),
            amounts={"calls": _ONE, **estimate},
            again=self._again((key.step, "call", key.ordinal), execution, asked=asked),
            asks=place in self._before.by_tools,
            bound=digest([facts.tool, facts.arguments, *place]),
        )

    # --- calls --------------------------------------------------------------------------------

    def _call(self, at: datetime, ends: bool, call: Row[Any]) -> Iterator[Moment]:  # noqa: FBT001  # of a pair
        step = self._steps.get(call.step)
        if step is None:
            return
        step = replace(step, attempt=call.attempt)
        key = Key(call.step, call.attempt, call.ordinal)
        known = self._tool(call.tool, call.version)
        arguments, unknown = self._arguments(call, known)
        facts = replace(
            self._facts(step, "call", at, usage={}, content={}),
            tool=call.tool,
            arguments=arguments,
            repeats=self._made[call.digest],
        )
        if ends:
            yield self._returned(call, key, facts, at)
            return
        if (call.step, call.ordinal) not in self._seen:
            self._seen.add((call.step, call.ordinal))
            self._made[call.digest] += 1
        yield replace(
            self._asking(key, at, facts, known, asked=False),
            unknown=unknown or ("" if known else f"tool {call.tool}@{call.version} is not known"),
        )

    def _returned(self, call: Row[Any], key: Key, facts: Facts, at: datetime) -> Moment:
        charge = self._charge(key)
        ended = Moment(
            at=at,
            whom=self._whom,
            execution=self._execution(key),
            charge=charge,
            ends=True,
        )
        if call.reason == "rejected":
            unknown = f"what the call of {call.tool} in step {call.step} gave was kept back"
            return replace(ended, unknown=unknown)
        if call.reason is not None:
            return ended
        content: dict[str, Json] = {}
        if "result" in rules.wants(self._governance, "call_report").places:
            try:
                content = {"result": self._reader.whole(call.value)}
            except Unread as error:
                return replace(ended, unknown=f"the result of {call.tool} in {call.step}: {error}")
        usage = {name: Decimal(str(amount)) for name, amount in (call.usage or {}).items()}
        return replace(
            ended,
            facts=replace(facts, moment="call_report", usage=usage, content=content),
            recorded=self._kept_back(key, at),
        )

    def _kept_back(self, key: Key, at: datetime) -> Consequence:
        """What was said of the result of a call: of a step that makes one after the other."""
        said = self._before.kept_back.get(Key(key.step, key.attempt))
        if said is None:
            return "passed"
        ended = sorted(
            call.ended_at
            for call in self._record.calls
            if (call.step, call.attempt) == (key.step, key.attempt) and call.ended_at is not None
        )
        later = next((other for other in ended if other > at), None)
        return next(
            (came for when, came in said if when >= at and (later is None or when < later)),
            "passed",
        )

    def _arguments(self, call: Row[Any], known: Function | None) -> tuple[Json, str]:
        """The arguments of a call by name; and why they are not known."""
        try:
            given = self._reader.whole(call.arguments)
        except Unread as error:
            # Rules that look at them take them for too large to be looked through.
            return call.arguments, f"the arguments of {call.tool} in {call.step}: {error}"
        if known is None or not isinstance(given, dict):
            return given, ""
        return dict(tools.bound(known.terms.schema, tuple(known.parameters), given).arguments), ""

    # --- what is looked at --------------------------------------------------------------------

    def _facts(
        self,
        step: Step,
        moment: When,
        at: datetime,
        *,
        usage: Mapping[str, Decimal],
        content: Mapping[str, Json],
    ) -> Facts:
        state = self._state
        parallel = state.live + sum(items.running for items in state.maps.values())
        return Facts(
            moment=moment,
            tenant=self._whom.tenant,
            user=self._whom.user,
            workflow=self._whom.workflow,
            run=self._whom.run,
            node=step.node,
            kind=self._record.graph.node(step.node).kind,
            step=step.key,
            attempt=step.attempt,
            iteration=step.iteration,
            content=content,
            usage=usage,
            live={
                "steps": Decimal(state.visited),
                "seconds": Decimal(str(max((at - self._began).total_seconds(), 0.0))),
                "parallelism": Decimal(parallel),
            },
        )

    def _inputs(self, step: Step, moment: When) -> tuple[dict[str, Json], str]:
        """What a step was given, if rules look at that; and why it is not known."""
        if "inputs" not in rules.wants(self._governance, moment).places:
            return {}, ""
        if step.of is not None:
            return {}, f"what step {step.key} was given as an item is not looked at"
        node = self._record.graph.node(step.node)
        if node.inputs is None:
            return {"inputs": dict(self._state.view(step.thread))}, ""
        return self._given(step, node.inputs)

    def _given(self, step: Step, inputs: expressions.Template) -> tuple[dict[str, Json], str]:
        """What a step was given by its own inputs; and why it is not known."""
        scope = waiting.scope_of(self._state, step, read=self._reader)
        try:
            found = inputs.evaluate(Readable(scope, self._reader, limit=CONDITION_BYTES))
        except (expressions.EvaluationError, TooLarge):
            # It had none then, either: the attempt failed for it.
            return {}, ""
        except Unread as error:
            return {}, f"what step {step.key} was given: {error}"
        return {"inputs": found}, ""

    # --- what is charged ----------------------------------------------------------------------

    def _charge(self, key: Key, *, suspended: bool = False) -> dict[str, Decimal]:
        if key in self._settled:
            return {}
        self._settled.add(key)
        used = self._left.pop(key, {})
        if key.ordinal:
            return {**used, "calls": _ONE}
        # It is one step however often it is begun; one that gave way to people was not yet.
        used.pop("steps", None)
        step = self._steps.get(key.step)
        begun = step is not None and _first(step) and not suspended
        return {**used, "steps": _ONE} if begun else used

    def _charged(self, key: Key, at: datetime, *, suspended: bool = False) -> Moment:
        return Moment(
            at=at,
            whom=self._whom,
            execution=self._execution(key),
            charge=self._charge(key, suspended=suspended),
            ends=True,
        )

    def _unknown(self, key: Key, at: datetime, unknown: str, *, ends: bool = False) -> Moment:
        return Moment(
            at=at,
            whom=self._whom,
            execution=self._execution(key),
            charge=self._charge(key) if ends else {},
            ends=ends,
            unknown=unknown,
        )

    def _execution(self, key: Key) -> Execution:
        return Execution(self._whom.run, *key)


def _beforehand(record: Record) -> _Beforehand:
    found = _Beforehand()
    parked: dict[str, Told] = {}
    for line in record.lines:
        match line.record:
            case msg.Parked() | msg.AttemptSuspended() | msg.AttemptWithheld() as question:
                found.denied.add(line.seq)
                parked[question.step] = line
                if isinstance(question, msg.AttemptSuspended) and _by_tool(question):
                    place = _place(question)
                    found.by_tools |= set() if place is None else {place}
            case msg.WaitEnded(step=key, choice="approve", permit=True) if key in parked:
                found.denied.discard(parked.pop(key).seq)
            case (
                msg.AttemptSucceeded(step=key, attempt=attempt)
                | msg.AttemptFailed(step=key, attempt=attempt)
            ) as report:
                found.told[Key(key, attempt)] = (report, line.shredded)
            case msg.Judged(moment="call_report", step=key, attempt=attempt) as judged:
                about = Key(key, attempt)
                found.kept_back.setdefault(about, []).append((line.at, _came(judged)))
            case _:
                pass
    return found


def _came(judged: msg.Judged) -> Consequence:
    """What came of a judgement."""
    # What was used too much of while it ran was stopped, as if it had not been let begin.
    moment = "start" if judged.moment == "use" else judged.moment
    came: Consequence = "passed"
    for verdict in judged.verdicts:
        came = backtest.stronger(came, backtest.consequence(moment, verdict.action))
    return came


def _place(event: msg.AttemptSuspended) -> tuple[str, int] | None:
    """The step and the ordinal of the call that people are asked about."""
    shown = event.asks.get("show")
    ordinal = shown.get("call") if isinstance(shown, dict) else None
    if not _by_rules(event) or not isinstance(ordinal, int):
        return None
    return event.step, ordinal


def _by_rules(question: _QUESTIONS) -> bool:
    """Whether people are asked by rules, budgets or tools, rather than what has become of a call."""
    return any(not rule_of(permit).startswith("unknown:") for permit in question.permits)


def _first(step: Step) -> bool:
    """Whether no attempt of a step has failed or was lost."""
    return not step.errors + step.lost


def _by_tool(event: msg.AttemptSuspended) -> bool:
    return any(rule_of(permit).startswith("tool:") for permit in event.permits)


def _in_time(calls: Any) -> list[tuple[datetime, bool, Row[Any]]]:
    """Starts and ends of calls, in their order."""
    found = [(call.started_at, False, call) for call in calls]
    found += [(call.ended_at, True, call) for call in calls if call.ended_at is not None]
    return sorted(found, key=lambda one: (one[0], one[1]))


def _estimate(known: Function) -> dict[str, Decimal]:
    return {name: Decimal(str(most)) for name, most in known.terms.estimate.items()}
