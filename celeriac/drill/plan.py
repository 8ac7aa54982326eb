"""What is done to the platform, and when: drawn from a seed, the same every time.

There are two kinds of faults. *Blows* end a process or a server, or take one away for a while; they
come one after the other, a few seconds apart. *Pricks* are a message more or a connection less; they
come by the dozen every second. What each hits is drawn by its own number.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

#: Ends a process, a server, or a part of what is between them.
BLOWS: Final = (
    "worker-kill",
    "coordinator-kill",
    "web-kill",
    "beat-kill",
    "broker-flush",
    "broker-restart",
    "broker-mute",
    "postgres-restart",
    "slow-network",
    "clock-skew",
    "worker-stall",
    "disk-full",
    "deploy",
)
#: Counts singly, and is done by the dozen.
PRICKS: Final = ("duplicate-delivery", "connection-cut")
KINDS: Final = (*BLOWS, *PRICKS)

#: Seconds between two blows, at the least and at the most.
BETWEEN: Final = (1.5, 4.5)
#: Pricks of each kind in a second, where both are asked for.
DENSITY: Final = {"duplicate-delivery": 16.0, "connection-cut": 5.0}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: when, in seconds from the start of the drill, which, and what decides what it hits."""

    at: float
    kind: str
    draw: int


def plan(
    kinds: Sequence[str], *, seconds: float, seed: int, between: tuple[float, float] = BETWEEN
) -> tuple[Fault, ...]:
    """The faults of a drill, in the order of their times; `between`: two blows, as `BETWEEN`."""
    # A generator for each kind of fault: one more kind does not move all others.
    blows = random.Random(f"{seed} blows")  # noqa: S311  # no secret
    found = [*_blows([kind for kind in BLOWS if kind in kinds], seconds, blows, between)]
    for kind in PRICKS:
        if kind in kinds:
            found += _pricks(kind, seconds, random.Random(f"{seed} {kind}"))  # noqa: S311
    return tuple(sorted(found))


def _blows(
    kinds: Sequence[str], seconds: float, rng: random.Random, between: tuple[float, float]
) -> Iterator[Fault]:
    """Every kind in turn, in an order that is drawn anew each time round."""
    at = rng.uniform(0, between[0])
    turn: list[str] = []
    while kinds and at < seconds:
        if not turn:
            turn = rng.sample(kinds, len(kinds))
        yield Fault(round(at, 3), turn.pop(), rng.getrandbits(32))
        at += rng.uniform(*between)


def _pricks(kind: str, seconds: float, rng: random.Random) -> Iterator[Fault]:
    """So many in a second, in bursts."""
    at = 0.0
    while at < seconds:
        burst = rng.randint(1, 6)
        for _ in range(burst):
            yield Fault(round(at, 3), kind, rng.getrandbits(32))
        at += burst / DENSITY[kind] * rng.uniform(0.5, 1.5)
