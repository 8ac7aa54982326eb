"""A tenant's agents: enter, look at, rename, remove.

What is entered at once is entered in one transaction, whole or not at all. Each agent becomes a
version of a workflow, and, where steps call it, of a function (`engine.formats.agent`); its own
version says by MAJOR.MINOR what that means to its callers. What its steps name without a version is
the newest there is then, and stays that: another version of what it calls is another version of it.
Agents that call one another in a circle cannot be pinned so; on the way back the newest is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from engine import documents
from engine.capabilities import GRANTABLE
from engine.core import document, source
from engine.core import versions as numbers
from engine.core.problem import Problem
from engine.core.section import short
from engine.core.values import Json, digest
from engine.errors import Conflict, Invalid, NotFound
from engine.formats import agent as agents
from engine.formats.agent import Agent, Callee, Named, Number
from engine.formats.agent.definition import MOST_TEXT, place
from engine.platform import Platform
from engine.runs import acts, catalogue
from engine.store import agents as rows
from engine.store import functions, session, workflows
from engine.store.agents import AgentVersion, NewAgentVersion
from engine.store.functions import NewFunction

#: What the code of a proc may import; of some of it the function must have been granted the use.
IMPORTABLE = frozenset({*source.MODULES, *GRANTABLE, "__future__"})
_WRONG = "the agents cannot be entered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """The version that an agent is now."""

    version: AgentVersion
    #: False: it was that before.
    changed: bool


@dataclass(kw_only=True)
class _Sitting:
    """What is entered at once, and how far that has come."""

    connection: Connection
    tenant: str
    by: str
    agents: Mapping[str, Agent]
    #: What steps call, where that is not to be looked for: by agent, by the text that names it.
    kept: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    done: dict[str, Entered] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


# --- looking at them --------------------------------------------------------------------------


def find(platform: Platform, tenant: str, name: str, version: str | None = None) -> AgentVersion:
    """A version of an agent, `1.2` or the newest of `1`; the newest unless one is named.

    Raises `NotFound`. Of an agent that was removed, versions are found that are named whole.
    """
    asked = agents.named(name if version is None else f"{name}@{version}")
    found = None
    if asked is not None and asked.name == name:
        with session.transaction(platform.database) as connection:
            found = _find(connection, tenant, asked)
    if found is None:
        raise _unknown(name if version is None else f"{name}@{version}")
    return found


def versions(platform: Platform, tenant: str, name: str) -> tuple[AgentVersion, ...]:
    """Every version of an agent, newest first. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = rows.versions(connection, tenant, name)
    if not found or found[0].removed:
        raise _unknown(name)
    return found


def page(
    platform: Platform, tenant: str, *, after: str = "", limit: int = 100
) -> tuple[AgentVersion, ...]:
    """Agents by name, each in its newest version, after a name."""
    with session.transaction(platform.database) as connection:
        return rows.page(connection, tenant, after=after, limit=limit)


def inputs(given: Mapping[str, Json]) -> dict[str, Json]:
    """What an agent is given, as the inputs of its workflow."""
    return {agents.input_of(name): value for name, value in given.items()}


# --- changing them ----------------------------------------------------------------------------


def enter(platform: Platform, tenant: str, data: Json, *, by: str) -> tuple[Entered, ...]:
    """Enter the agents of a file, by name; what has not changed keeps its version.

    Raises `Invalid` with every problem, and then nothing was entered.
    """
    with session.transaction(platform.database) as connection:
        return enter_within(connection, tenant, data, by=by)


def enter_within(
    connection: Connection, tenant: str, data: Json, *, by: str, strict: bool = False
) -> tuple[Entered, ...]:
    """Enter agents within a transaction. See `enter`.

    `strict`: the placeholders of a text must be its inputs, and its inputs stand in it.
    """
    found, problems = agents.read(data)
    if strict:
        problems += tuple(wrong for each in found.values() for wrong in agents.mismatched(each))
    if problems:
        raise Invalid(problems, _WRONG)
    rows.hold(connection, tenant)
    return _enter(_Sitting(connection=connection, tenant=tenant, by=by, agents=found))


def remove(platform: Platform, tenant: str, name: str, *, by: str, why: str = "") -> AgentVersion:
    """Take an agent out of the list; it as it was. Its versions stay, for the runs that use them.

    Raises `NotFound`, and `Conflict` with what uses it.
    """
    with session.transaction(platform.database) as connection:
        rows.hold(connection, tenant)
        newest = _there(connection, tenant, name)
        users = [each.name for each in _users(connection, tenant, name)]
        users += (f"workflow {each}" for each in _workflows(connection, tenant, name))
        if users:
            raise Conflict(f"{name} is used by {_listed(users)}; change or remove them first")
        rows.stand(connection, tenant, name, removed=True, by=by)
        _record(connection, tenant, "agent.remove", newest, by=by, why=why)
        return newest


