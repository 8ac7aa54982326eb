"""Tool calls made by running steps: authorised before, recorded after, never doubled blindly.

The child asks its parent over the pipe; the parent asks `authorise` in one short transaction, carries
the call out outside the child, records it with `settle`, then answers. What earlier attempts of the
step left comes first:

- recorded with a result: the result is served, nothing runs;
- a different call at this ordinal: the step is not deterministic, and fails for good;
- failed before it had left the platform: it is made again, whatever its effect;
- begun, and its outcome never recorded: `unknown`. A tool that may be repeated is called again under
  the same idempotency key. One that may not, or that people allowed once, is never: the step waits
  until somebody who looked says whether it happened, and what came of it (`outcomes`).

A call that is made anew is asked about in this order: does the tool take calls and these arguments;
what do the tenant's policies say; has the user the permissions; is there money and is the tool's rate
kept; must people allow it first. Whatever of that says no, nothing runs, and history has what was
said. Who has to wait for people gives its worker back (`Suspended`), and is served what it has got so
far when it begins anew.

A conversation with a model goes on from whatever its calls come to, denials and failures too, and must
come by the same way again: for such calls those are recorded and served as results are (`settled`).

Large arguments and values are kept as blobs (`engine.runs.large`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Row

from engine import capabilities, services, tools
from engine.capabilities import Profile
from engine.core import codec
from engine.core import messages as msg
from engine.core.graph import NodeId
from engine.core.permits import is_for, permit
from engine.core.principal import covers, granted
from engine.core.state import Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import INLINE_BYTES, Json, canonical, digest, plain
from engine.errors import StoodInTheWay
from engine.guardrails import verdicts
from engine.guardrails.verdicts import Verdict
from engine.platform import Platform
from engine.runs import (
    authorship,
    budgets,
    definitions,
    guard,
    large,
    ledgers,
    letters,
    outcomes,
    policies,
    states,
)
from engine.runs.attempts import Leased, Suspended
from engine.runs.budgets import Asking, Rate, Shortfall
from engine.runs.definitions import Definition
from engine.runs.guard import Called, Guard
from engine.services import catalogue
from engine.store import calls, choices, inbox, ledger, principals, runs, session
from engine.store.ledger import Unopened

#: Effect classes that a crash in the middle may repeat.
_REPEATABLE = frozenset({"pure", "idempotent"})
#: That of a call which people have allowed, whatever its tool says: they allowed it once.
_ONCE = "at_most_once"
#: How a call ended that was cut off with its attempt: nobody went on from that.
_OF_THE_ATTEMPT = frozenset({"cancelled", "lost"})
#: How a call ended whose result a policy does not let through.
_REJECTED = "rejected"

#: How often it is asked again where others stood in the way.
_TRIES = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorised:
    """The call may be made, and its start is recorded."""

    ordinal: int
    definition: Definition
    #: `{"args": […], "kwargs": {…}}`, as policies have left them.
    arguments: Json
    #: The same in every attempt: what an idempotent receiver tells repeats by.
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An earlier attempt made this call; this is how it ended, `reason` None: with a result."""

    value: Json = None
    reason: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The call may not be made. `terminal`: the step cannot succeed any more."""

    reason: str
    message: str
    terminal: bool = False


Answered = Authorised | Recorded | Denied | Suspended


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """A call that is asked for, and all that is looked at for it."""

    lease: Leased
    ordinal: int
    definition: Definition
    #: As the code gave them, then as policies have left them.
    arguments: Json
    guard: Guard
    #: The run, as it is at this moment.
    row: Row[Any]
    #: What was granted to the code that calls, where anything must have been.
    profile: Profile | None = None
    #: What history is told that was said of it.
    said: tuple[msg.Verdict, ...] = ()

    @property
    def estimate(self) -> dict[str, Decimal]:
        """What it is taken to use, by unit: as its terms say, and no less than shows in it."""
        found = self.definition.terms.estimate
        if self.definition.service is not None:
            shows = services.estimate(self.definition.service, self.named)
            names = {**found, **shows}
            found = {name: max(found.get(name, 0.0), shows.get(name, 0.0)) for name in names}
        return {name: Decimal(str(most)) for name, most in found.items()}

    @property
    def now(self) -> datetime:
        now: datetime = self.row.now
        return now

    @property
    def named(self) -> Mapping[str, Json]:
        """The arguments by name."""
        assert isinstance(self.arguments, dict)
        return self.definition.bound(self.arguments).arguments

    @property
    def bound(self) -> dict[str, Json]:
        """What exactly people allow: this call of the step, with these arguments, at this price."""
        definition, named = self.definition, dict(self.named)
        estimate = {name: float(amount) for name, amount in self.estimate.items()}
        return {
            "tool": definition.name,
            "version": definition.version,
            "arguments": outcomes.shown(named),
            "cost_usd": estimate.get("cost_usd", 0),
            "tokens_used": estimate.get("tokens_used", 0),
            "node": self.lease.node,
            "step": self.lease.step.key,
            "call": self.ordinal,
        }


def authorise(
    platform: Platform,
    lease: Leased,
    ordinal: int,
    tool: str,
    arguments: Json,
    *,
    settled: bool = False,
    profile: Profile | None = None,
) -> Answered:
    """Ask whether a running step may make a call; if so, its start is recorded.

    `profile` is what was granted to the code that calls; None for a node, and for installed code, which
    may call whatever there is.

    `settled`: the step goes on from however this call ends, and will go the same way when it begins
    anew. So that it was denied is recorded, too, and a failure is served again as a result is.
    """
    tenant = lease.step.tenant
    try:
        given = plain(large.kept(platform, tenant, arguments))
    except large.ValueTooLarge as error:
        message = f"arguments of {tool}: {error.message}"
        return Denied(reason="arguments_too_large", message=message)

    def ask(connection: Connection) -> tuple[Answered, Sequence[msg.Verdict]]:
        return _asked(
            connection,
            lease,
            ordinal,
            tool,
            arguments,
            given=given,
            settled=settled,
            profile=profile,
        )

    try:
        answer, said = _transacted(platform, ask)
    except _LeaseEnded:
        return Denied(reason="lost", message="the lease of this step has ended", terminal=True)
    if _stops(said):
        # What was said stops the run: it is not to wait until somebody sweeps.
        platform.broker.nudge([lease.step.run_id])
    if isinstance(answer, Recorded):
        return replace(answer, value=large.shown(platform, tenant, answer.value))
    return answer


def _transacted(platform: Platform, ask: Callable[[Connection], T]) -> T:
    """Ask in one transaction; accounts that must be open first are opened in one of their own."""
    tries = _TRIES
    while True:
        try:
            with session.transaction(platform.database) as connection:
                return ask(connection)
        except Unopened as unopened:
            ledgers.open_accounts(platform, unopened)
        except StoodInTheWay:
            # Two that charge the same accounts: the other one is past it now.
            if not tries:
                raise
            tries -= 1


def _asked(
    connection: Connection,
    lease: Leased,
    ordinal: int,
    tool: str,
    arguments: Json,
    *,
    given: Json,
    settled: bool,
    profile: Profile | None,
) -> tuple[Answered, Sequence[msg.Verdict]]:
    """The answer, a recorded value as it is kept. `given` are the arguments as they are kept."""
    definition = definitions.of_run(connection, lease.step, lease.pins, "tool", tool)
    if definition is None:
        return Denied(reason="no_such_tool", message=f"tool {tool!r} is not registered"), ()
    same = _same(definition, arguments)
    deny = partial(_deny, connection, lease, ordinal, definition, same=same, arguments=given)
    for earlier in calls.known(connection, lease.step, ordinal):
        if (made := _made(earlier, ordinal, tool, same, settled=settled)) is not None:
            return made, ()
        if not earlier.ended and earlier.effect not in _REPEATABLE:
            return outcomes.ask(connection, lease, ordinal, definition, earlier), ()
    if (refused := _unfit(definition, arguments, profile)) is not None:
        if settled:
            deny(refused)
        return refused, ()
    ledger.share(connection, [lease.step.run_id])
    row = calls.hold(connection, lease.held)
    if row is None:
        raise _LeaseEnded
    if row.chosen and (
        picked := _picked(connection, lease, ordinal, definition, same=same, arguments=given)
    ):
        return picked, ()
    request = _request(connection, lease, ordinal, definition, arguments, row=row)
    request = replace(request, profile=profile)
    if row.status == RunStatus.PAUSED and states.state(row, {}).halted:
        # A rule has paused the run since the step began.
        return _PAUSED, ()
    answer, request = _judged(request, same)
    _tell(connection, request, "call")
    if settled and isinstance(answer, Denied) and not answer.terminal:
        deny(answer)
    if not isinstance(answer, Authorised):
        return answer, request.said
    if answer.arguments is not arguments:
        given = answer.arguments
    what = digest(request.bound)
    approved = any(is_for(one, what) for one in lease.permits)
    started = calls.start(
        connection,
        lease.held,
        ordinal,
        tool=tool,
        version=definition.version,
        effect=_ONCE if approved else definition.effect,
        digest=same,
        arguments=canonical(given),
    )
    if not started:
        raise _LeaseEnded
    large.refer(connection, lease.step.run_id, {"arguments": given})
    return answer, request.said


def _picked(
    connection: Connection,
    lease: Leased,
    ordinal: int,
    definition: Definition,
    *,
    same: str,
    arguments: Json,
) -> Recorded | Denied | None:
    """What somebody chose for a call that was made before the run was gone on from; None: make it."""
    chosen = choices.take(connection, lease.step, ordinal, node=lease.node, digest=same)
    if chosen is None or chosen.choice == "execute" or chosen.fate == "undone":
        return None
    if chosen.fate is not None:
        return _repeating(definition, chosen)
    served = Recorded(value=None if chosen.value is None else orjson.loads(chosen.value))
    instead: datetime = chosen.made_at
    _serve(
        connection,
        lease,
        ordinal,
        definition,
        served,
        same=same,
        arguments=arguments,
        instead=instead,
    )
    return served


def _repeating(definition: Definition, chosen: Row[Any]) -> Denied:
    """Why a call is refused that would be made again, while the one that was made is not undone."""
    call = f"{chosen.step}.{chosen.ordinal}"
    made = f"this call of {definition.name} was made by step {chosen.step}"
    if chosen.choice == "compensate":
        message = (
            f"{made}, and is to be undone before it is made again: undo it (celeriac undo RUN {call}, of the run that "
            "went back), and retry the step when that has ended"
        )
    else:
        message = (
            f"{made}, beside the rollback that ended it, and nobody chose what becomes of it; roll back once more, "
            "and choose"
        )
    return Denied(reason="unknown_outcome", message=message, terminal=True)


class _LeaseEnded(Exception):
    """The step is somebody else's by now: nothing of what was set aside for the call stands."""


