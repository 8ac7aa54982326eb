"""Whose signatures hold: the keys of those who may say for us who asks, and what they say (JWTs).

A key is named by its `kid` and is good for its own algorithm alone, whatever a token says of itself:
a public key is never taken for a secret, and `none` is no algorithm. A token must say until when it
holds, and be from our issuer and for us.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from jwt import PyJWK
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from engine.core import values

ALGORITHMS: Final = ("EdDSA", "ES256", "RS256", "HS256")
#: Clocks of others may be wrong by so many seconds.
LEEWAY: Final = 10
_SECRET_BYTES: Final = 32
_MODULUS_BITS: Final = 2048
_TOKEN_CHARACTERS: Final = 8192
_ID_CHARACTERS: Final = 200
_KEY_CHARACTERS: Final = 1_000_000


class Forged(Exception):  # a thing, not a mishap
    """A token that nobody whom we know has signed, or not for us, or not for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token that holds says."""

    kid: str
    tenant: str
    user: str
    #: Which of his roles the user acts in; None for all.
    roles: frozenset[str] | None
    #: Which of his permissions he may use; None for all.
    scopes: frozenset[str] | None
    #: It was signed for us, and its time is over.
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Keys by their ids, and what tokens must say of issuer and audience."""

    keys: Mapping[str, PyJWK] = field(default_factory=dict, repr=False, compare=False)
    issuer: str = ""
    audience: str = ""
    #: The set of keys as the setting writes it.
    text: str = field(default="", repr=False)

    def read(self, token: str) -> Claims:
        """What a token says. Raises `Forged`."""
        try:
            kid = self._kid(token)
            try:
                claims, expired = self._decode(token, kid), False
            except ExpiredSignatureError:
                claims, expired = self._decode(token, kid, verify_exp=False), True
            return Claims(
                kid=kid,
                tenant=_text(claims, "tenant"),
                user=_text(claims, "sub"),
                roles=_names(claims.get("roles")),
                scopes=_names(claims.get("scope", claims.get("scopes"))),
                expired=expired,
            )
        except (PyJWTError, ValueError, TypeError, RecursionError) as error:
            # What its maker sent may be anything; what went wrong is for our log, not for him.
            raise Forged(f"{type(error).__name__}: {error}") from error

    def _kid(self, token: str) -> str:
        if len(token) > _TOKEN_CHARACTERS:
            raise ValueError("it is too long")
        kid = jwt.get_unverified_header(token).get("kid")
        if not isinstance(kid, str) or kid not in self.keys:
            raise ValueError("nobody has a key of this kid")
        return kid

    def _decode(self, token: str, kid: str, *, verify_exp: bool = True) -> Mapping[str, Any]:
        key = self.keys[kid]
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm_name],
            audience=self.audience,
            issuer=self.issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iss", "aud", "sub"], "verify_exp": verify_exp},
        )
        return claims


def parse(text: str) -> Mapping[str, PyJWK]:
    """The keys of a JWK set (RFC 7517). Raises `ValueError`, whose message holds no secret."""
    if len(text) > _KEY_CHARACTERS:
        raise ValueError("is too long for a JWK set")
    try:
        found = json.loads(text)
        listed = found["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('is no JWK set: one looks like {"keys": [{"kid": …}, …]}') from None
    if not isinstance(listed, list) or not listed:
        raise ValueError("is a JWK set without keys")
    keys: dict[str, PyJWK] = {}
    for place, each in enumerate(listed, start=1):
        kid = each.get("kid") if isinstance(each, dict) else None
        if not isinstance(kid, str) or not 0 < len(kid) <= _ID_CHARACTERS:
            raise ValueError(f"key {place} has no kid")
        if kid in keys:
            raise ValueError(f"key {kid!r} is given twice")
        keys[kid] = _key(kid, each)
    return keys


def _key(kid: str, given: Mapping[str, Any]) -> PyJWK:
    algorithm = given.get("alg")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"key {kid!r} must name its alg, one of {', '.join(ALGORITHMS)}")
    if given.get("kty") != "oct" and "d" in given:
        raise ValueError(f"key {kid!r} is a private key; give its public half alone")
    if given.get("use", "sig") != "sig":
        raise ValueError(f"key {kid!r} is not for signatures")
    try:
        key = PyJWK(dict(given), algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise ValueError(f"key {kid!r} is no key for {algorithm}") from None
    if algorithm == "HS256" and len(key.key) < _SECRET_BYTES:
        raise ValueError(f"key {kid!r} is shorter than {_SECRET_BYTES} bytes")
    if algorithm == "RS256" and key.key.key_size < _MODULUS_BITS:
        raise ValueError(f"key {kid!r} is shorter than {_MODULUS_BITS} bits")
    return key


def _text(claims: Mapping[str, Any], name: str) -> str:
    found = claims.get(name)
    if not isinstance(found, str) or not 0 < len(found) <= _ID_CHARACTERS:
        raise ValueError(f"its {name} is no text of 1 to {_ID_CHARACTERS} characters")
    if any(values.problems(found)):
        raise ValueError(f"its {name} holds what no text may hold")
    return found


def _names(found: object) -> frozenset[str] | None:
    """A list of names, or a text of them with blanks between (`scope`, RFC 8693)."""
    if found is None:
        return None
    names = found.split() if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its roles or scopes are no names")
    return frozenset(names)
