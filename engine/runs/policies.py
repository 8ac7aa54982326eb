"""Policies of a tenant: apply, withdraw, look at, try, and have them at hand for turns.

A policy holds from the next turn of every run of its tenant. Each change of what is in force moves
the tenant's number on in its own transaction; a turn that finds the number it knows needs to read
nothing (`governance`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from sqlalchemy import Connection

from engine import reading
from engine.core.problem import Problem
from engine.core.values import Json, digest
from engine.errors import Conflict, Damaged, Invalid, NotFound
from engine.guardrails import document, lint, plugins, trial
from engine.guardrails import governance as guardrails
from engine.guardrails import vocabulary as words
from engine.guardrails.facts import Facts
from engine.guardrails.governance import Active, Governance
from engine.guardrails.lint import Known
from engine.guardrails.plugins import Plugin
from engine.guardrails.policy import Policy
from engine.guardrails.trial import Tried
from engine.platform import Platform
from engine.runs import acts, recorded
from engine.store import functions, policies, session, workflows
from engine.store.ids import RunId
from engine.store.policies import NewPolicy, PolicyVersion

#: Policies of one tenant that may be in force at once.
MAX_ACTIVE = 100
#: Tenants whose policies a process keeps at hand.
MAX_KEPT = 256
_MOST_VERSIONS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A version that is in force now."""

    version: PolicyVersion
    #: False: it was in force before.
    changed: bool
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linted:
    """What is wrong with a policy, and what is most likely not meant."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


# --- changing what is in force ----------------------------------------------------------------


def apply(platform: Platform, tenant: str, text: str | bytes, *, by: str, why: str = "") -> Applied:
    """Put a policy in force; the version that it is now. Raises `Invalid`, and `Conflict`.

    What says the same as the newest version is that version, however it is written.
    """
    policy = read(text)
    written = text.decode() if isinstance(text, bytes) else text
    checksum = _checksum(written)
    with session.transaction(platform.database) as connection:
        policies.hold(connection, tenant)
        newest = policies.newest(connection, tenant, policy.name)
        warned = tuple(lint.warnings(policy, _known(connection, tenant)))
        if newest is not None and newest.checksum == checksum and newest.active:
            return Applied(version=newest, changed=False, warnings=warned)
        before = policies.active(connection, tenant, policy.name)
        if before is None and policies.count_active(connection, tenant) >= MAX_ACTIVE:
            raise Conflict(f"{MAX_ACTIVE} policies are in force, which is the most; withdraw one")
        if newest is not None and newest.checksum == checksum:
            version = newest.version
        else:
            version = 1 if newest is None else newest.version + 1
            new = NewPolicy(
                name=policy.name,
                version=version,
                document=written,
                checksum=checksum,
                created_by=by,
            )
            policies.add(connection, tenant, new)
        policies.enforce(connection, tenant, policy.name, version)
        number = policies.move_on(connection, tenant)
        acts.record(
            connection,
            tenant,
            by=by,
            action="policy.apply",
            subject=f"policy:{policy.name}",
            why=why,
            detail={"version": version, "governance": number},
            before=None if before is None else before.document,
            after=written,
        )
        found = policies.get(connection, tenant, policy.name, version)
        assert found is not None
        return Applied(version=found, changed=True, warnings=warned)


def withdraw(
    platform: Platform, tenant: str, name: str, *, by: str, why: str = ""
) -> PolicyVersion:
    """Take a policy out of force; the version that was. Raises `NotFound` and `Conflict`."""
    with session.transaction(platform.database) as connection:
        policies.hold(connection, tenant)
        found = policies.active(connection, tenant, name)
        if found is None:
            if policies.newest(connection, tenant, name) is None:
                raise _unknown(name)
            raise Conflict(f"policy {name} has been withdrawn already")
        policies.enforce(connection, tenant, name, None)
        number = policies.move_on(connection, tenant)
        acts.record(
            connection,
            tenant,
            by=by,
            action="policy.withdraw",
            subject=f"policy:{name}",
            why=why,
            detail={"version": found.version, "governance": number},
            before=found.document,
        )
        was = policies.get(connection, tenant, name, found.version)
        assert was is not None
        return was


# --- looking at them --------------------------------------------------------------------------


def listed(
    platform: Platform, tenant: str, *, after: str = "", limit: int = 100
) -> tuple[PolicyVersion, ...]:
    """Policies by name, after a name: of each the version in force, else the newest."""
    with session.transaction(platform.database) as connection:
        return policies.page(connection, tenant, after=after, limit=limit)


def show(platform: Platform, tenant: str, name: str, version: int | None = None) -> PolicyVersion:
    """A version of a policy, else the one in force, else the newest. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        if version is not None:
            found = policies.get(connection, tenant, name, min(version, _MOST_VERSIONS))
        else:
            found = policies.active(connection, tenant, name) or policies.newest(
                connection, tenant, name
            )
    if found is None:
        raise _unknown(name if version is None else f"{name}@{version}")
    return found