def _deny(
    connection: Connection,
    lease: Leased,
    ordinal: int,
    definition: Definition,
    denied: Denied,
    *,
    same: str,
    arguments: Json,
) -> None:
    """Record a call that was not made as one that has failed."""
    ended = Recorded(reason=denied.reason, message=denied.message)
    _serve(connection, lease, ordinal, definition, ended, same=same, arguments=arguments)


def _serve(
    connection: Connection,
    lease: Leased,
    ordinal: int,
    definition: Definition,
    ended: Recorded,
    *,
    same: str,
    arguments: Json,
    instead: datetime | None = None,
) -> None:
    """Record a call that is not made with how it counts as ended. `instead`: when the one began that stands for it."""
    started = calls.start(
        connection,
        lease.held,
        ordinal,
        tool=definition.name,
        version=definition.version,
        effect=definition.effect,
        digest=same,
        arguments=canonical(arguments),
        served=instead,
    )
    if not started:
        raise _LeaseEnded
    calls.end(
        connection,
        lease.step,
        ordinal,
        lease.attempt,
        reason=ended.reason,
        message=None if ended.reason is None else ended.message,
        value=canonical(ended.value) if ended.reason is None else None,
        usage="{}",
    )
    large.refer(connection, lease.step.run_id, {"arguments": arguments})


