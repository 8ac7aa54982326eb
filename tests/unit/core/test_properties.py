"""What holds of every graph and every history, however they are drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from engine.core import codec, deadlines, milestones
from engine.core import messages as msg
from engine.core.decide import Turn, advance
from engine.core.graph import Edge, Graph, Join, NodeId, Retry, Role, Route, Surplus
from engine.core.policy import DEFAULT
from engine.core.replay import replayed
from engine.core.scopes import around
from engine.core.state import State
from engine.core.transitions import StepStatus
from tests.support.play import (
    at,
    commands,
    edge,
    fold,
    graph,
    lines,
    node,
    submitted,
    succeeded,
    turn,
)

EXAMPLES = 60
CONDITIONS = (None, "$n > 2", "$n % 2 == 0", "$result.ok")
LABELS = (None, None, "loop", "true", "false", "x")
NAMES = ("a", "b", "c", "d")
JOINS = (
    Join(),
    Join(),
    Join(all=True),
    Join(count=1),
    Join(count=2, surplus=Surplus.FINISH),
    Join(share=0.5),
    Join(all=True, surplus=Surplus.KEEP),
    Join(count=2, surplus=Surplus.KEEP, timeout=15),
    Join(timeout=25, surplus=Surplus.FINISH),
    Join(all=True, timeout=5),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any wiring of a few nodes, loops and dead ends included."""
    edges: dict[str, Edge] = {"start": edge("start -> a")}
    for _ in range(draw(st.integers(1, 8))):
        drawn = edge(
            f"{draw(st.sampled_from(NAMES))} -> {draw(st.sampled_from((*NAMES, 'end')))}",
            when=draw(st.sampled_from(CONDITIONS)),
            label=draw(st.sampled_from(LABELS)),
            final=draw(st.integers(0, 9)) == 0,
            join=draw(st.integers(0, 2)) == 0,
        )
        edges.setdefault(drawn.id, drawn)
    if draw(st.booleans()):
        # A milestone among them, with a way in, out and past it.
        for ends in ("{0} -> m", "m -> {0}"):
            found = edge(ends.format(draw(st.sampled_from(NAMES))))
            edges.setdefault(found.id, found)
        past = edge(f"m -> {draw(st.sampled_from((*NAMES, 'end')))}", on="short")
        edges |= {"past": past} if draw(st.booleans()) else {}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        short = edge(f"{name} -> {draw(st.sampled_from((*NAMES, 'end')))}", on="short")
        edges.setdefault(short.id, short)
    nodes = [
        node(
            name,
            route=draw(st.sampled_from(Route)),
            join=draw(st.sampled_from(JOINS)),
            cancels=draw(_others(name)) if draw(st.integers(0, 3)) == 0 else (),
            max_iterations=draw(st.integers(1, 4)),
            retry=Retry(attempts=draw(st.integers(1, 3)), backoff=draw(st.sampled_from((0, 5)))),
        )
        for name in NAMES
    ]
    if any(found.target == "m" for found in edges.values()):
        at_node = NodeId(draw(st.sampled_from(NAMES)))
        expires = draw(st.sampled_from((None, None, 5, 25)))
        nodes.append(node("m", kind="milestone", role=Role.CONTROL, at=at_node, expires=expires))
    return graph(*edges.values(), nodes=nodes, steps=draw(st.sampled_from((3, 40))))


def _others(name: str) -> st.SearchStrategy[tuple[NodeId, ...]]:
    others = [NodeId(other) for other in NAMES if other != name]
    return st.lists(st.sampled_from(others), min_size=1, unique=True).map(tuple)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Graph, Turn]:
    """A run of a drawn graph through drawn reports, stale and doubled ones among them."""
    template = draw(graphs())
    state = State(run="r1")
    entries: tuple[msg.Entry, ...] = ()
    reducers = draw(st.sampled_from(({}, {"n": "max"}, {"n": "sum", "m": "append"})))
    event: msg.AnyEvent = submitted(reducers=reducers, n=0)
    for moment in range(draw(st.integers(1, 14))):
        taken = turn(template, state, event)
        state, entries = taken.state, entries + taken.entries
        event = draw(_event(state, moment))
    return template, Turn(state=state, entries=entries)


