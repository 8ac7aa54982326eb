"""Documents, and files of agents, whose tests can be run, with what they bring along.

with Walls() as walls:
    for suite in of_text(Path("triage.yaml").read_text()):
        for checked in run(suite, Given(walls=walls)): …
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from celeriac.testing.cases import Checked, check_all
from celeriac.testing.supplies import Given, Several, Supply
from celeriac.testing.walls import Walls
from engine import cases, documents, reading
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.values import Json
from engine.errors import Invalid
from engine.formats import agent as agents
from engine.formats.agent import Agent, Callee
from engine.formats.agent.definition import place


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tests of one workflow."""

    graph: Graph
    #: What of an agent's `run_config` cannot be read.
    unread: tuple[Problem, ...] = ()
    #: The source of the functions that its file brings, by name.
    sources: Mapping[str, str] = field(default_factory=dict)
    #: The workflows that it brings, by name.
    workflows: Mapping[str, Graph] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tests."""
        return tuple(self.graph.tests)


def of_text(text: str) -> tuple[Suite, ...]:
    """The suites of a file: of a workflow one, of agents one each. Raises `Invalid`."""
    found = reading.read(text)
    try:
        if isinstance(found.data, dict) and "agents" in found.data:
            return of_agents(found.data)
        return (Suite(graph=documents.graph(found.data)),)
    except Invalid as invalid:
        raise Invalid(found.located(invalid.problems)) from None


def of_agents(data: Json) -> tuple[Suite, ...]:
    """The suites of a file of agents, each of which may call the others. Raises `Invalid`."""
    every, problems = agents.read(data)
    if problems:
        raise Invalid(problems, "the agents cannot be read")
    sources = {
        agents.registered(name): agents.function(each)
        for name, each in every.items()
        if each.called
    }
    found: list[Problem] = []
    graphs: dict[str, Graph] = {}
    for name, each in every.items():
        body, unwired = agents.document(each, "1.0.0", _callees(each, every))
        found += unwired
        try:
            graphs[name] = documents.graph(body)
        except Invalid as error:
            found += (replace(one, path=place(name, one.path)) for one in error.problems)
    if found:
        raise Invalid(found, "the agents cannot be read")
    workflows = {graph.workflow: graph for graph in graphs.values()}
    return tuple(
        replace(of_agent(each, graphs[name]), sources=sources, workflows=workflows)
        for name, each in every.items()
    )


def of_agent(agent: Agent, graph: Graph) -> Suite:
    """The suite of an agent, given its workflow: the tests of that, and those of its `run_config`."""
    recorded, problems = agents.recorded(agent, agents.input_of)
    whole = replace(graph, tests={**graph.tests, **recorded})
    wrong = [
        problem
        for case in cases.read(whole)[0]
        if case.name in recorded
        for problem in documents.input_problems(
            graph, case.inputs, path=f"run_config.last_inputs (test {case.name})"
        )
    ]
    return Suite(graph=whole if not wrong else graph, unread=(*problems, *wrong))


def run(suite: Suite, walls: Walls, *more: Supply) -> Iterator[Checked]:
    """Run the tests of a suite, in their order; what they do not fake its file brings, else `more`."""
    own = Given(walls=walls, sources=suite.sources, workflows=suite.workflows)
    for problem in suite.unread:
        yield Checked(
            workflow=suite.graph.workflow,
            name=problem.path,
            outcome="broken",
            problems=(f"{problem.path}: {problem.message}; {problem.remedy}",),
        )
    # Of a platform's workflows, which it may run, somebody else may have written the templates.
    yield from check_all(suite.graph, Several((own, *more)), walls.template)


def workflows(suites: Iterable[Suite]) -> dict[str, Graph]:
    """The workflows of some suites by name: those of one may run those of another."""
    return {suite.graph.workflow: suite.graph for suite in suites}


def _callees(agent: Agent, every: Mapping[str, Agent]) -> dict[str, Callee]:
    """What the steps of an agent call, by the text that names it; its own function by its name."""
    if agent.called:
        return {agent.name: _callee(agent)}
    found: dict[str, Callee] = {}
    for step in agent.steps:
        asked = agents.named(step.agent)
        known = every.get(asked.name) if asked is not None else None
        # What another file brings is looked for by its own name.
        elsewhere = Callee(reference=step.agent, runs=False)
        found[step.agent] = elsewhere if known is None else _callee(known)
    return found


def _callee(agent: Agent) -> Callee:
    return Callee(
        reference=agents.registered(agent.name),
        runs=not agent.called,
        inputs=agent.inputs,
        takes=agent.takes,
        outputs=() if agent.called else agent.outputs,
    )
