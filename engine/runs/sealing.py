"""Sealing: what has happened becomes what nobody can alter unseen.

    acts, lines of history ──sealer──> links of the acts' chain, leaves, one anchor ──> its copy

Any process that coordinates seals, one at a time (`seals.claim`), and a tenant's in one
transaction under a lock of its own, so that two never number the same act. A turn takes no lock
that a sealer holds, and writes nothing for it.

An anchor is signed with a key that the database does not hold, and copied to a place outside of
it: first the commit, then the copy, and until that is made the anchor waits in a queue, even where
nobody has said yet where copies go. A copy is created, never written over, so a sealer that dies
between the two makes no second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, Row

from engine.core import chain
from engine.core.chain import Anchor, Leaf
from engine.core.values import canonical
from engine.errors import Damaged, OutOfReach, Unavailable
from engine.platform import Platform
from engine.settings import Settings
from engine.store import invariants, seals, session
from engine.store.seals import Moment, Signed

_log = structlog.get_logger(__name__)

#: How often is often enough, in seconds: what was done is anchored within a minute.
EVERY = 30.0
#: Copies that are made at a time.
_COPIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a sealing came to."""

    anchors: int
    copies: int


def seal_if_due(platform: Platform) -> Sealed | None:
    """Seal what has moved, if it is time to; None where it is not, or somebody else does."""
    with session.transaction(platform.database) as connection:
        if not seals.due(connection):
            return None
    return seal(platform, now=False)


def seal(platform: Platform, *, now: bool = True) -> Sealed | None:
    """Seal what has moved since the last time, and bring the anchors outside.

    With `now` whether it is time or not, and what is not signed gets an anchor that is, where there
    is a key by now. Raises `Unavailable` when the database is away; a store of copies that is away
    is said in the log, and tried again the next time.
    """
    with session.transaction(platform.database) as connection:
        horizon = seals.claim(connection, every=EVERY, now=now)
    if horizon is None:
        return None
    with session.transaction(platform.database) as connection:
        moment = seals.moment(connection, horizon)
    with session.transaction(platform.database) as connection:
        invariants.take_time(connection)
        tenants = seals.moved(connection, moment)
    counts = {tenant: _attempt(platform, tenant, moment) for tenant in tenants}
    if None not in counts.values():
        with session.transaction(platform.database) as connection:
            seals.advance(connection, moment)
    made = sum(count or 0 for count in counts.values())
    if now and platform.settings.audit_keys.signing() is not None:
        made += _sign(platform)
    return Sealed(anchors=made, copies=_copy_pending(platform))


def lacking(settings: Settings) -> dict[str, str]:
    """What the audit cannot promise for want of a setting, by the setting's name."""
    found = {}
    if settings.audit_keys.signing() is None:
        found["CELERIAC_AUDIT_KEYS"] = (
            "anchors are not signed: whoever may write everything in the database may rewrite them, "
            "and only copies outside would tell"
        )
    if settings.anchor_url is None:
        found["CELERIAC_ANCHOR_URL"] = (
            "anchors are not copied outside: whoever may write everything in the database may cut "
            "off the newest unseen"
        )
    return found


def document(signed: Signed, leaves: tuple[Leaf, ...]) -> bytes:
    """An anchor with its leaves, as it is kept outside the database."""
    told = {
        "anchor": signed.anchor.told(),
        "hash": signed.hash.hex(),
        "signature": None if signed.signature is None else signed.signature.hex(),
        "key": signed.key,
        "leaves": [leaf.told() for leaf in leaves],
    }
    return canonical(told).encode()


