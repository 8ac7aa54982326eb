"""The keys that the embedded platform seals with, and signs with."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from celeriac.embedded import folders, sealing
from celeriac.embedded.folders import Home
from engine import signing
from engine.errors import Unavailable
from engine.keys import Ring
from engine.settings import Settings
from engine.signing import SigningKeys
from tests.support.platforms import RING


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return folders.lay_out(tmp_path / "home")


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings.from_environment({"CELERIAC_HOME": str(home.folder)})


def test_a_folder_without_keys_gets_them_for_its_user_alone(settings: Settings, home: Home) -> None:
    made = sealing.with_keys(settings, home, make=True)
    assert len(made.blob_keys.keys) == len(made.audit_keys.keys) == 1
    assert len(made.secret_keys.keys) == 1
    assert made.secret_keys != made.blob_keys
    assert made.audit_keys.signing() is not None
    for file in (home.blob_key, home.secret_key, home.audit_key):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_start_takes_the_keys_that_are_there(settings: Settings, home: Home) -> None:
    made = sealing.with_keys(settings, home, make=True)
    assert sealing.with_keys(settings, home, make=True) == made
    assert sealing.with_keys(settings, home) == made


def test_who_only_looks_makes_none(settings: Settings, home: Home) -> None:
    found = sealing.with_keys(settings, home)
    assert (found.blob_keys, found.audit_keys) == (Ring(), SigningKeys())
    assert not home.blob_key.exists()
    assert not home.secret_key.exists()
    assert not home.audit_key.exists()


def test_keys_that_are_given_hold(settings: Settings, home: Home) -> None:
    signers = SigningKeys(keys=(signing.generate("mine"),))
    given = replace(settings, blob_keys=RING, secret_keys=RING, audit_keys=signers)
    assert sealing.with_keys(given, home, make=True) == given
    assert not home.blob_key.exists()
    assert not home.secret_key.exists()
    assert not home.audit_key.exists()


@pytest.mark.parametrize("name", ["blob.key", "secret.key", "audit.key"])
@pytest.mark.parametrize("text", ["", "local:c2hvcnQ=", "nonsense"])
def test_a_file_that_holds_no_key_is_never_replaced(
    settings: Settings, home: Home, text: str, name: str
) -> None:
    (home.folder / name).write_text(text)
    with pytest.raises(Unavailable, match=rf"{re.escape(name)} holds no key"):
        sealing.with_keys(settings, home, make=True)
    assert (home.folder / name).read_text() == text
