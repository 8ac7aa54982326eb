"""What holds of every run whose steps wait, hold locks, are items and are undone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from engine.core import deadlines, expressions, forking, milestones, rollback
from engine.core import messages as msg
from engine.core.decide import advance
from engine.core.graph import (
    Asked,
    Awaited,
    Child,
    Edge,
    Graph,
    Join,
    Lock,
    Map,
    Node,
    NodeId,
    Retry,
    Role,
    Route,
    Surplus,
    Timer,
)
from engine.core.policy import DEFAULT
from engine.core.replay import replayed
from engine.core.scopes import around
from engine.core.state import State, Step
from engine.core.transitions import RunStatus, StepStatus
from engine.core.values import Inline
from tests.support.play import at, edge, fold, graph, lines, node, submitted, succeeded
from tests.support.shell import AGAIN, Shell

EXAMPLES = 60
LONG = 2000
WORK = ("a", "b", "c", "d")
NAMES = (*WORK, "m", "p")
Begun = msg.PassNode | msg.RequestStart
JOINS = (
    Join(),
    Join(),
    Join(all=True),
    Join(count=1),
    Join(count=2, surplus=Surplus.FINISH),
    Join(all=True, surplus=Surplus.KEEP),
    Join(timeout=25),
)


def _name(text: str) -> expressions.Template:
    return expressions.template(text)


@st.composite
def waits(draw: st.DrawFn, name: str) -> Node:
    """A node that works or waits, with anything that may stand around it."""
    kind = draw(
        st.sampled_from(("function", "function", "timer", "event", "approval", "map", "workflow"))
    )
    wait: object = None
    expires = draw(st.sampled_from((None, None, 15)))
    save = {}
    match kind:
        case "timer":
            wait = Timer(seconds=_name("10s"))
        case "event":
            wait, save = Awaited(name=_name("paid"), expires=expires), {"n": _name("$result")}
        case "approval":
            wait = Asked(choices=("x", "y"), expires=expires)
        case "workflow":
            wait, save = Child(workflow="w", expires=expires), {"n": _name("$result")}
        case "map":
            inner = Child(workflow="w", expires=expires) if draw(st.booleans()) else None
            wait = Map(
                over=expressions.template(["x"] * draw(st.sampled_from((0, 1, 3, 4)))),
                do=Node(
                    id=NodeId(f"{name}/item"),
                    kind="function" if inner is None else "workflow",
                    wait=inner,
                    retry=draw(st.sampled_from((Retry(), Retry(attempts=2, backoff=5)))),
                ),
                at_once=draw(st.sampled_from((1, 2, 10))),
                most_failed=draw(st.sampled_from((2, 9))),
                enough=draw(st.sampled_from((None, None, expressions.template(2)))),
            )
    undo = Node(
        id=NodeId(f"{name}/undo"),
        kind="function",
        retry=draw(st.sampled_from((Retry(), Retry(attempts=2, backoff=0)))),
    )
    lock = Lock(
        name=_name(draw(st.sampled_from(("l", "l", "k")))),
        until=draw(st.sampled_from((None, None, *map(NodeId, NAMES)))),
    )
    return node(
        name,
        kind=kind,
        wait=wait,
        save=save,
        lock=lock if draw(st.integers(0, 2)) == 0 else None,
        compensate=undo if kind != "timer" and draw(st.integers(0, 2)) == 0 else None,
        route=draw(st.sampled_from((Route.FIRST, Route.FIRST, Route.ALL))),
        join=draw(st.sampled_from(JOINS)),
        cancels=draw(_others(name)) if draw(st.integers(0, 3)) == 0 else (),
        max_iterations=draw(st.integers(1, 3)),
        retry=Retry(
            attempts=1
            if isinstance(wait, Asked | Awaited | Timer | Map)
            else draw(st.integers(1, 3)),
            backoff=draw(st.sampled_from((0, 5))),
        ),
    )


def _others(name: str) -> st.SearchStrategy[tuple[NodeId, ...]]:
    others = [NodeId(other) for other in NAMES if other != name]
    return st.lists(st.sampled_from(others), min_size=1, max_size=2, unique=True).map(tuple)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A fork of nodes that wait and nodes that work, wired anyhow, some of them to a join.

    `p` is passed, `m` a milestone.
    """
    edges: dict[str, Edge] = {}

    def add(source: str, target: str, **facets: Any) -> None:
        drawn = edge(f"{source} -> {target}", **facets)
        edges.setdefault(drawn.id, drawn)

    add("start", "f")
    for name in draw(st.sets(st.sampled_from(("a", "b", "c", "p")), min_size=2, max_size=3)):
        add("f", name)
    for name in NAMES:
        for _ in range(draw(st.sampled_from((1, 1, 1, 2)))):
            target = draw(st.sampled_from((*NAMES, "j", "j", "j", "end")))
            when = draw(st.sampled_from((None, None, None, "$n > 2")))
            final = target == "end" and draw(st.integers(0, 4)) == 0
            label = draw(st.sampled_from((None, None, None, "x")))
            joins = target == "j" or draw(st.integers(0, 5)) == 0
            add(name, target, when=when, label=label, final=final, join=joins and not final)
        if name in WORK and draw(st.booleans()):
            add(name, draw(st.sampled_from((*NAMES, "end"))), on="error")
    add("j", draw(st.sampled_from((*NAMES, "end"))))
    if draw(st.booleans()):
        add("j", "d", on="short")
    nodes = [node("f", route=Route.ALL), *(draw(waits(name)) for name in WORK)]
    nodes.append(node("j", join=draw(st.sampled_from(JOINS))))
    nodes.append(node("p", kind="pass", role=Role.CONTROL, route=draw(st.sampled_from(Route))))
    where, expires = draw(st.sampled_from(WORK)), draw(st.sampled_from((None, 25)))
    nodes.append(node("m", kind="milestone", role=Role.CONTROL, at=NodeId(where), expires=expires))
    return graph(*edges.values(), nodes=nodes, steps=draw(st.sampled_from((12, 60, 60))))


