"""`celeriac publish`, `versions`, `retire` and `draft`, typed against a real platform."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("functions")


@pytest.fixture
def name() -> str:
    """A workflow that no other test has."""
    return f"w{uuid4().hex[:8]}"


@pytest.fixture
def text(name: str) -> str:
    return f"workflow: {name}\nnodes:\n  a: {{uses: increment}}\nedges:\n  - a -> end\n"


@pytest.mark.parametrize("typed", ["w", "w@", "@1.0.0"])
def test_what_names_no_version_is_wrong_usage(shell: Shell, typed: str) -> None:
    result = shell("retire", typed)

    assert result.exit_code == 2
    assert "summarize@1.2.0" in result.stderr


def test_a_version_is_published_with_notes_listed_and_retired(
    shell: Shell, name: str, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(text)
    first = shell("publish", str(file), "--notes", "the first")
    second = shell("publish", "-", "--notes", "more", text=text + "limits: {steps: 9}\n")

    assert (first.stdout, second.stdout) == (f"{name}@1.0.0\n", f"{name}@1.0.1\n")
    rows = shell("versions", name).stdout.splitlines()[1:]
    assert [("more" in row, "the first" in row) for row in rows] == [(True, False), (False, True)]
    retired = shell("retire", f"{name}@1.0.1", "--reason", "wrong")
    assert retired.stdout == f"{name}@1.0.1 is retired\n"
    listed = json.loads(shell("versions", name, "--json").stdout)
    assert [each["retired_by"] is None for each in listed] == [False, True]
    ran = shell("run", name, "--version", "^1", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["version"] == "1.0.0"
    refused = shell("run", name, "--version", "1.0.1")
    assert (refused.exit_code, "is retired" in refused.stderr) == (1, True)


def test_what_uses_a_version_is_said(shell: Shell, name: str, text: str) -> None:
    assert shell("publish", "-", text=text).exit_code == 0
    names = (
        f"workflow: p{name}\nnodes:\n  a: {{kind: workflow, workflow: {name}}}\nedges: [a -> end]"
    )
    assert shell("publish", "-", text=names).exit_code == 0

    result = shell("retire", f"{name}@1.0.0")

    assert result.exit_code == 1
    assert f"workflows.p{name}@1.0.0.nodes.a.workflow: names {name}" in result.stderr


def test_a_draft_is_saved_shown_and_published(shell: Shell, name: str, text: str) -> None:
    wrong = shell("draft", "save", name, "-", text=text.replace("increment", "missing"))
    assert wrong.exit_code == 0
    assert wrong.stdout == f"{name}, revision 1\n"
    assert "Function not found: missing" in wrong.stderr
    assert shell("draft", "show", name).exit_code == 1
    assert shell("draft", "publish", name).exit_code == 1
    assert shell("draft", "save", name, "-", text=text).exit_code == 1
    assert shell("draft", "save", name, "-", "--revision", "1", text=text).exit_code == 0
    late = shell("draft", "save", name, "-", "--revision", "1", text=text)
    assert (late.exit_code, "revision 2" in late.stderr) == (1, True)
    shown = shell("draft", "show", name)
    assert (shown.exit_code, shown.stdout) == (0, text)
    assert name in shell("draft", "list").stdout
    published = shell("draft", "publish", name, "--notes", "at last", "--revision", "2")
    assert published.stdout == f"{name}@1.0.0\n"
    assert "at last" in shell("versions", name).stdout
    assert shell("draft", "show", name).exit_code == 1


def test_a_draft_is_discarded(shell: Shell, name: str, text: str) -> None:
    shell("draft", "save", name, "-", text=text)

    result = shell("draft", "discard", name)

    assert result.stdout == f"the draft of {name} is discarded\n"
    assert name not in shell("draft", "list").stdout
