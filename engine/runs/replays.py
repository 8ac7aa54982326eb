"""Replays: a recorded run decided once more, with nothing carried out and nothing written.

By itself a run is decided anew from its recorded events, by the core that decided it, and each
command is compared with the one in history (`engine.core.replay`). Against another version of its
workflow it is led through that (`engine.retrace`), against a policy it is judged once more
(`retold`): the first place at which something else would have followed is told, and what would
have become of it.

History is read in pages, so that memory stays bounded however long a run is; how long one may take
is bounded, and where that cuts it off is said.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from sqlalchemy import Row

from engine.core import messages as msg
from engine.core import replay as core
from engine.core.decide import RULES
from engine.core.graph import Graph
from engine.core.replay import Recorded
from engine.core.values import Json
from engine.errors import Conflict, Damaged, NotFound
from engine.platform import Platform
from engine.runs import backtests, graphs, views
from engine.runs.backtests import Filter
from engine.runs.records import Reader
from engine.store import history, reads
from engine.store.ids import RunId

#: Seconds that one may take.
SECONDS = 20.0
#: Decisions that could not be compared which are told one by one.
MAX_TOLD = 50
_PAGE = 500

Against: TypeAlias = Literal["itself", "version", "policy"]
Outcome: TypeAlias = Literal["same", "different", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Would:
    """What would have changed."""

    #: How it would have ended; None: the record does not reach so far, or it goes on.
    end: str | None = None
    reason: str | None = None
    #: Steps that would be asked for and were never done.
    missing: tuple[str, ...] = ()
    #: Steps that were done and would not be.
    not_made: tuple[str, ...] = ()
    #: Of a policy: what would become of the run, and questions to people, then and now.
    consequence: str | None = None
    asked: int = 0
    would_ask: int = 0
    saved_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of deciding a run once more."""

    run: str
    workflow: str
    version: str
    against: Against
    #: The version, or the policy, that it was held against.
    other: str | None = None
    outcome: Outcome
    #: What was compared: commands; of a policy, moments at which it is asked.
    decisions: int
    #: None, or the first: what follows one rests on it, and is not compared.
    divergences: int
    first: Json = None
    #: Decisions that could not be compared, and were taken as they were told.
    untold: int = 0
    #: Up to which line of history.
    seq: int
    #: It was looked at up to its last line, or up to where it parts.
    complete: bool = True
    #: What could not be compared, and why.
    unknown: tuple[str, ...] = ()
    #: What is assumed.
    notes: tuple[str, ...] = ()
    would: Would | None = None


def of_itself(platform: Platform, run: RunId, *, seconds: float = SECONDS) -> Replayed:
    """Decide a run anew from its recorded events. Raises `NotFound`, `Conflict` and `Damaged`."""
    end = time.monotonic() + seconds
    with reads.reading(platform.database) as connection:
        head = reads.run(connection, run)
        if head is None:
            raise NotFound(f"Run not found: {run.run}")
        under = graphs.under(connection, run, 0, version=str(head.version_id), pins=head.pins)
        graph = graphs.load(connection, run.tenant, under.version)
    if head.rules != RULES:
        raise Conflict(
            f"run {run.run} was decided by rules number {head.rules}, and this release knows {RULES}"
        )
    reader = Reader(platform, run.tenant)
    replay, complete = core.begun(run.run), True
    for line in _lines(platform, run, upto=head.seq):
        then = _then(platform, run, head, line)
        replay = core.heard(graph, platform.policy, replay, line, then=then, read=reader)
        graph = then or graph
        if replay.first is not None:
            break
        if time.monotonic() > end:
            complete = line.seq == head.seq
            break
    if complete:
        replay = core.over(graph, replay)
    first = replay.first
    unknown = [f"line {seq}: {why}" for seq, why in replay.untold[:MAX_TOLD]]
    if len(replay.untold) > MAX_TOLD:
        unknown.append(f"and {len(replay.untold) - MAX_TOLD} decisions more")
    if not complete:
        unknown.append(f"what follows line {replay.seq} of {head.seq}: it takes too long")
    outcome: Outcome = "same" if first is None else "different"
    return Replayed(
        run=run.run,
        workflow=head.workflow,
        version=head.version,
        against="itself",
        outcome="unknown" if first is None and unknown else outcome,
        decisions=replay.decisions + (first is not None),
        divergences=int(first is not None),
        first=None if first is None else _parting(first),
        untold=len(replay.untold),
        seq=replay.seq if first is None else first.seq,
        complete=complete,
        unknown=tuple(unknown),
    )


