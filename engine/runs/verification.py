"""Verifying the audit: whether what is stored is what happened, as far as that was anchored.

What is compared, each in pages, so that memory stays bounded and no transaction is long:

1. Each run: its lines follow each other without a gap, each hash covers the line before, the head
   holds the last one, users' data is what its salted digest says, or was shredded by an act.
2. The acts of the tenant: positions without a gap, each link covers its act and the link before.
3. The anchors: numbers without a gap, each covers the one before, its own fields and its leaves,
   and is signed; its copy outside says the same.
4. Each leaf: the act, or the last line that the run had then, is there with that hash. Where it is
   not, the marks of its lines tell which line is the first that was altered or cut off.

The first two find what somebody altered and left as it was; the other two what somebody recomputed,
cut off, or took away whole. Everything is only ever appended, so nothing that is verified while
runs are going on can look wrong for having grown meanwhile.

Where a copy outside differs from its anchor, or its anchor is gone, the copy is believed: its leaves
are compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from engine.blobs import Anchors
from engine.core import chain
from engine.core.chain import Leaf
from engine.errors import Damaged, NotFound
from engine.platform import Platform
from engine.runs import sealing, shredding
from engine.signing import SigningKeys
from engine.store import invariants, reads, seals, tenants
from engine.store.ids import RunId
from engine.store.seals import Signed

#: Faults of one tenant that are told; where so much is wrong, more of it tells nothing new.
MOST = 100
#: Runs of the tail that are told by name.
TOLD = 100
_LINES, _RUNS, _ANCHORS = 500, 200, 200
_FIRST = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is not as it was."""

    table: str
    tenant: str
    #: Of what belongs to one.
    run: str | None = None
    #: Which row: the seq of a line, the id of an act, the number of an anchor, a payload's name.
    row: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Lines of a run that no anchor covers yet."""

    run: str
    first: int
    last: int


@dataclass(kw_only=True)
class Report:
    """What was found of one tenant."""

    tenant: str
    runs: int = 0
    lines: int = 0
    acts: int = 0
    anchors: int = 0
    copies: int = 0
    #: Users' data that an act has shredded.
    shredded: int = 0
    #: When the newest anchor was made.
    anchored_at: datetime | None = None
    #: Anchors that are not signed, or by a key that is not at hand.
    unsigned: int = 0
    #: Anchors that wait for their copy outside.
    uncopied: int = 0
    #: What is not promised yet: acts, runs and their lines that came after the newest anchor.
    tail_acts: int = 0
    tail_runs: int = 0
    tail_lines: int = 0
    tail: list[Tail] = field(default_factory=list)
    #: What could not be verified, and why.
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify(
    platform: Platform,
    tenant: str,
    *,
    run: str | None = None,
    anchors: Anchors | None = None,
    signers: SigningKeys | None = None,
) -> Report:
    """Verify the audit of a tenant, or of one run of it.

    `anchors` and `signers` are those of the platform unless they are given. Raises `NotFound` for a
    run that there is not and never was, and `OutOfReach` when the copies cannot be read.
    """
    return _Verifier(
        platform=platform,
        tenant=tenant,
        run=run,
        outside=platform.anchors if anchors is None else anchors,
        signers=platform.settings.audit_keys if signers is None else signers,
    ).report()


def verify_all(
    platform: Platform, *, anchors: Anchors | None = None, signers: SigningKeys | None = None
) -> Iterator[Report]:
    """Verify the audit of every tenant, one after the other. Raises as `verify`.

    One of whom there are copies outside alone is a tenant, too.
    """
    outside = platform.anchors if anchors is None else anchors
    known = outside.tenants() if outside else frozenset()
    with reads.reading(platform.database) as connection:
        known = known.union(each.id for each in tenants.everyone(connection))
    for tenant in sorted(known):
        yield verify(platform, tenant, anchors=anchors, signers=signers)


@dataclass(kw_only=True)
class _Verifier:
    """One verification on its way: what is looked at, and what was found so far."""

    platform: Platform
    tenant: str
    run: str | None
    outside: Anchors | None
    signers: SigningKeys
    found: Report = field(init=False)

    def __post_init__(self) -> None:
        self.found = Report(tenant=self.tenant)

    def report(self) -> Report:
        # Before anything is read: a copy is made after its anchor, so whatever is there by now
        # must be found in the database afterwards.
        copies = sorted(self.outside.numbers(self.tenant)) if self.outside else []
        self._anchors(copies)
        if self.run is None:
            self._acts()
            self._runs()
        else:
            self._one_run(self.run)
        self._note()
        # What one look finds twice, of a head and of a leaf, say, is told once.
        self.found.faults = list(dict.fromkeys(self.found.faults))
        return self.found

    def _reading(self) -> AbstractContextManager[Connection]:
        return reads.reading(self.platform.database)

    def _fault(self, table: str, row: object, detail: str, *, run: str | None = None) -> None:
        if len(self.found.faults) < MOST:
            fault = Fault(table=table, tenant=self.tenant, run=run, row=str(row), detail=detail)
            self.found.faults.append(fault)

    # --- anchors ------------------------------------------------------------------------------

    def _anchors(self, copies: Sequence[int]) -> None:
        before: Signed | None = None
        unsigned: list[int] = []
        wanted = self._numbers()
        gone = set(copies)
        while True:
            number = before.anchor.number if before else 0
            with self._reading() as connection:
                page = seals.anchors(connection, self.tenant, after=number, limit=_ANCHORS)
            if not page:
                break
            for signed in page:
                self._numbered(before, signed)
                if self._signed(signed):
                    unsigned.clear()
                else:
                    unsigned.append(signed.anchor.number)
                gone.discard(signed.anchor.number)
                if wanted is None or signed.anchor.number in wanted:
                    self._anchored(signed)
                before = signed
        for number in sorted(gone):
            self._fault("anchor", number, "is gone from the database; there is its copy outside")
            self._believe(number)
        self.found.anchored_at = before.anchor.at if before else None
        self.found.unsigned = len(unsigned)
        if unsigned and self.signers.keys:
            first = unsigned[0]
            self._fault(
                "anchor", first, "no anchor from this one on is signed, although there are keys"
            )

    def _numbers(self) -> frozenset[int] | None:
        """The anchors whose leaves matter; None for all."""
        if self.run is None:
            return None
        with self._reading() as connection:
            return frozenset(seals.anchors_of(connection, RunId(self.tenant, self.run)))

    def _numbered(self, before: Signed | None, signed: Signed) -> None:
        anchor = signed.anchor
        expected = before.anchor.number + 1 if before else 1
        if anchor.number != expected:
            self._fault("anchor", expected, "is gone")
        elif anchor.previous != (before.hash if before else b""):
            self._fault("anchor", anchor.number, "does not follow the anchor before it")
        if anchor.hash != signed.hash:
            self._fault("anchor", anchor.number, "was altered: its hash does not verify")
        self.found.anchors += 1

    def _signed(self, signed: Signed) -> bool:
        """Whether an anchor is signed, by a key that is at hand."""
        if signed.signature is None or signed.key is None or not self.signers.keys:
            return False
        number, key = signed.anchor.number, self.signers.named(signed.key)
        if key is None:
            self._fault(
                "anchor", number, f"is signed with the key {signed.key!r}, which is unknown"
            )
        elif not key.verifies(signed.signature, signed.anchor.text()):
            self._fault("anchor", number, f"is not what the key {signed.key!r} has signed")
        return True

    def _anchored(self, signed: Signed) -> None:
        """Compare an anchor with its leaves, with its copy, and with what it was made of."""
        number = signed.anchor.number
        with self._reading() as connection:
            leaves = seals.leaves(connection, self.tenant, number)
            waits = seals.is_pending(connection, self.tenant, number)
        if len(leaves) != signed.anchor.count:
            detail = f"has {signed.anchor.count} leaves, and {len(leaves)} are there"
            self._fault("anchor_leaf", number, detail)
        elif chain.root(leaves) != signed.anchor.root:
            self._fault("anchor_leaf", number, "leaves of this anchor were altered")
        self._promised(leaves)
        if self.outside is None:
            return
        copy = self.outside.get(self.tenant, number)
        if copy is None:
            self.found.uncopied += waits
            if not waits:
                self._fault("anchor", number, f"its copy is gone from {self.outside.url}")
            return
        self.found.copies += 1
        if copy != sealing.document(signed, leaves):
            self._fault("anchor", number, "is not what its copy outside says")
            self._believe(number)

    def _believe(self, number: int) -> None:
        """Compare what the copy of an anchor says with what is there."""
        assert self.outside is not None
        try:
            self._promised(sealing.leaves_of(self.outside.get(self.tenant, number) or b""))
        except Damaged as error:
            self._fault("anchor", number, error.message)

    def _promised(self, leaves: Sequence[Leaf]) -> None:
        chosen = [
            leaf
            for leaf in leaves
            if self.run is None or (leaf.kind == "run" and leaf.subject == self.run)
        ]
        if not chosen:
            return
        with self._reading() as connection:
            for row in seals.promised(connection, self.tenant, chosen):
                leaf = chosen[row.place]
                there = None if row.hash is None else bytes(row.hash)
                if leaf.kind == "act":
                    if there != leaf.hash or row.act_id != leaf.subject:
                        what = (
                            "is gone" if there is None else "is not the one that was sealed there"
                        )
                        detail = f"position {leaf.seq} of the acts {what}"
                        self._fault("admin_act", leaf.subject, detail)
                elif not row.run:
                    self._fault("run", leaf.subject, "the whole run is gone", run=leaf.subject)
                elif there != leaf.hash:
                    self._altered(connection, leaf)

    def _altered(self, connection: Connection, leaf: Leaf) -> None:
        """Name the first line of a run that is not the one that was anchored."""
        run = RunId(self.tenant, leaf.subject)
        seq, there = _first_altered(connection, run, leaf) or (leaf.seq, True)
        detail = (
            "was altered, and all hashes after it computed anew"
            if there
            else f"is gone; the run was anchored up to line {leaf.seq}"
        )
        self._fault("history", seq, detail, run=leaf.subject)

    # --- acts ---------------------------------------------------------------------------------

    def _acts(self) -> None:
        link, position = b"", 0
        while True:
            with self._reading() as connection:
                rows = seals.links(connection, self.tenant, after=position, limit=_LINES)
                if not rows:
                    invariants.take_time(connection)
                    self.found.tail_acts = seals.unsealed(connection, self.tenant)
                    return
            for row in rows:
                if row.position != position + 1:
                    self._fault("act_seal", position + 1, "this position of the acts is gone")
                elif not row.there:
                    self._fault("admin_act", row.act_id, f"is gone; its position is {row.position}")
                elif bytes(row.hash) != chain.link(
                    link, sealing.text_of(self.tenant, row.act_id, row)
                ):
                    detail = f"was altered or moved: position {row.position} does not verify"
                    self._fault("admin_act", row.act_id, detail)
                link, position = bytes(row.hash), row.position
                self.found.acts += 1

    # --- runs ---------------------------------------------------------------------------------

    def _runs(self) -> None:
        after = _FIRST
        while True:
            with self._reading() as connection:
                page = seals.known(connection, self.tenant, after=after, limit=_RUNS)
            if not page:
                return
            for run in page:
                self._one_run(run)
            after = page[-1]

    def _one_run(self, run_id: str) -> None:
        """Verify the lines of a run, and its head. Both at one moment: they move together."""
        run = RunId(self.tenant, run_id)
        with self._reading() as connection:
            (head,) = seals.head(connection, run) or (None,)
            if head is None:
                if self.run is not None and not self.found.faults:
                    raise NotFound(f"Run not found: {run_id}")
                return
            last, link, marked = self._lines(connection, run, whole=not head.imported)
            if marked and (count := shredding.untold(connection, run)):
                detail = f"users' data is gone; {count} more payloads are shredded than acts say"
                self._fault("payload", marked, detail, run=run_id)
        self.found.runs += 1
        if (head.seq, bytes(head.hash)) != (last, link):
            detail = f"the head says line {head.seq}, the last line is {last}"
            if head.seq == last:
                detail = f"the head has not the hash of line {last}"
            self._fault("run", run_id, detail, run=run_id)
        if last > head.anchored:
            self.found.tail_runs += 1
            self.found.tail_lines += last - head.anchored
            if len(self.found.tail) < TOLD:
                self.found.tail.append(Tail(run=run_id, first=head.anchored + 1, last=last))

    def _lines(
        self, connection: Connection, run: RunId, *, whole: bool
    ) -> tuple[int, bytes, str | None]:
        """The last line, its hash, and the first payload that was shredded.

        `whole`: no users' data may have been left out, as it may of a run from elsewhere.
        """
        seq, link, shredded = 0, b"", None
        told = self._once(connection, run)
        while rows := seals.lines(connection, run, after=seq, limit=_LINES):
            for row in rows:
                if row.seq != seq + 1:
                    told(seq + 1, "is gone")
                elif bytes(row.hash) != seals.chained(link, run, row):
                    told(row.seq, "was altered or moved: its hash does not verify")
                seq, link = row.seq, bytes(row.hash)
                if row.payload_id is not None:
                    if row.there and row.shredded:
                        self.found.shredded += 1
                        shredded = shredded or row.payload_id
                    elif row.found != row.digest if row.there else whole:
                        what = "was altered" if row.there else "is gone"
                        detail = f"{what}; line {row.seq} refers to it"
                        self._fault("payload", row.payload_id, detail, run=run.run)
                self.found.lines += 1
        return seq, link, shredded

    def _once(self, connection: Connection, run: RunId) -> Callable[[int, str], None]:
        """Tells the first line of a run that is wrong: what follows from it tells nothing more."""
        told: list[int] = []

        def tell(seq: int, detail: str) -> None:
            if not told:
                # Where a line and its hash were altered, only the hash of the next one tells.
                first = _first_marked(connection, run, upto=seq)
                if first is not None and first < seq:
                    seq, detail = first, "was altered, and its hash computed anew"
                self._fault("history", seq, detail, run=run.run)
            told.append(seq)

        return tell

    def _note(self) -> None:
        found = self.found
        if not found.anchors:
            found.notes.append("nothing is anchored yet: nothing of this is promised")
        elif not self.signers.keys:
            found.notes.append(
                "no key is at hand: signatures were not verified (CELERIAC_AUDIT_KEYS, --keys)"
            )
        if self.outside is None:
            found.notes.append(
                "no copies outside of the database were compared (CELERIAC_ANCHOR_URL, --anchors)"
            )


def _first_altered(connection: Connection, run: RunId, leaf: Leaf) -> tuple[int, bool] | None:
    """The first line that is not the one that a leaf has marked, and whether there is one at all."""
    count = len(leaf.marks) // chain.MARK_BYTES
    first = leaf.seq - count + 1
    there = seals.hashes(connection, run, after=first - 1, upto=leaf.seq)
    found = [there.get(seq, b"") for seq in range(first, leaf.seq + 1)]
    place = chain.differs(leaf.marks, found)
    return None if place is None else (first + place, first + place in there)


def _first_marked(connection: Connection, run: RunId, *, upto: int) -> int | None:
    """The first line of a run up to one that is not the one that was anchored."""
    after = 0
    while after < upto:
        leaves = seals.leaves_of(connection, run, after=after, limit=_ANCHORS)
        if not leaves:
            return None
        for leaf in leaves:
            if found := _first_altered(connection, run, leaf):
                return found[0]
        after = leaves[-1].seq
    return None


def described(report: Report) -> dict[str, Any]:
    """A report as plain data, whatever of it there is to read."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(report))
    return {"sound": report.sound, **found}
