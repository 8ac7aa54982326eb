"""Real servers for tests: one Postgres and one Valkey for all processes of a pytest session.

The first test that asks starts a keeper, which owns both servers. Every pytest process holds a shared
lock for as long as it lives; the keeper waits for the exclusive one, so it learns from the kernel that
all are gone, however they ended, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg2
import redis

import migrations
from celeriac.drill.servers import FAST
from celeriac.embedded import postgres, processes, valkey
from celeriac.embedded.processes import Running

FOLDER_VARIABLE = "CELERIAC_TEST_SERVICES"
TEMPLATE = "template_celeriac"
ROOT = Path(__file__).parents[2]

#: Bytes that servers of tests may come to need.
_ROOM = 4 * 1024**3
#: Each test has one to itself; the numbers come round again long after a test has ended.
_VALKEY_DATABASES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Both servers, as any process can reach them."""

    cluster: postgres.Cluster
    valkey: valkey.Server


def _place() -> str:
    """Where servers of tests keep their files: in memory, where there is room for them.

    A database for each test is hundreds of files: most of what such a test takes, on a disk.
    """
    try:
        room = os.statvfs("/dev/shm")
    except OSError:
        return "/tmp"
    ample = room.f_bavail * room.f_frsize >= _ROOM and os.access("/dev/shm", os.W_OK | os.X_OK)
    return "/dev/shm" if ample else "/tmp"


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder whose sockets have short paths, and that root's Postgres may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="celeriac-", dir=_place()))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- one session ------------------------------------------------------------------------------


def join_session() -> bool:
    """Count this process among the users; whether it is the one that opened the session."""
    first = FOLDER_VARIABLE not in os.environ
    if first:
        folder = Path(tempfile.mkdtemp(prefix="celeriac-test-", dir=_place()))
        if os.geteuid() == 0:
            folder.chmod(0o711)
        os.environ[FOLDER_VARIABLE] = str(folder)
    _held.append(_lock(_folder() / "users", fcntl.LOCK_SH))
    return first


def end_session() -> None:
    """Let go; wait until the keeper has cleaned up."""
    folder = _folder()
    while _held:
        os.close(_held.pop())
    del os.environ[FOLDER_VARIABLE]
    if not (folder / "keeper.log").exists():
        shutil.rmtree(folder, ignore_errors=True)
    processes.wait_until(lambda: not folder.exists(), seconds=20)


def shared() -> Services:
    """The session's servers, started if nobody has asked before."""
    folder = _folder()
    ready = folder / "ready.pickle"
    starting = _lock(folder / "start", fcntl.LOCK_EX)
    try:
        if not ready.exists():
            _start_keeper(folder, ready)
        return pickle.loads(ready.read_bytes())
    finally:
        os.close(starting)


def create_database(services: Services) -> str:
    """A database of its own for one test, with today's schema; its URL."""
    name = f"test_{uuid4().hex[:12]}"
    _execute(services.cluster, f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}" STRATEGY FILE_COPY')
    return services.cluster.url(name)


def drop_database(services: Services, url: str) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    _execute(services.cluster, f'DROP DATABASE "{name}" WITH (FORCE)')


def take_valkey_database(services: Services) -> int:
    """The number of an empty Valkey database for one test."""
    with redis.from_url(services.valkey.redis_url(0)) as client:
        number = 1 + int(client.incr("taken")) % (_VALKEY_DATABASES - 1)
    flush(services.valkey.redis_url(number))
    return number


def flush(url: str) -> None:
    with redis.from_url(url) as client:
        client.flushdb()


def prepare(folder: Path) -> None:
    """Put the data of a cluster into a folder: as new, with today's schema; made once a session."""
    prepared = _folder() / "prepared"
    held = _lock(_folder() / "prepare", fcntl.LOCK_EX)
    try:
        if not prepared.exists():
            cluster = postgres.locate(
                _folder() / "preparing", log=_folder() / "preparing.log", options=FAST
            )
            running = postgres.start(cluster, leash=signal.SIGKILL)
            migrations.upgrade(postgres.ensure_database(cluster))
            postgres.stop(cluster, running)
            cluster.data.rename(prepared)
    finally:
        os.close(held)
    folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    # Not by ourselves: its files belong to the server's account.
    subprocess.run(["cp", "-Rp", prepared, folder / "data"], check=True)


# --- the keeper -------------------------------------------------------------------------------


def keep(folder: Path) -> None:
    """Start both servers and the template, then wait until nobody needs them."""
    cluster = postgres.locate(folder / "postgres", log=folder / "postgres.log", options=FAST)
    server = valkey.locate(
        folder / "valkey", log=folder / "valkey.log", databases=_VALKEY_DATABASES
    )
    running: list[Running] = []
    try:
        running.append(valkey.start(server, leash=signal.SIGKILL))
        running.append(postgres.start(cluster, leash=signal.SIGKILL))
        migrations.upgrade(postgres.ensure_database(cluster, TEMPLATE))
        beside = folder / "ready.new"
        beside.write_bytes(pickle.dumps(Services(cluster=cluster, valkey=server)))
        beside.rename(folder / "ready.pickle")
        _lock(folder / "users", fcntl.LOCK_EX)
    finally:
        for process in running:
            processes.end(process, signal.SIGKILL, seconds=10)
        processes.wait_until(
            lambda: not processes.working_in(cluster.data, account=cluster.account), seconds=10
        )
    shutil.rmtree(folder)


_held: list[int] = []


def _start_keeper(folder: Path, ready: Path) -> None:
    log = folder / "keeper.log"
    with log.open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.services", str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    processes.wait_until(lambda: ready.exists() or keeper.poll() is not None, seconds=90)
    if not ready.exists():
        raise RuntimeError(f"the test servers did not start:\n{processes.tail(log, lines=40)}")
    # It outlives this process, which is not to be warned of at its end: nobody asks what it returns.
    keeper.returncode = 0


def _folder() -> Path:
    return Path(os.environ[FOLDER_VARIABLE])


def _lock(path: Path, how: int) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, how)
    return file


def _execute(cluster: postgres.Cluster, statement: str) -> None:
    with contextlib.closing(
        psycopg2.connect(host=str(cluster.sockets), user=postgres.SUPERUSER, dbname="postgres")
    ) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


if __name__ == "__main__":
    # Pickled by the name that other processes import, not as __main__.
    from tests.support import services

    services.keep(Path(sys.argv[1]))
