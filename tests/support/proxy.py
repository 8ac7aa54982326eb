"""A network between a process and its database that can stop delivering without hanging up."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import make_url

from engine.settings import Settings

_CHUNK = 65_536


class Network:
    """Passes bytes on from a TCP port to a Unix socket, in both directions, while it delivers."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._delivers = threading.Event()
        self._delivers.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Deliver nothing any more. Whoever waits for an answer waits without end."""
        self._delivers.clear()

    def mend(self) -> None:
        """Deliver all that has been sent."""
        self._delivers.set()

    def close(self) -> None:
        self.mend()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        self._delivers.wait()
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(self._target)
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._delivers.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def between(settings: Settings) -> Iterator[tuple[Settings, Network]]:
    """Settings under which the database lies behind such a network."""
    url = make_url(settings.database_url or "")
    network = Network(f"{url.query['host']}/.s.PGSQL.{url.query.get('port', 5432)}")
    over_tcp = url.set(host="127.0.0.1", port=network.port).difference_update_query(
        ["host", "port"]
    )
    try:
        yield (
            replace(settings, database_url=over_tcp.render_as_string(hide_password=False)),
            network,
        )
    finally:
        network.close()
