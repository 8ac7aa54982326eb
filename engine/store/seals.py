"""The chain of a tenant's acts, and anchors over it and over whatever runs have moved.

What has moved is found by the transactions that wrote it. Every transaction before the oldest one
still under way is over, so a sealer that has seen to everything before that, the *horizon*, has
missed nothing, in whatever order the others will be committed. It looks at the rows of later ones
alone, by an index, and leaves out those that are sealed: O(changed), and no turn waits for it.

A database that was restored into another cluster counts its transactions anew. Where the horizon
lies in the future, everything is looked at once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from engine.core import chain
from engine.core.chain import Anchor, Leaf
from engine.store import history, session
from engine.store.ids import RunId

#: Acts, and runs, that one anchor takes up at most.
MOST = 2000
#: Lines of all runs of one anchor, about: it is held in memory.
MOST_LINES = 500_000
_LAST_TRANSACTION = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Which transactions a sealer looks at."""

    #: From this one on; and so much is sealed already.
    horizon: int
    #: Before this one.
    limit: int
    #: Before this one nothing is under way any more.
    settled: int
    #: No transaction had this number yet.
    newest: int


class Signed(NamedTuple):
    """An anchor as it is kept."""

    anchor: Anchor
    #: The hash that is stored, whatever the columns say.
    hash: bytes
    signature: bytes | None
    key: str | None


_CLAIM = """
    INSERT INTO sealing AS s (name, next_at)
    VALUES ('all', clock_timestamp() + make_interval(secs => :every))
    ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at
    WHERE s.next_at <= clock_timestamp() OR :now
    RETURNING horizon
"""
_DUE = "SELECT NOT EXISTS (SELECT FROM sealing WHERE next_at > clock_timestamp())"
_MOMENT = """
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS settled,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS newest
"""
_MOVED = """
    SELECT tenant_id FROM history WHERE xid >= :horizon AND xid < :limit
    UNION SELECT tenant_id FROM admin_act WHERE xid >= :horizon AND xid < :limit
    ORDER BY tenant_id
"""
_ACTS = """
    SELECT a.id::text AS id, a.at, a.by, a.action, a.subject, a.why, a.detail::text AS detail,
        a.before, a.after
    FROM admin_act a
    WHERE a.tenant_id = :tenant AND a.xid >= :horizon AND a.xid < :limit
        AND NOT EXISTS (SELECT FROM act_seal s WHERE s.tenant_id = :tenant AND s.act_id = a.id)
    ORDER BY a.xid, a.id LIMIT :most
"""
_RUNS = """
    WITH moved AS (
        SELECT run_id, max(seq) AS seq FROM history
        WHERE tenant_id = :tenant AND xid >= :horizon AND xid < :limit GROUP BY run_id),
    fresh AS (
        SELECT m.run_id, m.seq, k.seq AS known,
            sum(m.seq - k.seq) OVER (ORDER BY m.run_id) - (m.seq - k.seq) AS lines
        FROM moved m CROSS JOIN LATERAL (
            SELECT coalesce(max(l.seq), 0) AS seq FROM anchor_leaf l
            WHERE l.tenant_id = :tenant AND l.subject = m.run_id) k
        WHERE m.seq > k.seq),
    chosen AS (SELECT * FROM fresh WHERE lines < :lines ORDER BY run_id LIMIT :most)
    SELECT c.run_id::text AS run_id, c.seq, (SELECT h.hash FROM history h
            WHERE h.tenant_id = :tenant AND h.run_id = c.run_id AND h.seq = c.seq) AS hash,
        (SELECT string_agg(substring(h.hash FROM 1 FOR :mark), ''::bytea ORDER BY h.seq)
            FROM history h WHERE h.tenant_id = :tenant AND h.run_id = c.run_id
            AND h.seq > c.known AND h.seq <= c.seq) AS marks
    FROM chosen c ORDER BY c.run_id
"""
_ANCHOR = """
    SELECT tenant_id, number, at, position, acts, root, count, previous, hash, signature, key_id
    FROM anchor
"""
#: Lines of a run as they are verified; of users' data only what its digest should be.
_LINES = session.Statement(
    name="seal_lines",
    types="text, text, bigint, int",
    sql="""
    SELECT h.seq, h.at, h.kind, h.format, h.body::text AS body, h.payload_id, h.hash,
        h.body->>'digest' AS digest, p.id IS NOT NULL AS there, p.shredded_at IS NOT NULL AS shredded,
        encode(sha256(p.salt || convert_to(p.body::text, 'UTF8')), 'hex') AS found
    FROM history h LEFT JOIN payload p ON p.tenant_id = h.tenant_id AND p.run_id = h.run_id
        AND p.id = h.payload_id
    WHERE h.tenant_id = $1 AND h.run_id = $2::uuid AND h.seq > $3
    ORDER BY h.seq LIMIT $4
    """,
)
_CHAIN = """
    SELECT s.position, s.act_id::text AS act_id, s.hash, a.id IS NOT NULL AS there, a.at, a.by,
        a.action, a.subject, a.why, a.detail::text AS detail, a.before, a.after
    FROM act_seal s LEFT JOIN admin_act a ON a.tenant_id = s.tenant_id AND a.id = s.act_id
    WHERE s.tenant_id = :tenant AND s.position > :after ORDER BY s.position LIMIT :most
"""
_KNOWN = """
    SELECT id::text AS id FROM run WHERE tenant_id = :tenant AND id > CAST(:after AS uuid)
    ORDER BY id LIMIT :most
"""
_PROMISED = """
    SELECT w.place, s.act_id::text AS act_id, coalesce(s.hash, h.hash) AS hash,
        r.id IS NOT NULL AS run
    FROM unnest(CAST(:places AS int[]), CAST(:kinds AS text[]), CAST(:subjects AS uuid[]),
        CAST(:seqs AS bigint[])) AS w (place, kind, subject, seq)
    LEFT JOIN act_seal s ON w.kind = 'act' AND s.tenant_id = :tenant AND s.position = w.seq
    LEFT JOIN history h ON w.kind = 'run' AND h.tenant_id = :tenant AND h.run_id = w.subject
        AND h.seq = w.seq
    LEFT JOIN run r ON w.kind = 'run' AND r.tenant_id = :tenant AND r.id = w.subject
"""


