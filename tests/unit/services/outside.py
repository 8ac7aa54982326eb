"""The outside, as services find it: servers in threads, that answer as a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.core.values import Json
from workers.services.service import Asked

LOOPBACK = ("127.0.0.1",)


@dataclass
class Heard:
    """One request, as a server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A server on this machine."""

    port: int
    heard: list[Heard] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Handle = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def http(handle: Handle, *, tls: Any = None) -> Iterator[Server]:
    """An HTTP server that answers by a function."""
    server = Server(port=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            self.body = body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.heard.append(Heard(self.command, self.path, headers, body))
            with contextlib.suppress(OSError):
                handle(self)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815  # names of the standard library

        def log_message(self, *_: object) -> None: ...

    serving = _Serving(("127.0.0.1", 0), Handler)
    if tls is not None:
        serving.socket = tls.wrap_socket(serving.socket, server_side=True)
    server.port = serving.server_address[1]
    thread = threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        serving.shutdown()
        serving.server_close()


class _Serving(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Whoever is cut off is cut off."""


@contextlib.contextmanager
def raw(talk: Callable[[socket.socket], None]) -> Iterator[Server]:
    """A server that says whatever it wants on every connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def each(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            talk(sock)

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=each, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield Server(port=listening.getsockname()[1])
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def reply(
    handler: BaseHTTPRequestHandler, status: int = 200, body: bytes = b"", **headers: str
) -> None:
    """Answer with a body; `content_type` is Content-Type."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def asked(
    config: dict[str, Json],
    arguments: dict[str, Json],
    *,
    private: tuple[str, ...] = LOOPBACK,
    seconds: float = 20.0,
    **fields: Any,
) -> Asked:
    """A call of a service, on a platform whose operator has opened loopback."""
    return Asked(
        config=config,
        arguments=arguments,
        idempotency_key="key-1",
        seconds=seconds,
        private=private,
        **fields,
    )


def certificate(folder: Path, name: str) -> Path:
    """A key and a certificate of a name, which nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file
