"""What somebody who may write everything in Postgres can do to the audit, and how it is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from engine import signing
from engine.core import chain
from engine.errors import NotFound
from engine.platform import DatabaseRole, Platform
from engine.runs import acts, sealing, verification, views
from engine.runs.verification import Report
from engine.settings import Settings
from engine.signing import SigningKeys
from engine.store import seals, session, tenants
from engine.store.ids import RunId
from tests.support import platforms, services, site
from tests.support.platforms import LINE, TENANT, Sent, finish, publish, register, submit, take
from tests.support.services import Services

KEYS = SigningKeys(keys=(signing.generate("test"),))
#: Rewrites what the chain of a run says from a line on, as the engine would have hashed it.
REHASH = """
DO $$
DECLARE line record; link bytea := '';
BEGIN
    FOR line IN SELECT * FROM history WHERE run_id = '{run}' ORDER BY seq LOOP
        link := sha256(link || convert_to(concat_ws('|', line.run_id, line.seq,
            (extract(epoch FROM line.at) * 1000000)::bigint, line.kind, line.format,
            line.body::text, coalesce(line.payload_id, '')), 'UTF8'));
        UPDATE history SET hash = link WHERE run_id = '{run}' AND seq = line.seq;
        UPDATE run SET hash = link, seq = line.seq WHERE id = '{run}';
    END LOOP;
END $$
"""

#: Makes the leaves of a run, anchored once, say what its lines say now.
RELEAF = """
UPDATE anchor_leaf l SET hash = h.hash, marks = (SELECT string_agg(substring(m.hash FROM 1 FOR 8), ''
        ORDER BY m.seq) FROM history m WHERE m.run_id = h.run_id AND m.seq <= h.seq)
