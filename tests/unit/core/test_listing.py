"""Step lists: how they are read and written, and how a run finds its way through one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import codec, document, expressions, tape
from engine.core import messages as msg
from engine.core.decide import Turn
from engine.core.document import Reference
from engine.core.graph import Graph
from engine.core.schema import document_schema
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Json, canonical
from tests.support import play
from tests.support.documents import changed
from tests.support.lists import BAD, BEYOND, GOOD, LIST

VALIDATOR = jsonschema_rs.Draft202012Validator(document_schema(), offline=True)


# --- reading and writing ----------------------------------------------------------------------


@pytest.mark.parametrize(("path", "value", "where", "message"), BAD + BEYOND)
def test_what_is_wrong_with_a_list_is_refused_with_its_path_and_a_remedy(
    path: tuple[str | int, ...], value: Any, where: str, message: str
) -> None:
    found = document.read(changed(LIST, path, value))
    assert not isinstance(found, Graph)
    assert any(problem.path == where and message in problem.message for problem in found), found
    assert all(problem.remedy for problem in found)


@pytest.mark.parametrize(("path", "value", "where", "message"), BAD)
def test_the_schema_refuses_it_too(
    path: tuple[str | int, ...], value: Any, where: str, message: str
) -> None:
    assert not VALIDATOR.is_valid(changed(LIST, path, value))


@pytest.mark.parametrize("name", GOOD)
def test_a_list_is_written_as_it_was_read(name: str) -> None:
    graph = read(GOOD[name])
    written = document.write(graph)
    assert read(written) == graph
    assert document.write(read(written)) == written
    assert "steps" in written
    assert "nodes" not in written
    assert [error.message for error in VALIDATOR.iter_errors(GOOD[name])] == []
    assert VALIDATOR.is_valid(written)


def test_the_canonical_document_is_the_list_itself() -> None:
    assert document.write(read(LIST)) == LIST


def test_a_step_is_named_by_its_index_and_its_agent() -> None:
    long = "x" * 128
    graph = read({"workflow": "w", "steps": [*LIST["steps"], {"agent": long}]})
    assert [*graph.nodes] == [
        "step_index",
        "0 read.file",
        "1 read.file",
        "2 write_file",
        "3 say",
        f"4 {long}"[:64],
    ]


def test_the_agents_of_a_list_are_pinned_like_functions() -> None:
    steps = [{"agent": "f@3"}, {"agent": "g"}]
    assert [*document.names_used(read({"workflow": "w", "steps": steps}))] == [
        Reference(kind="function", name="f", version=3, path="steps[0].agent"),
        Reference(kind="function", name="g", version=None, path="steps[1].agent"),
    ]


def test_a_list_of_a_thousand_has_no_more_than_two_edges_a_step_and_is_read_at_once() -> None:
    began = time.process_time()
    graph = read({"workflow": "w", "steps": [{"agent": "f", "output": ["x"]}] * 1000})
    assert len(graph.edges) == 2000
    assert time.process_time() - began < 2


# --- params and answers -----------------------------------------------------------------------

TAPE: dict[str, Json] = {"n": 1, "list": [1], "text": "t", "run": {"id": "r"}}


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, {}),
        (
            {"a": 3, "b": None, "c": "plain", "d": "$$5"},
            {"a": 3, "b": None, "c": "plain", "d": "$5"},
        ),
        ({"a": "$list", "b": "$n > 0", "c": ["$text"]}, {"a": [1], "b": True, "c": ["t"]}),
        ({"a": "$missing"}, {"a": None}),
        ({"n": "$n + 1"}, {"n": 2}),
        ({"n": 5, "m": "$n"}, {"n": 5, "m": 5}),
        ({"a": {"x": "$b"}, "b": ["$c"], "c": "$n"}, {"a": {"x": [1]}, "b": [1], "c": 1}),
        ({"run": 3, "a": "$run.id"}, {"run": 3, "a": "r"}),
    ],
)
def test_params_stand_before_the_tape(params: dict[str, Json], found: dict[str, Json]) -> None:
    assert tape.given(expressions.template(params), TAPE) == found


@pytest.mark.parametrize("other", [{}, {"m": "$n"}], ids=["alone", "beside another"])
@pytest.mark.parametrize(
    ("value", "path"), [("$text + 1", "n"), ({"x": "$text + 1"}, "n.x"), (["$text + 1"], "n[0]")]
)
def test_a_param_without_a_value_is_named(value: Json, path: str, other: dict[str, Json]) -> None:
    with pytest.raises(expressions.EvaluationError) as caught:
        tape.given(expressions.template({"n": value, **other}), TAPE)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("value", "status", "patch"),
    [
        ("x", None, {"a": "x"}),
        (None, None, {"a": None}),
        (["x", {"status": {"value": 1}}], None, {"a": ["x", {"status": {"value": 1}}]}),
        ({"b": 1, "c": 2}, None, {"b": 1, "c": 2}),
        ({}, None, {}),
        ({"$bytes": "aGk="}, None, {"a": {"$bytes": "aGk="}}),
        ("x", {"value": 1, "reason": "no"}, {"a": "x", "status": {"value": 1, "reason": "no"}}),
        ({"status": "mine"}, None, {"status": "mine"}),
        ({"status": "mine"}, {"value": 0}, {"status": {"value": 0}}),
    ],
)
def test_an_answer_is_left_by_its_keys_or_by_the_first_name(
    value: Json, status: Json, patch: dict[str, Json]
) -> None:
    usual = {"status": {"value": 0, "reason": ""}}
    assert tape.left(["a", "b"], value, status) == {**usual, **patch}
    keyed = isinstance(value, dict) and "$bytes" not in value
    without = patch if keyed else {k: v for k, v in patch.items() if k != "a"}
    assert tape.left([], value, status) == {**usual, **without}


# --- going through a list ---------------------------------------------------------------------


def test_a_list_is_gone_through_in_order_and_ends_behind_its_last_step() -> None:
    taken = through(steps(3), {})
    assert path(taken) == ["0 f", "1 f", "2 f"]
    assert (taken.state.status, reason(taken)) == (RunStatus.COMPLETED, "end")
    assert taken.state.variables["step_index"] == 3


@pytest.mark.parametrize(
    ("jumps", "visits"),
    [
        pytest.param({0: [2]}, [0, 3, 4], id="forward"),
        pytest.param({2: [0, None]}, [0, 1, 2, 1, 2, 3, 4], id="backward"),
        pytest.param({1: [-1, -1]}, [0, 1, 0, 1, 0, 1, 2, 3, 4], id="to the beginning"),
        pytest.param({3: [2, 2]}, [0, 1, 2, 3, 3, 3, 4], id="to itself"),
        pytest.param({1: [4]}, [0, 1], id="to the end"),
        pytest.param({1: [99]}, [0, 1], id="far behind the end"),
        pytest.param({1: [-2]}, [0, 1], id="before the beginning"),
        pytest.param({1: [2**63 - 1]}, [0, 1], id="where numbers end"),
        pytest.param({1: [-1e300]}, [0, 1], id="where they do on the other side"),
        pytest.param({1: [2.0]}, [0, 1, 3, 4], id="by a whole number that is written otherwise"),
    ],
)
def test_a_jump_lands_behind_the_step_that_it_names(
    jumps: Mapping[int, Sequence[float | None]], visits: list[int]
) -> None:
    taken = through(steps(5), jumps)
    assert path(taken) == [f"{index} f" for index in visits]
    assert taken.state.status is RunStatus.COMPLETED


def test_history_says_which_step_was_next_and_by_what() -> None:
    taken = through(steps(2), {})
    picked = [c for c in play.commands(taken) if isinstance(c, msg.TakeEdges)][2]
    assert picked.step == "step_index#2"
    assert picked.taken == (
        msg.Taken(edge="step_index->1 f", target="1 f", saw={"step_index": 1}),  # type: ignore[arg-type]
    )
    assert picked.untaken == ()


@pytest.mark.parametrize("index", ["2", None, True, 1.5, [1]])
def test_an_index_that_is_no_integer_ends_the_run_as_failed(index: Json) -> None:
    taken = play.play(steps(3), start(), done("0 f#1", step_index=index))
    assert (taken.state.status, reason(taken)) == (RunStatus.FAILED, "no_step_index")


def test_a_run_that_begins_nowhere_fails() -> None:
    taken = play.play(steps(3), play.submitted(step_index="here"))
    assert (taken.state.status, reason(taken)) == (RunStatus.FAILED, "no_step_index")


def test_a_jump_back_without_end_ends_at_the_step_budget() -> None:
    taken = through(steps(3, limits={"steps": 10}), {2: [-1] * 100})
    assert (taken.state.status, reason(taken)) == (RunStatus.FAILED, "step_budget")
    assert len(path(taken)) == 10


def test_the_budget_counts_steps_alone() -> None:
    assert through(steps(3, limits={"steps": 3}), {}).state.status is RunStatus.COMPLETED
    assert through(steps(3, limits={"steps": 2}), {}).state.status is RunStatus.FAILED


def test_repeating_has_no_bound_but_the_budget() -> None:
    taken = through(steps(2), {1: [-1] * 499})
    assert taken.state.status is RunStatus.COMPLETED
    assert len(path(taken)) == 1000


# --- failures ---------------------------------------------------------------------------------

BAD_STATUS: dict[str, Json] = {"value": 1, "reason": "the file is gone"}


def test_a_step_that_says_it_failed_ends_the_run_with_its_reason() -> None:
    taken = play.play(steps(3), start(), done("0 f#1", status=BAD_STATUS, x=1))
    ending = taken.state.ending
    assert ending is not None
    assert (ending.status, ending.reason, ending.message, ending.step) == (
        RunStatus.FAILED,
        "status",
        "the file is gone",
        "0 f#1",
    )
    assert taken.state.variables["x"] == 1
    assert taken.state.variables["status"] == BAD_STATUS


def test_a_failure_without_words_is_told_by_its_value() -> None:
    taken = play.play(steps(3), start(), done("0 f#1", status={"value": 7}))
    assert taken.state.ending is not None
    assert taken.state.ending.message == "the status of 0 f#1 is 7"


@pytest.mark.parametrize("status", [{"value": 0, "reason": "fine"}, {"value": False}, {}, "well"])
def test_any_other_status_goes_on(status: Json) -> None:
    taken = play.play(steps(2), start(), done("0 f#1", status=status))
    assert path(taken) == ["0 f", "1 f"]


def test_an_exception_ends_the_run_with_its_reason() -> None:
    taken = play.play(steps(3), start(), play.failed("0 f#1", reason="timeout"))
    assert (taken.state.status, reason(taken)) == (RunStatus.FAILED, "timeout")


def test_without_return_on_fail_the_next_step_finds_the_status() -> None:
    graph = steps(3, return_on_fail=False)
    taken = play.play(graph, start(), done("0 f#1", status=BAD_STATUS))
    assert path(taken) == ["0 f", "1 f"]
    assert taken.state.variables["status"] == BAD_STATUS
    taken = play.play(graph, start(), play.failed("0 f#1"))
    assert path(taken) == ["0 f", "1 f"]
    assert taken.state.variables["status"] == {"value": 1, "reason": "boom"}
    taken = play.play(graph, start(), play.failed("0 f#1"), play.failed("1 f#1"), done("2 f#1"))
    assert taken.state.status is RunStatus.COMPLETED


def test_a_failure_of_a_step_that_had_lost_the_index_is_the_end_all_the_same() -> None:
    graph = steps(3, return_on_fail=False)
    taken = play.play(graph, play.submitted(step_index=0), done("0 f#1", step_index=None))
    assert reason(taken) == "no_step_index"


def test_a_step_that_dies_with_its_worker_is_tried_again_first() -> None:
    taken = play.play(steps(2, return_on_fail=False), start(), play.lost("0 f#1"))
    assert taken.state.steps[msg.StepKey("0 f#1")].attempt == 2


def test_a_step_that_is_skipped_leaves_no_failure_behind() -> None:
    graph = steps(3, return_on_fail=False)
    skip = msg.SkipRequested(at=play.NOW, step=msg.StepKey("1 f#1"), by="ada")
    taken = play.play(graph, start(), play.failed("0 f#1"), skip)
    assert path(taken) == ["0 f", "1 f", "2 f"]
    assert taken.state.variables["status"] == {"value": 0, "reason": "skipped"}


# --- what holds of all lists ------------------------------------------------------------------

INDEXES = st.none() | st.integers(-3, 8)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.lists(INDEXES, max_size=40), st.booleans(), st.data())
def test_a_run_goes_where_a_plain_interpreter_would(
    length: int, jumps: list[int | None], fail: bool, data: st.DataObject
) -> None:
    graph = steps(length, limits={"steps": 30}, return_on_fail=fail)
    events: list[msg.AnyEvent] = [start()]
    index, expected = 0, []
    outcome = "running"
    counts: dict[int, int] = {}
    for jump in jumps:
        if not 0 <= index < length:
            outcome = "completed"
            break
        if len(expected) == 30:
            outcome = "failed"
            break
        expected.append(f"{index} f")
        counts[index] = counts.get(index, 0) + 1
        key = f"{index} f#{counts[index]}"
        dies = data.draw(st.booleans()) and data.draw(st.booleans())
        if dies:
            events.append(play.failed(key))
            if fail:
                outcome = "failed"
                break
        elif jump is None:
            events.append(done(key))
        else:
            events.append(done(key, step_index=jump))
            index = jump
        index += 1
    taken = play.play(graph, *events)
    visits = path(taken)
    assert visits[: len(expected)] == expected
    if outcome != "running":
        assert visits == expected
        assert taken.state.status == outcome
    told = [entry for entry in taken.entries]  # noqa: C416  # a copy to fold
    assert play.fold(told) == taken.state


def test_lap_one_thousand_costs_what_lap_one_did() -> None:
    laps = _laps(2000, length=3)
    early, late = sum(laps[3:103]), sum(laps[-100:])
    # Numbers grow by digits, and nothing else does.
    assert late < early * 1.1


def test_a_step_of_a_long_list_leaves_no_more_history_than_one_of_a_short() -> None:
    short, long = _laps(20, length=20), _laps(20, length=1000)
    assert max(long) <= max(short)


# --- helpers ----------------------------------------------------------------------------------


def read(data: Any) -> Graph:
    found = document.read(data)
    assert isinstance(found, Graph), found
    return found


def steps(count: int, **more: Any) -> Graph:
    """A list of `f`s."""
    return read({"workflow": "w", "steps": [{"agent": "f"}] * count, **more})


def start() -> msg.RunSubmitted:
    return play.submitted(step_index=0)


def done(key: str, **patch: Json) -> msg.AttemptSucceeded:
    return play.succeeded(key, patch=patch)


def through(graph: Graph, jumps: Mapping[int, Sequence[float | None]]) -> Turn:
    """A run in which the steps at some indexes set the index, visit by visit."""
    state = State(run="r1")
    event: msg.AnyEvent = start()
    entries: tuple[msg.Entry, ...] = ()
    waiting = {index: list(values) for index, values in jumps.items()}
    while True:
        taken = play.turn(graph, state, event)
        state, entries = taken.state, entries + taken.entries
        if not state.steps:
            return Turn(state=state, entries=entries)
        (step,) = state.steps.values()
        left = waiting.get(int(step.node.partition(" ")[0]), [])
        jump = left.pop(0) if left else None
        event = done(step.key, **({} if jump is None else {"step_index": jump}))


def path(taken: Turn) -> list[str]:
    """The steps that were visited, in order."""
    keys = [key.partition("#")[0] for key in play.visited(taken)]
    return [node for node in keys if node != "step_index"]


def reason(taken: Turn) -> str | None:
    return taken.state.ending.reason if taken.state.ending else None


def _laps(laps: int, *, length: int) -> list[int]:
    """Bytes of history that each hop writes."""
    graph, state = steps(length), State(run="r1")
    event: msg.AnyEvent = start()
    found = []
    for _ in range(laps):
        taken = play.turn(graph, state, event)
        state = taken.state
        found.append(sum(len(canonical(codec.write(e.record).body)) for e in taken.entries))
        (step,) = state.steps.values()
        ends = step.node == graph.listing.steps[-1]  # type: ignore[union-attr]
        event = done(step.key, **({"step_index": -1} if ends else {}))
    return found


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"agent": "f"}, "the agent is no workflow"),
        ({"agent": "inner", "output": ["x"]}, "`output` says already what the step leaves"),
    ],
)
def test_outputs_are_renamed_of_workflows_alone(step: Any, said: str) -> None:
    other = {"agent": "inner"}
    body = {"workflow": "w", "steps": [{**step, "save": {"x": "$result.y"}}, other]}
    found = document.read({**body, "workflows": ["inner"]})
    assert isinstance(found, tuple | list)
    assert [(each.path, each.message) for each in found] == [("steps[0].save", said)]
