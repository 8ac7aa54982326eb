"""What a tenant has registered and published: functions, tools, workflows.

No version is ever changed. Registering the same thing again is the same version; anything
else is the next one, for the runs that are submitted from then on, and for those that have not
used the name yet. How a tool stands, its status and tags, is beside its versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import Connection

from engine import documents, kinds, services, tools
from engine.core import document, simple_graph, source, values
from engine.core import versions as numbers
from engine.core.document import Reference
from engine.core.document import vocabulary as words
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.values import Json, digest
from engine.core.versions import LATEST, Asked
from engine.errors import Conflict, Invalid, NotFound
from engine.platform import Platform
from engine.runs import acts, graphs, identity
from engine.store import functions, session, workflows
from engine.store.functions import Function, Namespace, NewFunction
from engine.store.workflows import NewVersion, WorkflowVersion
from engine.tools import USUAL, Standing, Terms

#: The version of a workflow whose first document names none.
FIRST_VERSION = "1.0.0"
#: No number of a version is larger.
_LAST_PATCH = 999_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(WorkflowVersion):
    """A version as whoever publishes it finds it."""

    #: False: it was published before, with the same document.
    fresh: bool = field(compare=False)


# --- functions and tools ----------------------------------------------------------------------


def register(
    platform: Platform,
    tenant: str,
    namespace: Namespace,
    name: str,
    code: str,
    *,
    description: str = "",
    effect: str = "pure",
    terms: Terms = USUAL,
    standing: Mapping[str, Any] | None = None,
    by: str,
) -> Function:
    """Register source as a function or tool; the version that it is. Raises `Invalid`.

    `terms` are what a tool asks of its callers; `standing` is as `stand` takes it.
    """
    problems = [*_name_problems(name), *source.check(code, name=name)]
    if problems:
        raise Invalid(problems, f"the {namespace} cannot be registered")
    tools.standing(standing or {})
    new = NewFunction(
        namespace=namespace,
        name=name,
        source=code,
        description=description or source.summary(code, name),
        parameters=source.parameters(code, name),
        effect=effect,
        checksum="",
        created_by=by,
        terms=terms,
    )
    return _entered(platform, tenant, new, standing)


def register_service(
    platform: Platform,
    tenant: str,
    name: str,
    kind: str,
    config: Mapping[str, Json],
    *,
    description: str = "",
    effect: str | None = None,
    terms: Terms = USUAL,
    standing: Mapping[str, Any] | None = None,
    by: str,
) -> Function:
    """Register a service as a tool; the version that it is. Raises `Invalid`.

    What a call of it takes follows from its kind and configuration, and is held to that.
    """
    if problems := [*_name_problems(name), *values.problems(dict(config), path="config")]:
        raise Invalid(problems, "the service cannot be registered")
    if terms.schema is not None:
        message = "what a call of a service takes follows from its config"
        problem = Problem(path="parameters", message=message, remedy="leave it out")
        raise Invalid([problem], "the service cannot be registered")
    read = services.read(kind, config)
    # Its configuration says how long it may take, where its terms say nothing of it.
    usual = terms.timeout_seconds == tools.DEFAULT_SECONDS
    seconds = read.timeout if usual else terms.timeout_seconds
    tools.standing(standing or {})
    required = sorted({*terms.required_permissions, *services.permissions(read)})
    new = NewFunction(
        namespace="tool",
        name=name,
        service={"kind": kind, "config": dict(config)},
        description=description,
        parameters={},
        effect=effect or read.effect,
        checksum="",
        created_by=by,
        terms=replace(
            terms,
            schema=dict(read.parameters),
            timeout_seconds=seconds,
            required_permissions=tuple(required),
        ),
    )
    return _entered(platform, tenant, new, standing)


def _entered(
    platform: Platform, tenant: str, new: NewFunction, standing: Mapping[str, Any] | None
) -> Function:
    with session.transaction(platform.database) as connection:
        found = add_version(connection, tenant, new)
        if not standing:
            return found
        stands = _stand(connection, tenant, new.name, standing, by=new.created_by, why="")
        return replace(found, standing=stands)


def add_version(
    connection: Connection, tenant: str, new: NewFunction, *, salt: str = ""
) -> Function:
    """The version of a function that is as given: the newest if it is, else one more.

    `salt` stands for whatever makes it different although it looks the same. Raises `Invalid` for what says
    how its calls are undone and is not `compensable`.
    """
    if new.terms.undo is not None and new.effect != "compensable":
        problem = Problem(
            path="undo",
            message=f"calls of what is {new.effect} are not undone",
            remedy="register it as compensable, or leave this out",
        )
        raise Invalid([problem], f"the tool {new.name} cannot be registered")
    told: list[Json] = [new.source, new.library, new.description, dict(new.parameters)]
    told += [new.effect, salt]
    if new.service is not None:
        told.append(dict(new.service))
    if new.terms != USUAL:
        # Only then, so that what was registered before tools had terms is the same version still.
        terms = new.terms.told()
        told.append({name: terms[name] for name in terms if name != "undo" or terms[name]})
    new = replace(new, checksum=digest(told))
    _check_sort(connection, tenant, new)
    while True:
        # Nothing is added either when the newest is the same, or when somebody else has just
        # taken the number: then theirs is looked at.
        version = functions.register(connection, tenant, new)
        found = functions.get(connection, tenant, new.namespace, new.name, version)
        if found is not None and found.checksum == new.checksum:
            if version is not None:
                _record_version(connection, tenant, found)
            return found


def _check_sort(connection: Connection, tenant: str, new: NewFunction) -> None:
    """Raise `Conflict` where a name would become another sort of tool.

    What was granted to a service, by an admin who has set it up, must not go to code that somebody
    registers under its name; nor the other way round.
    """
    known = functions.get(connection, tenant, new.namespace, new.name)
    if known is None or (known.service is None) == (new.service is None):
        return
    is_what = "a tool of code" if known.service is None else "a service"
    raise Conflict(f"{new.name} is {is_what}, and stays one; choose another name")


def _record_version(connection: Connection, tenant: str, added: Function) -> None:
    acts.record(
        connection,
        tenant,
        by=added.created_by,
        action=f"{added.namespace}.register",
        subject=f"{added.namespace}:{added.name}@{added.version}",
        detail={
            "effect": added.effect,
            "library": added.library,
            "service": None if added.service is None else dict(added.service),
        },
        after=added.checksum,
    )


def stand(
    platform: Platform,
    tenant: str,
    name: str,
    change: Mapping[str, Any],
    *,
    by: str,
    why: str = "",
) -> Standing:
    """Change how a tool stands, in all of its versions and for every call from now on.

    `change` has a `status`, `tags`, or both. Raises `NotFound`, and `Invalid`.
    """
    tools.standing(change)
    with session.transaction(platform.database) as connection:
        if functions.get(connection, tenant, "tool", name) is None:
            raise NotFound(f"Tool not found: {name}")
        return _stand(connection, tenant, name, change, by=by, why=why)


def _stand(
    connection: Connection, tenant: str, name: str, change: Mapping[str, Any], *, by: str, why: str
) -> Standing:
    before, _ = functions.standing(connection, tenant, name)
    after = tools.standing(change, before)
    if after == before:
        return before
    functions.put_standing(connection, tenant, name, after, by=by)
    acts.record(
        connection,
        tenant,
        by=by,
        action="tool.stand",
        subject=f"tool:{name}",
        why=why,
        detail={"status": after.status, "tags": [*after.tags]},
        before=[before.status, [*before.tags]],
        after=[after.status, [*after.tags]],
    )
    return after


def for_models(
    platform: Platform,
    tenant: str,
    *,
    tag: str | None = None,
    category: str | None = None,
    after: str = "",
    limit: int = 1000,
) -> tuple[Function, ...]:
    """The newest version of every tool that may be called, by name, after a name."""
    found: list[Function] = []
    while len(found) < limit:
        page = function_list(platform, tenant, "tool", after=after, limit=limit)
        found += (
            each
            for each in page
            if each.standing.status not in tools.CLOSED
            and tag in (None, *each.standing.tags)
            and category in (None, each.terms.category)
        )
        if len(page) < limit:
            break
        after = page[-1].name
    return tuple(found[:limit])


def function(
    platform: Platform, tenant: str, namespace: Namespace, name: str, version: int | None = None
) -> Function:
    """A version of a function or tool, the newest unless one is named. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = functions.get(connection, tenant, namespace, name, version)
    if found is None:
        asked = name if version is None else f"{name}@{version}"
        raise NotFound(f"{namespace.capitalize()} not found: {asked}")
    return found