def _event(state: State, moment: int) -> st.SearchStrategy[msg.AnyEvent]:
    keys = st.sampled_from([*state.steps, msg.StepKey("a#1")])
    attempts = st.sampled_from([s.attempt for s in state.steps.values()] + [1])
    now = at(moment * 10)
    success = st.builds(
        msg.AttemptSucceeded,
        at=st.just(now),
        step=keys,
        attempt=attempts,
        fence=st.just(1),
        patch=st.fixed_dictionaries({}, optional={"n": st.integers(0, 5), "m": st.integers(0, 5)}),
        removed=st.sampled_from(((), ("m",))),
        choice=st.sampled_from((None, True, False, "x", "b")),
    )
    failure = st.builds(
        msg.AttemptFailed,
        at=st.just(now),
        step=keys,
        attempt=attempts,
        fence=st.just(1),
        reason=st.sampled_from(("error", "killed", "timeout")),
        message=st.just("boom"),
        terminal=st.booleans(),
    )
    loss = st.builds(
        msg.AttemptLost,
        at=st.just(now),
        step=keys,
        attempt=attempts,
        fence=st.just(1),
        worker=st.just("w"),
    )
    wake = st.builds(msg.Woke, at=st.just(now), step=keys)
    tick = st.builds(msg.Ticked, at=st.just(now))
    cancel = st.builds(msg.CancelRequested, at=st.just(now), by=st.just("ada"))
    cut = st.builds(msg.TerminateRequested, at=st.just(now), by=st.just("ada"))
    retry = st.builds(
        msg.RetryRequested,
        at=st.just(now),
        step=keys,
        by=st.just("ada"),
        attempt=st.none() | attempts,
    )
    return st.one_of(success, success, success, failure, loss, wake, tick, retry, cancel, cut)


def _events(taken: Turn) -> list[msg.AnyEvent]:
    return [e.record for e in taken.entries if isinstance(e.record, msg.Event)]  # type: ignore[misc]


@settings(max_examples=EXAMPLES)
@given(histories(), st.data())
def test_batching_of_events_changes_nothing(case, data):
    template, played = case
    events = _events(played)
    cut = data.draw(st.integers(0, len(events)))
    first = advance(template, DEFAULT, State(run="r1"), events[:cut])
    second = advance(template, DEFAULT, first.state, events[cut:])
    assert first.entries + second.entries == played.entries
    assert second.state == played.state


@settings(max_examples=EXAMPLES)
@given(histories())
def test_the_fold_of_history_is_the_state(case):
    _, played = case
    assert fold(played.entries) == played.state


@settings(max_examples=EXAMPLES)
@given(histories())
def test_a_settled_state_decides_nothing(case):
    template, played = case
    assert advance(template, DEFAULT, played.state, []).entries == ()


@settings(max_examples=EXAMPLES)
@given(histories())
def test_no_step_that_a_turn_passes_over_has_anything_follow_from_it(case):
    """Decided anew line by line, each step is looked at each time."""
    template, played = case
    told = lines(advance(template, DEFAULT, State(run="r1"), _events(played)).entries)
    assert replayed(template, DEFAULT, "r1", told).first is None


@settings(max_examples=EXAMPLES)
@given(histories())
def test_nothing_is_decided_after_a_terminal_status(case):
    _, played = case
    finishes = [i for i, e in enumerate(played.entries) if isinstance(e.record, msg.FinishRun)]
    assert len(finishes) <= 1
    if finishes:
        after = played.entries[finishes[0] + 1 :]
        assert all(isinstance(entry.record, msg.Event) for entry in after)
        assert played.state.terminal


@settings(max_examples=EXAMPLES)
@given(histories())
def test_a_run_that_is_not_over_waits_for_something(case):
    template, played = case
    state = played.state
    assert state.live == len(state.steps)
    wake = deadlines.next_wake(template, state)
    assert wake is None or wake > played.entries[-1].at
    if not state.terminal:
        assert state.steps or wake is not None
        for step in state.steps.values():
            waits = step.status in (StepStatus.RETRYING, StepStatus.DEFERRED)
            assert step.status is StepStatus.READY or (waits and step.wake is not None)
    for token in state.tokens:
        assert token.waits or milestones.holds(template, state, token)


