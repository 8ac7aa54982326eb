"""A network between processes and a server that can stop delivering, be slow, and hang up."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

_CHUNK = 65_536
#: Hang up at once: the other side is told that the connection was reset.
_RESET = struct.pack("ii", 1, 0)


class Network:
    """Passes bytes on from a TCP port of this machine to a Unix socket, in both directions."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._delivers = threading.Event()
        self._delivers.set()
        self._late = 0.0
        self._lock = threading.Lock()
        self._near: set[socket.socket] = set()
        self._hung: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="network", daemon=True).start()

    def mute(self) -> None:
        """Take connections, and deliver nothing: whoever waits for an answer waits without end."""
        self._delivers.clear()

    def mend(self) -> None:
        """Deliver all that has been sent, and what is sent from now on at once."""
        self._late = 0.0
        self._delivers.set()

    def slow(self, seconds: float) -> None:
        """Deliver everything so much later, or up to as much earlier than that."""
        self._late = seconds

    def hang_up(self, rng: random.Random) -> bool:
        """Reset one of the connections; whether there was one."""
        with self._lock:
            if not self._near:
                return False
            chosen = rng.choice(sorted(self._near, key=lambda near: near.fileno()))
            self._near.discard(chosen)
            self._hung.add(chosen)
        with contextlib.suppress(OSError):
            chosen.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # Who reads from it is woken, and closes it.
            chosen.shutdown(socket.SHUT_RD)
        return True

    def close(self) -> None:
        """Take no more connections."""
        self.mend()
        with contextlib.suppress(OSError):
            # Else a thread that accepts would hold it open until somebody comes.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        self._delivers.wait()
        with near, socket.socket(socket.AF_UNIX) as far:
            try:
                far.connect(self._target)
            except OSError:
                return
            with self._lock:
                self._near.add(near)
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()
            with self._lock:
                self._near.discard(near)
                self._hung.discard(near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._delivers.wait()
                # What came after the hang-up may still be there to read; nobody must hear of it.
                if source in self._hung or target in self._hung:
                    break
                if late := self._late:
                    time.sleep(random.uniform(0, 2 * late))  # noqa: S311  # no secret
                target.sendall(data)
        for end in (source, target):
            # A polite end would come before the reset, and be all that the other side hears.
            if end not in self._hung:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