def rename(
    platform: Platform, tenant: str, name: str, new: str, *, by: str, why: str = ""
) -> tuple[Entered, ...]:
    """Call an agent otherwise, with all of its versions, wherever agents name it.

    Those that do get another version; whatever was pinned before stays as it was. The agent under
    its new name, and these, by name. Raises `NotFound`, `Invalid`, and `Conflict` where the new name
    is or was another agent's, or where a workflow that is no agent's uses the old one.
    """
    asked = agents.named(new)
    if asked is None or asked.name != new:
        remedy = "use up to 100 letters, digits, _ . and -, the first a letter or _"
        raise Invalid([Problem(path="name", message=f"{new[:80]!r} is no name", remedy=remedy)])
    with session.transaction(platform.database) as connection:
        rows.hold(connection, tenant)
        newest = _there(connection, tenant, name)
        if rows.find(connection, tenant, new) is not None:
            raise Conflict(f"{new} is, or was, another agent; choose another name")
        if workflows_ := _workflows(connection, tenant, name):
            raise Conflict(
                f"{name} is used by workflow {_listed(workflows_)}, which nobody renames; "
                "change or remove it first"
            )
        moved = _moved(connection, tenant, name, new, by=by)
        users = _users(connection, tenant, name)
        rows.stand(connection, tenant, name, removed=True, by=by)
        _record(connection, tenant, "agent.rename", newest, by=by, why=why, to=new)
        sitting = _Sitting(
            connection=connection,
            tenant=tenant,
            by=by,
            agents={
                each.name: agents.entered(each.name, agents.renamed(each.definition, name, new))
                for each in users
            },
            kept={each.name: _retargeted(each.uses, name, new) for each in users},
        )
        return Entered(version=moved, changed=True), *_enter(sitting)


def _moved(connection: Connection, tenant: str, name: str, new: str, *, by: str) -> AgentVersion:
    """The newest of an agent's versions, all of which are under another name now."""
    rows.stand(connection, tenant, new, removed=False, by=by)
    moved = []
    for version in reversed(rows.versions(connection, tenant, name)):
        definition = agents.renamed(version.definition, name, new)
        sitting = _Sitting(
            connection=connection,
            tenant=tenant,
            by=by,
            agents={new: agents.entered(new, definition)},
        )
        uses = _retargeted(version.uses, name, new)
        number = (version.major, version.minor)
        found = _added(sitting, sitting.agents[new], uses, number)
        if found is None:
            raise Invalid(sitting.problems, _WRONG)
        moved.append(found)
    return moved[-1]


def _retargeted(uses: Mapping[str, str], name: str, new: str) -> dict[str, str]:
    """What steps call, under the new name of one of them."""
    found = {}
    for text, target in uses.items():
        said, called = agents.named(text), agents.named(target.partition(":")[2])
        assert said is not None
        assert called is not None
        if target.startswith("agent:") and called.name == name:
            text = replace(said, name=new).text  # noqa: PLW2901  # the other way to write it
            target = f"agent:{replace(called, name=new).text}"  # noqa: PLW2901
        found[text] = target
    return found


# --- entering ---------------------------------------------------------------------------------


def _enter(sitting: _Sitting) -> tuple[Entered, ...]:
    """Enter all agents of a sitting, each after those that it calls. Raises `Invalid`."""
    for name in _in_order(sitting.agents):
        _enter_one(sitting, sitting.agents[name])
    if sitting.problems:
        raise Invalid(sitting.problems, _WRONG)
    return tuple(sitting.done[name] for name in sorted(sitting.done))


def _in_order(batch: Mapping[str, Agent]) -> list[str]:
    """The names of agents, those that are called before those that call them, as far as that can be."""
    order: list[str] = []
    seen: set[str] = set()
    for root in sorted(batch):
        trail = [(root, iter(_called(batch, root)))] if root not in seen else []
        seen.add(root)
        while trail:
            name, calls = trail[-1]
            following = next((each for each in calls if each not in seen), None)
            if following is None:
                order.append(name)
                trail.pop()
            else:
                seen.add(following)
                trail.append((following, iter(_called(batch, following))))
    return order


def _called(batch: Mapping[str, Agent], name: str) -> list[str]:
    """The agents of a batch that one of them calls, as it is now."""
    found = (agents.named(step.agent) for step in batch[name].steps)
    return sorted({each.name for each in found if each and each.major is None} & batch.keys())


