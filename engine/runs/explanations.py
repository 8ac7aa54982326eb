"""Explanations: why a run is where it is, and what everything that waits is waiting for.

What is looked at is bounded, however long a run is: its head, some of its live steps with what they
wait for, and the last lines of its history. Older decisions come by pages, back from a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import Row

from engine.core import deadlines, joins
from engine.core.graph import EdgeId, Graph, Map
from engine.core.state import PERMIT, State, Token
from engine.core.transitions import TERMINAL, RunStatus
from engine.core.values import Json, canonical
from engine.errors import NotFound
from engine.platform import Platform
from engine.runs import graphs, states, views
from engine.store import reads, runs
from engine.store.ids import RunId

#: Live steps that are told one by one.
MAX_STEPS = 100
#: Lines of history that are looked at.
MAX_LINES = 200

What: TypeAlias = Literal["run", "step", "join", "milestone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Something that waits, for what, and when it wakes."""

    what: What
    #: Of a step; of a token, where it stands.
    step: str | None = None
    node: str | None = None
    status: str
    #: In a sentence.
    waits_for: str
    since: datetime | None = None
    #: When somebody looks at it again, or it stops waiting; None: when what it waits for comes.
    wakes_at: datetime | None = None
    #: The same as data: what it waits for, by name.
    of: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """An edge that was taken or was not, and why."""

    edge: str
    target: str | None
    taken: bool
    #: Why not: `choice`, `condition`, `earlier`, `max_iterations`.
    why: str | None
    #: Its condition, the values that this rested on, and what came of it; None: it was not asked.
    when: str | None
    saw: Mapping[str, Json]
    verdict: bool | None
    #: In a sentence.
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided of a step that was settled."""

    seq: int
    at: datetime
    step: str
    node: str
    choice: Json
    ways: tuple[Way, ...]
    #: The run has gone back to before it.
    rolled_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a run is where it is."""

    run: str
    workflow: str
    version: str
    status: RunStatus
    seq: int
    #: In a sentence.
    why: str
    #: How it ended: its reason, its message, the step it ended for.
    reason: str | None
    message: str | None
    step: str | None
    #: How many steps are live, by status.
    live: Mapping[str, int]
    waits: tuple[Waiting, ...]
    #: Not all live steps are told.
    more_waits: bool
    #: The newest first.
    decisions: tuple[Decision, ...]
    #: The line before which older decisions are; None: there are none.
    before: int | None


def explain(platform: Platform, run: RunId, *, before: int | None = None) -> Explanation:
    """Why a run is where it is, with its decisions before a line of its history. Raises `NotFound`."""
    with reads.reading(platform.database) as connection:
        head = reads.summary(connection, run)
        if head is None:
            raise NotFound(f"Run not found: {run.run}")
        graph = graphs.load(connection, run.tenant, str(head.version_id))
        glance = runs.glance(connection, run)
        lines = reads.last_lines(connection, run, before=before, limit=MAX_LINES)
        # Of an older page, the newest lines are not at hand: they tell why it stands where it does.
        newest = lines if before is None else reads.last_lines(connection, run, limit=MAX_LINES)
        steps = reads.standing_steps(connection, run, limit=MAX_STEPS + 1)
        live = reads.live_counts(connection, run)
        unread = reads.unread_since(connection, run)
        course = views.course(connection, run)
        tried = reads.attempts(connection, run, [row.key for row in steps if row.errors + row.lost])
    state = states.state(glance, {})
    failures = {row.step: row for row in tried if row.outcome not in {None, "succeeded"}}
    rules = _rules(newest)
    waits: list[Waiting] = []
    if state.status not in TERMINAL:
        waits += _of_the_run(head, state, newest, unread)
        waits += [_step(graph, state, row, failures, rules) for row in steps[:MAX_STEPS]]
        waits += _tokens(graph, state)
    oldest = lines[-1].seq if lines else 0
    return Explanation(
        run=run.run,
        workflow=head.workflow,
        version=head.version,
        status=RunStatus(head.status),
        seq=head.seq,
        why=_why(head, state, waits, live),
        reason=head.reason,
        message=head.message,
        step=head.ended_step,
        live=live,
        waits=tuple(waits),
        more_waits=len(steps) > MAX_STEPS and state.status not in TERMINAL,
        decisions=tuple(
            replace(_decision(graph, row), rolled_back=not course.leads(row.seq))
            for row in lines
            if row.kind == "TakeEdges"
        ),
        before=oldest if oldest > 1 else None,
    )


# --- the whole run ----------------------------------------------------------------------------