def function_versions(
    platform: Platform, tenant: str, namespace: Namespace, name: str
) -> tuple[Function, ...]:
    """Every version of a function or tool, newest first; none when there is no such name."""
    with session.transaction(platform.database) as connection:
        return functions.versions(connection, tenant, namespace, name)


def function_list(
    platform: Platform, tenant: str, namespace: Namespace, *, after: str = "", limit: int = 100
) -> tuple[Function, ...]:
    """The newest version of every function or tool by name, after a name."""
    with session.transaction(platform.database) as connection:
        return functions.page(connection, tenant, namespace, after=after, limit=limit)


# --- workflows --------------------------------------------------------------------------------


def publish(platform: Platform, tenant: str, data: Json, *, by: str, notes: str = "") -> Published:
    """Publish a version of a workflow from its document.

    Without a version of its own it gets the next patch, unless nothing has changed. What is
    published keeps the notes that it has. Raises `Invalid` with every problem, and `Conflict` when
    the version is taken by another document.
    """
    graph = documents.graph(data)
    check_name(graph.workflow)
    with session.transaction(platform.database) as connection:
        return publish_graph(connection, tenant, graph, by=by, notes=notes)


def publish_own(platform: Platform, tenant: str, data: Json, *, by: str) -> Published:
    """Publish a workflow of the platform's own, under a name that is kept for it. See `publish`."""
    graph = documents.graph(data)
    with session.transaction(platform.database) as connection:
        return publish_graph(connection, tenant, graph, by=by)


