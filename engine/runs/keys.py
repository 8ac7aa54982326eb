"""API keys of a tenant's users: made, listed, revoked, rotated. Each of it is an act.

Nobody makes a key that may do what he may not himself.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection

from engine.core import principal as core
from engine.core.principal import Principal
from engine.core.problem import Problem
from engine.errors import Conflict, Forbidden, Invalid, NotFound
from engine.platform import Platform
from engine.runs import access, acts, users
from engine.store import keys, principals, session
from engine.store.keys import Key
from engine.store.principals import User

_NAME_CHARACTERS = 200


def create(
    platform: Platform,
    who: Principal,
    *,
    user: str,
    name: str,
    scopes: Collection[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[Key, str]:
    """Make a key of a user; it, and its token, which is shown this once.

    Raises `Invalid`, `Forbidden`, and `NotFound` where there is no such active user.
    """
    problems = [*users.problems(permissions=scopes or (), scopes="scopes")]
    if not 0 < len(name) <= _NAME_CHARACTERS or not name.isprintable():
        problems.append(
            Problem(path="name", message=f"is not 1 to {_NAME_CHARACTERS} printable characters")
        )
    if problems:
        raise Invalid(problems)
    with session.transaction(platform.database) as connection:
        owner = _owner(connection, who.tenant, user)
        if expires_at is not None and expires_at <= session.now(connection):
            raise Invalid(
                [Problem(path="expires_at", message="is over", remedy="name a time to come")]
            )
        _check(who, owner, scopes)
        return access.make_key(
            connection,
            who.tenant,
            owner.id,
            name=name,
            scopes=scopes,
            expires_at=expires_at,
            by=who.user,
        )


def page(
    platform: Platform,
    tenant: str,
    *,
    user: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> tuple[Key, ...]:
    """Keys, the newest first; of one user, or of all."""
    with session.transaction(platform.database) as connection:
        return tuple(keys.page(connection, tenant, user=user, before=before, limit=limit))


def revoke(platform: Platform, who: Principal, id: str, *, why: str = "") -> Key:  # noqa: A002  # the column's name
    """End a key, from the next request on. Again does no harm. Raises `NotFound`, `Forbidden`."""
    with session.transaction(platform.database) as connection:
        found = _found(connection, who, id)
        if keys.revoke(connection, who.tenant, id):
            acts.record(
                connection,
                who.tenant,
                by=who.user,
                action="key.revoke",
                subject=f"key:{id}",
                why=why,
                detail={"user": found.user, "name": found.name},
            )
        ended = keys.lock(connection, who.tenant, id)
        assert ended is not None
    return ended


def rotate(
    platform: Platform,
    who: Principal,
    id: str,  # noqa: A002  # see revoke
    *,
    grace_seconds: float = 0.0,
) -> tuple[Key, str]:
    """Make a key in another's place, for the same; the old one ends, at once or a little later.

    Raises `NotFound`, `Forbidden`, and `Conflict` where the key is over already.
    """
    with session.transaction(platform.database) as connection:
        found = _found(connection, who, id)
        if id not in keys.valid_of(connection, who.tenant, found.user):
            raise Conflict(f"the key {id} is over; make a new one")
        _owner(connection, who.tenant, found.user)
        made, token = access.make_key(
            connection,
            who.tenant,
            found.user,
            name=found.name,
            roles=found.roles,
            scopes=found.scopes,
            expires_at=found.expires_at,
            by=who.user,
        )
        if grace_seconds:
            keys.expire(connection, who.tenant, id, seconds=grace_seconds)
        else:
            keys.revoke(connection, who.tenant, id)
        acts.record(
            connection,
            who.tenant,
            by=who.user,
            action="key.rotate",
            subject=f"key:{id}",
            detail={"by_key": made.id, "grace_seconds": grace_seconds},
        )
    return made, token


def _found(connection: Connection, who: Principal, id: str) -> Key:  # noqa: A002  # see revoke
    """A key that somebody may do away with: one that he could have made."""
    found = keys.lock(connection, who.tenant, id)
    if found is None:
        raise NotFound(f"Key not found: {id}")
    owner = principals.find(connection, who.tenant, found.user)
    assert owner is not None
    _check(who, owner, found.scopes)
    return found


def _owner(connection: Connection, tenant: str, user: str) -> User:
    owner = principals.find(connection, tenant, user)
    if owner is None or not owner.active:
        raise NotFound(f"User not found: {user}")
    return owner


def _check(who: Principal, owner: User, scopes: Collection[str] | None) -> None:
    """Raise `Forbidden` unless all that a key of this user and these scopes may do, he may."""
    wanted = core.granted(owner.roles, owner.permissions) if scopes is None else scopes
    # A key answers in its user's roles, whatever its scopes.
    in_his_roles = owner.roles <= who.roles and all(map(who.may, wanted))
    if not (in_his_roles or who.may(core.EVERYTHING)):
        raise Forbidden("nobody makes or ends a key that may do more than he may himself")