def leaves_of(document: bytes) -> tuple[Leaf, ...]:
    """The leaves of an anchor that was kept outside. Raises `Damaged`."""
    try:
        return tuple(
            Leaf(
                kind=kind,
                subject=subject,
                seq=int(seq),
                hash=bytes.fromhex(found),
                marks=bytes.fromhex(marks),
            )
            for kind, subject, seq, found, marks in orjson.loads(document)["leaves"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"a copy of an anchor cannot be read: {error}") from error


def _attempt(platform: Platform, tenant: str, moment: Moment) -> int | None:
    """Seal for a tenant; how many anchors, None where it is not done. It holds up no other one."""
    try:
        return _seal(platform, tenant, moment)
    except Unavailable:
        raise
    except Exception:  # noqa: BLE001  # what stands in the way, somebody has put there
        _log.exception("seal.defect", tenant=tenant)
        return None


def _seal(platform: Platform, tenant: str, moment: Moment) -> int | None:
    """Seal whatever of a tenant has moved; how many anchors, None where another is at it."""
    made = 0
    while True:
        with session.transaction(platform.database) as connection:
            invariants.take_time(connection)
            if not seals.lock(connection, tenant):
                return None
            leaves = _leaves(connection, tenant, moment)
            if not leaves:
                return made
            _anchor(platform, connection, tenant, leaves)
        made += 1


def _sign(platform: Platform) -> int:
    """Anchor once more where the newest anchor is not signed; how many tenants."""
    made = 0
    with session.transaction(platform.database) as connection:
        tenants = seals.unsigned(connection)
    for tenant in tenants:
        with session.transaction(platform.database) as connection:
            if seals.lock(connection, tenant):
                _anchor(platform, connection, tenant, ())
                made += 1
    return made


def _leaves(connection: Connection, tenant: str, moment: Moment) -> tuple[Leaf, ...]:
    """What has moved, the acts with their places in the chain."""
    position, link = seals.last_link(connection, tenant)
    found: list[Leaf] = []
    for act in seals.acts(connection, tenant, moment):
        position, link = position + 1, chain.link(link, text_of(tenant, act.id, act))
        found.append(Leaf(kind="act", subject=act.id, seq=position, hash=link))
    return (*found, *seals.runs(connection, tenant, moment))


def text_of(tenant: str, act_id: str, row: Row[Any]) -> str:
    """All that the row of an act says."""
    return chain.act_text(
        tenant=tenant,
        id=act_id,
        at=row.at,
        by=row.by,
        action=row.action,
        subject=row.subject,
        why=row.why,
        detail=row.detail,
        before=row.before,
        after=row.after,
    )


def _anchor(
    platform: Platform, connection: Connection, tenant: str, leaves: tuple[Leaf, ...]
) -> None:
    before = seals.last(connection, tenant)
    acts = [leaf for leaf in leaves if leaf.kind == "act"]
    position, link = (acts[-1].seq, acts[-1].hash) if acts else seals.last_link(connection, tenant)
    anchor = Anchor(
        tenant=tenant,
        number=before.anchor.number + 1 if before else 1,
        at=session.now(connection),
        position=position,
        acts=link,
        root=chain.root(leaves),
        count=len(leaves),
        previous=before.hash if before else b"",
    )
    signer = platform.settings.audit_keys.signing()
    signed = Signed(
        anchor=anchor,
        hash=anchor.hash,
        signature=None if signer is None else signer.sign(anchor.text()),
        key=None if signer is None else signer.id,
    )
    seals.put(connection, signed, leaves)


def _copy_pending(platform: Platform) -> int:
    """Bring anchors outside that are not there yet; how many."""
    if platform.anchors is None:
        return 0
    made = 0
    while True:
        with session.transaction(platform.database) as connection:
            waiting = seals.pending(connection, limit=_COPIES)
        for row in waiting:
            try:
                _copy(platform, row.tenant_id, row.number)
            except OutOfReach as error:
                _log.warning("seal.outside", error=str(error), waiting=len(waiting))
                return made
            made += 1
        if len(waiting) < _COPIES:
            return made


def _copy(platform: Platform, tenant: str, number: int) -> None:
    assert platform.anchors is not None
    with session.transaction(platform.database) as connection:
        signed = seals.anchor(connection, tenant, number)
        leaves = seals.leaves(connection, tenant, number)
    assert signed is not None  # the queue refers to it
    text = document(signed, leaves)
    if not platform.anchors.create(tenant, number, text):
        kept = platform.anchors.get(tenant, number)
        if kept != text:
            # It stays as it is: whoever verifies is told that the two differ.
            _log.error("seal.differs", tenant=tenant, number=number)
    with session.transaction(platform.database) as connection:
        seals.stored(connection, tenant, number)