def publish_text(
    platform: Platform, tenant: str, text: str | bytes, *, by: str, notes: str = ""
) -> Published:
    """Publish from YAML or JSON as somebody wrote it: problems then tell their lines. See `publish`."""
    graph = documents.read_graph(text)
    check_name(graph.workflow)
    with session.transaction(platform.database) as connection:
        return publish_graph(connection, tenant, graph, by=by, notes=notes)


def publish_simple(platform: Platform, tenant: str, body: Json, *, by: str) -> Published:
    """Publish a version of a workflow from the body of `POST /graph/create`. Raises `Invalid`."""
    graph = simple(body)
    check_name(graph.workflow)
    with session.transaction(platform.database) as connection:
        return publish_graph(connection, tenant, graph, by=by)


def simple(body: Json) -> Graph:
    """The graph of a body of `POST /graph/create`. Raises `Invalid`."""
    graph = simple_graph.read(body)
    if isinstance(graph, Graph):
        return graph
    raise Invalid(graph, "the graph is not valid")


def publish_graph(
    connection: Connection,
    tenant: str,
    graph: Graph,
    *,
    by: str,
    notes: str = "",
    coming: Collection[str] = (),
) -> Published:
    """Publish a version of a workflow from its graph. See `publish`.

    `coming` are workflows that the same transaction has yet to publish; it may name them already.
    """
    graph, problems = known_here(connection, tenant, graph, coming=coming)
    if problems:
        raise Invalid(problems, "the workflow names what is not registered")
    body = document.write(graph)
    body.pop("version", None)
    checksum = digest(body)
    workflows.ensure(connection, tenant, graph.workflow)
    while True:
        if graph.version is not None:
            asked = Asked(exact=graph.version)
            known = workflows.find(connection, tenant, graph.workflow, asked)
        else:
            known = workflows.highest(connection, tenant, graph.workflow)
        # What is retired is no version to go on with, unless it is asked for by its number.
        as_it_was = known is not None and known.checksum == checksum
        if known is not None and as_it_was and (graph.version or known.retired_at is None):
            return _published(known, fresh=False)
        if known is not None and graph.version is not None:
            raise unchangeable(known, "with another document; ")
        version = graph.version or _next(known)
        new = NewVersion(
            id=identity.new_run(),
            workflow=graph.workflow,
            version=version,
            document={**body, "version": version},
            checksum=checksum,
            created_by=by,
            notes=notes,
        )
        # Somebody else may have taken the number since: then theirs is looked at.
        if workflows.add(connection, tenant, new):
            acts.record(
                connection,
                tenant,
                by=by,
                action="workflow.publish",
                subject=f"workflow:{new.workflow}@{version}",
                detail={"id": new.id},
                why=notes,
                after=checksum,
            )
            found = workflows.get(connection, tenant, new.id)
            assert found is not None
            return _published(found, fresh=True)


