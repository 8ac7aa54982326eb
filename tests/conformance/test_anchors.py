"""What every place for copies of anchors must do: memory, a folder, and an S3 on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.blobs import Anchors
from engine.errors import OutOfReach
from tests.support import objects
from tests.support.objects import S3
from tests.support.platforms import TENANT


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[S3]:
    with objects.s3(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture(params=["memory", "folder", "s3"])
def anchors(request, tmp_path, monkeypatch) -> Anchors:
    if request.param == "memory":
        return Anchors("memory:///")
    if request.param == "folder":
        return Anchors((tmp_path / "a folder").as_uri())
    server = request.getfixturevalue("server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Anchors(f"{server.url}/{os.urandom(4).hex()}")


def test_an_anchor_is_never_written_over(anchors):
    assert anchors.create(TENANT, 1, b"first")
    assert not anchors.create(TENANT, 1, b"second")
    assert anchors.get(TENANT, 1) == b"first"


def test_what_is_not_there_is_none(anchors):
    assert anchors.get(TENANT, 1) is None
    assert [*anchors.numbers(TENANT)] == []
    assert anchors.tenants() == frozenset()


def test_a_tenant_has_its_own(anchors):
    for number in (1, 2, 10_000_000_000_000):
        assert anchors.create(TENANT, number, b"x")
    assert anchors.create(f"{TENANT}-too", 7, b"x")
    assert sorted(anchors.numbers(TENANT)) == [1, 2, 10_000_000_000_000]
    assert anchors.tenants() == {TENANT, f"{TENANT}-too"}
    for name in ("../x", "", "a/b"):
        with pytest.raises(ValueError, match="no folder"):
            anchors.create(name, 1, b"x")
        with pytest.raises(ValueError, match="no folder"):
            [*anchors.numbers(name)]


def test_of_many_who_write_at_once_one_does(anchors):
    with ThreadPoolExecutor(8) as pool:
        done = [*pool.map(lambda n: anchors.create(TENANT, 1, b"%d" % n), range(8))]
    assert done.count(True) == 1
    assert anchors.get(TENANT, 1) == b"%d" % done.index(True)


def test_a_place_that_is_away_says_so(tmp_path, server, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    for place in (Anchors(blocked.as_uri()), Anchors("s3://no-such-bucket-here/x")):
        with pytest.raises(OutOfReach):
            place.create(TENANT, 1, b"x")
