"""Workflows in memory: `celeriac.testing`."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from celeriac import Context, NodeType, ToolError, WorkflowGraph, WorkflowState, code_review, invoke
from celeriac.testing import EPOCH, Clock, Fault, Record, read, run
from engine.core import messages as msg
from engine.core.fold import evolve
from engine.core.state import State
from engine.errors import Invalid

FLAKY = """
workflow: flaky
nodes:
  work: {uses: count, retry: {attempts: 3, backoff: 1h, factor: 2, max: 12h, jitter: 0}}
edges: [work -> end]
"""
CALLING = """
workflow: calling
nodes:
  work: {uses: work, retry: {attempts: 2, backoff: 1s}}
edges: [work -> end]
"""


def count(state: WorkflowState) -> None:
    state["n"] = state.get("n", 0) + 1


def outcomes(record: Record, node: str = "work") -> list[str | None]:
    (step,) = record.visits(node)
    return [tried.reason or tried.outcome for tried in step.attempts]


def test_a_document_that_is_wrong_is_refused_with_its_lines() -> None:
    with pytest.raises(Invalid, match=r"nodes\.work.*line 3"):
        run("workflow: x\nnodes:\n  work: {used: count}\n")


def test_nothing_can_be_called_that_was_not_given() -> None:
    with pytest.raises(Invalid, match=r"Function not found: count \(pass it in functions=\)"):
        run(FLAKY)


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Invalid, match=r"inputs\.n"):
        run(
            {
                "workflow": "x",
                "inputs": {"n": {"type": "integer"}},
                "nodes": {"end": {"kind": "end"}},
            },
            {"n": "1"},
        )


def test_a_failed_attempt_is_tried_again_and_waiting_takes_no_time() -> None:
    clock, began = Clock(), time.monotonic()
    record = run(
        FLAKY,
        functions={"count": count},
        faults=[Fault(node="work", reason="timeout"), Fault(node="work", attempt=2)],
        clock=clock,
    )
    assert (record.status, record.variables) == ("completed", {"n": 1})
    assert outcomes(record) == ["timeout", "error", "succeeded"]
    assert clock.now() - EPOCH == timedelta(hours=3)
    assert time.monotonic() - began < 60


MEETING = """
workflow: meeting
nodes:
  ask: {uses: count}
  ada: {uses: count}
  bob: {uses: late, retry: {attempts: 2, backoff: 1h, max: 1h, jitter: 0}}
  meet: {uses: count, join: {timeout: 10m}}
variables: {n: {reduce: sum}}
edges:
  - {from: ask, to: [ada, bob], type: parallel}
  - {from: [ada, bob], to: meet, type: join}