def known_here(
    connection: Connection, tenant: str, graph: Graph, *, coming: Collection[str] = ()
) -> tuple[Graph, tuple[Problem, ...]]:
    """A graph whose agents are told apart, and what keeps it from being published to a tenant."""
    graph = _agents(connection, tenant, graph)
    _, problems = pins(connection, tenant, graph, coming=coming)
    return graph, (*_misnumbered(graph), *problems, *_foreign(graph))


def unchangeable(version: WorkflowVersion, how: str = "") -> Conflict:
    """Why a version does not become another one."""
    return Conflict(
        f"version {version.version} of {version.workflow} is published, {how}and a version never "
        "changes; publish the document under another number, or without one to get the next"
    )


def pins(
    connection: Connection, tenant: str, graph: Graph, *, coming: Collection[str] = ()
) -> tuple[dict[str, int | str], list[Problem]]:
    """The newest version of everything that a graph names without a version, and what is missing.

    Keys are `function:NAME`, `tool:NAME` and `workflow:NAME`, the last with the id of a version.
    What a node names as its function may be a tool; a function of that name comes first.
    """
    found: dict[str, int | str] = {}
    problems: list[Problem] = []
    for reference in document.names_used(graph):
        if reference.kind == "workflow":
            version = named(connection, tenant, reference)
            if version is not None and version.retired_at is None:
                found[f"workflow:{reference.text}"] = version.id
            elif version is not None:
                problems.append(_retired(reference, version))
            elif reference.name not in {graph.workflow, *coming}:
                problems.append(_missing(reference))
    code = tuple(one for one in document.names_used(graph) if one.kind != "workflow")
    names = sorted({reference.name for reference in code})
    known = functions.newest(connection, tenant, names)
    for reference in code:
        if isinstance(reference.version, str):
            problems.append(_missing(reference))
            continue
        least = 1 if reference.version is None else reference.version
        namespace = next(
            (
                namespace
                for namespace in (
                    functions.NAMESPACES if reference.kind == "function" else ("tool",)
                )
                if known[namespace].get(reference.name, 0) >= least
            ),
            None,
        )
        if namespace is None:
            problems.append(_missing(reference))
        elif namespace != reference.kind and _is_guarded(connection, tenant, reference):
            problems.append(
                Problem(
                    path=reference.path,
                    message=f"the tool {reference.text} is called on terms, not run as a function",
                    remedy=f"write kind: tool, tool: {reference.text}",
                )
            )
        elif reference.version is None:
            found[f"{namespace}:{reference.name}"] = known[namespace][reference.name]
        else:
            # Pinned too: which of the two namespaces it was must not change under the run.
            found[f"{namespace}:{reference.text}"] = least
    return found, problems


def named(connection: Connection, tenant: str, reference: Reference) -> WorkflowVersion | None:
    """The version of a workflow that a graph names; None where there is none of that kind."""
    asked = LATEST if reference.version is None else numbers.asked(str(reference.version))
    return None if asked is None else workflows.find(connection, tenant, reference.name, asked)


def version(platform: Platform, tenant: str, id: str) -> WorkflowVersion:  # noqa: A002  # the column's name
    """A version of a workflow by its id. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = workflows.get(connection, tenant, id)
    if found is None:
        raise NotFound(f"Workflow version not found: {id}")
    return found


def find(platform: Platform, tenant: str, name: str, version: str | None = None) -> WorkflowVersion:
    """A version of a workflow by name, the latest unless one, or a range, is named.

    Raises `NotFound`, and `Invalid` for what names no version.
    """
    asked = _asked(version)
    with session.transaction(platform.database) as connection:
        found = workflows.find(connection, tenant, name, asked)
        other = workflows.highest(connection, tenant, name) if found is None else None
    if found is not None:
        return found
    text = name if version is None else f"{name}@{version}"
    if other is None or asked.exact is not None:
        raise NotFound(f"Workflow not found: {text}")
    raise NotFound(
        f"Workflow not found: {text}; no release is of that kind, and pre-releases and retired "
        f"versions are found by their numbers alone, such as {name}@{other.version}"
    )


def versions(
    platform: Platform,
    tenant: str,
    *,
    name: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> tuple[WorkflowVersion, ...]:
    """Versions, of one workflow or of all, newest first, older than an id."""
    with session.transaction(platform.database) as connection:
        return workflows.page(connection, tenant, name=name, before=before, limit=limit)


def latest(
    platform: Platform, tenant: str, *, after: str = "", limit: int = 100
) -> tuple[WorkflowVersion, ...]:
    """The latest version of every workflow by name, after a name."""
    with session.transaction(platform.database) as connection:
        return workflows.latest(connection, tenant, after=after, limit=limit)


def _agents(connection: Connection, tenant: str, graph: Graph) -> Graph:
    """A list of steps whose agents are known: those that are workflows, and no functions, say so."""
    if graph.listing is None:
        return graph
    agents = [one for one in document.names_used(graph) if one.kind == "function"]
    names = sorted({one.name for one in agents})
    newest = functions.newest(connection, tenant, names)
    known = newest["function"].keys() | newest["tool"].keys()
    found = {
        one.text
        for one in agents
        if one.name not in known and named(connection, tenant, one) is not None
    }
    if not found:
        return graph
    body = document.write(graph)
    already = body.get("workflows", [])
    assert isinstance(already, list)
    said = graphs.parse({**body, "workflows": [*already, *sorted(found)]})
    return replace(said, places=graph.places)


def check_name(workflow: str) -> None:
    """Raise `Invalid` for a name that is the platform's own."""
    if workflow.startswith(words.OWN_NAMES):
        message = f"names that begin with {words.OWN_NAMES} are the platform's own"
        raise Invalid([Problem(path="workflow", message=message, remedy="use another")])


