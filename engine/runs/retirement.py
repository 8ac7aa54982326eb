"""Versions that are retired: nothing new begins with them.

A version is never removed: the runs that it has had are read by it, and its number is never given to
another document. Retired, it is found by its number and its id alone, and nobody starts a run of it. What
stands in the way is listed: runs that have not ended, and versions that would name nothing without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection

from engine.core import document
from engine.core.document import Reference
from engine.core.problem import Problem
from engine.core.versions import Asked
from engine.errors import Blocked, NotFound
from engine.platform import Platform
from engine.runs import acts, catalogue, graphs
from engine.store import session, workflows
from engine.store.workflows import WorkflowVersion

#: Runs and versions that are listed.
_MOST = 50


def retire(
    platform: Platform, tenant: str, name: str, number: str, *, by: str, why: str = ""
) -> WorkflowVersion:
    """Retire a version of a workflow, which one number names; the version as it is then.

    Who retires it once more finds it as it is. Raises `NotFound`, `Invalid` for a name that is the
    platform's own, and `Blocked` with all that uses it.
    """
    catalogue.check_name(name)
    with session.transaction(platform.database) as connection:
        found = workflows.find(connection, tenant, name, Asked(exact=number))
        if found is None:
            raise NotFound(f"Workflow not found: {name}@{number}")
        # A run that is being submitted is waited for, and seen; whoever comes later finds it retired.
        workflows.hold(connection, tenant, found.id)
        leaning = tuple(_leaning(connection, tenant, found))
        if workflows.retire(connection, tenant, found.id, by=by):
            if uses := (*_live(connection, tenant, found), *_lost(connection, tenant, leaning)):
                raise Blocked(uses, f"version {number} of {name} is in use")
            subject = f"workflow:{name}@{number}"
            acts.record(
                connection, tenant, by=by, action="workflow.retire", subject=subject, why=why
            )
        retired = workflows.get(connection, tenant, found.id)
        assert retired is not None
        return retired


def _live(connection: Connection, tenant: str, version: WorkflowVersion) -> Iterator[Problem]:
    """Runs that have not ended, and need a version."""
    for run in workflows.live_runs(connection, tenant, version.id, limit=_MOST):
        yield Problem(
            path=f"runs.{run.run}",
            message="has not ended, and is of this version, or has pinned it",
            remedy="let it end, cancel it, or migrate it to another version",
        )


def _leaning(
    connection: Connection, tenant: str, version: WorkflowVersion
) -> Iterator[tuple[WorkflowVersion, Reference]]:
    """Where other versions name what is this one, as things are."""
    for other in workflows.naming(connection, tenant, version.workflow):
        if other.id == version.id:
            continue
        for reference in document.names_used(graphs.load(connection, tenant, other.id)):
            if reference.kind == "workflow" and reference.name == version.workflow:
                meant = catalogue.named(connection, tenant, reference)
                if meant is not None and meant.id == version.id:
                    yield other, reference


def _lost(
    connection: Connection, tenant: str, leaning: Iterable[tuple[WorkflowVersion, Reference]]
) -> Iterator[Problem]:
    """Where versions name what is no more, or is retired."""
    for other, reference in leaning:
        left = catalogue.named(connection, tenant, reference)
        if left is None or left.retired_at is not None:
            yield Problem(
                path=f"workflows.{other.workflow}@{other.version}.{reference.path}",
                message=f"names {reference.text}, which would be nothing",
                remedy="retire that version first, or publish another one that it means, too",
            )
