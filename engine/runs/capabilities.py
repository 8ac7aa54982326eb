"""Capabilities: what admins grant to functions, tools and workflows, and who holds it.

A grant is for one version, or, when it says so, for all, those to come included: whoever may register
a new version then decides what is done with it. A version's own grant holds instead of that for all.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from engine import capabilities
from engine.capabilities import Profile, Subject
from engine.core.values import Json
from engine.core.versions import Asked
from engine.errors import NotFound
from engine.platform import Platform
from engine.runs import acts
from engine.store import capabilities as rows
from engine.store import functions, session, workflows
from engine.store.capabilities import Granted


def grant(
    platform: Platform, tenant: str, subject: Subject, profile: Json, *, by: str, why: str = ""
) -> Granted:
    """Grant a profile in the place of what was granted, from the next attempt on.

    Raises `Invalid`, and `NotFound` where there is no such function, tool, workflow or version.
    """
    found = capabilities.read(profile, path="profile").told()
    with session.transaction(platform.database) as connection:
        _check(connection, tenant, subject)
        before = rows.lock(connection, tenant, subject)
        granted = rows.put(connection, tenant, subject, found, by=by, why=why)
        was: Json = None if before is None else dict(before.profile)
        change: dict[str, Json] = {"before": was, "after": found}
        _record(connection, tenant, subject, "grant", change, by=by, why=why)
    return granted


def revoke(platform: Platform, tenant: str, subject: Subject, *, by: str, why: str = "") -> Granted:
    """Take back what was granted, from the next attempt on. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        before = rows.lock(connection, tenant, subject)
        if before is None:
            raise _nothing(subject)
        rows.remove(connection, tenant, subject)
        change: dict[str, Json] = {"before": dict(before.profile), "after": None}
        _record(connection, tenant, subject, "revoke", change, by=by, why=why)
    return before


def show(platform: Platform, tenant: str, subject: Subject) -> Granted:
    """The grant that holds for a subject: of a version its own, else that for all.

    Raises `NotFound` where nothing was granted.
    """
    with session.transaction(platform.database) as connection:
        found = rows.holding(connection, tenant, subject)
    if found is None:
        raise _nothing(subject)
    return found


def page(
    platform: Platform, tenant: str, *, after: tuple[str, str, str] | None = None, limit: int
) -> tuple[Granted, ...]:
    """All grants, by kind, name and version."""
    with session.transaction(platform.database) as connection:
        return tuple(rows.page(connection, tenant, after=after, limit=limit))


def of(connection: Connection, tenant: str, subject: Subject) -> Profile:
    """What a function, a tool or a workflow of one version may reach."""
    found = rows.holding(connection, tenant, subject)
    return capabilities.NOTHING if found is None else capabilities.read(dict(found.profile))


def _check(connection: Connection, tenant: str, subject: Subject) -> None:
    """Raise `NotFound` unless the subject is there: a slip of the pen grants nothing to nobody."""
    name, version = subject.name, subject.version
    known: object
    match subject.kind:
        case "workflow":
            known = (
                workflows.highest(connection, tenant, name)
                if version is None
                else workflows.find(connection, tenant, name, Asked(exact=version))
            )
        case "tool":
            known = functions.get(connection, tenant, "tool", name, _number(version))
        case _:
            known = functions.get(connection, tenant, "function", name, _number(version))
    if known is None:
        raise NotFound(f"there is no {subject.text}")


def _number(version: str | None) -> int | None:
    if version is None:
        return None
    return int(version) if version.isdecimal() and len(version) < 10 else 0  # noqa: PLR2004


def _nothing(subject: Subject) -> NotFound:
    return NotFound(f"no capabilities are granted to {subject.text}")


def _record(
    connection: Connection,
    tenant: str,
    subject: Subject,
    verb: str,
    change: Mapping[str, Json],
    *,
    by: str,
    why: str,
) -> None:
    acts.record(
        connection,
        tenant,
        by=by,
        action=f"capability.{verb}",
        subject=f"capability:{subject.text}",
        why=why,
        detail=change,
        before=change["before"],
        after=change["after"],
    )
