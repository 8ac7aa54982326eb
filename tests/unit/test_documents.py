from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import documents
from engine.core.graph import Graph
from engine.core.values import Json
from engine.errors import Invalid

WORKFLOW = """\
# A comment, which YAML may have.
workflow: demo
version: 1.2.0
inputs:
  goal: {type: string, minLength: 2}
  tries: {type: integer, default: 3}
  due: {type: string, format: date}
  code: {type: string, pattern: "^[a-z]+$", default: abc}
  tags: {type: array, items: {type: string}, default: []}
nodes:
  draft:
    uses: write
    retry: {attempts: 3, on: [timeout]}
  grade: {uses: grade, save: {score: $result.score}}
edges:
  - draft -> grade
  - {from: grade, to: draft, when: $score < 7 and $goal != 'x'}
  - grade -> end
"""

REDUCING = """\
workflow: reducing
variables:
  drafts: {type: {type: array, items: {type: string}}, reduce: append, default: []}
  cost: {type: {type: number, minimum: 0}, reduce: sum, shared: true, default: 0}
  facts: {type: object, reduce: merge}
  name: {type: string}
nodes:
  draft: {uses: write}
"""


def refused(text: str | bytes) -> str:
    with pytest.raises(Invalid) as caught:
        documents.read_text(text)
    (problem,) = caught.value.problems
    assert problem.remedy
    return problem.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: 2", "&x names a place (line 1, column 4)"),
        ("a: &x [1]", "&x names a place"),
        ("&x a: 1", "&x names a place"),
        ("a: 1\nb: *x", "*x refers to another place (line 2, column 4)"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "b.c is given twice (line 4, column 3)"),
        ("a: !!python/object/apply:os.system [ls]", "is a tag (line 1, column 4)"),
        ("a: !include x", "!include is a tag"),
        ("when: !$x", "is a tag"),
        ("a: 1\n---\nb: 2", "a second document begins (line 2, column 1)"),
        ("? [a]\n: b", "a key that is no text"),
        ("? {a: 1}\n: b", "a key that is no text"),
        ("a: [1,", "not YAML: did not find expected node content (line 2"),
        ("a: b: c", "mapping values are not allowed"),
        ("a: 'open", "not YAML"),
        ("\tb: 1", "not YAML"),
        ("a: \x07", "not YAML"),
        ("a: \x00", "NUL"),
        ("a: \ud800", "surrogate"),
        (b"a: \xff", "not UTF-8 at byte 3"),
        ("a: 99999999999999999999999", "beyond 64 bits (line 1, column 4)"),
        ("a: 1\nb: 9223372036854775808", "beyond 64 bits (line 2, column 4)"),
        ("x" * 1_048_577, "more than 1048576 bytes"),
        ("ö" * 600_000, "more than 1048576 bytes"),
        ("[" * 100_000, "deeper than 64 levels (line 1, column 65)"),
        ("- " * 100_000, "deeper than 64"),
        (
            "\n".join(" " * depth + "a:" for depth in range(70)),
            "deeper than 64 levels (line 65, column 65)",
        ),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("{a: 1}", "not JSON"),
        (b'  {"a": [' + b"[" * 100_000, "deeper than 64"),
    ],
)
def test_what_is_no_plain_data_is_refused(text: str | bytes, message: str) -> None:
    began = time.process_time()
    assert message in refused(text)
    assert time.process_time() - began < 2


