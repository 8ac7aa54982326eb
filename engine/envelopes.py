"""Values sealed for rows of the database: AES-256-GCM, bound to what they belong to.

Each tenant has a key of its own under a key of the ring, so that nothing sealed for one opens for
another, whatever is done to the rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.core.values import canonical
from engine.errors import Damaged
from engine.keys import SECRET_BYTES, Key, Ring

_NONCE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A sealed value."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


def seal(value: str, ring: Ring, tenant: str, name: str, version: int) -> Envelope:
    """Seal a value with the first key. Raises `OutOfReach` where there is none."""
    key, nonce = ring.sealing(), os.urandom(_NONCE)
    sealed = _cipher(key, tenant).encrypt(nonce, value.encode(), _bound(tenant, name, version))
    return Envelope(key_id=key.id, nonce=nonce, ciphertext=sealed)


def opened(envelope: Envelope, ring: Ring, tenant: str, name: str, version: int) -> str:
    """The value. Raises `OutOfReach` without its key, and `Damaged` for what was not sealed so."""
    cipher = _cipher(ring.named(envelope.key_id), tenant)
    bound = _bound(tenant, name, version)
    try:
        return cipher.decrypt(envelope.nonce, envelope.ciphertext, bound).decode()
    except InvalidTag:
        message = f"secret {name} was changed where it is stored; put it anew"
        raise Damaged(message) from None


def _cipher(key: Key, tenant: str) -> AESGCM:
    info = f"celeriac secret {tenant}".encode()
    derived = HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=info)
    return AESGCM(derived.derive(key.secret))


def _bound(tenant: str, name: str, version: int) -> bytes:
    return canonical([tenant, name, version]).encode()
