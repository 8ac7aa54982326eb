from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result

from celeriac.cli import main
from engine import documents

LINE = """
workflow: line
nodes:
  a: {uses: increment}
edges:
  - a -> end
"""
FORKED = """
workflow: forked
nodes:
  choose: {uses: f}
  split: {uses: f}
  a: {uses: f}
  b: {uses: f}
  c: {uses: f}
  meet: {uses: f}
  late: {uses: f}
edges:
  - {from: choose, to: c, when: $x}
  - choose -> split
  - {from: split, to: [a, b], type: parallel}
  - {from: [a, b], to: late, type: join, when: $result.late}
  - {from: [a, b], to: meet, type: join}
  - {from: c, to: late, type: join}
"""
BROKEN = """
workflow: line
nodes:
  a: {uses: increment, tiemout: 3s}
edges:
  - a -> b
"""


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)
    return str(file)


def test_every_problem_of_a_document_is_told_with_its_place(broken: str) -> None:
    result = run("validate", broken)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "problems" in result.stderr.splitlines()[0]
    assert "nodes.a.tiemout: " in result.stderr
    assert "edges[0]" in result.stderr


def test_problems_are_told_to_programs(broken: str) -> None:
    result = run("validate", broken, "--json")

    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["valid"] is False
    assert "nodes.a.tiemout" in [problem["path"] for problem in answer["problems"]]
    assert set(answer["problems"][0]) == {"path", "message", "remedy"}


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert run("validate", str(tmp_path / "none.yaml")).exit_code == 2


def test_text_that_a_terminal_would_obey_is_shown_and_not_obeyed() -> None:
    result = run("validate", "-", text='workflow: "\x1b[2J"\n')

    assert result.exit_code == 1
    assert "\x1b" not in result.stderr


def test_a_valid_document_is_said_to_be_valid() -> None:
    result = run("validate", "-", text=LINE)

    assert result.exit_code == 0
    assert "line is valid" in result.stdout


def test_a_valid_document_is_said_to_be_valid_to_programs() -> None:
    result = run("validate", "-", "--json", text=LINE)

    assert json.loads(result.stdout) == {"valid": True, "problems": [], "joins": {}}


def test_it_is_said_which_fork_a_join_joins() -> None:
    result = run("validate", "-", text=FORKED)
    assert "  meet joins the threads of split\n" in result.stdout
    assert "  late joins the threads of the whole run\n" in result.stdout

    answer = json.loads(run("validate", "-", "--json", text=FORKED).stdout)
    assert answer["joins"] == {"meet": "split", "late": None}


def test_the_schema_accepts_what_the_reader_accepts() -> None:
    result = run("schema")

    validator = jsonschema_rs.Draft202012Validator(json.loads(result.stdout))
    assert validator.is_valid(documents.read_text(LINE))
    assert not validator.is_valid(documents.read_text(BROKEN))


def test_of_a_list_its_steps_are_counted() -> None:
    document = {"workflow": "w", "steps": [{"agent": "f"}, {"agent": "g"}]}
    assert run("validate", "-", text=json.dumps(document)).stdout.endswith("valid: 2 steps\n")