def _made(
    earlier: Row[Any], ordinal: int, tool: str, same: str, *, settled: bool
) -> Recorded | Denied | None:
    """What follows from a call that an earlier attempt made here; None where it is made again."""
    if earlier.digest != same:
        return Denied(
            reason="nondeterministic_call",
            message=(
                f"call {ordinal} was {earlier.tool} in attempt {earlier.attempt} and is "
                f"{tool} with other arguments now; make the same calls in every attempt"
            ),
            terminal=True,
        )
    if earlier.ended and earlier.reason is None:
        return Recorded(value=orjson.loads(earlier.value))
    if earlier.reason == outcomes.NOT_MADE:
        return None
    heard = settled and earlier.reason not in _OF_THE_ATTEMPT
    if earlier.reason == _REJECTED or (earlier.ended and (earlier.gave_way or heard)):
        # It goes the way that it went: until it gave way to people it knew of that.
        return Recorded(reason=earlier.reason, message=earlier.message or "")
    if earlier.effect in _REPEATABLE or not earlier.ended or earlier.reason in calls.NOT_SENT:
        return None
    return Denied(
        reason="unknown_outcome",
        message=(
            f"call {ordinal} of {tool} began in attempt {earlier.attempt} and ended as"
            f" {earlier.reason}; it may have happened"
        ),
        terminal=True,
    )


