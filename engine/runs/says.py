"""Whose say somebody may use: as long as whoever gave it could use it himself.

What was handed over is kept for good; what a giver holds is looked at when his say is used. One who
is active no more, may answer no more, or has lost the role that he was asked by, has nothing that
another could say for him; and what came through his hands goes no further.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from engine.core.principal import Principal
from engine.store import delegations, principals
from engine.store.principals import User
from engine.store.waits import Entrusted

#: What whoever answers must hold.
ANSWER = "approval:answer"


def entrusted(connection: Connection, tenant: str, taker: str) -> tuple[Entrusted, ...]:
    """The says that somebody may use now, each with the roles that its owner still has."""
    given = delegations.entrusted(connection, tenant, taker)
    hands = {hand for say in given for hand in say.hands}
    able = {
        user.id: user for user in principals.among(connection, tenant, hands) if _may_answer(user)
    }
    return tuple(
        replace(say, roles=tuple(role for role in say.roles if role in able[say.of].roles))
        for say in given
        if able.keys() >= {*say.hands}
    )


def _may_answer(user: User) -> bool:
    who = Principal(
        tenant=user.tenant, user=user.id, roles=user.roles, permissions=user.permissions
    )
    return user.active and who.may(ANSWER)
