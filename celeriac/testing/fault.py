"""What shall go wrong: faults put in the way of a run in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.core.messages import StepKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Attempts of a node that fail, whatever its function does."""

    node: str
    #: Which attempt; None means every one.
    attempt: int | None = 1
    #: Which visit; None means every one.
    iteration: int | None = None
    #: `error, timeout, memory, cpu, killed, output_too_large`, or `lost` for a worker that dies.
    reason: str = "error"
    message: str = "a fault was injected"
    #: Trying again cannot help.
    terminal: bool = False
    #: The function is called first: its effects have happened when the attempt fails.
    after: bool = False

    def hits(self, node: str, iteration: int, attempt: int) -> bool:
        return (
            node == self.node
            and self.attempt in (None, attempt)
            and self.iteration in (None, iteration)
        )


def hitting(faults: Sequence[Fault], step: StepKey, attempt: int) -> Fault | None:
    """The first fault in the way of an attempt."""
    node, _, iteration = step.rpartition("#")
    return next((fault for fault in faults if fault.hits(node, int(iteration), attempt)), None)