def _unfit(definition: Definition, arguments: Json, profile: Profile | None) -> Denied | None:
    """Why a tool cannot be called with that now: by whoever asks, or by this code."""
    if definition.closed:
        message = f"tool {definition.name} is in {definition.standing.status}"
        if definition.standing.status == "disabled":
            message = f"tool {definition.name} is disabled"
        return Denied(reason="tool_closed", message=message)
    assert isinstance(arguments, dict)
    bound = definition.bound(arguments)
    if bound.problems:
        told = "; ".join(f"{one.path}: {one.message}" for one in bound.problems)
        return Denied(reason="arguments_refused", message=f"{definition.name}: {told}")
    return None if profile is None else _ungranted(definition, bound.arguments, profile)


def _ungranted(
    definition: Definition, arguments: Mapping[str, Json], profile: Profile
) -> Denied | None:
    """What keeps code of a profile from a service, to which it must have been granted."""
    service = definition.service
    if service is None:
        return None
    reached = services.reached(service, definition.name, arguments)
    refused = capabilities.refusal(profile, str(service["kind"]), definition.name, reached)
    return None if refused is None else Denied(reason="not_granted", message=refused)


def _request(
    connection: Connection,
    lease: Leased,
    ordinal: int,
    definition: Definition,
    arguments: Json,
    *,
    row: Row[Any],
) -> _Request:
    return _Request(
        lease=lease,
        ordinal=ordinal,
        definition=definition,
        arguments=arguments,
        guard=_guard(connection, lease, row),
        row=row,
    )


def _guard(connection: Connection, lease: Leased, row: Row[Any]) -> Guard:
    return Guard(
        connection=connection,
        governance=policies.governance(connection, lease.step.tenant, row.governance),
        charged=lease.charged,
        graph=lease.graph,
        read=lease.variables.read,
        started_at=row.started_at,
    )


def _step(lease: Leased) -> Step:
    """The step as the rules see it."""
    return Step(
        key=msg.StepKey(lease.step.key),
        node=NodeId(lease.node),
        iteration=lease.iteration,
        status=StepStatus.READY,
        attempt=lease.attempt,
        permits=lease.permits,
    )