def _enter_one(sitting: _Sitting, agent: Agent) -> None:
    uses = _uses(sitting, agent)
    if uses is None:
        return
    connection, tenant = sitting.connection, sitting.tenant
    newest = rows.find(connection, tenant, agent.name)
    if newest is None:
        number = agents.FIRST
    elif newest.checksum == _checksum(agent, uses) and not newest.removed:
        sitting.done[agent.name] = Entered(version=newest, changed=False)
        return
    else:
        before = agents.entered(agent.name, newest.definition)
        number = agents.following((newest.major, newest.minor), before, agent)
    rows.stand(connection, tenant, agent.name, removed=False, by=sitting.by)
    added = _added(sitting, agent, uses, number)
    if added is not None:
        sitting.done[agent.name] = Entered(version=added, changed=True)


def _added(
    sitting: _Sitting, agent: Agent, uses: Mapping[str, str], number: Number
) -> AgentVersion | None:
    """Add a version of an agent, with what it is here; None where there are problems."""
    connection, tenant = sitting.connection, sitting.tenant
    function_version = None
    if agent.called:
        if problems := list(_code_problems(agent)):
            sitting.problems += problems
            return None
        function_version = catalogue.add_version(
            connection, tenant, _function(agent, sitting.by)
        ).version
        callees = {agent.name: _own(agent, function_version)}
    else:
        callees = {text: _callee(sitting, agent, target) for text, target in uses.items()}
    major, minor = number
    body, unwired = agents.document(agent, f"{major}.{minor}.0", callees)
    if unwired:
        sitting.problems += unwired
        return None
    try:
        coming = {agents.registered(name) for name in sitting.agents}
        published = catalogue.publish_graph(
            connection, tenant, documents.graph(body), by=sitting.by, coming=coming
        )
    except Invalid as error:
        sitting.problems += (
            replace(each, path=place(agent.name, each.path)) for each in error.problems
        )
        return None
    new = NewAgentVersion(
        name=agent.name,
        major=major,
        minor=minor,
        definition=agent.definition,
        uses=uses,
        function_version=function_version,
        version_id=published.id,
        checksum=_checksum(agent, uses),
        created_by=sitting.by,
    )
    rows.add(connection, tenant, new)
    found = rows.find(connection, tenant, agent.name, major, minor)
    assert found is not None
    _record(connection, tenant, "agent.enter", found, by=sitting.by)
    return found


def _checksum(agent: Agent, uses: Mapping[str, str]) -> str:
    return digest([dict(agent.definition), dict(uses)])


def _function(agent: Agent, by: str) -> NewFunction:
    code, name = agents.function(agent), agents.registered(agent.name)
    return NewFunction(
        namespace="function",
        name=name,
        source=code,
        description=agent.help.strip().partition("\n")[0][:500],
        parameters={
            each: {"annotation": "Any", "default": None, "required": each in agent.inputs}
            for each in agent.takes
        },
        effect="pure",
        checksum="",
        created_by=by,
    )


def _code_problems(agent: Agent) -> Iterator[Problem]:
    """What keeps the code of a proc from being registered."""
    if agent.type != "proc":
        return
    at = place(agent.name, "function_def")
    found = source.check(agent.code, name=agent.function, limit=MOST_TEXT, imports=IMPORTABLE)
    yield from (replace(each, path=at) for each in found)
    if not found and not source.defines(agent.code, agent.function):
        message = f"no function {short(agent.function)} is defined there"
        yield Problem(path=at, message=message, remedy="correct `function`, or the code")


# --- what steps call --------------------------------------------------------------------------


def _uses(sitting: _Sitting, agent: Agent) -> dict[str, str] | None:
    """What the steps of an agent call, by the text that names it; None where something is missing."""
    found: dict[str, str] = {}
    missing = False
    for index, step in enumerate(agent.steps):
        if step.agent in found:
            continue
        target = _target(sitting, agent, step.agent)
        if target is None:
            missing = True
            sitting.problems.append(
                Problem(
                    path=place(agent.name, f"steps[{index}].agent"),
                    message=f"Agent not found: {step.agent}",
                    remedy="enter it with this one, or before, or correct its name",
                )
            )
        else:
            found[step.agent] = target
    return None if missing else found