def _why(head: Row[Any], state: State, waits: Sequence[Waiting], live: Mapping[str, int]) -> str:
    if state.status in TERMINAL:
        said = f": {head.message}" if head.message else ""
        at = f" at step {head.ended_step}" if head.ended_step else ""
        return f"The run is {head.status} ({head.reason}){at}{said}"
    if blocking := [each.waits_for for each in waits if each.what == "run"]:
        return f"The run is {head.status}: it waits for {'; '.join(blocking)}"
    if not waits:
        return f"The run is {head.status}, and its next turn decides what follows"
    told = ", ".join(f"{count} {status}" for status, count in sorted(live.items()))
    tokens = Counter(each.what for each in waits if each.what in {"join", "milestone"})
    told = ", ".join(
        [*([told] if told else []), *(f"{n} at a {what}" for what, n in tokens.items())]
    )
    first = next((each for each in waits if each.what == "step"), waits[0])
    return (
        f"The run is {head.status} ({told}): {first.step or first.node} waits for {first.waits_for}"
    )


def _of_the_run(
    head: Row[Any], state: State, lines: Sequence[Row[Any]], unread: datetime | None
) -> Iterator[Waiting]:
    """What holds up the run as a whole."""
    if head.stuck_error:
        yield Waiting(
            what="run",
            status="stuck",
            waits_for=f"its turn to be tried again, which fails: {head.stuck_error}",
            wakes_at=head.stuck_until,
            of={"error": head.stuck_error},
        )
    if state.status is RunStatus.PAUSED:
        paused = next((line for line in lines if line.kind == "PauseRequested"), None)
        if state.halted:
            values = ", ".join(
                f"{name} at {canonical(value)}" for name, value in state.halted.items()
            )
            yield Waiting(
                what="run",
                status="paused",
                waits_for=f"somebody to resume it: paused by {values}",
                of={"rules": dict(state.halted)},
            )
        else:
            by = paused.body.get("by") if paused is not None else None
            reason = paused.body.get("reason") if paused is not None else None
            said = f": {reason}" if reason else ""
            yield Waiting(
                what="run",
                status="paused",
                waits_for=f"somebody to resume it{f', paused by {by}' if by else ''}{said}",
                since=None if paused is None else paused.at,
                of={"by": by, "reason": reason},
            )
    if unread is not None:
        yield Waiting(
            what="run",
            status="unread",
            waits_for="a coordinator to take its turn: something was reported",
            since=unread,
        )


# --- steps ------------------------------------------------------------------------------------


def _rules(lines: Sequence[Row[Any]]) -> dict[str, str]:
    """By step, the rule that it was deferred by last, as far as that is at hand."""
    found: dict[str, str] = {}
    for line in lines:
        if line.kind == "Deferred":
            found.setdefault(line.body["step"], line.body["rule"])
    return found


def _step(
    graph: Graph,
    state: State,
    row: Row[Any],
    failures: Mapping[str, Row[Any]],
    rules: Mapping[str, str],
) -> Waiting:
    told, of = _awaited(graph, state, row, failures.get(row.key), rules.get(row.key))
    return Waiting(
        what="step",
        step=row.key,
        node=row.node,
        status=row.status,
        waits_for=told,
        since=row.opened_at or row.asked_at,
        wakes_at=row.lease_until if row.status == "leased" else row.wake_at,
        of=of,
    )


def _awaited(
    graph: Graph, state: State, row: Row[Any], failure: Row[Any] | None, rule: str | None
) -> tuple[str, dict[str, Json]]:
    """What a live step waits for, in words and as data."""
    of: dict[str, Json] = {}
    match row.status:
        case "ready":
            queue = row.queue or "default"
            return f"a worker of the queue {queue}", {"queue": queue, "messages": row.sends}
        case "held":
            return "the run to be resumed", of
        case "leased":
            what = "to carry it out" if row.begun else "to begin it"
            return f"worker {row.worker} {what}", {"worker": row.worker, "begun": row.begun}
        case "reported":
            return "a coordinator to take up what was reported", of
        case "retrying" if failure is not None:
            why = f"{failure.reason or failure.outcome}: {failure.message or ''}".rstrip(": ")
            told = (
                f"its next attempt, {row.attempt}, after attempt {failure.attempt} failed ({why})"
            )
            return told, {
                "attempt": row.attempt,
                "reason": failure.reason,
                "message": failure.message,
            }
        case "retrying":
            return f"its next attempt, {row.attempt}", {"attempt": row.attempt}
        case "deferred" if row.awaits is not None:
            name = row.awaits.partition(":")[2] or row.awaits
            return f"the lock {name}, which somebody else holds", {"lock": name}
        case "deferred":
            of = {"rule": rule}
            return f"leave to start{f', by {rule}' if rule else ''}", of
        case _:
            return _wait(graph, state, row)