def _judged(request: _Request, same: str) -> tuple[Answered, _Request]:
    """Ask rules, permissions, budgets and people about a call, and set aside what it may cost."""
    arguments = request.arguments
    request, found = _ruled(request, same)
    strongest = guard.decisive(found)
    match strongest.action if strongest else "":
        case guard.ABORT:
            assert strongest is not None
            message = f"{strongest.id}: {strongest.message}"
            return Denied(reason="aborted", message=message, terminal=True), request
        case guard.REJECT:
            assert strongest is not None
            return Denied(reason=_REJECTED, message=f"{strongest.id}: {strongest.message}"), request
        case _:
            pass
    if any(one.action == guard.PAUSE for one in found):
        return _PAUSED, request
    if (
        found
        and (unfit := _unfit(request.definition, request.arguments, request.profile)) is not None
    ):
        # What a policy has made of the arguments is held to the same.
        return unfit, request
    if request.arguments is not arguments and len(canonical(request.arguments)) > INLINE_BYTES:
        # What is large is kept before it is asked about; this has come of the asking.
        message = (
            f"arguments of {request.definition.name}: a policy has made them larger than 1 MiB"
        )
        return Denied(reason="arguments_too_large", message=message), request
    if (forbidden := _forbidden(request)) is not None:
        return forbidden, request
    asking: list[tuple[str, Verdict | msg.Verdict]] = [
        (one.id, one) for one in found if one.action == guard.ASK
    ]
    asking += [*_by_terms(request), *_by_reach(request)]
    return _afforded(request, asking)


#: The run is paused by what was said: the step begins anew when it goes on.
_PAUSED = Suspended()


def _ruled(request: _Request, same: str) -> tuple[_Request, tuple[Verdict, ...]]:
    """What the tenant's rules say of a call, and the call as they leave it."""
    wants = guard.wants(request.guard, "call")
    if not wants.anything:
        return request, ()
    lease = request.lease
    made = (
        calls.repeats(request.guard.connection, lease.step, request.ordinal, same)
        if wants.repeats
        else 0
    )
    called = Called(
        tool=request.definition.name,
        arguments=dict(request.named),
        repeats=made,
        usage=request.estimate,
    )
    state = states.state(request.row, {})
    judgement = guard.called(request.guard, state, _step(lease), called, request.now)
    changed = verdicts.modified(called.arguments, judgement.verdicts)
    if changed != called.arguments:
        assert isinstance(changed, dict)
        assert isinstance(request.arguments, dict)
        handed = tools.handed(request.definition.takes, request.arguments, changed)
        request = replace(request, arguments=handed)
    found = guard.standing(judgement.verdicts, _step(lease), "call", request.bound)
    return replace(request, said=tuple(map(guard.recorded, found))), found


def _forbidden(request: _Request) -> Denied | None:
    """Whether whoever submitted the run lacks a permission that the tool asks for."""
    wanted = request.definition.terms.required_permissions
    if not wanted:
        return None
    lease = request.lease
    user = principals.find(request.guard.connection, lease.step.tenant, lease.by)
    held = granted(user.roles, user.permissions) if user is not None and user.active else ()
    missing = [one for one in wanted if not covers(held, one)]
    who = lease.by
    if not missing and request.row.scopes is not None:
        # What a credential was not to be used for is not done by what was started with it.
        missing = [one for one in wanted if not covers(request.row.scopes, one)]
        who = f"the credential that {lease.by} started the run with"
    if not missing:
        return None
    message = f"tool {request.definition.name} asks for {', '.join(missing)}, which {who} lacks"
    return Denied(reason="forbidden", message=message)


def _by_terms(request: _Request) -> Sequence[tuple[str, msg.Verdict]]:
    """A tool may itself ask that people allow each call."""
    definition = request.definition
    name = f"tool:{definition.name}"
    allowed = permit("call", name, digest(request.bound)) in request.lease.permits
    if not definition.terms.requires_approval or allowed:
        return ()
    verdict = msg.Verdict(
        policy=name,
        version=definition.version,
        rule="requires_approval",
        action=guard.ASK,
        message="the tool asks for an approval of each call",
    )
    return ((name, verdict),)


