"""One node alone, what stands in the place of nodes, and what tests make up."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.testing import Answered, Fakes, Fault, node, run
from engine.errors import Invalid

TRIAGE = """
workflow: triage
inputs: {text: {type: string}}
variables: {drafts: {type: array, reduce: append, default: []}, score: {}}
outputs: {score: $score}
nodes:
  begin: {kind: start}
  draft: {uses: write, with: {tone: kind}, retry: {attempts: 2, backoff: 1h}, save: {drafts: $result}}
  grade: {kind: llm, service: gpt, prompt: "{{ drafts }}", save: {score: $result.content}}
  choose: {uses: weigh, choose: is_good}
  each: {kind: map, over: $drafts, do: send}
  accept: {kind: approval}
edges:
  - begin -> draft -> grade -> choose
  - {from: choose, to: draft, label: "false"}
  - {from: choose, to: accept, label: "true"}
  - accept -> each -> end
"""

JOINED = """
workflow: joined
nodes: {a: {kind: pass}, b: {uses: f}, c: {uses: f}, d: {kind: approval, join: all}}
edges:
  - {from: a, to: b, type: parallel}
  - {from: a, to: c, type: parallel}
  - {from: b, to: d, type: join}
  - {from: c, to: d, type: join}
"""


def write(state: Any) -> str:
    return f"{state['tone']}: {state['text']}"


def test_a_node_that_is_not_there_is_named():
    with pytest.raises(Invalid, match="did you mean draft"):
        node(TRIAGE, "drafts")


def test_what_a_node_alone_names_must_be_given():
    with pytest.raises(Invalid, match="Function not found: write"):
        node(TRIAGE, "draft")


def test_a_node_alone_has_its_inputs_its_retries_and_its_save():
    record = node(
        TRIAGE, "draft", {"text": "late"}, functions={"write": write}, faults=[Fault(node="draft")]
    )

    assert record.status == "completed"
    assert record.path == ("draft",)
    assert record.variables["drafts"] == ["kind: late"]
    assert [tried.outcome for tried in record.visits("draft")[0].attempts] == [
        "failed",
        "succeeded",
    ]


def test_a_node_alone_that_fails_says_why():
    record = node(
        TRIAGE, "draft", functions={"write": write}, faults=[Fault(node="draft", attempt=None)]
    )

    assert (record.status, record.reason) == ("failed", "error")


def test_a_node_alone_neither_chooses_nor_joins():
    chosen = node(TRIAGE, "choose", functions={"weigh": lambda _: 1})
    joined = node(JOINED, "d", acts=[Answered("d", "approve")])

    assert (chosen.status, joined.status) == ("completed", "completed")
    assert joined.visits("d")[0].result["choice"] == "approve"  # type: ignore[index,call-overload]


def test_a_step_of_a_list_runs_alone():
    steps = {
        "workflow": "a",
        "steps": [{"agent": "f"}, {"agent": "g", "params": {"n": "$n"}, "output": ["m"]}],
    }

    record = node(steps, "1 g", {"n": 2}, functions={"g": lambda n: n + 1})

    assert record.variables["m"] == 3


def test_what_stands_for_nodes_needs_none_of_what_they_name():
    seen: list[Any] = []

    def sent(state: Any, context: Any) -> None:
        seen.append(state["item"])
        context.use(cost_usd=0.5)

    record = run(
        TRIAGE,
        {"text": "late"},
        nodes={
            "draft": write,
            "grade": lambda _state: {"content": 9},
            "choose": lambda _state: None,
            "each/item": sent,
        },
        functions={"is_good": lambda state: state["score"] > 7},
        acts=[Answered("accept", "approve")],
    )

    assert record.outputs == {"score": 9}
    assert record.path == (
        "begin",
        "draft",
        "grade",
        "choose",
        "accept",
        "each",
        "each/item",
        "end",
    )
    assert seen == ["kind: late"]
    assert record.used == {"cost_usd": 0.5}


def test_what_chooses_after_a_node_must_be_given_whatever_stands_for_the_node():
    with pytest.raises(Invalid, match="Function not found: is_good"):
        run(
            TRIAGE,
            {"text": "a"},
            nodes=dict.fromkeys(["draft", "grade", "choose", "each/item"], write),
        )


def test_tools_that_are_made_up_answer_in_turn_and_remember_their_calls():
    tools = Fakes()
    tools.returns("gpt", {"content": 3}, {"content": 4})
    tools.fails("mail", "timeout", "no post today")

    def ask(state: Any, context: Any) -> None:
        state["scores"] = [context.invoke("gpt", n=n)["content"] for n in (1, 2)]

    def post(state: Any, context: Any) -> None:
        context.invoke("mail", "now")

    document = "workflow: a\nnodes: {b: {uses: ask}, c: {uses: post}}\nedges: [b -> c]\n"
    record = run(document, functions={"ask": ask, "post": post}, tools=tools)

    assert record.variables["scores"] == [3, 4]
    assert "no post today" in str(record.message)
    assert tools.calls("gpt") == [((), {"n": 1}), ((), {"n": 2})]
    assert tools.calls("mail") == [(("now",), {})]


def test_a_tool_without_answers_left_fails_and_one_with_none_is_refused():
    tools = Fakes()
    tools.returns("gpt", 1, 2)

    def ask(state: Any, context: Any) -> None:
        for _ in range(3):
            context.invoke("gpt")

    record = run("workflow: a\nnodes: {b: {uses: ask}}\n", functions={"ask": ask}, tools=tools)

    assert "gpt is called 3 times" in str(record.message)
    with pytest.raises(TypeError, match="say what gpt returns"):
        tools.returns("gpt")
