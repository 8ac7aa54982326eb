"""`celeriac runs` and `show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import click
from rich.text import Text

from celeriac.cli import api, printing, watching
from celeriac.client import Line, LiveStep, Run, Step

STATUSES = ("queued", "running", "paused", "completed", "failed", "cancelled")


@click.command()
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES),
    multiple=True,
    help="Only of this status. May be given several times.",
)
@click.option("--workflow", metavar="NAME", help="Only of this workflow.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many.")
@printing.json_option
def runs(*, statuses: tuple[str, ...], workflow: str | None, limit: int, as_json: bool) -> None:
    """List runs, the newest first."""
    with api.connected() as client:
        found = list(
            islice(client.runs(status=",".join(statuses) or None, workflow=workflow), limit)
        )
    if as_json:
        printing.document(found)
    else:
        printing.table(
            ("run", "workflow", "status", "submitted", "took", "why"),
            map(_row, found),
            empty="There are no such runs.",
        )


@click.command()
@click.argument("run")
@click.option("--history", is_flag=True, help="With every line of its history.")
@printing.json_option
def show(*, run: str, history: bool, as_json: bool) -> None:
    """Show a run: its state, its steps, why it ended."""
    with api.connected() as client:
        found = client.run(run)
        steps = list(found.steps())
        lines = list(found.history()) if history else None
    if as_json:
        told = {"history": lines} if history else {}
        printing.document({**printing.record(found), "steps": steps, **told})
        return
    printing.console().print(_head(found))
    printing.variables(found.variables or {})
    if found.outputs is not None:
        printing.console().print(Text("outputs", "bold"))
        printing.variables(found.outputs)
    printing.table(
        ("\nstep", "\nstatus", "\nattempts", "\ntook", "\nthen"),
        map(_step, steps),
        empty="No step has begun.",
    )
    if lines is not None:
        printing.table(("\nseq", "\nat", "\nwhat", "\nof it"), map(_line, lines), empty="")


def _row(run: Run) -> Sequence[object]:
    failed = run.status in {"failed", "cancelled"}
    return (
        run.id,
        f"{run.workflow} {run.version}",
        printing.status(run.status),
        printing.time(run.created_at),
        printing.between(run.created_at, run.finished_at),
        ": ".join(filter(None, (run.reason, run.message))) if failed else run.stuck_error,
    )


def _head(run: Run) -> Text:
    return Text("\n").join(_facts(run))


def _facts(run: Run) -> Iterator[Text]:
    yield Text.assemble(("run       ", "bold"), run.id)
    yield Text.assemble(("workflow  ", "bold"), f"{run.workflow} {run.version}")
    yield Text.assemble(
        ("submitted ", "bold"),
        printing.legible(f"{printing.time(run.created_at)} by {run.submitted_by}"),
    )
    if run.parent is not None:
        yield Text.assemble(("parent    ", "bold"), f"{run.parent.step} of {run.parent.run_id}")
    if run.forked_from is not None:
        origin = f"line {run.forked_from.seq} of {run.forked_from.run_id}"
        yield Text.assemble(("forked at ", "bold"), origin)
    if run.imported is not None:
        origin = f"from {run.imported['tenant']} by {run.imported['by']}: it is read-only"
        yield Text.assemble(("imported  ", "bold"), printing.legible(origin))
    yield Text.assemble(("status    ", "bold"), watching.ending(run))
    if run.stuck_error:
        again = printing.time(run.stuck_until)
        yield Text.assemble(
            ("stuck     ", "bold red"),
            printing.legible(f"its turn fails; tried again at {again}: {run.stuck_error}"),
        )
    elif run.waiting_since:
        since = printing.between(run.waiting_since, None)
        yield Text.assemble(("waiting   ", "bold"), f"for {since}: nothing is being carried out")


def _step(step: Step) -> Sequence[object]:
    failures = [
        f"{attempt.reason}: {attempt.message}" for attempt in step.attempts if attempt.reason
    ]
    edges = [f"→ {edge['target']}" for edge in step.taken]
    waits = step.live
    if waits is not None and waits.status == "waiting":
        edges.append(_awaited(waits))
    elif waits is not None and waits.awaits is not None:
        edges.append(f"waits for the lock {waits.awaits.partition(':')[2]}")
    elif waits is not None and waits.wake_at is not None and not waits.begun:
        edges.append(f"again at {printing.time(waits.wake_at)}")
    if waits is not None and waits.worker is not None:
        edges.append(f"at {waits.worker}")
    return (
        step.key,
        printing.status(step.status),
        len(step.attempts) or "",
        printing.between(step.requested_at, step.settled_at),
        "; ".join([*failures[-1:], *edges]),
    )


def _awaited(step: LiveStep) -> str:
    """What a step waits for, and until when."""
    what = {
        "timer": "its time",
        "event": f"the event {step.event}",
        "workflow": f"the run {step.child}",
        "map": "its items",
    }.get(step.wait or "", "an answer")
    until = f" until {printing.time(step.wake_at)}" if step.wake_at is not None else ""
    return f"waits for {what}{until}"


def _line(line: Line) -> Sequence[object]:
    return line.seq, f"{line.at.astimezone():%H:%M:%S.%f}"[:-3], line.kind, dict(line.body)
