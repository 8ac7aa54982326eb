"""Steps that wait, on the real store: what they wait for, who ends the wait, and who is too late."""

from __future__ import annotations

from engine.core.values import Json
from engine.platform import Platform
from engine.runs import events, sweep, turns, views, waits
from tests.support.platforms import publish, status, submit


def one(kind: str, **fields: Json) -> dict[str, Json]:
    return {
        "workflow": kind,
        "variables": {"found": {}},
        "nodes": {"w": {"kind": kind, **fields}},
        "edges": ["w -> end"],
    }


def test_timer(main: Platform) -> None:
    version = publish(main, one("timer", **{"for": 0}))
    run = submit(main, version)
    turns.take_turns(main, [run])
    assert [s.status for s in views.run(main, run).steps] == ["waiting"]
    sweep.sweep(main)
    assert status(main, run) == "completed"


def test_event(main: Platform) -> None:
    version = publish(
        main,
        one(
            "event",
            name="paid",
            match={"order": 3},
            save={"found": "$result"},
            schema={"type": "object"},
        ),
    )
    run = submit(main, version)
    turns.take_turns(main, [run])
    event, runs = events.send(main, run.tenant, "paid", {"a": 1}, by="ada", match={"order": 3})
    assert event.state == "claimed"
    turns.take_turns(main, runs)
    assert status(main, run) == "completed"
    assert views.run(main, run).variables == {"found": {"a": 1}}


def test_event_before(main: Platform) -> None:
    version = publish(main, one("event", name="paid", save={"found": "$result"}))
    event, runs = events.send(main, "local", "paid", 5, by="ada")
    assert event.state == "kept", runs
    run = submit(main, version)
    turns.take_turns(main, [run])
    assert status(main, run) == "completed"


def test_approval(main: Platform) -> None:
    version = publish(main, one("approval", save={"found": "$result.choice"}, quorum=2))
    run = submit(main, version)
    turns.take_turns(main, [run])
    assert [w.step for w in waits.page(main, run.tenant)] == ["w#1"]
    assert not waits.answer(main, run, "w#1", by="ada", choice="approve").settled
    assert waits.answer(main, run, "w#1", by="bob", choice="approve").settled
    assert status(main, run) == "completed"


def test_child(main: Platform) -> None:
    inner = one("timer", **{"for": 0}) | {"workflow": "inner", "outputs": {"x": "$run.id"}}
    publish(main, inner)
    version = publish(main, one("workflow", workflow="inner", save={"found": "$result.x"}))
    run = submit(main, version)
    turns.take_turns(main, [run])
    sweep.sweep(main)
    assert status(main, run) == "completed"


def test_map(main: Platform) -> None:
    inner = one("timer", **{"for": 0}) | {
        "workflow": "inner",
        "inputs": {"n": {"type": "integer"}},
        "outputs": {"x": "$n"},
    }
    publish(main, inner)
    version = publish(
        main,
        one(
            "map",
            over=[1, 2, 3],
            do={"kind": "workflow", "workflow": "inner", "with": {"n": "$item"}},
            at_once=2,
            save={"found": "$result"},
        ),
    )
    run = submit(main, version)
    turns.take_turns(main, [run])
    for _ in range(4):
        sweep.sweep(main)
