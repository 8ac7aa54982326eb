"""How each kind of node runs: one file per kind, one function of one shape.

A kind gets an `Execution` and returns an outcome. It leases nothing, reports nothing and
writes nothing to the run: what a step leaves is in its outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.runs.attempts import Outcome
from workers.kinds import function, map, proc, tool  # noqa: A004  # named for its kind
from workers.kinds.execution import Execution

Kind = Callable[[Execution], Outcome]

KINDS: Mapping[str, Kind] = {
    "function": function.run,
    "map": map.run,
    "proc": proc.run,
    "tool": tool.run,
}
