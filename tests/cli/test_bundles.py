from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Shell
from tests.unit.formats.test_bundle import zipped

DRAWING = """
digraph Bundled {
  first [type="plan"];
  work [type="task"];
  first -> work;
}
"""
FILES = {
    "agent_graph.dot": DRAWING,
    "plans/first/plan.py": (
        "from agentic_common.pb import PlanResult\n"
        "def plan(plan_input):\n    return PlanResult(next_task_names=['work'])\n"
    ),
    "tasks/work/task.py": "def task(task_input):\n    return {'by': task_input.task_name}\n",
    # Large enough that it is not kept in memory where it is received.
    "data.bin": bytes(range(256)) * 4096,
}


def test_a_bundle_that_cannot_be_published_is_told_why(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    file.write_bytes(zipped({**FILES, "tasks/work/task.py": "import os\n"}))

    result = shell("upload", str(file))

    assert result.exit_code == 1
    assert "Error: tasks/work/task.py: There is no module os here (line 1)" in result.stderr
    assert "nothing was published" in result.stdout


def test_a_file_that_is_named_like_no_archive_is_refused(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "bundle.rar"
    file.write_bytes(b"")

    result = shell("upload", str(file))

    assert result.exit_code == 1
    assert ".tar.gz" in result.stderr


def test_a_bundle_is_published_and_its_code_runs(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    file.write_bytes(zipped(FILES))

    result = shell("upload", str(file))
    run = shell("run", "Bundled", "--json")

    assert result.exit_code == 0, result.output
    assert result.stdout == "published as Bundled 1.0.0\n"
    assert json.loads(run.stdout)["status"] == "completed", run.output