def _by_reach(request: _Request) -> Sequence[tuple[str, msg.Verdict]]:
    """People allow what a run writes that could do more than the run itself."""
    definition = request.definition
    service: Mapping[str, Any] | None = definition.service
    if service is None or service["kind"] != catalogue.KIND:
        return ()
    config = catalogue.read(service["config"])
    why = authorship.wider(request.guard.connection, request.lease, config, request.named)
    name = authorship.rule(definition.name, why, request.named)
    if not why or permit("call", name, digest(request.bound)) in request.lease.permits:
        return ()
    verdict = msg.Verdict(
        policy=name,
        version=definition.version,
        rule="wider_than_its_writer",
        action=guard.ASK,
        message=why,
    )
    return ((name, verdict),)


def _afforded(
    request: _Request, asking: Sequence[tuple[str, Verdict | msg.Verdict]]
) -> tuple[Answered, _Request]:
    """Set aside what the call may cost, unless there is no room or people are to be asked."""
    guarding, what = request.guard, digest(request.bound)
    asked = [*asking]
    told: list[msg.Verdict] = []
    allowed: frozenset[str] = frozenset()
    with guarding.connection.begin_nested() as kept:
        while (short := _reserve(request, allowed)) is not None:
            if short.then != "ask":
                kept.rollback()
                return _short(request, short)
            if permit("call", short.id, what) not in request.lease.permits:
                asked.append((short.id, short.verdict))
                told.append(short.verdict)
            allowed |= {short.id}
        if asked:
            kept.rollback()
    told += [verdict for _, verdict in asking if isinstance(verdict, msg.Verdict)]
    if asked:
        return _question(request, asked), replace(request, said=(*request.said, *told))
    if guarding.governance.number:
        notes = budgets.notes(
            guarding.connection, guarding.governance, guarding.charged, _asking(request, allowed)
        )
        request = replace(request, said=(*request.said, *notes))
    lease = request.lease
    key = f"{lease.step.run}|{lease.step.key}|{request.ordinal}"
    authorised = Authorised(
        ordinal=request.ordinal,
        definition=request.definition,
        arguments=request.arguments,
        idempotency_key=hashlib.sha256(key.encode()).hexdigest(),
    )
    return authorised, request


def _short(request: _Request, short: Shortfall) -> tuple[Answered, _Request]:
    """There is no room in a budget, or the rate of the tool is reached."""
    request = replace(request, said=(*request.said, short.verdict))
    if short.then == "pause":
        return _PAUSED, request
    return Denied(reason="over_budget", message=f"{short.id}: {short.verdict.message}"), request


def _question(request: _Request, asked: Sequence[tuple[str, Verdict | msg.Verdict]]) -> Suspended:
    """What people are shown of a call, and asked."""
    title = f"Call {request.definition.name}?"
    question = guard.question("call", asked, request.bound, title=title, now=request.now)
    return Suspended(permits=question.permits, asks=question.asks, until=question.until)


def _reserve(request: _Request, allowed: frozenset[str]) -> Shortfall | None:
    guarding = request.guard
    asking = _asking(request, allowed)
    if not guarding.governance.number and not asking.rates:
        return None
    return budgets.reserve(guarding.connection, guarding.governance, guarding.charged, asking)


def _asking(request: _Request, allowed: frozenset[str]) -> Asking:
    terms, lease = request.definition.terms, request.lease
    spans = (("minute", terms.rate_per_minute), ("hour", terms.rate_per_hour))
    return Asking(
        step=lease.step,
        attempt=lease.attempt,
        ordinal=request.ordinal,
        node=lease.node,
        at=request.now,
        amounts={budgets.CALLS: Decimal(1), **request.estimate},
        tool=request.definition.name,
        rates=[
            Rate(tool=request.definition.name, span=span, most=most)
            for span, most in spans
            if most is not None
        ],
        allowed=allowed,
        unasked=lease.undoes,
        exceed=lease.undoes,
    )