def _name_problems(name: str) -> list[Problem]:
    if words.matches(words.FUNCTION, name):
        return []
    remedy = "use up to 128 letters, digits, _ . and -, the first a letter or _"
    return [Problem(path="name", message=f"{name[:80]!r} is not a name", remedy=remedy)]


def _published(found: WorkflowVersion, *, fresh: bool) -> Published:
    told = {item.name: getattr(found, item.name) for item in fields(found)}
    return Published(**told, fresh=fresh)


def _asked(version: str | None) -> Asked:
    """What a text asks for. Raises `Invalid`."""
    if version is None:
        return LATEST
    if (found := numbers.asked(version)) is None:
        message = f"{version[:80]!r} names no version"
        remedy = "name one such as 1.2.0, or a range: latest, ^1.2, ~1.2.3, 1.x, '>=1,<2'"
        raise Invalid([Problem(path="version", message=message, remedy=remedy)])
    return found


def _misnumbered(graph: Graph) -> Iterator[Problem]:
    if graph.version is not None and not numbers.is_version(graph.version):
        message = f"{graph.version} is no version as semver has it"
        remedy = "write three numbers, such as 1.2.0; for a pre-release 1.2.0-rc.1"
        yield Problem(path="version", message=message, remedy=remedy)


def _is_guarded(connection: Connection, tenant: str, reference: Reference) -> bool:
    """Whether a tool asks more of its callers than arguments."""
    assert not isinstance(reference.version, str)
    found = functions.get(connection, tenant, "tool", reference.name, reference.version)
    return found is not None and (found.service is not None or found.terms.guarded)


def _foreign(graph: Graph) -> Iterator[Problem]:
    """Nodes of kinds that neither the language nor a package here has."""
    for node in graph.nodes.values():
        if words.matches(words.FOREIGN_KIND, node.kind) and node.kind not in kinds.installed():
            yield Problem(
                path=f"{graph.place(node.id)}.kind",
                message=f"no package here brings a kind {node.kind}",
                remedy=f"install one with an entry point {node.kind} of the group {kinds.GROUP}",
            )


def _retired(reference: Reference, version: WorkflowVersion) -> Problem:
    return Problem(
        path=reference.path,
        message=f"version {version.version} of {version.workflow} is retired",
        remedy="name another one, or a range",
    )


def _missing(reference: Reference) -> Problem:
    return Problem(
        path=reference.path,
        message=f"{reference.kind.capitalize()} not found: {reference.text}",
        remedy=f"register the {reference.kind} first, or correct its name",
    )


def _next(latest: WorkflowVersion | None) -> str:
    """The patch after the latest release; the release that the latest pre-release led up to."""
    if latest is None:
        return FIRST_VERSION
    release, _, early = latest.version.partition("+")[0].partition("-")
    major, minor, patch = release.split(".")
    if not early and int(patch) >= _LAST_PATCH:
        raise Conflict(
            f"no version of {latest.workflow} follows {latest.version}; give the next one a number"
        )
    return release if early else f"{major}.{minor}.{int(patch) + 1}"
