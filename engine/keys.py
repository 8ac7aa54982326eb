"""The keys that something is sealed with: several, so that one can take over from another."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from engine.errors import OutOfReach

_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a ring is for, as messages say it."""

    one: str
    many: str
    #: The setting that holds its keys.
    setting: str


BLOBS = Use(one="a blob", many="blobs", setting="CELERIAC_BLOB_KEYS")
SECRETS = Use(one="a secret", many="secrets", setting="CELERIAC_SECRET_KEYS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key. Its id stands beside everything that it sealed."""

    id: str
    secret: bytes = field(repr=False)

    def text(self) -> str:
        return f"{self.id}:{base64.b64encode(self.secret).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The first key seals; all of them open."""

    keys: tuple[Key, ...] = ()
    use: Use = field(default=BLOBS, compare=False)

    def sealing(self) -> Key:
        """The key for what is written now. Raises `OutOfReach` where there is none."""
        if not self.keys:
            raise OutOfReach(
                f"{self.use.many} cannot be written: there is no key; set {self.use.setting} to "
                "NAME:SECRET, where SECRET is 32 random bytes in base64, the same for all processes"
            )
        return self.keys[0]

    def named(self, id: str) -> Key:  # noqa: A002  # as it is called beside what it sealed
        """The key that sealed something. Raises `OutOfReach` where the ring has it not."""
        for key in self.keys:
            if key.id == id:
                return key
        raise OutOfReach(
            f"{self.use.one} was sealed with the key {id!r}, which {self.use.setting} does not hold; "
            "without that key it cannot be read: add it again, behind the first"
        )

    def text(self) -> str:
        """As the setting writes it; empty for none."""
        return ",".join(key.text() for key in self.keys)


def parse(text: str, use: Use = BLOBS) -> Ring:
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
    return Ring(keys=tuple(keys), use=use)
