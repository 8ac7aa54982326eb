"""Who asks, and what he may do. Pure.

A permission is `noun:verb`. A role is a name: five of them bring permissions of the platform, any
other is the tenant's own (a team that approvals are asked of) and brings none. Beside what his roles
bring, a user may have further permissions, those that the tenant's tools ask for among them. What
is held may be wider than what is asked for: `run:*`, and `*` for all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

#: All there is.
EVERYTHING: Final = "*"
ADMIN: Final = "admin"

_VIEWER = frozenset({"run:read", "definition:read", "usage:read"})
_OPERATOR = _VIEWER | {
    *("run:start", "run:control", "event:send"),
    *("audit:read", "audit:verify", "policy:read"),
}

#: What the platform's own roles bring. What binds everybody, policies, only admins change.
ROLES: Final[Mapping[str, frozenset[str]]] = {
    "viewer": _VIEWER,
    "operator": _OPERATOR,
    "editor": _OPERATOR | {"definition:write"},
    "approver": _VIEWER | {"approval:answer"},
    ADMIN: frozenset({EVERYTHING}),
}

_PERMISSION = re.compile(r"\*|[a-z][a-z0-9_.-]{0,99}:(?:\*|[a-z][a-z0-9_.-]{0,99})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, for which tenant, and what he holds."""

    tenant: str
    user: str
    roles: frozenset[str]
    #: What he holds beside what his roles bring.
    permissions: frozenset[str] = frozenset()
    #: What of all that his credential lets him use; None for all.
    scopes: frozenset[str] | None = None
    #: By what he is known: `key:ID`, `jwt:KID`, `anonymous`. Who he is does not depend on it.
    credential: str = field(default="", compare=False)

    def may(self, permission: str) -> bool:
        """Whether he may do what asks for a permission."""
        return covers(granted(self.roles, self.permissions), permission) and (
            self.scopes is None or covers(self.scopes, permission)
        )

    def may_grant(self, roles: Collection[str], permissions: Collection[str]) -> bool:
        """Whether he holds all of that himself, and so may give it to others."""
        if self.may(EVERYTHING):
            return True
        return set(roles) <= self.roles and all(map(self.may, granted(roles, permissions)))


#: Whom requests without a credential act as, where that is allowed.
LOCAL: Final = Principal(
    tenant="local", user="local", roles=frozenset({ADMIN}), credential="anonymous"
)


def granted(roles: Collection[str], permissions: Collection[str]) -> frozenset[str]:
    """All that a user of these roles and further permissions holds."""
    return frozenset(permissions).union(*(ROLES.get(role, frozenset()) for role in roles))


def covers(held: Collection[str], permission: str) -> bool:
    """Whether what is held is enough for a permission."""
    return not {EVERYTHING, f"{permission.partition(':')[0]}:*", permission}.isdisjoint(held)


def is_permission(text: str) -> bool:
    """Whether a text is a permission: `noun:verb`, `noun:*` or `*`."""
    return _PERMISSION.fullmatch(text) is not None
