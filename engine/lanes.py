"""Lanes: the Celery queues that one queue of the platform is made of, so that no tenant waits for another.

A queue is read from its front. Were there one for all, a tenant with a thousand steps that are ready
would keep everybody else's waiting for a thousand others. So each queue is several, its lanes, and
workers take from them in turn. A tenant's steps go into the lane that holds others of his already, else
into the one that holds the fewest (`engine.store.steps`, which keeps the lane with the step): as long as
there are as many lanes as busy tenants, each has one of his own. Where nobody is busy all is in the first
lane, which is named as the queue is. Nor do tenants wait for the steps of others to end: a worker spares a thread
for those of whom it carries nothing out (`workers.relief`).

What a lane should hold stands in the rows: a message for every step in it that is ready, up to `FULL`.
What lies beyond that waits in its row, and is sent as the lane empties, one tenant's as often as another's.
What is missing is sent again (`missing`): the length of the queue says how much, so that nothing piles up
where nobody takes it, and what a broker has lost does not wait for its turn.
"""

from __future__ import annotations

#: Lanes of each queue: so many tenants may flood it before two meet.
LANES = 8
#: Messages that a lane holds at the most, repeated ones included.
FULL = 1_000
#: Steps that are marked as waiting where their messages are all there, to tell who hears none
#: (`workers.watchdog`).
MARKED = 10

# No queue of a document is named so.
_SEPARATOR = ":"


def name(queue: str, lane: int) -> str:
    """The Celery queue that a lane is."""
    return f"{queue}{_SEPARATOR}{lane}" if lane else queue


def names(queue: str) -> tuple[str, ...]:
    """The Celery queues that a queue is made of."""
    return tuple(name(queue, lane) for lane in range(LANES))


def missing(ready: int, length: int) -> int:
    """How many messages a lane lacks, of so many steps that are ready in it."""
    return max(0, min(ready, FULL) - length)
