"""The keys that blobs are sealed with: several, so that one can take over from another."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from engine.errors import OutOfReach

_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key. Its id stands in the head of every object that it sealed."""

    id: str
    secret: bytes = field(repr=False)

    def text(self) -> str:
        return f"{self.id}:{base64.b64encode(self.secret).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The first key seals; all of them open."""

    keys: tuple[Key, ...] = ()

    def sealing(self) -> Key:
        """The key for what is written now. Raises `OutOfReach` where there is none."""
        if not self.keys:
            raise OutOfReach(
                "blobs cannot be written: there is no key; set CELERIAC_BLOB_KEYS to NAME:SECRET, "
                "where SECRET is 32 random bytes in base64, the same for all processes"
            )
        return self.keys[0]

    def named(self, id: str) -> Key:  # noqa: A002  # as it is called in the object's head
        """The key that sealed an object. Raises `OutOfReach` where the ring has it not."""
        for key in self.keys:
            if key.id == id:
                return key
        raise OutOfReach(
            f"a blob was sealed with the key {id!r}, which CELERIAC_BLOB_KEYS does not hold; "
            "without that key it cannot be read: add it again, behind the first"
        )

    def text(self) -> str:
        """As the setting writes it; empty for none."""
        return ",".join(key.text() for key in self.keys)


def parse(text: str) -> Ring:
    """The ring of `NAME:SECRET,…`. Raises `ValueError`, whose message holds no secret."""
    keys: list[Key] = []
    for place, part in enumerate(text.split(","), start=1):
        name, _, secret = part.strip().partition(":")
        if not _ID.fullmatch(name):
            raise ValueError(f"key {place} has no name of letters, digits, '_', '.', '-'")
        try:
            known = base64.b64decode(secret, validate=True)
        except (binascii.Error, ValueError):
            known = b""
        if len(known) != SECRET_BYTES:
            raise ValueError(f"key {name} is not {SECRET_BYTES} bytes in base64")
        if name in {key.id for key in keys}:
            raise ValueError(f"key {name} is given twice")
        keys.append(Key(id=name, secret=known))
    return Ring(keys=tuple(keys))