def _target(sitting: _Sitting, agent: Agent, text: str) -> str | None:
    """What a step calls: `agent:NAME@1.2`, `function:NAME@3` or `workflow:NAME@1.2.0`.

    Without a version: itself, or one that is only entered after it.
    """
    connection, tenant = sitting.connection, sitting.tenant
    asked = agents.named(text)
    assert asked is not None
    if asked.major is None and asked.name in sitting.agents:
        done = sitting.done.get(asked.name)
        if done is not None:
            return f"agent:{asked.name}@{done.version.version}"
        # What cannot be entered says so itself.
        return f"agent:{asked.name}"
    if (kept := sitting.kept.get(agent.name, {}).get(text)) is not None:
        return kept
    found = _find(connection, tenant, asked)
    if found is not None:
        return f"agent:{found.name}@{found.version}"
    return _elsewhere(connection, tenant, asked)


def _elsewhere(connection: Connection, tenant: str, asked: Named) -> str | None:
    """A function or workflow that is no agent's."""
    if asked.minor is None:
        number = functions.newest(connection, tenant, [asked.name])["function"].get(asked.name)
        if number is not None and (asked.major or 1) <= number:
            return f"function:{asked.name}@{asked.major or number}"
    wanted = numbers.asked(asked.text.partition("@")[2] or "latest")
    found = None if wanted is None else workflows.find(connection, tenant, asked.name, wanted)
    return None if found is None else f"workflow:{found.workflow}@{found.version}"


def _callee(sitting: _Sitting, agent: Agent, target: str) -> Callee:
    kind, _, text = target.partition(":")
    if kind != "agent":
        return Callee(reference=text, runs=kind == "workflow")
    asked = agents.named(text)
    assert asked is not None
    if asked.major is None:
        called = _by_name(sitting, agent, asked.name)
        return _running(called, agents.registered(called.name))
    version = rows.find(sitting.connection, sitting.tenant, asked.name, asked.major, asked.minor)
    assert version is not None
    called = agents.entered(version.name, version.definition)
    if version.function_version is not None:
        return _own(called, version.function_version)
    return _running(called, f"{agents.registered(called.name)}@{version.version}.0")


def _by_name(sitting: _Sitting, agent: Agent, name: str) -> Agent:
    """The agent on the way back of a circle, or itself."""
    if name == agent.name:
        return agent
    if name in sitting.agents:
        return sitting.agents[name]
    newest = rows.find(sitting.connection, sitting.tenant, name)
    assert newest is not None
    return agents.entered(name, newest.definition)


def _own(agent: Agent, version: int) -> Callee:
    reference = f"{agents.registered(agent.name)}@{version}"
    return Callee(reference=reference, runs=False, inputs=agent.inputs, takes=agent.takes)


def _running(agent: Agent, reference: str) -> Callee:
    return Callee(
        reference=reference,
        runs=True,
        inputs=agent.inputs,
        takes=agent.takes,
        outputs=agent.outputs,
    )


# --- who is there, and who uses whom ----------------------------------------------------------


def _find(connection: Connection, tenant: str, asked: Named) -> AgentVersion | None:
    found = rows.find(connection, tenant, asked.name, asked.major, asked.minor)
    return None if found is None or (found.removed and asked.minor is None) else found


def _there(connection: Connection, tenant: str, name: str) -> AgentVersion:
    found = rows.find(connection, tenant, name)
    if found is None or found.removed:
        raise _unknown(name)
    return found


def _unknown(name: str) -> NotFound:
    return NotFound(f"Agent not found: {name[:200]}")


def _users(connection: Connection, tenant: str, name: str) -> list[AgentVersion]:
    """The agents, but for itself, whose newest version calls an agent."""
    return [
        each
        for each in rows.page(connection, tenant, limit=None)
        if each.name != name
        and any(target.partition("@")[0] == f"agent:{name}" for target in each.uses.values())
    ]


def _workflows(connection: Connection, tenant: str, name: str) -> list[str]:
    """The workflows that are no agents' whose latest version names the function or workflow of one."""
    own = agents.registered(name)
    found = []
    for body in rows.documents_that_say(connection, tenant, own):
        graph = documents.graph(body)
        if agents.registered("") == graph.workflow[: len(agents.registered(""))]:
            continue
        if any(each.name == own for each in document.names_used(graph)):
            found.append(graph.workflow)
    return sorted(found)


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = len(found) - 20
    return ", ".join(found[:20]) + (f" and {more} more" if more > 0 else "")


def _record(
    connection: Connection,
    tenant: str,
    action: str,
    version: AgentVersion,
    *,
    by: str,
    why: str = "",
    **detail: Json,
) -> None:
    acts.record(
        connection,
        tenant,
        by=by,
        action=action,
        subject=f"agent:{version.name}@{version.version}",
        why=why,
        detail={"workflow_version": version.version_id, **detail},
        after=version.checksum,
    )
