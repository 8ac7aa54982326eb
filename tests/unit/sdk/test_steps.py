"""Step lists in memory: control flow that only agents know of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac import agents
from celeriac.testing import Fault, Record, run
from tests.support.services import ROOT

LOOP_TEST = ROOT / "examples" / "loop-test.yaml"


def play(steps: list[dict[str, Any]], tape: dict[str, Any] | None = None, **more: Any) -> Record:
    """A run of a list, with the library's agents and others."""
    document = {"workflow": "w", "steps": steps, **more}
    return run(document, tape or {}, functions={**agents.FUNCTIONS, **OWN})


def visits(record: Record) -> list[int]:
    """The indexes of the steps that were visited, in order."""
    return [int(node.partition(" ")[0]) for node in record.path if node != "step_index"]


def goto(label: str, labels: dict[str, int]) -> dict[str, int]:
    """Somebody's own way to jump: to where a label stands."""
    return {"step_index": labels[label] - 1}


def while_(holds: object, behind: int, step_index: int, output: list[str]) -> dict[str, Any]:
    """Somebody's own loop: the step that it stands at, or the one behind it all."""
    return {output[0]: step_index} if holds else {"step_index": behind - 1}


def again(start: int) -> dict[str, int]:
    return {"step_index": start - 1}


def fail(reason: str = "no") -> Any:
    return "half done", {"status": {"value": 1, "reason": reason}}


def crash() -> None:
    raise ValueError("it broke")


async def later(n: int) -> int:
    return n + 1


OWN = {"goto": goto, "while": while_, "again": again, "fail": fail, "crash": crash, "later": later}


# --- failures ---------------------------------------------------------------------------------


def test_the_first_step_that_fails_ends_the_run_with_its_reason() -> None:
    steps = [{"agent": "fail", "params": {"reason": "disk full"}, "output": ["x"]}, echo("y", 1)]
    record = play(steps)
    assert (record.status, record.reason, record.message) == ("failed", "status", "disk full")
    assert record.variables["x"] == "half done"
    assert visits(record) == [0]


def test_an_error_of_a_step_is_its_reason() -> None:
    record = play([{"agent": "crash"}, echo("y", 1)])
    assert (record.status, record.reason) == ("failed", "error")
    assert "ValueError: it broke" in str(record.message)


@pytest.mark.parametrize("agent", ["fail", "crash"])
def test_the_next_step_can_read_how_the_last_one_ended(agent: str) -> None:
    steps = [{"agent": agent}, echo("how", "$status.value"), echo("now", "$status.value")]
    record = play(steps, return_on_fail=False)
    assert record.status == "completed"
    assert (record.variables["how"], record.variables["now"]) == (1, 0)


def test_what_leads_away_from_a_failure_is_a_step_as_any_other() -> None:
    steps = [
        {"agent": "crash"},
        {"agent": "jump_if", "params": {"condition": "$status.value", "to": 3}},
        echo("went", "well"),
        echo("end", True),
    ]
    assert visits(play(steps, return_on_fail=False)) == [0, 1, 3]


def test_a_param_that_has_no_value_fails_its_step() -> None:
    record = play([echo("x", "$text + 1")], {"text": "t"})
    assert record.reason == "input_failed"
    assert "params.input" in str(record.message)


def test_a_param_that_the_agent_does_not_take_fails_its_step() -> None:
    record = play([{"agent": "jump", "params": {"too": 3}}])
    assert record.reason == "error"
    assert "too" in str(record.message)


@pytest.mark.parametrize("index", ["2", None, 1.5, True])
def test_an_index_that_is_no_integer_is_refused_where_it_is_left(index: Any) -> None:
    record = play([echo("step_index", index), echo("x", 1)])
    assert record.reason == "save_failed"
    assert "step_index" in str(record.message)


def test_a_step_whose_worker_dies_is_carried_out_again() -> None:
    steps = [echo("x", "$x + 1")]
    given = {"workflow": "w", "steps": steps}
    record = run(
        given, {"x": 1}, functions=agents.FUNCTIONS, faults=[Fault(node="0 echo", reason="lost")]
    )
    assert (record.status, record.variables["x"]) == ("completed", 2)


# --- the tape ---------------------------------------------------------------------------------


def echo(name: str, value: Any) -> dict[str, Any]:
    return {"agent": "echo", "params": {"input": value}, "output": [name]}


def test_an_input_is_on_the_tape_and_what_is_left_there_later_counts() -> None:
    # A counter that comes as an input must advance.
    steps = [
        echo("counter", "$counter + 1"),
        {"agent": "jump_if", "params": {"condition": "$counter < 5", "to": 0}},
    ]
    record = play(steps, {"counter": 0}, inputs={"counter": {"type": "integer"}})
    assert (record.status, record.variables["counter"]) == ("completed", 5)


def test_params_come_before_the_tape() -> None:
    steps = [{"agent": "while", "params": {"holds": "$behind", "behind": 7}, "output": ["x"]}]
    steps[0]["params"] |= {"step_index": "$behind"}
    record = play(steps, {"behind": 0})
    assert record.variables["x"] == 7


