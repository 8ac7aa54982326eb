"""Writing, reading and deleting objects."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from engine.blobs import sealing
from engine.errors import Damaged, OutOfReach
from engine.keys import Ring

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)

# A store that is away shall be noticed while the lease of whoever waits for it still holds, and
# before the database ends the transaction of who deletes.
# Whether they speak plain HTTP says the endpoint that an operator gave: what travels is sealed.
_REMOTE = {
    "client_options": {"connect_timeout": "3s", "timeout": "5m", "allow_http": True},
    "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
}
#: Up to so many bytes an object goes in one request, else in parts.
_AT_ONCE = 8 * 1024 * 1024
#: How much is kept of a store's complaint.
_COMPLAINT = 300


class Blobs:
    """The objects of all tenants at a URL. Speaks to nobody before it is asked for something."""

    def __init__(self, url: str, ring: Ring) -> None:
        self._ring = ring
        self._opened = Opened(url)

    def put(self, tenant: str, sha256: str, data: bytes) -> None:
        """Write the bytes that have this sha256; whole or not at all. Raises `OutOfReach`."""
        name = _name(tenant, sha256)
        with reaching(f"write blob {sha256}"):
            pieces = sealing.sealed(data, self._ring.sealing(), name.encode())
            sealed = pieces if len(data) > _AT_ONCE else b"".join(pieces)
            obstore.put(self._store(), name, sealed)
            if self._opened.folder is not None:
                settle(self._opened.folder / name)

    def stream(self, tenant: str, sha256: str) -> Iterator[bytes]:
        """The bytes, a piece at a time; the last one once the sha256 of all was compared.

        Raises `OutOfReach` and `Damaged`.
        """
        name = _name(tenant, sha256)
        digest = hashlib.sha256()
        held: bytes | None = None
        with reaching(f"read blob {sha256}"):
            found = obstore.get(self._store(), name).stream()
            for piece in sealing.opened(found, self._ring, name.encode()):
                digest.update(piece)
                if held is not None:
                    yield held
                held = piece
        if digest.hexdigest() != sha256 or held is None:
            raise Damaged(f"cannot read blob {sha256}: its bytes have another sha256")
        yield held

    def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes, whole. Raises `OutOfReach` and `Damaged`."""
        return b"".join(self.stream(tenant, sha256))

    def has(self, tenant: str, sha256: str) -> bool:
        """Whether there is an object. Raises `OutOfReach`."""
        try:
            with reaching(f"look for blob {sha256}"):
                obstore.head(self._store(), _name(tenant, sha256))
        except Missing:
            return False
        return True

    def delete(self, tenant: str, sha256: str) -> None:
        """Take an object away, if it is there. Raises `OutOfReach`."""
        try:
            with reaching(f"delete blob {sha256}"):
                obstore.delete(self._store(), _name(tenant, sha256))
        except Missing:
            return

    def _store(self) -> Any:
        return self._opened.store()


class Opened:
    """The store at a URL, opened when it is first asked for."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        #: Where it is a folder, which.
        self.folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._opening = threading.Lock()
        self._store: Any = None

    def store(self) -> Any:
        """The store, as obstore knows it."""
        # Any: what kind of store it is, and hence its options, is in the URL.
        with self._opening:
            if self._store is None:
                if self.folder is not None:
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._store = from_url(self._url)
                elif self._url.startswith("memory:"):
                    self._store = from_url(self._url)
                else:
                    options: dict[str, Any] = {**_REMOTE}
                    self._store = from_url(self._url, **options)
            return self._store


class Missing(OutOfReach):
    """There is no such object, as far as the store knows."""


def _name(tenant: str, sha256: str) -> str:
    # Whatever is asked for, nothing leads out of the folder of a tenant.
    if not _TENANT.fullmatch(tenant) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"{tenant!r} and {sha256!r} name no blob")
    return f"{tenant}/{sha256[:2]}/{sha256}"


def check_tenant(tenant: str) -> None:
    """Refuse what would lead out of the folder of a tenant."""
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"{tenant!r} names no folder of a tenant")


@contextmanager
def reaching(purpose: str, setting: str = "BLOB_URL") -> Iterator[None]:
    """Say of whatever goes wrong what it means for who asked."""
    try:
        yield
    except FileNotFoundError as error:
        raise Missing(
            f"cannot {purpose}: there is no such object; look whether {setting} is the place where "
            "it was written, else restore it from a backup"
        ) from error
    except (BaseError, OSError) as error:
        # Behind the first line stands what is of use to the maker of the client alone.
        complaint = str(error).partition("\n")[0][:_COMPLAINT]
        raise OutOfReach(
            f"cannot {purpose}: the store does not answer as it should ({complaint})"
        ) from error
    except Damaged as error:
        raise Damaged(f"cannot {purpose}: {error.message}") from error


def settle(path: Path) -> None:
    """Have a file on the disk before anybody writes down that it is there."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
