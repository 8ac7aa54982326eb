"""What people say to steps that ask them, one question or many.

A question is settled once: by the answer that makes a choice, by its expiry, by a cancel,
whichever moves the step's row first. Whoever comes later is told what it was. Whoever answers
uses a say: his own, or one that was handed to him; everybody speaks once, and every say counts
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC
from typing import Any

from sqlalchemy import Connection, Row

from engine import asking
from engine.asking import Said
from engine.core import codec
from engine.core import messages as msg
from engine.core.problem import Problem
from engine.core.state import PERMIT
from engine.core.values import Inline, Json, digest
from engine.errors import CeleriacError, Conflict, Forbidden, Invalid, NotFound, Settled
from engine.platform import Platform
from engine.runs import acts, control, identity, letters, outcomes, says, views, waits
from engine.runs.waits import PEOPLE, Filter, Person
from engine.store import answers as rows
from engine.store import batches, history, inbox, payloads, session
from engine.store import waits as waiting
from engine.store.batches import BatchId
from engine.store.ids import QuestionId, RunId, StepId
from engine.store.waits import End

#: Questions that one request answers at most.
MOST = 500


class KeyUsed(Conflict):
    """This key was used to answer other questions, or otherwise; use a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """What somebody says."""

    choice: str | None = None
    form: Mapping[str, Json] = field(default_factory=dict)
    reason: str = ""
    #: Whose say he uses, if not his own; None: his own, or else the first that was handed to him.
    behalf: str | None = None
    #: Of what he was shown; a permit is answered with it alone.
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an answer came to."""

    #: The question is settled; else more people must say the same.
    settled: bool
    #: How many have chosen the same, and how many must.
    said: int
    quorum: int
    #: What it was settled with; None where it is open, has no choices, or can be settled no more.
    verdict: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of an answer to one of many questions."""

    request_id: str
    run_id: str | None
    step: str | None
    #: `done`: it counts; `refused`: nothing was changed.
    outcome: str
    settled: bool = False
    said: int | None = None
    quorum: int | None = None
    verdict: str | None = None
    why: str = ""


def answer(
    platform: Platform,
    run: RunId,
    step: str,
    *,
    by: str,
    roles: Sequence[str] = (),
    choice: str | None = None,
    form: Mapping[str, Json] | None = None,
    reason: str = "",
    behalf: str | None = None,
    digest: str | None = None,
) -> Answered:
    """Answer a step that asks people.

    Raises `NotFound`; `Forbidden` for whoever is not asked; `Invalid` for a choice, a form or a
    reason that does not fit; `Settled` with the verdict, when there is one; `Conflict` for whoever
    has answered before, and where something else is asked than was seen.
    """
    said = Saying(choice=choice, form=form or {}, reason=reason, behalf=behalf, digest=digest)
    views.status(platform, run)
    with session.transaction(platform.database) as connection:
        found = _heard(connection, StepId(*run, step), said, by=by, roles=roles)
    if isinstance(found, Answered):
        if found.settled:
            control.fold(platform, run)
        return found
    raise _too_late(platform, run, step, expired=found.expired)