FROM history h WHERE l.subject = '{run}' AND h.run_id = l.subject AND h.seq = l.seq
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Runs and acts, sealed twice, with copies outside."""

    settings: Settings
    #: A run by name, and two acts.
    names: Mapping[str, str]


class Tampering(NamedTuple):
    """What somebody does, and what must be named for it: table, run or None, row."""

    sql: str
    table: str
    run: str | None
    row: str


#: `done` has ended, all of it anchored; `grown` was anchored twice, `first` and `second` are acts.
TAMPERINGS: Mapping[str, Tampering] = {
    "a line is altered": Tampering(
        """UPDATE history SET body = '{"by":"eve"}' WHERE run_id = '{done}' AND seq = 3""",
        "history",
        "done",
        "3",
    ),
    "a line's time is altered": Tampering(
        "UPDATE history SET at = at - interval '1 day' WHERE run_id = '{done}' AND seq = 2",
        "history",
        "done",
        "2",
    ),
    "a line's hash is altered": Tampering(
        "UPDATE history SET hash = 'x' WHERE run_id = '{done}' AND seq = 3", "history", "done", "3"
    ),
    "a line and its own hash are altered": Tampering(
        """UPDATE history h SET body = '{"by":"eve"}', hash = sha256(b.hash || convert_to(
            concat_ws('|', h.run_id, h.seq, (extract(epoch FROM h.at) * 1000000)::bigint, h.kind,
            h.format, '{"by":"eve"}', coalesce(h.payload_id, '')), 'UTF8'))
        FROM history b WHERE b.run_id = h.run_id AND b.seq = h.seq - 1
            AND h.run_id = '{done}' AND h.seq = 3""",
        "history",
        "done",
        "3",
    ),
    "a line is deleted": Tampering(
        "DELETE FROM history WHERE run_id = '{done}' AND seq = 4", "history", "done", "4"
    ),
    "the first line is deleted": Tampering(
        "DELETE FROM history WHERE run_id = '{done}' AND seq = 1", "history", "done", "1"
    ),
    "two lines are swapped": Tampering(
        """UPDATE history SET seq = 1000 WHERE run_id = '{done}' AND seq = 3;
        UPDATE history SET seq = 3 WHERE run_id = '{done}' AND seq = 4;
        UPDATE history SET seq = 4 WHERE run_id = '{done}' AND seq = 1000""",
        "history",
        "done",
        "3",
    ),
    "a line is inserted": Tampering(
        """UPDATE history SET seq = seq + 1000 WHERE run_id = '{done}' AND seq >= 3;
        UPDATE history SET seq = seq - 999 WHERE run_id = '{done}' AND seq > 1000;
        INSERT INTO history SELECT tenant_id, run_id, 3, at, kind, format, body, payload_id, hash, xid
        FROM history WHERE run_id = '{done}' AND seq = 2;
        UPDATE run SET seq = seq + 1 WHERE id = '{done}'""",
        "history",
        "done",
        "3",
    ),
    "a line is rewritten, with all later hashes and the head": Tampering(
        """UPDATE history SET body = '{"by":"eve"}' WHERE run_id = '{done}' AND seq = 3;
        REHASH done""",
        "history",
        "done",
        "3",
    ),
    "an early line of a run that went on is rewritten": Tampering(
        """UPDATE history SET body = '{"by":"eve"}' WHERE run_id = '{grown}' AND seq = 2;
        REHASH grown""",
        "history",
        "grown",
        "2",
    ),
    "a tail is cut off": Tampering(
        "DELETE FROM history WHERE run_id = '{done}' AND seq >= 6; REHASH done",
        "history",
        "done",
        "6",
    ),
    "all lines are deleted": Tampering(
        """DELETE FROM history WHERE run_id = '{done}';
        UPDATE run SET seq = 0, hash = '' WHERE id = '{done}'""",
        "history",
        "done",
        "1",
    ),
    "the head says another hash": Tampering(
        "UPDATE run SET hash = 'x' WHERE id = '{done}'", "run", "done", "done"
    ),
    "the head of a run is deleted": Tampering(
        "DELETE FROM run WHERE id = '{done}'", "run", "done", "done"
    ),
    "a whole run is deleted": Tampering("DELETE RUN done", "run", "done", "done"),
    "a whole run is deleted, with its leaves": Tampering(
        "DELETE RUN done; DELETE FROM anchor_leaf WHERE subject = '{done}'", "run", "done", "done"
    ),
    "a run becomes another tenant's": Tampering(
        """INSERT INTO tenant (id, name) VALUES ('other', 'Other');
        UPDATE history SET tenant_id = 'other' WHERE run_id = '{done}'""",
        "history",
        "done",
        "1",
    ),
    "a user's input is altered": Tampering(
        """UPDATE payload SET body = '{"inputs":{"n":7}}' WHERE run_id = '{done}' AND id = 'input'""",
        "payload",
        "done",
        "input",
    ),
    "a result is deleted": Tampering(
        "DELETE FROM payload WHERE run_id = '{done}' AND id = 'a#1/1'", "payload", "done", "a#1/1"
    ),
    "a result is shredded by nobody": Tampering(
        """UPDATE payload SET body = '{}', salt = '', shredded_at = now()
        WHERE run_id = '{done}' AND id = 'a#1/1'""",
        "payload",
        "done",
        "a#1/1",
    ),
    "an act is altered": Tampering(
        "UPDATE admin_act SET by = 'eve' WHERE id = '{first}'", "admin_act", None, "first"
    ),
    "an act's detail is written another way": Tampering(
        """UPDATE admin_act SET detail = '{ "of": 1 }' WHERE id = '{first}'""",
        "admin_act",
        None,
        "first",
    ),
    "an act is deleted": Tampering(
        "DELETE FROM admin_act WHERE id = '{first}'", "admin_act", None, "first"
    ),
    "an act is deleted with its seal": Tampering(
        "DELETE FROM admin_act WHERE id = '{first}'; DELETE FROM act_seal WHERE act_id = '{first}'",
        "admin_act",
        None,
        "first",
    ),
    "two acts are swapped": Tampering(
        """UPDATE act_seal SET act_id = gen_random_uuid() WHERE act_id = '{first}';
        UPDATE act_seal SET act_id = '{first}' WHERE act_id = '{second}';
        UPDATE act_seal SET act_id = '{second}' WHERE act_id NOT IN (SELECT id FROM admin_act)""",
        "admin_act",
        None,
        "first",
    ),
    "an act is altered with all later seals": Tampering(
        "UPDATE admin_act SET by = 'eve' WHERE id = '{first}'; RESEAL", "admin_act", None, "first"
    ),
    "the tail of the acts is cut off": Tampering(
        """DELETE FROM act_seal WHERE position >= (SELECT position FROM act_seal WHERE act_id = '{first}');
        DELETE FROM admin_act WHERE id IN ('{first}', '{second}')""",
        "admin_act",
        None,
        "first",
    ),
    "an anchor is altered": Tampering(
        "UPDATE anchor SET count = count + 1 WHERE number = 1", "anchor", None, "1"
    ),
    "an anchor is altered with its hash": Tampering(
        "UPDATE anchor SET at = at - interval '1 day' WHERE number = 1; REANCHOR",
        "anchor",
        None,
        "1",
    ),
    "an anchor is deleted": Tampering(
        "DELETE FROM anchor_leaf WHERE number = 1; DELETE FROM anchor WHERE number = 1",
        "anchor",
        None,
        "1",
    ),
    "the last anchor is deleted": Tampering(
        "DELETE FROM anchor_leaf WHERE number = 2; DELETE FROM anchor WHERE number = 2",
        "anchor",
        None,
        "2",
    ),
    "a leaf is altered": Tampering(
        "UPDATE anchor_leaf SET hash = 'x' WHERE subject = '{done}'", "anchor_leaf", None, "1"
    ),
    "a leaf is deleted": Tampering(
        "DELETE FROM anchor_leaf WHERE subject = '{done}'", "anchor_leaf", None, "1"
    ),
    "two anchors are swapped": Tampering(
        """ALTER TABLE anchor_leaf DROP CONSTRAINT anchor_leaf_tenant_id_number_fkey;
        UPDATE anchor SET number = 1000 WHERE number = 1;
        UPDATE anchor SET number = 1 WHERE number = 2;
        UPDATE anchor SET number = 2 WHERE number = 1000""",
        "anchor",
        None,
        "1",
    ),
    "signatures are taken away": Tampering(
        "UPDATE anchor SET signature = NULL, key_id = NULL", "anchor", None, "1"
    ),
    "a run is rewritten with its leaves and all anchors": Tampering(
        """UPDATE history SET body = '{"by":"eve"}' WHERE run_id = '{done}' AND seq = 3;
        REHASH done; RELEAF done; REANCHOR""",
        "history",
        "done",
        "3",
    ),
    "everything after the first anchor is undone": Tampering(
        """DELETE FROM anchor_leaf WHERE number = 2; DELETE FROM anchor WHERE number = 2;
        DELETE FROM history WHERE run_id = '{grown}' AND seq > (SELECT max(seq) FROM anchor_leaf
            WHERE subject = '{grown}'); REHASH grown""",
        "anchor",
        None,
        "2",
    ),
}


@pytest.fixture(scope="module")
def world(shared_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("home")
    with site.of_its_own(shared_services, folder) as given:
        settings = replace(given, audit_keys=KEYS, anchor_url=(folder / "anchors").as_uri())
        with (
            platforms.platform(settings) as built,
            platforms.platform(settings, DatabaseRole.WORKER) as worker,
        ):
            main = replace(built, broker=Sent(app=built.broker.app))
            names = _names(main, worker)
        yield World(settings=settings, names=names)


def _names(main: Platform, worker: Platform) -> Mapping[str, str]:
    """Runs and acts, anchored in two anchors."""
    register(main, "noop")
    line = publish(main, dict(LINE))
    done, grown = submit(main, line, n=1), submit(main, line, n=2)
    finish(main, worker, take(worker, done, "a#1"), n=2)
    finish(main, worker, take(worker, done, "b#1"), n=3)
    assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
    finish(main, worker, take(worker, grown, "a#1"), n=2)
    found: dict[str, str] = {"done": done.run, "grown": grown.run}
    for name in ("first", "second"):
        did(main, name)
        (row,) = platforms.sql(
            main, "SELECT id::text FROM admin_act WHERE subject = :name", name=f"thing:{name}"
        )
        found[name] = row.id
    assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
    return found


def did(main: Platform, name: str) -> None:
    with session.transaction(main.database) as connection:
        acts.record(connection, TENANT, by="ada", action="thing.do", subject=f"thing:{name}")


@pytest.fixture
def copied(
    shared_services: Services, world: World, tmp_path: Path
) -> Iterator[Callable[..., Settings]]:
    """A copy of the world for one test."""
    made: list[str] = []

    def copy() -> Settings:
        name = f"copy_{uuid4().hex[:12]}"
        template = (world.settings.database_url or "").partition("?")[0].rpartition("/")[2]
        services._execute(
            shared_services.cluster, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'
        )
        made.append(shared_services.cluster.url(name))
        anchors = tmp_path / name
        shutil.copytree(world.settings.home / "anchors", anchors)
        return replace(
            world.settings, database_url=made[-1], home=tmp_path, anchor_url=anchors.as_uri()
        )

    yield copy
    for url in made:
        services.drop_database(shared_services, url)


def verified(settings: Settings, **options: object) -> Report:
    with platforms.platform(settings) as main:
        return verification.verify(main, TENANT, **options)  # type: ignore[arg-type]


def tamper(settings: Settings, names: Mapping[str, str], sql: str) -> None:
    """Do as a superuser does whom no foreign key stops."""
    owner = session.connect(settings.database_url or "")
    with session.transaction(owner) as connection:
        connection.execute(text("SET session_replication_role = replica"))
        for part in filter(None, map(str.strip, sql.split(";"))):
            match part.split():
                case ["REHASH", run]:
                    connection.exec_driver_sql(REHASH.format(run=names[run]))
                case ["DELETE", "RUN", run]:
                    for table in ("history", "payload", "attempt", "result", "checkpoint"):
                        connection.exec_driver_sql(
                            f"DELETE FROM {table} WHERE run_id = '{names[run]}'"
                        )
                    connection.exec_driver_sql(f"DELETE FROM run WHERE id = '{names[run]}'")
                case ["RELEAF", run]:
                    connection.exec_driver_sql(RELEAF.format(run=names[run]))
                case ["RESEAL"]:
                    reseal(connection)
                case ["REANCHOR"]:
                    reanchor(connection)
                case _:
                    statement = part
                    for name, known in names.items():
                        statement = statement.replace(f"{{{name}}}", known)
                    assert connection.exec_driver_sql(statement).rowcount, statement
    owner.dispose()


def reseal(connection: Connection) -> None:
    """Compute the chain of acts anew."""
    link = b""
    for row in seals.links(connection, TENANT, after=0, limit=1000):
        link = chain.link(link, sealing.text_of(TENANT, row.act_id, row))
        connection.execute(
            text("UPDATE act_seal SET hash = :link WHERE position = :position"),
            {"link": link, "position": row.position},
        )


def reanchor(connection: Connection) -> None:
    """Compute every anchor anew, as whoever lacks the key can."""
    before = b""
    for signed in seals.anchors(connection, TENANT, after=0, limit=1000):
        leaves = seals.leaves(connection, TENANT, signed.anchor.number)
        anchor = replace(signed.anchor, root=chain.root(leaves), previous=before)
        before = anchor.hash
        connection.execute(
            text(
                "UPDATE anchor SET root = :root, previous = :previous, hash = :hash"
                " WHERE number = :number"
            ),
            {
                "root": anchor.root,
                "previous": anchor.previous,
                "hash": anchor.hash,
                "number": anchor.number,
            },
        )


def test_what_was_sealed_verifies(world: World) -> None:
    report = verified(world.settings)
    assert report.faults == []
    assert report.notes == []
    assert (report.runs, report.anchors, report.copies, report.unsigned) == (2, 2, 2, 0)
    assert (report.tail_acts, report.tail_runs) == (0, 0)
    assert report.acts >= 3


@pytest.mark.parametrize("tampering", TAMPERINGS.values(), ids=list(TAMPERINGS))
def test_tampering_is_found_and_named(
    copied: Callable[..., Settings], world: World, tampering: Tampering
) -> None:
    settings = copied()
    tamper(settings, world.names, tampering.sql)
    report = verified(settings)
    run = tampering.run and world.names[tampering.run]
    row = world.names.get(tampering.row, tampering.row)
    assert not report.sound
    assert (tampering.table, run, row) in {
        (fault.table, fault.run, fault.row) for fault in report.faults
    }, report.faults


def test_what_is_not_anchored_yet_is_told(copied: Callable[..., Settings], world: World) -> None:
    settings = copied()
    with (
        platforms.platform(settings) as built,
        platforms.platform(settings, DatabaseRole.WORKER) as worker,
    ):
        main = replace(built, broker=Sent(app=built.broker.app))
        grown = RunId(TENANT, world.names["grown"])
        before = views.status(main, grown).seq
        finish(main, worker, take(worker, grown, "b#1"), n=9)
        did(main, "third")
        report = verification.verify(main, TENANT)
        after = views.status(main, grown).seq
        assert report.sound
        assert report.tail == [verification.Tail(run=grown.run, first=before + 1, last=after)]
        assert (report.tail_acts, report.tail_runs, report.tail_lines) == (1, 1, after - before)
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
        again = verification.verify(main, TENANT)
        assert (again.sound, again.tail_acts, again.tail_runs) == (True, 0, 0)
        assert sealing.seal(main) == sealing.Sealed(anchors=0, copies=0)


def test_one_run_is_verified_by_itself(copied: Callable[..., Settings], world: World) -> None:
    settings = copied()
    tamper(settings, world.names, "UPDATE history SET hash = 'x' WHERE run_id = '{done}'")
    assert not verified(settings, run=world.names["done"]).sound
    alone = verified(settings, run=world.names["grown"])
    assert (alone.faults, alone.runs) == ([], 1)
    with pytest.raises(NotFound):
        verified(settings, run=str(uuid4()))
    tamper(settings, world.names, "DELETE RUN grown")
    (fault,) = verified(settings, run=world.names["grown"]).faults
    assert (fault.table, fault.row) == ("run", world.names["grown"])


def test_a_public_half_is_enough_to_verify(world: World) -> None:
    assert verified(world.settings, signers=KEYS.verifying()).faults == []
    other = SigningKeys(keys=(replace(signing.generate("other"), id="test"),))
    assert {fault.row for fault in verified(world.settings, signers=other).faults} == {"1", "2"}
    unknown = SigningKeys(keys=(signing.generate("other"),))
    assert {fault.row for fault in verified(world.settings, signers=unknown).faults} == {"1", "2"}


def test_without_keys_and_copies_it_is_said_what_was_not_verified(
    copied: Callable[..., Settings],
) -> None:
    settings = replace(copied(), anchor_url=None, audit_keys=SigningKeys())
    report = verified(settings)
    assert report.sound
    assert [("signatures" in note, "copies" in note) for note in report.notes] == [
        (True, False),
        (False, True),
    ]


def test_unsigned_anchors_are_signed_when_there_is_a_key(copied: Callable[..., Settings]) -> None:
    settings = copied()
    with platforms.platform(replace(settings, audit_keys=SigningKeys())) as main:
        did(main, "third")
        sealing.seal(main)
        assert verification.verify(main, TENANT).sound
    report = verified(settings)
    assert [(fault.table, fault.row) for fault in report.faults] == [("anchor", "3")]
    with platforms.platform(settings) as main:
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
        assert verification.verify(main, TENANT).sound


def test_a_store_of_copies_that_is_away_loses_and_doubles_nothing(
    copied: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = copied()
    blocked = tmp_path / "blocked"
    blocked.write_text("no folder")
    with platforms.platform(replace(settings, anchor_url=blocked.as_uri())) as main:
        did(main, "third")
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=0)
        did(main, "fourth")
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=0)
    report = verified(settings)
    assert (report.sound, report.uncopied) == (True, 2)
    with platforms.platform(settings) as main:
        assert sealing.seal(main) == sealing.Sealed(anchors=0, copies=2)
        assert sealing.seal(main) == sealing.Sealed(anchors=0, copies=0)
    assert (verified(settings).sound, verified(settings).uncopied) == (True, 0)


def test_a_sealer_that_dies_after_its_commit_makes_no_second_copy(
    copied: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = copied()
    with platforms.platform(settings) as main:
        did(main, "third")
        with monkeypatch.context() as dying:
            dying.setattr(seals, "stored", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                sealing.seal(main)
        assert sealing.seal(main) == sealing.Sealed(anchors=0, copies=1)
        assert verification.verify(main, TENANT).sound


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda copy: copy.unlink(), "gone"),
        (lambda copy: copy.write_bytes(copy.read_bytes()[:-1]), "not what its copy"),
        (lambda copy: copy.write_text("{}"), "cannot be read"),
    ],
)
def test_copies_that_were_altered_are_named(
    copied: Callable[..., Settings], tmp_path: Path, change: Callable[[Path], object], named: str
) -> None:
    settings = copied()
    (copy,) = tmp_path.glob(f"*/{TENANT}/000000000001.json")
    change(copy)
    faults = verified(settings).faults
    assert {(fault.table, fault.row) for fault in faults} == {("anchor", "1")}
    assert any(named in fault.detail for fault in faults)


def test_what_commits_late_is_sealed_in_the_next_place(copied: Callable[..., Settings]) -> None:
    with platforms.platform(copied()) as main:
        with session.transaction(main.database) as late:
            # Its number is taken before that of whatever comes next, and committed after it.
            acts.record(late, TENANT, by="ada", action="thing.do", subject="thing:late")
            did(main, "early")
            assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
            did(main, "later")
            assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
        assert verification.verify(main, TENANT).tail_acts == 1
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
        rows = platforms.sql(
            main,
            "SELECT subject FROM act_seal s JOIN admin_act a ON a.id = s.act_id"
            " ORDER BY position DESC LIMIT 3",
        )
        assert [row.subject for row in rows] == ["thing:late", "thing:later", "thing:early"]
        report = verification.verify(main, TENANT)
        assert (report.sound, report.tail_acts) == (True, 0)


def test_transactions_that_are_counted_anew_are_all_sealed(
    copied: Callable[..., Settings],
) -> None:
    settings = copied()
    with platforms.platform(settings) as main:
        # As in a cluster into which the database was restored.
        platforms.as_owner(settings, "UPDATE sealing SET horizon = 1000000000000")
        platforms.as_owner(settings, "UPDATE history SET xid = 999999999999")
        did(main, "third")
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
        (row,) = platforms.sql(main, "SELECT horizon FROM sealing")
        assert row.horizon < 999999999999
        did(main, "fourth")
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
        assert (verified(settings).sound, verified(settings).tail_acts) == (True, 0)


def test_many_acts_are_sealed_in_several_anchors(
    copied: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "MOST", 3)
    with platforms.platform(copied()) as main:
        for number in range(7):
            did(main, f"number{number}")
        assert sealing.seal(main) == sealing.Sealed(anchors=3, copies=3)
        assert (verification.verify(main, TENANT).tail_acts) == 0


@pytest.mark.parametrize(("limit", "most"), [("MOST", 2), ("MOST_LINES", 1)])
def test_many_runs_are_anchored_in_several_anchors(
    copied: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(seals, limit, most)
    with platforms.platform(copied()) as built:
        main = replace(built, broker=Sent(app=built.broker.app))
        line = publish(main, dict(LINE))
        for number in range(4):
            submit(main, line, n=number)
        done = sealing.seal(main)
        assert done is not None
        assert done.anchors == 4 // most
        report = verification.verify(main, TENANT)
        assert (report.sound, report.tail_runs, report.tail_acts) == (True, 0, 0)


def test_each_tenant_has_its_own_chain_and_none_is_gone_unseen(
    copied: Callable[..., Settings], world: World
) -> None:
    settings = copied()
    with platforms.platform(settings) as main:
        with session.transaction(main.database) as connection:
            tenants.ensure(connection, "other", name="Other")
            acts.record(connection, "other", by="eve", action="thing.do", subject="thing:1")
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)
        reports = {report.tenant: report for report in verification.verify_all(main)}
        assert {name: (one.sound, one.anchors) for name, one in reports.items()} == {
            "local": (True, 2),
            "other": (True, 1),
        }
        removal = "; ".join(
            f"DELETE FROM {table} WHERE tenant_id = 'other'"
            for table in ("anchor_leaf", "anchor", "act_seal", "admin_act")
        )
        tamper(settings, world.names, f"{removal}; DELETE FROM tenant WHERE id = 'other'")
        found = {report.tenant: report.faults for report in verification.verify_all(main)}
        assert found["local"] == []
        assert [fault.table for fault in found["other"]] == ["anchor", "admin_act"]


def test_it_is_sealed_by_one_and_not_before_its_time(copied: Callable[..., Settings]) -> None:
    settings = copied()
    with platforms.platform(settings) as main:
        did(main, "third")
        # However long ago the copy was sealed.
        platforms.as_owner(settings, "UPDATE sealing SET next_at = now() + interval '1 hour'")
        assert sealing.seal_if_due(main) is None
        platforms.as_owner(settings, "UPDATE sealing SET next_at = now() - interval '1 second'")
        with ThreadPoolExecutor(4) as pool:
            done = [*pool.map(lambda _: sealing.seal_if_due(main), range(8))]
        assert [found for found in done if found] == [sealing.Sealed(anchors=1, copies=1)]


def test_whoever_holds_a_tenants_seal_holds_up_nobody(copied: Callable[..., Settings]) -> None:
    with platforms.platform(copied()) as main:
        did(main, "third")
        with session.transaction(main.database) as connection:
            assert seals.lock(connection, TENANT)
            assert sealing.seal(main) == sealing.Sealed(anchors=0, copies=0)
        # What was passed over is not forgotten.
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=1)


def test_verifying_while_runs_go_on_and_are_sealed_finds_nothing(
    copied: Callable[..., Settings], world: World
) -> None:
    settings = copied()
    with (
        platforms.platform(settings) as built,
        platforms.platform(settings, DatabaseRole.WORKER) as worker,
    ):
        main = replace(built, broker=Sent(app=built.broker.app))
        line = publish(main, dict(LINE))
        ended = Event()

        def work(number: int) -> None:
            for lap in range(20):
                run = submit(main, line, n=number)
                finish(main, worker, take(worker, run, "a#1"), n=1)
                did(main, f"load{number}x{lap}")
                finish(main, worker, take(worker, run, "b#1"), n=2)

        def seal() -> int:
            made = 0
            while not ended.wait(0.02):
                found = sealing.seal(main)
                made += found.anchors if found else 0
            return made

        with ThreadPoolExecutor(4) as pool:
            sealers = [pool.submit(seal) for _ in range(2)]
            workers = [pool.submit(work, number) for number in range(2)]
            try:
                while wait(workers, timeout=0).not_done:
                    assert verification.verify(main, TENANT).faults == []
            finally:
                ended.set()
        assert [done.result() for done in workers] == [None, None]
        assert sum(done.result() for done in sealers) > 0
        sealing.seal(main)
        last = verification.verify(main, TENANT)
        assert (last.sound, last.tail_acts, last.tail_runs) == (True, 0, 0)


def test_copies_are_made_once_it_is_said_where(copied: Callable[..., Settings]) -> None:
    settings = copied()
    with platforms.platform(replace(settings, anchor_url=None)) as main:
        did(main, "third")
        assert sealing.seal(main) == sealing.Sealed(anchors=1, copies=0)
    assert (verified(settings).sound, verified(settings).uncopied) == (True, 1)
    with platforms.platform(settings) as main:
        assert sealing.seal(main) == sealing.Sealed(anchors=0, copies=1)
    assert (verified(settings).sound, verified(settings).uncopied) == (True, 0)


def test_what_cannot_be_promised_is_said(world: World) -> None:
    assert sealing.lacking(world.settings) == {}
    bare = replace(world.settings, audit_keys=KEYS.verifying(), anchor_url=None)
    assert sealing.lacking(bare).keys() == {"CELERIAC_AUDIT_KEYS", "CELERIAC_ANCHOR_URL"}
