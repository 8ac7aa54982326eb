"""A real platform for the commands that speak to one: web, coordinator and worker as processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from celeriac.cli import main
from celeriac.embedded.install import install
from tests.support import fleet, site
from tests.support.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Types commands, as somebody whose environment names the platform."""

    environment: Mapping[str, str]

    def __call__(
        self, *arguments: str, text: str | bytes | None = None, **environment: str
    ) -> Result:
        return CliRunner().invoke(
            main, arguments, input=text, env={**self.environment, **environment}
        )


@pytest.fixture(scope="session")
def shell(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("home")
    with site.of_its_own(shared_services, folder) as given:
        settings = replace(given, port=_free_port())
        install(settings, key_file=folder / "admin.key")
        with fleet.fleet(settings, ["web", "coordinator", "worker"], folder):
            fleet.wait_until(lambda: _connects(settings.port), seconds=30, what="web")
            yield Shell(
                environment={
                    "CELERIAC_URL": f"http://127.0.0.1:{settings.port}",
                    "CELERIAC_HOME": str(folder),
                }
            )


@pytest.fixture
def functions(shell: Shell) -> None:
    """What the workflows of the tests use."""
    for name, source in SOURCES.items():
        result = shell("register", "function", "-", "--name", name, text=source)
        assert result.exit_code == 0, result.output


@pytest.fixture
def line(tmp_path: Path) -> str:
    """The file of a workflow that adds two to n."""
    return _written(tmp_path / "line.yaml", LINE)


@pytest.fixture
def failing(tmp_path: Path) -> str:
    """The file of a workflow that fails."""
    return _written(tmp_path / "failing.yaml", FAILING)


@pytest.fixture
def patient(tmp_path: Path) -> str:
    """The file of a workflow that has not ended when anybody looks."""
    return _written(tmp_path / "patient.yaml", PATIENT)


SOURCES = {
    "increment": """
def increment(state):
    \"\"\"Add one to n.\"\"\"
    print("n is", state.get("n", 0))
    state.set("n", state.get("n", 0) + 1)
    return state
""",
    "boom": """
def boom(state):
    raise ValueError("it went \\x1b[31mwrong")
""",
    "nap": """
def nap(state):
    print("good night")
    time.sleep(60)
    return state
""",
}
LINE = """
workflow: line
inputs: {n: {type: integer, default: 1}}
nodes:
  a: {uses: increment}
  b: {uses: increment}
edges: [a -> b -> end]
"""
FAILING = """
workflow: failing
nodes:
  a: {uses: boom}
edges: [a -> end]
"""
PATIENT = """
workflow: patient
nodes:
  a: {uses: nap}
edges: [a -> end]
"""


def _written(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
