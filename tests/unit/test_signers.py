"""Whose tokens hold."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from engine import signers
from engine.settings import Settings, SettingsError
from engine.signers import Forged, Signers
from tests.support import signing


@pytest.mark.parametrize("kid", signing.ALGORITHMS)
def test_a_token_of_every_kind_of_key_says_who_asks(kid: str) -> None:
    told = signing.claims(roles=["viewer"], scope="run:read definition:read")
    found = signing.trusted().read(signing.token(kid, told))
    assert (found.kid, found.tenant, found.user, found.expired) == (kid, "local", "ada", False)
    assert (found.roles, found.scopes) == ({"viewer"}, {"run:read", "definition:read"})


def test_a_token_that_narrows_nothing_says_so() -> None:
    found = signing.trusted().read(signing.token())
    assert (found.roles, found.scopes) == (None, None)
    listed = signing.token(told=signing.claims(scopes=[]))
    assert signing.trusted().read(listed).scopes == frozenset()


@pytest.mark.parametrize("how", signing.forged())
def test_a_forged_token_is_none(how: str) -> None:
    with pytest.raises(Forged):
        signing.trusted().read(signing.forged()[how])


def test_a_token_whose_time_is_over_still_says_whose_it_was() -> None:
    found = signing.trusted().read(signing.expired())
    assert (found.expired, found.tenant) == (True, "local")


def test_without_keys_no_token_holds() -> None:
    with pytest.raises(Forged):
        Signers().read(signing.token())


# --- settings ----------------------------------------------------------------------------------


def _set(**changes: object) -> str:
    return json.dumps({"keys": [{**json.loads(signing.jwks())["keys"][0], **changes}]})


SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JWK set"),
        ("{}", "no JWK set"),
        ('{"keys": []}', "without keys"),
        ('{"keys": [1]}', "has no kid"),
        (_set(kid=""), "has no kid"),
        (_set(alg=None), "must name its alg"),
        (_set(alg="none"), "must name its alg"),
        (_set(alg="HS512"), "must name its alg"),
        (_set(alg="RS256"), "no key for RS256"),
        (_set(use="enc"), "not for signatures"),
        (_set(k="c2hvcnQ"), "shorter than 32 bytes"),
        (
            json.dumps(
                {
                    "keys": [
                        {
                            **json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(SHORT)),
                            "kid": "x",
                            "alg": "RS256",
                        }
                    ]
                }
            ),
            "private key",
        ),
        (
            json.dumps(
                {
                    "keys": [
                        {
                            **json.loads(
                                jwt.get_algorithm_by_name("RS256").to_jwk(SHORT.public_key())
                            ),
                            "kid": "x",
                            "alg": "RS256",
                        }
                    ]
                }
            ),
            "shorter than 2048 bits",
        ),
        (json.dumps({"keys": json.loads(_set())["keys"] * 2}), "given twice"),
        (" " * 1_000_001, "too long"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        signers.parse(text)
    assert "c2hvcnQ" not in str(refused.value)


def test_settings_read_a_set_or_a_file_and_hand_it_on(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(signing.jwks())
    told = {"CELERIAC_JWT_ISSUER": signing.ISSUER, "CELERIAC_JWT_AUDIENCE": signing.AUDIENCE}
    for text in (signing.jwks(), str(file)):
        found = Settings.from_environment({"CELERIAC_JWT_KEYS": text, **told})
        again = Settings.from_environment(found.to_environment())
        assert again.signers.read(signing.token()).user == "ada"
        assert signing.jwks() not in repr(found)


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"CELERIAC_JWT_KEYS": "/nowhere"}, "CELERIAC_JWT_KEYS"),
        ({"CELERIAC_JWT_KEYS": "{}"}, "CELERIAC_JWT_KEYS"),
        (
            {"CELERIAC_JWT_KEYS": signing.jwks(), "CELERIAC_JWT_ISSUER": "x"},
            "CELERIAC_JWT_AUDIENCE",
        ),
        (
            {"CELERIAC_JWT_KEYS": signing.jwks(), "CELERIAC_JWT_AUDIENCE": "x"},
            "CELERIAC_JWT_ISSUER",
        ),
    ],
)
def test_settings_that_would_trust_too_much_are_refused(
    environment: dict[str, str], path: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environment)
    assert path in {problem.path for problem in refused.value.problems}
