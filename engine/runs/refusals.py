"""What was refused at the door: an act where the tenant is known, a count where it is not.

Of each credential, route and reason there is one act a minute, however many there were; the rest of
them are counted beside it. Of requests whose tenant nobody knows there is a count for each reason and
hour. So nobody fills a table by asking for what he may not have.
"""

from __future__ import annotations

from engine.core.values import Json
from engine.platform import Platform
from engine.runs import acts
from engine.store import refused, session

#: How long counts are kept; the acts stay.
_DAYS = 30


def record(
    platform: Platform,
    tenant: str,
    *,
    by: str,
    credential: str,
    route: str,
    reason: str,
    peer: str,
    count: int = 1,
) -> None:
    """Keep that requests of a tenant were refused just now."""
    detail: dict[str, Json] = {"credential": credential, "reason": reason, "peer": peer}
    with session.transaction(session.bound(platform.database, tenant)) as connection:
        if refused.add(
            connection, tenant, credential=credential, route=route, reason=reason, count=count
        ):
            acts.record(
                connection,
                tenant,
                by=by,
                action="request.refuse",
                subject=f"route:{route}",
                detail=detail,
            )
            refused.forget(connection, tenant, days=_DAYS)


def count(platform: Platform, reason: str, number: int = 1) -> None:
    """Count requests of which nobody knows whose they are."""
    with session.transaction(platform.database) as connection:
        refused.add_unknown(connection, reason=reason, count=number)
