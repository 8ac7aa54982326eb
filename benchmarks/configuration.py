"""What `configuration.toml` fixes: how much is measured, and how everybody is configured."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("configuration.toml")


@cache
def whole() -> Mapping[str, Any]:
    """All of it."""
    return tomllib.loads(FILE.read_text())


def section(name: str) -> Mapping[str, Any]:
    """One part of the file; `sizes.quick` is a part of a part."""
    found: Any = whole()
    for part in name.split("."):
        found = found[part]
    return dict(found)