def _wait(graph: Graph, state: State, row: Row[Any]) -> tuple[str, dict[str, Json]]:
    who: list[Json] = [*(row.who or ())]
    asked = f" of {', '.join(map(str, who))}" if who else ""
    match row.wait:
        case "timer":
            return "its time to come", {"kind": "timer"}
        case "event":
            correlation = f" with {row.correlation}" if row.correlation else ""
            told: dict[str, Json] = {"kind": "event", "event": row.event}
            return f"the event {row.event}{correlation}", told
        case "workflow":
            child = None if row.child is None else str(row.child)
            return f"the run {child} to end", {"kind": "workflow", "run": child}
        case "map":
            items = state.maps.get(row.key)
            declared = graph.node(row.node).wait
            if items is None or not isinstance(declared, Map):
                return "its items", {"kind": "map"}
            counts: dict[str, Json] = {
                "count": items.count,
                "running": items.running,
                "succeeded": items.succeeded,
                "failed": items.failed,
                "at_once": declared.at_once,
            }
            left = items.count - items.succeeded - items.failed
            told_of = f"{left} of its {items.count} items, {items.running} of them under way"
            return told_of, {"kind": "map", **counts}
        case kind if kind == PERMIT:
            permits: list[Json] = [*(row.asked or ())]
            return f"leave{asked}", {"kind": PERMIT, "who": who, "permits": permits}
        case kind:
            return f"an answer{asked}", {"kind": kind, "who": who}


# --- threads that stand still -------------------------------------------------------------------


def _tokens(graph: Graph, state: State) -> Iterator[Waiting]:
    for group in joins.groups(graph, state):
        coming = sorted(set(joins.coming(graph, state, group)))
        here = sorted({str(token.edge) for token in group.tokens})
        others = f"threads that stand at {', '.join(coming)}" if coming else "nobody who could come"
        yield Waiting(
            what="join",
            node=group.node,
            status="waiting",
            waits_for=f"{others}; {len(group.tokens)} are here",
            since=_since(group.tokens),
            wakes_at=deadlines.earliest(graph, group.tokens),
            of={"here": [*here], "scope": group.scope, "coming": [*coming]},
        )
    for token in state.tokens:
        if token.waits:
            continue
        at = graph.nodes[token.target].at
        if at is not None:
            yield Waiting(
                what="milestone",
                node=token.target,
                status="waiting",
                waits_for=f"some thread to stand at {at}",
                since=token.since,
                wakes_at=deadlines.deadline(graph, token),
                of={"at": at},
            )


def _since(tokens: Sequence[Token]) -> datetime | None:
    return min((token.since for token in tokens if token.since is not None), default=None)


# --- decisions --------------------------------------------------------------------------------


def _decision(graph: Graph, row: Row[Any]) -> Decision:
    body = row.body
    choice = body.get("choice")
    taken = body.get("taken", ())
    ways = [_taken(one) for one in taken]
    ways += [
        _untaken(graph, one, choice, [each["edge"] for each in taken])
        for one in body.get("untaken", ())
    ]
    return Decision(
        seq=row.seq,
        at=row.at,
        step=body["step"],
        node=body["step"].rpartition("#")[0],
        choice=choice,
        ways=tuple(ways),
    )


def _taken(one: Mapping[str, Any]) -> Way:
    when, saw = one.get("when"), one.get("saw", {})
    why = "taken" if when is None else f"taken: {_holds(when, saw, verdict=True)}"
    return Way(
        edge=one["edge"],
        target=one["target"],
        taken=True,
        why=None,
        when=when,
        saw=saw,
        verdict=None if when is None else True,
        told=why,
    )


def _untaken(graph: Graph, one: Mapping[str, Any], choice: Json, taken: Sequence[str]) -> Way:
    when, saw, why = one.get("when"), one.get("saw", {}), one["why"]
    verdict: bool | None = None
    match why:
        case "condition":
            verdict, told = False, f"not taken: {_holds(when, saw, verdict=False)}"
        case "choice":
            told = f"not taken: {canonical(choice)} was chosen"
        case "earlier":
            told = f"not taken: {', '.join(taken)}, which is declared before it, was"
        case _:
            verdict = None if when is None else True
            told = f"not taken: its loop has come to its bound of {saw.get('max_iterations')} laps"
    return Way(
        edge=one["edge"],
        target=_target(graph, one["edge"]),
        taken=False,
        why=why,
        when=when,
        saw=saw,
        verdict=verdict,
        told=told,
    )


def _holds(when: str | None, saw: Mapping[str, Json], *, verdict: bool) -> str:
    with_ = ", ".join(f"{name} = {canonical(value)}" for name, value in saw.items())
    return f"{when} is {'true' if verdict else 'false'}{f' with {with_}' if with_ else ''}"


def _target(graph: Graph, edge: str) -> str | None:
    try:
        return graph.edge(EdgeId(edge)).target
    except KeyError:
        return None
