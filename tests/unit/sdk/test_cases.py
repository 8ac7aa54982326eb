"""Running the tests of documents: what passes, what differs, what cannot be run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.agents import echo
from celeriac.testing import suites
from celeriac.testing.cases import Checked
from celeriac.testing.expectations import Difference
from celeriac.testing.supplies import Given, Installed, Platform
from celeriac.testing.walls import Walls
from engine import documents
from engine.core import document
from engine.errors import Invalid
from tests.support.services import ROOT

#: Grades until a draft is good, and then asks somebody.
TRIAGE = """
workflow: triage
inputs: {text: {type: string}}
variables: {draft: {}, score: {}}
outputs: {score: $score}
nodes:
  draft: {uses: write_draft, retry: {attempts: 2, backoff: 1h}, save: {draft: $result}}
  grade: {uses: grade_draft, save: {score: $result}}
  accept: {kind: approval, from: [role:boss], expires: 3d}
  mail: {kind: tool, tool: mail.send, with: {text: $draft, key: $env.KEY}}
edges:
  - draft -> grade
  - {from: grade, to: draft, when: $score < 7, label: loop}
  - grade -> accept -> mail -> end
tests:
  it:
    inputs: {text: late}
"""
FAKES: dict[str, Any] = {
    "functions": {
        "write_draft": {"returns": "We are sorry.", "used": {"cost_usd": 0.02}},
        "grade_draft": {"each": [{"returns": 3}, {"returns": 9}]},
    },
    "tools": {"mail.send": {"returns": True}},
}
APPROVED = [{"answer": "accept", "choice": "approve", "by": "ada", "roles": ["boss"]}]


#: Started by the first test that needs it, and proved once.
WALLS = Walls()


@pytest.fixture(scope="module", autouse=True)
def _walls():
    with WALLS:
        yield


def check(text: str = TRIAGE, *, sources: dict[str, str] | None = None, **test: Any) -> Checked:
    """The only test of a document, with more in it."""
    body: Any = documents.read_text(text)
    body["tests"]["it"] |= test
    suite = suites.Suite(graph=documents.graph(body), sources=sources or {})
    (found,) = suites.run(suite, WALLS, Installed())
    return found


def differences(**expected: Any) -> list[Difference]:
    found = check(fakes=FAKES, acts=APPROVED, expect=expected)
    assert found.outcome == ("failed" if found.differences else "passed")
    return list(found.differences)


@pytest.mark.parametrize(
    ("expected", "field", "was"),
    [
        ({"status": "running"}, "status", "completed"),
        ({"error": "timeout"}, "error", "null"),
        ({"message": "no"}, "message", '""'),
        ({"outputs": {"score": 8}}, "outputs.score", "9"),
        ({"outputs": {"score": True}}, "outputs.score", "9"),
        ({"variables": {"draft": "Sorry."}}, "variables.draft", '"We are sorry."'),
        ({"variables": {"other": None}}, "variables.other", "nothing"),
        (
            {"path": ["draft", "grade"]},
            "path",
            "draft → grade → draft → grade → accept → mail → end",
        ),
        ({"visits": {"draft": 1}}, "visits.draft", "2"),
        ({"visits": {"mail": 0}}, "visits.mail", "1"),
        ({"calls": {"mail.send": 2}}, "calls.mail.send", "1"),
        ({"used": {"cost_usd": 0.02}}, "used.cost_usd", "0.04"),
        ({"that": ["$used.cost_usd < 0.03"]}, "that[0]", "$used.cost_usd is 0.04"),
        ({"that": ["$outputs.rest > 0"]}, "that[0]", "without a value: "),
    ],
)
def test_what_differs_is_told_by_its_field(expected, field, was):
    found = differences(**expected)

    told = {each.field: each.actual for each in found}
    assert told[field].startswith(was)


def test_what_is_as_expected_passes_in_well_under_a_second():
    found = check(
        fakes=FAKES,
        acts=APPROVED,
        expect={
            "status": "completed",
            "outputs": {"score": 9.0},
            "variables": {"draft": "We are sorry."},
            "path": ["draft", "grade", "draft", "grade", "accept", "mail", "end"],
            "visits": {"draft": 2},
            "calls": {"mail.send": 1},
            "used": {"cost_usd": 0.04},
            "that": ["$inputs.text == 'late'", "$visits.grade == len($path) - 5"],
        },
    )

    assert (found.outcome, found.differences) == ("passed", ())
    assert found.seconds < 1


def test_within_objects_and_lists_the_place_is_told():
    text = "workflow: a\nnodes: {b: {uses: f, save: {v: $result}}}\ntests: {it: {}}\n"
    fakes = {"nodes": {"b": {"returns": {"x": [1, {"y": 2, "z": 3}]}}}}

    found = check(text, fakes=fakes, expect={"variables": {"v": {"x": [1, {"y": 3, "w": 4}]}}})

    assert [(each.field, each.expected, each.actual) for each in found.differences] == [
        ("variables.v.x[1].y", "3", "2"),
        ("variables.v.x[1].w", "4", "nothing"),
        ("variables.v.x[1].z", "nothing", "3"),
    ]


def test_what_is_called_and_not_faked_is_named():
    found = check(fakes={"functions": FAKES["functions"]}, acts=APPROVED)

    assert found.outcome == "broken"
    (problem,) = found.problems
    assert problem.startswith("tool mail.send is called, and there is none that may be called here")
    assert problem.endswith("write fakes: {tools: {mail.send: {returns: …}}}")


def test_what_is_not_called_needs_no_fake():
    fakes = {"functions": {"write_draft": {"fails": "error", "message": "no paper"}}}

    found = check(fakes=fakes, expect={"error": "error", "message": "paper", "visits": {"mail": 0}})

    assert found.outcome == "passed"


def test_a_fake_that_runs_out_of_answers_is_broken():
    fakes = {
        **FAKES,
        "functions": {**FAKES["functions"], "grade_draft": {"each": [{"returns": 3}]}},
    }

    found = check(fakes=fakes, acts=APPROVED)

    assert found.outcome == "broken"
    assert "grade_draft is called 2 times" in found.problems[0]


def test_retries_and_waits_take_no_time():
    functions = {
        **FAKES["functions"],
        "write_draft": {"each": [{"fails": "timeout"}, {"returns": "a"}, {"returns": "b"}]},
    }

    found = check(
        fakes={**FAKES, "functions": functions},
        acts=[{**APPROVED[0], "after": "2d"}],
        expect={"variables": {"draft": "b"}},
    )

    assert found.outcome == "passed"
    assert found.seconds < 1


def test_a_worker_that_dies_is_replaced_whatever_the_node_says():
    grade = {"each": [{"fails": "lost"}, {"fails": "killed"}, {"returns": 9}]}

    found = check(
        fakes={**FAKES, "functions": {**FAKES["functions"], "grade_draft": grade}},
        acts=APPROVED,
        expect={"visits": {"grade": 1}, "outputs": {"score": 9}},
    )

    assert (found.outcome, found.differences) == ("passed", ())


def test_what_nobody_answers_waits_and_then_expires():
    waiting = check(TRIAGE.replace(", expires: 3d", ""), fakes=FAKES, expect={"status": "running"})
    completed = check(TRIAGE.replace(", expires: 3d", ""), fakes=FAKES)
    expired = check(fakes=FAKES, expect={"error": "expired"})

    assert (waiting.outcome, expired.outcome) == ("passed", "passed")
    assert completed.differences[0].actual == "running (it waits: accept for approval)"


def test_an_act_without_an_occasion_is_told():
    found = check(fakes=FAKES, acts=[*APPROVED, {"answer": "accept", "choice": "approve"}])

    assert [each.field for each in found.differences] == ["acts[1]"]


def test_an_answer_that_the_platform_would_refuse_breaks_the_test():
    found = check(fakes=FAKES, acts=[{"answer": "accept", "choice": "approve", "by": "eve"}])

    assert found.outcome == "broken"
    assert "eve" in found.problems[0]


def test_source_is_called_behind_walls():
    sources = {
        "grade_draft": "def grade_draft(state, context):\n"
        "    context.use(tokens_used=5)\n"
        "    return len(state['draft'])\n",
        "write_draft": "def write_draft(state):\n    return open('/etc/passwd').read()\n",
    }
    functions = {"write_draft": {"returns": "We are sorry."}}

    graded = check(
        sources=sources,
        fakes={**FAKES, "functions": functions},
        acts=APPROVED,
        expect={"outputs": {"score": 13}, "used": {"tokens_used": 5}},
    )
    walled = check(sources=sources, fakes=FAKES | {"functions": {}}, expect={"error": "error"})

    assert (graded.outcome, graded.differences) == ("passed", ())
    assert walled.outcome == "passed"


def test_a_workflow_that_is_run_may_be_faked_or_really_run():
    text = """
