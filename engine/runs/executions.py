"""A run as executions of tasks and plans: for people over REST, and for the code of its steps.

What is shown is derived from rows whenever somebody asks (`engine.core.executions` says how);
a run that nobody looks at pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row

from engine.core import executions as core
from engine.core.executions import Results, Setting, Shown, Trial, Trials
from engine.core.graph import EdgeId, Graph, NodeId
from engine.core.messages import StepKey
from engine.core.values import Json
from engine.errors import CeleriacError, NotFound
from engine.platform import Platform
from engine.runs import graphs
from engine.store import executions as rows
from engine.store import history, reads, session, visits
from engine.store.ids import RunId, StepId

#: Bytes of results in one page: then it ends, however few executions it shows.
PAGE_BYTES = 4 * 1_048_576
#: Bytes of one record's own result and of those that reached it; the rest are named by address.
RECORD_BYTES = 2 * 1_048_576
#: Bytes of results that the code of a step may be shown.
PREVIOUS_BYTES = 4 * 1_048_576


class TooMuch(CeleriacError):
    """The executions that led to a step hold more than its code can be shown."""


class Place(NamedTuple):
    """Where an execution stands: the line of history that asked for it, and which of its two."""

    seq: int = 0
    within: int = 0


FIRST = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Executions in the order in which they were asked for, and where the next page begins."""

    items: tuple[Mapping[str, Json], ...]
    following: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What was executed for a run, in order, without results."""

    run: str
    tenant: str
    version: str
    status: str
    message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: Where the graph begins.
    entry: str
    #: Visits so far, implicit plans not counted.
    plans: int
    tasks: int
    page: Page


def page(platform: Platform, run: RunId, *, since: Place = FIRST, limit: int = 50) -> Page:
    """Executions of a run from a place on. Raises `NotFound`."""
    with reads.reading(platform.database) as connection:
        setting = _setting(connection, run)
        found = _found(connection, run, setting, since=since, limit=limit + 1)
        trials = _with_parents(connection, run, setting.graph, found)
        wanted = {one.place: _wanted(setting, one, trials) for one in found}
        sizes = _sizes(connection, run, [key for keys in wanted.values() for key in keys])
        shown, total = 0, 0
        for one in found[:limit]:
            total += sum(_weight(sizes, key) for key in wanted[one.place])
            if shown and total > PAGE_BYTES:
                break
            shown += 1
        results = [
            _results(connection, run, wanted[one.place], sizes, most=RECORD_BYTES)
            for one in found[:shown]
        ]
    items = tuple(
        _told(setting, one, trials, known)
        for one, known in zip(found[:shown], results, strict=True)
    )
    return Page(items=items, following=found[shown].place if shown < len(found) else None)


def one(platform: Platform, run: RunId, exec_id: str) -> Mapping[str, Json]:
    """An execution of a run. Raises `NotFound`."""
    with reads.reading(platform.database) as connection:
        setting = _setting(connection, run)
        unknown = NotFound(f"Execution not found: {exec_id} of run {run.run}")
        try:
            step, attempt = core.read_id(run.run, exec_id)
        except core.NotAnId as error:
            raise unknown from error
        lines = rows.of_step(connection, run, step, attempt or 1)
        if not lines:
            raise unknown
        (trial,) = _trials(connection, run, lines)
        found = _Found(place=Place(seq=lines[0].seq), trial=trial, implicit=attempt is None)
        if found.implicit and not core.has_implicit(setting.graph, trial):
            raise unknown
        trials = _with_parents(connection, run, setting.graph, [found])
        wanted = _wanted(setting, found, trials)
        sizes = _sizes(connection, run, wanted)
        results = _results(connection, run, wanted, sizes, most=RECORD_BYTES)
    return _told(setting, found, trials, results)


def timeline(
    platform: Platform,
    run: RunId,
    *,
    since: Place = FIRST,
    limit: int = 1000,
) -> Timeline:
    """What was executed for a run, from a place on. Raises `NotFound`."""
    with reads.reading(platform.database) as connection:
        setting = _setting(connection, run)
        head = reads.summary(connection, run)
        assert head is not None
        found = _found(connection, run, setting, since=since, limit=limit + 1)
        trials = _with_parents(connection, run, setting.graph, found)
        counted = {
            NodeId(row.name): row.times
            for row in visits.counted(connection, run)
            if row.what == "node"
        }
    plans = sum(times for node, times in counted.items() if core.is_plan(setting.graph, node))
    return Timeline(
        run=run.run,
        tenant=run.tenant,
        version=setting.version,
        status=head.status,
        message=head.message,
        created_at=head.created_at,
        started_at=head.started_at,
        finished_at=head.finished_at,
        entry=setting.graph.start,
        plans=plans,
        tasks=sum(counted.values()) - plans,
        page=Page(
            items=tuple(_told(setting, one, trials, {}) for one in found[:limit]),
            following=found[limit].place if len(found) > limit else None,
        ),
    )


def previous(platform: Platform, step: StepId, graph: Graph, version: str) -> list[dict[str, Json]]:
    """The executions that led to a live step, with their results: what its code may see.

    Raises `TooMuch`, and `NotFound` when the run has no such step.
    """
    run = step.run_id
    with session.transaction(platform.database) as connection:
        lines = rows.before(connection, run, {step.key: history.LAST})
        if not lines:
            raise NotFound(f"run {run.run} has no step {step.key}")
        graph = graphs.of_run(connection, run, graph)
        (own,) = _trials(connection, run, lines[:1])
        place = Place(seq=lines[0].seq)
        parents = _with_parents(
            connection, run, graph, [_Found(place=place, trial=own, implicit=False)]
        )
        # Their own parents, too: each execution names those that it follows.
        shown = [_Found(place=place, trial=parents[key], implicit=False) for key in own.parents]
        trials = {**_with_parents(connection, run, graph, shown), **parents}
        wanted = core.leads_to(graph, own, trials)
        sizes = _sizes(connection, run, wanted)
        total = sum(_weight(sizes, key) for key in wanted)
        if total > PREVIOUS_BYTES:
            raise TooMuch(
                f"the executions that led to {step.key} hold {total} bytes of results, and its "
                f"code can be shown {PREVIOUS_BYTES}; let the steps before it return less, or "
                "references"
            )
        results = _results(connection, run, wanted, sizes, most=PREVIOUS_BYTES)
    setting = Setting(run=run.run, tenant=run.tenant, version=version, graph=graph)
    return core.previous(setting, own, trials, results)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An execution that is to be shown."""

    place: Place
    trial: Trial
    #: The plan before the task, not the task itself.
    implicit: bool


