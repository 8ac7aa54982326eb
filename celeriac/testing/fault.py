"""What shall go wrong: faults put in the way of a run in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celeriac.testing.runner import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Attempts of a node that fail, whatever its function does."""

    #: What a map does with an item is the node `MAP/item`, what undoes a node is `NODE/undo`.
    node: str
    #: Which attempt; None means every one.
    attempt: int | None = 1
    #: Which visit; None means every one.
    iteration: int | None = None
    #: Which item of a map, from 0; None means every one.
    item: int | None = None
    #: `error, timeout, memory, cpu, killed, output_too_large`, or `lost` for a worker that dies.
    reason: str = "error"
    message: str = "a fault was injected"
    #: Trying again cannot help.
    terminal: bool = False
    #: The function is called first: its effects have happened when the attempt fails.
    after: bool = False

    def hits(self, attempt: Attempt) -> bool:
        """Whether it is in the way of an attempt."""
        return (
            attempt.node.id == self.node
            and self.attempt in (None, attempt.attempt)
            and self.iteration in (None, attempt.iteration)
            and self.item in (None, attempt.item)
        )


def hitting(faults: Sequence[Fault], attempt: Attempt) -> Fault | None:
    """The first fault in the way of an attempt."""
    return next((fault for fault in faults if fault.hits(attempt)), None)