def _events(template: Graph, state: State, moment: int) -> st.SearchStrategy[msg.AnyEvent]:
    """What may come next: what a step waits for, what comes too late, what people ask for."""
    now = at(moment * 7 + 0.25)
    reported = [
        report for step in state.steps.values() for report in _of_step(template, state, step, now)
    ]
    good = [event for event, well in reported if well]
    late: list[msg.AnyEvent] = [
        *(event for event, _ in reported),
        msg.AttemptSucceeded(at=now, step=msg.StepKey("a#1"), attempt=1, fence=1, patch={"n": 1}),
        msg.WaitEnded(at=now, step=msg.StepKey("b#1"), attempt=9),
        msg.Ticked(at=now),
        *(msg.Woke(at=now, step=key, again=True) for key in state.steps),
        *(msg.SkipRequested(at=now, by="ada", step=key) for key in state.steps),
        msg.PauseRequested(at=now, by="ada"),
        msg.ResumeRequested(at=now, by="ada"),
    ]
    stops: list[msg.AnyEvent] = [
        msg.CancelRequested(at=now, by="ada", compensate=True),
        msg.CancelRequested(at=now, by="ada"),
    ]
    resume = [msg.ResumeRequested(at=now, by="ada")]
    if state.status is RunStatus.PAUSED:
        good += resume * len(good or resume)
    lots = [good] * 14 if good else [resume]
    return st.sampled_from([*lots, *[late] * 6, stops]).flatmap(st.sampled_from)


def _of_step(
    template: Graph, state: State, step: Step, now: datetime
) -> Iterator[tuple[msg.AnyEvent, bool]]:
    """What may be reported of a step where it stands, and whether it is what one hopes for."""
    report: Any = {"at": now, "step": step.key, "attempt": step.attempt}
    over = step.wake is not None and step.wake <= now
    again = step.errors + 1 < template.node(step.node).retry.attempts
    again |= step.of is None and bool(template.edges_from(step.node, on="error"))
    match step.status:
        case StepStatus.READY:
            yield msg.AttemptSucceeded(**report, fence=1, patch={"n": 3}), True
            yield msg.AttemptSucceeded(**report, fence=1), True
            for terminal in (False, True):
                yield (
                    msg.AttemptFailed(
                        **report, fence=1, reason="error", message="boom", terminal=terminal
                    ),
                    again and not terminal,
                )
            yield msg.AttemptLost(**report, fence=1, worker="w"), step.attempt == 1
        case StepStatus.WAITING if step.key in state.maps:
            yield msg.ItemsAdded(at=now, step=step.key, by="ada", items=("y", "z")), False
            yield msg.CompleteRequested(at=now, step=step.key, by="ada"), False
        case StepStatus.WAITING:
            if over:
                yield msg.Woke(at=now, step=step.key), step.wait == "timer"
            if step.wait != "timer":
                choice = "x" if step.wait == "approval" else None
                for result in (1, 4, "unfit"):
                    ended = msg.WaitEnded(**report, result=Inline(value=result), choice=choice)
                    yield ended, result != "unfit"
            if step.wait == "workflow":
                yield msg.WaitFailed(**report, reason="child_failed", message="boom"), again
        case _ if over:
            yield msg.Woke(at=now, step=step.key, again=True), True
        case _:
            if step.awaits:  # whoever held the lock has given it up
                yield msg.Woke(at=now, step=step.key, again=True), True


