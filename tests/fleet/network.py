"""A fleet's servers as it finds them: by URL, over TCP, each behind a password."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import redis

from celeriac.embedded import folders, postgres, processes, valkey
from celeriac.embedded.processes import Running
from tests.fleet import compose

_SECONDS = 60
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The two URLs that a fleet is given, as its operator writes them."""

    database_url: str
    broker_url: str


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Both servers for the length of a block, on ports of their own."""
    with _postgres(folder) as database_url, _valkey(folder) as broker_url:
        yield Servers(database_url=database_url, broker_url=broker_url)


def free_port() -> int:
    """A port that nothing listens on."""
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert isinstance(port, int)
        return port


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """A server whose login is no superuser, as those that others run for you are."""
    log, port = folder / "postgres.log", free_port()
    cluster = postgres.locate(folder / "postgres", log=log)
    admin, password = secrets.token_hex(16), secrets.token_hex(16)
    words = cluster.folder / "password"
    words.write_text(admin)
    words.chmod(0o644)
    data = folders.private(cluster.data, owner=cluster.account.user if cluster.account else None)
    made = processes.spawn(
        [
            cluster.binaries / "initdb",
            f"--pgdata={data}",
            "--username=admin",
            f"--pwfile={words}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ],
        log=log,
        environment=_ENVIRONMENT,
        account=cluster.account,
    )
    assert made.process is not None
    assert made.process.wait() == 0, processes.tail(log)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
    }
    command: list[str | Path] = [cluster.binaries / "postgres", "-D", data]
    for name, text in options.items():
        command += ["-c", f"{name}={text}"]
    running = processes.spawn(
        command,
        log=log,
        environment=_ENVIRONMENT,
        account=cluster.account,
        leash=signal.SIGKILL,
    )
    try:
        _prepare(f"postgresql://admin:{admin}@127.0.0.1:{port}/postgres", password, running, log)
        yield f"postgresql://fleet:{password}@127.0.0.1:{port}/celeriac"
    finally:
        processes.end(running, signal.SIGQUIT, seconds=10)


def _prepare(url: str, password: str, running: Running, log: Path) -> None:
    def answers() -> bool:
        with (
            contextlib.suppress(psycopg2.OperationalError),
            contextlib.closing(psycopg2.connect(url)),
        ):
            return True
        return not processes.alive(running)

    processes.wait_until(answers, seconds=_SECONDS)
    assert processes.alive(running), processes.tail(log)
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE fleet LOGIN CREATEROLE PASSWORD %s", (password,))
            cursor.execute("CREATE DATABASE celeriac OWNER fleet")


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    """A server started by the very command of docker-compose.yml, but on a port of this machine."""
    log, port, password = folder / "valkey.log", free_port(), secrets.token_hex(16)
    place = folder / "valkey-data"
    place.mkdir()
    programs = folder / "programs"
    programs.mkdir()
    server = valkey.locate(folder / "valkey", log=log)
    (programs / "valkey-server").symlink_to(server.binary)
    command = [
        word.replace("--dir /data", f"--dir {place} --bind 127.0.0.1 --port {port}")
        for word in compose.command("valkey")
    ]
    running = processes.spawn(
        command,
        log=log,
        environment={
            **_ENVIRONMENT,
            "PATH": f"{programs}{os.pathsep}{_ENVIRONMENT['PATH']}",
            "REDISCLI_AUTH": password,
        },
        leash=signal.SIGKILL,
    )
    client = redis.Redis(port=port, password=password)

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(client.ping())
        return not processes.alive(running)

    try:
        processes.wait_until(answers, seconds=_SECONDS)
        assert processes.alive(running), processes.tail(log)
        yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        client.close()
        processes.end(running, signal.SIGKILL, seconds=10)
