"""The whole platform as real processes on the shared servers: web, coordinator, worker."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import websocket

from celeriac.embedded.install import install
from engine.settings import Settings
from tests.support import site
from tests.support.fleet import Fleet, fleet, wait_until
from tests.support.server import Socket
from tests.support.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A platform that serves this machine's user without a credential, like the embedded one."""

    settings: Settings
    fleet: Fleet
    key_file: Path

    @property
    def address(self) -> str:
        return f"localhost:{self.settings.port}"

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=f"http://{self.address}", timeout=60)

    def socket(self, path: str) -> Socket:
        return websocket.create_connection(
            f"ws://{self.address}{path}", timeout=60, class_=Socket, suppress_origin=True
        )


@contextlib.contextmanager
def running(shared: Services, folder: Path, **changes: Any) -> Iterator[Stack]:
    """The processes of a platform for the length of a block; `changes` are to its settings."""
    with site.of_its_own(shared, folder) as own:
        settings = replace(own, anonymous=True, supervised=True, port=_free_port(), **changes)
        key_file = folder / "admin.key"
        install(settings, key_file=key_file)
        with fleet(settings, ["web", "coordinator1", "worker1"], folder) as processes:
            stack = Stack(settings=settings, fleet=processes, key_file=key_file)
            with stack.client() as client:
                wait_until(lambda: _answers(client), what="the API")
            yield stack


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(client: httpx2.Client) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return client.get("/health").is_success
    return False