"""


def test_a_join_that_waits_no_longer_goes_on_while_another_waits_to_be_tried_again() -> None:
    clock = Clock()
    functions = {"count": lambda _: None, "late": lambda _: None}
    record = run(MEETING, functions=functions, faults=[Fault(node="bob")], clock=clock)
    assert (record.status, record.path) == ("completed", ("ask", "ada", "bob", "meet"))
    assert [joined.because for joined in record.records(msg.JoinThreads)] == ["timeout"]
    assert clock.now() - EPOCH == timedelta(minutes=10)


def test_a_join_goes_on_at_its_time_while_an_attempt_takes_longer() -> None:
    clock = Clock()
    functions = {"count": lambda _: None, "late": lambda _: clock.advance(3600)}
    record = run(MEETING, functions=functions, clock=clock)
    assert (record.status, record.path) == ("completed", ("ask", "ada", "bob", "meet"))
    (at,) = [entry.at for entry in record.history if isinstance(entry.record, msg.JoinThreads)]
    assert at - EPOCH == timedelta(minutes=10)
    assert not record.visits("bob")[0].settled


def test_a_run_fails_with_the_reason_of_its_last_attempt() -> None:
    record = run(
        FLAKY,
        functions={"count": count},
        faults=[Fault(node="work", attempt=None, reason="memory", message="too much")],
    )
    assert (record.status, record.reason, record.message) == ("failed", "memory", "too much")
    assert outcomes(record) == ["memory"] * 3


def test_a_terminal_fault_is_not_tried_again() -> None:
    record = run(
        FLAKY, functions={"count": count}, faults=[Fault(node="work", terminal=True, reason="cpu")]
    )
    assert outcomes(record) == ["cpu"]
    assert record.reason == "cpu"


def test_a_worker_that_dies_after_the_effect_has_its_step_done_again() -> None:
    done: list[int] = []
    record = run(
        FLAKY,
        functions={"count": lambda _: done.append(1)},
        faults=[Fault(node="work", reason="lost", after=True)],
    )
    assert outcomes(record) == ["lost", "succeeded"]
    assert len(done) == 2


def test_a_step_that_kills_every_worker_fails_in_the_end() -> None:
    record = run(
        FLAKY, functions={"count": count}, faults=[Fault(node="work", attempt=None, reason="lost")]
    )
    assert (record.status, record.reason) == ("failed", "lost")


def test_a_function_that_takes_too_long_times_out() -> None:
    document = "workflow: slow\nnodes:\n  work: {uses: work, timeout: 1ms}\nedges: [work -> end]\n"

    async def asleep(state: WorkflowState) -> None:
        await asyncio.Event().wait()

    def busy(state: WorkflowState) -> None:
        until = time.monotonic() + 0.002
        while time.monotonic() < until:
            pass

    for slow in (asleep, busy):
        record = run(document, functions={"work": slow})
        assert (record.reason, record.message) == ("timeout", "it ran longer than 0.001 s")


def test_an_answered_call_is_not_made_again_by_the_next_attempt() -> None:
    paid: list[int] = []

    def pay(amount: int) -> dict[str, int]:
        paid.append(amount)
        return {"receipt": len(paid)}

    def work(state: WorkflowState) -> None:
        state["receipt"] = invoke("pay", 7)["receipt"]

    record = run(
        CALLING,
        functions={"work": work},
        tools={"pay": pay},
        faults=[Fault(node="work", after=True)],
    )
    assert (record.variables, paid) == ({"receipt": 1}, [7])
    assert [(call.tool, call.args, call.value) for call in record.calls] == [
        ("pay", [7], {"receipt": 1})
    ]


def test_a_step_that_calls_otherwise_in_its_second_attempt_fails_for_good() -> None:
    def work(state: WorkflowState, context: Context) -> None:
        try:
            invoke("pay", context.attempt)
        except ToolError:
            state["caught"] = True

    record = run(
        CALLING,
        functions={"work": work},
        tools={"pay": lambda amount: amount},
        faults=[Fault(node="work", after=True)],
    )
    assert (record.status, record.reason) == ("failed", "nondeterministic_call")


def test_a_tool_reaches_no_other_tool() -> None:
    def outer(context: Context) -> Any:
        return context.invoke("inner")

    document = "workflow: w\nnodes:\n  work: {kind: tool, tool: outer}\nedges: [work -> end]\n"
    record = run(document, tools={"outer": outer, "inner": dict})
    assert record.reason == "error"
    assert "a tool cannot call another tool (inner)" in str(record.message)


def test_a_tool_node_takes_inputs_and_saves_what_it_is_told_to() -> None:
    document = """
        workflow: sums
        inputs: {n: {type: integer}}
        nodes:
          work: {kind: tool, tool: add, with: {left: $n, right: 2}, save: {sum: $result.sum}}
        edges: [work -> end]
    """
    record = run(
        document, {"n": 3}, tools={"add": lambda left, right: {"sum": left + right, "more": 1}}
    )
    assert record.variables == {"n": 3, "sum": 5}


def test_an_expression_that_fails_fails_the_step_for_good() -> None:
    node = {"kind": "tool", "tool": "t", "retry": {"attempts": 3}}
    for field in ({"with": {"a": "$n.x"}}, {"save": {"a": "$n.x"}}):
        document = {
            "workflow": "w",
            "variables": {"n": {"default": 1}},
            "nodes": {"work": {**node, **field}},
            "edges": ["work -> end"],
        }
        record = run(document, tools={"t": lambda **given: given})
        assert record.reason == ("input_failed" if "with" in field else "save_failed")
        assert len(outcomes(record)) == 1


def test_values_cross_by_copy() -> None:
    kept: list[WorkflowState] = []

    def keep(state: WorkflowState) -> None:
        kept.append(state)
        state["list"].append(1)

    document = {
        "workflow": "w",
        "nodes": {"a": {"uses": "keep"}, "b": {"uses": "keep"}},
        "edges": ["a -> b -> end"],
    }
    given: dict[str, Any] = {"list": []}
    record = run(document, given, functions={"keep": keep})
    kept[0]["list"].append("late")
    assert (given, record.variables) == ({"list": []}, {"list": [1, 1]})
    assert kept[1]["list"] == [1, 1]


def test_a_deleted_variable_is_gone() -> None:
    document = {"workflow": "w", "nodes": {"a": {"uses": "drop"}}, "edges": ["a -> end"]}

    def drop(state: WorkflowState) -> None:
        del state["n"]

    assert run(document, {"n": 1, "m": 2}, functions={"drop": drop}).variables == {"m": 2}


def test_the_record_says_which_way_was_taken_and_why_not_the_others() -> None:
    document = """
        workflow: ways
        nodes:
          a: {uses: count}
          b: {uses: count}
        edges:
          - {from: a, to: b, when: $n > 5}
          - a -> end
          - b -> end
    """
    record = run(document, functions={"count": count})
    assert record.path == ("a", "end")
    (a,) = record.visits("a")
    assert (a.taken, a.untaken) == (("end",), {"a->b": "condition"})


def test_the_history_is_the_platforms_and_folds_to_the_state() -> None:
    record = run(FLAKY, functions={"count": count}, faults=[Fault(node="work")])
    assert [type(entry.record).__name__ for entry in record.history] == [
        "RunSubmitted",
        *("RequestStart", "Admitted", "AttemptFailed", "RetryStep", "Woke"),
        *("RequestStart", "Admitted", "AttemptSucceeded", "TakeEdges"),
        *("PassNode", "TakeEdges", "FinishRun"),
    ]
    state = State(run=record.state.run)
    for entry in record.history:
        state = evolve(state, entry.record)
    assert state == record.state
    assert len(record.records(msg.RetryStep)) == 1


def test_the_same_run_gives_the_same_history() -> None:
    document = FLAKY.replace("jitter: 0", "jitter: 1")
    first, second = (
        run(document, functions={"count": count}, faults=[Fault(node="work")]) for _ in range(2)
    )
    assert first.history == second.history


def test_a_workflow_may_be_a_file_or_a_graph_with_its_own_functions(tmp_path: Path) -> None:
    path = tmp_path / "flaky.yaml"
    path.write_text(FLAKY)
    assert run(path, functions={"count": count}).variables == {"n": 1}
    graph = WorkflowGraph()
    graph.add_node("work", func=count)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("work", "end")
    assert run(graph).variables == {"n": 1}
    assert run(graph, functions={"count": lambda _: {"n": "fake"}}).variables == {"n": "fake"}


def test_a_lap_costs_what_the_first_ones_did() -> None:
    def calls(laps: int) -> int:
        """Functions that are called for so many laps: work that no busy machine makes more."""
        document = {
            "workflow": "laps",
            "inputs": {"laps": {"type": "integer"}, "n": {"type": "integer", "default": 0}},
            "nodes": {"work": {"uses": "count", "max_iterations": 2000}},
            "edges": [
                {"from": "work", "to": "work", "when": "$n < $laps", "label": "loop"},
                "work -> end",
            ],
        }
        made = 0

        def note(_frame: object, event: str, _argument: object) -> None:
            nonlocal made
            made += event == "call"

        sys.setprofile(note)
        try:
            record = run(document, {"laps": laps}, functions={"count": count})
        finally:
            sys.setprofile(None)
        assert record.variables["n"] == laps
        return made

    calls(10)  # whatever is made once, and kept
    few, many = calls(100), calls(1000)
    assert many < 10 * few * 1.05


def test_a_clock_never_goes_back_and_may_run() -> None:
    still, running = Clock(), Clock.of_the_day()
    still.advance(60)
    still.until(EPOCH)
    assert still.now() == EPOCH + timedelta(minutes=1)
    before = running.now()
    running.advance(3600)
    assert running.now() >= before + timedelta(hours=1)


# --- threads --------------------------------------------------------------------------------

FORKED = """
workflow: forked
variables:
  found: {type: {type: array, items: {type: string}}, reduce: append, default: []}
  count: {type: integer, reduce: sum, shared: true, default: 0}
