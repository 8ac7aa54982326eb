"""A Postgres and a Valkey of one's own, to crash and to start again."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from celeriac.embedded import postgres, processes, valkey

#: Processes are killed here, never the machine: nothing is lost by not syncing. What they share lies in
#: their folder: elsewhere it would outlive whoever is killed.
FAST: Mapping[str, str] = {
    "fsync": "off",
    "max_connections": "400",
    "dynamic_shared_memory_type": "mmap",
}


class Servers:
    """Both servers. They end with the thread that starts them, however that ends."""

    def __init__(self, folder: Path, *, options: Mapping[str, str] = FAST) -> None:
        self.cluster = postgres.locate(
            folder / "postgres", log=folder / "postgres.log", options=options
        )
        self.valkey_server = valkey.locate(folder / "valkey", log=folder / "valkey.log")
        self.start_valkey()
        self.start_postgres()
        self.database_url = postgres.ensure_database(self.cluster)
        self.broker_url = self.valkey_server.broker_url()
        self.redis_url = self.valkey_server.redis_url()

    @property
    def postgres_socket(self) -> str:
        return str(self.cluster.sockets / f".s.PGSQL.{postgres.PORT}")

    @property
    def valkey_socket(self) -> str:
        return str(self.valkey_server.socket)

    def start_postgres(self) -> None:
        self.postgres = postgres.start(self.cluster, leash=signal.SIGKILL)

    def crash_postgres(self) -> None:
        """As a power cut would: no session ends in order, recovery is needed."""
        postgres.crash(self.cluster, self.postgres)

    def kill_postgres(self) -> None:
        """`kill -9` of the server alone: its sessions notice a moment later."""
        processes.end(self.postgres, signal.SIGKILL, seconds=5)

    def start_valkey(self) -> None:
        self.valkey = valkey.start(self.valkey_server, leash=signal.SIGKILL)

    def crash_valkey(self) -> None:
        """`kill -9`."""
        valkey.crash(self.valkey_server, self.valkey)

    def close(self) -> None:
        """End both at once."""
        self.crash_postgres()
        self.crash_valkey()
