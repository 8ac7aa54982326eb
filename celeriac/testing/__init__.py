"""Running workflows in memory: no services, no waiting, the platform's own decisions.

    from celeriac.testing import Fault, run

    def test_a_flaky_draft_is_tried_again() -> None:
        record = run(WORKFLOW, {"text": "…"}, functions={"write_draft": draft}, faults=[Fault(node="draft")])
        assert record.status == "completed"
        assert [tried.outcome for tried in record.visits("draft")[0].attempts] == ["failed", "succeeded"]

A workflow is a document as text, file or data, or a `WorkflowGraph`. The core that decides is
the one that decides on the platform, and the record holds the history it would have there.
Time stands still but for waits, which pass at once; functions are called in this process, one
after the other, and their mistakes are reported as a worker reports them. Only what is given
can be called: a test never reaches a real tool by accident.

`runner` holds the run, `performer` carries attempts out, `calls` records what tools answered,
`previous` tells a step what led to it, `fault` is what goes wrong on purpose, `record` what
comes of it all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celeriac.testing.calls import Call
from celeriac.testing.clock import EPOCH, Clock
from celeriac.testing.drive import drive
from celeriac.testing.fault import Fault
from celeriac.testing.record import Record, StepRecord, Tried
from celeriac.testing.workflow import Workflow, read
from engine.core.policy import DEFAULT, Policy

__all__ = ["EPOCH", "Call", "Clock", "Fault", "Record", "StepRecord", "Tried", "read", "run"]

#: The id of every run here: what is derived from it, such as the jitter of a retry, is the same
#: in every test.
RUN = "00000000-0000-7000-8000-000000000000"


def run(
    workflow: Workflow,
    inputs: Mapping[str, Any] | None = None,
    *,
    functions: Mapping[str, Callable[..., object]] | None = None,
    tools: Mapping[str, Callable[..., object]] | None = None,
    faults: Sequence[Fault] = (),
    policy: Policy = DEFAULT,
    clock: Clock | None = None,
) -> Record:
    """Run a workflow to its end.

    `functions` and `tools` are what it may call, by name; of a `WorkflowGraph` its own
    functions too, where none is given in their place. Raises `Invalid` when the document, a
    name in it or the inputs are wrong.
    """
    graph, own = read(workflow)
    return asyncio.run(
        drive(
            graph,
            inputs or {},
            run=RUN,
            functions={**own, **(functions or {})},
            tools=tools or {},
            faults=faults,
            policy=policy,
            clock=clock or Clock(),
        )
    )
