"""What a tenant has registered and published: functions, tools, workflows.

Nothing here is ever changed. Registering the same thing again is the same version; anything
else is the next one, for the runs that are submitted from then on.
"""

from __future__ import annotations

from sqlalchemy import Connection

from engine.core import document
from engine.core.document import Reference
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.values import Json, digest
from engine.errors import Conflict, Invalid
from engine.platform import Platform
from engine.runs import identity
from engine.store import functions, session, workflows
from engine.store.functions import Namespace
from engine.store.workflows import NewVersion, WorkflowVersion

#: The version of a workflow whose first document names none.
FIRST_VERSION = "1.0.0"


def publish(platform: Platform, tenant: str, data: Json, *, by: str) -> WorkflowVersion:
    """Publish a version of a workflow from its document.

    Without a version of its own it gets the next patch, unless nothing has changed. Raises
    `Invalid` with every problem, and `Conflict` when the version is taken by another document.
    """
    graph = document.read(data)
    if isinstance(graph, tuple):
        raise Invalid(graph, "the workflow is not valid")
    with session.transaction(platform.database) as connection:
        return _publish(connection, tenant, graph, seed=None, by=by)


def pins(connection: Connection, tenant: str, graph: Graph) -> tuple[dict[str, int], list[Problem]]:
    """The newest version of everything that a graph names without a version, and what is missing.

    Keys are `function:NAME` and `tool:NAME`. What a node names as its function may be a tool;
    a function of that name comes first.
    """
    named = tuple(document.names_used(graph))
    known: dict[Namespace, dict[str, int]] = {
        namespace: functions.newest(
            connection, tenant, namespace, sorted({reference.name for reference in named})
        )
        for namespace in _NAMESPACES
    }
    found: dict[str, int] = {}
    problems: list[Problem] = []
    for reference in named:
        namespace = next(
            (
                namespace
                for namespace in _namespaces(reference)
                if known[namespace].get(reference.name, 0) >= (reference.version or 1)
            ),
            None,
        )
        if namespace is None:
            problems.append(_missing(reference))
        elif reference.version is None:
            found[f"{namespace}:{reference.name}"] = known[namespace][reference.name]
    return found, problems


_NAMESPACES: tuple[Namespace, ...] = ("function", "tool")


def _namespaces(reference: Reference) -> tuple[Namespace, ...]:
    """Where a name is looked up, in order."""
    return ("tool",) if reference.kind == "tool" else _NAMESPACES


def _missing(reference: Reference) -> Problem:
    what = reference.kind.capitalize()
    name = reference.name if reference.version is None else f"{reference.name}@{reference.version}"
    return Problem(
        path=reference.path,
        message=f"{what} not found: {name}",
        remedy=f"register the {reference.kind} first, or correct its name",
    )


def _publish(
    connection: Connection, tenant: str, graph: Graph, *, seed: Json, by: str
) -> WorkflowVersion:
    _, problems = pins(connection, tenant, graph)
    if problems:
        raise Invalid(problems, "the workflow names what is not registered")
    body = document.write(graph)
    asked = body.pop("version", None)
    checksum = digest([body, seed])
    workflows.ensure(connection, tenant, graph.workflow)
    while True:
        known = workflows.find(connection, tenant, graph.workflow, graph.version)
        if known is not None and known.checksum == checksum:
            return known
        if known is not None and asked is not None:
            raise Conflict(
                f"version {graph.version} of {graph.workflow} is published, with another "
                "document; a version never changes: choose a new one"
            )
        version = graph.version or _next(known)
        new = NewVersion(
            id=identity.new_run(),
            workflow=graph.workflow,
            version=version,
            document={**body, "version": version},
            seed=seed,
            checksum=checksum,
            created_by=by,
        )
        # Somebody else may have taken the number since: then that one is looked at first.
        if workflows.add(connection, tenant, new):
            found = workflows.get(connection, tenant, new.id)
            assert found is not None
            return found


def _next(latest: WorkflowVersion | None) -> str:
    """The patch after the latest release; the release that the latest pre-release led up to."""
    if latest is None:
        return FIRST_VERSION
    release, _, early = latest.version.partition("+")[0].partition("-")
    major, minor, patch = release.split(".")
    return release if early else f"{major}.{minor}.{int(patch) + 1}"
