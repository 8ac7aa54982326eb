"""What became of the runs of a drill: the rows beside what the clients and the witness were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Row

from celeriac.drill import witness
from celeriac.drill.load import Submitted
from celeriac.drill.stage import Stage
from celeriac.drill.steps import EFFECTS, SEEN, STUMBLES
from engine.store import drills, session

#: The witness's book: by run and step, how often by each attempt.
Book = Mapping[tuple[str, str], Counter[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found."""

    runs: int
    #: Steps that had an effect, and those of them that were executed more than once and not meant to.
    steps: int
    again: int
    #: Reports that came too late, and changed nothing.
    refused: int
    #: One line for each thing that was lost, or that happened twice.
    lost: tuple[str, ...]
    doubled: tuple[str, ...]


def judge(stage: Stage, submitted: Sequence[Submitted]) -> Verdict:
    """Look at everything that was submitted."""
    with session.transaction(stage.database) as connection:
        runs = drills.runs(connection)
        accepted = drills.accepted(connection)
        refused = drills.refused(connection)
    book = witness.told(stage.book)
    workflows = {row.id: row.workflow for row in runs}
    counted: dict[tuple[str, str], list[int]] = {}
    for run, step, attempt in accepted:
        counted.setdefault((run.run, step), []).append(attempt)
    again = [
        (run, step)
        for (run, step), tries in book.items()
        if tries.total() > 1 + ((workflows.get(run), step) in STUMBLES)
    ]
    return Verdict(
        runs=len(runs),
        steps=len(book),
        again=len(again),
        refused=refused,
        lost=tuple(_lost(runs, submitted, counted, book)),
        doubled=tuple(_doubled(runs, counted, book)),
    )


def _lost(
    runs: Sequence[Row[tuple[str, ...]]],
    submitted: Sequence[Submitted],
    counted: Mapping[tuple[str, str], list[int]],
    book: Book,
) -> Iterator[str]:
    """What was accepted and is not there, or is not what it was to be."""
    there = {row.id: row for row in runs}
    for one in submitted:
        if one.run not in there:
            yield f"run {one.run} was accepted (ticket {one.ticket}), and is not there"
    for row in runs:
        if row.status != "completed":
            yield f"run {row.id} of {row.workflow} is {row.status}: {row.why}"
            continue
        for step in sorted(EFFECTS[row.workflow]):
            tries, found = book.get((row.id, step), Counter()), counted.get((row.id, step), [])
            if not found:
                yield f"run {row.id} completed, and {step} has no accepted result"
            elif not any(tries[attempt] for attempt in found):
                yield f"run {row.id}: {step} counts attempt {found}, and nobody saw it happen"


def _doubled(
    runs: Sequence[Row[tuple[str, ...]]],
    counted: Mapping[tuple[str, str], list[int]],
    book: Book,
) -> Iterator[str]:
    """What counts twice, or happened again although it counted."""
    # A run that has had no turn yet has no variables.
    tickets = [row.variables["ticket"] for row in runs if "ticket" in row.variables]
    for ticket, times in Counter(tickets).items():
        if times > 1:
            yield f"ticket {ticket} became {times} runs"
    for (run, step), attempts in counted.items():
        if len(attempts) > 1:
            yield f"run {run}: {step} counts {len(attempts)} times, in attempts {sorted(attempts)}"
    for row in runs:
        if row.status != "completed":
            continue
        kept = Counter(row.variables[SEEN])
        told = Counter(
            f"{step}/{attempt}"
            for step in EFFECTS[row.workflow]
            for attempt in counted.get((row.id, step), ())
            if "." not in step
        )
        if kept != told:
            yield f"run {row.id}: {sorted(told)} count, and its variables are of {sorted(kept)}"
    for (run, step), tries in book.items():
        if repeated := sorted(attempt for attempt, times in tries.items() if times > 1):
            yield f"run {run}: attempts {repeated} of {step} were carried out more than once"
        late = [attempt for attempt in tries if attempt > min(counted.get((run, step), [attempt]))]
        if late:
            yield f"run {run}: {step} was executed in attempts {late} although one had counted"
    known = {row.id: EFFECTS[row.workflow] for row in runs}
    for run, step in book:
        if step not in known.get(run, ()):
            yield f"run {run}: {step} was executed, and was never to be"