nodes:
  plan: {role: plan, uses: plan}
  left: {uses: look, save: {found: $result.node, count: 1}}
  right: {uses: look, save: {found: $result.node, count: 1}}
  meet: {uses: meet}
edges:
  - {from: plan, to: [left, right], type: parallel}
  - {from: [left, right], to: meet, type: join}
"""


def forked(plan: Any, **functions: Any) -> Record:
    given = {"plan": plan, "look": lambda _: {"node": "x"}, "meet": lambda _: None, **functions}
    return run(FORKED, functions=given)


@pytest.mark.parametrize("answer", [None, 3, ["left", 3], {"next": ["left"]}])
def test_a_plan_that_answers_with_no_nodes_fails(answer: Any) -> None:
    record = forked(lambda _: answer)
    assert (record.status, record.reason) == ("failed", "no_plan")
    assert "answered with no list of nodes" in (record.message or "")


def test_what_a_variable_cannot_take_fails_the_step() -> None:
    record = forked(lambda _: ["left"], look=lambda _: {"node": 3})
    assert (record.status, record.reason) == ("failed", "save_failed")
    assert "node left, found[0]: 3 is not of type" in (record.message or "")


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (["left", "right"], ("left", "right")),
        ({"next_task_names": ["right"]}, ("right",)),
        ("left", ("left",)),
        ([], ()),
    ],
)
def test_a_plan_chooses_the_nodes_that_it_answers(answer: Any, names: tuple[str, ...]) -> None:
    record = forked(lambda _: answer)
    assert record.status == "completed"
    (plan,) = record.visits("plan")
    assert (plan.choice, plan.taken) == (names, names)
    assert [step.parents for step in record.visits("meet")] == [
        tuple(f"{name}#1" for name in names) for _ in names[:1]
    ]


def test_a_step_sees_what_its_own_thread_wrote_and_what_all_share() -> None:
    saw = []

    def look(state: WorkflowState, context: Context) -> dict[str, Any]:
        saw.append((context.node, list(state["found"]), state["count"]))
        return {"node": context.node}

    def meet(state: WorkflowState) -> None:
        saw.append(("meet", list(state["found"]), state["count"]))

    record = forked(lambda _: ["right", "left"], look=look, meet=meet)
    assert saw == [("right", [], 0), ("left", [], 1), ("meet", ["right", "left"], 2)]
    assert record.variables == {"found": ["right", "left"], "count": 2}


CAREFUL = """
workflow: careful
nodes:
  ask: {uses: noop, retry: {attempts: 2, jitter: 0}}
  again: {uses: noop}
  excuse: {uses: noop}