@st.composite
def runs(draw: st.DrawFn, turns: int = 30) -> tuple[Graph, list[Shell]]:
    """The same run thrice: by turns that hold what they must, that hold all, and some together."""
    template = draw(graphs())
    broken = draw(st.sampled_from(((), (), ("c",))))
    shells = [Shell(template, narrow=narrow, broken=broken) for narrow in (True, False)]
    reducers = draw(st.sampled_from(({}, {"n": "max"}, {"n": "sum"})))
    event: msg.AnyEvent = submitted(reducers=reducers, n=0)
    for moment in range(draw(st.integers(turns // 2, turns))):
        events = [event]
        for shell in shells:
            shell.tell(*events)
        event = draw(_next(template, shells[0], moment))
        if draw(st.integers(0, 4)) == 0:
            # Two that were sent before either was folded.
            more = draw(_events(template, shells[0].state, moment))
            for shell in shells:
                shell.tell(event, replace(more, at=event.at))
            event = draw(_next(template, shells[0], moment))
    return template, shells


def _next(template: Graph, shell: Shell, moment: int) -> st.SearchStrategy[msg.AnyEvent]:
    """What may come next; now and then somebody has the run go back to some place of its own."""
    events = _events(template, shell.state, moment)
    return st.integers(0, 11).flatmap(
        lambda luck: _backs(shell, moment) if luck == 0 else events,
    )


def _backs(shell: Shell, moment: int) -> st.SearchStrategy[msg.AnyEvent]:
    def asked(seq: int) -> msg.AnyEvent:
        now, place = at(moment * 7 + 0.25), fold(shell.history[:seq])
        if rollback.obstacle(place):
            return msg.Ticked(at=now)
        frame, overlays = forking.told(rollback.there(place, ()))
        return msg.RollbackRequested(
            at=now,
            by="ada",
            seq=seq,
            state=frame,
            variables=place.variables,
            overlays=overlays,
        )

    return st.integers(1, len(shell.history)).map(asked)


def some(tests):
    """As many examples as there is time for every time."""
    return settings(max_examples=EXAMPLES)(tests)


def check_same(case) -> None:
    _, (narrow, wide) = case
    assert narrow.history == wide.history
    assert narrow.head == wide.head
    assert narrow.rows == wide.rows


def check_told(case) -> None:
    _, (narrow, _) = case
    assert fold(narrow.history) == narrow.state


def check_replayed(case, cut: float) -> None:
    template, (narrow, _) = case
    events = [e.record for e in narrow.history if isinstance(e.record, msg.Event)]
    at_ = int(cut * len(events))
    first = advance(template, DEFAULT, State(run="r1"), events[:at_])
    second = advance(template, DEFAULT, first.state, events[at_:])
    assert [*first.entries, *second.entries] == narrow.history
    # Line by line, with all steps looked at for each: none that a turn passes over has anything follow.
    assert replayed(template, DEFAULT, "r1", lines(narrow.history)).first is None


def check_counted(case) -> None:
    template, (narrow, _) = case
    state = narrow.state
    threads = [step.thread for step in state.steps.values() if step.of is None]
    waiting = [token.thread for token in state.tokens]
    for name, scope in state.scopes.items():
        inside = [thread for thread in threads if name in around(thread)]
        assert scope.alive == len(inside)
        assert name == "" or inside or [t for t in waiting if name in around(t)]
    for thread in (*threads, *waiting):
        for depth, (name, branch) in enumerate(thread):
            assert state.scopes[name].parent == thread[:depth]
            assert 0 <= branch < state.scopes[name].branches
    for key, items in state.maps.items():
        declared = template.node(state.steps[key].node).wait
        under_way = [step for step in state.steps.values() if step.of == key]
        assert state.steps[key].status is StepStatus.WAITING
        assert items.sent == 0
        assert items.running == len(under_way) == len({step.index for step in under_way})
        assert items.succeeded + items.failed + items.running == items.next <= items.count
        if state.status is RunStatus.RUNNING:
            assert items.failed < declared.most_failed
            assert items.running == min(declared.at_once, items.running + items.count - items.next)
            assert items.running
    begun = (e.record for e in narrow.history if isinstance(e.record, Begun))
    visits = {record.step for record in begun}
    backs = (e.record for e in narrow.history if isinstance(e.record, msg.RollBack))
    renamed = [step for back in backs for step in back.anew.values()]
    assert len(visits) == state.visited + len(renamed)
    assert len({*renamed}) == len(renamed)
    undoes = [step for step in visits if step.startswith("undo ")]
    assert state.visited - len(undoes) <= template.limits.steps
    if state.undoing is None:
        assert {step.of for step in state.steps.values()} - {None} <= state.maps.keys()
    else:
        assert not state.tokens
        assert not state.maps
        assert len(state.steps) == state.undoing.running
        assert state.undoing.running or state.status is RunStatus.PAUSED


def check_waits(case) -> None:
    template, (narrow, _) = case
    state = narrow.state
    wake = deadlines.next_wake(template, state)
    assert wake is None or wake > narrow.history[-1].at
    if state.terminal:
        assert not state.steps
        assert not state.tokens
        assert not narrow.locks
        return
    assert state.steps or wake is not None or state.status is RunStatus.PAUSED
    for step in state.steps.values():
        if step.status in (StepStatus.DEFERRED, StepStatus.RETRYING) or step.wait == "timer":
            assert step.wake is not None
        assert (step.status is StepStatus.DEFERRED) <= (step.awaits is not None)
    if state.status is RunStatus.RUNNING:
        for token in state.tokens:
            assert token.waits or milestones.holds(template, state, token)


def check_ends(case) -> None:
    """Whoever is told all that is waited for comes to an end, or says what lock it waits for."""
    template, (shell, _) = case
    now = shell.history[-1].at
    shell.tell(msg.ResumeRequested(at=now, by="ada"))
    for _ in range(600):
        state = shell.state
        if state.terminal:
            return
        now += timedelta(seconds=AGAIN + 1)
        events = [e for step in state.steps.values() for e in _onward(template, state, step, now)]
        shell.tell(*events, msg.Ticked(at=now))
        if shell.rows and all(step.awaits for step in shell.rows.values()):
            break
    assert shell.rows
    assert any(step.awaits for step in shell.rows.values()), shell.state


def _onward(template: Graph, state: State, step: Step, now) -> Iterator[msg.AnyEvent]:
    report = {"at": now, "step": step.key, "attempt": step.attempt}
    if step.status is StepStatus.READY:
        yield msg.AttemptSucceeded(**report, fence=1)
    elif step.status is not StepStatus.WAITING:
        yield msg.Woke(at=now, step=step.key, again=True)
    elif step.wait == "timer":
        yield msg.Woke(at=now, step=step.key)
    elif step.wait != "map":
        yield msg.WaitEnded(**report, result=Inline(value=1))


@some
@given(runs())
def test_what_a_turn_need_not_hold_changes_nothing(case):
    check_same(case)


@some
@given(runs(), st.floats(0, 1))
def test_a_history_is_its_state_and_decides_the_same_again(case, cut):
    check_told(case)
    check_replayed(case, cut)


@some
@given(runs())
def test_nobody_is_lost_or_made_and_all_wait_for_something(case):
    check_counted(case)
    check_waits(case)


@some
@given(runs())
def test_a_run_that_is_told_what_it_waits_for_ends(case):
    check_ends(case)


@some
@given(st.permutations(range(4)), st.permutations(range(4)), st.sampled_from(({}, {"n": "append"})))
def test_the_order_in_which_items_are_done_changes_nothing(one, other, reducers):
    do = node("m/item")
    wait = Map(over=expressions.template(["x"] * 4), do=do, at_once=4)
    template = graph(edge("m -> end"), nodes=[node("m", kind="map", wait=wait)])
    ends = []
    for order in (one, other):
        shell = Shell(template)
        shell.tell(submitted(reducers=reducers))
        for index in order:
            shell.tell(succeeded(f"m#1.{index}", patch={"n": index}))
        ends.append((shell.head, shell.rows))
    assert ends[0] == ends[1]


@pytest.mark.long
@pytest.mark.timeout(900)
@settings(max_examples=LONG)
@given(runs(turns=40), st.floats(0, 1))
def test_all_of_that_holds_of_many_more_runs(case, cut):
    check_same(case)
    check_told(case)
    check_replayed(case, cut)
    check_counted(case)
    check_waits(case)
    check_ends(case)