workflow: outer
nodes: {part: {kind: workflow, workflow: inner@^1, with: {n: 2}, save: {m: $result.m}}}
tests: {it: {}}
"""
    inner = documents.read_graph(
        "workflow: inner\ninputs: {n: {}}\noutputs: {m: $n * 2}\nnodes: {a: {kind: pass}}\n"
    )
    real = suites.Suite(
        graph=documents.graph(
            {**documents.read_text(text), "tests": {"it": {"expect": {"variables": {"m": 4}}}}}  # type: ignore[dict-item]
        ),
        workflows={"inner": inner},
    )
    (run,) = suites.run(real, WALLS)

    faked = check(
        text,
        fakes={"workflows": {"inner": {"returns": {"m": 7}}}},
        expect={"variables": {"m": 7}},
    )
    failing = check(
        text,
        fakes={"workflows": {"inner": {"fails": "timeout"}}},
        expect={"error": "child_failed"},
    )
    absent = check(text)

    assert [each.outcome for each in (run, faked, failing)] == ["passed"] * 3
    assert "workflow inner@^1 is called" in absent.problems[0]


def test_the_examples_pass():
    files = {
        "loop-test.yaml": 2,
        "code-review.yaml": 2,
        "order-total/order-total.yaml": 4,
        "agents/library.json": 6,
    }
    total = (ROOT / "examples/order-total/total.py").read_text()
    more = (Given(walls=WALLS, sources={"total": total}), Installed())
    for file, count in files.items():
        found = [
            checked
            for suite in suites.of_text((ROOT / "examples" / file).read_text())
            for checked in suites.run(suite, WALLS, *more)
        ]
        assert [each for each in found if each.outcome != "passed"] == []
        assert len(found) == count


# --- agents -----------------------------------------------------------------------------------


def agent(**more: Any) -> dict[str, Any]:
    echo = {"type": "template", "prompt": "{input}", "inputs": ["input"], "outputs": ["output"]}
    return {"agents": {"echo": {**echo, **more}}}


def recorded(kind: str, value: Any, given: Any = "hello") -> Checked:
    test = {"output_variable": "output", "assertion_type": kind, "expected_value": value}
    (suite,) = suites.of_agents(
        agent(run_config={"last_inputs": {"input": given}, "tests": [test]})
    )
    (found,) = suites.run(suite, WALLS)
    return found


def test_what_an_agent_was_held_to_elsewhere_holds_here():
    passing = {
        "equals": "hello",
        "not_equals": "hallo",
        "contains": "ell",
        "not_contains": '"\n\\',
        "starts_with": "he",
        "ends_with": "lo",
        "exists": None,
    }
    failing = {"equals": "hallo", "contains": "\t", "less_than": "a", "not_equals": "hello"}

    assert {recorded(*each).outcome for each in passing.items()} == {"passed"}
    assert {recorded(*each).outcome for each in failing.items()} == {"failed"}


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (1, "a number stands here"),
        ({}, "output_variable: it is missing"),
        ({"output_variable": "outpt", "assertion_type": "equals"}, "did you mean output?"),
        ({"output_variable": "output", "assertion_type": "is"}, "there is no assertion_type 'is'"),
        (
            {"output_variable": "output", "assertion_type": "contains", "expected_value": []},
            "a list stands here",
        ),
    ],
)
def test_what_of_it_cannot_be_read_keeps_no_agent_out_and_is_told(test, said):
    (suite,) = suites.of_agents(agent(run_config={"tests": [test]}))
    found = list(suites.run(suite, WALLS))

    assert {each.outcome for each in found} == {"broken"}
    assert any(said in each.problems[0] for each in found)


def test_inputs_that_an_agent_cannot_take_are_told():
    config = {
        "last_inputs": {"word": 1},
        "tests": [{"output_variable": "output", "assertion_type": "exists"}],
    }
    (suite,) = suites.of_agents(agent(run_config=config))
    found = list(suites.run(suite, WALLS))

    assert "the workflow has no input word" in found[0].problems[0]


def test_tests_of_an_agent_go_with_its_workflow_and_wrong_ones_are_refused():
    test = {"inputs": {"input": "a"}, "expect": {"outputs": {"output": "a"}}}
    (suite,) = suites.of_agents(agent(tests={"it": test}))

    assert document.write(suite.graph)["tests"] == {"it": test}
    with pytest.raises(Invalid, match=r"agents\.echo\.tests\.it\.expect\.outputs\.said"):
        suites.of_agents(agent(tests={"it": {**test, "expect": {"outputs": {"said": 1}}}}))


# --- platforms --------------------------------------------------------------------------------


class Registry:
    """A client that says of every name that installed code stands for it."""

    def __init__(self, library: str, effect: str = "pure") -> None:
        self._told = SimpleNamespace(library=library, source=None, service=None, effect=effect)

    def function(self, _name: str, _version: int | None) -> Any:
        return self._told

    def tool(self, _name: str) -> Any:
        return self._told


def test_of_what_a_platform_names_only_the_code_of_installed_libraries_is_called():
    def named(library: str, effect: str = "pure") -> Platform:
        return Platform(Registry(library, effect), WALLS)  # type: ignore[arg-type]  # as much of it as is asked

    assert named("subprocess:Popen").function("f@1") is None
    assert named("subprocess:Popen").tool("f") is None
    assert named("celeriac.agents:echo").function("f") is echo
    assert named("celeriac.agents:echo", "at_most_once").tool("f") is None


def test_templates_are_filled_in_behind_walls():
    text = """
workflow: letter
inputs: {name: {}}
variables: {letter: {}}
nodes: {write: {kind: template, template: "Dear {{ name }}{{ [1, 2] | random }}", save: {letter: $result}}}
tests:
  it greets: {inputs: {name: Ada}, expect: {that: ["starts_with($variables.letter, 'Dear Ada')"]}}
  it needs a name: {inputs: {name: null}, expect: {that: ["contains($variables.letter, 'Ada')"]}}
"""
    (here,) = suites.of_text(text)
    endless = text.replace('"Dear', "\"{% for n in range(99999) %}{{ n * 'a' * 99 }}{% endfor %}")
    (evil,) = suites.of_text(endless)

    found = [(each.outcome, each.ended) for each in suites.run(here, WALLS)]
    stopped = [*suites.run(evil, WALLS)]

    assert found == [("passed", "completed"), ("failed", "completed")]
    assert [each.outcome for each in stopped] == ["failed", "failed"]
