"""The users of a tenant: made, listed, changed. Each change is an act.

Nobody gives what he does not hold, and nobody changes whom he could not have made. A tenant always
has an active admin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from engine.core import principal as core
from engine.core.principal import ADMIN, Principal
from engine.core.problem import Problem
from engine.core.values import Json
from engine.errors import Conflict, Forbidden, Invalid, NotFound
from engine.platform import Platform
from engine.runs import acts
from engine.store import principals, session
from engine.store.principals import User

ID_CHARACTERS = 200
_ROLE_CHARACTERS = 100
#: Roles, permissions and scopes of one.
MOST = 100


def create(
    platform: Platform,
    who: Principal,
    id: str,  # noqa: A002  # the column's name
    *,
    roles: Collection[str],
    permissions: Collection[str] = (),
) -> User:
    """Make a user. Raises `Invalid`, `Forbidden`, and `Conflict` where there is one of this id."""
    found = [*problems(id=id, roles=roles, permissions=permissions)]
    if found:
        raise Invalid(found)
    check_grant(who, roles, permissions)
    with session.transaction(platform.database) as connection:
        if not principals.add(
            connection, who.tenant, id, roles=roles, permissions=permissions, by=who.user
        ):
            raise Conflict(f"there is a user {id} already")
        made = principals.find(connection, who.tenant, id)
        assert made is not None
        acts.record(
            connection,
            who.tenant,
            by=who.user,
            action="user.create",
            subject=f"user:{id}",
            detail=_told(made),
            after=_told(made),
        )
    return made


def get(platform: Platform, tenant: str, id: str) -> User:  # noqa: A002  # see create
    """A user. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = principals.find(connection, tenant, id)
    if found is None:
        raise NotFound(f"User not found: {id}")
    return found


def page(platform: Platform, tenant: str, *, after: str, limit: int) -> tuple[User, ...]:
    """Users by their ids, those after one."""
    with session.transaction(platform.database) as connection:
        return tuple(principals.page(connection, tenant, after=after, limit=limit))


def change(
    platform: Platform,
    who: Principal,
    id: str,  # noqa: A002  # see create
    *,
    roles: Collection[str] | None = None,
    permissions: Collection[str] | None = None,
    active: bool | None = None,
    why: str = "",
) -> User:
    """Change what a user holds, or whether he is active; it holds from his next request.

    Raises `Invalid`, `NotFound`, `Forbidden`, and `Conflict` for the last active admin.
    """
    found = [*problems(roles=roles or (), permissions=permissions or ())]
    if found:
        raise Invalid(found)
    with session.transaction(platform.database) as connection:
        # All admins first and in one order, so that two who demote each other cannot both.
        admins = principals.lock_admins(connection, who.tenant)
        before = principals.lock(connection, who.tenant, id)
        if before is None:
            raise NotFound(f"User not found: {id}")
        roles = before.roles if roles is None else frozenset(roles)
        permissions = before.permissions if permissions is None else frozenset(permissions)
        active = before.active if active is None else active
        check_grant(who, before.roles, before.permissions)
        check_grant(who, roles, permissions)
        if admins == {id} and not (active and ADMIN in roles):
            raise Conflict(f"{id} is the last active admin; make another user an admin first")
        principals.change(
            connection, who.tenant, id, roles=roles, permissions=permissions, active=active
        )
        after = principals.find(connection, who.tenant, id)
        assert after is not None
        acts.record(
            connection,
            who.tenant,
            by=who.user,
            action="user.change",
            subject=f"user:{id}",
            why=why,
            detail=_told(after),
            before=_told(before),
            after=_told(after),
        )
    return after


def check_grant(who: Principal, roles: Collection[str], permissions: Collection[str]) -> None:
    """Raise `Forbidden` unless somebody holds all of this himself."""
    if not who.may_grant(roles, permissions):
        missing = sorted(
            {role for role in roles if not who.may_grant({role}, ())}
            | {permission for permission in permissions if not who.may(permission)}
        )
        raise Forbidden(f"nobody gives or takes what he does not hold: {', '.join(missing)}")


def problems(
    *,
    id: str | None = None,  # noqa: A002  # see create
    roles: Collection[str] = (),
    permissions: Collection[str] = (),
    path: str = "id",
    scopes: str = "permissions",
) -> Iterator[Problem]:
    """What is wrong with a user as he is described."""
    if id is not None and not (0 < len(id) <= ID_CHARACTERS and id.isprintable()):
        yield Problem(path=path, message=f"is not 1 to {ID_CHARACTERS} printable characters")
    for name, given in (("roles", roles), (scopes, permissions)):
        if len(given) > MOST:
            yield Problem(path=name, message=f"are more than {MOST}", remedy="keep fewer")
    for place, role in enumerate(roles):
        if not (0 < len(role) <= _ROLE_CHARACTERS and role.isprintable()):
            yield Problem(
                path=f"roles[{place}]",
                message=f"is not 1 to {_ROLE_CHARACTERS} printable characters",
            )
    for place, permission in enumerate(permissions):
        if not core.is_permission(permission):
            yield Problem(
                path=f"{scopes}[{place}]",
                message="is no permission",
                remedy="write noun:verb, such as run:read; noun:* for all of a noun, * for all",
            )


def _told(user: User) -> dict[str, Json]:
    return {
        "roles": [*sorted(user.roles)],
        "permissions": [*sorted(user.permissions)],
        "active": user.active,
    }
