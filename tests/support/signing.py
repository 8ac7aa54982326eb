"""Issuers of JWTs: keys of every kind, and tokens good and forged."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from engine import signers
from engine.signers import Signers

ISSUER, AUDIENCE = "https://issuer.example", "celeriac"
SECRET = b"s" * 32


@cache
def private_keys() -> Mapping[str, Any]:
    """A private key of each algorithm, by its kid."""
    return {
        "hs": SECRET,
        "rs": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "es": ec.generate_private_key(ec.SECP256R1()),
        "ed": ed25519.Ed25519PrivateKey.generate(),
    }


ALGORITHMS = {"hs": "HS256", "rs": "RS256", "es": "ES256", "ed": "EdDSA"}


@cache
def jwks() -> str:
    """The JWK set of them, public halves."""
    listed = []
    for kid, key in private_keys().items():
        if kid == "hs":
            found = {"kty": "oct", "k": _encoded(SECRET)}
        else:
            algorithm = jwt.get_algorithm_by_name(ALGORITHMS[kid])
            found = json.loads(algorithm.to_jwk(key.public_key()))
            found.pop("key_ops", None)
        listed.append({**found, "kid": kid, "alg": ALGORITHMS[kid]})
    return json.dumps({"keys": listed})


def trusted() -> Signers:
    """What the platform is told of the issuer."""
    return Signers(keys=signers.parse(jwks()), issuer=ISSUER, audience=AUDIENCE, text=jwks())


def claims(tenant: str = "local", user: str = "ada", **others: Any) -> dict[str, Any]:
    """What a good token says."""
    now = int(time.time())
    told = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "tenant": tenant,
        "nbf": now - 5,
        "exp": now + 600,
        **others,
    }
    return {name: value for name, value in told.items() if value is not None}


def token(
    kid: str = "ed", told: Mapping[str, Any] | None = None, head: Mapping[str, Any] | None = None
) -> str:
    """A token that the issuer has signed."""
    key, algorithm = private_keys()[kid], ALGORITHMS[kid]
    headers = {"kid": kid, **(head or {})}
    return jwt.encode(dict(claims() if told is None else told), key, algorithm, headers=headers)


def forged() -> Mapping[str, str]:
    """Tokens that must stand for nobody, by what is wrong with them."""
    good, now = token("rs"), int(time.time())
    head, body, signature = good.split(".")
    public = (
        private_keys()["rs"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    other = ed25519.Ed25519PrivateKey.generate()
    return {
        "no algorithm": _raw({"alg": "none", "kid": "rs"}, claims(), b""),
        "no algorithm, spelled differently": _raw({"alg": "nOnE", "kid": "rs"}, claims(), b""),
        "the public key as a secret": _hmac({"alg": "HS256", "kid": "rs"}, claims(), public),
        "another algorithm's key": _hmac({"alg": "HS256", "kid": "ed"}, claims(), SECRET),
        "an algorithm that is not listed": _hmac({"alg": "HS512", "kid": "hs"}, claims(), SECRET),
        "another audience": token(told=claims(aud="somebody")),
        "no audience": token(told=claims(aud=None)),
        "another issuer": token(told=claims(iss="https://evil.example")),
        "no issuer": token(told=claims(iss=None)),
        "no end": token(told=claims(exp=None)),
        "an end that is no number": token(told={**claims(), "exp": "tomorrow"}),
        "not yet": token(told=claims(nbf=now + 600)),
        "no user": token(told=claims(sub=None)),
        "a user that is no text": _raw_signed({**claims(), "sub": 7}),
        "no tenant": token(told=claims(tenant=None)),
        "a tenant that is no text": token(told=claims(tenant={"$ne": ""})),
        "a NUL in the tenant": token(told=claims(tenant="lo\x00cal")),
        "roles that are none": token(told=claims(roles=[1])),
        "an unknown kid": token(head={"kid": "nobody's"}),
        "a kid that is a path": token(head={"kid": "../../../../dev/null"}),
        "a kid that is SQL": token(head={"kid": "' OR 1=1 --"}),
        "no kid": jwt.encode(claims(), private_keys()["ed"], "EdDSA"),
        "another's signature": jwt.encode(claims(), other, "EdDSA", headers={"kid": "ed"}),
        "its own key in its head": jwt.encode(
            claims(), other, "EdDSA", headers={"kid": "ed", "jwk": _jwk(other)}
        ),
        "a critical head that nobody knows": token(head={"crit": ["x"], "x": 1}),
        "cut off": good[:-10],
        "without a signature": f"{head}.{body}.",
        "with another body": f"{head}.{_encoded(json.dumps(claims(user='root')).encode())}.{signature}",
        "no JSON": f"{_encoded(b'nope')}.{body}.{signature}",
        "nothing": "..",
        "too long": token(told=claims(x="x" * 20_000)),
    }


def expired() -> str:
    """A good token whose time is over."""
    return token(told=claims(exp=int(time.time()) - 60))


def _jwk(key: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(jwt.get_algorithm_by_name("EdDSA").to_jwk(key.public_key()))
    return found


def _raw(head: Mapping[str, Any], told: Mapping[str, Any], signature: bytes) -> str:
    return ".".join(
        (
            _encoded(json.dumps(head).encode()),
            _encoded(json.dumps(told).encode()),
            _encoded(signature),
        )
    )


def _raw_signed(told: Mapping[str, Any]) -> str:
    """A body that the library itself would not sign."""
    unsigned = _raw({"alg": "EdDSA", "kid": "ed"}, told, b"").rpartition(".")[0]
    return f"{unsigned}.{_encoded(private_keys()['ed'].sign(unsigned.encode()))}"


def _hmac(head: Mapping[str, Any], told: Mapping[str, Any], secret: bytes) -> str:
    """Signed by hand: the library refuses to take a public key for a secret."""

    unsigned = _raw(head, told, b"").rpartition(".")[0]
    digest = "sha512" if head["alg"] == "HS512" else "sha256"
    return f"{unsigned}.{_encoded(hmac.digest(secret, unsigned.encode(), digest))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
