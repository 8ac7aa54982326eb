"""The text that people begin with, followed word for word on a platform that it starts itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.embedded import supervisor
from engine.settings import Settings
from tests.support import following
from tests.support.following import SECONDS
from tests.support.services import ROOT

pytestmark = pytest.mark.timeout(6 * SECONDS)

TEXT = (ROOT / "examples" / "getting-started.md").read_text()


@pytest.fixture
def environment(short_folder: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What somebody has around them who has just checked Celeriac out."""
    ours = ("CELERIAC_", "DATABASE_URL", "BROKER_URL", "REDIS_URL", "BLOB_URL", "MAKE", "MFLAGS")
    outside = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = str(short_folder / "home")
    yield {
        **outside,
        "HOME": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
        "CELERIAC_HOME": home,
        "CELERIAC_PORT": str(port),
    }
    supervisor.down(Settings.from_environment({"CELERIAC_HOME": home}))


@pytest.mark.long
def test_it_can_be_followed_word_for_word(environment: dict[str, str]) -> None:
    following.follow(TEXT, environment, ROOT)