def test_a_small_text_cannot_mean_a_great_deal() -> None:
    laughs = "a: &a [lol]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
    )
    assert "&a names a place" in refused(laughs)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", None),
        ("# nothing", None),
        ("[]", []),
        ("on: yes\noff: no", {"on": "yes", "off": "no"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        (
            "a: 0x1F\nb: 010\nc: 1_000\nd: +1\ne: .5",
            {"a": "0x1F", "b": "010", "c": "1_000", "d": "+1", "e": ".5"},
        ),
        ("a: .inf\nb: .nan\nc: 1e999", {"a": ".inf", "b": ".nan", "c": "1e999"}),
        ("[1, -2, 0, 1.5, -0.25, 1e3, 2E-2]", [1, -2, 0, 1.5, -0.25, 1000.0, 0.02]),
        ("[true, False, TRUE, null, ~, Null]", [True, False, True, None, None, None]),
        ("['1', \"true\", 'null', '']", ["1", "true", "null", ""]),
        ("a:\nb: ''", {"a": None, "b": ""}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("a: {b: [c, {d: e}]}", {"a": {"b": ["c", {"d": "e"}]}}),
        ("- a -> b", ["a -> b"]),
        ("<<: x", {"<<": "x"}),
        ("9223372036854775807", 2**63 - 1),
        ("größe: ≥".encode(), {"größe": "≥"}),
        (' {"a": [1, null]}', {"a": [1, None]}),
    ],
)
def test_plain_data_is_read_as_it_is_written(text: str | bytes, data: Any) -> None:
    found = documents.read_text(text)
    assert (found, str(found)) == (data, str(data))


def test_problems_have_lines() -> None:
    text = WORKFLOW.replace("attempts: 3", "atempts: 3").replace("grade -> end", "grade -> edn")
    text = text.replace("uses: write\n", "uses: write\n    title: 3\n")
    with pytest.raises(Invalid) as caught:
        documents.read_graph(text)
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        ("nodes.draft.title", "a number stands here (line 13, column 12)"),
        ("nodes.draft.retry.atempts", "there is no field `atempts` (line 14, column 22)"),
        ("edges[2]", "there is no node 'edn' (line 19, column 5)"),
    ]
    with pytest.raises(Invalid, match="the workflow has no nodes \\(line 1, column 1\\)"):
        documents.read_graph("workflow: w")
    with pytest.raises(Invalid, match="the workflow has no nodes \\(line 1, column 1\\)"):
        documents.read_graph('{"workflow": "w"}')


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"type": "strng"}, "inputs.x.type", "not a JSON Schema"),
        ({"required": True}, "inputs.x.required", "not a JSON Schema"),
        ({"pattern": "("}, "inputs.x.pattern", "not a JSON Schema"),
        ({"pattern": "(?=a)"}, "inputs.x.pattern", "not a JSON Schema"),
        ({"type": "integer", "default": "3"}, "inputs.x.default", "is not of type"),
        (
            {"type": "array", "items": {"type": "string"}, "default": ["a", 3]},
            "inputs.x.default[1]",
            "is not of type",
        ),
    ],
)
def test_the_schema_of_an_input_must_be_one(schema: Any, path: str, message: str) -> None:
    nodes: Json = {"a": {"uses": "f"}}
    inputs: Any = {"x": schema, "y": {"default": None}}
    with pytest.raises(Invalid) as caught:
        documents.graph({"workflow": "w", "inputs": inputs, "nodes": nodes})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert message in problem.message


@pytest.mark.parametrize(
    ("variable", "path", "message"),
    [
        ({"type": {"type": "strng"}}, "variables.x.type.type", "not a JSON Schema"),
        ({"type": "integer", "default": "3"}, "variables.x.default", "is not of type"),
        (
            {"type": {"items": {"type": "string"}}, "default": ["a", 3]},
            "variables.x.default[1]",
            "is not of type",
        ),
    ],
)
def test_the_type_of_a_variable_must_be_one_and_its_default_of_it(
    variable: Any, path: str, message: str
) -> None:
    nodes: Json = {"a": {"uses": "f"}}
    variables: Any = {"x": variable, "y": {"type": "array"}}
    with pytest.raises(Invalid) as caught:
        documents.graph({"workflow": "w", "variables": variables, "nodes": nodes})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert message in problem.message


@pytest.fixture(scope="module")
def reducing() -> Graph:
    return documents.read_graph(REDUCING)


@pytest.mark.parametrize(
    ("inputs", "path", "message"),
    [
        ({"drafts": "first"}, "inputs.drafts", "text cannot be added to"),
        ({"cost": True}, "inputs.cost", "true or false cannot be added to"),
        ({"cost": -1}, "inputs.cost", "less than the minimum"),
        ({"name": 3}, "inputs.name", "is not of type"),
        ({"drafts": ["a", 3]}, "inputs.drafts[1]", "is not of type"),
    ],
)
def test_variables_must_be_able_to_begin_with_what_a_run_is_given(
    reducing: Graph, inputs: dict[str, Json], path: str, message: str
) -> None:
    (problem,) = documents.input_problems(reducing, inputs)
    assert problem.path == path
    assert message in problem.message
    assert problem.remedy


def test_a_run_may_give_variables_what_they_hold_and_others_anything(reducing: Graph) -> None:
    given: dict[str, Json] = {"drafts": ["a"], "cost": 1, "name": None, "else": [1]}
    assert documents.input_problems(reducing, given) == ()


@pytest.mark.parametrize(
    ("patch", "removed", "path", "message"),
    [
        ({"cost": "1"}, (), "cost", "text cannot be added to it, its reducer is sum"),
        ({"facts": [1]}, (), "facts", "a list cannot be added to it, its reducer is merge"),
        ({"drafts": 3}, (), "drafts[0]", "is not of type"),
        ({"drafts": ["a", 3]}, (), "drafts[1]", "is not of type"),
        ({"name": None}, (), "name", "is not of type"),
        ({}, ("cost",), "cost", "cannot be deleted, its reducer is sum"),
        ({}, ("name",), "name", "is not of type"),
    ],
)
def test_a_step_must_leave_what_the_variables_can_take(
    reducing: Graph, patch: dict[str, Json], removed: tuple[str, ...], path: str, message: str
) -> None:
    (problem,) = documents.patch_problems(reducing, patch, removed, path="save")
    assert problem.path == f"save.{path}"
    assert message in problem.message
    assert problem.remedy


