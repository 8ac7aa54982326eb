"""Agents and workflows that runs write: what a call of a catalogue service does, and what it may.

A step that publishes adds a version as a person does, through the same validation; runs that are under
way keep what they have pinned. Whoever started the run is who publishes, and must be allowed to. Beside
that, and in this order:

- *Wider than its writer* (`wider`). What a run writes may use what the workflow that writes it names
  itself, in the versions that it is pinned to, and what the same run, or those that it started, have
  written. It may import what all code may, and what was granted to that workflow. Anything else is put to
  people before the call is made, by a permit for just these reasons and this definition: names that are
  worked out, queues, locks of the tenant and kinds of packages; a name under which a person has entered
  anything, or that has a grant for all versions, which it would inherit; a name for which a policy that
  holds for the writer would not. What no code may ever import is refused, and so is what is too much for
  people to judge.
- *Quota.* A run, with all that it starts, may write so many versions, and all runs of a tenant so many
  within a day (`settings.written_per_run`, `written_per_day`). A copy that writes a copy of itself ends
  there, or where runs are too deep (`waiting.MAX_DEPTH`).
- *Lineage.* Which step of which run has written a version, and the version before it, is kept with it.

A call that comes again publishes nothing anew: what the step has written of the same is what it gets.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection

from engine import documents
from engine.capabilities import Subject
from engine.core import document, source, versions
from engine.core.document import vocabulary as words
from engine.core.graph import Child, Graph, Map, Node
from engine.core.permits import moment_of, rule_of
from engine.core.problem import Problem
from engine.core.values import Json, digest
from engine.errors import Conflict, Invalid, NotFound
from engine.formats import agent as formats
from engine.platform import Platform
from engine.runs import acts, agents, capabilities, catalogue, drafts, policies
from engine.runs.attempts import Leased
from engine.services.catalogue import AGENTS, DRAFT, PUBLISH, READ, Config
from engine.settings import Settings
from engine.store import agents as agent_rows
from engine.store import authorship as rows
from engine.store import capabilities as grants
from engine.store import runs, session, workflows
from engine.store.agents import AgentVersion
from engine.store.authorship import NewAuthorship, WrittenBy
from engine.store.workflows import WorkflowVersion

#: What of a definition is told of those who ask for what there is.
_LISTED = 100
#: What people are shown: names in a reason, and bytes of a definition that reaches wider.
_MOST_NAMES = 200
_SHOWN_BYTES = 65_536
#: Who saves a draft as a run does.
_RUN = "run:"
#: The rules that permits of these calls name.
_RULE = "reach:"
#: What all code may import.
_IMPORTABLE = frozenset({*source.MODULES, "__future__"})


class OverQuota(Conflict):
    """The run, or its tenant, has written as many versions as it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A version as it is just after it was entered."""

    kind: str
    name: str
    version: str
    #: The workflow that runs it, in this version.
    workflow: str
    graph: Graph
    changed: bool
    #: The newest version before it.
    parent: str | None
    #: Who entered a version of it, if a person ever did.
    whose: str | None
    #: The definition, as it was asked for.
    text: bytes
    #: The code that is new with it.
    code: str = ""
    agent: AgentVersion | None = None


def answer(
    platform: Platform, lease: Leased, config: Config, arguments: Mapping[str, Json]
) -> Json:
    """What a call of a catalogue service comes to.

    Raises `Invalid`, `NotFound`, `Conflict` and `OverQuota`.
    """
    tenant = lease.step.tenant
    if config.action == READ:
        return _read(platform, tenant, config, arguments)
    if config.action == DRAFT:
        return _draft(platform, lease, arguments)
    with session.transaction(platform.database) as connection:
        if config.action == PUBLISH:
            return _publish(connection, platform.settings, lease, config, arguments)
        return _validated(connection, lease, config, arguments)


def wider(
    connection: Connection, lease: Leased, config: Config, arguments: Mapping[str, Json]
) -> str:
    """Why people must allow a call, in words; empty where nobody is asked, or nothing will come of it."""
    if config.action != PUBLISH or _known(connection, lease, config, arguments) is not None:
        return ""
    try:
        with connection.begin_nested() as kept:
            written = _entered(connection, lease, config, arguments)
            reasons = [*_reasons(connection, lease, written)] if written.changed else []
            kept.rollback()
    except (Invalid, Conflict):
        # The call will say so.
        return ""
    return "; ".join(reasons)


def rule(tool: str, why: str, arguments: Mapping[str, Json]) -> str:
    """What people are asked by: for these reasons alone, and for just this definition."""
    return f"{_RULE}{tool}:{_bound(why, arguments)}"


def _bound(why: str, arguments: Mapping[str, Json]) -> str:
    return digest([why, dict(arguments)])[:32]


def of_workflow(platform: Platform, tenant: str, version: WorkflowVersion) -> WrittenBy | None:
    """The step that has written a version of a workflow, as an agent's or as its own; None: a person."""
    kind, name, number = "workflow", version.workflow, version.version
    if name.startswith(formats.registered("")):
        kind, name = "agent", name.removeprefix(formats.registered(""))
        number = number.rpartition(".")[0]
    with session.transaction(platform.database) as connection:
        found = rows.of(connection, tenant, kind, name, number)
    return None if found is None else found.told


