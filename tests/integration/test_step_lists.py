"""Step lists by the worker's own code, with a real sandbox and a real database."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from sqlalchemy import text

from engine import documents
from engine.errors import Invalid
from engine.runs import control, diagrams, doctor, libraries, sweep, turns, views
from engine.store import session
from tests.support.hands import carry_out, through
from tests.support.platforms import TENANT, lose_leases, publish, register, submit, take
from tests.support.services import ROOT
from workers.execution import execute

LOOP_TEST = documents.read_text((ROOT / "examples" / "loop-test.yaml").read_bytes())


@pytest.fixture
def main(main):
    libraries.install(main.database, TENANT)
    return main


def listed(*steps, **more):
    return {"workflow": "w", "steps": list(steps), **more}


def proc(main, name, source):
    register(main, name, source)
    return {"agent": name}


def visits(main, run):
    """The steps that were begun, in order."""
    with session.transaction(main.database) as connection:
        rows = connection.execute(
            text(
                "SELECT body FROM history WHERE kind = 'RequestStart' AND run_id = :run ORDER BY seq"
            ),
            {"run": run.run},
        ).all()
    bodies = [row.body if isinstance(row.body, dict) else json.loads(row.body) for row in rows]
    return [body["step"] for body in bodies]


# --- sad paths ------------------------------------------------------------------------------


def test_a_list_that_names_an_agent_that_is_not_there_is_not_published(main):
    with pytest.raises(Invalid) as caught:
        publish(main, listed({"agent": "echo"}, {"agent": "nobody@2"}))
    (problem,) = caught.value.problems
    assert asdict(problem) == {
        "path": "steps[1].agent",
        "message": "Function not found: nobody@2",
        "remedy": "register the function first, or correct its name",
    }


FAILS = "def f(output):\n    return {'x': 1}, {'status': {'value': 1, 'reason': 'disk full'}}"


def test_the_first_step_that_fails_ends_the_run_with_its_reason(main, worker):
    fails = proc(main, "f", FAILS)
    run = submit(main, publish(main, listed(fails, {"agent": "echo", "params": {"input": 1}})))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason, ended.message) == ("failed", "status", "disk full")
    assert ended.variables["x"] == 1
    assert visits(main, run) == ["0 f#1"]
    assert doctor.examine(main.database) == ()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (FAILS, "disk full"),
        ("def f():\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def f():\n    return {1}", "set"),
        ("def f():\n    return {'step_index': 'here'}", "step_index"),
        ("def f():\n    return 'x', {'status': 'failed'}", "status"),
        ("def f(missing):\n    return 1", "missing"),
        ("def f():\n    return {f'k{n}': n for n in range(30_000)}", "262144"),
    ],
)
def test_without_return_on_fail_the_next_step_reads_why(main, worker, source, reason):
    after = {"agent": "echo", "params": {"input": "$status.reason"}, "output": ["why"]}
    document = listed(proc(main, "f", source), after, return_on_fail=False)
    run = submit(main, publish(main, document))
    ended = carry_out(main, worker, run)
    assert ended.status == "completed", ended.message
    assert reason in ended.variables["why"]
    assert ended.variables["status"] == {"value": 0, "reason": ""}
    assert doctor.examine(main.database) == ()


def test_a_jump_back_for_ever_ends_at_the_step_budget(main, worker):
    back = {"agent": "jump", "params": {"to": 0}}
    run = submit(main, publish(main, listed(back, limits={"steps": 5})))
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.reason) == ("failed", "step_budget")
    assert len(visits(main, run)) == 5


def test_a_list_is_a_value_and_a_tuple_says_how_it_ended(main, worker):
    steps = [
        {**proc(main, name, f"def {name}():\n    return {value}"), "output": [name]}
        for name, value in [
            ("one", "[1, {'status': {'value': 1}}]"),
            ("two", "(2, {'status': {'value': 0, 'reason': 'fine'}})"),
            ("three", "(3, 4)"),
        ]
    ]
    seen = {"agent": "echo", "params": {"input": "$status.reason"}, "output": ["seen"]}
    run = submit(main, publish(main, listed(steps[0], steps[1], seen, steps[2])))
    ended = carry_out(main, worker, run)
    assert ended.status == "completed", ended.message
    told = {name: ended.variables[name] for name in ("one", "two", "three", "seen")}
    assert told == {"one": [1, {"status": {"value": 1}}], "two": 2, "three": [3, 4], "seen": "fine"}


def test_a_step_whose_worker_dies_is_carried_out_again(main, worker, settings):
    step = {"agent": "echo", "params": {"input": "$n + 1"}, "output": ["n"]}
    run = submit(main, publish(main, listed(step)), n=1)
    take(worker.platform, run, "0 echo#1")
    lose_leases(settings)
    sweep.sweep(main)
    turns.take_turns(main, [run])
    ended = carry_out(main, worker, run)
    assert (ended.status, ended.variables["n"]) == ("completed", 2)


# --- the way through ------------------------------------------------------------------------


def test_the_published_loop_gives_the_published_outputs(main, worker):
    run = submit(main, publish(main, LOOP_TEST), loop_max=3)
    ended = carry_out(main, worker, run)
    assert ended.status == "completed", ended.message
    outputs = documents.graph(LOOP_TEST).outputs
    told = {name: template.evaluate(ended.variables) for name, template in outputs.items()}
    assert told == {"loop_idx_1": 3}
    assert visits(main, run) == [
        "0 loop_start#1",
        *(f"{step}#{lap}" for lap in (1, 2, 3) for step in ("1 echo", "2 loop_end")),
    ]
    assert doctor.examine(main.database) == ()
    drawn = diagrams.of_run(main, run, "mermaid")
    assert "1 echo" in drawn
    for notation in ("svg", "dot"):
        assert "loop_end" in diagrams.of_run(main, run, notation)


def test_two_runs_of_a_list_never_share_a_tape(main, worker):
    version = publish(main, LOOP_TEST)
    few, many = (submit(main, version, loop_max=laps) for laps in (1, 2))
    hints = main.broker.hints
    while hints:  # one step of each in turn
        hint = hints.pop(0)
        execute(worker, hint.step)
        turns.take_turns(main, [few, many])
    told = [views.run(main, run).variables["loop_idx_1"] for run in (few, many)]
    assert told == [1, 2]


def test_an_agent_is_pinned_when_the_run_is_submitted(main, worker):
    step = {**proc(main, "f", "def f():\n    return 'old'"), "output": ["x"]}
    wait = {"agent": "echo", "params": {"input": 1}}
    run = submit(main, publish(main, listed(wait, step)))
    register(main, "f", "def f():\n    return 'new'")
    assert carry_out(main, worker, run).variables["x"] == "old"


def test_a_list_goes_on_after_a_step_that_somebody_skipped(main, worker):
    step = {"agent": "echo", "params": {"input": 1}, "output": ["x"]}
    run = submit(main, publish(main, listed(step, step | {"output": ["y"]})))
    control.skip(main, run, "0 echo#1", by="ada")
    turns.take_turns(main, [run])
    ended = carry_out(main, worker, run)
    assert ended.status == "completed"
    assert "x" not in ended.variables
    assert ended.variables["y"] == 1


# --- agents that are workflows ----------------------------------------------------------------


def shouting(**more):
    step = {"agent": "echo", "params": {"input": "$word"}, "output": ["said"]}
    return listed(step, workflow="shout", inputs={"word": {"type": "string"}}, **more)


def calling(*steps, **more):
    return listed(*steps, inputs={"word": {"type": "string"}}, **more) | {"workflow": "outer"}


SHOUT = {"agent": "shout", "params": {"word": "$word"}, "output": ["said"]}


def test_an_agent_that_is_a_workflow_gives_its_outputs_and_nothing_else_of_its_tape(main, worker):
    publish(main, shouting(outputs={"said": "$said"}))
    again = {"agent": "echo", "params": {"input": "$said"}, "output": ["again"]}
    version = publish(main, calling(SHOUT, again, outputs={"again": "$again"}))
    detail = through(main, worker, submit(main, version, word="hi"))
    assert detail.status == "completed", detail.message
    assert detail.variables == {
        "word": "hi",
        "said": "hi",
        "again": "hi",
        "status": {"value": 0, "reason": ""},
        "step_index": 2,
    }


def test_a_workflow_without_outputs_leaves_the_tape_that_calls_it_as_it_was(main, worker):
    publish(main, shouting())
    version = publish(main, calling(SHOUT))
    detail = through(main, worker, submit(main, version, word="hi"))
    assert detail.status == "completed", detail.message
    assert detail.variables["step_index"] == 1
    assert "said" not in detail.variables


def test_a_workflow_that_fails_is_a_step_that_fails(main, worker):
    publish(main, shouting() | {"steps": [proc(main, "fall", "def fall():\n    1 / 0")]})
    version = publish(main, calling(SHOUT, return_on_fail=False))
    detail = through(main, worker, submit(main, version, word="hi"))
    assert detail.status == "completed"
    assert detail.variables["status"]["value"] == 1
    assert "ZeroDivisionError" in detail.variables["status"]["reason"]


def test_a_list_that_calls_itself_for_ever_ends_where_runs_lie_too_deep(main, worker):
    publish(main, shouting())
    publish(main, shouting() | {"steps": [SHOUT], "workflows": ["shout"]})
    version = publish(main, calling(SHOUT))
    detail = through(main, worker, submit(main, version, word="hi"))
    assert (detail.status, detail.reason) == ("failed", "child_failed")
    assert "21 runs deep" in detail.message or "child_failed" in detail.message


def test_an_agent_that_is_no_workflow_is_not_said_to_be_one(main):
    with pytest.raises(Invalid, match="workflows"):
        publish(main, calling(SHOUT, workflows=["nobody"]))
