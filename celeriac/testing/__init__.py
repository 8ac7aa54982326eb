"""Running workflows in memory: no services, no waiting, the platform's own decisions.

    from celeriac.testing import Fault, run

    def test_a_flaky_draft_is_tried_again() -> None:
        record = run(WORKFLOW, {"text": "…"}, functions={"write_draft": draft}, faults=[Fault(node="draft")])
        assert record.status == "completed"
        assert [tried.outcome for tried in record.visits("draft")[0].attempts] == ["failed", "succeeded"]

A workflow is a document as text, file or data, or a `WorkflowGraph`. The core that decides is
the one that decides on the platform, and the record holds the history it would have there.
Functions are called in this process, one after the other, and their mistakes are reported as a
worker reports them. Only what is given can be called: a test never reaches a real tool by
accident.

**Time** stands still but for waits, which pass at once: when nothing else can happen, the clock
is set forward to the next moment that somebody waits for.

**Other runs** that its nodes start are of the workflows given by name. Each has its record, in
`children`.

**People and the outside** do what the test says beforehand, each act once, as soon as it can be
done, or some seconds after that:

    record = run(
        WORKFLOW,
        acts=[
            Answered("accept", "reject"),
            Answered("accept", "approve", by="ada", after=3600),
            Sent("paid", {"cents": 100}, match={"order": 7}, at="pay"),
            RolledBack(at="pack#2", to="pay#1"),
            Cancelled(at="pack#3", compensate=True),
        ],
    )

What the platform would refuse, an answer that does not fit, say, is raised here. If nothing in
the test ends a wait, the run stays `running`, and the record says what it is `waiting` for; the
acts for which there was no occasion are `unused`.

**One node alone** runs by `node(WORKFLOW, "grade", {"draft": "…"}, functions={…})`.

**Tests in documents** are run by `cases`, from the command line (`celeriac test`) and by pytest, for which
`celeriac.pytest_plugin` has fixtures and collects them.

**Recorded runs** of a platform are decided anew, each as one test:

    from celeriac.testing import replay

    def test_what_was_decided_then_is_decided_now() -> None:
        replay("tests/runs/order-with-a-refund.run")  # celeriac export RUN -o FILE

It fails with the first line that this release would decide otherwise, and what it would decide.

`runner` holds the loop, `memory` what lies in the database elsewhere, `turns` and `requests`
what a turn does there, `outside` does the `acts`, `performer` carries attempts out, `calls`
records what tools answered, `fakes` answer in their place, `previous` tells a step what led to it,
`recorded` replays files, `fault` is what goes wrong on purpose, `record` what comes of it all.
`suites` reads the files whose tests `cases` runs and `expectations` judge, `supplies` finds the code
that these do not fake, `walls` stand around it, `reports` tell what came of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from celeriac.testing.acts import (
    Act,
    Added,
    Answered,
    Cancelled,
    Completed,
    Paused,
    Resumed,
    RolledBack,
    Sent,
    Skipped,
)
from celeriac.testing.calls import Call
from celeriac.testing.clock import EPOCH, Clock
from celeriac.testing.drive import drive
from celeriac.testing.fakes import Fakes
from celeriac.testing.fault import Fault
from celeriac.testing.record import Record, StepRecord, Tried, Waiting
from celeriac.testing.recorded import Diverged
from celeriac.testing.recorded import replayed as replay
from celeriac.testing.workflow import Workflow, read
from engine.core.graph import Join, NodeId
from engine.core.policy import DEFAULT, Policy
from engine.core.problem import Problem
from engine.core.section import suggestion
from engine.errors import Invalid

__all__ = [
    "EPOCH",
    "Act",
    "Added",
    "Answered",
    "Call",
    "Cancelled",
    "Clock",
    "Completed",
    "Diverged",
    "Fakes",
    "Fault",
    "Paused",
    "Record",
    "Resumed",
    "RolledBack",
    "Sent",
    "Skipped",
    "StepRecord",
    "Tried",
    "Waiting",
    "node",
    "read",
    "replay",
    "run",
]

#: The id of every run here: what is derived from it, such as the jitter of a retry, is the same
#: in every test.
RUN = "00000000-0000-7000-8000-000000000000"


def run(
    workflow: Workflow,
    inputs: Mapping[str, Any] | None = None,
    *,
    functions: Mapping[str, Callable[..., object]] | None = None,
    tools: Mapping[str, Callable[..., object]] | None = None,
    nodes: Mapping[str, Callable[..., object]] | None = None,
    workflows: Mapping[str, Workflow] | None = None,
    acts: Sequence[Act] = (),
    faults: Sequence[Fault] = (),
    policy: Policy = DEFAULT,
    clock: Clock | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Record:
    """Run a workflow as far as it goes: to its end, or until nothing ends its waits.

    `functions` and `tools` are what it may call, `workflows` what it may run, by name; what stands in
    `nodes` is called with the state in place of a node's own work, and answers what that comes to. Of a
    `WorkflowGraph` its own functions too, where none is given in their place; `secrets` is what
    `$env.NAME` stands for, granted to all and hidden from nobody. Raises `Invalid` when a document, a name in it or the inputs are wrong, or an act does not fit; `Forbidden` for
    an answer of somebody who is not asked, `Conflict` for a second one.
    """
    graph, own = read(workflow)
    others = {name: read(other) for name, other in (workflows or {}).items()}
    theirs = {name: each for _, brought in others.values() for name, each in brought.items()}
    return asyncio.run(
        drive(
            graph,
            inputs or {},
            run=RUN,
            functions={**theirs, **own, **(functions or {})},
            tools=tools or {},
            nodes=nodes,
            workflows={name: other for name, (other, _) in others.items()},
            acts=acts,
            faults=faults,
            policy=policy,
            clock=clock or Clock(),
            secrets=secrets,
        )
    )


def node(
    workflow: Workflow,
    name: str,
    variables: Mapping[str, Any] | None = None,
    *,
    functions: Mapping[str, Callable[..., object]] | None = None,
    tools: Mapping[str, Callable[..., object]] | None = None,
    workflows: Mapping[str, Workflow] | None = None,
    acts: Sequence[Act] = (),
    faults: Sequence[Fault] = (),
    policy: Policy = DEFAULT,
    clock: Clock | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Record:
    """Run one node of a workflow alone, once, with these variables; see `run`.

    Its retries, its time-out, its `save` and the reducers of variables are as in the workflow. What leads to it, and
    what it leads to, is not there: `$steps` is null, a join waits for nobody, and a choice has no effect.
    """
    graph, own = read(workflow)
    found = graph.nodes.get(NodeId(name))
    if found is None:
        problem = Problem(
            path=f"nodes.{name}",
            message=f"there is no node {name}",
            remedy=suggestion(name, graph.nodes) or f"they are {', '.join(graph.nodes)}",
        )
        raise Invalid([problem], f"workflow {graph.workflow} has no such node")
    alone = replace(
        graph,
        start=found.id,
        nodes={found.id: replace(found, join=Join(), cancels=(), choose=None)},
        edges=(),
        variables={**graph.variables, **(variables or {})},
        inputs={},
        outputs={},
        listing=None,
    )
    return run(
        alone,
        functions={**own, **(functions or {})},
        tools=tools,
        workflows=workflows,
        acts=acts,
        faults=faults,
        policy=policy,
        clock=clock,
        secrets=secrets,
    )
