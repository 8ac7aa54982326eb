"""Functions and tools as a run sees them: by pinned version, each read once per process.

How a tool stands is no part of its version, and is read at every use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine

from engine import tools
from engine.core.values import Json
from engine.guardrails import governance
from engine.guardrails.vocabulary import Moment
from engine.runs import policies
from engine.store import calls, functions, runs
from engine.store.functions import Namespace
from engine.store.ids import StepId
from engine.tools import CLOSED, USUAL, USUALLY, Bound, Standing, Terms

_CACHED = 2000
_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A version of a function or tool: source that somebody sent, installed library code, a service."""

    namespace: Namespace
    name: str
    version: int
    source: str | None
    library: str | None
    #: Of a tool: `{"kind": …, "config": {…}}`.
    service: Mapping[str, Json] | None = None
    effect: str
    description: str = ""
    #: What the code says that it takes, by name.
    signature: Mapping[str, Any] = field(default_factory=dict)
    #: The names of what the code takes by position, in order.
    takes: tuple[str, ...] = ()
    #: Of a tool: what it asks of its callers.
    terms: Terms = USUAL
    #: Of a tool: how it stands now, in all of its versions.
    standing: Standing = USUALLY

    @property
    def closed(self) -> bool:
        """Whether nobody may call it at the moment."""
        return self.standing.status in CLOSED

    def bound(self, arguments: Mapping[str, Json]) -> Bound:
        """The arguments of a call, `{"args": […], "kwargs": {…}}`, by name, and what is wrong."""
        return tools.bound(self.terms.schema, self.takes, arguments)


def of_run(
    connection: Connection, step: StepId, pins: Mapping[str, int], namespace: Namespace, uses: str
) -> Definition | None:
    """What a name, or `name@version`, means to a run; None when there is no such function.

    Names that the graph names were pinned at submission; others are at their first use. A node
    may name a tool as its function; a function of that name comes first.
    """
    name, _, fixed = uses.partition("@")
    namespaces: tuple[Namespace, ...] = ("function", "tool")
    for known in namespaces if namespace == "function" else namespaces[1:]:
        version = pins.get(f"{known}:{uses}")
        if version is not None and (
            found := _version(connection, step.tenant, known, name, version)
        ):
            around = known != namespace and (
                found.service is not None
                or found.terms.guarded
                or found.closed
                or _is_judged(connection, step)
            )
            # Run as a function, nobody would be asked whether it may be called.
            return None if around else found
    if fixed:
        if namespace != "tool" or not _VERSION.fullmatch(fixed):
            return None
        return _version(connection, step.tenant, namespace, name, int(fixed))
    pinned = calls.pin(connection, step, namespace, name)
    return None if pinned is None else _version(connection, step.tenant, namespace, name, pinned)


def installed(engine: Engine, tenant: str, pins: Mapping[str, int], uses: str) -> Definition | None:
    """The installed function that a name means to a run, where this process has read it already.

    No transaction is needed: what is pinned never changes, and of installed code nobody asks more.
    """
    name, _, _ = uses.partition("@")
    version = pins.get(f"function:{uses}")
    if version is None:
        return None
    found = _known.get(engine, {}).get((tenant, "function", name, version))
    return found if found is not None and found.library is not None else None


def tool(connection: Connection, tenant: str, name: str, version: int) -> Definition | None:
    """A version of a tool, as it may be called now; None when there is none."""
    return _version(connection, tenant, "tool", name, version)


def newest(connection: Connection, tenant: str, named: str) -> Definition | None:
    """A tool by `name`, in its newest version, or `name@version`, as it may be called now."""
    name, _, fixed = named.partition("@")
    _, version = functions.standing(connection, tenant, name)
    number = int(fixed) if fixed else version
    return None if not number else tool(connection, tenant, name, number)


def _is_judged(connection: Connection, step: StepId) -> bool:
    """Whether policies look at the calls of a run."""
    number = runs.glance(connection, step.run_id).governance
    held = policies.governance(connection, step.tenant, number)
    moments: tuple[Moment, ...] = ("call", "call_report")
    return any(governance.wants(held, moment).anything for moment in moments)


def _version(
    connection: Connection, tenant: str, namespace: Namespace, name: str, version: int
) -> Definition | None:
    found = _load(connection, tenant, namespace, name, version)
    if found is None or namespace == "function":
        return found
    return _as_it_stands(connection, tenant, found)


def _load(
    connection: Connection, tenant: str, namespace: Namespace, name: str, version: int
) -> Definition | None:
    known = _known.setdefault(connection.engine, {})
    key = (tenant, namespace, name, version)
    if key not in known:
        row = functions.get(connection, tenant, namespace, name, version)
        if row is None:
            return None
        if len(known) >= _CACHED:
            known.clear()
        known[key] = Definition(
            namespace=namespace,
            name=name,
            version=version,
            source=row.source,
            library=row.library,
            service=row.service,
            effect=row.effect,
            description=row.description,
            signature=row.parameters,
            takes=tuple(
                taken
                for taken, each in row.parameters.items()
                if not (isinstance(each, dict) and each.get("keyword"))
            ),
            terms=row.terms,
        )
    return known[key]


def _as_it_stands(connection: Connection, tenant: str, found: Definition) -> Definition:
    """A tool as it may be called now: nobody gets around what it asks for by an older version."""
    standing, newest = functions.standing(connection, tenant, found.name)
    terms = found.terms
    if newest != found.version:
        latest = _load(connection, tenant, "tool", found.name, newest)
        assert latest is not None
        terms = tools.guarded(terms, latest.terms)
    return replace(found, standing=standing, terms=terms)


#: By database: a process may know several.
_known: WeakKeyDictionary[Engine, dict[tuple[str, Namespace, str, int], Definition]]
_known = WeakKeyDictionary()
