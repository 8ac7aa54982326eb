"""Reading and writing the steps of a document that is a list of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from engine.core import expressions, tape
from engine.core.document import vocabulary as words
from engine.core.document.names import misnamed, templates
from engine.core.graph import Child, Edge, EdgeId, Graph, Listing, Node, NodeId, Role
from engine.core.section import Section
from engine.core.values import Json

#: The node between two steps. No step is named so: their names begin with their index.
INDEX = Node(id=NodeId(tape.INDEX), kind="index", role=Role.CONTROL)
#: What a list without variables of its own begins with.
TAPE: Mapping[str, Json] = {tape.INDEX: 0}

_NAME_CHARACTERS = 64


def listed(top: Section, whole: Graph) -> Graph | None:
    """The graph of a list of steps, given what its document says beside them; None if there are
    none to speak of.
    """
    given = top.fields["steps"]
    if not (isinstance(given, list) and 0 < len(given) <= words.MAX_NODES):
        wanted = f"1 to {words.MAX_NODES} steps: [{{agent: NAME, params: {{}}, output: []}}]"
        top.wrong("steps", given, wanted)
        return None
    _own_names(top, whole)
    workflows = _workflows(top)
    steps = [_step(top, place, entry, workflows) for place, entry in enumerate(given)]
    for agent in sorted(workflows - {_called(step) for step in steps}):
        top.fail("workflows", f"no step has the agent {agent}", "leave it out")
    places = {str(step.id): f"steps[{place}]" for place, step in enumerate(steps)}
    to = [_edge(INDEX.id, step.id) for step in steps]
    back = [_edge(step.id, INDEX.id) for step in steps]
    for edges in (to, back):
        places |= {str(edge.id): places[step.id] for edge, step in zip(edges, steps, strict=True)}
    return replace(
        whole,
        start=INDEX.id,
        nodes={node.id: node for node in (INDEX, *steps)},
        edges=(*to, *back),
        variables={**TAPE, **whole.variables},
        types={tape.INDEX: dict(tape.INDEX_TYPE), **whole.types},
        listing=Listing(
            index=INDEX.id,
            steps=tuple(step.id for step in steps),
            return_on_fail=top.flag("return_on_fail", default=True),
        ),
        places=places,
    )


def write_steps(graph: Graph, listing: Listing) -> list[Json]:
    """The steps of a graph that was made from a list of them."""
    return [_write_step(graph.nodes[step]) for step in listing.steps]


def write_workflows(graph: Graph, listing: Listing) -> list[Json]:
    """The agents of a list that are workflows."""
    steps = (graph.nodes[step] for step in listing.steps)
    return [*sorted({_called(step) for step in steps if isinstance(step.wait, Child)})]


def _own_names(top: Section, whole: Graph) -> None:
    inputs = whole.inputs.get("properties", {})
    assert isinstance(inputs, dict)
    for field, declared in (("inputs", inputs), ("variables", whole.variables)):
        for name in sorted(tape.NAMES & declared.keys()):
            top.fail(f"{field}.{name}", f"${name} is the list's own", "choose another name")


def _step(top: Section, place: int, entry: Json, workflows: Collection[str]) -> Node:
    section = Section(entry, f"steps[{place}]", top.problems)
    section.known(words.STEP)
    runs = section.fields.get("agent") in workflows
    agent = _agent(section)
    return Node(
        id=_name(place, agent),
        kind="workflow" if runs else "proc",
        uses=None if runs else agent,
        wait=Child(workflow=agent) if runs else None,
        inputs=_params(section),
        output=_output(section),
        save=_save(section, runs=runs),
    )


def _workflows(top: Section) -> frozenset[str]:
    """The agents that are workflows; the others are functions."""
    given = top.fields.get("workflows", [])
    names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    if not isinstance(given, list) or len(names) < len(given) or len(set(names)) < len(names):
        top.wrong("workflows", given, "a list of agents that are workflows: [NAME, NAME@1]")
    return frozenset(names)


def _called(step: Node) -> str:
    """The agent of a step as it stands in the document."""
    return step.wait.workflow if isinstance(step.wait, Child) else str(step.uses)


def _agent(section: Section) -> str:
    """The function or workflow that a step calls."""
    if "agent" not in section.fields:
        section.fail("agent", "the step names no agent", "write agent: NAME")
    found = section.text("agent", words.WORKFLOW, "a name, or a name and its version: NAME@3")
    return found or "?"


def _params(section: Section) -> expressions.Template:
    """What the step gives its agent, by name."""
    params = section.section("params")
    for name in params.fields:
        if wrong := misnamed(params.at(name), name, reserved=()):
            params.problems.append(wrong)
        elif name == "output":
            params.fail(name, "an agent is told the step's own output by that name", "leave it out")
    found = section.template("params") if params.fields else expressions.template({})
    if isinstance(found.source, dict) and (names := tape.circular(found)):
        message = f"{', '.join(names)} are made from one another"
        section.fail("params", message, "leave one of them to an earlier step")
    return found


def _output(section: Section) -> tuple[str, ...]:
    """The names by which the step leaves what its agent answers."""
    given = section.fields.get("output", [])
    if not (
        isinstance(given, list)
        and len(given) <= words.MAX_OUTPUT
        and all(isinstance(name, str) for name in given)
    ):
        wanted = f"a list of up to {words.MAX_OUTPUT} names"
        section.wrong(section.at("output"), given, wanted)
        return ()
    names = tuple(str(name) for name in given)
    wrong = (misnamed(section.at(f"output[{i}]"), name) for i, name in enumerate(names))
    section.problems += filter(None, wrong)
    return names


def _save(section: Section, *, runs: bool) -> dict[str, expressions.Template]:
    """What the step leaves of the outputs of a workflow, where it is not just these."""
    if "save" in section.fields and not runs:
        section.fail("save", "the agent is no workflow", "name what it leaves in `output`")
    elif "save" in section.fields and section.fields.get("output"):
        section.fail("save", "`output` says already what the step leaves", "keep one of them")
    return templates(section, "save")


def _name(place: int, agent: str) -> NodeId:
    """What a step is called: its index and its agent."""
    said = re.sub(r"[^A-Za-z0-9_. -]", "_", agent.partition("@")[0])
    return NodeId(f"{place} {said}"[:_NAME_CHARACTERS].rstrip())


def _edge(source: NodeId, target: NodeId) -> Edge:
    return Edge(id=EdgeId(f"{source}->{target}"), source=source, target=target)


def _write_step(step: Node) -> dict[str, Json]:
    params: Json = step.inputs.source if step.inputs is not None else None
    written: dict[str, Json] = {"agent": _called(step)}
    if params:
        written["params"] = params
    if step.output:
        written["output"] = [*step.output]
    if step.save:
        written["save"] = {name: template.source for name, template in step.save.items()}
    return written