_Key = tuple[StepKey, int]


def _setting(connection: Connection, run: RunId) -> Setting:
    head = reads.summary(connection, run)
    if head is None:
        raise NotFound(f"Run not found: {run.run}")
    version = str(head.version_id)
    graph = graphs.of_run(connection, run, graphs.load(connection, run.tenant, version))
    return Setting(run=run.run, tenant=run.tenant, version=version, graph=graph)


def _found(
    connection: Connection, run: RunId, setting: Setting, *, since: Place, limit: int
) -> list[_Found]:
    """Executions from a place on: before the first attempt of a task perhaps an implicit plan."""
    lines = rows.asked(connection, run, since=since.seq, limit=limit)
    found = []
    for line, trial in zip(lines, _trials(connection, run, lines), strict=True):
        before = trial.attempt == 1 and core.has_implicit(setting.graph, trial)
        if before:
            place = Place(seq=line.seq)
            found.append(_Found(place=place, trial=trial, implicit=True))
        place = Place(seq=line.seq, within=1)
        found.append(_Found(place=place, trial=trial, implicit=False))
    return [one for one in found if one.place >= since][:limit]


def _trials(connection: Connection, run: RunId, lines: Sequence[Row[Any]]) -> list[Trial]:
    """The attempts that lines of history asked for, with all that became of them since."""
    if not lines:
        return []
    bodies = [orjson.loads(line.body) for line in lines]
    keys = list({body["step"] for body in bodies})
    live = rows.live(connection, run)
    later: dict[str, list[tuple[Row[Any], Any]]] = {key: [] for key in keys}
    for row in rows.later(connection, run, keys, after=lines[0].seq - 1):
        body = orjson.loads(row.body)
        later[body["step"]].append((row, body))
    ends = {(row.step, row.attempt): row for row in rows.ends(connection, run, keys)}
    return [
        _trial(line, body, later[body["step"]], ends, live=body["step"] in live)
        for line, body in zip(lines, bodies, strict=True)
    ]


def _trial(
    line: Row[Any],
    body: Mapping[str, Any],
    later: Sequence[tuple[Row[Any], Any]],
    ends: Mapping[tuple[str, int], Row[Any]],
    *,
    live: bool,
) -> Trial:
    attempt = body.get("attempt", 1)
    trial = Trial(
        step=body["step"],
        node=body["node"],
        iteration=body["iteration"],
        attempt=attempt,
        parents=tuple(body.get("parents", ())),
        requested_at=line.at,
        passed=line.kind == "PassNode",
        live=live,
    )
    end = ends.get((trial.step, attempt))
    if end is not None:
        trial = replace(
            trial,
            started_at=end.started_at,
            ended_at=end.ended_at,
            outcome=end.outcome,
            message=end.message,
            usage=orjson.loads(end.usage) if end.usage else {},
        )
    for row, told in later:
        trial = _since(trial, row, told)
    return trial


