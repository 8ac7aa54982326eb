"""Drafts: workflows as somebody is writing them, one of each name.

A draft may be as wrong as it likes: it is kept as it was written, and told with all that keeps it from
being published. Nobody runs one. Who wants to try it publishes it as a pre-release (`version:
1.3.0-rc.1`), which no range stands for. It is gone once it is published, or given up.

Whoever saves says which revision he has read; what somebody else has saved meanwhile is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from engine import documents
from engine.core import values
from engine.core.document import vocabulary as words
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.errors import Conflict, Invalid, NotFound, Outdated
from engine.platform import Platform
from engine.runs import acts, catalogue
from engine.runs.catalogue import Published
from engine.store import drafts, session
from engine.store.drafts import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A draft, and all that keeps it from being published."""

    draft: Draft
    problems: tuple[Problem, ...]


def save(
    platform: Platform,
    tenant: str,
    workflow: str,
    text: bytes,
    *,
    by: str,
    revision: int | None = None,
) -> Checked:
    """Keep a draft as it is written; `revision` is the one that it is made from, None for a new draft.

    Raises `Invalid` for what is no text or no name, `Conflict` for a new draft where there is one,
    `Outdated` where somebody has saved it since, `NotFound` where it is gone.
    """
    catalogue.check_name(workflow)
    written = _text(workflow, text)
    with session.transaction(platform.database) as connection:
        if revision is None:
            saved = drafts.add(connection, tenant, workflow, written, by=by)
            if saved is None:
                raise Conflict(
                    f"there is a draft of {workflow} already; read it, and save yours in its place "
                    "with the revision that you have read"
                )
        else:
            _held(connection, tenant, workflow, revision)
            saved = drafts.save(connection, tenant, workflow, written, by=by)
        _record(connection, tenant, "draft.save", saved, by=by)
        return _checked(connection, tenant, saved)


def show(platform: Platform, tenant: str, workflow: str) -> Checked:
    """A draft, and what is wrong with it by now. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = drafts.get(connection, tenant, workflow)
        if found is None:
            raise _none(workflow)
        return _checked(connection, tenant, found)


def listed(
    platform: Platform, tenant: str, *, after: str = "", limit: int = 100
) -> tuple[Draft, ...]:
    """Drafts by name, after a name."""
    with session.transaction(platform.database) as connection:
        return drafts.page(connection, tenant, after=after, limit=limit)


def publish(
    platform: Platform,
    tenant: str,
    workflow: str,
    *,
    by: str,
    notes: str = "",
    revision: int | None = None,
) -> Published:
    """Make a version of a draft, which is gone then.

    Raises `NotFound`, `Outdated`, `Invalid` with every problem, and `Conflict` as
    `catalogue.publish` does.
    """
    with session.transaction(platform.database) as connection:
        found = _held(connection, tenant, workflow, revision)
        graph = documents.read_graph(found.text)
        if problems := tuple(_misnamed(found, graph)):
            raise Invalid(problems, "the draft cannot be published")
        published = catalogue.publish_graph(connection, tenant, graph, by=by, notes=notes)
        drafts.remove(connection, tenant, workflow)
        _record(connection, tenant, "draft.publish", found, by=by, why=notes)
        return published


def discard(
    platform: Platform,
    tenant: str,
    workflow: str,
    *,
    by: str,
    why: str = "",
    revision: int | None = None,
) -> Draft:
    """Give a draft up; what it was. Raises `NotFound`, and `Outdated`."""
    with session.transaction(platform.database) as connection:
        found = _held(connection, tenant, workflow, revision)
        drafts.remove(connection, tenant, workflow)
        _record(connection, tenant, "draft.discard", found, by=by, why=why)
        return found


def _held(connection: Connection, tenant: str, workflow: str, revision: int | None) -> Draft:
    """A draft that nobody else saves meanwhile, in the revision that is named, if one is."""
    found = drafts.get(connection, tenant, workflow, hold=True)
    if found is None:
        raise _none(workflow)
    if revision is not None and revision != found.revision:
        raise Outdated(
            f"the draft of {workflow} was saved by {found.saved_by} since: it is at revision "
            f"{found.revision}, not {revision}; read it again, then decide"
        )
    return found


def _checked(connection: Connection, tenant: str, draft: Draft) -> Checked:
    try:
        graph = documents.read_graph(draft.text)
    except Invalid as invalid:
        return Checked(draft=draft, problems=invalid.problems)
    _, problems = catalogue.known_here(connection, tenant, graph)
    return Checked(draft=draft, problems=(*_misnamed(draft, graph), *problems))


def _misnamed(draft: Draft, graph: Graph) -> list[Problem]:
    if graph.workflow == draft.workflow:
        return []
    message = f"it is {graph.workflow}, in the draft of {draft.workflow}"
    remedy = f"write workflow: {draft.workflow}, or save it as a draft of its own name"
    return [Problem(path="workflow", message=message, remedy=remedy)]


def _text(workflow: str, text: bytes) -> str:
    problems = []
    if not words.matches(words.WORKFLOW_NAME, workflow):
        remedy = "use up to 128 characters without @, / and line breaks"
        problems.append(
            Problem(path="name", message=f"{workflow[:80]!r} is not a name", remedy=remedy)
        )
    try:
        written = text.decode()
    except UnicodeDecodeError:
        written = "\0"
    if not written.strip() or any(values.problems(written)):
        message = "is no text in UTF-8, or says nothing"
        problems.append(Problem(path="", message=message, remedy="send YAML or JSON"))
    if problems:
        raise Invalid(problems, "the draft cannot be saved")
    return written


def _record(
    connection: Connection, tenant: str, action: str, draft: Draft, *, by: str, why: str = ""
) -> None:
    subject = f"draft:{draft.workflow}"
    told = {"revision": draft.revision}
    acts.record(
        connection, tenant, by=by, action=action, subject=subject, why=why, detail=told,
        after=draft.text if action == "draft.save" else None,
    )  # fmt: skip


def _none(workflow: str) -> NotFound:
    return NotFound(f"there is no draft of {workflow}")
