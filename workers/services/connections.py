"""Connections to the outside: resolved once, judged, made to the very address that was judged.

    with closing(connect(guard, "api.example.com", 443)) as stream:
        ...

Who asks for a name twice may be told two things, so a name is asked for once: every address that
comes back is judged (`engine.services.addresses`), and one of those is connected to. The name goes on
being what a server is asked for and what its certificate must say.

A `Guard` holds for one call. Its time is that of the whole call, not of each read: a server that sends
a byte now and then is cut off like one that sends nothing. Everything that waits here looks every
tenth of a second whether the attempt is to end.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Any, TypeVar

import httpcore2

from engine.services import addresses, origins
from engine.services.addresses import Address, Places
from workers.services.service import Asked

#: Seconds after which whatever waits looks whether it is to end.
_TICK = 0.1
#: Seconds that one address may take to answer while there are others.
_EACH = 10.0
#: Addresses of a name that are tried.
_MOST_TRIED = 4
_LOOPBACK = IPv4Address("127.0.0.1")

T = TypeVar("T")

#: The addresses of a name, for connections to a port. Raises `OSError`.
Resolver = Callable[[str, int], Sequence[str]]


class Unreached(Exception):
    """Why the outside could not be asked, or did not answer as it should; `reason` is one word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def resolved(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this machine resolves names."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _nothing() -> None:
    """There is nothing to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Where one call may connect to, and until when."""

    #: Places that the service's configuration names, and those that the operator has opened.
    wanted: Places = field(default_factory=Places)
    opened: Places = field(default_factory=Places)
    #: Where the platform's own servers listen: `host:port`, a folder of sockets, or a socket.
    own: tuple[str, ...] = ()
    #: Monotonic seconds: when the call must be over.
    until: float
    stopped: threading.Event = field(default_factory=threading.Event)
    resolve: Resolver = resolved
    #: Raises `Unreached` where the call is over for a reason of its service's.
    check: Callable[[], None] = _nothing

    def left(self) -> float:
        """Seconds until the call must be over. Raises `Unreached` if there are none, or it was told to end."""
        if self.stopped.is_set():
            raise Unreached("cancelled", "the attempt was told to end")
        left = self.until - time.monotonic()
        if left <= 0:
            raise Unreached("timeout", "it took longer than it may")
        self.check()
        return left

    def tick(self) -> float:
        """Seconds to wait at most before looking again."""
        return min(self.left(), _TICK)


def guard(
    asked: Asked, wanted: Iterable[str], seconds: float, *, resolve: Resolver = resolved
) -> Guard:
    """The guard of one call, whose service may take so long and wants into these private places."""
    return Guard(
        wanted=addresses.places(wanted),
        opened=addresses.places(asked.private),
        own=asked.own,
        until=time.monotonic() + min(seconds, asked.seconds),
        stopped=asked.stopped,
        resolve=resolve,
    )


class Stream(httpcore2.NetworkStream):
    """One connection that has been judged; it keeps to its guard's time."""

    def __init__(self, guard: Guard, sock: socket.socket) -> None:
        self._guard = guard
        self._sock = sock
        #: Bytes that may still be read, where that is bounded.
        self.allowance: int | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  # the guard's time holds
        if self.allowance is not None:
            max_bytes = min(max_bytes, self.allowance)
            if max_bytes <= 0:
                raise Unreached("output_too_large", "the answer is larger than it may be")
        try:
            data = self._patiently(lambda: self._sock.recv(max_bytes))
        except OSError as error:
            raise Unreached("interrupted", f"the connection broke: {_told(error)}") from None
        if self.allowance is not None:
            self.allowance -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        view = memoryview(buffer)
        try:
            while view:
                piece = view[:65_536]
                view = view[self._patiently(lambda piece=piece: self._sock.send(piece)) :]  # type: ignore[misc]
        except OSError as error:
            # The answer may be there already, and say why nobody listens any more.
            raise httpcore2.WriteError(_told(error)) from None

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> Stream:
        """Speak TLS from now on; the certificate must be that name's."""
        try:
            sock = ssl_context.wrap_socket(
                self._sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            self._sock = sock
            self._patiently(sock.do_handshake)
        except (OSError, ValueError) as error:
            self.close()
            raise Unreached("unreachable", f"TLS could not be begun: {_told(error)}") from None
        except Unreached:
            self.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of its streams."""
        if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket):
            return self._sock
        if info == "server_addr":
            return self._sock.getpeername()
        return None

    def _patiently(self, act: Callable[[], T]) -> T:
        while True:
            self._sock.settimeout(self._guard.tick())
            try:
                return act()
            except TimeoutError:
                continue


class Pinned(httpcore2.NetworkBackend):
    """The way by which httpcore connects: through a guard."""

    def __init__(self, guard: Guard, allowance: int) -> None:
        self._guard = guard
        self._allowance = allowance
        #: The connection that was made.
        self.stream: Stream | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> Stream:
        self.stream = connect(self._guard, host, port)
        self.stream.allowance = self._allowance
        return self.stream


def connect(guard: Guard, host: str, port: int) -> Stream:
    """Connect to a host by name or address. Raises `Unreached`."""
    failed = "it has no address"
    for address in judged(guard, host, port)[:_MOST_TRIED]:
        try:
            sock = _connected(guard, address, port)
        except OSError as error:
            failed = _told(error)
            continue
        return Stream(guard, sock)
    raise Unreached("unreachable", f"{host}:{port} cannot be reached: {failed}")


def connect_unix(guard: Guard, folder: str, name: str) -> Stream:
    """Connect to a unix socket that was opened, or whose folder was. Raises `Unreached`."""
    path = f"{folder}/{name}"
    if guard.wanted.folders.isdisjoint({folder, path}):
        raise Unreached("blocked", f"{folder} is not in the service's allow_private")
    if guard.opened.folders.isdisjoint({folder, path}):
        message = f"whoever runs the platform has not opened {folder} (CELERIAC_PRIVATE_HOSTS)"
        raise Unreached("blocked", message)
    if path not in guard.opened.folders and _is_own_socket(guard, path):
        raise Unreached("blocked", f"{path} is one of the platform's own servers")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(guard.left())
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise Unreached("unreachable", f"{path}: {_told(error)}") from None
    return Stream(guard, sock)


def judged(guard: Guard, host: str, port: int) -> Sequence[Address]:
    """The addresses of a host, every one of which may be reached. Raises `Unreached`."""
    literal = origins.address(host)
    found = [literal] if literal else _addresses(guard, host, port)
    for address in found:
        why = addresses.refusal(address, port, wanted=guard.wanted, opened=guard.opened)
        if why is not None:
            raise Unreached("blocked", f"{host} may not be reached: {why}")
        if _is_own(guard, address, port):
            raise Unreached("blocked", f"{host}:{port} is one of the platform's own servers")
    return found


def _addresses(guard: Guard, host: str, port: int) -> list[Address]:
    """What a name resolves to, within the time of the call: resolving itself knows no time-out."""
    answers: list[Sequence[str] | OSError | UnicodeError] = []
    done = threading.Event()

    def ask() -> None:
        try:
            answers.append(guard.resolve(host, port))
        except (OSError, UnicodeError) as error:
            answers.append(error)
        finally:
            done.set()

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    while not done.wait(guard.tick()):
        pass
    match answers:
        case [OSError() | UnicodeError() as error]:
            raise Unreached("unreachable", f"{host} cannot be resolved: {_told(error)}")
        case [[*found]] if found:
            # A zone says by which interface, and nothing of who it is.
            return [ip_address(text.partition("%")[0]) for text in found]
        case _:
            raise Unreached("unreachable", f"{host} has no address")


def _is_own(guard: Guard, address: Address, port: int) -> bool:
    """Whether one of the platform's own servers listens there, and nobody has opened that very place."""
    if guard.opened.names(address, port):
        return False
    for place in guard.own:
        host, _, listening = place.rpartition(":")
        if listening != str(port):
            continue
        literal = origins.address(host.strip("[]"))
        try:
            found = [literal] if literal else _addresses(guard, host, port)
        except Unreached as unreached:
            if unreached.reason != "unreachable":
                raise
            # Its name is not told: it is none of a tenant's business.
            message = (
                f"whether one of the platform's own servers is at {address}:{port} is not known"
            )
            raise Unreached("unreachable", message) from None
        if any(addresses.same(address, own) for own in found):
            return True
    return False


def _is_own_socket(guard: Guard, path: str) -> bool:
    """Whether one of the platform's own servers listens at a socket, or in its folder."""
    # By whatever links it is named.
    real = os.path.realpath(path)
    return any(
        _same_file(place, other)
        for place in guard.own
        if place.startswith("/")
        for other in (real, os.path.dirname(real), os.path.dirname(path))  # noqa: PTH120  # texts
    )


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return os.path.realpath(one) == other


def _connected(guard: Guard, address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    with ExitStack() as undone:
        undone.callback(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)  # noqa: FBT003  # the standard library takes it so
        _await(guard, sock, sock.connect_ex((str(address), port)))
        if sock.getpeername()[0] == sock.getsockname()[0] and _is_own(guard, _LOOPBACK, port):
            # This machine, by another of its addresses.
            raise Unreached("blocked", f"{address}:{port} is one of the platform's own servers")
        undone.pop_all()
    return sock


def _await(guard: Guard, sock: socket.socket, begun: int) -> None:
    """Wait until a connection is made. Raises `OSError` if it is not."""
    until = time.monotonic() + _EACH
    if begun == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(guard.tick() * 1000):
            if time.monotonic() > until:
                raise TimeoutError("it does not answer")
        begun = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if begun:
        raise OSError(begun, os.strerror(begun))


def _told(error: BaseException) -> str:
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(told)