def test_a_step_may_add_one_entry_or_several_and_leave_anything_elsewhere(reducing: Graph) -> None:
    patch: dict[str, Json] = {"drafts": "a", "cost": 0.5, "facts": {"a": 1}, "else": None}
    assert documents.patch_problems(reducing, patch, ("nothing",)) == ()
    assert documents.patch_problems(reducing, {"drafts": ["a", "b"], "name": "x"}) == ()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return documents.read_graph(WORKFLOW)


GIVEN: dict[str, Any] = {"goal": "go", "due": "2026-12-01"}


@pytest.mark.parametrize(
    ("inputs", "path", "message"),
    [
        ({"goal": "go"}, "inputs.due", "due is missing"),
        ({**GIVEN, "goal": "x"}, "inputs.goal", "shorter than 2"),
        ({**GIVEN, "goal": None}, "inputs.goal", "is not of type"),
        ({**GIVEN, "tries": "3"}, "inputs.tries", "is not of type"),
        ({**GIVEN, "due": "soon"}, "inputs.due", 'is not a "date"'),
        ({**GIVEN, "code": "ABC"}, "inputs.code", "does not match"),
        ({**GIVEN, "tags": ["a", 1]}, "inputs.tags[1]", "is not of type"),
        ({**GIVEN, "gaol": 1}, "inputs.gaol", "no input gaol"),
        ({**GIVEN, "x": 1, "y": 2}, "inputs", "no input x, y"),
        ({**GIVEN, "goal": "\x00\x00"}, "inputs.goal", "NUL"),
    ],
)
def test_inputs_must_fit_their_schema(
    graph: Graph, inputs: dict[str, Json], path: str, message: str
) -> None:
    (problem,) = documents.input_problems(graph, inputs)
    assert problem.path == path
    assert message in problem.message


def test_a_misspelt_input_is_told_what_was_meant(graph: Graph) -> None:
    (problem,) = documents.input_problems(graph, {**GIVEN, "gaol": 1}, path="body")
    assert (problem.path, problem.remedy) == ("body.gaol", "did you mean goal?")
    (problem,) = documents.input_problems(graph, {**GIVEN, "zzz": 1})
    assert "its inputs are goal, tries" in problem.remedy


def test_defaults_stand_in_for_what_is_not_given(graph: Graph) -> None:
    assert documents.input_problems(graph, GIVEN) == ()
    assert documents.with_defaults(graph, {**GIVEN, "tries": 1}) == {
        **GIVEN,
        "tries": 1,
        "code": "abc",
        "tags": [],
    }


def test_a_workflow_without_inputs_takes_any() -> None:
    open_to_all = documents.graph({"workflow": "w", "nodes": {"a": {"uses": "f"}}})
    assert documents.input_problems(open_to_all, {"anything": [1]}) == ()
    assert documents.with_defaults(open_to_all, {"anything": [1]}) == {"anything": [1]}
    assert documents.input_problems(open_to_all, {"a": float("nan")})


def test_a_list_full_of_faults_is_not_listed_in_full(graph: Graph) -> None:
    tags: list[Json] = [1] * 10_000
    assert len(documents.input_problems(graph, {**GIVEN, "tags": tags})) == documents.MAX_PROBLEMS
    long: dict[str, Json] = {**GIVEN, "tries": "x" * 10_000}
    (problem,) = documents.input_problems(graph, long)
    assert len(problem.message) < 400


def test_strangers_patterns_take_no_time() -> None:
    data: Json = {
        "workflow": "w",
        "inputs": {"x": {"type": "string", "pattern": "^(a+)+$"}},
        "nodes": {"a": {"uses": "f"}},
    }
    began = time.process_time()
    assert documents.input_problems(documents.graph(data), {"x": "a" * 50_000 + "!"})
    assert time.process_time() - began < 2


@given(st.text(st.sampled_from("abc:-[]{}#&*!|>'\"%@` \n\t01.~?,"), max_size=40) | st.binary())
def test_whatever_is_sent_only_our_own_error_comes_of_it(text: str | bytes) -> None:
    try:
        documents.read_text(text)
    except Invalid as invalid:
        assert invalid.problems  # noqa: PT017  # most texts are refused, some are not


def test_a_long_key_is_not_written_out_for_each_value_that_lies_under_it() -> None:
    tracemalloc.start()
    data = documents.read_text(f"? {'k' * 100_000}\n:\n" + "- 1\n" * 10_000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data == {"k" * 100_000: [1] * 10_000}
    assert most < 50_000_000
