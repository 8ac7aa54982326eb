"""What every place for blobs must do: memory, a folder, and an S3 on this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from engine import keys
from engine.blobs import Blobs
from engine.errors import Damaged, OutOfReach
from engine.keys import Key, Ring
from tests.support import objects
from tests.support.objects import S3
from tests.support.platforms import RING, TENANT

PIECE = 1024 * 1024
NEW = Key(id="2027", secret=b"n" * 32)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[S3]:
    with objects.s3(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture(params=["memory", "folder", "s3"])
def blobs(request, tmp_path, monkeypatch) -> Blobs:
    if request.param == "memory":
        return Blobs("memory:///", RING)
    if request.param == "folder":
        return Blobs((tmp_path / "a folder").as_uri(), RING)
    server = request.getfixturevalue("server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Blobs(f"{server.url}/{os.urandom(4).hex()}", RING)


def put(blobs: Blobs, data: bytes, tenant: str = TENANT) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.put(tenant, sha256, data)
    return sha256


# --- sad paths ------------------------------------------------------------------------------


def test_what_is_not_there_cannot_be_read(blobs):
    assert not blobs.has(TENANT, "ab" * 32)
    with pytest.raises(OutOfReach, match="no such object"):
        blobs.get(TENANT, "ab" * 32)
    blobs.delete(TENANT, "ab" * 32)


def test_what_another_tenant_wrote_cannot_be_read(blobs):
    sha256 = put(blobs, b"ours")
    assert not blobs.has("other", sha256)
    with pytest.raises(OutOfReach):
        blobs.get("other", sha256)


def test_bytes_with_another_sha256_are_refused(blobs):
    blobs.put(TENANT, "ab" * 32, b"something else")
    with pytest.raises(Damaged, match="another sha256"):
        blobs.get(TENANT, "ab" * 32)


@pytest.mark.parametrize("name", ["", "../x", "AB" * 32, "ab" * 31, "ab" * 32 + "\n", "é" * 64])
def test_a_name_that_is_no_sha256_is_refused(blobs, name):
    with pytest.raises(ValueError, match="name no blob"):
        blobs.get(TENANT, name)
    with pytest.raises(ValueError, match="name no blob"):
        blobs.get("../other", "ab" * 32)


# --- happy paths ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE + 13, 17 * PIECE])
def test_what_was_written_is_read(blobs, size):
    data = os.urandom(size)
    sha256 = put(blobs, data)
    assert blobs.has(TENANT, sha256)
    assert blobs.get(TENANT, sha256) == data
    assert all(len(piece) <= PIECE for piece in blobs.stream(TENANT, sha256))


def test_writing_twice_is_writing_once(blobs):
    assert put(blobs, b"same") == put(blobs, b"same")
    assert blobs.get(TENANT, hashlib.sha256(b"same").hexdigest()) == b"same"


def test_what_was_deleted_is_gone(blobs):
    sha256 = put(blobs, b"short-lived")
    blobs.delete(TENANT, sha256)
    assert not blobs.has(TENANT, sha256)


# --- sealing, on files that can be looked at --------------------------------------------------


@dataclass(kw_only=True)
class Folder:
    """A folder of blobs, with whatever keys."""

    url: str
    path: object

    def with_keys(self, *known: Key) -> Blobs:
        return Blobs(self.url, Ring(keys=known))

    def file(self):
        (found,) = (place for place in self.path.rglob("*") if place.is_file())
        return found


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(url=(tmp_path / "blobs").as_uri(), path=tmp_path / "blobs")


def test_the_file_tells_the_name_of_its_key_and_nothing_else(folder):
    data = b"a secret of ours" * 100
    sha256 = put(folder.with_keys(*RING.keys), data)
    found = folder.file().read_bytes()
    assert found.startswith(b"CLB1\x04test")
    assert b"secret" not in found
    assert RING.keys[0].secret not in found
    assert folder.file().relative_to(folder.path).as_posix() == f"{TENANT}/{sha256[:2]}/{sha256}"


def test_a_new_key_seals_and_the_old_one_still_opens(folder):
    (old,) = RING.keys
    before = put(folder.with_keys(old), b"sealed by the old key")
    both = folder.with_keys(NEW, old)
    assert both.get(TENANT, before) == b"sealed by the old key"
    after = put(both, b"sealed by the new key")
    assert folder.with_keys(NEW).get(TENANT, after) == b"sealed by the new key"


def test_with_its_key_gone_reading_fails_and_names_the_key(folder):
    sha256 = put(folder.with_keys(*RING.keys), b"value")
    for ring in ((), (NEW,)):
        with pytest.raises(OutOfReach, match=r"sealed with the key 'test'.*CELERIAC_BLOB_KEYS"):
            folder.with_keys(*ring).get(TENANT, sha256)


def test_without_any_key_nothing_is_written(folder):
    with pytest.raises(OutOfReach, match="set CELERIAC_BLOB_KEYS"):
        put(folder.with_keys(), b"value")
    assert not [place for place in folder.path.rglob("*") if place.is_file()]


def test_another_secret_under_the_same_name_opens_nothing(folder):
    sha256 = put(folder.with_keys(*RING.keys), b"value")
    with pytest.raises(Damaged):
        folder.with_keys(Key(id="test", secret=b"x" * 32)).get(TENANT, sha256)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _found: b"",
        lambda found: found[:3],
        lambda found: found[:20],
        lambda found: found[:-1],
        lambda found: found + b"x",
        lambda found: found[: -(PIECE + 16)],
        lambda found: b"X" + found[1:],
        lambda found: found[:-1] + bytes([found[-1] ^ 1]),
        # The two whole pieces change places.
        lambda found: found[:41] + found[41 + PIECE + 16 :] + found[41 : 41 + PIECE + 16],
    ],
)
def test_a_changed_file_is_never_read(folder, damage):
    blobs = folder.with_keys(*RING.keys)
    sha256 = put(blobs, os.urandom(2 * PIECE))
    folder.file().write_bytes(damage(folder.file().read_bytes()))
    with pytest.raises(Damaged, match=f"cannot read blob {sha256}"):
        blobs.get(TENANT, sha256)


def test_a_file_in_the_place_of_another_is_never_read(folder):
    blobs = folder.with_keys(*RING.keys)
    mine = put(blobs, b"mine")
    sealed = folder.file().read_bytes()
    folder.file().unlink()
    blobs.put("other", mine, b"mine")
    folder.file().write_bytes(sealed)
    with pytest.raises(Damaged):
        blobs.get("other", mine)


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "blobs").write_text("not a folder")
    with pytest.raises(OutOfReach, match="cannot write blob"):
        put(Blobs((tmp_path / "blobs").as_uri(), RING), b"value")


def test_an_s3_that_is_away_is_out_of_reach_until_it_is_back(tmp_path, monkeypatch):
    with objects.s3(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        blobs = Blobs(server.url, RING)
        server.end()
        with pytest.raises(OutOfReach, match="does not answer") as raised:
            put(blobs, b"value")
        assert "secret" not in str(raised.value)
        server.start()
        assert blobs.get(TENANT, put(blobs, b"value")) == b"value"


# --- the setting ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "key 1 has no name"),
        (":c2VjcmV0", "key 1 has no name"),
        ("a b:c2VjcmV0", "key 1 has no name"),
        ("a", "key a is not 32 bytes"),
        ("a:c2VjcmV0", "key a is not 32 bytes"),
        ("a:no base64", "key a is not 32 bytes"),
        (f"{NEW.text()},{NEW.text()}", "given twice"),
    ],
)
def test_a_ring_that_is_none_is_refused_without_its_secret(text, said):
    with pytest.raises(ValueError, match=said) as raised:
        keys.parse(text)
    assert "c2VjcmV0" not in str(raised.value)


def test_a_ring_is_read_as_it_was_written():
    ring = Ring(keys=(NEW, *RING.keys))
    assert keys.parse(f" {ring.text()} ") == ring
    assert "nnnn" not in repr(ring)