def versions(
    platform: Platform, tenant: str, name: str, *, before: int | None = None, limit: int = 100
) -> tuple[PolicyVersion, ...]:
    """Versions of a policy, newest first, older than a number. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = policies.versions(connection, tenant, name, before=before, limit=limit)
        if not found and policies.newest(connection, tenant, name) is None:
            raise _unknown(name)
    return found


def linted(platform: Platform, tenant: str, text: str | bytes) -> Linted:
    """What is wrong with a policy, and what is most likely not meant; nothing is changed."""
    try:
        policy = read(text)
    except Invalid as invalid:
        return Linted(problems=invalid.problems, warnings=())
    with session.transaction(platform.database) as connection:
        known = _known(connection, tenant)
    return Linted(problems=(), warnings=tuple(lint.warnings(policy, known)))


def try_out(
    platform: Platform,
    tenant: str,
    text: str | bytes,
    *,
    facts: Iterable[Facts] | None = None,
    run: str | None = None,
) -> tuple[Tried, ...]:
    """What a policy says of given facts, or of a run as it was recorded; nothing is carried out.

    Raises `Invalid`, and `NotFound` for a run that is not there.
    """
    policy = read(text)
    if run is not None:
        facts = recorded.moments(platform, RunId(tenant, run))
    return trial.attempt(policy, facts or (), installed())


# --- for turns --------------------------------------------------------------------------------


def governance(connection: Connection, tenant: str, number: int) -> Governance:
    """What is in force for a tenant, whose number somebody has just read.

    What is at hand for that number is given without asking the database. Else it is read, as it is
    then: its own number may be a later one. Raises `Damaged` if a policy cannot be read: what
    is not understood is not taken for leave.
    """
    kept = _KEPT.get(_database(connection), tenant, number)
    if kept is not None:
        return kept
    now, rows = policies.in_force(connection, tenant)
    found = guardrails.govern(now, map(_stored, rows), installed())
    # A plug-in that could not be set up denies; perhaps it can be the next time.
    if not any(use.broken for use in found.plugins):
        _KEPT.put(_database(connection), tenant, found)
    return found


def proposed(
    connection: Connection, tenant: str, policy: Policy, *, beside: bool = False
) -> Governance:
    """A policy as if it were in force: alone, or beside the others that are. Raises `Damaged`."""
    number, rows = policies.in_force(connection, tenant) if beside else (0, ())
    others = [_stored(row) for row in rows if row.name != policy.name]
    return guardrails.govern(number, [*others, Active(policy=policy, version=0)], installed())


def _database(connection: Connection) -> str:
    """Which database a connection is to: written out once, for it takes longer than what it is for."""
    if "celeriac_database" not in connection.info:
        connection.info["celeriac_database"] = str(connection.engine.url)
    found: str = connection.info["celeriac_database"]
    return found


class _Kept:
    """Compiled policies by tenant, those that were asked for last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, str], Governance] = OrderedDict()

    def get(self, database: str, tenant: str, number: int) -> Governance | None:
        with self._lock:
            found = self._found.get((database, tenant))
            if found is None or found.number != number:
                return None
            self._found.move_to_end((database, tenant))
            return found

    def put(self, database: str, tenant: str, found: Governance) -> None:
        with self._lock:
            kept = self._found.get((database, tenant))
            if kept is not None and kept.number > found.number:
                return
            self._found[database, tenant] = found
            self._found.move_to_end((database, tenant))
            while len(self._found) > MAX_KEPT:
                self._found.popitem(last=False)


_KEPT = _Kept()


@cache
def installed() -> Mapping[str, Callable[..., Any]]:
    """The policy plug-ins of this installation, by name. One that cannot be imported denies."""
    return {entry.name: _loaded(entry) for entry in metadata.entry_points(group=plugins.GROUP)}


def _loaded(entry: metadata.EntryPoint) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = entry.load()
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not let anything pass
        why = f"{type(error).__name__}: {error}"

        def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError(f"it cannot be imported: {why}")

        return broken
    return found


# --- parts ------------------------------------------------------------------------------------


def read(text: str | bytes) -> Policy:
    """A policy whose plug-ins are there. Raises `Invalid`."""
    policy = document.read(text)
    problems = []
    for index, use in enumerate(policy.plugins):
        if broken := Plugin(use, installed().get(use.name)).broken:
            there = ", ".join(sorted(installed())) or "none"
            problems.append(
                Problem(
                    path=f"plugins[{index}].use",
                    message=f"the policy plug-in {use.name} {broken}",
                    remedy=f"installed are: {there}",
                )
            )
    if problems:
        raise Invalid(_parsed(text).located(problems))
    return policy


def _parsed(text: str | bytes) -> reading.Text:
    return reading.read(text, most_bytes=words.MAX_BYTES, most_values=words.MAX_VALUES)


def _checksum(text: str) -> str:
    data: Json = _parsed(text).data
    return digest(data)


def _stored(row: PolicyVersion) -> Active:
    try:
        return Active(policy=document.read(row.document), version=row.version)
    except Invalid as invalid:
        raise Damaged(f"policy {row.name}@{row.version} cannot be read: {invalid}") from invalid


def _known(connection: Connection, tenant: str) -> Known:
    """What a policy of a tenant may name."""
    return Known(
        tools=functions.names(connection, tenant, "tool"),
        workflows=workflows.names(connection, tenant),
    )


def _unknown(what: str) -> NotFound:
    return NotFound(f"there is no policy {what}")