# --- sealing ----------------------------------------------------------------------------------


def due(connection: Connection) -> bool:
    """Whether it is time to seal. Writes nothing."""
    return bool(connection.execute(text(_DUE)).scalar_one())


def claim(connection: Connection, *, every: float, now: bool = False) -> int | None:
    """Take the next sealing on, unless somebody has; the horizon, and it is due again later."""
    return connection.execute(text(_CLAIM), {"every": every, "now": now}).scalar_one_or_none()


def moment(connection: Connection, horizon: int) -> Moment:
    """What to look at. Ask in a transaction of its own, before what is looked at is read."""
    row = connection.execute(text(_MOMENT)).one()
    anew = horizon > row.newest
    return Moment(
        horizon=0 if anew else horizon,
        limit=_LAST_TRANSACTION if anew else row.newest,
        settled=row.settled,
        newest=row.newest,
    )


def moved(connection: Connection, moment: Moment) -> tuple[str, ...]:
    """The tenants of which something may have moved."""
    given = {"horizon": moment.horizon, "limit": moment.limit}
    return tuple(connection.execute(text(_MOVED), given).scalars())


def advance(connection: Connection, moment: Moment) -> None:
    """Say that all before the moment is sealed."""
    # Greater alone, but where transactions are counted anew: two sealers may come in either order.
    connection.execute(
        text(
            "UPDATE sealing SET horizon = :settled WHERE name = 'all'"
            " AND (horizon < :settled OR horizon > :newest)"
        ),
        {"settled": moment.settled, "newest": moment.newest},
    )


