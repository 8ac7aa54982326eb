"""Calls that would happen again where a run is gone on from: what is chosen for each, counted outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from engine.errors import Conflict, Invalid, Undecided
from engine.runs import calls, control, effects, forks, restarts, rollbacks, shredding, turns, views
from engine.runs.attempts import Leased
from engine.runs.origins import Edits
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import forking
from tests.support.forking import World, a_line, after
from tests.support.platforms import LINE, finish, publish, register, sql, submit, take
from tests.support.waiting import live

CLASSES = ("pure", "idempotent", "at_most_once", "compensable")
ONCE = ("at_most_once", "compensable")
Choices = Mapping[str, str]
#: Goes on from the place after a#1; the run that goes on.
GoOn = Callable[[World, RunId, Choices], RunId]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with forking.world(settings) as made:
        for effect in CLASSES:
            register(made.main, f"t_{effect}", namespace="tool", effect=effect)
        yield made


@pytest.fixture
def outside() -> Counter[str]:
    """What happened outside of the platform: how often each tool was really called, by what."""
    return Counter()


def forked(world: World, run: RunId, choices: Choices) -> RunId:
    place = after(world.main, run, "a#1")
    made = forks.fork(world.main, run, place, Edits(), by="bob", choices=choices).run
    turns.take_turns(world.main, [made])
    return made


def restarted(world: World, run: RunId, choices: Choices) -> RunId:
    made = restarts.restart(world.main, run, "b#1", Edits(), by="bob", choices=choices).run
    turns.take_turns(world.main, [made])
    return made


def rolled_back(world: World, run: RunId, choices: Choices) -> RunId:
    place = after(world.main, run, "a#1")
    assert rollbacks.roll_back(world.main, run, place, Edits(), by="bob", choices=choices)
    return run


WAYS: tuple[GoOn, ...] = (forked, restarted, rolled_back)


def call(
    world: World,
    outside: Counter[str],
    lease: Leased,
    tool: str,
    *,
    ordinal: int = 1,
    what: str = "x",
    settles: bool = True,
) -> object:
    """What code of a step gets that calls a tool, which counts it where it really is called."""
    answer = calls.authorise(
        world.worker, lease, ordinal, tool, {"args": [], "kwargs": {"state": what}}
    )
    if not isinstance(answer, calls.Authorised):
        return answer
    outside[f"{tool}({what})"] += 1
    value = f"{tool} {outside[f'{tool}({what})']}"
    if settles:
        calls.settle(world.worker, lease, answer, calls.Answer(value=value, usage={"cost_usd": 1}))
    return value


def begun(world: World, outside: Counter[str], tool: str, **how: bool) -> RunId:
    """A run whose second step is live, and has called a tool once."""
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    call(world, outside, take(world.worker, run, "b#1"), tool, **how)
    return run


def second(run: RunId, on: RunId) -> str:
    """The name of the second step where a run goes on."""
    return "b#2" if run == on else "b#1"


# --- what must be chosen ---------------------------------------------------------------------------


@pytest.mark.parametrize("go_on", WAYS)
@pytest.mark.parametrize("effect", ONCE)
@pytest.mark.parametrize("settles", [True, False])
def test_what_has_happened_and_may_not_happen_twice_must_be_chosen(
    world: World, outside: Counter[str], go_on: GoOn, effect: str, settles: bool
) -> None:
    run = begun(world, outside, f"t_{effect}", settles=settles)
    before, runs = views.status(world.main, run), len(views.runs(world.main, run.tenant))
    with pytest.raises(Undecided) as refused:
        go_on(world, run, {})
    (problem,) = refused.value.problems
    assert (problem.path, effect in problem.message) == ("choices.b#1.1", True)
    assert ("may have happened" in problem.message) is not settles
    assert views.status(world.main, run) == before
    assert len(views.runs(world.main, run.tenant)) == runs
    if not settles:
        with pytest.raises(Invalid, match="the choices do not fit"):
            go_on(world, run, {effect: "reuse"})


@pytest.mark.parametrize("go_on", WAYS)
def test_choices_that_fit_nothing_are_told(
    world: World, outside: Counter[str], go_on: GoOn
) -> None:
    run = begun(world, outside, "t_at_most_once")
    for choices in ({"b#9.1": "skip"}, {"nonsense": "skip"}, {"at_most_once": "perhaps"}):
        with pytest.raises(Invalid) as refused:
            go_on(world, run, choices)
        assert refused.value.problems[0].path == f"choices.{next(iter(choices))}"


# --- each choice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("go_on", WAYS)
@pytest.mark.parametrize("effect", CLASSES)
@pytest.mark.parametrize("choice", ["reuse", "skip", "execute"])
def test_each_choice_of_each_class_is_kept(
    world: World, outside: Counter[str], go_on: GoOn, effect: str, choice: str
) -> None:
    tool = f"t_{effect}"
    run = begun(world, outside, tool)
    on = go_on(world, run, {effect: choice})
    lease = take(world.worker, on, second(run, on))
    got = call(world, outside, lease, tool)
    gives = {
        "reuse": calls.Recorded(value=f"{tool} 1"),
        "skip": calls.Recorded(value=None),
        "execute": f"{tool} 2",
    }
    times = 2 if choice == "execute" else 1
    assert got == gives[choice]
    assert outside == {f"{tool}(x)": times}
    # A choice is for one call: the next one is made like any other.
    assert isinstance(call(world, outside, lease, tool, ordinal=2), str)
    assert outside == {f"{tool}(x)": times + 1}
    finish(world.main, world.worker, lease)
    assert views.status(world.main, on).status == "completed"
    charged = sql(world.main, "SELECT FROM ledger WHERE run_id = :run AND ordinal > 0", run=on.run)
    # Nothing is charged for what is not made; a run that went back has paid for the first call, too.
    assert len(charged) == times + (on == run)


@pytest.mark.parametrize("go_on", WAYS)
@pytest.mark.parametrize("effect", ["pure", "idempotent"])
def test_what_may_be_repeated_is_made_again_unless_somebody_chooses(
    world: World, outside: Counter[str], go_on: GoOn, effect: str
) -> None:
    run = begun(world, outside, f"t_{effect}")
    on = go_on(world, run, {})
    assert call(world, outside, take(world.worker, on, second(run, on)), f"t_{effect}")
    assert outside == {f"t_{effect}(x)": 2}


def test_another_call_is_made_whatever_was_chosen_for_the_first(
    world: World, outside: Counter[str]
) -> None:
    run = begun(world, outside, "t_at_most_once")
    rolled_back(world, run, {"at_most_once": "reuse"})
    lease = take(world.worker, run, "b#2")
    assert isinstance(call(world, outside, lease, "t_at_most_once", what="y"), str)
    same = call(world, outside, lease, "t_at_most_once", ordinal=2)
    assert same == calls.Recorded(value="t_at_most_once 1")
    assert outside == {"t_at_most_once(x)": 1, "t_at_most_once(y)": 1}


def test_one_call_is_chosen_otherwise_than_its_class(world: World, outside: Counter[str]) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    lease = take(world.worker, run, "b#1")
    for ordinal, what in enumerate("xy", start=1):
        call(world, outside, lease, "t_compensable", ordinal=ordinal, what=what)
    rolled_back(world, run, {"compensable": "reuse", "b#1.2": "execute"})
    again = take(world.worker, run, "b#2")
    call(world, outside, again, "t_compensable", what="x")
    call(world, outside, again, "t_compensable", ordinal=2, what="y")
    assert outside == {"t_compensable(x)": 1, "t_compensable(y)": 2}


def test_the_same_call_twice_is_served_in_its_order_and_to_a_retry_again(
    world: World, outside: Counter[str]
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    lease = take(world.worker, run, "b#1")
    for ordinal in (1, 2):
        call(world, outside, lease, "t_at_most_once", ordinal=ordinal)
    rolled_back(world, run, {"at_most_once": "reuse"})
    served = [calls.Recorded(value=f"t_at_most_once {ordinal}") for ordinal in (1, 2)]
    for _ in range(2):
        again = take(world.worker, run, "b#2")
        assert [
            call(world, outside, again, "t_at_most_once", ordinal=ordinal) for ordinal in (1, 2)
        ] == served
        control.retry(world.main, run, "b#2", by="ada")
    assert outside == {"t_at_most_once(x)": 2}


def test_what_was_served_did_not_happen_and_what_happened_is_chosen_anew(
    world: World, outside: Counter[str]
) -> None:
    run = begun(world, outside, "t_at_most_once")
    rolled_back(world, run, {"at_most_once": "reuse"})
    call(world, outside, take(world.worker, run, "b#2"), "t_at_most_once")
    with pytest.raises(Undecided) as refused:
        rolled_back(world, run, {})
    assert [problem.path for problem in refused.value.problems] == ["choices.b#1.1"]
    rolled_back(world, run, {"b#1.1": "skip"})
    lease = take(world.worker, run, "b#3")
    assert call(world, outside, lease, "t_at_most_once") == calls.Recorded(value=None)
    assert outside == {"t_at_most_once(x)": 1}


def test_copies_of_a_call_are_not_asked_about_beside_it(
    world: World, outside: Counter[str]
) -> None:
    run = begun(world, outside, "t_at_most_once")
    control.pause(world.main, run, by="ada")
    control.resume(world.main, run, by="ada")
    live_there = views.status(world.main, run).seq
    assert rollbacks.roll_back(world.main, run, live_there, Edits(), by="bob")
    place = after(world.main, run, "a#1")
    assert [one.name for one in effects.at(world.main, run, place)] == ["b#1.1"]
    rolled_back(world, run, {"b#1.1": "reuse"})
    served = call(world, outside, take(world.worker, run, "b#3"), "t_at_most_once")
    assert served == calls.Recorded(value="t_at_most_once 1")
    assert outside == {"t_at_most_once(x)": 1}


def test_who_goes_on_from_between_a_call_and_its_choice_keeps_the_choice(
    world: World, outside: Counter[str]
) -> None:
    run = begun(world, outside, "t_at_most_once")
    rolled_back(world, run, {"at_most_once": "reuse"})
    between = views.status(world.main, run).seq
    served = calls.Recorded(value="t_at_most_once 1")
    assert call(world, outside, take(world.worker, run, "b#2"), "t_at_most_once") == served
    made = forks.fork(world.main, run, between, Edits(), by="bob").run
    turns.take_turns(world.main, [made])
    second_fork = forks.fork(world.main, made, 1, Edits(), by="bob").run
    turns.take_turns(world.main, [second_fork])
    for fork in (made, second_fork):
        assert call(world, outside, take(world.worker, fork, "b#2"), "t_at_most_once") == served
    assert rollbacks.roll_back(world.main, run, between, Edits(), by="bob")
    lease = take(world.worker, run, "b#3")
    assert call(world, outside, lease, "t_at_most_once") == served
    assert isinstance(call(world, outside, lease, "t_at_most_once", ordinal=2), str)
    assert outside == {"t_at_most_once(x)": 2}


@pytest.mark.parametrize("by_fork", [True, False])
def test_what_a_run_within_had_done_where_it_came_from_is_asked_about_when_it_starts_anew(
    world: World, outside: Counter[str], by_fork: bool
) -> None:
    publish(world.main, {**LINE, "workflow": "inner"})
    document = {
        "workflow": "outer",
        "nodes": {"w": {"kind": "workflow", "workflow": "inner"}},
        "edges": ["w -> end"],
    }
    run = submit(world.main, publish(world.main, document))
    (found,) = views.runs(world.main, run.tenant, parent=run)
    child = RunId(run.tenant, found.id)
    lease = take(world.worker, child, "a#1")
    call(world, outside, lease, "t_at_most_once")
    finish(world.main, world.worker, lease)
    finish(world.main, world.worker, take(world.worker, child, "b#1"))
    on = restarts.restart(world.main, child, "b#1", Edits(), by="bob").run
    turns.take_turns(world.main, [on])
    with pytest.raises(Conflict, match="goes on there from a place of another one"):
        rollbacks.roll_back(world.main, on, 1, Edits(), by="bob")
    control.pause(world.main, on, by="ada")
    control.resume(world.main, on, by="ada")
    place = views.status(world.main, on).seq
    go_on: Callable[..., object] = forks.fork if by_fork else rollbacks.roll_back
    with pytest.raises(Undecided, match=f"{child.run}/a#1.1"):
        go_on(world.main, on, place, Edits(), by="bob")
    assert outside == {"t_at_most_once(x)": 1}


@pytest.mark.parametrize("by_fork", [True, False])
def test_what_was_let_through_once_is_not_let_through_again(
    world: World, outside: Counter[str], by_fork: bool
) -> None:
    run = begun(world, outside, "t_at_most_once")
    rolled_back(world, run, {"b#1.1": "execute"})
    control.pause(world.main, run, by="ada")
    control.resume(world.main, run, by="ada")
    place = views.status(world.main, run).seq
    call(world, outside, take(world.worker, run, "b#2"), "t_at_most_once")
    choices = {"b#2.1": "reuse"}
    if by_fork:
        on = forks.fork(world.main, run, place, Edits(), by="bob", choices=choices).run
        turns.take_turns(world.main, [on])
    else:
        on = run
        assert rollbacks.roll_back(world.main, run, place, Edits(), by="bob", choices=choices)
    # The call that was made again is one of its own, and is served as was chosen for it.
    (step,) = [one.key for one in views.run(world.main, on).steps]
    call(world, outside, take(world.worker, on, step), "t_at_most_once")
    assert outside == {"t_at_most_once(x)": 2}


def test_a_call_that_is_made_beside_the_choosing_is_not_made_twice(
    world: World, outside: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    lease = take(world.worker, run, "b#1")
    fold = rollbacks.control.fold

    def meanwhile(*given: object) -> None:
        call(world, outside, lease, "t_at_most_once")
        fold(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(rollbacks.control, "fold", meanwhile)
    rolled_back(world, run, {})
    refused = call(world, outside, take(world.worker, run, "b#2"), "t_at_most_once")
    assert isinstance(refused, calls.Denied)
    assert (refused.reason, refused.terminal) == ("unknown_outcome", True)
    assert outside == {"t_at_most_once(x)": 1}


def test_what_is_chosen_is_in_history_and_its_values_can_be_shredded(
    world: World, outside: Counter[str]
) -> None:
    run = begun(world, outside, "t_at_most_once")
    on = forked(world, run, {"at_most_once": "reuse"})
    (first, *_) = views.history(world.main, on)
    assert first.body["chosen"] == [{"step": "b#1", "ordinal": 1, "choice": "reuse"}]
    lease = take(world.worker, on, "b#1")
    call(world, outside, lease, "t_at_most_once")
    finish(world.main, world.worker, lease)
    shredding.shred(world.main, on, by="ada", why="asked for")
    kept = sql(world.main, "SELECT value::text FROM chosen_call WHERE run_id = :run", run=on.run)
    assert [("t_at_most_once" in row.value) for row in kept] == [False]
    with pytest.raises(Conflict):
        effects.at(world.main, on, 1)
    assert live(world.main, run) == {"b#1": "leased"}


# --- places between ---------------------------------------------------------------------------------


def went_back(world: World, run: RunId, place: int, choices: Choices) -> int:
    """Let a run go back, and the line that it goes on from."""
    went = rollbacks.roll_back(world.main, run, place, Edits(), by="bob", choices=choices)
    assert went is not None
    return went.seq


def fork_of(world: World, run: RunId, place: int, choices: Choices | None = None) -> RunId:
    made = forks.fork(world.main, run, place, Edits(), by="bob", choices=choices or {}).run
    turns.take_turns(world.main, [made])
    return made


@pytest.mark.parametrize("choice", ["reuse", "skip"])
def test_a_fork_has_what_had_not_been_taken_at_its_place_however_often_it_was_taken_since(
    world: World, outside: Counter[str], choice: str
) -> None:
    run = begun(world, outside, "t_compensable")
    place = after(world.main, run, "a#1")
    chosen = went_back(world, run, place, {"b#1.1": choice})
    call(world, outside, take(world.worker, run, "b#2"), "t_compensable")
    taken = went_back(world, run, chosen, {})
    call(world, outside, take(world.worker, run, "b#3"), "t_compensable")
    went_back(world, run, chosen, {})
    for seq in (chosen, taken):
        lease = take(world.worker, fork_of(world, run, seq), "b#2" if seq == chosen else "b#3")
        assert isinstance(call(world, outside, lease, "t_compensable"), calls.Recorded)
        assert not isinstance(
            call(world, outside, lease, "t_compensable", ordinal=2), calls.Recorded
        )


@pytest.mark.parametrize("choice", ["reuse", "skip"])
def test_what_was_taken_at_a_place_is_not_had_again_by_its_forks_though_it_was_chosen_again(
    world: World, outside: Counter[str], choice: str
) -> None:
    run = begun(world, outside, "t_compensable")
    place = after(world.main, run, "a#1")
    went_back(world, run, place, {"b#1.1": choice})
    call(world, outside, take(world.worker, run, "b#2"), "t_compensable")
    between = a_line(world, run)
    went_back(world, run, place, {"b#1.1": choice})
    call(world, outside, take(world.worker, run, "b#3"), "t_compensable")
    fork = fork_of(world, run, between)
    assert sql(world.main, f"SELECT FROM chosen_call WHERE run_id = '{fork.run}'") == []


def test_a_choice_that_was_made_after_a_place_is_none_for_its_forks(
    world: World, outside: Counter[str]
) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    finish(world.main, world.worker, take(world.worker, run, "a#1"))
    lease = take(world.worker, run, "b#1")
    call(world, outside, lease, "t_compensable")
    place, line = after(world.main, run, "a#1"), a_line(world, run)
    call(world, outside, lease, "t_compensable", ordinal=2)
    went_back(world, run, place, {"b#1.1": "reuse", "b#1.2": "reuse"})
    control.cancel(world.main, run, by="ada")
    fork = fork_of(world, run, line, {"b#1.2": "execute"})
    lease = take(world.worker, fork, "b#1")
    assert isinstance(call(world, outside, lease, "t_compensable"), calls.Recorded)
    assert not isinstance(call(world, outside, lease, "t_compensable", ordinal=2), calls.Recorded)


def test_what_has_been_let_through_since_is_not_let_through_again_by_a_fork_from_between(
    world: World, outside: Counter[str]
) -> None:
    run = begun(world, outside, "t_compensable")
    place = after(world.main, run, "a#1")
    chosen = went_back(world, run, place, {"b#1.1": "execute"})
    went_back(world, run, chosen, {})
    made = call(world, outside, take(world.worker, run, "b#3"), "t_compensable")
    fork = fork_of(world, run, chosen, {"b#3.1": "reuse"})
    lease = take(world.worker, fork, "b#2")
    assert call(world, outside, lease, "t_compensable") == calls.Recorded(value=made)