edges:
  - ask -> end
  - {from: ask, to: again, on: error, reason: [timeout]}
  - {from: ask, to: excuse, on: error, when: $result.message != ""}
"""


@pytest.mark.parametrize(
    ("reason", "path"), [("timeout", ["ask", "again"]), ("memory", ["ask", "excuse"])]
)
def test_a_step_that_failed_for_good_takes_the_way_for_its_reason(
    reason: str, path: list[str]
) -> None:
    faults = [Fault(node="ask", attempt=None, reason=reason)]
    record = run(CAREFUL, functions={"noop": lambda _: None}, faults=faults)
    assert (record.status, list(record.path)) == ("completed", path)
    assert outcomes(record, "ask") == [reason, reason]


STARVING = """
workflow: starving
inputs: {late: {type: boolean}}
nodes:
  ask: {uses: noop}
  ada: {uses: noop}
  bob: {uses: noop}
  both: {uses: noop, join: all}
  one: {uses: noop}
edges:
  - {from: ask, to: [ada, bob], type: parallel}
  - {from: ada, to: both, type: join}
  - {from: bob, to: end, when: $late}
  - {from: bob, to: both, type: join}
  - {from: both, to: one, on: short}
"""


@pytest.mark.parametrize(("late", "last"), [(False, "both"), (True, "one")])
def test_a_join_that_is_short_of_its_demand_takes_the_way_for_that(late: bool, last: str) -> None:
    record = run(STARVING, {"late": late}, functions={"noop": lambda _: None})
    assert (record.status, record.path[-1]) == ("completed", last)
    assert ("both" in record.path) is not late


EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(("enough", "last"), [(10, "suggest"), (0, "judge")])
def test_the_example_of_threads_reviews_code_side_by_side(enough: float, last: str) -> None:
    record = run(
        EXAMPLES / "code-review-side-by-side.yaml",
        {"code": "def f(a):\n    return a * 1234\n", "good_enough": enough},
        functions=code_review.FUNCTIONS,
    )
    assert record.status == "completed", record.message
    assert {*record.visits("rate")[0].parents} == {"measure#1", "detect#1"}
    assert last in record.path[-2:]
    assert record.variables["issues"]


# --- tools whose name is worked out ---------------------------------------------------------------


CHOSEN: dict[str, Any] = {
    "workflow": "chosen",
    "inputs": {"step": {"type": "object"}},
    "nodes": {
        "call": {
            "kind": "tool",
            "tool": "$step.tool",
            "with": "$step.given",
            "save": {"answer": "$result"},
        }
    },
    "edges": ["call -> end"],
}


def test_a_tool_may_be_named_by_an_expression() -> None:
    tools = {"add": lambda left, right: left + right, "twice": lambda n: 2 * n}
    for step, answer in (
        ({"tool": "add", "given": {"left": 1, "right": 2}}, 3),
        ({"tool": "twice@1", "given": {"n": 4}}, 8),
    ):
        record = run(CHOSEN, {"step": step}, tools=tools)
        assert (record.status, record.variables["answer"]) == ("completed", answer)


@pytest.mark.parametrize(
    ("step", "reason", "message"),
    [
        ({"tool": "missing", "given": {}}, "no_such_tool", "'missing' is not registered"),
        ({"tool": 7, "given": {}}, "input_failed", "tool: 7 is not the name of a tool"),
        ({"tool": "a b", "given": {}}, "input_failed", "is not the name of a tool"),
        ({"given": {}}, "input_failed", "tool: null is not the name of a tool"),
        ({"tool": "add", "given": [1]}, "input_failed", "with: [1] is not an object"),
    ],
)
def test_a_name_that_comes_to_none_fails_the_step(
    step: dict[str, Any], reason: str, message: str
) -> None:
    record = run(CHOSEN, {"step": step}, tools={"add": print})
    assert (record.status, record.reason) == ("failed", reason)
    assert message in (record.message or "")


def test_items_of_a_map_may_each_name_their_tool() -> None:
    document = {
        "workflow": "each",
        "inputs": {"calls": {"type": "array"}},
        "nodes": {
            "all": {
                "kind": "map",
                "over": "$calls",
                "do": {"kind": "tool", "tool": "$item.tool", "with": "$item.given"},
                "save": {"answers": "$result"},
            }
        },
        "edges": ["all -> end"],
    }
    calls = [{"tool": "neg", "given": {"n": 1}}, {"tool": "twice", "given": {"n": 2}}]
    tools = {"neg": lambda n: -n, "twice": lambda n: 2 * n}
    assert run(document, {"calls": calls}, tools=tools).variables["answers"] == [-1, 4]


def test_an_expression_of_a_tool_is_checked_like_any_other() -> None:
    wrong: dict[str, Any] = {
        **CHOSEN,
        "nodes": {"call": {"kind": "tool", "tool": "$stop.tool", "with": "$("}},
    }
    with pytest.raises(Invalid) as refused:
        read(wrong)
    assert "nodes.call.with" in {problem.path for problem in refused.value.problems}
    wrong["nodes"]["call"]["with"] = "$step.given"
    with pytest.raises(Invalid) as refused:
        read(wrong)
    assert [problem.path for problem in refused.value.problems] == ["nodes.call.tool"]
