from __future__ import annotations

import base64

import pytest

from engine import signing
from engine.settings import Settings
from engine.signing import SigningKeys

FLEET = {"DATABASE_URL": "postgresql://db/celeriac", "BROKER_URL": "redis://broker:6379/0"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no-secret",
        "a:c2hvcnQ=",
        "a:not base64",
        f"a b:{base64.b64encode(b'x' * 32).decode()}",
        f"a:private:{base64.b64encode(b'x' * 32).decode()}",
        f"a:{base64.b64encode(b'x' * 32).decode()},a:{base64.b64encode(b'y' * 32).decode()}",
        f"{'a' * 33}:{base64.b64encode(b'x' * 32).decode()}",
    ],
)
def test_what_is_no_key_is_refused_without_telling_it(text: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        signing.parse(text)
    assert base64.b64encode(b"x" * 32).decode() not in str(refused.value)


def test_a_public_half_verifies_and_cannot_sign() -> None:
    key = signing.generate("one")
    public = signing.parse(SigningKeys(keys=(key,)).verifying().text())
    assert public.signing() is None
    known = public.named("one")
    assert known is not None
    signature = key.sign(b"text")
    assert known.verifies(signature, b"text")
    assert not known.verifies(signature, b"other")
    assert not known.verifies(signing.generate("one").sign(b"text"), b"text")
    assert public.named("two") is None


def test_the_first_key_that_can_signs() -> None:
    old, new = signing.generate("old"), signing.generate("new")
    ring = signing.parse(f"{SigningKeys(keys=(old,)).verifying().text()},{new.text()}")
    assert ring.signing() == new
    assert signing.parse(ring.text()) == ring


def test_a_secret_is_shown_by_nobody() -> None:
    key = signing.generate("one")
    settings = Settings.from_environment({**FLEET, "CELERIAC_AUDIT_KEYS": key.text()})
    secret = key.text().partition(":")[2]
    assert settings.audit_keys.signing() == key
    assert secret not in repr(settings)
    assert secret not in repr(key)
    assert secret not in SigningKeys(keys=(key,)).verifying().text()