def test_a_value_keeps_its_type_and_a_dollar_is_written_twice() -> None:
    record = play([echo("x", {"n": "$n", "price": "$$5", "big": "$n > 1"})], {"n": [1, None]})
    assert record.reason == "input_failed"
    record = play([echo("x", {"n": "$n", "price": "$$5", "big": "$n > 1"})], {"n": 2})
    # An object is left by its keys.
    assert {name: record.variables[name] for name in ("n", "price", "big")} == {
        "n": 2,
        "price": "$5",
        "big": True,
    }


def test_an_agent_may_be_asynchronous() -> None:
    steps = [{"agent": "later", "params": {"n": 1}, "output": ["n"]}]
    assert play(steps).variables["n"] == 2


# --- jumps ------------------------------------------------------------------------------------


def test_the_published_loop_gives_the_published_outputs() -> None:
    record = run(LOOP_TEST, {"loop_max": 3}, functions=agents.FUNCTIONS)
    assert record.status == "completed"
    assert visits(record) == [0, 1, 2, 1, 2, 1, 2]
    assert len(record.visits("1 echo")) == 3
    assert record.variables["loop_idx_1"] == 3
    assert record.variables["loop_start_1"] == 0
    assert record.variables["said"] == 2


def test_a_loop_within_a_loop() -> None:
    def begin(name: str, most: int) -> dict[str, Any]:
        params = {"step_index": "$step_index", "loop_max": most}
        return {
            "agent": "loop_start",
            "params": params,
            "output": [f"{name}_at", f"{name}_most", name],
        }

    def end(name: str) -> dict[str, Any]:
        params = {
            "step_index": f"${name}_at",
            "loop_max": f"${name}_most",
            "loop_index": f"${name}",
        }
        return {"agent": "loop_end", "params": params, "output": [name]}

    body = echo("said", "$said + [[$i, $j]]")
    steps = [begin("i", 2), begin("j", 3), body, end("j"), end("i")]
    record = play(steps, {"said": []})
    assert record.variables["said"] == [[i, j] for i in range(2) for j in range(3)]


def test_a_jump_forward_leaves_out() -> None:
    assert visits(play([{"agent": "jump", "params": {"to": 2}}, echo("x", 1), echo("y", 2)])) == [
        0,
        2,
    ]


def test_a_jump_back_repeats() -> None:
    steps = [
        echo("n", "$n + 1"),
        {"agent": "jump_if", "params": {"condition": "$n < 3", "to": 0}},
    ]
    assert visits(play(steps, {"n": 0})) == [0, 1, 0, 1, 0, 1]


def test_a_goto_that_somebody_wrote() -> None:
    labels = {"there": 3}
    steps = [
        {"agent": "goto", "params": {"label": "there", "labels": labels}},
        echo("x", 1),
        echo("y", 1),
        echo("z", 1),
    ]
    assert visits(play(steps)) == [0, 3]


def test_a_while_that_somebody_wrote() -> None:
    steps = [
        {
            "agent": "while",
            "params": {"holds": "$n < 3", "behind": 3, "step_index": "$step_index"},
            "output": ["top"],
        },
        echo("n", "$n + 1"),
        {"agent": "again", "params": {"start": "$top"}},
    ]
    record = play(steps, {"n": 0})
    assert visits(record) == [0, 1, 2] * 3 + [0]
    assert record.variables["n"] == 3
    assert visits(play(steps, {"n": 7})) == [0]


def test_a_jump_back_for_ever_ends_at_the_step_budget() -> None:
    record = play([{"agent": "jump", "params": {"to": 0}}], limits={"steps": 25})
    assert (record.status, record.reason) == ("failed", "step_budget")
    assert len(visits(record)) == 25


@pytest.mark.parametrize(("n", "turns"), [(1, 0), (6, 8), (27, 111)])
def test_collatz_is_a_list_of_steps(n: int, turns: int) -> None:
    steps = [
        {"agent": "jump_if", "params": {"condition": "$n == 1", "to": 99}},
        echo("turns", "$turns + 1"),
        {"agent": "jump_if", "params": {"condition": "$n % 2 == 0", "to": 5}},
        echo("n", "$(3 * $n + 1)"),
        {"agent": "jump", "params": {"to": 0}},
        echo("n", "$n / 2"),
        {"agent": "jump", "params": {"to": 0}},
    ]
    record = play(steps, {"n": n, "turns": 0})
    assert (record.status, record.variables["turns"], record.variables["n"]) == (
        "completed",
        turns,
        1,
    )


def test_nothing_that_carries_lists_out_knows_of_repetition() -> None:
    for place in (
        "engine/core/listing.py",
        "engine/core/tape.py",
        "engine/core/document/steps.py",
        "workers/kinds/proc.py",
        "workers/sandbox/inside/procs.py",
    ):
        text = Path(ROOT / place).read_text().lower()
        assert "loop" not in text, place
