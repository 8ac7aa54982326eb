"""Small runs of each shape, led to their end: what is replayed, by itself and in every later release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.core.values import INLINE_BYTES, Json
from engine.platform import Platform
from engine.runs import answers, attempts, control, events, policies, turns, views
from engine.runs.attempts import Failed, Succeeded
from engine.store.ids import RunId
from tests.support.platforms import (
    TENANT,
    chain,
    finish,
    lose_leases,
    publish,
    register,
    status,
    submit,
    take,
)
from tests.support.waiting import live, swept, waits_at

FAILS = Failed(reason="error", message="boom")
FATAL = Failed(reason="error", message="boom", terminal=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where runs are led: a coordinator, and workers whose work is done here."""

    main: Platform
    hands: Platform

    def submit(self, document: Mapping[str, Json], **inputs: Json) -> RunId:
        register(self.main, "noop")
        return submit(self.main, publish(self.main, dict(document)), **inputs)

    def do(self, run: RunId, key: str, outcome: Any = None, **patch: Json) -> None:
        """Carry out a step that is ready, and take the turn that follows."""
        assert finish(self.main, self.hands, take(self.hands, run, key), outcome, **patch)


#: A plan chooses by its rules.
PLANNED: dict[str, Json] = {
    "workflow": "planned",
    "nodes": {
        "ask": {"uses": "noop"},
        "plan": {
            "role": "plan",
            "rules": [{"when": "$n > 5", "next": ["large"]}, {"next": ["small"]}],
        },
        "large": {"uses": "noop"},
        "small": {"uses": "noop"},
    },
    "edges": ["ask -> plan", "plan -> large -> end", "plan -> small -> end"],
}
LOOP: dict[str, Json] = {
    "workflow": "loop",
    "nodes": {"a": {"uses": "noop", "max_iterations": 5}, "b": {"uses": "noop"}},
    "edges": [
        {"from": "a", "to": "a", "label": "loop", "when": "$n < 3"},
        {"from": "a", "to": "b"},
        "b -> end",
    ],
}
PARALLEL: dict[str, Json] = {
    "workflow": "parallel",
    "variables": {"drafts": {"type": "array", "reduce": "append", "default": []}},
    "nodes": {name: {"uses": "noop"} for name in ("f", "a", "b", "c", "j")},
    "edges": [
        {"from": "f", "to": ["a", "b", "c"], "type": "parallel"},
        {"from": ["a", "b", "c"], "to": "j", "type": "join"},
        "j -> end",
    ],
}
FIRST: dict[str, Json] = {
    **PARALLEL,
    "workflow": "first",
    "variables": {},
    "nodes": {**PARALLEL["nodes"], "j": {"uses": "noop", "join": "any"}},  # type: ignore[dict-item]
}
TRIP: dict[str, Json] = {
    "workflow": "trip",
    "nodes": {
        "flight": {"uses": "noop", "compensate": "noop"},
        "hotel": {"uses": "noop"},
        "car": {"uses": "noop", "compensate": "noop"},
        "pay": {"uses": "noop"},
    },
    "edges": ["flight -> hotel -> car -> pay -> end"],
}


def planned(scene: Scene) -> RunId:
    run = scene.submit(PLANNED)
    scene.do(run, "ask#1", n=7)
    scene.do(run, "large#1")
    return run


def loop(scene: Scene) -> RunId:
    run = scene.submit(LOOP, n=0)
    for lap in (1, 2, 3):
        scene.do(run, f"a#{lap}", n=lap)
    scene.do(run, "b#1")
    return run


def parallel(scene: Scene) -> RunId:
    run = scene.submit(PARALLEL)
    scene.do(run, "f#1")
    for name in "cab":
        scene.do(run, f"{name}#1", drafts=[name])
    scene.do(run, "j#1")
    return run


def first(scene: Scene) -> RunId:
    """A join that does not wait for all."""
    run = scene.submit(FIRST)
    scene.do(run, "f#1")
    slow = take(scene.hands, run, "a#1")
    scene.do(run, "b#1", b=2)
    assert not finish(scene.main, scene.hands, slow, a=1)
    scene.do(run, "j#1")
    return run


def contradiction(scene: Scene) -> RunId:
    """Two branches write one variable, and nobody said how."""
    run = scene.submit({**PARALLEL, "variables": {}})
    scene.do(run, "f#1")
    for name in "abc":
        scene.do(run, f"{name}#1", x=name)
    return run


def retry(scene: Scene) -> RunId:
    """A step that fails, whose worker is lost, and that is done at last; then one that fails for good."""
    run = scene.submit(
        chain(a={"uses": "noop", "retry": {"attempts": 3, "backoff": 0}}, b={"uses": "noop"})
    )
    scene.do(run, "a#1", FAILS)
    take(scene.hands, run, "a#1")
    lose_leases(scene.main.settings)
    swept(scene.main, lambda: live(scene.main, run) == {"a#1": "ready"})
    scene.do(run, "a#1")
    scene.do(run, "b#1", FATAL)
    return run


