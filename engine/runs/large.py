"""Values that are too large for a row: kept as blobs, and read wherever they are named.

**What is large.** A result strictly over 1 MiB (`values.INLINE_BYTES`, of its canonical JSON in
UTF-8), and the arguments and the value of a tool call likewise. Of what is written into the
variables the largest values, as soon as all variables together would pass 256 KiB
(`values.VARIABLES_BYTES`). Variables with a reducer stay where they are: contributions are added
up. What does not fit even so, and a value over `CELERIAC_VALUE_BYTES`, is an error for good.

**What is kept.** The canonical text itself; so the sha256 of a blob is the digest of its value,
and the same value is kept once for each tenant.

**Order.** Whoever keeps a value touches the row of its blob and *commits*; only then does he
look whether the object is there, and writes it if it is not. The reference is a row of the run,
written in the transaction that makes the event known, so what history names is held from its
first moment. Collection takes what no run refers to and nobody has touched for a day: it marks
it, and later takes the object and the row away under the lock of the row. A writer who touches
it meanwhile waits, finds no row, and writes the object anew.

**Reading** never happens in a transaction: an object store may take its time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection

from engine.core.references import Read, Readable
from engine.core.values import INLINE_BYTES, Inline, Json, Ref, Value, canonical, marked, plain
from engine.errors import CeleriacError, NotFound, OutOfReach
from engine.platform import Platform
from engine.store import blobs, session
from engine.store.ids import RunId

#: For how long an unreferenced blob is left alone, in seconds.
UNTOUCHED = 86_400.0
#: Blobs that one collection marks, and that it takes away.
BATCH = 1000
#: A character takes so many bytes in UTF-8 at most.
_WIDEST = 4


class ValueTooLarge(CeleriacError):
    """A value is larger than any value may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob on its way to who asked for it."""

    size: int
    pieces: Iterator[bytes]


def keep(platform: Platform, tenant: str, value: Json) -> Ref:
    """Keep a value as a blob. Raises `ValueTooLarge`, and `Unavailable` if it may work later."""
    return _keep(platform, tenant, canonical(value).encode())


def kept(platform: Platform, tenant: str, value: Json) -> Value:
    """A value as it travels: as it is, or as a reference if it is large. Raises as `keep`."""
    text = canonical(value)
    if len(text) * _WIDEST <= INLINE_BYTES:
        return Inline(value=value)
    data = text.encode()
    return Inline(value=value) if len(data) <= INLINE_BYTES else _keep(platform, tenant, data)


def keep_all(platform: Platform, tenant: str, values: Iterable[Json]) -> dict[str, Json]:
    """Keep values as blobs; a reference to each as it stands in variables, by its digest.

    Raises as `keep`.
    """
    refs = [keep(platform, tenant, value) for value in values]
    return {ref.sha256: plain(ref) for ref in refs}


def refers(record: Mapping[str, Json]) -> bool:
    """Whether any blob stands among some values."""
    return any(marked(value) is not None for value in record.values())


def refer(connection: Connection, run: RunId, *records: Mapping[str, Json]) -> None:
    """Let a run hold whatever blobs stand among some values. Nothing is said if there are none.

    Raises `OutOfReach` if one of them is no longer kept, so that the caller does it all again.
    """
    names = sorted(
        {ref.sha256 for record in records for ref in map(marked, record.values()) if ref}
    )
    if names and (gone := set(names) - blobs.refer(connection, run, names)):
        raise OutOfReach(f"blob {min(gone)} is not kept any more; it has to be written again")


def read(platform: Platform, tenant: str, ref: Ref) -> Json:
    """The value that a reference stands for. Raises `OutOfReach` and `Damaged`."""
    value: Json = orjson.loads(platform.blobs.get(tenant, ref.sha256))
    return value


def reader(platform: Platform, tenant: str) -> Read:
    """Reads references, each once."""
    known: dict[str, Json] = {}

    def found(ref: Ref) -> Json:
        if ref.sha256 not in known:
            known[ref.sha256] = read(platform, tenant, ref)
        return known[ref.sha256]

    return found


def readable(platform: Platform, tenant: str, values: Mapping[str, Json]) -> Readable:
    """Values by name, read when they are named."""
    return Readable(values, reader(platform, tenant))


def shown(platform: Platform, tenant: str, value: Json) -> Json:
    """A stored value as it is shown: whole, wherever it lies."""
    ref = marked(value)
    return value if ref is None else read(platform, tenant, ref)


def stream(platform: Platform, tenant: str, sha256: str) -> Blob:
    """A blob of a tenant. Raises `NotFound`; what goes wrong later ends its pieces early."""
    with session.transaction(platform.database) as connection:
        size = blobs.size(connection, tenant, sha256)
    if size is None:
        raise NotFound(f"Blob not found: {sha256}")
    return Blob(size=size, pieces=platform.blobs.stream(tenant, sha256))


def collect(platform: Platform) -> int:
    """Take away what nobody refers to and nobody has touched for a day; how many blobs."""
    with session.transaction(platform.database) as connection:
        blobs.condemn(connection, older_than=UNTOUCHED, limit=BATCH)
    for taken in range(BATCH):
        if not _take(platform):
            return taken
    return BATCH


def _keep(platform: Platform, tenant: str, data: bytes) -> Ref:
    most = platform.settings.value_bytes
    if len(data) > most:
        raise ValueTooLarge(
            f"a value is {len(data)} bytes as JSON, and {most} are allowed (CELERIAC_VALUE_BYTES); "
            "keep large data elsewhere and pass its name"
        )
    sha256 = hashlib.sha256(data).hexdigest()
    with session.transaction(platform.database) as connection:
        there = blobs.touch(connection, tenant, sha256, len(data))
    if not there:
        platform.blobs.put(tenant, sha256, data)
        with session.transaction(platform.database) as connection:
            blobs.stored(connection, tenant, sha256)
    return Ref(sha256=sha256, size=len(data))


def _take(platform: Platform) -> bool:
    """Take one condemned blob away; whether there was one."""
    with session.transaction(platform.database) as connection:
        row = blobs.take(connection, older_than=UNTOUCHED)
        if row is None:
            return False
        # Locked first, looked at afterwards: a reference that was made before the lock is seen.
        if not blobs.pardon(connection, row.tenant_id, row.sha256):
            platform.blobs.delete(row.tenant_id, row.sha256)
            blobs.forget(connection, row.tenant_id, row.sha256)
    return True