def _tell(connection: Connection, request: _Request, moment: str) -> None:
    """Leave what was said of a call for the run's next turn."""
    if not request.said:
        return
    event = msg.Judged(
        at=codec.UNTIMED,
        step=msg.StepKey(request.lease.step.key),
        attempt=request.lease.attempt,
        moment=moment,
        rules=len(request.guard.governance.bound.get(moment, ())),  # type: ignore[call-overload]
        verdicts=request.said,
    )
    inbox.put(connection, [letters.letter(request.lease.step.run_id, event)])


def _stops(said: Iterable[msg.Verdict]) -> bool:
    return any(verdict.action in (guard.ABORT, guard.PAUSE) for verdict in said)


# --- after the call ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call ended; `reason` None means that it succeeded."""

    value: Json = None
    reason: str | None = None
    message: str | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    #: Of which model, if its tool named one.
    model: str = ""


def settle(
    platform: Platform, lease: Leased, authorised: Authorised, answer: Answer
) -> Answer | Suspended:
    """Record how an authorised call ended, and charge it, before the child is answered.

    The answer that the child gets: a policy may keep the result back, or pause the run first.
    """
    kept = plain(large.kept(platform, lease.step.tenant, answer.value))

    def record(connection: Connection) -> tuple[Answer | Suspended, Sequence[msg.Verdict]]:
        ledger.share(connection, [lease.step.run_id])
        request = _request(
            connection,
            lease,
            authorised.ordinal,
            authorised.definition,
            authorised.arguments,
            row=runs.glance(connection, lease.step.run_id),
        )
        given, request = _let_through(request, answer)
        value = None if given.reason is not None else kept
        calls.end(
            connection,
            lease.step,
            authorised.ordinal,
            lease.attempt,
            reason=given.reason,
            message=given.message,
            value=canonical(value) if given.reason is None else None,
            usage=canonical(dict(answer.usage)),
        )
        large.refer(connection, lease.step.run_id, {"value": value})
        ledger.settle(
            connection,
            lease.step,
            lease.attempt,
            authorised.ordinal,
            used={**ledgers.charges(answer.usage), budgets.CALLS: 1},
            tool=authorised.definition.name,
            model=answer.model,
        )
        _tell(connection, request, "call_report")
        paused = any(verdict.action == guard.PAUSE for verdict in request.said)
        return _PAUSED if paused else given, request.said

    found, said = _transacted(platform, record)
    if _stops(said):
        platform.broker.nudge([lease.step.run_id])
    return found


def _let_through(request: _Request, answer: Answer) -> tuple[Answer, _Request]:
    """What the rules say of the result of a call."""
    if answer.reason is not None or not guard.wants(request.guard, "call_report").anything:
        return answer, request
    called = Called(
        tool=request.definition.name,
        arguments=dict(request.named),
        usage={name: Decimal(str(amount)) for name, amount in answer.usage.items()},
        result=answer.value,
        reported=True,
    )
    state = states.state(request.row, {})
    judgement = guard.called(request.guard, state, _step(request.lease), called, request.now)
    request = replace(request, said=tuple(map(guard.recorded, judgement.verdicts)))
    strongest = guard.decisive(judgement.verdicts)
    if strongest is None or strongest.action not in (guard.ABORT, guard.REJECT):
        return answer, request
    message = f"{strongest.id}: {strongest.message}"
    return replace(answer, value=None, reason=_REJECTED, message=message), request


def _same(definition: Definition, arguments: Json) -> str:
    """A digest by which two calls are the same, however their arguments are handed over."""
    assert isinstance(arguments, dict)
    named = dict(definition.bound(arguments).arguments)
    return digest([definition.name, definition.version, named])