def mapped(scene: Scene) -> RunId:
    """A map of three items, one of which is tried twice."""
    do: Json = {"uses": "noop", "retry": {"attempts": 2, "backoff": 0}}
    document = waits_at("map", over="$items", do=do, at_once=2)
    run = scene.submit({**document, "inputs": {"items": {}}}, items=[1, 2, 3])
    scene.do(run, "w#1.1", FAILS)
    for place in (1, 0, 2):
        scene.do(run, f"w#1.{place}", Succeeded(result=place))
    scene.do(run, "w#1", Succeeded(result=[0, 1, 2]))
    return run


def child(scene: Scene) -> RunId:
    """A run that waits for another, and takes what it gives."""
    inner = {**waits_at("event", name="go"), "workflow": "inner", "outputs": {"got": "$found"}}
    publish(scene.main, inner)
    run = scene.submit(waits_at("workflow", workflow="inner"))
    (started,) = views.runs(scene.main, TENANT, parent=run)
    _, woken = events.send(scene.main, TENANT, "go", {"n": 1}, by="ada", run=started.id)
    turns.take_turns(scene.main, woken)
    return run


def undo(scene: Scene) -> RunId:
    """What was booked is undone, last things first; one of it cannot be."""
    run = scene.submit(TRIP)
    for name in ("flight", "hotel", "car"):
        scene.do(run, f"{name}#1", Succeeded(result=f"{name} 7"))
    scene.do(run, "pay#1", FATAL)
    scene.do(run, "undo car#1", FATAL)
    scene.do(run, "undo flight#1")
    return run


def people(scene: Scene) -> RunId:
    """A run that is paused, goes on, waits for its time, is asked and answered."""
    nodes: dict[str, Json] = {
        "a": {"uses": "noop"},
        "soon": {"kind": "timer", "for": "0s"},
        "ok": {"kind": "approval", "save": {"said": "$result"}},
    }
    edges: list[Json] = [
        "a -> soon -> ok",
        {"from": "ok", "to": "end", "label": "approve"},
        {"from": "ok", "to": "a", "label": "reject"},
    ]
    run = scene.submit({"workflow": "people", "nodes": nodes, "edges": edges})
    control.pause(scene.main, run, by="bob")
    control.resume(scene.main, run, by="bob")
    scene.do(run, "a#1")
    swept(scene.main, lambda: live(scene.main, run) == {"ok#1": "waiting"})
    answers.answer(scene.main, run, "ok#1", by="ada", roles=["admin"], choice="approve")
    return run


def governed(scene: Scene) -> RunId:
    """A run under one policy, and half-way under another, which cuts it off."""
    rule = "policy: p\nrules: [{name: dear, metric: cost_usd, op: '>', value: %s, action: %s}]"
    policies.apply(scene.main, TENANT, rule % (0.1, "warn"), by="ada")
    run = scene.submit(chain(**{name: {"uses": "noop"} for name in "abc"}))
    used = {"cost_usd": 0.2}
    scene.do(run, "a#1", Succeeded(usage=used, own=used))
    policies.apply(scene.main, TENANT, rule % (0.3, "abort"), by="ada")
    scene.do(run, "b#1", Succeeded(usage=used, own=used))
    policies.withdraw(scene.main, TENANT, "p", by="ada")
    return run


def large(scene: Scene) -> RunId:
    """A condition that reads a value which lies in a blob."""
    document = chain(a={"uses": "noop"}, b={"uses": "noop"})
    document["edges"] = [
        {"from": "a", "to": "b", "when": "len($text) > 10"},
        {"from": "a", "to": "end"},
        "b -> end",
    ]
    run = scene.submit(document)
    lease = take(scene.hands, run, "a#1")
    text = "x" * (INLINE_BYTES + 1)
    moved = attempts.moved_out(scene.hands, lease, Succeeded(patch={"text": text}))
    assert finish(scene.main, scene.hands, lease, moved)
    scene.do(run, "b#1")
    return run


#: By name, how a run of the shape is led, and how it ends.
SHAPES: Mapping[str, tuple[Callable[[Scene], RunId], str]] = {
    "planned": (planned, "completed"),
    "loop": (loop, "completed"),
    "parallel": (parallel, "completed"),
    "first": (first, "completed"),
    "contradiction": (contradiction, "failed"),
    "retry": (retry, "failed"),
    "map": (mapped, "completed"),
    "child": (child, "completed"),
    "undo": (undo, "failed"),
    "people": (people, "completed"),
    "governed": (governed, "failed"),
    "large": (large, "completed"),
}


def led(scene: Scene, shape: str) -> RunId:
    """A run of a shape that has ended as it should."""
    lead, end = SHAPES[shape]
    run = lead(scene)
    assert status(scene.main, run) == end
    return run