def lock(connection: Connection, tenant: str) -> bool:
    """Be the one who seals for a tenant, until the transaction ends; False where another is."""
    statement = text(
        "SELECT pg_try_advisory_xact_lock(hashtext('celeriac seal'), hashtext(:tenant))"
    )
    return bool(connection.execute(statement, {"tenant": tenant}).scalar_one())


def acts(connection: Connection, tenant: str, moment: Moment) -> Sequence[Row[Any]]:
    """Acts that are not sealed, those first whose transactions began first."""
    return connection.execute(text(_ACTS), _within(tenant, moment)).all()


def runs(connection: Connection, tenant: str, moment: Moment) -> tuple[Leaf, ...]:
    """Runs that have lines which are not anchored."""
    given = {**_within(tenant, moment), "mark": chain.MARK_BYTES, "lines": MOST_LINES}
    return tuple(
        Leaf(
            kind="run",
            subject=row.run_id,
            seq=row.seq,
            hash=bytes(row.hash),
            marks=bytes(row.marks),
        )
        for row in connection.execute(text(_RUNS), given)
    )


def last(connection: Connection, tenant: str) -> Signed | None:
    """The newest anchor of a tenant."""
    statement = text(f"{_ANCHOR} WHERE tenant_id = :tenant ORDER BY number DESC LIMIT 1")
    row = connection.execute(statement, {"tenant": tenant}).first()
    return None if row is None else _signed(row)


def last_link(connection: Connection, tenant: str) -> tuple[int, bytes]:
    """How long the chain of acts is, and the hash of its last link."""
    statement = text(
        "SELECT position, hash FROM act_seal WHERE tenant_id = :tenant ORDER BY position DESC LIMIT 1"
    )
    row = connection.execute(statement, {"tenant": tenant}).first()
    return (0, b"") if row is None else (row.position, bytes(row.hash))


def unsigned(connection: Connection) -> tuple[str, ...]:
    """The tenants whose newest anchor is not signed."""
    statement = text(
        "SELECT t.id FROM tenant t CROSS JOIN LATERAL (SELECT signature FROM anchor a"
        " WHERE a.tenant_id = t.id ORDER BY number DESC LIMIT 1) newest"
        " WHERE newest.signature IS NULL ORDER BY t.id"
    )
    return tuple(connection.execute(statement).scalars())


def put(connection: Connection, signed: Signed, leaves: Sequence[Leaf]) -> None:
    """Keep an anchor with its leaves and the seals of the acts among them; its copy is to be made."""
    anchor = signed.anchor
    sealed = [leaf for leaf in leaves if leaf.kind == "act"]
    connection.execute(
        text(
            "INSERT INTO act_seal (tenant_id, position, act_id, hash) SELECT :tenant, * FROM"
            " unnest(CAST(:seqs AS bigint[]), CAST(:subjects AS uuid[]), CAST(:hashes AS bytea[]))"
        ),
        {
            "tenant": anchor.tenant,
            "seqs": [leaf.seq for leaf in sealed],
            "subjects": [leaf.subject for leaf in sealed],
            "hashes": [leaf.hash for leaf in sealed],
        },
    )
    connection.execute(
        text(
            "INSERT INTO anchor (tenant_id, number, at, position, acts, root, count, previous,"
            " hash, signature, key_id) VALUES (:tenant, :number, :at, :position, :acts, :root,"
            " :count, :previous, :hash, :signature, :key)"
        ),
        {
            "tenant": anchor.tenant,
            "number": anchor.number,
            "at": anchor.at,
            "position": anchor.position,
            "acts": anchor.acts,
            "root": anchor.root,
            "count": anchor.count,
            "previous": anchor.previous,
            "hash": signed.hash,
            "signature": signed.signature,
            "key": signed.key,
        },
    )
    connection.execute(
        text(
            "INSERT INTO anchor_leaf (tenant_id, number, place, kind, subject, seq, hash, marks)"
            " SELECT :tenant, :number, place, kind, subject, seq, hash, marks FROM"
            " unnest(CAST(:kinds AS text[]), CAST(:subjects AS uuid[]), CAST(:seqs AS bigint[]),"
            " CAST(:hashes AS bytea[]), CAST(:marks AS bytea[])) WITH ORDINALITY"
            " AS leaf (kind, subject, seq, hash, marks, place)"
        ),
        {
            "tenant": anchor.tenant,
            "number": anchor.number,
            "kinds": [leaf.kind for leaf in leaves],
            "subjects": [leaf.subject for leaf in leaves],
            "seqs": [leaf.seq for leaf in leaves],
            "hashes": [leaf.hash for leaf in leaves],
            "marks": [leaf.marks for leaf in leaves],
        },
    )
    connection.execute(
        text("INSERT INTO anchor_pending (tenant_id, number) VALUES (:tenant, :number)"),
        {"tenant": anchor.tenant, "number": anchor.number},
    )