# --- reading and drafting ---------------------------------------------------------------------


def _read(
    platform: Platform, tenant: str, config: Config, arguments: Mapping[str, Json]
) -> dict[str, Json]:
    name, version = _text(arguments, "name"), _text(arguments, "version") or None
    if config.definitions == AGENTS:
        if name:
            return _of_agent(agents.find(platform, tenant, name, version))
        page = agents.page(platform, tenant, after=_text(arguments, "after"), limit=_LISTED)
        return {"agents": [_interface(each) for each in page]}
    if name:
        found = catalogue.find(platform, tenant, name, version)
        return {"name": name, "version": found.version, "definition": found.document}
    latest = catalogue.latest(platform, tenant, after=_text(arguments, "after"), limit=_LISTED)
    return {"workflows": [{"name": each.workflow, "version": each.version} for each in latest]}


def _interface(version: AgentVersion) -> dict[str, Json]:
    agent = formats.entered(version.name, version.definition)
    return {
        "name": version.name,
        "version": version.version,
        "type": agent.type,
        "help": agent.help,
        "inputs": [*agent.inputs],
        "optional_inputs": [*agent.optional],
        "outputs": [*agent.outputs],
    }


def _of_agent(version: AgentVersion) -> dict[str, Json]:
    return {**_interface(version), "definition": dict(version.definition)}


def _text(arguments: Mapping[str, Json], name: str) -> str:
    found = arguments.get(name)
    return found if isinstance(found, str) else ""


def _draft(platform: Platform, lease: Leased, arguments: Mapping[str, Json]) -> dict[str, Json]:
    definition, revision = arguments["definition"], arguments.get("revision")
    assert isinstance(definition, dict)
    tenant, name = lease.step.tenant, str(definition.get("workflow", ""))
    text = orjson.dumps(definition, option=orjson.OPT_INDENT_2)
    try:
        known = drafts.show(platform, tenant, name)
    except NotFound:
        known = None
    if known is not None and not known.draft.saved_by.startswith(_RUN):
        raise Conflict(
            f"{known.draft.saved_by} is writing a draft of {name}; runs leave that alone"
        )
    if known is None or known.draft.text != text.decode():
        assert revision is None or isinstance(revision, int)
        by = f"{_RUN}{lease.step.run}"
        known = drafts.save(platform, tenant, name, text, by=by, revision=revision)
    problems: list[Json] = [*map(_problem, known.problems)]
    return {"workflow": name, "revision": known.draft.revision, "problems": problems}


# --- entering ---------------------------------------------------------------------------------


def _validated(
    connection: Connection, lease: Leased, config: Config, arguments: Mapping[str, Json]
) -> dict[str, Json]:
    try:
        with connection.begin_nested() as kept:
            written = _entered(connection, lease, config, arguments)
            asked = [*_reasons(connection, lease, written)] if written.changed else []
            kept.rollback()
    except Invalid as invalid:
        problems: list[Json] = [*map(_problem, invalid.problems)]
        return {"valid": False, "problems": problems, "asks": []}
    return {"valid": True, "problems": [], "asks": list[Json](asked)}


