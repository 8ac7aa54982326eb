"""Objects by tenant and sha256: what is too large for a row, sealed, wherever `BLOB_URL` says.

One small port over obstore: a folder, S3 and what speaks like it, Google, Azure, memory. It
knows nothing of rows, runs or JSON; that an object is there, and when it may go, is told by the
row of the blob (`engine.store.blobs`), and the order of both is kept by `engine.runs.large`.

**Name.** `TENANT/ab/abcd…`: the tenant's id and the sha256 of the plain bytes, never a path that
anybody else chose. The same bytes have the same name, so writing twice does no harm.

**Sealed.** AES-256-GCM, a megabyte at a time, so that a value of any size is written and read in
bounded memory. Each object has a key of its own, drawn (HKDF) from a key of the *ring* and a
salt in the object's head; the head also names the ring's key. Tenant, sha256, the place of each
piece and whether it is the last are bound to it: pieces of other objects, pieces in another
order and an object cut short are all refused. The ring is `CELERIAC_BLOB_KEYS`: its first key
seals, all of them open; a key is retired when nothing that it sealed is left.

**Checked.** Whoever reads gets the last piece only after the sha256 of the whole has been
compared, so what has been read to its end is what was written.

**Errors.** `OutOfReach` where trying again may help (the store does not answer, the object or
its key is not there), `Damaged` where it will not.
"""

from __future__ import annotations

from engine.blobs.anchors import Anchors
from engine.blobs.objects import Blobs

__all__ = ["Anchors", "Blobs"]