def pending(connection: Connection, *, limit: int) -> Sequence[Row[Any]]:
    """Anchors that have no copy outside yet, the oldest of each tenant first."""
    statement = text(
        "SELECT tenant_id, number FROM anchor_pending ORDER BY tenant_id, number LIMIT :limit"
    )
    return connection.execute(statement, {"limit": limit}).all()


def stored(connection: Connection, tenant: str, number: int) -> None:
    """Say that an anchor has its copy."""
    connection.execute(
        text("DELETE FROM anchor_pending WHERE tenant_id = :tenant AND number = :number"),
        {"tenant": tenant, "number": number},
    )


# --- reading ----------------------------------------------------------------------------------


def anchor(connection: Connection, tenant: str, number: int) -> Signed | None:
    """An anchor by its number."""
    statement = text(f"{_ANCHOR} WHERE tenant_id = :tenant AND number = :number")
    row = connection.execute(statement, {"tenant": tenant, "number": number}).first()
    return None if row is None else _signed(row)


def anchors(connection: Connection, tenant: str, *, after: int, limit: int) -> tuple[Signed, ...]:
    """Anchors in order, after a number."""
    statement = text(
        f"{_ANCHOR} WHERE tenant_id = :tenant AND number > :after ORDER BY number LIMIT :limit"
    )
    given = {"tenant": tenant, "after": after, "limit": limit}
    return tuple(_signed(row) for row in connection.execute(statement, given))


def leaves(connection: Connection, tenant: str, number: int) -> tuple[Leaf, ...]:
    """The leaves of an anchor, in order."""
    statement = text(
        "SELECT kind, subject::text AS subject, seq, hash, marks FROM anchor_leaf"
        " WHERE tenant_id = :tenant AND number = :number ORDER BY place"
    )
    given = {"tenant": tenant, "number": number}
    return tuple(_leaf(row) for row in connection.execute(statement, given))


def leaves_of(connection: Connection, run: RunId, *, after: int, limit: int) -> tuple[Leaf, ...]:
    """The leaves that speak of a run beyond a line, in order."""
    statement = text(
        "SELECT kind, subject::text AS subject, seq, hash, marks FROM anchor_leaf"
        " WHERE tenant_id = :tenant AND subject = CAST(:run AS uuid) AND seq > :after"
        " ORDER BY seq LIMIT :limit"
    )
    given = {**run._asdict(), "after": after, "limit": limit}
    return tuple(_leaf(row) for row in connection.execute(statement, given))


def is_pending(connection: Connection, tenant: str, number: int) -> bool:
    """Whether an anchor is still to have a copy."""
    statement = text(
        "SELECT EXISTS (SELECT FROM anchor_pending WHERE tenant_id = :tenant AND number = :number)"
    )
    return bool(connection.execute(statement, {"tenant": tenant, "number": number}).scalar_one())


def anchors_of(connection: Connection, run: RunId) -> tuple[int, ...]:
    """The numbers of the anchors that speak of a run."""
    statement = text(
        "SELECT number FROM anchor_leaf WHERE tenant_id = :tenant AND subject = CAST(:run AS uuid)"
        " ORDER BY number"
    )
    return tuple(connection.execute(statement, run._asdict()).scalars())


