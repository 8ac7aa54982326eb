"""The end of a map: the results of its items, put together in their order."""

from __future__ import annotations

from engine.runs import gathered
from engine.runs.attempts import Outcome, Succeeded
from workers.kinds.execution import Execution, saved


def run(execution: Execution) -> Outcome:
    """A list with the result of each item; null for those that failed or were let go."""
    count = execution.lease.items or 0
    found = gathered.items(execution.platform, execution.lease.step, count)
    return saved(execution, Succeeded(result=found))
