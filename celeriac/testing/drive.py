"""The loop of a run in memory: what the runner yields, the performer carries out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from celeriac.testing import runner, workflow
from celeriac.testing.acts import Act
from celeriac.testing.clock import Clock
from celeriac.testing.fault import Fault
from celeriac.testing.performer import Performer, Render
from celeriac.testing.record import Record
from engine.core.graph import Graph
from engine.core.policy import DEFAULT, Policy
from engine.core.values import Json
from engine.errors import Invalid


async def drive(
    graph: Graph,
    inputs: Mapping[str, Json],
    *,
    run: str,
    functions: Mapping[str, Callable[..., object]],
    tools: Mapping[str, Callable[..., object]],
    clock: Clock,
    nodes: Mapping[str, Callable[..., object]] | None = None,
    faults: Sequence[Fault] = (),
    policy: Policy = DEFAULT,
    by: str = "local",
    workflows: Mapping[str, Graph] | None = None,
    acts: Sequence[Act] = (),
    secrets: Mapping[str, str] | None = None,
    render: Render | None = None,
) -> Record:
    """Run a graph as far as it goes. Raises `Invalid` when a name or the inputs are wrong."""
    if problems := workflow.missing(graph, functions, tools, workflows or {}, nodes or {}):
        raise Invalid(problems, "the workflow names what is not given")
    performer = Performer(
        functions=functions,
        tools=tools,
        nodes=nodes,
        faults=faults,
        secrets=secrets,
        render=render,
    )
    play = runner.play(
        graph, inputs, run=run, by=by, policy=policy, clock=clock, workflows=workflows, acts=acts
    )
    try:
        attempt = next(play)
        while True:
            attempt = play.send(await performer.perform(attempt))
    except StopIteration as end:
        return _called(end.value, performer)


def _called(record: Record, performer: Performer) -> Record:
    """A record with the calls of its run, and those of the runs that it started."""
    return replace(
        record,
        calls=tuple(performer.calls[record.state.run]),
        children=tuple(_called(child, performer) for child in record.children),
    )
