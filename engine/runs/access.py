"""Who asks: every request resolves to one principal, here.

A token is `clr_<id>.<secret>`. It is shown once, when the key is made; the database keeps
the SHA-256 of the secret. The embedded platform has one tenant, `local`, whose key lies in a
file that only its user can read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from engine.core.principal import LOCAL, Principal
from engine.store import session, tenants

__all__ = ["LOCAL", "Principal"]

_TOKEN = re.compile(r"clr_([0-9a-f]{16})\.([A-Za-z0-9_-]{43})", re.ASCII)


def authenticate(engine: Engine, token: str) -> Principal | None:
    """Whom a token stands for; None for one that is unknown, wrong or expired."""
    with session.transaction(engine) as connection:
        return _authenticate(connection, token)


def create_key(
    engine: Engine,
    principal: Principal,
    *,
    expires_at: datetime | None = None,
) -> str:
    """A new token that stands for a principal. Nobody can read it again."""
    with session.transaction(engine) as connection:
        return _create_key(connection, principal, expires_at=expires_at)


def ensure_local(engine: Engine) -> None:
    """Make the tenant of the embedded platform unless it is there."""
    with session.transaction(engine) as connection:
        tenants.ensure(connection, LOCAL.tenant, name="This machine")


def ensure_local_admin(engine: Engine, key_file: Path) -> None:
    """Make sure that the file holds a valid key of the local principal, for its owner alone.

    A new key takes the place of one whose file is lost, and of a file whose key is unknown.
    Any number of processes may ask at once.
    """
    with session.transaction(engine) as connection:
        tenants.lock_local_key(connection)
        if _authenticate(connection, _read(key_file)) == LOCAL:
            key_file.chmod(0o600)
            return
        for key in tenants.keys(connection, LOCAL.tenant):
            if key.name == LOCAL.user:
                tenants.expire_key(connection, LOCAL.tenant, key.id)
        # Before the commit: a file without its key is mended by the next start, a key
        # without its file would lock the user out until then.
        _write(key_file, _create_key(connection, LOCAL, expires_at=None))


def _authenticate(connection: Connection, token: str) -> Principal | None:
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        return None
    id, secret = parts.groups()  # noqa: A001  # the column's name
    key = tenants.find_key(connection, id)
    if key is None or not hmac.compare_digest(key.hash, _hash(secret)):
        return None
    return Principal(tenant=key.tenant, user=key.name, roles=key.roles)


def _create_key(
    connection: Connection, principal: Principal, *, expires_at: datetime | None
) -> str:
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)  # noqa: A001  # see _authenticate
    tenants.add_key(
        connection,
        principal.tenant,
        id,
        name=principal.user,
        hash=_hash(secret),
        roles=sorted(principal.roles),
        expires_at=expires_at,
    )
    return f"clr_{id}.{secret}"


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _read(key_file: Path) -> str:
    try:
        return key_file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _write(key_file: Path, token: str) -> None:
    """Replace the file at once, so that no reader sees half a token."""
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = key_file.with_name(f".{key_file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(key_file)
