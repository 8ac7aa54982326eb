"""Live runs that are migrated while workers are at work on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.core.values import Json
from engine.runs import bulk, catalogue, doctor, launch, replays, views
from engine.runs.bulk import Action, Filter, Migration, Outcome
from engine.store.ids import RunId
from tests.faults.conftest import VISIT, Stage
from tests.support.fleet import wait_for_end, wait_until, witnessed
from tests.support.platforms import TENANT


def document(version: str, *, renamed: bool = False, further: bool = False) -> dict[str, Json]:
    """A fork, whose one thread goes round, a join, and a way on."""
    last = "last" if renamed else "d"
    nodes: dict[str, Json] = dict.fromkeys(("a", "b", "j", last), VISIT)
    nodes["c"] = {**VISIT, "max_iterations": 3}
    nodes["l"] = VISIT
    nodes["gate"] = {"kind": "event", "name": "open"}
    edges: list[Json] = [
        {"from": "a", "to": ["b", "c"], "type": "parallel"},
        {"from": "c", "to": "c", "label": "loop", "when": "true"},
        "c -> l",
        {"from": "b", "to": "gate", "when": "$gated"},
        {"from": ["gate", "b", "l"], "to": "j", "type": "join"},
        f"j -> {last}",
        f"{last} -> extra -> end" if further else f"{last} -> end",
    ]
    if further:
        nodes["extra"] = VISIT
    return {
        "workflow": "moving",
        "version": version,
        "nodes": nodes,
        "edges": edges,
        "variables": {"n": {"reduce": "max", "default": 0}, "gated": {"default": False}},
    }


def publish(stage: Stage, document: Mapping[str, Json]) -> str:
    return catalogue.publish(stage.platform, TENANT, dict(document), by="ada").id


def move(stage: Stage, to: str, most: int, **nodes: str) -> dict[str, Outcome]:
    """Every run that has not ended, wherever it is; what came of it for each."""
    acted = bulk.act(
        stage.platform,
        TENANT,
        Action.MIGRATE,
        Filter(workflow="moving"),
        by="ada",
        migration=Migration(to=to, nodes=nodes),
        limit=most,
    )
    return {answer.run: answer.outcome for answer in acted.answers}


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.long)])
def test_runs_that_are_migrated_under_load_are_neither_lost_nor_doubled(
    stage: Stage, tmp_path: Path, count: int
) -> None:
    """One is held up in an attempt, some wait for an event, the others are wherever they have come."""
    go = tmp_path / "go"
    first = publish(stage, document("1.0.0"))
    held = stage.submit(first, go=go)
    wait_until(lambda: bool(witnessed(stage.witness)), what="an attempt to be under way")
    gated = [_submit(stage, first, gated=True) for _ in range(count // 4)]
    runs = [held, *gated, *(_submit(stage, first) for _ in range(count - 1 - len(gated)))]
    wait_until(lambda: len(witnessed(stage.witness)) > count, what="runs to be under way")
    publish(stage, document("2.0.0", renamed=True, further=True))
    publish(stage, {**document("3.0.0"), "nodes": {"z": VISIT}, "edges": ["z -> end"]})
    assert set(move(stage, "3.0.0", count).values()) <= {Outcome.REFUSED}
    assert {views.run(stage.platform, run).version for run in runs} == {"1.0.0"}
    done = move(stage, "2.0.0", count, d="last")
    moved = {run for run, outcome in done.items() if outcome is Outcome.DONE}
    assert {run.run for run in (held, *gated)} <= moved
    go.touch()
    signal = bulk.Signal(name="open")
    which = Filter(ids=tuple(run.run for run in gated))
    bulk.act(stage.platform, TENANT, Action.SIGNAL, which, by="ada", signal=signal)
    wait_for_end(stage.platform, runs, seconds=300)
    ended = {run.run: views.run(stage.platform, run) for run in runs}
    assert {each.status for each in ended.values()} == {"completed"}
    assert {run for run, each in ended.items() if each.version == "2.0.0"} == moved
    seen = witnessed(stage.witness)
    for run in runs:
        _told_once(stage, run, seen, moved=run.run in moved)
    assert doctor.examine(stage.platform.database) == ()
    for run in (held, *gated):
        found = replays.of_itself(stage.platform, run)
        assert (found.outcome, found.divergences) == ("same", 0), found


def _submit(stage: Stage, version: str, **inputs: Json) -> RunId:
    given: dict[str, Json] = {"witness": str(stage.witness), "n": 0, **inputs}
    run = launch.submit(stage.platform, TENANT, version, given, by="ada").run
    stage.platform.broker.nudge([run])
    return run


def _told_once(
    stage: Stage, run: RunId, seen: Mapping[tuple[str, str, int], list[int]], *, moved: bool
) -> None:
    """Each step of a run was seen once by whoever stands outside, and counted once."""
    mine = {(node, lap): tries for (of, node, lap), tries in seen.items() if of == run.run}
    assert all(tries == [1] for tries in mine.values()), mine
    visits = {step.key for step in views.steps(stage.platform, run)}
    worked = {f"{node}#{lap}" for node, lap in mine}
    straight = {"a#1", "b#1", "c#1", "c#2", "c#3", "l#1", "j#1"}
    last = {"d#1", "last#1"} & visits
    assert len(last) == 1
    assert visits >= straight | ({"extra#1"} if moved else set())
    assert len(worked) == len(straight) + 1 + moved