def answer_many(
    platform: Platform,
    tenant: str,
    person: Person,
    said: Saying,
    *,
    names: Sequence[str] = (),
    which: Filter | None = None,
    digests: Mapping[str, str] | None = None,
    key: str | None = None,
    limit: int = MOST,
) -> tuple[Came, ...]:
    """Answer questions by their names, or all that a filter finds, with one choice and reason.

    Each for itself: what is wrong with one holds up no other. `digests` says by name what was
    seen of those that are bound to it. Under a key, whatever came of it the first time comes of it
    again, of the same questions. Raises `Invalid` where neither names nor a filter is given, or
    both, and `KeyUsed`.
    """
    if bool(names) == (which is not None):
        remedy = "give one of the two"
        raise Invalid([Problem(path="filter", message="either this or ids", remedy=remedy)])
    seen = dict(digests or {})
    asked = digest(
        [asdict(said), [*names], None if which is None else asdict(which), dict[str, Json](seen)]
    )
    many = _Many(
        platform=platform,
        tenant=tenant,
        person=person,
        said=said,
        digests=seen,
        key=None if key is None else BatchId(tenant, person.user, key),
    )
    return tuple(_one(many, name) for name in _chosen(many, names, which, asked, limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Many:
    """An answer to many questions."""

    platform: Platform
    tenant: str
    person: Person
    said: Saying
    digests: Mapping[str, str]
    #: Under which it is one answer, however often it is sent.
    key: BatchId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late:
    """Nobody can answer any more."""

    #: Nobody has looked yet, but its time is over.
    expired: bool


def _chosen(
    many: _Many, names: Sequence[str], which: Filter | None, asked: str, limit: int
) -> Sequence[str]:
    """Which questions are meant; under a key, those that were meant the first time."""
    if many.key is not None:
        with session.transaction(many.platform.database) as connection:
            known = batches.find(connection, many.key)
        if known is not None:
            return _same(known, asked)
    chosen = [*dict.fromkeys(names)]
    if which is not None:
        found = waits.page(many.platform, many.tenant, which=which, person=many.person, limit=limit)
        chosen = [one.request_id for one in found if one.request_id is not None]
    if many.key is not None:
        with session.transaction(many.platform.database) as connection:
            known = batches.claim(connection, many.key, digest=asked, questions=chosen)
        if known is not None:
            return _same(known, asked)
    return chosen


def _same(known: Any, asked: str) -> Sequence[str]:
    if known.digest != asked:
        raise KeyUsed
    questions: Sequence[str] = known.questions
    return questions


def _one(many: _Many, name: str) -> Came:
    """Answer one of many; under a key, what came of it is kept with the answer."""
    of = identity.question_of(many.tenant, name)
    place = Came(
        request_id=name,
        run_id=None if of is None else of.run,
        step=None if of is None else of.step,
        outcome="refused",
    )
    if of is None:
        return _refused(many, place, NotFound(f"there is no question {name}"))
    try:
        with session.transaction(many.platform.database) as connection:
            came = _came(connection, many, of, place)
        if isinstance(came, _Late):
            raise _too_late(many.platform, RunId(of.tenant, of.run), of.step, expired=came.expired)
    except (NotFound, Forbidden, Conflict, Invalid) as error:
        return _refused(many, place, error)
    if came.settled:
        control.fold(many.platform, RunId(of.tenant, of.run))
    return came


def _came(connection: Connection, many: _Many, of: QuestionId, place: Came) -> Came | _Late:
    """Answer one of many in its own transaction, unless that was done before under the key."""
    # Before anything is looked up: whoever repeats the key stands in line for the step, too.
    row = waiting.lock(connection, of.step_id)
    if many.key is not None:
        known = batches.outcome(connection, many.key, place.request_id)
        if known is not None:
            return Came(**known)  # type: ignore[arg-type]  # as `keep` was given it
    if row is None or (row.attempt, row.round) != (of.attempt, of.round):
        return _Late(expired=False)
    said = replace(many.said, digest=many.digests.get(place.request_id, many.said.digest))
    found = _heard(connection, of.step_id, said, by=many.person.user, roles=many.person.roles)
    if isinstance(found, _Late):
        return found
    came = replace(
        place,
        outcome="done",
        settled=found.settled,
        said=found.said,
        quorum=found.quorum,
        verdict=found.verdict,
    )
    if many.key is not None:
        batches.keep(connection, many.key, place.request_id, asdict(came))
    return came


def _refused(many: _Many, place: Came, error: CeleriacError) -> Came:
    """Why nothing came of it; under a key, for good."""
    verdict = error.verdict["choice"] if isinstance(error, Settled) else None
    came = replace(place, verdict=verdict, why="; ".join(_reasons(error)))
    if many.key is None:
        return came
    with session.transaction(many.platform.database) as connection:
        batches.keep(connection, many.key, place.request_id, asdict(came))
        kept = batches.outcome(connection, many.key, place.request_id)
    assert kept is not None, "it was kept"
    return Came(**kept)  # type: ignore[arg-type]  # as `keep` was given it


def _reasons(error: CeleriacError) -> Iterator[str]:
    if isinstance(error, Invalid):
        yield from (f"{problem.path}: {problem.message}" for problem in error.problems)
    else:
        yield error.message


def _heard(
    connection: Connection, here: StepId, said: Saying, *, by: str, roles: Sequence[str]
) -> Answered | _Late:
    """Keep an answer, and settle the question if it makes the choice."""
    row = waiting.lock(connection, here)
    if row is None:
        return _Late(expired=False)
    if row.kind not in PEOPLE:
        raise NotFound(f"step {here.key} of run {here.run} asks nobody")
    if row.wake_at is not None and row.wake_at <= session.now(connection):
        return _Late(expired=True)
    of, asks = QuestionId(*here, row.attempt, row.round), row.asks
    before = [_said(one) for one in rows.said(connection, [of])]
    say = _say(connection, of, row, before, by=by, roles=roles, behalf=said.behalf)
    asking.check_digest(row.kind, asks, said.digest)
    filled = asking.checked(asks, said.choice, said.form, said.reason)
    kept = rows.Answer(
        by=by,
        of=say.of,
        delegation=say.delegation,
        choice=said.choice or "",
        form=filled,
        reason=said.reason,
        digest=said.digest,
    )
    if not rows.say(connection, of, kept):
        raise AssertionError("its step was locked")
    every = [*before, Said(by=by, of=say.of, choice=kept.choice, reason=kept.reason)]
    quorum = asking.needed(asks, said.choice)
    same = sum(one.choice == kept.choice for one in every)
    barred = row.submitted_by if row.four_eyes else None
    verdict = asking.verdict(asks, row.who, every, barred=barred)
    if verdict is None:
        _record(connection, of, kept)
        return Answered(settled=False, said=same, quorum=quorum)
    _settle(connection, of, row, verdict, filled, by=by)
    if asking.approves(verdict.choice):
        outcomes.resolve(connection, here, asks, filled, by=by)
    return Answered(settled=True, said=same, quorum=quorum, verdict=verdict.choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Say:
    """Whose say is used, and by which delegation."""

    of: str
    delegation: str | None = None


def _say(
    connection: Connection,
    of: QuestionId,
    row: Any,
    before: Sequence[Said],
    *,
    by: str,
    roles: Sequence[str],
    behalf: str | None,
) -> _Say:
    """Whose say somebody uses. Raises `Forbidden`, and `Conflict` for one that was used."""
    spoken = next((one for one in before if one.by == by), None)
    if spoken is not None:
        whose = "" if spoken.of == by else f" for {spoken.of}"
        raise Conflict(f"{by} has answered {of.step} before{whose}; an answer stands")
    barred = row.submitted_by if row.four_eyes else None
    if by == barred:
        raise Forbidden(f"{by} submitted run {of.run}: somebody else must answer")
    used = {one.of: one.by for one in before}
    if behalf in (None, by) and asking.is_asked(row.who, by, roles):
        if by in used:
            raise Conflict(f"{used[by]} has answered {of.step} for {by} before; an answer stands")
        return _Say(of=by)
    if behalf == by:
        raise asking.not_asked(row.who, by)
    held = [
        say
        for say in says.entrusted(connection, of.tenant, by)
        if (say.run is None or QuestionId(of.tenant, *_question(say)) == of)
        and behalf in (None, say.of)
        and say.of != barred
        and asking.is_asked(row.who, say.of, say.roles)
    ]
    if not held and behalf is not None:
        raise Forbidden(f"{behalf} has handed {by} no say in {of.step}")
    if not held:
        raise asking.not_asked(row.who, by)
    free = next((say for say in held if say.of not in used), None)
    if free is None:
        first = held[0].of
        raise Conflict(f"{used[first]} has answered {of.step} for {first} before")
    return _Say(of=free.of, delegation=free.id)


def _question(say: waiting.Entrusted) -> tuple[Any, Any, Any, Any]:
    return say.run, say.step, say.attempt, say.round


def _record(connection: Connection, of: QuestionId, said: rows.Answer) -> None:
    """Keep that somebody has said something that settles nothing: no line of history tells it.

    His reason stays with the answer, where it can be shredded.
    """
    acts.record(
        connection,
        of.tenant,
        by=said.by,
        action="wait.answer",
        subject=f"wait:{identity.question(of)}",
        detail={"run_id": of.run, "step": of.step, "choice": said.choice, "behalf": said.of},
    )


def _settle(
    connection: Connection,
    of: QuestionId,
    row: Any,
    verdict: asking.Verdict,
    filled: Mapping[str, Json],
    *,
    by: str,
) -> None:
    """End the wait with a verdict, and tell the run. Its step is locked."""
    step = msg.StepKey(of.step)
    people = tuple(f"user:{one.by}" for one in verdict.said)
    vain = verdict.in_vain
    end = End(
        step=of.step_id,
        attempt=of.attempt,
        by=f"user:{by}",
        reason="expired" if vain else None,
        message=verdict.why or None,
        late=True,
        choice=verdict.choice,
        approved=None if vain else asking.approves(verdict.choice),
    )
    won = waiting.end(connection, [end])
    assert of.step_id in won, "its row was locked"
    if vain:
        failed = msg.WaitFailed(
            at=codec.UNTIMED,
            step=step,
            attempt=of.attempt,
            by=people,
            reason="expired",
            message=asking.in_vain(row.node, verdict),
        )
        inbox.put(connection, [letters.letter(RunId(of.tenant, of.run), failed)])
        return
    event = msg.WaitEnded(
        at=codec.UNTIMED,
        step=step,
        permit=row.kind == PERMIT,
        attempt=of.attempt,
        by=people,
        result=Inline(value=asking.result(row.asks, verdict, filled)),
        choice=verdict.choice,
    )
    # What an attempt leaves has that name: a permit comes before it, and perhaps not once.
    name = f"{of.step}/{of.attempt}" + (f"/permit/{of.round}" if row.kind == "permit" else "")
    sealed = letters.sealed(RunId(of.tenant, of.run), event, name)
    payloads.put_all(connection, [sealed.payload])
    inbox.put(connection, [sealed.letter])


def _said(row: Row[Any]) -> Said:
    return Said(by=row.said_by, of=row.say_of, choice=row.choice, reason=row.reason)


def _too_late(platform: Platform, run: RunId, step: str, *, expired: bool) -> Conflict | NotFound:
    """Why a step can be answered no more, or not yet: who ended its wait tells, and nobody else."""
    here, settled = StepId(*run, step), f"{step} of run {run.run} is settled"
    if expired:
        return Settled(f"{settled}: its time is over", by="clock", choice=None, at=None)
    with session.transaction(platform.database) as connection:
        lines = [views.record(row) for row in history.about(connection, run, step)]
        verdict = rows.settled(connection, here)
    if not any(isinstance(line, msg.OpenWait) and line.kind in PEOPLE for line in lines) and (
        verdict is None
    ):
        return NotFound(f"run {run.run} has no step {step} that asks anybody")
    if verdict is not None:
        at = f"{verdict.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        told: dict[str, Any] = {"by": verdict.by, "choice": verdict.choice, "at": verdict.at}
        if verdict.by == "clock":
            return Settled(f"{settled}: its time is over", **told)
        who = verdict.by.removeprefix("user:")
        if verdict.message:
            how = f"with the answer of {who} {verdict.message}"
            outcome = "" if verdict.choice is None else f", so it counts as {verdict.choice}"
            return Settled(f"{settled}: {how}{outcome} ({at})", **told)
        how = f"{who} answered {verdict.choice or ''}".rstrip()
        return Settled(f"{settled}: {how} ({at})", **told)
    for line in lines:
        if isinstance(line, msg.SkipRequested):
            return Settled(f"{settled}: {line.by} skipped it", by=f"user:{line.by}", choice=None)
    status = views.status(platform, run)
    return Conflict(f"{step} of run {run.run} waits for no answer: the run is {status.status}")