def _since(trial: Trial, row: Row[Any], told: Mapping[str, Any]) -> Trial:
    """An attempt and what a later line tells of its step."""
    match row.kind:
        case "RequestStart":
            return replace(trial, last=trial.last and told["attempt"] <= trial.attempt)
        case "SkipRequested":
            why = f": {told['reason']}" if told.get("reason") else ""
            return replace(trial, skipped=f"skipped by {told['by']}{why}")
        case _:
            taken = tuple(
                (EdgeId(edge["edge"]), NodeId(edge["target"])) for edge in told.get("taken", ())
            )
            return replace(trial, settled_at=row.at, taken=taken)


def _with_parents(
    connection: Connection, run: RunId, graph: Graph, found: Iterable[_Found]
) -> Trials:
    """The last attempts of all steps that the parents of executions must be known by."""
    trials: dict[StepKey, Trial] = {}
    wanted: dict[str, int] = {}
    for one in found:
        for parent in one.trial.parents:
            wanted[parent] = max(one.place.seq, wanted.get(parent, 0))
    for _ in range(core.DEPTH):
        if not wanted:
            break
        lines = rows.before(connection, run, wanted)
        asked = [line for line in lines if line.kind != "TakeEdges"]
        seqs = {}
        for line, trial in zip(asked, _settled(connection, run, lines), strict=True):
            trials[trial.step] = trial
            seqs[trial.step] = line.seq
        wanted = {
            parent: seq
            for step, seq in seqs.items()
            for parent in core.needed(graph, trials, [step])
        }
    return trials


def _settled(connection: Connection, run: RunId, lines: Sequence[Row[Any]]) -> list[Trial]:
    """The last attempts of settled steps, from the lines that asked for and that settled them."""
    told = [(line, orjson.loads(line.body)) for line in lines]
    later: dict[str, list[tuple[Row[Any], Any]]] = {body["step"]: [] for _, body in told}
    for line, body in told:
        if line.kind == "TakeEdges":
            later[body["step"]].append((line, body))
    ends = {(row.step, row.attempt): row for row in rows.ends(connection, run, list(later))}
    asked = [(line, body) for line, body in told if line.kind != "TakeEdges"]
    doubtful = {}
    for line, body in asked:
        end = ends.get((body["step"], body.get("attempt", 1)))
        settled = later[body["step"]]
        if line.kind == "RequestStart" and settled and (end is None or end.outcome != "succeeded"):
            doubtful[body["step"]] = (line.seq, settled[0][0].seq)
    if doubtful:
        for row in rows.skipped(connection, run, doubtful):
            body = orjson.loads(row.body)
            later[body["step"]].append((row, body))
    return [_trial(line, body, later[body["step"]], ends, live=False) for line, body in asked]


def _wanted(setting: Setting, found: _Found, trials: Trials) -> list[_Key]:
    """The results that an execution shows."""
    return core.shows(setting.graph, found.trial, trials, implicit=found.implicit)


def _sizes(connection: Connection, run: RunId, keys: Iterable[_Key]) -> Mapping[_Key, Row[Any]]:
    wanted = {f"{step}/{attempt}": (step, attempt) for step, attempt in keys}
    if not wanted:
        return {}
    # What an attempt leaves that gave way to people is no result.
    return {
        wanted[row.id]: row
        for row in rows.sizes(connection, run, list(wanted))
        if row.bytes is not None or row.sha256 is not None
    }


def _weight(sizes: Mapping[_Key, Row[Any]], key: _Key) -> int:
    """Bytes of a result that is kept where it is."""
    return (sizes[key].bytes or 0) if key in sizes else 0


def _results(
    connection: Connection,
    run: RunId,
    keys: Sequence[_Key],
    sizes: Mapping[_Key, Row[Any]],
    *,
    most: int,
) -> Results:
    """Results as they are shown: as they are while they fit, else by address."""
    shown: dict[_Key, Shown] = {}
    inline: dict[str, _Key] = {}
    left = most
    for key in keys:
        if key not in sizes:
            continue
        row = sizes[key]
        if row.sha256 is not None:
            shown[key] = Shown(size=row.size, uri=f"/api/v1/blobs/{row.sha256}")
        elif row.bytes <= left:
            left -= row.bytes
            inline[row.id] = key
        else:
            address = f"/api/v1/runs/{run.run}/executions/{core.exec_id(run.run, *key)}"
            shown[key] = Shown(size=row.bytes, uri=address)
    if inline:
        for row in rows.values(connection, run, list(inline)):
            value = row.value.encode()
            shown[inline[row.id]] = Shown(size=len(value), inline=orjson.loads(value))
    return shown


def _told(setting: Setting, found: _Found, trials: Trials, results: Results) -> dict[str, Json]:
    show = core.implicit if found.implicit else core.record
    return show(setting, found.trial, trials, results)
