"""The loop of a run in memory: what the runner yields, the performer carries out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from celeriac.testing import runner, workflow
from celeriac.testing.clock import Clock
from celeriac.testing.fault import Fault
from celeriac.testing.performer import Performer
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
    faults: Sequence[Fault] = (),
    policy: Policy = DEFAULT,
    by: str = "local",
) -> Record:
    """Run a graph to its end. Raises `Invalid` when a name or the inputs are wrong."""
    if problems := workflow.missing(graph, functions, tools):
        raise Invalid(problems, "the workflow names what is not given")
    performer = Performer(functions=functions, tools=tools, faults=faults)
    play = runner.play(graph, inputs, run=run, by=by, policy=policy, clock=clock)
    try:
        attempt = next(play)
        while True:
            attempt = play.send(await performer.perform(attempt))
    except StopIteration as end:
        record: Record = end.value
        return replace(record, calls=tuple(performer.calls))
