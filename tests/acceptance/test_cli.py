"""What somebody types who has just installed Celeriac, on a data folder of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from celeriac.embedded import folders, supervisor
from engine.settings import Settings
from tests.support import services
from tests.support.services import ROOT

#: What any command may take on a machine that has much else to do; a server's first start syncs
#: its files to a disk that others may keep busy.
SECONDS = 240
#: More than all waits of a test together: a wait that fails says for what.
pytestmark = pytest.mark.timeout(6 * SECONDS)

CELERIAC = (sys.executable, "-m", "celeriac")


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A data folder, and who types there."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return Settings.from_environment({"CELERIAC_HOME": str(self.folder)})

    def types(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CELERIAC, *arguments],
            env=self._environment(),
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    @contextmanager
    def starts(self, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on, for the length of a block."""
        process = subprocess.Popen(
            [*CELERIAC, *arguments],
            env={**self._environment(), **more},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                # Leaving the outer block waits for it without end.
                process.kill()

    def _environment(self) -> dict[str, str]:
        ours = ("CELERIAC_", "DATABASE_URL", "BROKER_URL", "REDIS_URL", "BLOB_URL")
        outside = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
        return {**outside, "CELERIAC_HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def terminal() -> Iterator[None]:
    """Let commands hear Ctrl-C, as those typed in a terminal do.

    A shell's background job ignores it, and so do the tests that run in one, and all they start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def home(short_folder: Path, terminal: None) -> Iterator[Home]:
    home = Home(folder=short_folder / "home")
    yield home
    supervisor.down(home.settings)


@pytest.fixture
def installed(home: Home) -> None:
    """A data folder whose database is made, as it is at every start but the first."""
    services.prepare(folders.lay_out(home.folder).postgres)


@pytest.fixture
def up(home: Home, installed: None) -> Iterator[subprocess.Popen[str]]:
    """`celeriac up` that has said that it is."""
    with home.starts("up", "--port", "0") as process:
        said(process, "Ctrl-C ends it.")
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)


def said(process: subprocess.Popen[str], line: str) -> list[str]:
    """What a command says up to a line that begins so; one that takes too long is killed."""
    assert process.stdout is not None
    lines = []
    patience = threading.Timer(SECONDS, process.kill)
    patience.start()
    try:
        for text in process.stdout:
            lines.append(text.rstrip("\n"))
            if text.startswith(line):
                return lines
    finally:
        patience.cancel()
    raise AssertionError(f"ended without saying {line!r}:\n" + "\n".join(lines))


def test_a_port_that_is_taken_is_told(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = home.types("up", "--port", str(taken.getsockname()[1]))

    assert result.returncode == 1
    assert "cannot listen" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_is_not_text_is_not_reviewed(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "nul.py"
    file.write_bytes(b"\xff")

    assert home.types("demo", str(file)).returncode == 2


def test_nothing_that_runs_is_nothing_to_end(home: Home) -> None:
    result = home.types("down")

    assert result.returncode == 0
    assert "Nothing runs" in result.stderr


def test_a_demo_reviews_a_file_from_nothing_and_leaves_nothing_running(home: Home) -> None:
    result = home.types("demo")

    assert result.returncode == 0, result.stderr
    told = result.stdout.splitlines()
    assert any(line.startswith("✓ extract_functions#1 ") for line in told)
    assert any(line.startswith("completed after ") for line in told)
    assert any(line.startswith("Score 8.05 of 10") for line in told)
    assert told[-1].startswith("Next: celeriac up")
    assert supervisor.status(home.settings) is None
    assert "Nothing runs" in home.types("down").stderr


def test_ctrl_c_ends_a_demo_in_order(home: Home, installed: None, tmp_path: Path) -> None:
    # The review waits for a file, so that it is under way whenever the signal comes.
    go, reviewed = tmp_path / "go", tmp_path / "reviewed.py"
    reviewed.write_text(str(go))
    held_up = {"PYTHONPATH": str(ROOT), "CELERIAC_LIBRARIES": "tests.support.held_up"}
    with home.starts("demo", str(reviewed), **held_up) as process:
        said(process, "run ")
        process.send_signal(signal.SIGINT)
        # The worker that ends in order finishes the step first.
        go.touch()
        output, _ = process.communicate(timeout=SECONDS)

    assert process.returncode == 130
    assert "Traceback" not in output
    assert "Nothing runs" in home.types("down").stderr


def test_a_demo_uses_the_platform_that_is_up(
    home: Home, up: subprocess.Popen[str], tmp_path: Path
) -> None:
    file = tmp_path / "no_python.py"
    file.write_text("def f(:\n")
    state = supervisor.status(home.settings)
    assert state is not None

    result = home.types("demo", str(file))

    assert result.returncode == 0, result.stderr
    assert f"at {state.url}" in result.stdout
    assert "Score 0 of 10" in result.stdout
    assert supervisor.status(home.settings) == state


def test_a_demo_whose_run_fails_fails(home: Home, up: subprocess.Popen[str]) -> None:
    broken = "def extract_functions(state):\n    raise ValueError('out of order')\n"
    assert home.types("register", "function", "-", text=broken).returncode == 0

    result = home.types("demo")

    assert result.returncode == 1
    assert "failed after " in result.stdout
    assert "out of order" in result.stdout


def test_a_platform_that_is_up_is_found_used_and_ended(
    home: Home, up: subprocess.Popen[str]
) -> None:
    reviewed = home.types("run", "code_review_agent", "-i", "code=def f(): pass", "--json")
    assert json.loads(reviewed.stdout)["variables"]["quality_score"] == 10.0
    (run,) = json.loads(home.types("runs", "--json").stdout)
    assert home.types("show", run["id"]).returncode == 0
    assert home.types("doctor").stdout == "Everything holds.\n"
    assert home.types("up").returncode == 1

    assert home.types("down").returncode == 0

    assert up.wait(SECONDS) == 0
    assert home.types("runs").returncode == 3


def test_what_was_there_is_there_again_at_the_next_up(home: Home) -> None:
    first = home.types("demo")
    assert first.returncode == 0

    with home.starts("up", "--port", "0") as process:
        said(process, "Ctrl-C ends it.")
        (run,) = json.loads(home.types("runs", "--json").stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0

    assert run["id"] in first.stdout
    assert run["status"] == "completed"
