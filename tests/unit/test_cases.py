"""Tests that stand in documents: how they are read, and everything that is wrong with them."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from engine import cases, documents
from engine.cases import Answer, Answering, Fake, Sending
from engine.core import document
from engine.core.schema import document_schema
from engine.errors import Invalid

SCHEMA = jsonschema_rs.Draft202012Validator(document_schema(), offline=True)

TRIAGE: dict[str, Any] = {
    "workflow": "triage",
    "inputs": {"text": {"type": "string"}},
    "outputs": {"score": "$score"},
    "nodes": {
        "draft": {"uses": "write_draft", "save": {"draft": "$result"}},
        "grade": {"uses": "grade_draft", "save": {"score": "$result"}},
        "accept": {"kind": "approval", "from": ["role:boss"]},
        "file": {"kind": "workflow", "workflow": "file-it", "with": {}},
    },
    "edges": ["draft -> grade -> accept -> file -> end"],
}


def with_test(**test: Any) -> dict[str, Any]:
    return {**TRIAGE, "tests": {"it": {"inputs": {"text": "a"}, **test}}}


def fakes(**named: Any) -> dict[str, Any]:
    return with_test(fakes=named)


def expect(**expected: Any) -> dict[str, Any]:
    return with_test(expect=expected)


#: What stands in a document, where that is wrong, what is said, and whether the schema sees it.
WRONG: list[tuple[dict[str, Any], str, str, bool]] = [
    ({**TRIAGE, "tests": []}, "tests", "a list stands here", True),
    ({**TRIAGE, "tests": {"it": 1}}, "tests.it", "a number stands here", True),
    ({**TRIAGE, "tests": {"a\nb": {"inputs": {"text": "a"}}}}, "tests.a\nb", "does not fit", True),
    ({**TRIAGE, "tests": {"it": {}}}, "tests.it.inputs.text", "text is missing", False),
    (with_test(inputs={"text": 1}), "tests.it.inputs.text", "not of type", False),
    (with_test(expects={}), "tests.it.expects", "there is no field", True),
    (fakes(node={}), "tests.it.fakes.node", "there is no field", True),
    (
        fakes(nodes={"accept": {"returns": 1}}),
        "tests.it.fakes.nodes.accept",
        "no node 'accept' carries anything out",
        False,
    ),
    (
        fakes(functions={"grade": {"returns": 1}}),
        "tests.it.fakes.functions.grade",
        "no node calls a function 'grade'",
        False,
    ),
    (
        fakes(workflows={"file": {"returns": {}}}),
        "tests.it.fakes.workflows.file",
        "no node runs a workflow 'file'",
        False,
    ),
    (
        fakes(workflows={"file-it": {"returns": 1}}),
        "tests.it.fakes.workflows.file-it.returns",
        "a number stands here",
        False,
    ),
    (
        fakes(workflows={"file-it": {"returns": {"a b": 1}}}),
        "tests.it.fakes.workflows.file-it.returns.a b",
        "is not a name",
        False,
    ),
    (fakes(tools={"t": {}}), "tests.it.fakes.tools.t", "does not say what is answered", True),
    (fakes(tools={"t": 1}), "tests.it.fakes.tools.t", "a number stands here", True),
    (
        fakes(tools={"t": {"returns": 1, "fails": "error"}}),
        "tests.it.fakes.tools.t",
        "says twice",
        True,
    ),
    (
        fakes(tools={"t": {"fails": "eror"}}),
        "tests.it.fakes.tools.t.fails",
        "there is no fails 'eror'",
        True,
    ),
    (
        fakes(tools={"t": {"returns": 1, "message": "m"}}),
        "tests.it.fakes.tools.t.message",
        "it says why something fails",
        False,
    ),
    (
        fakes(tools={"t": {"each": [], "returns": 1}}),
        "tests.it.fakes.tools.t.returns",
        "each call has an answer of its own",
        True,
    ),
    (
        fakes(tools={"t": {"each": []}}),
        "tests.it.fakes.tools.t.each",
        "a list stands here",
        True,
    ),
    (
        fakes(tools={"t": {"each": [{"each": []}]}}),
        "tests.it.fakes.tools.t.each[0].each",
        "there is no field `each`",
        True,
    ),
    (
        fakes(tools={"t": {"returns": 1, "used": {"Cost": 1}}}),
        "tests.it.fakes.tools.t.used.Cost",
        "is not a name",
        True,
    ),
    (with_test(acts={}), "tests.it.acts", "an object stands here", True),
    (with_test(acts=[1]), "tests.it.acts[0]", "a number stands here", True),
    (with_test(acts=[{}]), "tests.it.acts[0]", "does not say what is done", True),
    (
        with_test(acts=[{"answer": "accept", "send": "x"}]),
        "tests.it.acts[0]",
        "these are two acts",
        True,
    ),
    (
        with_test(acts=[{"answer": "draft"}]),
        "tests.it.acts[0].answer",
        "no node 'draft' asks anybody",
        False,
    ),
    (
        with_test(acts=[{"send": "x", "at": "nowhere"}]),
        "tests.it.acts[0].at",
        "no node 'nowhere' is there",
        False,
    ),
    (
        with_test(acts=[{"send": "x", "after": "soon"}]),
        "tests.it.acts[0].after",
        "does not fit",
        True,
    ),
    (
        with_test(acts=[{"answer": "accept", "roles": [1]}]),
        "tests.it.acts[0].roles[0]",
        "a number stands here",
        True,
    ),
    (expect(state="x"), "tests.it.expect.state", "there is no field", True),
    (expect(status="complete"), "tests.it.expect.status", "there is no status", True),
    (
        expect(status="completed", error="timeout"),
        "tests.it.expect.error",
        "a run that is completed has none",
        False,
    ),
    (expect(message=""), "tests.it.expect.message", "text stands here", True),
    (expect(outputs={"scor": 1}), "tests.it.expect.outputs.scor", "no output 'scor'", False),
    (expect(path=["draf"]), "tests.it.expect.path[0]", "there is no node 'draf'", False),
    (expect(path="draft"), "tests.it.expect.path", "text stands here", True),
    (expect(visits={"draf": 1}), "tests.it.expect.visits.draf", "there is no node", False),
    (expect(visits={"draft": -1}), "tests.it.expect.visits.draft", "out of bounds", True),
    (expect(calls={"t": "x"}), "tests.it.expect.calls.t", "does not fit", True),
    (expect(that=["$("]), "tests.it.expect.that[0]", "no name follows $", False),
    (expect(that=["$output.x"]), "tests.it.expect.that[0]", "$output is nothing", False),
    (expect(that=[1]), "tests.it.expect.that[0]", "a number stands here", True),
]


@pytest.mark.parametrize(
    ("body", "path", "message", "seen"), WRONG, ids=[f"{one[1]}: {one[2]}" for one in WRONG]
)
def test_what_is_wrong_is_told_with_its_place(body, path, message, seen):
    with pytest.raises(Invalid) as raised:
        documents.graph(body)

    told = {problem.path: problem.message for problem in raised.value.problems}
    assert path in told
    assert message in told[path]
    assert SCHEMA.is_valid(body) is not seen


def test_a_place_in_a_text_has_its_line():
    text = "workflow: a\nnodes: {b: {uses: f}}\ntests:\n  it:\n    expect: {visits: {c: 1}}\n"

    with pytest.raises(Invalid) as raised:
        documents.read_graph(text)

    assert "(line 5, column 26)" in raised.value.problems[0].message


def test_there_are_only_so_many():
    tests = {f"{number}": {"inputs": {"text": "a"}} for number in range(201)}

    with pytest.raises(Invalid, match="201 tests"):
        documents.graph({**TRIAGE, "tests": tests})


def test_what_is_right_is_read_and_of_the_schema():
    body = with_test(
        fakes={
            "functions": {"write_draft": {"returns": {"a": 1}, "used": {"cost_usd": 0.5}}},
            "nodes": {"grade": {"each": [{"returns": 3}, {"fails": "timeout", "message": "m"}]}},
            "workflows": {"file-it": {"returns": {"number": 7}}},
        },
        acts=[
            {
                "answer": "accept",
                "choice": "approve",
                "by": "ada",
                "roles": ["boss"],
                "after": "1m",
            },
            {"send": "paid", "payload": 1, "match": {"order": 7}, "at": "accept"},
        ],
        expect={"error": "timeout", "path": ["draft"], "that": ["$used.cost_usd < 1"]},
    )

    (case,), problems = cases.read(documents.graph(body))

    assert SCHEMA.is_valid(body)
    assert problems == ()
    assert case.functions["write_draft"] == Fake(
        answers=(Answer(returns={"a": 1}, used={"cost_usd": 0.5}),), always=True
    )
    assert case.nodes["grade"].answers[1] == Answer(fails="timeout", message="m")
    assert case.acts == (
        Answering(node="accept", choice="approve", by="ada", roles=("boss",), after=60.0),
        Sending(name="paid", payload=1, match={"order": 7}, at="accept"),
    )
    assert case.expected.status == "failed"


def test_another_test_is_another_document_and_the_same_nodes():
    one, other = documents.graph(TRIAGE), documents.graph(with_test())

    assert document.write(other)["tests"] == {"it": {"inputs": {"text": "a"}}}
    assert document.write(one) != document.write(other)
    assert (one.nodes, one.edges) == (other.nodes, other.edges)
