"""The supervisor: the whole platform up, kept up, and ended, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from celeriac.embedded import folders, postgres, processes, supervisor, valkey
from celeriac.embedded.folders import Home
from celeriac.embedded.supervisor import State
from engine.errors import Conflict
from engine.runs import verification
from engine.settings import Settings, SettingsError
from tests.support import platforms, services
from tests.support.fleet import wait_until

pytestmark = pytest.mark.timeout(180)

UP = """
from celeriac.embedded import supervisor
from engine.settings import Settings
say = lambda text: print(text, flush=True)
supervisor.up(Settings.from_environment(), ready=lambda state: say("ready"), report=say)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """A supervisor in a process of its own."""

    settings: Settings
    process: subprocess.Popen[str]

    @property
    def home(self) -> Home:
        return Home(folder=self.settings.home)

    @property
    def state(self) -> State:
        state = supervisor.status(self.settings)
        assert state is not None
        return state

    def wait_for(self, start: str) -> str:
        """The next line it says that starts so."""
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            if line.startswith(start):
                return line
            said.append(line)
        raise AssertionError(f"ended without {start!r}: {''.join(said)}")

    def children(self) -> dict[str, int]:
        """Ids of the processes it started, by what they do."""
        found = {}
        for pid in processes.started_with(marks(self.settings)):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if parent_of(pid) == self.process.pid and "celeriac" in words:
                found[words[words.index("celeriac") + 1]] = pid
        return found

    def servers(self) -> tuple[int, int]:
        """Ids of Postgres and Valkey."""
        cluster = postgres.locate(self.home.postgres, log=self.home.log("postgres"))
        server = valkey.locate(self.home.valkey, log=self.home.log("valkey"))
        found = postgres.find(cluster), valkey.find(server)
        assert found[0]
        assert found[1]
        return found[0].pid, found[1].pid

    def connects(self) -> bool:
        port = int(self.state.url.rpartition(":")[2])
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def embedded(short_folder: Path) -> Iterator[Settings]:
    settings = Settings.from_environment({"CELERIAC_HOME": str(short_folder / "home")})
    yield settings
    supervisor.down(settings)


@pytest.fixture
def bring_up(embedded: Settings) -> Iterator[Callable[[], Up]]:
    started = []

    def start() -> Up:
        made = folders.lay_out(embedded.home).postgres
        if not (made / "data").exists():
            services.prepare(made)
        process = subprocess.Popen(
            [sys.executable, "-c", UP],
            env={**os.environ, "CELERIAC_HOME": str(embedded.home), "CELERIAC_PORT": "0"},
            cwd=services.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        up = Up(settings=embedded, process=process)
        up.wait_for("ready")
        return up

    yield start
    for process in started:
        with process:
            process.kill()


def end(up: Up) -> int:
    up.process.terminate()
    up.process.communicate()
    return up.process.wait(60)


def marks(settings: Settings) -> dict[str, str]:
    return {"CELERIAC_SUPERVISED": "1", "CELERIAC_HOME": str(settings.home)}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def test_a_child_or_a_server_that_is_killed_is_started_again(
    embedded: Settings, bring_up: Callable[[], Up]
) -> None:
    up = bring_up()
    before = up.children()
    assert before.keys() == {"web", "coordinator", "worker", "beat"}
    for name, pid in before.items():
        os.kill(pid, signal.SIGKILL)
        up.wait_for(f"{'worker-1' if name == 'worker' else name} ended (SIGKILL)")
        assert processes.wait_until(lambda name=name: name in up.children(), seconds=20)
    database, broker = up.servers()
    os.kill(database, signal.SIGKILL)
    up.wait_for("postgres ended")
    os.kill(broker, signal.SIGKILL)
    up.wait_for("valkey ended")
    cluster = postgres.locate(up.home.postgres, log=up.home.log("postgres"))
    server = valkey.locate(up.home.valkey, log=up.home.log("valkey"))
    assert processes.wait_until(
        lambda: postgres.answers(cluster) and valkey.answers(server), seconds=30
    )
    assert {database, broker}.isdisjoint(up.servers())
    assert processes.wait_until(up.connects, seconds=30)
    assert end(up) == 0


def test_a_supervisor_that_is_killed_takes_its_children_along_and_leaves_the_servers(
    embedded: Settings, bring_up: Callable[[], Up]
) -> None:
    first = bring_up()
    before, servers = first.children(), first.servers()
    first.process.kill()
    assert processes.wait_until(
        lambda: not any(processes.exists(pid) for pid in before.values()), seconds=10
    )
    assert supervisor.status(embedded) is None
    second = bring_up()
    assert second.servers() == servers
    assert second.children().keys() == before.keys()
    assert end(second) == 0


def test_who_asks_it_to_end_finds_nothing_left(
    embedded: Settings, bring_up: Callable[[], Up]
) -> None:
    up = bring_up()
    servers = up.servers()
    assert supervisor.down(embedded)
    assert up.process.wait(5) == 0
    assert not any(processes.exists(pid) for pid in servers)
    assert not list(processes.started_with(marks(embedded)))
    assert not up.home.state.exists()


def test_what_it_writes_down_is_for_its_user_alone(
    embedded: Settings, bring_up: Callable[[], Up]
) -> None:
    up = bring_up()
    for path in (
        up.home.state,
        up.home.admin_key,
        up.home.blob_key,
        up.home.secret_key,
        up.home.audit_key,
        up.home.lock,
        *up.home.log("web").parent.iterdir(),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    attached = supervisor.attach(embedded)
    assert attached.embedded
    assert len(attached.blob_keys.keys) == 1
    assert attached.database_url == up.state.database_url
    with supervisor.running(embedded) as state:
        assert state == up.state
    with pytest.raises(Conflict, match=f"pid {up.process.pid}.*{up.state.url}"):
        supervisor.up(embedded)
    assert end(up) == 0


def test_what_happens_is_anchored_outside_and_signed_by_coordinators_alone(
    embedded: Settings, bring_up: Callable[[], Up]
) -> None:
    up = bring_up()
    # What was installed at the start is sealed as soon as a coordinator is there.
    wait_until((embedded.home / "anchors" / "local" / "000000000001.json").exists, seconds=60)
    attached = supervisor.attach(embedded)
    with platforms.platform(attached) as main:
        report = verification.verify(main, "local")
    assert (report.faults, report.notes, report.unsigned) == ([], [], 0)
    assert report.acts > 0
    assert report.copies == report.anchors > 0
    for name, pid in up.children().items():
        told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        (keys,) = (text for text in told if text.startswith(b"CELERIAC_AUDIT_KEYS="))
        assert (b":public:" in keys) == (name != "coordinator"), name
    assert end(up) == 0


def test_a_port_that_is_taken_is_named_before_anything_starts(embedded: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings.from_environment(
            {"CELERIAC_HOME": str(embedded.home), "CELERIAC_PORT": str(port)}
        )
        with pytest.raises(Conflict, match=f"port {port}"):
            supervisor.up(settings)
    assert not (folders.Home(folder=embedded.home).postgres / "data").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_one_users_platform_is_not_served_to_the_network(tmp_path: Path, host: str) -> None:
    settings = Settings(home=tmp_path / "home", host=host, blob_url="memory:///")
    with pytest.raises(SettingsError, match="CELERIAC_HOST"), supervisor.running(settings):
        pass
    assert not settings.home.exists()
