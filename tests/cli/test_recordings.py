"""`celeriac export` and `import`, on a real platform, and a test that replays the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celeriac.testing import replay
from tests.cli.conftest import Shell
from tests.support import recorded


@pytest.mark.usefixtures("functions")
def test_a_run_is_written_to_a_file_that_a_test_replays(
    shell: Shell, line: str, tmp_path: Path
) -> None:
    run = json.loads(shell("run", line, "--json").stdout)["id"]
    file = tmp_path / "a.run"
    written = shell("export", run, "-o", str(file))
    assert (written.exit_code, written.stdout) == (0, "")
    assert replay(file).decisions > 0
    here = shell("import", str(file))
    assert (here.exit_code, "is here already" in here.stderr) == (1, True)
    assert shell("export", run, "--payloads", "none").stdout.count("\n") > 5
    assert shell("export", "nobody").exit_code == 1


@pytest.mark.usefixtures("functions")
def test_a_run_from_elsewhere_is_shown_replayed_and_goes_nowhere(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "theirs.run"
    file.write_text(recorded.text("theirs").replace("loop", "lo0p"))
    altered = shell("import", str(file))
    assert (altered.exit_code, "line 1" in altered.stderr) == (1, True)
    file.write_text(recorded.text("theirs"))
    run = shell("import", str(file)).stdout.strip()
    shown = shell("show", run)
    assert "from elsewhere by" in shown.stdout, shown.output
    assert "13 of 13" in shell("replay", run).stdout or shell("replay", run).exit_code == 0
    refused = shell("restart", run, "a#2")
    assert (refused.exit_code, "read-only" in refused.stderr) == (1, True)
    assert shell("cancel", run).exit_code == 1
