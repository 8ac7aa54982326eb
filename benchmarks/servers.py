"""What both stand on: one Postgres that syncs every commit, and one Valkey."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg2
import redis
from celery import Celery

from celeriac.embedded import postgres, processes, valkey
from celeriac.embedded.processes import Running

#: The checkout.
ROOT = Path(__file__).parents[1]
#: Read back from the server, so that nobody has to believe what was asked for.
_READ_BACK = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_connections",
)
_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Both servers, running, in one folder that goes with them."""

    folder: Path
    cluster: postgres.Cluster
    valkey: valkey.Server
    running: Mapping[str, Running]

    @property
    def environment(self) -> Mapping[str, str]:
        """What every process that is measured starts with."""
        mine = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "CELERY", "CELERIAC", "FLOWER"))
            and name not in ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "BLOB_URL")
        }
        return {**mine, "PYTHONPATH": str(ROOT)}

    def broker_url(self, number: int) -> str:
        return self.valkey.broker_url(number)

    def redis_url(self, number: int) -> str:
        return self.valkey.redis_url(number)

    def database(self, name: str) -> str:
        """A new, empty database."""
        return postgres.ensure_database(self.cluster, name)

    def drop(self, name: str) -> None:
        with self.session() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def flush(self, *numbers: int) -> None:
        for number in numbers:
            with redis.from_url(self.redis_url(number)) as client:
                client.flushdb()

    def configuration(self) -> dict[str, str]:
        """What the servers say of themselves."""
        with self.session() as cursor:
            cursor.execute(
                "SELECT name, current_setting(name) FROM unnest(%s) AS name", (list(_READ_BACK),)
            )
            found = {f"postgres {name}": str(setting) for name, setting in cursor.fetchall()}
        with redis.from_url(self.redis_url(0)) as client:
            found["valkey version"] = str(client.info("server")["valkey_version"])
            for name in ("appendonly", "appendfsync", "maxmemory-policy"):
                found[f"valkey {name}"] = str(client.config_get(name)[name])
        return dict(sorted(found.items()))

    def pids(self) -> Mapping[str, Sequence[int]]:
        return {name: [running.pid] for name, running in self.running.items()}

    def await_answers(self, app: Celery, count: int) -> None:
        """Wait until so many Celery processes answer."""
        if not processes.wait_until(
            lambda: len(app.control.ping(timeout=1.0, limit=count) or ()) >= count, seconds=_SECONDS
        ):
            raise RuntimeError(f"{count} processes of Celery do not answer; see {self.folder}")

    def end(self, running: Sequence[Running]) -> None:
        """End processes in order; those that do not, without."""
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGTERM)
        for one in running:
            if not processes.wait_until(partial(_ended, one), seconds=15):
                processes.end(one, signal.SIGKILL, seconds=5)

    @contextmanager
    def session(self, database: str = "postgres") -> Iterator[psycopg2.extensions.cursor]:
        """As the owner of everything, each statement by itself."""
        with contextlib.closing(
            psycopg2.connect(
                host=str(self.cluster.sockets), user=postgres.SUPERUSER, dbname=database
            )
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor


@contextmanager
def started(parent: Path) -> Iterator[Servers]:
    """Servers of our own for the length of a block, durable as in production."""
    folder = Path(tempfile.mkdtemp(prefix="celeriac-", dir=parent))
    if os.geteuid() == 0:
        # Root's Postgres is another account's, which has to pass through.
        folder.chmod(0o711)
    cluster = postgres.locate(folder / "postgres", log=folder / "postgres.log")
    server = valkey.locate(folder / "valkey", log=folder / "valkey.log")
    running: dict[str, Running] = {}
    try:
        running["valkey"] = valkey.start(server, leash=signal.SIGKILL)
        running["postgres"] = postgres.start(cluster, leash=signal.SIGKILL)
        yield Servers(folder=folder, cluster=cluster, valkey=server, running=running)
    finally:
        if "postgres" in running:
            postgres.stop(cluster, running["postgres"])
        if "valkey" in running:
            valkey.crash(server, running["valkey"])
        shutil.rmtree(folder, ignore_errors=True)


def _ended(running: Running) -> bool:
    return not processes.alive(running)
