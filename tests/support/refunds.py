"""Runs whose calls are undone, told outside as they happen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from engine.core.problem import Problem
from engine.core.values import Json
from engine.errors import Blocked
from engine.runs import calls, catalogue, compensations, rollbacks, turns, views
from engine.runs.attempts import Leased
from engine.runs.compensations import Undoable
from engine.runs.origins import Edits
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import forking
from tests.support.forking import World, after
from tests.support.platforms import (
    LINE,
    TENANT,
    finish,
    publish,
    register,
    sql,
    status,
    submit,
    take,
)

REFUND: Json = {"tool": "refund", "with": {"charge": "$result.id", "of": "$arguments.state"}}


@contextmanager
def world(settings: Settings) -> Iterator[World]:
    """A platform with tools that are undone by others, or cannot be."""
    with forking.world(settings) as made:
        main = made.main
        for name, undo in (("pay", REFUND), ("book", "release"), ("lost", "nothing_there")):
            register(main, name, namespace="tool", effect="compensable", undo=undo)
        register(main, "shout", namespace="tool", effect="compensable")
        unfit = {"tool": "refund", "with": {"n": "$result.id + 'x' * 2"}}
        register(main, "odd", namespace="tool", effect="compensable", undo=unfit)
        for name in ("refund", "release"):
            register(main, name, namespace="tool", effect="at_most_once")
        register(main, "strict", namespace="tool", parameters={"id": {"type": "integer"}})
        register(main, "closed", namespace="tool")
        catalogue.stand(main, TENANT, "closed", {"status": "disabled"}, by="ada")
        for name, undo in (("unfit", "strict"), ("stuck", "closed"), ("old", "refund@9")):
            register(main, name, namespace="tool", effect="compensable", undo=undo)
        yield made


def make(
    world: World, outside: list[str], lease: Leased, tool: str, ordinal: int = 1, **given: Json
) -> object:
    """What code of a step gets that calls a tool, which tells outside that it is called."""
    answer = calls.authorise(world.worker, lease, ordinal, tool, {"args": [], "kwargs": given})
    if not isinstance(answer, calls.Authorised):
        return answer
    outside.append(f"{tool} {' '.join(f'{name}={value}' for name, value in sorted(given.items()))}")
    value: Json = {"id": len(outside)}
    calls.settle(world.worker, lease, answer, calls.Answer(value=value, usage={}))
    return value


def ended(world: World, outside: list[str], *tools: str) -> RunId:
    """A run that has ended, and whose second step has called tools."""
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    lease = take(world.worker, run, "b#1")
    for ordinal, tool in enumerate(tools, start=1):
        make(world, outside, lease, tool, ordinal, state=f"x{ordinal}")
    finish(world.main, world.worker, lease)
    assert status(world.main, run) == "completed"
    return run


def undo(world: World, run: RunId, *names: str) -> RunId:
    """The run that undoes calls, by name or all that are left."""
    made = compensations.undo(world.main, run, names or ("compensable",), by="bob").run
    turns.take_turns(world.main, [made])
    return made


def refunding(world: World, undoing: RunId) -> tuple[Leased, calls.Authorised]:
    """The first of the calls that undo, begun, and its step."""
    lease = take(world.worker, undoing, "undo#1.0")
    given = views.run(world.main, undoing).variables["calls"][0]["with"]
    begun = calls.authorise(world.worker, lease, 1, "refund", {"args": [], "kwargs": given})
    assert isinstance(begun, calls.Authorised)
    return lease, begun


def undo_next(world: World, outside: list[str], undoing: RunId, place: int) -> object:
    """Carry out the next of the calls that undo, as it is asked for."""
    asked = views.run(world.main, undoing).variables["calls"][place]
    lease = take(world.worker, undoing, f"undo#1.{place}")
    answer = make(world, outside, lease, asked["tool"], **asked["with"])
    finish(world.main, world.worker, lease)
    return answer


def gather(world: World, undoing: RunId) -> None:
    """Put together what the calls came to: the run is completed with that."""
    finish(world.main, world.worker, take(world.worker, undoing, "undo#1"))
    assert status(world.main, undoing) == "completed"


def undo_all(world: World, outside: list[str], run: RunId, *names: str) -> RunId:
    """A run that has undone what it was to."""
    undoing = undo(world, run, *names)
    for place in range(len(views.run(world.main, undoing).variables["calls"])):
        undo_next(world, outside, undoing, place)
    gather(world, undoing)
    return undoing


def words(outside: Sequence[str]) -> list[str]:
    """Which tools were called, in their order."""
    return [said.partition(" ")[0] for said in outside]


def the_call(world: World, run: RunId, name: str = "b#1.1") -> Undoable:
    """A call as it would be undone."""
    return next(one for one in compensations.plan(world.main, run) if one.name == name)


def refused(world: World, run: RunId, *names: str) -> Problem:
    """Why calls are not undone; nothing is written for that."""
    before = sql(world.main, "SELECT count(*) FROM run")
    with pytest.raises(Blocked) as raised:
        undo(world, run, *names)
    assert sql(world.main, "SELECT count(*) FROM run") == before
    assert sql(world.main, "SELECT FROM workflow_version WHERE workflow = 'celeriac.undo'") == []
    (problem,) = raised.value.problems
    assert problem.remedy
    return problem


def serve(world: World, outside: list[str], run: RunId, step: str) -> Leased:
    """Let a step make the call that was made before, and get its result, without its being made."""
    before = [*outside]
    lease = take(world.worker, run, step)
    assert make(world, outside, lease, "pay", state="x1") == calls.Recorded(value={"id": 1})
    assert outside == before
    return lease


def paid(world: World, outside: list[str]) -> tuple[RunId, int]:
    """A run whose second step has just paid, and the line before that."""
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    make(world, outside, take(world.worker, run, "b#1"), "pay", state="x1")
    return run, after(world.main, run, "a#1")


def back(world: World, run: RunId, line: int, choices: dict[str, str] | None = None) -> None:
    assert rollbacks.roll_back(world.main, run, line, Edits(), by="bob", choices=choices)


def nested(world: World, outside: list[str]) -> tuple[RunId, RunId]:
    """A run that has ended, and the one within it, whose second step has paid."""
    publish(world.main, {**LINE, "workflow": "inner"})
    document: dict[str, Json] = {
        "workflow": "outer",
        "nodes": {
            "w": {"kind": "workflow", "workflow": "inner", "compensate": "noop"},
            "b": {"uses": "noop"},
        },
        "edges": ["w -> b -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    child = inside(world, run)
    finish(world.main, world.worker, take(world.worker, child, "a#1"))
    lease = take(world.worker, child, "b#1")
    make(world, outside, lease, "pay", state="x1")
    finish(world.main, world.worker, lease)
    turns.take_turns(world.main, [run])
    finish(world.main, world.worker, take(world.worker, run, "b#1"))
    assert status(world.main, run) == "completed"
    return run, child


def inside(world: World, run: RunId) -> RunId:
    """The run within another one."""
    turns.take_turns(world.main, [run])
    (found,) = views.runs(world.main, run.tenant, parent=run)
    return RunId(run.tenant, found.id)
