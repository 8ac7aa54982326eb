from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.core import chain
from engine.core.chain import Anchor, Leaf

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ACT: dict[str, Any] = {
    "tenant": "local",
    "id": "1",
    "at": AT,
    "by": "ada",
    "action": "thing.do",
    "subject": "thing:1",
    "why": "",
    "detail": '{"a":1}',
    "before": None,
    "after": "ab",
}
ANCHOR = Anchor(
    tenant="local",
    number=2,
    at=AT,
    position=1,
    acts=b"a",
    root=b"r",
    count=3,
    previous=b"p",
)


def leaves(count: int) -> list[Leaf]:
    return [Leaf(kind="run", subject=str(n), seq=n + 1, hash=bytes([n])) for n in range(count)]


@pytest.mark.parametrize("name", ACT)
def test_every_field_of_an_act_is_in_its_text(name: str) -> None:
    other = AT + timedelta(microseconds=1) if name == "at" else "other"
    assert chain.act_text(**{**ACT, name: other}) != chain.act_text(**ACT)


def test_a_link_covers_what_came_before() -> None:
    first = chain.link(b"", "a")
    assert first == hashlib.sha256(b"a").digest()
    assert chain.link(first, "b") != chain.link(b"", "b")


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "other"},
        {"number": 3},
        {"at": AT + timedelta(microseconds=1)},
        {"position": 2},
        {"acts": b"b"},
        {"root": b"s"},
        {"count": 4},
        {"previous": b"q"},
    ],
)
def test_every_field_of_an_anchor_is_in_its_hash(change: dict[str, Any]) -> None:
    assert replace(ANCHOR, **change).hash != ANCHOR.hash


def test_the_root_covers_each_leaf_its_place_and_their_number() -> None:
    for count in range(9):
        found = leaves(count)
        root = chain.root(found)
        assert root != chain.root(leaves(count + 1))
        for place, leaf in enumerate(found):
            changes = [
                {"kind": "act"},
                {"subject": "x"},
                {"seq": 99},
                {"hash": b"x"},
                {"marks": b"x"},
            ]
            for change in changes:
                other = [*found]
                other[place] = replace(leaf, **change)  # type: ignore[arg-type]
                assert chain.root(other) != root
        if count > 1:
            assert chain.root(found[::-1]) != root


def test_the_root_is_that_of_rfc_6962() -> None:
    one, two, three = (
        hashlib.sha256(b"\0" + chain.canonical(leaf.told()).encode()).digest() for leaf in leaves(3)
    )
    pair = hashlib.sha256(b"\1" + one + two).digest()
    assert chain.root([]) == hashlib.sha256(b"").digest()
    assert chain.root(leaves(1)) == one
    assert chain.root(leaves(2)) == pair
    assert chain.root(leaves(3)) == hashlib.sha256(b"\1" + pair + three).digest()


def test_marks_tell_the_first_line_that_differs() -> None:
    hashes = [hashlib.sha256(bytes([n])).digest() for n in range(4)]
    marks = b"".join(line[: chain.MARK_BYTES] for line in hashes)
    assert chain.differs(marks, hashes) is None
    assert chain.differs(marks, [*hashes[:2], b"x" * 32, *hashes[3:]]) == 2
    assert chain.differs(marks, hashes[:3]) == 3
    assert chain.differs(marks, [*hashes, b"more"]) is None


def test_the_hash_of_a_line_covers_all_that_it_says_and_the_line_before() -> None:
    said: dict[str, Any] = {
        "run": "r",
        "seq": 2,
        "at": AT,
        "kind": "Ticked",
        "format": 1,
        "body": "{}",
        "payload_id": None,
    }
    told = chain.line(b"a", **said)
    assert told == chain.link(b"a", f"r|2|{chain.microseconds(AT)}|Ticked|1|{{}}|")
    others = [{"seq": 3}, {"kind": "Woke"}, {"body": "[]"}, {"payload_id": "p"}, {"run": "s"}]
    assert told not in [chain.line(b"a", **{**said, **other}) for other in others]
    assert told != chain.line(b"b", **said)
