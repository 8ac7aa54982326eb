"""The SDK is typed for those who install it: mypy finds their mistakes, and only those."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TYPED = Path(__file__).with_name("typed")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


def test_every_wrong_use_is_an_error(elsewhere: Path) -> None:
    lines = (TYPED / "wrong.py").read_text().splitlines()
    expected = {number for number, line in enumerate(lines, start=1) if line.endswith("# error")}
    told = _checked("wrong.py", elsewhere)
    found = {int(number) for number in re.findall(r"^wrong\.py:(\d+): error", told, re.MULTILINE)}
    assert found == expected, told


def test_every_right_use_is_none(elsewhere: Path) -> None:
    assert _checked("right.py", elsewhere) == ""


def _checked(name: str, folder: Path) -> str:
    """What mypy says of a file that lies nowhere near the packages, as a user's does."""
    shutil.copy(TYPED / name, folder / name)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file="),
            *("--no-error-summary", "--hide-error-context", name),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert not done.stderr
    return done.stdout
