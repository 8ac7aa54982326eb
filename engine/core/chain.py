"""What the audit is made of: texts that are hashed, links, marks, the tree over what moved.

Whoever verifies needs these functions and the rows, and no secret. Each text is the canonical
JSON of all that a row says, so two rows that differ never have one hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from engine.core.values import Json, canonical

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: What of a line's hash an anchor keeps, in bytes: enough to tell which line was altered. That
#: one was, the whole hash of the last line proves.
MARK_BYTES = 8

Kind: TypeAlias = Literal["act", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One thing that moved: an act that was sealed, or a run that has more lines."""

    kind: Kind
    #: The id of the act, or of the run.
    subject: str
    #: The act's position in its chain, or the run's last line.
    seq: int
    hash: bytes
    #: Of a run: the first bytes of the hash of each line since the leaf before.
    marks: bytes = b""

    def told(self) -> list[Json]:
        """As it is written down outside the database."""
        return [self.kind, self.subject, self.seq, self.hash.hex(), self.marks.hex()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What a tenant's audit had come to at a time."""

    tenant: str
    number: int
    at: datetime
    #: How long the chain of acts is, and the hash of its last link.
    position: int
    acts: bytes
    #: Over the leaves, and how many there are.
    root: bytes
    count: int
    #: The hash of the anchor before; empty for the first.
    previous: bytes

    def told(self) -> dict[str, Json]:
        """As it is hashed, signed, and written down outside the database."""
        return {
            "tenant": self.tenant,
            "number": self.number,
            "at": microseconds(self.at),
            "position": self.position,
            "acts": self.acts.hex(),
            "root": self.root.hex(),
            "count": self.count,
            "previous": self.previous.hex(),
        }

    def text(self) -> bytes:
        """What is signed."""
        return canonical(self.told()).encode()

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.text()).digest()


def act_text(
    *,
    tenant: str,
    id: str,  # noqa: A002  # the column's name
    at: datetime,
    by: str,
    action: str,
    subject: str,
    why: str,
    detail: str,
    before: str | None,
    after: str | None,
) -> str:
    """All that an act says. `detail` is the JSON text that is stored."""
    return canonical(
        [tenant, id, microseconds(at), by, action, subject, why, detail, before, after]
    )


def link(before: bytes, text: str) -> bytes:
    """The hash that chains a text to what came before; the first follows the empty string."""
    return hashlib.sha256(before + text.encode()).digest()


def line(
    before: bytes,
    *,
    run: str,
    seq: int,
    at: datetime,
    kind: str,
    format: int,  # noqa: A002  # the column's name
    body: str,
    payload_id: str | None,
) -> bytes:
    """The hash that chains a line of a run's history to the one before."""
    told = f"{run}|{seq}|{microseconds(at)}|{kind}|{format}|{body}|{payload_id or ''}"
    return link(before, told)


def root(leaves: Sequence[Leaf]) -> bytes:
    """The root of the Merkle tree (as in RFC 6962) over leaves, in their order."""
    return _root(
        [hashlib.sha256(b"\0" + canonical(leaf.told()).encode()).digest() for leaf in leaves]
    )


def differs(known: bytes, hashes: Sequence[bytes]) -> int | None:
    """The place of the first line that is not the marked one, or not there; None where all are."""
    count = len(known) // MARK_BYTES
    for place in range(count):
        mark = known[place * MARK_BYTES : (place + 1) * MARK_BYTES]
        if place >= len(hashes) or hashes[place][:MARK_BYTES] != mark:
            return place
    return None


def microseconds(at: datetime) -> int:
    """A time as the whole number that hashes cover."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def _root(nodes: list[bytes]) -> bytes:
    if not nodes:
        return hashlib.sha256(b"").digest()
    if len(nodes) == 1:
        return nodes[0]
    # The largest power of two that is smaller: what is left of it is a whole tree.
    half = 1 << (len(nodes) - 1).bit_length() - 1
    left, right = _root(nodes[:half]), _root(nodes[half:])
    return hashlib.sha256(b"\1" + left + right).digest()
