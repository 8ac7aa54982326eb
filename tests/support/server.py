"""The web process itself, and clients that speak to it over a socket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import websocket

from engine.settings import Settings
from tests.support.fleet import wait_until
from tests.support.services import ROOT


class Socket(websocket.WebSocket):  # type: ignore[misc]  # distributed without types
    """A WebSocket whose `close` closes it whatever has become of it."""

    def close(self, *given: Any, **options: Any) -> None:
        super().close(*given, **options)
        self.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A web process that answers."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: object) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=20, **options)  # type: ignore[arg-type]

    def socket(self, path: str, **options: object) -> Socket:
        """An open WebSocket, as soon as there is a place: one that was closed may still have its.

        Origin and headers are those of a program unless they are given.
        """
        for _ in range(200):
            try:
                return self.socket_now(path, **options)
            except websocket.WebSocketBadStatusException as refused:
                if refused.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            threading.Event().wait(0.05)
        raise AssertionError("no place became free")

    def socket_now(self, path: str, **options: object) -> Socket:
        """An open WebSocket. Raises `WebSocketBadStatusException` where no place is free."""
        options = {"suppress_origin": True, **options}
        return websocket.create_connection(
            f"ws://127.0.0.1:{self.port}{path}", timeout=20, class_=Socket, **options
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def running(settings: Settings, folder: Path) -> Iterator[Server]:
    """`celeriac web` on a port of its own, for the length of a block; it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running_at(replace(settings, port=port), folder) as process:
        server = Server(process=process, port=port, log=folder / "web.log")
        wait_until(lambda: _answers(server), what="the API")
        yield server


@contextlib.contextmanager
def running_at(settings: Settings, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`celeriac web` for the length of a block."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("CELERIAC_")},
        **settings.to_environment(),
        "PYTHONPATH": str(ROOT),
    }
    with (folder / "web.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celeriac", "web"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(f"{server.url}/health", timeout=5).is_success
    return False
