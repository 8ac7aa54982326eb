"""The plug-in of pytest: what it collects, what it does not, and its fixtures."""

from __future__ import annotations

import tomllib

import pytest

from tests.support.services import ROOT

pytest_plugins = ["pytester"]

#: A document with a test that passes, one that fails and one that cannot be run.
TRIAGE = """
workflow: triage
inputs: {text: {type: string}}
variables: {n: {}}
nodes: {a: {uses: count, save: {n: $result}}, b: {kind: timer, for: 2d}, c: {kind: tool, tool: mail, with: {n: $n}}}
edges: [a -> b -> c -> end]
tests:
  it counts:
    inputs: {text: abc}
    fakes: {tools: {mail: {returns: 1}}}
    expect: {variables: {n: 3}}
  it counts wrongly:
    inputs: {text: abc}
    fakes: {tools: {mail: {returns: 1}}}
    expect: {variables: {n: 4}}
  it writes:
    inputs: {text: abc}
"""
COUNT = "def count(state):\n    return len(state['text'])\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Runs pytest in a folder of its own, with no plug-in but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def started(*arguments: str, ini: str = "") -> pytest.RunResult:
        pytester.makeini(f"[pytest]\n{ini}\n")
        return pytester.runpytest_inprocess("-p", "celeriac.pytest_plugin", "-q", *arguments)

    return started


def written(pytester: pytest.Pytester, name: str, text: str) -> None:
    file = pytester.path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_nothing_is_collected_unless_it_is_asked_for(pytester, run):
    written(pytester, "flows/triage.yaml", TRIAGE)

    assert run().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert run(ini="celeriac_documents = other/*.yaml").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_tests_of_documents_are_pytests_own(pytester, run):
    written(pytester, "flows/triage.yaml", TRIAGE)
    written(pytester, "flows/count.py", COUNT)

    result = run(ini="celeriac_documents = flows/*.yaml\nceleriac_code = flows/*.py")

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*it counts wrongly*",
            "variables.n: expected 4, but it is 3",
            "path: a → b → c → end: completed",
            "*it writes*",
            "tool mail is called, and there is none that may be called here*",
        ]
    )


def test_a_document_that_is_wrong_is_an_error_of_its_own(pytester, run):
    written(pytester, "flows/bad.yaml", TRIAGE.replace("inputs: {text: abc}", "inputs: {txt: a}"))

    result = run(ini="celeriac_documents = flows/*.yaml")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*tests.it counts.inputs.txt: the workflow has no input txt*"])


def test_of_a_file_of_agents_each_test_names_its_workflow(pytester, run):
    library = (ROOT / "examples/agents/library.json").read_text()
    written(pytester, "agents.json", library)

    result = run("-vv", "-k", "echo", ini="celeriac_documents = agents.json")

    result.assert_outcomes(passed=2, deselected=4)
    result.stdout.fnmatch_lines(["*echo: 1: output equals PASSED*"])


def test_fixtures_run_workflows_and_nodes_with_a_clock_and_tools(pytester, run):
    written(pytester, "flows/triage.yaml", TRIAGE)
    pytester.makepyfile(
        """
        from datetime import timedelta
        from celeriac.testing import EPOCH

        FLOW = "flows/triage.yaml"

        def count(state):
            return 7

        def test_all(celeriac_run, celeriac_tools, celeriac_clock):
            celeriac_tools.returns("mail", True)
            record = celeriac_run(FLOW, {"text": "a"}, functions={"count": count})
            assert record.status == "completed"
            assert celeriac_tools.calls("mail") == [((), {"n": 7})]
            assert celeriac_clock.now() == EPOCH + timedelta(days=2)

        def test_one(celeriac_node):
            assert celeriac_node(FLOW, "a", functions={"count": count}).variables["n"] == 7

        def test_its_own(celeriac_run):
            record = celeriac_run(
                FLOW, {"text": "a"}, functions={"count": count}, tools={"mail": lambda n: n}
            )
            assert record.calls[0].value == 7
        """
    )

    run().assert_outcomes(passed=3)


def test_it_costs_nothing_to_whoever_uses_nothing_of_it(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        "import sys\ndef test_it():\n    assert not [name for name in sys.modules if "
        "name.startswith(('engine', 'workers', 'celeriac.testing'))]\n"
    )

    result = pytester.runpytest_subprocess("-p", "celeriac.pytest_plugin")

    result.assert_outcomes(passed=1)


def test_it_is_found_where_celeriac_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["entry-points"]["pytest11"] == {"celeriac": "celeriac.pytest_plugin"}
