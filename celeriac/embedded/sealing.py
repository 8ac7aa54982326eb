"""The keys of the embedded platform: what it seals blobs and secrets with, what it signs anchors with."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from celeriac.embedded.folders import Home, write_private
from engine import keys, signing
from engine.errors import Unavailable
from engine.keys import SECRET_BYTES, Key, Ring, Use
from engine.settings import Settings
from engine.signing import SigningKeys


def with_keys(settings: Settings, home: Home, *, make: bool = False) -> Settings:
    """The settings with the data folder's own keys, unless keys are given.

    With `make` a folder that has none yet gets them. Raises `Unavailable` for a file that holds no
    key: what was sealed with it cannot be read, what it signed not be believed, and a new one would
    only hide that.
    """
    settings = replace(
        settings,
        blob_keys=_ring(settings.blob_keys, home.blob_key, keys.BLOBS, make=make),
        secret_keys=_ring(settings.secret_keys, home.secret_key, keys.SECRETS, make=make),
    )
    return _with_audit_key(settings, home, make=make)


def _ring(given: Ring, file: Path, use: Use, *, make: bool) -> Ring:
    if given.keys:
        return given
    if not file.exists():
        if not make:
            return given
        fresh = Ring(keys=(Key(id="local", secret=os.urandom(SECRET_BYTES)),))
        write_private(file, f"{fresh.text()}\n")
    try:
        return keys.parse(file.read_text().strip(), use)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{file} holds no key for {use.many}: {error}; restore it, or set {use.setting}"
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
