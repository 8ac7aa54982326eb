"""The Procfile's processes, run as an operator runs them, against servers given by URL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest

from celeriac.embedded import processes
from engine import signing
from tests.fleet import network
from tests.support import services
from tests.support.services import ROOT

FLOWER_USER = ("operator", "looks-only")
_PROGRAMS = Path(sys.executable).parent
_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Processes under honcho, the API with an admin's key, and Flower."""

    environment: Mapping[str, str]
    folder: Path
    honcho: subprocess.Popen[str]
    api: httpx2.Client
    flower: httpx2.Client
    #: What each process has said, line by line: `worker.1`, text.
    said: list[tuple[str, str]] = field(default_factory=list)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command that an operator types beside the fleet."""
        return subprocess.run(
            command,
            env=dict(self.environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def submit(self, workflow: str, **inputs: Any) -> str:
        """The id of a run that was accepted."""
        answer = self.api.post("/api/v1/runs", json={"workflow": workflow, "inputs": inputs})
        assert answer.status_code in (200, 201), answer.text  # 200: it is published already
        run = answer.json()["run_id"]
        assert isinstance(run, str)
        return run

    def ended(self, run: str) -> Mapping[str, Any]:
        """A run once it has ended."""
        answer = self.api.get(f"/api/v1/runs/{run}/wait", params={"seconds": _SECONDS})
        assert answer.json()["ended"], self.transcript()
        found = self.api.get(f"/api/v1/runs/{run}").json()
        assert isinstance(found, dict)
        return found

    def publish(self, document: Mapping[str, Any]) -> None:
        answer = self.api.post("/api/v1/workflows", json=document)
        assert answer.status_code in (200, 201), answer.text  # 200: it is published already

    def lines(self, process: str) -> Sequence[str]:
        """What a process has said so far."""
        return [text for name, text in list(self.said) if name == process]

    def transcript(self) -> str:
        return "\n".join(f"{name} | {text}" for name, text in list(self.said))


@pytest.fixture(scope="package")
def fleet() -> Iterator[Fleet]:
    with services.short_folder() as folder, network.servers(folder) as servers:
        environment = _environment(folder, servers)
        key = folder / "admin.key"
        subprocess.run(
            [_PROGRAMS / "celeriac", "db", "upgrade", "--key-file", key],
            env=environment,
            cwd=folder,
            check=True,
        )
        started = Fleet(
            environment=environment,
            folder=folder,
            honcho=_start(folder, environment),
            api=httpx2.Client(
                base_url=f"http://127.0.0.1:{environment['CELERIAC_PORT']}",
                headers={"Authorization": f"Bearer {key.read_text().strip()}"},
                timeout=2 * _SECONDS,
            ),
            flower=httpx2.Client(
                base_url=f"http://127.0.0.1:{environment['FLOWER_PORT']}",
                auth=FLOWER_USER,
                timeout=_SECONDS,
            ),
        )
        assert started.honcho.stdout is not None
        listening = threading.Thread(
            target=_listen, args=(started.honcho.stdout, started.said), daemon=True
        )
        listening.start()
        try:
            _await_ready(started)
            yield started
        finally:
            started.honcho.send_signal(signal.SIGTERM)
            started.honcho.wait(_SECONDS)
            listening.join()
            started.honcho.stdout.close()
            started.api.close()
            started.flower.close()
        # Honcho kills what has not ended by itself some seconds after it was asked to.
        assert "sending SIGKILL" not in started.transcript()


def _environment(folder: Path, servers: network.Servers) -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "PATH": f"{_PROGRAMS}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(folder),
        # For the library of the tests alone; ours is installed.
        "PYTHONPATH": str(ROOT),
        "CELERIAC_LIBRARIES": "tests.support.witness",
        "CELERIAC_HOME": str(folder / "home"),
        "CELERIAC_AUDIT_KEYS": signing.generate("fleet").text(),
        "CELERIAC_ANCHOR_URL": (folder / "anchors").as_uri(),
        # So that a single long step takes up the whole worker.
        "CELERIAC_CONCURRENCY": "1",
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": servers.broker_url,
        "CELERIAC_PORT": str(network.free_port()),
        "FLOWER_PORT": str(network.free_port()),
        "FLOWER_BASIC_AUTH": ":".join(FLOWER_USER),
    }


def _start(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    nothing = folder / "nothing.env"
    nothing.touch()
    return subprocess.Popen(
        [
            _PROGRAMS / "honcho",
            "--no-colour",
            f"--procfile={ROOT / 'Procfile'}",
            f"--env={nothing}",
            f"--app-root={folder}",
            "start",
        ],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _listen(output: IO[str], said: list[tuple[str, str]]) -> None:
    """Take honcho's lines apart: `22:04:42 worker.1      | text`."""
    for line in output:
        head, _, text = line.rstrip("\n").partition("| ")
        said.append((head.split()[1], text))


def _await_ready(fleet: Fleet) -> None:
    def ready() -> bool:
        if fleet.honcho.poll() is not None:
            return True
        try:
            return (
                fleet.api.get("/api/v1/ready").status_code == 200
                and fleet.flower.get("/healthcheck").status_code == 200
                and all(_is_ready(fleet, name) for name in ("worker", "coordinator"))
            )
        except httpx2.TransportError:
            return False

    processes.wait_until(ready, seconds=_SECONDS)
    assert fleet.honcho.poll() is None, fleet.transcript()
    assert ready(), fleet.transcript()


def _is_ready(fleet: Fleet, name: str) -> bool:
    for line in fleet.lines(f"{name}.1"):
        if line.startswith("{") and str(json.loads(line)["event"]).endswith(" ready."):
            return True
    return False
