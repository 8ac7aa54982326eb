"""`celeriac test`: of files without a platform, of names on one; what it tells, and in which form."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from celeriac.cli import main
from tests.support.services import ROOT

#: One test that passes, one that fails, one that cannot be run; of a workflow with an evil name.
TRIAGE = """
workflow: <b>triage & co
inputs: {text: {type: string}}
variables: {n: {}}
nodes: {a: {uses: size, save: {n: $result}}, c: {kind: tool, tool: mail, with: {n: $n}}}
edges: [a -> c -> end]
tests:
  it counts:
    inputs: {text: abc}
    fakes: {functions: {size: {returns: 3}}, tools: {mail: {returns: 1}}}
  <script>alert(1)</script>:
    inputs: {text: abc}
    fakes: {functions: {size: {returns: "<i>\\u001b[31mred"}}, tools: {mail: {returns: 1}}}
    expect: {variables: {n: 4}}
  it writes:
    inputs: {text: abc}
"""
SIZE = "def size(state):\n    return len(state['text'])\n"


def type_(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["test", *arguments], env=environment)


@pytest.fixture
def triage(tmp_path: Path) -> str:
    return written(tmp_path / "triage.yaml", TRIAGE)


def written(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    return str(file)


# --- wrong usage ------------------------------------------------------------------------------


def test_what_is_to_be_tested_must_be_said_and_only_once(triage):
    for arguments in ([], ["--all", triage]):
        result = type_(*arguments)

        assert result.exit_code == 2
        assert "name what to test" in result.stderr


def test_a_file_that_is_not_there_is_wrong_usage():
    result = type_("nowhere.yaml")

    assert result.exit_code == 2
    assert "cannot read nowhere.yaml" in result.stderr


def test_a_name_needs_a_platform(tmp_path):
    result = type_("triage", CELERIAC_HOME=str(tmp_path))

    assert result.exit_code == 3


def test_a_report_that_cannot_be_written_is_wrong_usage(triage, tmp_path):
    result = type_(triage, "--junit", str(tmp_path / "no" / "junit.xml"))

    assert result.exit_code == 2
    assert "cannot write" in result.stderr


# --- files ------------------------------------------------------------------------------------


def test_a_document_that_is_wrong_is_told_line_by_line_and_nothing_is_run(triage, tmp_path):
    wrong = written(tmp_path / "wrong.yaml", TRIAGE.replace("inputs: {text: abc}", "input: {}", 1))

    result = type_(triage, wrong)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "tests.it counts.input: there is no field `input` (line 9, column" in result.stderr


def test_without_tests_there_is_nothing_to_pass(tmp_path):
    result = type_(written(tmp_path / "a.yaml", "workflow: a\nnodes: {b: {kind: pass}}\n"))

    assert result.exit_code == 1
    assert "There are no tests" in result.stderr


def test_what_differed_and_what_is_lacking_is_told(triage):
    result = type_(triage)

    assert result.exit_code == 1
    assert "✓ it counts" in result.stdout
    assert r'variables.n: expected 4, but it is "<i>\u001b[31mred"' in result.stdout
    assert "! it writes" in result.stdout
    assert "function size is called" in result.stdout
    assert "3 tests: 1 passed, 1 failed, 1 broken" in result.stdout
    assert "\x1b" not in result.stdout


def test_code_from_files_is_called_behind_walls(tmp_path):
    file = written(tmp_path / "a.yaml", _that_counts("line"))

    result = type_(file, "--code", written(tmp_path / "size.py", SIZE))

    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        0,
        "1 test: 1 passed, 0 failed, 0 broken",
    )


def test_workflows_of_one_file_may_run_those_of_another(tmp_path):
    inner = "workflow: inner\ninputs: {n: {}}\noutputs: {m: $n * 2}\nnodes: {a: {kind: pass}}\n"
    outer = """
