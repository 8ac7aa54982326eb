"""How each kind of node runs: one file per kind, one function of one shape.

A kind gets an `Execution` and returns an outcome. It leases nothing, reports nothing and
writes nothing to the run: what a step leaves is in its outcome. What reaches outside of the
platform goes by `Execution.call`, which asks whether it may, and records it. Installed packages
bring further kinds (`engine.kinds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine import kinds
from engine.runs.attempts import Outcome
from workers.kinds import (
    function,
    llm,
    map,  # noqa: A004  # named for its kind
    proc,
    service,
    template,
    tool,
)
from workers.kinds.execution import Execution

Kind = Callable[[Execution], Outcome]

KINDS: Mapping[str, Kind] = {
    "function": function.run,
    "http": service.run,
    "llm": llm.run,
    "map": map.run,
    "proc": proc.run,
    "sql": service.run,
    "template": template.run,
    "tool": tool.run,
}


def find(kind: str) -> Kind | None:
    """What carries a kind out; None where it is not known here."""
    return KINDS.get(kind) or kinds.load(kind)
