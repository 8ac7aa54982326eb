"""The key that the embedded platform seals its blobs with."""

from __future__ import annotations

import os
from dataclasses import replace

from celeriac.embedded.folders import Home, write_private
from engine import keys
from engine.errors import Unavailable
from engine.keys import SECRET_BYTES, Key, Ring
from engine.settings import Settings


def with_key(settings: Settings, home: Home, *, make: bool = False) -> Settings:
    """The settings with the data folder's own key, unless keys are given.

    With `make` a folder that has none yet gets one. Raises `Unavailable` for a file that holds no
    key: what was sealed with it cannot be read, and a new one would only hide that.
    """
    if settings.blob_keys.keys:
        return settings
    if not home.blob_key.exists():
        if not make:
            return settings
        fresh = Ring(keys=(Key(id="local", secret=os.urandom(SECRET_BYTES)),))
        write_private(home.blob_key, f"{fresh.text()}\n")
    try:
        return replace(settings, blob_keys=keys.parse(home.blob_key.read_text().strip()))
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{home.blob_key} holds no key for blobs: {error}; restore it, or set "
            "CELERIAC_BLOB_KEYS"
        ) from error