@settings(max_examples=EXAMPLES)
@given(histories())
def test_steps_that_a_turn_did_not_load_do_not_matter_to_the_head(case):
    template, played = case
    whole, partial = State(run="r1"), State(run="r1")
    for event in _events(played):
        named = {event.step} if hasattr(event, "step") else set()
        loaded = {key: step for key, step in whole.steps.items() if key in named}
        whole = advance(template, DEFAULT, whole, [event]).state
        partial = advance(template, DEFAULT, replace(partial, steps=loaded), [event]).state
        assert replace(whole, steps={}) == replace(partial, steps={})


@settings(max_examples=EXAMPLES)
@given(histories())
def test_every_record_survives_its_storage(case):
    _, played = case
    for entry in played.entries:
        written = codec.write(entry.record)
        body, payload = _through_json(written.body), _through_json(written.payload)
        assert codec.read(written.kind, body, payload, at=entry.at) == entry.record
    assert codec.revive(State, _through_json(codec.plain(played.state))) == played.state


@settings(max_examples=EXAMPLES)
@given(histories())
def test_iterations_are_numbered_without_a_gap(case):
    _, played = case
    seen: dict[NodeId, int] = {}
    for command in commands(played):
        if isinstance(command, msg.PassNode) or (
            isinstance(command, msg.RequestStart) and command.attempt == 1 and command.via
        ):
            assert command.iteration == seen.get(command.node, 0) + 1
            seen[command.node] = command.iteration


def _through_json(value: object) -> Any:
    return json.loads(json.dumps(value))


@settings(max_examples=EXAMPLES)
@given(histories())
def test_no_thread_is_lost_or_made(case):
    """What stands somewhere stands in every scope around it, and nowhere else."""
    _, played = case
    state = played.state
    threads = [step.thread for step in state.steps.values()]
    waiting = [token.thread for token in state.tokens]
    for name, scope in state.scopes.items():
        inside = [thread for thread in threads if name in around(thread)]
        assert scope.alive == len(inside)
        assert name == "" or inside or [t for t in waiting if name in around(t)]
    for thread in (*threads, *waiting):
        for depth, (name, branch) in enumerate(thread):
            assert state.scopes[name].parent == thread[:depth]
            assert 0 <= branch < state.scopes[name].branches


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_the_order_in_which_branches_report_changes_nothing(data):
    """Confluence: without a race that was asked for, any order of arrival ends the same."""
    width = data.draw(st.integers(2, 4))
    names = NAMES[:width]
    inner = data.draw(st.booleans())
    edges = [edge(f"f -> {name}") for name in names]
    if inner:
        edges += [edge("a -> x"), edge("a -> y"), edge("x -> k", join=True)]
        edges += [edge("y -> k", join=True), edge("k -> j", join=True)]
    edges += [edge(f"{name} -> j", join=True) for name in names if not (inner and name == "a")]
    edges += [edge("j -> end")]
    template = graph(*edges, nodes=[node("f", route=Route.ALL), node("a", route=Route.ALL)])
    reducers = {"n": data.draw(st.sampled_from(("append", "sum", "max", "replace", "set")))}
    values = {name: data.draw(st.integers(0, 3)) for name in (*NAMES, "f", "x", "y", "k", "j")}
    ends = {
        _ended(template, reducers, values, data.draw(st.randoms(use_true_random=False)))
        for _ in range(3)
    }
    assert len(ends) == 1


def _ended(template, reducers, values, rng):
    """The variables and the edges taken of a run whose live steps report in a drawn order."""
    state = turn(template, State(run="r1"), submitted(reducers=reducers)).state
    edges: list[str] = []
    while not state.terminal:
        key = rng.choice(sorted(state.steps))
        report = succeeded(key, patch={"n": values[key.partition("#")[0]]})
        taken = turn(template, state, report)
        state = taken.state
        edges += [t.edge for c in commands(taken) if isinstance(c, msg.TakeEdges) for t in c.taken]
    return json.dumps([state.variables, state.ending.reason, sorted(edges)])