workflow: outer
variables: {m: {}}
nodes: {part: {kind: workflow, workflow: inner, with: {n: 2}, save: {m: $result.m}}}
tests: {it doubles: {expect: {variables: {m: 4}}}}
"""

    result = type_(written(tmp_path / "o.yaml", outer), written(tmp_path / "i.yaml", inner))

    assert result.exit_code == 0, result.output


def test_programs_are_told_by_json(triage):
    result = type_(triage, "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [each["outcome"] for each in found] == ["passed", "failed", "broken"]
    assert found[1]["differences"][0]["field"] == "variables.n"


# --- reports ----------------------------------------------------------------------------------


def test_the_report_of_junit_is_read_by_its_readers(triage, tmp_path):
    type_(triage, "--junit", str(tmp_path / "junit.xml"))

    root = ET.parse(tmp_path / "junit.xml").getroot()
    (suite,) = root
    assert root.tag == "testsuites"
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "errors")} == {
        "name": "<b>triage & co",
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"]]
    assert all(float(case.get("time", "x")) >= 0 for case in suite)
    assert "variables.n: expected 4" in str(suite[1][0].get("message"))


class Page(HTMLParser):
    """What a page is made of, and what is written on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.loaded += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_by_itself_and_what_users_wrote_is_text(triage, tmp_path):
    type_(triage, "--html", str(tmp_path / "report.html"))

    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "link", "img", "iframe", "i"}
    assert page.loaded == []
    assert "url(" not in text
    assert "<b>triage & co" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "1 of 3 tests passed" in page.text
    assert "variables.n" in page.text


# --- a platform -------------------------------------------------------------------------------


def test_what_is_published_is_tested_with_what_is_registered(shell, tmp_path):
    shell("register", "function", "-", "--name", "size", text=SIZE)
    published = shell("publish", "-", text=_that_counts("counting"))
    library = ROOT / "examples" / "agents" / "library.json"
    entered = shell("agent", "import", str(library))

    named = shell("test", "counting")
    agents = shell("test", "agent.loop_test", "echo", "agent.echo", "--json")
    nobody = shell("test", "nobody")

    assert (published.exit_code, entered.exit_code) == (0, 0), published.output + entered.output
    assert (named.exit_code, agents.exit_code) == (0, 0), named.output + agents.output
    assert "1 test: 1 passed" in named.stdout
    told = [(each["workflow"], each["outcome"]) for each in json.loads(agents.stdout)]
    assert told == [("agent.loop_test", "passed")] + 4 * [("agent.echo", "passed")]
    assert nobody.exit_code == 1
    assert "Workflow not found: nobody" in nobody.stderr


def test_all_that_is_published_is_tested(shell, tmp_path):
    shell("register", "function", "-", "--name", "size", text=SIZE)
    shell("publish", "-", text=_that_counts("counting"))
    shell("agent", "import", str(ROOT / "examples" / "agents" / "library.json"))

    result = shell("test", "--all", "--json", "--junit", str(tmp_path / "junit.xml"))

    found = {(each["workflow"], each["outcome"]) for each in json.loads(result.stdout)}
    assert {
        ("counting", "passed"),
        ("agent.echo", "passed"),
        ("agent.loop_test", "passed"),
    } <= found
    assert {outcome for _, outcome in found} == {"passed"}, result.output
    assert result.exit_code == 0
    assert ET.parse(tmp_path / "junit.xml").getroot().get("failures") == "0"


def test_another_test_is_another_version_and_the_same_one_is_not(shell):
    one, other = _that_counts("versioned"), _that_counts("versioned").replace("abc", "xyz")

    told = [shell("publish", "-", text=text).stdout.strip() for text in (one, one, other)]

    assert told == ["versioned@1.0.0", "versioned@1.0.0", "versioned@1.0.1"]


def _that_counts(name: str) -> str:
    return f"""
workflow: {name}
inputs: {{text: {{type: string}}}}
outputs: {{n: $n}}
variables: {{n: {{}}}}
nodes: {{a: {{uses: size, save: {{n: $result}}}}}}
edges: [a -> end]
tests: {{it counts: {{inputs: {{text: abc}}, expect: {{outputs: {{n: 3}}}}}}}}
"""