def _problem(problem: Problem) -> dict[str, Json]:
    return {"path": problem.path, "message": problem.message, "remedy": problem.remedy}


def _publish(
    connection: Connection,
    settings: Settings,
    lease: Leased,
    config: Config,
    arguments: Mapping[str, Json],
) -> dict[str, Json]:
    # What is counted stays so until it is written.
    agent_rows.hold(connection, lease.step.tenant)
    if (known := _known(connection, lease, config, arguments)) is not None:
        return known
    written = _entered(connection, lease, config, arguments)
    if written.changed:
        _check_allowed(connection, lease, written, arguments)
        _check_quota(connection, settings, lease)
        _keep(connection, lease, written, _same(config, arguments))
    return _told(written)


def _entered(
    connection: Connection, lease: Leased, config: Config, arguments: Mapping[str, Json]
) -> _Written:
    """Enter what is asked for. Raises `Invalid`, and `Conflict`."""
    if config.definitions == AGENTS:
        return _agent(connection, lease, str(arguments["name"]), arguments["definition"])
    return _workflow(connection, lease, arguments)


def _agent(connection: Connection, lease: Leased, name: str, definition: Json) -> _Written:
    tenant = lease.step.tenant
    named = formats.named(name)
    # What is no name is told by entering it.
    name = name if named is None else named.name
    before = agent_rows.find(connection, tenant, name)
    whose = rows.person(connection, tenant, "agent", name)
    data: Json = {"agents": {name: definition}}
    (entered,) = agents.enter_within(connection, tenant, data, by=lease.by, strict=True)
    version = entered.version
    found = workflows.get(connection, tenant, version.version_id)
    assert found is not None
    agent = formats.entered(name, version.definition)
    return _Written(
        kind="agent",
        name=name,
        version=version.version,
        workflow=f"{found.workflow}@{found.version}",
        graph=documents.graph(found.document),
        changed=entered.changed,
        parent=None if before is None else before.version,
        whose=whose,
        text=orjson.dumps(definition),
        code=agent.code,
        agent=version,
    )


def _workflow(connection: Connection, lease: Leased, arguments: Mapping[str, Json]) -> _Written:
    tenant, notes = lease.step.tenant, _text(arguments, "notes")
    graph = documents.graph(arguments["definition"])
    catalogue.check_name(graph.workflow)
    if graph.workflow.startswith(formats.registered("")):
        what = f"names that begin with {formats.registered('')} are those of agents"
        raise Invalid([Problem(path="workflow", message=what, remedy="publish an agent")])
    before = workflows.highest(connection, tenant, graph.workflow)
    whose = rows.person(connection, tenant, "workflow", graph.workflow)
    found = catalogue.publish_graph(connection, tenant, graph, by=lease.by, notes=notes)
    name, version = found.workflow, found.version
    return _Written(
        kind="workflow",
        name=name,
        version=version,
        workflow=f"{name}@{version}",
        graph=documents.graph(found.document),
        changed=found.fresh,
        parent=None if before is None else before.version,
        whose=whose,
        text=orjson.dumps(arguments["definition"]),
    )


def _told(written: _Written) -> dict[str, Json]:
    found: dict[str, Json] = {
        "name": written.name,
        "version": written.version,
        "workflow": written.workflow,
        "parent": written.parent,
    }
    return found if written.agent is None else {**_interface(written.agent), **found}


def _known(
    connection: Connection, lease: Leased, config: Config, arguments: Mapping[str, Json]
) -> dict[str, Json] | None:
    """What this step has published of the same already."""
    known = rows.by_step(connection, lease.step, _same(config, arguments))
    if known is None:
        return None
    found: dict[str, Json] = {
        "name": known.name,
        "version": known.version,
        "workflow": f"{known.name}@{known.version}",
        "parent": known.parent,
    }
    if known.kind != "agent":
        return found
    asked = formats.named(f"{known.name}@{known.version}")
    assert asked is not None
    version = agent_rows.find(connection, lease.step.tenant, known.name, asked.major, asked.minor)
    assert version is not None
    found["workflow"] = f"{formats.registered(known.name)}@{known.version}.0"
    return {**_interface(version), **found}


