"""One WebSocket: its handshake, its client's messages, and an orderly end.

A thin layer over simple-websocket, which leaves three things to us: what is sent is sent whole
or not at all, a client that does not read cannot hold a thread for ever, and a message of the
client wakes whoever waits for news of a run.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import structlog
from flask import Request, Response
from simple_websocket import ConnectionClosed, Server
from simple_websocket.errors import SimpleWebsocketError
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from engine.core.problem import Problem
from web import connection
from web.errors import BadRequest

#: How often a client is asked whether it is there.
PING_SECONDS = 25
#: Clients have little to say.
MESSAGE_BYTES = 4096
#: The longest reason that fits into the frame that closes.
_REASON_BYTES = 120

NORMAL = 1000
BROKEN = 1011
RESTARTING = 1012
TRY_AGAIN = 1013
UNAUTHENTICATED = 4401
FORBIDDEN = 4403
NOT_FOUND = 4404

_log = structlog.get_logger(__name__)

Closed = ConnectionClosed
_GONE = (ConnectionClosed, OSError, LocalProtocolError)


class Connection:
    """An open socket to one client."""

    def __init__(self, request: Request) -> None:
        self._woken: Callable[[], None] = _nobody
        try:
            self._server = Server(
                {**request.environ, **_whole(request.environ)},
                ping_interval=PING_SECONDS,
                max_message_size=MESSAGE_BYTES,
                event_class=lambda: _Ringing(self._wake),
                # It may outlast the socket's last word; the process must not wait for it.
                thread_class=partial(threading.Thread, daemon=True),
            )
        except (RemoteProtocolError, SimpleWebsocketError) as error:
            raise BadRequest(
                [Problem(path="", message=f"not the handshake of a WebSocket: {error}")]
            ) from error

    def wakes(self, woken: Callable[[], None]) -> None:
        """Have somebody woken whenever the client says something, or leaves."""
        self._woken = woken
        # What it said before is waiting already.
        woken()

    def send(self, text: str) -> None:
        """Send one message. Raises `Closed` when the client is gone."""
        try:
            self._server.send(text)
        except (OSError, LocalProtocolError) as error:
            raise Closed from error

    def received(self) -> Iterator[str]:
        """What the client has said since the last look. Raises `Closed` when it is gone."""
        while (message := self._server.receive(timeout=0)) is not None:
            if isinstance(message, str):
                yield message

    def close(self, code: int, reason: str) -> None:
        """Say why, and end."""
        shown = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        with suppress(*_GONE):
            self._server.close(code, shown)

    def left(self) -> None:
        """Be done with it, in whatever state it is; what was not closed by then has broken."""
        self.close(BROKEN, "the stream broke; connect again")
        self._server.thread.join(timeout=1)

    def _wake(self) -> None:
        self._woken()


class Handled(Response):
    """What a route returns when its socket is done: the server must not answer any more."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__()
        self._gunicorn = "gunicorn.socket" in environ

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if self._gunicorn:
            # gunicorn's word for a connection that somebody else has dealt with.
            raise StopIteration
        if "werkzeug.socket" in environ:
            return super().__call__(environ, start_response)
        return []


@contextmanager
def opened(request: Request) -> Iterator[Connection]:
    """A socket for the length of a block; a client that leaves ends the block quietly.

    Whatever else the block raises is written down here: its client has had its answer.
    """
    client = Connection(request)
    try:
        yield client
    except Closed:
        pass
    except Exception:  # noqa: BLE001  # nobody above can answer on a socket that is a stream
        _log.exception("websocket.broken", path=request.path)
    finally:
        client.left()


def _nobody() -> None:
    """Wake nobody."""


class _Ringing(threading.Event):
    """The socket's own event, which also wakes us."""

    def __init__(self, woken: Callable[[], None]) -> None:
        super().__init__()
        self._woken = woken

    def set(self) -> None:
        super().set()
        self._woken()


class _Whole:
    """A socket whose `send` sends all, one caller at a time: pings come from another thread."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._lock = threading.Lock()

    def send(self, data: bytes) -> int:
        with self._lock:
            self._inner.sendall(data)
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _whole(environ: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _Whole(connection.bound(environ[name])) for name in connection.KEYS if name in environ
    }
