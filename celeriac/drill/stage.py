"""What a drill plays on: a platform of its own, in a folder of its own, that ends with the drill.

Processes reach both servers through networks that can be disturbed; the drill itself reaches them
directly. Nothing that runs already is touched: the folder is new, servers listen on sockets in it, and
the ports that there are (of the networks and the API) are free ones of this machine alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
from sqlalchemy import Engine, make_url

from celeriac.drill import fleet as fleets
from celeriac.drill.fleet import Command, Fleet, kind_of
from celeriac.drill.network import Network
from celeriac.drill.servers import Servers
from celeriac.embedded import processes
from celeriac.embedded.install import install
from engine import keys
from engine.broker import Broker, celery_app
from engine.errors import Unavailable
from engine.keys import Ring
from engine.settings import Settings
from engine.store import session

NAMES = ("web", "coordinator1", "coordinator2", "worker1", "worker2", "beat")
LIBRARY = "celeriac.drill.steps"

#: The whole disk of Postgres, where it has one of its own: the cluster takes about a fifth of it.
DISK_BYTES = 512 * 1024 * 1024
#: Above it nothing of a machine's start is to be blamed on a fault.
_START_SECONDS = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A platform that runs, and what can be done to it."""

    folder: Path
    #: As the processes have them: through the networks.
    settings: Settings
    servers: Servers
    database_network: Network
    broker_network: Network
    fleet: Fleet
    #: The database and the broker as they are, whatever is done to the networks.
    database: Engine
    broker: Broker
    #: Where the witness hears, and what it writes.
    witness: Path
    book: Path
    key: str
    #: The disk of Postgres, if it has one of its own.
    disk: Path | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def clock(self, name: str) -> Path:
        """The file that sets the clock of a worker."""
        return clock_of(self.folder, name)

    def answers(self) -> bool:
        """Whether the API answers, and reaches its database."""
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/api/v1/ready", timeout=5).is_success
        return False


def clock_of(folder: Path, name: str) -> Path:
    """The file that sets the clock of a worker."""
    return folder / f"{name}.clock"


@contextlib.contextmanager
def staged(
    *,
    lease_seconds: float,
    command: Command | None = None,
    own_disk: bool = False,
    logs: Path | None = None,
    names: Sequence[str] = NAMES,
) -> Iterator[Stage]:
    """A platform for the length of a block; `command` starts its processes, if not as usual.

    The logs go to `logs`, if that is given. Everything ends with the block, however it ends; if this
    process is killed, the kernel ends what it started. Raises `Unavailable` where it does not start.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder())
        logs = folder if logs is None else logs
        logs.mkdir(parents=True, exist_ok=True)
        disk = stack.enter_context(_disk(folder / "postgres")) if own_disk else None
        servers = Servers(folder)
        stack.callback(servers.close)
        networks = Network(servers.postgres_socket), Network(servers.valkey_socket)
        for network in networks:
            stack.callback(network.close)
        direct = Settings(
            database_url=servers.database_url,
            broker_url=servers.broker_url,
            redis_url=servers.redis_url,
            blob_url=(folder / "blobs").as_uri(),
            blob_keys=Ring(keys=(keys.Key(id="drill", secret=os.urandom(keys.SECRET_BYTES)),)),
            home=folder,
            libraries=(LIBRARY,),
            lease_seconds=lease_seconds,
            port=_free_port(),
        )
        install(direct, key_file=folder / "admin.key")
        settings = _through(direct, *networks)
        witness, book = folder / "witness.sock", folder / "witness.txt"
        stack.enter_context(_witness(witness, book, logs / "witness.log"))
        database = session.connect(servers.database_url, size=32)
        stack.callback(database.dispose)
        broker = Broker(app=celery_app(direct))
        stack.callback(broker.close)
        running = Fleet(
            _environment(settings),
            names,
            logs,
            command=command or _clocked(folder),
            besides=_besides(names),
        )
        stack.callback(running.close)
        stage = Stage(
            folder=folder,
            settings=settings,
            servers=servers,
            database_network=networks[0],
            broker_network=networks[1],
            fleet=running,
            database=database,
            broker=broker,
            witness=witness,
            book=book,
            key=(folder / "admin.key").read_text().strip(),
            disk=disk,
        )
        if not processes.wait_until(stage.answers, seconds=_START_SECONDS):
            raise Unavailable(
                f"the drill's own platform did not start; web.log ends with\n"
                f"{processes.tail(logs / 'web.log')}"
            )
        yield stage


def can_have_disk() -> str:
    """Why Postgres cannot have a disk of its own here that can be filled; empty where it can."""
    if sys.platform != "linux":
        return "needs Linux, to mount a tmpfs"
    with tempfile.TemporaryDirectory(prefix="celeriac-drill-") as folder:
        mounted = _mount(Path(folder))
        if not mounted:
            return "needs the right to mount a tmpfs (root)"
        _unmount(Path(folder))
    return ""


def _clocked(folder: Path) -> Command:
    """Workers with a clock that can be set; everybody else as usual."""

    def command(name: str) -> Sequence[str]:
        if fleets.kind_of(name) != "worker":
            return fleets.plain(name)
        module = "celeriac.drill.clocked"
        return [sys.executable, "-P", "-m", module, str(clock_of(folder, name)), "worker"]

    return command


def _through(direct: Settings, database: Network, broker: Network) -> Settings:
    url = make_url(direct.database_url or "").set(host="127.0.0.1", port=database.port)
    over_tcp = url.difference_update_query(["host", "port"])
    redis = f"redis://127.0.0.1:{broker.port}/0"
    return replace(
        direct,
        database_url=over_tcp.render_as_string(hide_password=False),
        broker_url=redis,
        redis_url=redis,
    )


def _besides(names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """Every second worker takes turns itself, so that both ways are disturbed beside each other."""
    workers = [name for name in names if kind_of(name) == "worker"]
    return {name: {"CELERIAC_WORKER_TURNS": "1"} for name in workers[1::2]}


def _environment(settings: Settings) -> Mapping[str, str]:
    ours = ("CELERIAC_", "PG", "DATABASE_URL", "BROKER_URL", "REDIS_URL", "BLOB_URL")
    outside = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return {**outside, **settings.to_environment(), "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not TMPDIR: the path of a socket must be short. Root's Postgres has to pass through.
    folder = Path(tempfile.mkdtemp(prefix="celeriac-drill-", dir="/tmp"))  # made for us alone
    if os.geteuid() == 0:
        folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[Path]:
    place.mkdir(mode=0o711)
    if not _mount(place):
        raise Unavailable("cannot mount a tmpfs for the database; leave out disk-full")
    place.chmod(0o711)
    try:
        yield place
    finally:
        _unmount(place)


def _mount(place: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "celeriac-drill", str(place)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _unmount(place: Path) -> None:
    # Lazily: a server that was just killed may not have let go yet.
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


@contextlib.contextmanager
def _witness(place: Path, book: Path, log: Path) -> Iterator[None]:
    running = processes.spawn(
        [sys.executable, "-P", "-m", "celeriac.drill.witness", str(place), str(book)],
        log=log,
        environment=os.environ,
        leash=signal.SIGKILL,
    )
    try:
        if not processes.wait_until(place.exists, seconds=_START_SECONDS):
            raise Unavailable(f"the witness did not start; {processes.tail(log)}")
        yield
    finally:
        processes.end(running, signal.SIGKILL, seconds=5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
