"""The connection that a request came on: whether somebody is still there, and for how long."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import Any

from gunicorn.http.errors import NoMoreData, ParseException

#: What reading raises where a body does not come as its headers announce it.
BROKEN = (ParseException, NoMoreData, BlockingIOError, ConnectionError, TimeoutError)
#: Where servers put it into the environment of a request.
KEYS = ("gunicorn.socket", "werkzeug.socket")
#: A client that does not send what it has begun is gone after this,
RECEIVE_SECONDS = 5
#: and one that does not read what it asked for after this.
SEND_SECONDS = 20
#: How much of a body that is refused is read over, and for how long.
_DRAIN_BYTES = 67_108_864
_DRAIN_SECONDS = 10.0


def is_gone(environ: dict[str, Any]) -> bool:
    """Whether the client has closed its end.

    Who streams or waits looks now and then: a write would tell too, but only the second one.
    """
    for key in KEYS:
        if key in environ:
            try:
                return not environ[key].recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except (OSError, ValueError):
                return True
    return False


def drain(environ: dict[str, Any]) -> None:
    """Read on over what is left of a body, within reason.

    Many a client looks at an answer only when it has sent everything, and takes a connection
    that is closed before for a failure of the network.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    left = _DRAIN_BYTES
    with suppress(OSError, ValueError, ParseException):
        while left > 0 and time.monotonic() < deadline:
            chunk = environ["wsgi.input"].read(min(left, 65_536))
            if not chunk:
                return
            left -= len(chunk)


def bound(connection: socket.socket) -> socket.socket:
    """Have reading and writing give up on a client that does its part no more."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _time(RECEIVE_SECONDS))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _time(SEND_SECONDS))
    return connection


def _time(seconds: int) -> bytes:
    """A `struct timeval`."""
    return struct.pack("ll", seconds, 0)
