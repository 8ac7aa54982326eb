"""Undoing what calls of ended runs have done: refused where anything rests on it, and done once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from engine.core.values import Json
from engine.errors import Blocked, Conflict, Invalid, NotFound, Undecided
from engine.runs import (
    calls,
    compensations,
    control,
    effects,
    forks,
    policies,
    restarts,
    rollbacks,
    shredding,
    sweep,
    turns,
    views,
)
from engine.runs.attempts import Failed, Suspended
from engine.runs.launch import Submitted
from engine.runs.origins import Edits
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import refunds
from tests.support.forking import World, a_line, after
from tests.support.platforms import (
    LINE,
    TENANT,
    as_owner,
    finish,
    lose_leases,
    publish,
    register,
    sql,
    status,
    submit,
    take,
)
from tests.support.refunds import (
    back,
    ended,
    gather,
    inside,
    make,
    nested,
    paid,
    refunding,
    refused,
    serve,
    the_call,
    undo,
    undo_all,
    undo_next,
    words,
)
from tests.support.waiting import blocked, of_kind, race


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with refunds.world(settings) as made:
        yield made


@pytest.fixture
def outside() -> list[str]:
    """What happened outside of the platform, in its order."""
    return []


# --- what cannot be undone -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ("shout", "names nothing that undoes"),
        ("send", "are at_most_once"),
        ("look", "are idempotent"),
        ("lost", "is not registered"),
        ("old", "is not registered"),
        ("stuck", "in disabled"),
        ("unfit", "arguments.id"),
        ("odd", "cannot be worked out"),
    ],
)
def test_what_cannot_be_undone_is_told_and_nothing_happens(
    world: World, outside: list[str], tool: str, why: str
) -> None:
    run = ended(world, outside, tool)
    problem = refused(world, run, "b#1.1")
    assert (problem.path, why in problem.message) == ("calls.b#1.1", True), problem
    if tool != "look":
        assert the_call(world, run).why == problem.message
    assert words(outside) == [tool]


@pytest.mark.parametrize("name", ["b#1.2", "b#2.1", "b#1", "", "pure", f"{'0' * 36}/b#1.1"])
def test_names_of_no_call_are_told(world: World, outside: list[str], name: str) -> None:
    run = ended(world, outside, "pay")
    with pytest.raises(Invalid) as raised:
        undo(world, run, "b#1.1", name)
    assert len(raised.value.problems) == 1
    with pytest.raises(Invalid):
        compensations.undo(world.main, run, (), by="bob")
    with pytest.raises(NotFound):
        undo(world, RunId(TENANT, "00000000-0000-7000-8000-000000000000"), "b#1.1")


def test_nothing_that_a_live_run_rests_on_is_undone(world: World, outside: list[str]) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    make(world, outside, take(world.worker, run, "a#1"), "pay", state="x")
    assert the_call(world, run, "a#1.1").why == f"run {run.run}, which is running, rests on it"
    assert "go back to before the call" in refused(world, run, "a#1.1").remedy
    assert "rests on it" in refused(world, run).message


def test_a_call_of_which_nobody_knows_is_not_undone(world: World, outside: list[str]) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    asked = calls.authorise(world.worker, lease, 1, "pay", {"args": [], "kwargs": {}})
    assert isinstance(asked, calls.Authorised)
    control.cancel(world.main, run, by="ada")
    assert "its end was never recorded" in refused(world, run, "a#1.1").message
    failed = calls.Answer(reason="timeout", message="slow", usage={})
    calls.settle(world.worker, lease, asked, failed)
    assert "it failed as timeout" in refused(world, run).message


def test_what_was_never_made_is_no_question_and_not_undone(
    world: World, outside: list[str]
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    asked = calls.authorise(world.worker, lease, 1, "pay", {"args": [], "kwargs": {}})
    assert isinstance(asked, calls.Authorised)
    calls.settle(
        world.worker, lease, asked, calls.Answer(reason="unreachable", message="", usage={})
    )
    control.cancel(world.main, run, by="ada")
    assert "it was not made" in refused(world, run, "a#1.1").message
    with pytest.raises(Conflict, match="is left to be undone"):
        undo(world, run)


def test_shredded_data_says_nothing_of_how_a_call_is_undone(
    world: World, outside: list[str]
) -> None:
    run = ended(world, outside, "pay")
    shredding.shred(world.main, run, by="ada", why="asked for")
    assert "was shredded" in refused(world, run, "b#1.1").message


def test_nothing_of_a_run_that_was_recorded_elsewhere_is_undone(
    world: World, outside: list[str], settings: Settings
) -> None:
    run = ended(world, outside, "pay")
    as_owner(settings, "UPDATE run SET imported = '{}' WHERE id = :run", run=run.run)
    with pytest.raises(Conflict, match="undo its calls where it was run"):
        undo(world, run)
    as_owner(settings, "UPDATE run SET imported = NULL WHERE id = :run", run=run.run)


def test_a_call_that_was_carried_over_is_undone_where_it_was_made(
    world: World, outside: list[str]
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    make(world, outside, take(world.worker, run, "a#1"), "pay", state="x")
    control.pause(world.main, run, by="ada")
    fork = forks.fork(world.main, run, views.status(world.main, run).seq, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    for one in (run, fork):
        control.cancel(world.main, one, by="ada")
    (copy,) = compensations.plan(world.main, fork)
    assert (copy.happened, f"call a#1.1 of run {run.run}" in (copy.why or "")) == ("served", True)
    undo_all(world, outside, run)
    assert words(outside) == ["pay", "refund"]


def test_what_a_handler_has_gone_about_is_left_to_it(world: World, outside: list[str]) -> None:
    document: dict[str, Json] = {
        "workflow": "handled",
        "nodes": {"a": {"uses": "noop", "compensate": "noop"}, "b": {"uses": "noop"}},
        "edges": ["a -> b -> end"],
    }
    version = publish(world.main, document)

    def paid() -> RunId:
        run = submit(world.main, version)
        lease = take(world.worker, run, "a#1")
        make(world, outside, lease, "pay", state="x")
        finish(world.main, world.worker, lease)
        return run

    run = paid()
    control.cancel(world.main, run, by="ada", compensate=True)
    turns.take_turns(world.main, [run])
    finish(world.main, world.worker, take(world.worker, run, "undo a#1"))
    assert status(world.main, run) == "cancelled"
    assert "the handler of step a#1" in refused(world, run, "a#1.1").message
    # Where it has not begun it never will: the run has ended.
    plainly = paid()
    control.cancel(world.main, plainly, by="ada")
    assert the_call(world, plainly, "a#1.1").why is None


def test_a_call_that_was_served_is_undone_where_it_was_made(
    world: World, outside: list[str]
) -> None:
    run = ended(world, outside, "pay")
    place, reuse = after(world.main, run, "a#1"), {"b#1.1": "reuse"}
    fork = forks.fork(world.main, run, place, Edits(), by="bob", choices=reuse).run
    turns.take_turns(world.main, [fork])
    # Who is to be served it holds up its undoing.
    assert f"run {fork.run} goes on" in refused(world, run, "b#1.1").message
    lease = take(world.worker, fork, "b#1")
    make(world, outside, lease, "pay", state="x1")
    finish(world.main, world.worker, lease)
    problem = refused(world, fork, "b#1.1")
    assert f"call b#1.1 of run {run.run}" in problem.message
    with pytest.raises(Conflict, match="left to be undone"):
        undo(world, fork)
    undo_all(world, outside, run)
    assert words(outside) == ["pay", "refund"]
    # Whatever comes from the run that was served it rests on it.
    with pytest.raises(Conflict, match="has undone since"):
        forks.fork(world.main, fork, after(world.main, fork, "b#1") - 2, Edits(), by="bob")


@pytest.mark.parametrize("further", [False, True])
def test_live_runs_that_go_on_from_after_a_call_hold_up_its_undoing(
    world: World, outside: list[str], further: bool
) -> None:
    run = ended(world, outside, "pay")
    place = views.status(world.main, run).seq - 2
    with pytest.raises(Conflict):
        forks.fork(world.main, run, place + 2, Edits(), by="bob")
    fork = restarts.restart(
        world.main, run, "b#1", Edits(), by="bob", choices={"compensable": "skip"}
    ).run
    turns.take_turns(world.main, [fork])
    if further:
        fork, first = world.fork(fork, views.status(world.main, fork).seq), fork
        control.cancel(world.main, first, by="ada")
    assert f"run {fork.run} goes on" in refused(world, run).message
    control.cancel(world.main, fork, by="ada")
    undo_all(world, outside, run)


def test_runs_that_go_on_from_before_a_call_hold_up_nothing(
    world: World, outside: list[str]
) -> None:
    run = ended(world, outside, "pay")
    world_fork = forks.fork(
        world.main,
        run,
        after(world.main, run, "a#1"),
        Edits(),
        by="bob",
        choices={"compensable": "execute"},
    )
    turns.take_turns(world.main, [world_fork.run])
    undo_all(world, outside, run)
    lease = take(world.worker, world_fork.run, "b#1")
    assert make(world, outside, lease, "pay", state="x1") == {"id": 3}


def test_a_run_that_undoes_is_not_gone_on_from_nor_undone(world: World, outside: list[str]) -> None:
    run = ended(world, outside, "pay")
    undoing = undo(world, run)
    for ask in (
        lambda: forks.fork(world.main, undoing, 2, Edits(), by="bob"),
        lambda: restarts.restart(world.main, undoing, "undo#1", Edits(), by="bob"),
        lambda: rollbacks.roll_back(world.main, undoing, 2, Edits(), by="bob"),
        lambda: undo(world, undoing, "undo#1.0.1"),
    ):
        with pytest.raises(Conflict, match="undoes what others have done"):
            ask()


# --- once ------------------------------------------------------------------------------------------


def test_calls_are_undone_last_ones_first_one_at_a_time(world: World, outside: list[str]) -> None:
    run = ended(world, outside, "pay", "book")
    undoing = undo(world, run)
    assert [one.step for one in attempts_of(world, undoing)] == ["undo#1.0"]
    undo_next(world, outside, undoing, 0)
    undo_next(world, outside, undoing, 1)
    gather(world, undoing)
    assert outside[2:] == [
        "release arguments={'state': 'x2'} result={'id': 2}",
        "refund charge=1 of=x1",
    ]
    for name in ("b#1.1", "b#1.2"):
        found = the_call(world, run, name)
        assert (found.undone, found.by, found.why) == (
            "undone",
            undoing.run,
            f"run {undoing.run} has undone it",
        )
    told = {(one.ordinal, one.undone, one.undone_by) for one in views.calls(world.main, run)}
    assert told == {(1, "undone", undoing.run), (2, "undone", undoing.run)}


def attempts_of(world: World, run: RunId) -> list[Any]:
    """The steps of a run that are asked for."""
    return list(
        sql(
            world.main,
            "SELECT key AS step FROM step WHERE run_id = :run AND status = 'ready'",
            run=run.run,
        )
    )


def test_what_is_being_undone_or_is_undone_is_not_undone_again(
    world: World, outside: list[str]
) -> None:
    run = ended(world, outside, "pay")
    undoing = undo(world, run)
    with pytest.raises(Blocked) as raised:
        undo(world, run)
    assert f"run {undoing.run} is undoing it" in raised.value.problems[0].message
    undo_next(world, outside, undoing, 0)
    gather(world, undoing)
    with pytest.raises(Conflict, match="left to be undone"):
        undo(world, run)
    with pytest.raises(Blocked) as raised:
        undo(world, run, "b#1.1")
    assert f"run {undoing.run} has undone it" in raised.value.problems[0].message
    assert words(outside) == ["pay", "refund"]


def test_the_same_request_is_one_act(world: World, outside: list[str]) -> None:
    run = ended(world, outside, "pay")
    ask = {"by": "bob", "idempotency_key": "k", "reason": "a wrong order"}
    first = compensations.undo(world.main, run, ["b#1.1"], **ask)
    again = compensations.undo(world.main, run, ["b#1.1"], **ask)
    assert (again.run, first.replayed, again.replayed) == (first.run, False, True)
    with pytest.raises(Conflict, match="another submission"):
        compensations.undo(world.main, run, ["compensable"], **ask)
    (act,) = sql(world.main, "SELECT * FROM admin_act WHERE action = 'run.undo'")
    assert (act.by, act.subject, act.why) == ("bob", f"run:{run.run}", "a wrong order")
    assert act.detail == {"run": first.run.run, "calls": 1}


def test_two_that_ask_at_once_undo_a_call_once(world: World, outside: list[str]) -> None:
    run = ended(world, outside, "pay")

    def ask(who: str) -> Callable[[], Submitted]:
        return lambda: compensations.undo(world.main, run, ["b#1.1"], by=who)

    found = race(ask("bob"), ask("eve"))
    (made,), (late,) = of_kind(found, Submitted), of_kind(found, Blocked)
    assert f"run {made.run.run} is undoing it" in late.problems[0].message
    undoing = made.run
    turns.take_turns(world.main, [undoing])
    undo_next(world, outside, undoing, 0)
    assert words(outside) == ["pay", "refund"]


@pytest.mark.parametrize("first", ["fork", "undo"])
def test_of_an_undo_and_a_fork_at_once_one_is_refused(
    world: World, outside: list[str], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    run = ended(world, outside, "pay")
    place, reuse = after(world.main, run, "a#1"), {"compensable": "reuse"}
    ways: dict[str, Callable[[], Submitted]] = {
        "fork": lambda: forks.fork(world.main, run, place, Edits(), by="bob", choices=reuse),
        "undo": lambda: compensations.undo(world.main, run, ["b#1.1"], by="eve"),
    }
    there, on = Event(), Event()
    # Who is first is held up at its end, before it commits.
    where: tuple[Any, str] = (forks, "_give") if first == "fork" else (compensations.acts, "record")
    real = getattr(*where)

    def held(*given: Any, **named: Any) -> None:
        real(*given, **named)
        if named.get("action", "run.undo") == "run.undo":
            there.set()
            assert on.wait(30)

    monkeypatch.setattr(*where, held)
    with ThreadPoolExecutor() as both:
        leads = both.submit(ways.pop(first))
        assert there.wait(30)
        ((_, other),) = ways.items()
        follows = both.submit(other)
        while not blocked(world.main) and not follows.done():
            on.wait(0.01)
        on.set()
        leads.result(30)
        with pytest.raises(Conflict):
            follows.result(30)
    assert words(outside) == ["pay"]


def test_a_call_that_may_have_been_undone_is_left_alone(
    world: World, outside: list[str], settings: Settings
) -> None:
    run = ended(world, outside, "pay")
    undoing = undo(world, run)
    lease, asked = refunding(world, undoing)
    outside.append("refund")
    assert the_call(world, run).undone == "undoing"
    # Its worker is killed before the end is recorded.
    lose_leases(settings)
    sweep.sweep(world.main)
    turns.take_turns(world.main, [undoing])
    # Its run asks people what has become of it: what they say comes first.
    found = the_call(world, run)
    assert (found.undone, found.by) == ("undoing", undoing.run)
    place = after(world.main, run, "a#1")
    with pytest.raises(Conflict, match="is being undone"):
        forks.fork(world.main, run, place, Edits(), by="bob", choices={"b#1.1": "skip"})
    with pytest.raises(Conflict, match="is known: it is undoing"):
        compensations.settle(world.main, run, "b#1.1", "stands", by="bob")
    control.cancel(world.main, undoing, by="ada")
    found = the_call(world, run)
    assert (found.undone, found.by) == ("unknown", undoing.run)
    with pytest.raises(Blocked) as raised:
        undo(world, run)
    assert "nobody knows" in raised.value.problems[0].message
    (effect,) = effects.at(world.main, run, place)
    assert (effect.happened, effect.becomes, effect.choices) == (
        "unknown",
        "undecided",
        ("skip", "execute"),
    )
    with pytest.raises(Blocked, match="--settle"):
        forks.fork(world.main, run, place, Edits(), by="bob", choices={"b#1.1": "compensate"})
    # It was, as its worker says in the end.
    calls.settle(world.worker, lease, asked, calls.Answer(value="refunded", usage={}))
    assert the_call(world, run).undone == "undone"
    assert words(outside) == ["pay", "refund"]


def test_a_call_whose_undoing_is_denied_stands_and_may_be_asked_for_again(
    world: World, outside: list[str]
) -> None:
    run = ended(world, outside, "pay", "book")
    document = "policy: p\nrules: [{tool: refund, action: deny, message: not today}]"
    policies.apply(world.main, TENANT, document, by="ada")
    undoing = undo(world, run)
    undo_next(world, outside, undoing, 0)
    lease = take(world.worker, undoing, "undo#1.1")
    given = views.run(world.main, undoing).variables["calls"][1]["with"]
    denied = make(world, outside, lease, "refund", **given)
    assert isinstance(denied, calls.Denied)
    assert the_call(world, run).undone == "undoing"
    failed = Failed(reason=denied.reason, message=denied.message, terminal=True)
    finish(world.main, world.worker, lease, failed)
    assert status(world.main, undoing) == "failed"
    found = the_call(world, run)
    assert (found.undone, found.by, found.why) == ("stands", undoing.run, None)
    # It is as it was: asked about, and undone when that is asked for again.
    (effect,) = [
        one
        for one in effects.at(world.main, run, after(world.main, run, "a#1"))
        if one.tool == "pay"
    ]
    assert (effect.happened, effect.becomes) == ("yes", "undecided")
    policies.withdraw(world.main, TENANT, "p", by="ada")
    again = undo_all(world, outside, run)
    assert (the_call(world, run).undone, the_call(world, run).by) == ("undone", again.run)
    assert words(outside) == ["pay", "book", "release", "refund"]


@pytest.mark.parametrize("fate", ["stands", "undone"])
def test_somebody_who_has_looked_says_what_has_become_of_undoing(
    world: World, outside: list[str], fate: str
) -> None:
    run = ended(world, outside, "pay")
    undoing = undo(world, run)
    lease, asked = refunding(world, undoing)
    answer = calls.Answer(reason="client_error", message="no such charge", usage={})
    calls.settle(world.worker, lease, asked, answer)
    failed = Failed(reason="client_error", message="no such charge", terminal=True)
    finish(world.main, world.worker, lease, failed)
    assert status(world.main, undoing) == "failed"
    assert the_call(world, run).undone == "unknown"
    for unknown in ("b#1.7", "b#1", ""):
        with pytest.raises(NotFound):
            compensations.settle(world.main, run, unknown, fate, by="ada")
    compensations.settle(world.main, run, "b#1.1", fate, by="ada", reason="looked it up")
    assert the_call(world, run).undone == fate
    with pytest.raises(Conflict, match="is known"):
        compensations.settle(world.main, run, "b#1.1", "undone", by="bob")
    (act,) = sql(
        world.main, "SELECT by AS said_by, why FROM admin_act WHERE action = 'undo.settle'"
    )
    assert (act.said_by, act.why) == ("ada", "looked it up")
    if fate == "stands":
        undo_all(world, outside, run)
    else:
        with pytest.raises(Blocked, match="has undone it"):
            undo(world, run, "b#1.1")
    assert the_call(world, run).undone == "undone"


def test_what_undoes_and_may_be_repeated_is_not_repeated_by_another_run(
    world: World, outside: list[str]
) -> None:
    """It would be another call, under another key: who tells repeats by that cannot tell them."""
    register(world.main, "refund", namespace="tool", effect="idempotent")
    run = ended(world, outside, "pay")
    undoing = undo(world, run)
    lease, begun = refunding(world, undoing)
    control.cancel(world.main, undoing, by="ada")
    assert the_call(world, run).undone == "unknown"
    with pytest.raises(Blocked, match="nobody knows"):
        undo(world, run, "b#1.1")
    place = after(world.main, run, "a#1")
    with pytest.raises(Invalid, match="no recorded result"):
        forks.fork(world.main, run, place, Edits(), by="bob", choices={"b#1.1": "reuse"})
    calls.settle(world.worker, lease, begun, calls.Answer(value="ok", usage={}))
    assert the_call(world, run).undone == "undone"


def test_a_call_is_undone_as_its_own_version_says(world: World, outside: list[str]) -> None:
    run = ended(world, outside, "pay")
    newer: Json = {"tool": "release", "with": {"charge": "$result.charge_id"}}
    source = "def pay(state):\n    return {'charge_id': 1}"
    register(world.main, "pay", source, namespace="tool", effect="compensable", undo=newer)
    found = the_call(world, run)
    assert (found.undo, found.arguments) == ("refund", {"charge": 1, "of": "x1"})


@pytest.mark.parametrize(
    ("value", "state", "why"),
    [
        ({"charge_id": 7}, "x", "$result.id leads to nothing of the call"),
        ({"id": 7}, "[secret:TOKEN]", "what a secret was hidden in"),
    ],
)
def test_nothing_is_undone_with_what_is_not_kept_of_the_call(
    world: World, value: Json, state: str, why: str
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    lease = take(world.worker, run, "b#1")
    asked = calls.authorise(world.worker, lease, 1, "pay", {"args": [], "kwargs": {"state": state}})
    assert isinstance(asked, calls.Authorised)
    calls.settle(world.worker, lease, asked, calls.Answer(value=value, usage={}))
    finish(world.main, world.worker, lease)
    assert why in str(the_call(world, run).why)
    with pytest.raises(Blocked):
        undo(world, run)


def test_what_handlers_did_is_not_among_all_that_is_left(world: World, outside: list[str]) -> None:
    document = {
        "workflow": "handled",
        "nodes": {"a": {"uses": "noop", "compensate": "noop"}, "b": {"uses": "noop"}},
        "edges": ["a -> b -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    lease = take(world.worker, run, "a#1")
    make(world, outside, lease, "shout", state="x")
    finish(world.main, world.worker, lease)
    control.cancel(world.main, run, by="ada", compensate=True)
    turns.take_turns(world.main, [run])
    lease = take(world.worker, run, "undo a#1")
    make(world, outside, lease, "book", state="x")
    finish(world.main, world.worker, lease)
    assert status(world.main, run) == "cancelled"
    with pytest.raises(Blocked) as raised:
        undo(world, run)
    assert {problem.path for problem in raised.value.problems} == {"calls.a#1.1"}
    with pytest.raises(Blocked, match="it is part of undoing what step a#1"):
        undo(world, run, "undo a#1.1")
    assert words(outside) == ["shout", "book"]


@pytest.mark.parametrize("first", ["undo", "restart"])
def test_a_run_that_is_to_start_another_one_anew_is_served_nothing_that_is_undone(
    world: World, outside: list[str], first: str
) -> None:
    publish(world.main, {**LINE, "workflow": "inner"})
    document = {
        "workflow": "outer",
        "nodes": {"w": {"kind": "workflow", "workflow": "inner"}},
        "edges": ["w -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    (child,) = [RunId(TENANT, one.id) for one in views.runs(world.main, TENANT, parent=run)]
    finish(world.main, world.worker, take(world.worker, child, "a#1"))
    lease = take(world.worker, child, "b#1")
    make(world, outside, lease, "pay", state="x1")
    finish(world.main, world.worker, lease)
    turns.take_turns(world.main, [run])
    choices = {"compensable": "reuse"}
    on = restarts.restart(world.main, child, "b#1", Edits(), by="bob", choices=choices).run
    turns.take_turns(world.main, [on])
    control.cancel(world.main, on, by="ada")
    for one in views.runs(world.main, TENANT, parent=on):
        turns.take_turns(world.main, [RunId(TENANT, one.id)])
    assert status(world.main, on) == "cancelled"

    def again() -> None:
        restarts.restart(world.main, on, "w#1", Edits(), by="bob")

    def undo_it() -> None:
        undo_all(world, outside, run, f"{child.run}/b#1.1")

    one, other = (undo_it, again) if first == "undo" else (again, undo_it)
    one()
    with pytest.raises(Conflict):
        other()


# --- afterwards ------------------------------------------------------------------------------------


def test_nothing_is_chosen_for_what_is_undone(world: World, outside: list[str]) -> None:
    run = ended(world, outside, "pay")
    undo_all(world, outside, run)
    place = after(world.main, run, "a#1")
    for choice in ("skip", "reuse"):
        with pytest.raises(Invalid, match="as if it had not been made"):
            forks.fork(world.main, run, place, Edits(), by="bob", choices={"b#1.1": choice})


def test_what_is_undone_is_made_again_without_a_question(world: World, outside: list[str]) -> None:
    run = ended(world, outside, "pay")
    place = after(world.main, run, "a#1")
    with pytest.raises(Undecided) as asked:
        restarts.restart(world.main, run, "b#1", Edits(), by="bob")
    assert "compensate" in (asked.value.problems[0].remedy or "")
    for go_on in (
        lambda: forks.fork(
            world.main, run, place, Edits(), by="bob", choices={"compensable": "compensate"}
        ),
        lambda: restarts.restart(
            world.main, run, "b#1", Edits(), by="bob", choices={"b#1.1": "compensate"}
        ),
    ):
        with pytest.raises(Blocked) as first:
            go_on()
        assert f"celeriac undo {run.run} b#1.1" in (first.value.problems[0].remedy or "")
    undoing = undo(world, run)
    with pytest.raises(Conflict, match="is being undone"):
        restarts.restart(world.main, run, "b#1", Edits(), by="bob")
    undo_next(world, outside, undoing, 0)
    gather(world, undoing)
    (effect,) = effects.at(world.main, run, place)
    assert (effect.happened, effect.becomes, effect.choices) == ("undone", "repeated", ())
    for choices in (
        {},
        {"compensable": "compensate"},
        {"b#1.1": "compensate"},
        {"compensable": "reuse"},
    ):
        on = restarts.restart(world.main, run, "b#1", Edits(), by="bob", choices=choices).run
        turns.take_turns(world.main, [on])
        lease = take(world.worker, on, "b#1")
        assert make(world, outside, lease, "pay", state="x1") == {"id": len(outside)}
        finish(world.main, world.worker, lease)
    assert words(outside) == ["pay", "refund", *["pay"] * 4]


def test_nobody_goes_on_from_a_place_that_rests_on_what_is_undone(
    world: World, outside: list[str]
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    make(world, outside, lease, "pay", state="x")
    finish(world.main, world.worker, lease)
    finish(world.main, world.worker, take(world.worker, run, "b#1"))
    place = after(world.main, run, "a#1")
    fork = forks.fork(world.main, run, place, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    line = views.status(world.main, fork).seq
    control.cancel(world.main, fork, by="ada")
    undoing = undo(world, run)
    for why in ("is undoing; wait", "has undone since; go on from before"):
        for ask in (
            lambda: forks.fork(world.main, run, place, Edits(), by="bob"),
            lambda: forks.fork(world.main, fork, line, Edits(), by="bob"),
            lambda: restarts.restart(world.main, run, "b#1", Edits(), by="bob"),
            lambda: effects.at(world.main, run, place),
        ):
            with pytest.raises(Conflict, match=why):
                ask()
        if why.startswith("is"):
            undo_next(world, outside, undoing, 0)
            gather(world, undoing)
    # Before it everything is as it was.
    again = restarts.restart(world.main, run, "a#1", Edits(), by="bob").run
    turns.take_turns(world.main, [again])
    assert make(world, outside, take(world.worker, again, "a#1"), "pay", state="x") == {"id": 3}


def test_what_was_gone_back_over_holds_nobody_up_when_it_is_undone(
    world: World, outside: list[str]
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    make(world, outside, take(world.worker, run, "b#1"), "pay", state="x1")
    place = after(world.main, run, "a#1")
    execute = {"compensable": "execute"}
    assert rollbacks.roll_back(world.main, run, place, Edits(), by="bob", choices=execute)
    lease = take(world.worker, run, "b#2")
    make(world, outside, lease, "pay", state="x1")
    control.pause(world.main, run, by="ada")
    control.resume(world.main, run, by="ada")
    line = views.status(world.main, run).seq
    finish(world.main, world.worker, lease)
    undo_all(world, outside, run, "b#1.1")
    # The other one stands, and its step was live there.
    fork = forks.fork(world.main, run, line, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    again = take(world.worker, fork, "b#2")
    assert make(world, outside, again, "pay", state="x1") == calls.Recorded(value={"id": 2})
    assert words(outside) == ["pay", "pay", "refund"]


def test_calls_of_runs_within_are_undone_with_their_root(world: World, outside: list[str]) -> None:
    publish(world.main, {**LINE, "workflow": "inner"})
    document: dict[str, Json] = {
        "workflow": "outer",
        "nodes": {
            "a": {"uses": "noop"},
            "w": {"kind": "workflow", "workflow": "inner"},
            "b": {"uses": "noop"},
        },
        "edges": ["a -> w -> b -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    (found,) = views.runs(world.main, run.tenant, parent=run)
    child = RunId(run.tenant, found.id)
    lease = take(world.worker, child, "a#1")
    make(world, outside, lease, "pay", state="x1")
    within = views.status(world.main, run).seq
    finish(world.main, world.worker, lease)
    with pytest.raises(Conflict, match="is running"):
        undo(world, child)
    finish(world.main, world.worker, take(world.worker, child, "b#1"))
    turns.take_turns(world.main, [run])
    finish(world.main, world.worker, take(world.worker, run, "b#1"))
    assert status(world.main, run) == "completed"
    later = after(world.main, run, "w#1")
    # The root goes on from before the call, and from within the child after it: it has yet to come there.
    on = restarts.restart(world.main, child, "b#1", Edits(), by="bob").run
    for asked in (run, child):
        assert f"run {on.run} goes on" in refused(world, asked).message
    turns.take_turns(world.main, [on])
    assert (
        f"run {on.run} goes on" in refused(world, run).message
        or "goes on" in refused(world, run).message
    )
    control.cancel(world.main, on, by="ada")
    for one in views.runs(world.main, run.tenant, parent=on):
        turns.take_turns(world.main, [RunId(run.tenant, one.id)])
    undo_all(world, outside, run, f"{child.run}/a#1.1")
    assert outside == ["pay state=x1", "refund charge=1 of=x1"]
    for ask in (
        lambda: forks.fork(world.main, run, later, Edits(), by="bob"),
        lambda: restarts.restart(world.main, child, "b#1", Edits(), by="bob"),
    ):
        with pytest.raises(Conflict, match="has undone since"):
            ask()
    # Where the child was under way it is started anew, and so is its call; once more from there as well.
    fork = forks.fork(world.main, run, within, Edits(), by="bob").run
    turns.take_turns(world.main, [fork])
    again = forks.fork(world.main, fork, views.status(world.main, fork).seq, Edits(), by="bob").run
    turns.take_turns(world.main, [again])
    (one,) = views.runs(world.main, run.tenant, parent=again)
    lease = take(world.worker, RunId(run.tenant, one.id), "a#1")
    assert make(world, outside, lease, "pay", state="x1") == {"id": 3}


@pytest.mark.parametrize("tool", ["pay", "book"])
def test_calls_with_large_values_are_undone_too(
    world: World, outside: list[str], tool: str
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    lease = take(world.worker, run, "a#1")
    large = "x" * 1_200_000
    given: Json = {"args": [], "kwargs": {"state": large}}
    asked = calls.authorise(world.worker, lease, 1, tool, given)
    assert isinstance(asked, calls.Authorised)
    calls.settle(world.worker, lease, asked, calls.Answer(value={"id": 1, "all": large}, usage={}))
    control.cancel(world.main, run, by="ada")
    undoing = undo(world, run)
    lease = take(world.worker, undoing, "undo#1.0")
    assert status(world.main, undoing) == "running"
    assert the_call(world, run, "a#1.1").undone == "undoing"


def test_people_are_asked_before_a_call_is_undone_where_its_tool_says_so(
    world: World, outside: list[str]
) -> None:
    register(world.main, "refund", namespace="tool", effect="at_most_once", requires_approval=True)
    run = ended(world, outside, "pay")
    undoing = undo(world, run)
    lease = take(world.worker, undoing, "undo#1.0")
    given = views.run(world.main, undoing).variables["calls"][0]["with"]
    asked = make(world, outside, lease, "refund", **given)
    assert isinstance(asked, Suspended)
    finish(world.main, world.worker, lease, asked)
    assert the_call(world, run).undone == "undoing"
    # Who says no leaves the call as it was.
    control.cancel(world.main, undoing, by="ada")
    assert the_call(world, run).undone == "stands"
    assert words(outside) == ["pay"]


# --- where a result was given again, or copied -----------------------------------------------------


HANDLED: dict[str, Json] = {
    "workflow": "handled",
    "nodes": {"a": {"uses": "noop", "compensate": "noop"}, "b": {"uses": "noop"}},
    "edges": ["a -> b -> end"],
}
REUSE = {"compensable": "reuse"}


@pytest.mark.parametrize("where", ["fork", "itself"])
def test_a_result_that_is_given_again_once_more_is_still_of_the_one_call(
    world: World, outside: list[str], where: str
) -> None:
    if where == "fork":
        origin = ended(world, outside, "pay")
        place = after(world.main, origin, "a#1")
        run = forks.fork(world.main, origin, place, Edits(), by="bob", choices=REUSE).run
        turns.take_turns(world.main, [run])
        place = views.status(world.main, run).seq
        served = ["b#1.1", "b#2.1"]
    else:
        origin, place = run, _ = paid(world, outside)
        back(world, run, place, REUSE)
        served = ["b#2.1", "b#3.1"]
    serve(world, outside, run, served[0].removesuffix(".1"))
    # It is gone back over, and its choice is to be had again.
    back(world, run, place, {"b#1.1": "reuse"} if run == origin else None)
    finish(world.main, world.worker, serve(world, outside, run, served[1].removesuffix(".1")))
    asked = [one.name for one in effects.at(world.main, run, place)]
    assert asked == (["b#1.1"] if run == origin else [])
    for name in served:
        assert the_call(world, run, name).happened == "served"
        assert f"call b#1.1 of run {origin.run}" in refused(world, run, name).message
    undo_all(world, outside, origin)
    for one in (run, origin):
        with pytest.raises(Conflict, match="is left to be undone"):
            undo(world, one)
    assert words(outside) == ["pay", "refund"]


@pytest.mark.parametrize("of_fork", [False, True])
def test_nobody_goes_on_from_where_an_undone_result_was_given_though_another_choice_was_made_since(
    world: World, outside: list[str], of_fork: bool
) -> None:
    run, place = paid(world, outside)
    back(world, run, place, REUSE)
    serve(world, outside, run, "b#2")
    of, line = run, a_line(world, run)
    if of_fork:
        of = forks.fork(world.main, run, line, Edits(), by="bob").run
        turns.take_turns(world.main, [of])
        line = views.status(world.main, of).seq
    back(world, run, place, {"compensable": "execute"})
    behind = a_line(world, run)
    lease = take(world.worker, run, "b#3")
    make(world, outside, lease, "pay", state="x1")
    finish(world.main, world.worker, lease)
    if of_fork:
        assert f"run {of.run} goes on" in refused(world, run, "b#1.1").message
        control.cancel(world.main, of, by="ada")
    undo_all(world, outside, run, "b#1.1")
    execute = {} if of_fork else {"compensable": "execute"}
    with pytest.raises(Conflict, match=r"call b#1\.1 of pay.* has undone since"):
        forks.fork(world.main, of, line, Edits(), by="bob", choices=execute)
    # Where it was gone back over for good, nothing rests on it.
    on = forks.fork(world.main, run, behind, Edits(), by="bob", choices={"b#3.1": "execute"}).run
    turns.take_turns(world.main, [on])
    assert make(world, outside, take(world.worker, on, "b#3"), "pay", state="x1") == {"id": 4}


def test_what_was_chosen_later_keeps_nobody_from_going_on_from_where_something_else_was(
    world: World, outside: list[str]
) -> None:
    run, place = paid(world, outside)
    back(world, run, place, {"compensable": "execute"})
    line = a_line(world, run)
    back(world, run, place, REUSE)
    control.cancel(world.main, run, by="ada")
    undo_all(world, outside, run)
    on = forks.fork(world.main, run, line, Edits(), by="bob").run
    turns.take_turns(world.main, [on])
    made = make(world, outside, take(world.worker, on, "b#2"), "pay", state="x1")
    assert not isinstance(made, calls.Recorded)


@pytest.mark.parametrize("choice", ["reuse", "skip"])
def test_a_run_that_went_back_and_was_given_a_result_goes_on_from_before_it_when_that_is_undone(
    world: World, outside: list[str], choice: str
) -> None:
    run, place = paid(world, outside)
    back(world, run, place, {"compensable": choice})
    waiting = a_line(world, run)
    lease = take(world.worker, run, "b#2")
    make(world, outside, lease, "pay", state="x1")
    given = a_line(world, run)
    finish(world.main, world.worker, lease)
    undo_all(world, outside, run)
    # There it is still to be given, there it was, and before both the call did not happen.
    for line in (waiting, given):
        with pytest.raises(Conflict, match="has undone since"):
            forks.fork(world.main, run, line, Edits(), by="bob")
    on = forks.fork(world.main, run, place, Edits(), by="bob").run
    turns.take_turns(world.main, [on])
    assert make(world, outside, take(world.worker, on, "b#1"), "pay", state="x1") == {"id": 3}
    restarts.restart(world.main, run, "a#1", Edits(), by="bob")


@pytest.mark.parametrize("where", ["fork", "itself"])
@pytest.mark.parametrize("how", ["given again", "copied"])
def test_what_a_handler_has_gone_about_elsewhere_is_left_to_it(
    world: World, outside: list[str], where: str, how: str
) -> None:
    origin = run = submit(world.main, publish(world.main, HANDLED))
    start = views.status(world.main, run).seq
    make(world, outside, take(world.worker, run, "a#1"), "pay", state="x1")
    place, choices = (start, REUSE) if how == "given again" else (a_line(world, run), None)
    if where == "fork":
        run = forks.fork(world.main, origin, place, Edits(), by="bob", choices=choices).run
        turns.take_turns(world.main, [run])
        control.cancel(world.main, origin, by="ada")
    else:
        back(world, run, place, choices)
    step = "a#1" if where == "fork" else "a#2"
    finish(world.main, world.worker, serve(world, outside, run, step))
    control.cancel(world.main, run, by="ada", compensate=True)
    turns.take_turns(world.main, [run])
    finish(world.main, world.worker, take(world.worker, run, f"undo {step}"))
    assert status(world.main, run) == "cancelled"
    why = f"the handler of step {step} of run {run.run} has undone it"
    assert why in refused(world, origin, "a#1.1").message


def given_within(world: World, outside: list[str], child: RunId) -> RunId:
    """A live run that goes on from within another one, and whose step has come to what was paid there."""
    on = restarts.restart(world.main, child, "b#1", Edits(), by="bob", choices=REUSE).run
    turns.take_turns(world.main, [on])
    finish(world.main, world.worker, serve(world, outside, inside(world, on), "b#1"))
    turns.take_turns(world.main, [on])
    return on


def test_a_handler_around_the_run_that_was_given_a_result_has_it_left_to_it(
    world: World, outside: list[str]
) -> None:
    run, child = nested(world, outside)
    on = given_within(world, outside, child)
    control.cancel(world.main, on, by="ada", compensate=True)
    turns.take_turns(world.main, [on])
    finish(world.main, world.worker, take(world.worker, on, "undo w#1"))
    assert status(world.main, on) == "cancelled"
    problem = refused(world, run, f"{child.run}/b#1.1")
    assert f"the handler of step w#1 of run {on.run}" in problem.message


def test_who_goes_on_from_around_the_run_that_was_given_a_result_rests_on_it(
    world: World, outside: list[str]
) -> None:
    run, child = nested(world, outside)
    on = given_within(world, outside, child)
    line = a_line(world, on)
    further = forks.fork(world.main, on, line, Edits(), by="bob").run
    turns.take_turns(world.main, [further])
    control.cancel(world.main, on, by="ada")
    name = f"{child.run}/b#1.1"
    assert f"run {further.run} goes on" in refused(world, run, name).message
    control.cancel(world.main, further, by="ada")
    undo_all(world, outside, run, name)
    for one in (on, further):
        with pytest.raises(Conflict, match="has undone since"):
            forks.fork(world.main, one, line if one == on else 2, Edits(), by="bob")