def _same(config: Config, arguments: Mapping[str, Json]) -> str:
    return digest([config.definitions, dict(arguments)])


def _check_allowed(
    connection: Connection, lease: Leased, written: _Written, arguments: Mapping[str, Json]
) -> None:
    """Raise `Conflict` for what became wider after the call was authorised, by what others did."""
    reasons = [*_reasons(connection, lease, written)]
    if not reasons:
        return
    bound = _bound("; ".join(reasons), arguments)
    for one in lease.permits:
        asked = rule_of(one)
        if moment_of(one) == "call" and asked.startswith(_RULE) and asked.endswith(f":{bound}"):
            return
    raise Conflict(f"people must allow it by now, and were not asked: {'; '.join(reasons)}")


def _check_quota(connection: Connection, settings: Settings, lease: Leased) -> None:
    tenant = lease.step.tenant
    of_run = len(rows.of_root(connection, tenant, lease.root))
    if of_run >= settings.written_per_run:
        raise OverQuota(
            f"run {lease.root} and what it has started have written {of_run} versions, and may "
            f"write {settings.written_per_run} (CELERIAC_WRITTEN_PER_RUN)"
        )
    today = rows.in_a_day(connection, tenant)
    if today >= settings.written_per_day:
        raise OverQuota(
            f"runs have written {today} versions within a day, and may write "
            f"{settings.written_per_day} (CELERIAC_WRITTEN_PER_DAY)"
        )


def _keep(connection: Connection, lease: Leased, written: _Written, same: str) -> None:
    """Keep which step has written a version, with the version and in the audit."""
    step = lease.step
    new = NewAuthorship(
        kind=written.kind,
        name=written.name,
        version=written.version,
        step=step,
        root=lease.root,
        workflow=lease.graph.workflow,
        parent=written.parent,
        digest=same,
    )
    rows.add(connection, new)
    acts.record(
        connection,
        step.tenant,
        by=lease.by,
        action=f"{written.kind}.write",
        subject=f"{written.kind}:{written.name}@{written.version}",
        detail={
            "run": step.run,
            "step": step.key,
            "root": lease.root,
            "workflow": lease.graph.workflow,
            "parent": written.parent,
        },
        after=same,
    )


# --- how wide it is ---------------------------------------------------------------------------


def _reasons(connection: Connection, lease: Leased, written: _Written) -> Iterator[str]:
    """Why people must allow it, each in words. Raises `Conflict` for what is too much to be judged."""
    reasons = [*_wider(connection, lease, written)]
    if reasons and len(written.text) > _SHOWN_BYTES:
        raise Conflict(f"{'; '.join(reasons)[:2000]}; and it is too large for people to judge")
    yield from reasons


def _wider(connection: Connection, lease: Leased, written: _Written) -> Iterator[str]:
    tenant, writer = lease.step.tenant, lease.graph.workflow
    if written.whose is not None:
        what = f"{written.kind} {written.name}"
        yield f"it would be another version of {what}, which {written.whose} has entered"
    own = formats.registered(written.name) if written.kind == "agent" else written.name
    for kind in ("function", "workflow"):
        for grant in grants.of(connection, tenant, kind, own):
            if grant.subject.version is None and grant.profile:
                yield f"it would have what is granted to all versions of {kind} {own}"
    number = runs.glance(connection, lease.step.run_id).governance
    for active in policies.governance(connection, tenant, number).policies:
        holds = active.policy.applies_to
        if holds.to(writer, lease.by) and not holds.to(own, lease.by):
            yield f"policy {active.policy.name} holds for {writer}, and would not for {own}"
    profile = capabilities.of(connection, tenant, _writer(connection, lease))
    modules = dict.fromkeys(each for each in _imported(written.code) if each not in profile.modules)
    if modules:
        yield f"it imports {_listed(modules)}, which {writer} was not granted"
    known = {*_does(lease.graph), *_names(lease.graph, lease.pins)} - _WORKED_OUT
    known |= {*_by_run(connection, lease)}
    found, _ = catalogue.pins(connection, tenant, written.graph)
    itself = [("workflow", own), *([("function", own)] if written.kind == "agent" else [])]
    uses = [*_does(written.graph), *_names(written.graph, found, itself)]
    more = dict.fromkeys(each.told for each in uses if each not in known)
    if more:
        yield f"it uses {_listed(more)}, which {writer} does not"


