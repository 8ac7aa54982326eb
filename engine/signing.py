"""The keys that anchors are signed with: Ed25519, several, so that one can take over from another.

The first that has its private half signs; all verify. Whoever only verifies needs public halves.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
_BYTES = 32
_PUBLIC = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One key. Its id stands beside every signature that it made."""

    id: str
    #: Raw Ed25519 bytes; None for a key that can only verify.
    private: bytes | None = field(default=None, repr=False)
    public: bytes

    def text(self) -> str:
        """As the setting writes it."""
        if self.private is None:
            return f"{self.id}:{_PUBLIC}:{base64.b64encode(self.public).decode()}"
        return f"{self.id}:{base64.b64encode(self.private).decode()}"

    def sign(self, text: bytes) -> bytes:
        assert self.private is not None
        return Ed25519PrivateKey.from_private_bytes(self.private).sign(text)

    def verifies(self, signature: bytes, text: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """The keys of the audit."""

    keys: tuple[Signer, ...] = ()

    def signing(self) -> Signer | None:
        """The key for what is signed now."""
        return next((key for key in self.keys if key.private is not None), None)

    def named(self, id: str) -> Signer | None:  # noqa: A002  # as it stands beside signatures
        return next((key for key in self.keys if key.id == id), None)

    def text(self) -> str:
        """As the setting writes it; empty for none."""
        return ",".join(key.text() for key in self.keys)

    def verifying(self) -> SigningKeys:
        """The same keys by their public halves: what whoever verifies may be given."""
        return SigningKeys(keys=tuple(Signer(id=key.id, public=key.public) for key in self.keys))


def generate(id: str) -> Signer:  # noqa: A002  # as it stands beside signatures
    """A new key."""
    return _private(id, Ed25519PrivateKey.generate().private_bytes_raw())


def parse(text: str) -> SigningKeys:
    """The keys of `NAME:SECRET,NAME:public:KEY,…`. Raises `ValueError` that holds no secret."""
    found: list[Signer] = []
    for place, part in enumerate(text.split(","), start=1):
        name, _, rest = part.strip().partition(":")
        kind, colon, key = rest.rpartition(":")
        if not _ID.fullmatch(name):
            raise ValueError(f"key {place} has no name of letters, digits, '_', '.', '-'")
        if colon and kind != _PUBLIC:
            raise ValueError(f"key {name} is neither NAME:SECRET nor NAME:{_PUBLIC}:KEY")
        try:
            known = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            known = b""
        if len(known) != _BYTES:
            raise ValueError(f"key {name} is not {_BYTES} bytes in base64")
        if name in {one.id for one in found}:
            raise ValueError(f"key {name} is given twice")
        found.append(Signer(id=name, public=known) if colon else _private(name, known))
    return SigningKeys(keys=tuple(found))


def _private(id: str, private: bytes) -> Signer:  # noqa: A002  # as it stands beside signatures
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return Signer(id=id, private=private, public=public)
