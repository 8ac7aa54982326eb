from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from celeriac.cli import main
from engine import documents
from tests.support.services import ROOT

EXAMPLES = ROOT / "examples"
DRAWING = "graph TD\n  a[First] --> b{{Which?}}\n  b -- back --> a\n  b --> end_((end))\n"
SIDECAR = """
workflow: w
nodes:
  b: {rules: [{when: $x, next: [a]}, {next: [end]}]}
"""


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


@pytest.fixture
def drawing(tmp_path: Path) -> str:
    file = tmp_path / "w.mmd"
    file.write_text(DRAWING)
    return str(file)


@pytest.fixture
def sidecar(tmp_path: Path) -> str:
    file = tmp_path / "w.yaml"
    file.write_text(SIDECAR)
    return str(file)


def test_what_is_wrong_with_a_drawing_is_told_with_its_line(drawing: str, tmp_path: Path) -> None:
    Path(drawing).write_text("graph TD\n  a --> b\n  a -> b\n")
    result = run("draw", drawing)
    assert result.exit_code == 1
    assert "'-> b' cannot be read (line 3)" in result.stderr


def test_what_a_sidecar_has_to_say_is_asked_for(drawing: str) -> None:
    result = run("draw", drawing)
    assert result.exit_code == 1
    assert "workflow: the workflow has no name" in result.stderr


def test_a_sidecar_that_is_no_yaml_is_told(drawing: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: [")
    result = run("draw", drawing, "--sidecar", str(file))
    assert result.exit_code == 1
    assert "not YAML" in result.stderr


def test_a_document_has_no_sidecar(sidecar: str) -> None:
    result = run("draw", sidecar, "--sidecar", sidecar)
    assert result.exit_code == 2
    assert "only a drawing has a sidecar" in result.stderr


def test_a_picture_leaves_nothing_to_a_sidecar(tmp_path: Path) -> None:
    given = str(EXAMPLES / "code-review.yaml")
    result = run("draw", given, "--sidecar-of", str(tmp_path / "x.json"))
    assert result.exit_code == 2
    assert "svg leaves nothing out" in result.stderr


@pytest.mark.parametrize("notation", ["mermaid", "dot"])
def test_a_list_of_steps_is_drawn_and_has_no_sidecar(tmp_path: Path, notation: str) -> None:
    given = str(EXAMPLES / "loop-test.yaml")
    assert "2 loop_end" in run("draw", given, "--as", notation).stdout
    result = run("draw", given, "--as", notation, "--sidecar-of", str(tmp_path / "x.json"))
    assert result.exit_code == 2
    assert "keep its document" in result.stderr


def test_a_drawing_and_its_sidecar_become_a_document(drawing: str, sidecar: str) -> None:
    result = run("draw", drawing, "--sidecar", sidecar, "--as", "json")
    assert result.exit_code == 0, result.output
    graph = documents.read_graph(result.stdout)
    assert (graph.workflow, graph.nodes["a"].title) == ("w", "First")  # type: ignore[index]  # a name


def test_a_document_becomes_a_picture() -> None:
    result = run("draw", str(EXAMPLES / "code-review.yaml"))
    assert result.exit_code == 0, result.output
    assert ET.fromstring(result.stdout).tag.endswith("svg")


@pytest.mark.parametrize(("notation", "end"), [("mermaid", ".mmd"), ("dot", ".dot")])
def test_a_document_goes_into_a_drawing_and_comes_back(
    tmp_path: Path, notation: str, end: str
) -> None:
    given = EXAMPLES / "code-review.yaml"
    beside, drawn = tmp_path / "rest.json", tmp_path / f"drawn{end}"
    result = run("draw", str(given), "--as", notation, "--sidecar-of", str(beside))
    assert result.exit_code == 0, result.output
    drawn.write_text(result.stdout)
    back = run("draw", str(drawn), "--sidecar", str(beside), "--as", "json")
    assert back.exit_code == 0, back.output
    assert documents.read_graph(back.stdout) == documents.read_graph(given.read_text())


def test_a_document_is_read_from_stdin() -> None:
    text = json.dumps({"workflow": "w", "nodes": {"a": {"uses": "f"}}, "edges": ["a -> end"]})
    assert "digraph w {" in run("draw", "-", "--as", "dot", text=text).stdout