def _listed(names: Collection[str]) -> str:
    """Names in words. Raises `Conflict` for too many."""
    if len(names) > _MOST_NAMES:
        raise Conflict(
            f"it reaches {len(names)} things that its writer does not: too many to be judged"
        )
    return ", ".join(names)


def _writer(connection: Connection, lease: Leased) -> Subject:
    found = workflows.get(connection, lease.step.tenant, lease.version)
    assert found is not None
    return Subject(kind="workflow", name=found.workflow, version=found.version)


def _imported(code: str) -> Iterator[str]:
    """The modules that code imports beside those that all code has."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                found = [each.name for each in names]
            case ast.ImportFrom(module=str(module)):
                found = [module]
            case _:
                continue
        yield from (each for each in found if each not in _IMPORTABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """Something that a graph uses: with the version that is meant, where it has one."""

    kind: str
    name: str = ""
    version: int | str | None = None

    @property
    def told(self) -> str:
        return f"{self.kind} {self.name}".strip()


_WORKED_OUT = frozenset(
    {_Use(kind="tools whose names it works out"), _Use(kind="workflows whose names it works out")}
)


def _names(
    graph: Graph, pins: Mapping[str, int | str], itself: Collection[tuple[str, str]] = ()
) -> Iterator[_Use]:
    """What a graph names, in the versions that it is pinned to, but for `itself` (kind, name)."""
    for each in document.names_used(graph):
        if (each.kind, each.name) in itself and (each.version is None or each.kind == "function"):
            continue
        kinds = ("function", "tool") if each.kind == "function" else (each.kind,)
        pinned = (pins.get(f"{kind}:{each.text}") for kind in kinds)
        version = next((one for one in pinned if one is not None), each.version)
        yield _Use(kind=each.kind, name=each.name, version=version)


def _by_run(connection: Connection, lease: Leased) -> Iterator[_Use]:
    """What the run has written, and those that it started: in these versions."""
    tenant = lease.step.tenant
    for each in rows.of_root(connection, tenant, lease.root):
        own = formats.registered(each.name) if each.kind == "agent" else each.name
        number = f"{each.version}.0" if each.kind == "agent" else each.version
        asked = versions.asked(number)
        version = None if asked is None else workflows.find(connection, tenant, own, asked)
        if version is None:
            continue
        yield _Use(kind="workflow", name=own, version=version.id)
        for reference in document.names_used(documents.graph(version.document)):
            if reference.name == own and reference.kind == "function":
                yield _Use(kind="function", name=own, version=reference.version)


def _does(graph: Graph) -> Iterator[_Use]:
    """What a graph uses beside what it names."""
    for node in _nodes(graph):
        if words.matches(words.FOREIGN_KIND, node.kind):
            yield _Use(kind="kind", name=node.kind)
        if node.queue is not None:
            yield _Use(kind="queue", name=node.queue)
        if node.lock is not None and node.lock.tenant:
            yield _Use(kind="lock of the tenant", name=str(node.lock.name.source))
        if node.called is not None or (node.kind == "llm" and _works_out_tools(node)):
            yield _Use(kind="tools whose names it works out")
        if isinstance(node.wait, Child) and node.wait.named is not None:
            yield _Use(kind="workflows whose names it works out")


def _works_out_tools(node: Node) -> bool:
    return node.inputs is not None and any(
        name.partition("[")[0] == "tools" for name in node.inputs.expressions
    )


def _nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes.values():
        yield node
        if isinstance(node.wait, Map):
            yield node.wait.do
        if node.compensate is not None:
            yield node.compensate
