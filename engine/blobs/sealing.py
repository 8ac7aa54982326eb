"""The bytes of an object: a head, then pieces of at most a megabyte, each sealed by itself.

    CLB1 | length of the key's id | the key's id | salt | piece | piece | …

A piece is its ciphertext and the tag of GCM. Its nonce is its number and whether it is the last
one; no nonce comes twice under a key, because every object has a key of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import Damaged
from engine.keys import SECRET_BYTES, Key, Ring

_MAGIC = b"CLB1"
_SALT = 32
_PIECE = 1024 * 1024
_TAG = 16


def sealed(data: bytes, key: Key, bound: bytes) -> Iterator[bytes]:
    """Seal bytes, bound to what they belong to."""
    name = key.id.encode()
    head = _MAGIC + bytes([len(name)]) + name + os.urandom(_SALT)
    cipher = _cipher(key, head)
    yield head
    whole = memoryview(data)
    last = max(0, len(whole) - 1) // _PIECE
    for number in range(last + 1):
        piece = whole[number * _PIECE : (number + 1) * _PIECE]
        yield cipher.encrypt(_nonce(number, last=number == last), piece, head + bound)


def opened(stream: Iterable[bytes], ring: Ring, bound: bytes) -> Iterator[bytes]:
    """Open what was sealed, piece by piece. Raises `OutOfReach` without its key, and `Damaged`."""
    source = _Source(stream)
    head = source.exactly(len(_MAGIC) + 1)
    if head[:-1] != _MAGIC:
        raise Damaged("it does not begin as an object of ours does")
    name = source.exactly(head[-1])
    head += name + source.exactly(_SALT)
    cipher = _cipher(ring.named(name.decode("ascii", "replace")), head)
    number = 0
    piece = source.at_most(_PIECE + _TAG)
    while True:
        following = source.at_most(_PIECE + _TAG)
        nonce = _nonce(number, last=not following)
        try:
            plain = cipher.decrypt(nonce, piece, head + bound)
        except InvalidTag:
            raise Damaged(f"its piece {number + 1} was changed, or it was cut short") from None
        yield plain
        if not following:
            return
        piece, number = following, number + 1


def _cipher(key: Key, head: bytes) -> AESGCM:
    salt = head[-_SALT:]
    derived = HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=salt, info=b"celeriac blob")
    return AESGCM(derived.derive(key.secret))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + bytes([last])


class _Source:
    """A stream, read by as many bytes as are wanted."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = iter(stream)
        self._held = bytearray()

    def at_most(self, count: int) -> bytes:
        """So many bytes, fewer where the stream ends before."""
        while len(self._held) < count:
            chunk = next(self._stream, None)
            if chunk is None:
                break
            self._held += chunk
        found = bytes(self._held[:count])
        del self._held[:count]
        return found

    def exactly(self, count: int) -> bytes:
        found = self.at_most(count)
        if len(found) < count:
            raise Damaged("it is cut short in its head")
        return found
