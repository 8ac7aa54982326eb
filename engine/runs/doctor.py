"""Whether everything still holds: `celeriac doctor`, after every drill, at any time.

It looks at one moment of the database and changes nothing. Most of what it asks are queries
(`engine.store.invariants`); that a fold of history equals what is stored is asked here, run
by run, without trusting any snapshot, and of some blobs whether their objects are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Row

from engine.blobs import Blobs
from engine.core import codec
from engine.core.state import State, Step
from engine.runs import states, views
from engine.store import invariants, reads, shreds, steps
from engine.store.ids import RunId

#: What the fold of history is asked for, beside the queries.
FOLD = "fold_of_history_is_the_state"
SNAPSHOT = "fold_of_history_is_the_snapshot"
#: What the blob store is asked for, of so many blobs at most.
OBJECT = "blob_has_its_object"
MOST_OBJECTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not hold."""

    invariant: str
    tenant: str
    run: str
    #: What of the run: a step, a line, a table.
    subject: str
    detail: str


def examine(
    engine: Engine, blobs: Blobs | None = None, *, sample: int | None = None
) -> tuple[Finding, ...]:
    """Everything that does not hold, of some runs drawn by chance or of all.

    Raises `OutOfReach` when the blob store, if it is given, does not answer.
    """
    with reads.reading(engine) as connection:
        invariants.take_time(connection)
        runs = None if sample is None else invariants.sample(connection, sample)
        found = (*_queried(connection, runs), *_folded(connection, runs))
        stored = invariants.stored_blobs(connection, runs, most=MOST_OBJECTS)
    return found if blobs is None else (*found, *_missing(blobs, stored))


def _missing(blobs: Blobs, stored: Sequence[Row[Any]]) -> Iterator[Finding]:
    for row in stored:
        if not blobs.has(row.tenant_id, row.sha256):
            run = RunId(row.tenant_id, row.run_id)
            yield _finding(OBJECT, run, row.sha256, "is said to be stored, and has no object")


def _queried(connection: Connection, runs: Sequence[str] | None) -> Iterator[Finding]:
    for invariant in invariants.INVARIANTS:
        for row in invariants.violations(connection, invariant, runs):
            yield Finding(
                invariant=invariant.name,
                tenant=row.tenant_id,
                run=row.run_id,
                subject=row.subject,
                detail=row.detail,
            )


def _folded(connection: Connection, runs: Sequence[str] | None) -> Iterator[Finding]:
    for head in invariants.heads(connection, runs):
        run = RunId(head.tenant_id, head.id)
        try:
            yield from _compared(connection, run, head)
        except Exception as error:  # noqa: BLE001  # whatever a broken history raises is what was looked for
            if shreds.shredded(connection, run):
                continue
            yield _finding(
                FOLD, run, "history", f"cannot be folded: {type(error).__name__}: {error}"
            )


def _compared(connection: Connection, run: RunId, head: Row[Any]) -> Iterator[Finding]:
    state, at = State(run=run.run), 0
    for snapshot in invariants.snapshots(connection, run):
        state = views.fold(connection, run, state, after=at, upto=snapshot.seq)
        at = snapshot.seq
        kept = codec.revive(State, orjson.loads(snapshot.state))
        for subject, detail in _differences(kept, state):
            yield _finding(SNAPSHOT, run, f"line {snapshot.seq}: {subject}", detail)
    state = views.fold(connection, run, state, after=at, upto=head.seq)
    live = {step.key: step for step in map(states.step, steps.load_all(connection, run))}
    for subject, detail in _differences(states.state(head, live), state):
        yield _finding(FOLD, run, subject, detail)


def _differences(stored: State, folded: State) -> Iterator[tuple[str, str]]:
    """Where two states differ, and how."""
    for item in fields(State):
        kept, told = getattr(stored, item.name), getattr(folded, item.name)
        if item.name != "steps" and kept != told:
            yield item.name, f"stored is {_short(kept)}, history says {_short(told)}"
    for key in sorted(stored.steps.keys() | folded.steps.keys()):
        kept_step, told_step = stored.steps.get(key), folded.steps.get(key)
        if kept_step is None or told_step is None:
            where = "in the history alone" if kept_step is None else "in its row alone"
            yield key, f"is live {where}"
        elif _timeless(kept_step) != _timeless(told_step):
            yield key, f"stored is {_short(kept_step)}, history says {_short(told_step)}"


def _timeless(step: Step) -> Step:
    # The sweeper pushes a row's wake on when it has put the event into the inbox.
    return replace(step, wake=None)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004  # enough to see what it is


def _finding(invariant: str, run: RunId, subject: str, detail: str) -> Finding:
    return Finding(
        invariant=invariant, tenant=run.tenant, run=run.run, subject=subject, detail=detail
    )