def links(connection: Connection, tenant: str, *, after: int, limit: int) -> Sequence[Row[Any]]:
    """The chain of acts in order, after a position, each link with its act."""
    given = {"tenant": tenant, "after": after, "most": limit}
    return connection.execute(text(_CHAIN), given).all()


def lines(connection: Connection, run: RunId, *, after: int, limit: int) -> Sequence[Row[Any]]:
    """The lines of a run in order, after a seq, each with what its users' data hashes to."""
    return session.run(connection, _LINES, run.tenant, run.run, after, limit)


def known(connection: Connection, tenant: str, *, after: str, limit: int) -> tuple[str, ...]:
    """The ids of the runs of a tenant, in order, after one."""
    given = {"tenant": tenant, "after": after, "most": limit}
    return tuple(connection.execute(text(_KNOWN), given).scalars())


def head(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """The head of a run, if it is there: seq, hash, whether it is from elsewhere, how far it is anchored."""
    statement = text(
        "SELECT seq, hash, imported IS NOT NULL AS imported,"
        " (SELECT coalesce(max(l.seq), 0) FROM anchor_leaf l"
        " WHERE l.tenant_id = :tenant AND l.subject = CAST(:run AS uuid)) AS anchored"
        " FROM run WHERE tenant_id = :tenant AND id = CAST(:run AS uuid)"
    )
    return connection.execute(statement, run._asdict()).all()


def chained(before: bytes, run: RunId, row: Row[Any]) -> bytes:
    """The hash that a line should have."""
    return history.chained(
        before,
        run=run,
        seq=row.seq,
        at=row.at,
        kind=row.kind,
        format=row.format,
        body=row.body,
        payload_id=row.payload_id,
    ).hash


def promised(connection: Connection, tenant: str, leaves: Sequence[Leaf]) -> Iterator[Row[Any]]:
    """What is there now at the place of each leaf: the id of the act, and the hash."""
    yield from connection.execute(
        text(_PROMISED),
        {
            "tenant": tenant,
            "places": list(range(len(leaves))),
            "kinds": [leaf.kind for leaf in leaves],
            "subjects": [leaf.subject for leaf in leaves],
            "seqs": [leaf.seq for leaf in leaves],
        },
    )


def hashes(connection: Connection, run: RunId, *, after: int, upto: int) -> dict[int, bytes]:
    """The hashes of some lines of a run, by seq."""
    rows = connection.execute(
        text(
            "SELECT seq, hash FROM history WHERE tenant_id = :tenant AND run_id = CAST(:run AS uuid)"
            " AND seq > :after AND seq <= :upto"
        ),
        {**run._asdict(), "after": after, "upto": upto},
    )
    return {row.seq: bytes(row.hash) for row in rows}


def unsealed(connection: Connection, tenant: str) -> int:
    """How many acts are in no chain yet."""
    statement = text(
        "SELECT count(*) FROM admin_act a WHERE a.tenant_id = :tenant AND NOT EXISTS"
        " (SELECT FROM act_seal s WHERE s.tenant_id = :tenant AND s.act_id = a.id)"
    )
    return int(connection.execute(statement, {"tenant": tenant}).scalar_one())


def _within(tenant: str, moment: Moment) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "horizon": moment.horizon,
        "limit": moment.limit,
        "most": MOST,
    }


def _leaf(row: Row[Any]) -> Leaf:
    return Leaf(
        kind=row.kind,
        subject=row.subject,
        seq=row.seq,
        hash=bytes(row.hash),
        marks=bytes(row.marks),
    )


def _signed(row: Row[Any]) -> Signed:
    return Signed(
        anchor=Anchor(
            tenant=row.tenant_id,
            number=row.number,
            at=row.at,
            position=row.position,
            acts=bytes(row.acts),
            root=bytes(row.root),
            count=row._mapping["count"],  # noqa: SLF001  # a row has a method of this name
            previous=bytes(row.previous),
        ),
        hash=bytes(row.hash),
        signature=None if row.signature is None else bytes(row.signature),
        key=row.key_id,
    )
