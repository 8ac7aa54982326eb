"""Tenants are made by the installation's operator, who holds the database, and by nobody else."""

from __future__ import annotations

import re

from sqlalchemy import Engine

from engine.core.principal import ADMIN, Principal
from engine.core.problem import Problem
from engine.errors import Conflict, Invalid, NotFound
from engine.runs import access, acts, users
from engine.store import principals, refused, session, tenants
from engine.store.refused import Count
from engine.store.tenants import Tenant

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_NAME_CHARACTERS = 200


def create(engine: Engine, tenant: str, *, name: str, admin: str) -> str:
    """Make a tenant with its first admin; the token of his first key.

    Raises `Invalid`, and `Conflict` where there is such a tenant.
    """
    problems = [*users.problems(id=admin, path="admin")]
    if not _ID.fullmatch(tenant):
        problems.append(
            Problem(
                path="tenant",
                message="is no name of 1 to 63 small letters, digits, '_' and '-'",
                remedy="choose one such as acme",
            )
        )
    if not 0 < len(name) <= _NAME_CHARACTERS or not name.isprintable():
        problems.append(
            Problem(path="name", message=f"is not 1 to {_NAME_CHARACTERS} printable characters")
        )
    if problems:
        raise Invalid(problems)
    principal = Principal(tenant=tenant, user=admin, roles=frozenset({ADMIN}))
    with session.transaction(engine) as connection:
        if not tenants.ensure(connection, tenant, name=name):
            raise Conflict(f"there is a tenant {tenant} already")
        acts.record(
            connection,
            tenant,
            by=access.INSTALLATION,
            action="tenant.create",
            subject=f"tenant:{tenant}",
            detail={"name": name, "admin": admin},
        )
        access.ensure_user(connection, principal)
        _, token = access.make_key(connection, tenant, admin, name="first", by=access.INSTALLATION)
    return token


def admit(engine: Engine, tenant: str, user: str, *, why: str) -> str:
    """Make a user of a tenant an active admin, whoever he was, and give him a key; its token.

    For a tenant that has locked itself out. Raises `Invalid`, and `NotFound` for no such tenant.
    """
    if problems := [*users.problems(id=user, path="user")]:
        raise Invalid(problems)
    with session.transaction(engine) as connection:
        if not tenants.exists(connection, tenant):
            raise NotFound(f"Tenant not found: {tenant}")
        access.ensure_user(
            connection, Principal(tenant=tenant, user=user, roles=frozenset({ADMIN}))
        )
        found = principals.lock(connection, tenant, user)
        assert found is not None
        principals.change(
            connection,
            tenant,
            user,
            roles=found.roles | {ADMIN},
            permissions=found.permissions,
            active=True,
        )
        acts.record(
            connection,
            tenant,
            by=access.INSTALLATION,
            action="user.admit",
            subject=f"user:{user}",
            why=why,
            detail={"roles": [*sorted(found.roles | {ADMIN})]},
        )
        _, token = access.make_key(
            connection, tenant, user, name="admitted", by=access.INSTALLATION
        )
    return token


def everyone(engine: Engine) -> tuple[Tenant, ...]:
    """All tenants, by id."""
    with session.transaction(engine) as connection:
        return tenants.everyone(connection)


def unknown_requests(engine: Engine, *, limit: int) -> tuple[Count, ...]:
    """How many requests came of which nobody knows whose they were, the newest hours first."""
    with session.transaction(engine) as connection:
        return tuple(refused.unknown(connection, limit=limit))