def _then(platform: Platform, run: RunId, head: Row[Any], line: Recorded) -> Graph | None:
    """The graph that a run goes on under from a line on, of a line that says so."""
    if not isinstance(line.record, msg.Migrated):
        return None
    with reads.reading(platform.database) as connection:
        # Of a run that was recorded elsewhere, the version that its history names is not known here.
        under = graphs.under(
            connection, run, line.seq, version=str(head.version_id), pins=head.pins
        )
        return graphs.load(connection, run.tenant, under.version)


def against_version(
    platform: Platform, run: RunId, version: str | None, *, seconds: float = SECONDS
) -> Replayed:
    """Lead a run through another version of its workflow, the latest unless one is named.

    Raises `NotFound`.
    """
    head = views.summary(platform, run)
    chosen = Filter(ids=(run.run,))
    found = backtests.of_version(
        platform, run.tenant, head.workflow, version, chosen, seconds=seconds
    )
    other = f"{found.workflow}@{found.version}"
    if not found.runs:
        return _cut_off(head, "version", other, found.extent.because)
    (led,) = found.runs
    return Replayed(
        run=run.run,
        workflow=head.workflow,
        version=head.version,
        against="version",
        other=other,
        outcome=_outcome(led.outcome),
        decisions=led.decisions,
        divergences=int(led.first is not None),
        first=led.first,
        seq=head.seq,
        unknown=led.unknown,
        notes=found.notes,
        would=Would(
            end=led.would_end,
            reason=led.would_reason,
            missing=led.missing,
            not_made=led.not_made,
            saved_usd=led.saved_usd,
        ),
    )


def against_policy(
    platform: Platform,
    run: RunId,
    text: str | bytes,
    *,
    beside: bool = False,
    seconds: float = SECONDS,
) -> Replayed:
    """Judge a run once more by a policy, in place of those in force or beside them.

    Raises `Invalid` and `NotFound`.
    """
    head = views.summary(platform, run)
    chosen = Filter(ids=(run.run,))
    found = backtests.of_policy(platform, run.tenant, text, chosen, beside=beside, seconds=seconds)
    if not found.runs:
        return _cut_off(head, "policy", found.policy, found.extent.because)
    (judged,) = found.runs
    different = judged.first is not None
    unknown = bool(judged.unknown) or found.extent.truncated
    return Replayed(
        run=run.run,
        workflow=head.workflow,
        version=head.version,
        against="policy",
        other=found.policy,
        outcome="different" if different else "unknown" if unknown else "same",
        decisions=judged.moments,
        divergences=int(different),
        first=judged.first,
        seq=head.seq,
        complete=not found.extent.truncated,
        unknown=judged.unknown,
        notes=found.notes,
        would=Would(
            consequence=judged.would,
            asked=judged.asked,
            would_ask=judged.would_ask,
            saved_usd=judged.saved_usd,
        ),
    )


def _lines(platform: Platform, run: RunId, *, upto: int) -> Iterator[Recorded]:
    """The history of a run, each page read by itself: it is only ever appended to."""
    after = 0
    while after < upto:
        with reads.reading(platform.database) as connection:
            rows = history.read(connection, run, after=after, upto=upto, limit=_PAGE)
        if not rows:
            return
        for row in rows:
            try:
                record = views.record(row)
            except (KeyError, TypeError, ValueError) as error:
                raise Damaged(
                    f"line {row.seq} of the history of run {run.run} cannot be read: {error!r}"
                ) from error
            yield Recorded(seq=row.seq, at=row.at, record=record, whole=not row.shredded)
            after = row.seq


def _parting(first: core.Divergence) -> dict[str, Json]:
    return {
        "kind": first.kind,
        "seq": first.seq,
        "at": _time(first.at),
        "step": first.step,
        "node": first.node,
        "recorded": first.recorded,
        "would": first.would,
        "differs": [*first.differs],
    }


def _time(at: datetime) -> str:
    return at.isoformat()


def _outcome(told: str) -> Outcome:
    return "same" if told == "same" else "different" if told == "different" else "unknown"


def _cut_off(head: views.Summary, against: Against, other: str, because: str | None) -> Replayed:
    """Nothing was looked at: it is too much."""
    why = "it takes too long" if because == "time" else "its record is too long"
    return Replayed(
        run=head.id,
        workflow=head.workflow,
        version=head.version,
        against=against,
        other=other,
        outcome="unknown",
        decisions=0,
        divergences=0,
        seq=0,
        complete=False,
        unknown=(why,),
    )
