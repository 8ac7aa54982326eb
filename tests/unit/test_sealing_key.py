"""The key that the embedded platform seals its blobs with."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from celeriac.embedded import folders, sealing
from celeriac.embedded.folders import Home
from engine.errors import Unavailable
from engine.keys import Ring
from engine.settings import Settings
from tests.support.platforms import RING


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return folders.lay_out(tmp_path / "home")


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings.from_environment({"CELERIAC_HOME": str(home.folder)})


def test_a_folder_without_a_key_gets_one_for_its_user_alone(settings: Settings, home: Home) -> None:
    made = sealing.with_key(settings, home, make=True)
    assert len(made.blob_keys.keys) == 1
    assert stat.S_IMODE(home.blob_key.stat().st_mode) == 0o600


def test_every_start_takes_the_key_that_is_there(settings: Settings, home: Home) -> None:
    made = sealing.with_key(settings, home, make=True)
    assert sealing.with_key(settings, home, make=True) == made
    assert sealing.with_key(settings, home) == made


def test_who_only_looks_makes_none(settings: Settings, home: Home) -> None:
    assert sealing.with_key(settings, home).blob_keys == Ring()
    assert not home.blob_key.exists()


def test_keys_that_are_given_hold(settings: Settings, home: Home) -> None:
    given = replace(settings, blob_keys=RING)
    assert sealing.with_key(given, home, make=True) == given
    assert not home.blob_key.exists()


@pytest.mark.parametrize("text", ["", "local:c2hvcnQ=", "nonsense"])
def test_a_file_that_holds_no_key_is_never_replaced(
    settings: Settings, home: Home, text: str
) -> None:
    home.blob_key.write_text(text)
    with pytest.raises(Unavailable, match=r"blob\.key holds no key"):
        sealing.with_key(settings, home, make=True)
    assert home.blob_key.read_text() == text
