"""The keys of the embedded platform: what it seals its blobs with, what it signs anchors with."""

from __future__ import annotations

import os
from dataclasses import replace

from celeriac.embedded.folders import Home, write_private
from engine import keys, signing
from engine.errors import Unavailable
from engine.keys import SECRET_BYTES, Key, Ring
from engine.settings import Settings
from engine.signing import SigningKeys


def with_keys(settings: Settings, home: Home, *, make: bool = False) -> Settings:
    """The settings with the data folder's own keys, unless keys are given.

    With `make` a folder that has none yet gets them. Raises `Unavailable` for a file that holds no
    key: what was sealed with it cannot be read, what it signed not be believed, and a new one would
    only hide that.
    """
    return _with_audit_key(_with_blob_key(settings, home, make=make), home, make=make)


def _with_blob_key(settings: Settings, home: Home, *, make: bool) -> Settings:
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


def _with_audit_key(settings: Settings, home: Home, *, make: bool) -> Settings:
    if settings.audit_keys.keys:
        return settings
    if not home.audit_key.exists():
        if not make:
            return settings
        write_private(home.audit_key, f"{SigningKeys(keys=(signing.generate('local'),)).text()}\n")
    try:
        return replace(settings, audit_keys=signing.parse(home.audit_key.read_text().strip()))
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{home.audit_key} holds no key for the audit: {error}; restore it, or set "
            "CELERIAC_AUDIT_KEYS"
        ) from error
