"""What a run remembers for its rules: the laps of its nodes, the extremes of what it used.

    {"measures": {metric: [count, sum, max, min, last]}, "laps": {rule id: what it looks back on}}

It begins when the first rule that remembers is in force, and what a rule has remembered goes
with the rule. It is bounded: 64 digests or so many numbers of at most 16 nodes a rule, and 100
metrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from engine.core.values import Json
from engine.guardrails.verdicts import Memory
from engine.guardrails.vocabulary import MAX_LAPS, Aggregate

#: Nodes that a rule looks back on, those that reported last.
MAX_NODES = 16
MAX_MEASURES = 100


class Book:
    """A run's memory while one moment is judged."""

    def __init__(self, memory: Memory, remembering: Collection[str]) -> None:
        self._memory = memory
        self._changed = False
        measures, laps = memory.get("measures"), memory.get("laps")
        self._measures: dict[str, Json] = dict(measures) if isinstance(measures, dict) else {}
        self._laps: dict[str, Json] = {
            each: kept
            for each, kept in (laps.items() if isinstance(laps, dict) else ())
            if each in remembering
        }

    def measure(self, usage: Mapping[str, Decimal], metrics: Iterable[str]) -> None:
        """Take down what an execution used of some metrics."""
        for metric in sorted(metrics):
            if metric not in usage or (
                metric not in self._measures and len(self._measures) >= MAX_MEASURES
            ):
                continue
            value = usage[metric]
            count, total, most, least, _ = self._figures(metric) or (0, Decimal(0), value, value, 0)
            figures = (count + 1, total + value, max(most, value), min(least, value), value)
            self._measures[metric] = [str(each) for each in figures]
            self._changed = True

    def aggregate(self, metric: str, aggregate: Aggregate) -> Decimal | None:
        """What the run has used of a metric, put together so; None: nothing was reported."""
        figures = self._figures(metric)
        if figures is None:
            return None
        count, total, most, least, last = figures
        return {
            "count": count,
            "sum": total,
            "max": most,
            "min": least,
            "last": last,
            "avg": total / count,
        }[aggregate]

    def state(self, rule: str, node: str, state: str) -> int:
        """Take down that a node left a state, and say how often it has."""
        kept = self._laps.get(rule)
        digest = hashlib.sha256(f"{node}\0{state}".encode()).hexdigest()[:16]
        states = [*(kept if isinstance(kept, list) else []), digest][-MAX_LAPS:]
        self._laps[rule] = states
        self._changed = True
        return states.count(digest)

    def lap(self, rule: str, node: str, value: Decimal, most: int) -> list[Decimal]:
        """Take down the figure of a node's lap, and say those of its last laps, this one last."""
        nodes = _nodes(self._laps.get(rule))
        figures = [*nodes.pop(node, ()), str(value)][-most:]
        nodes[node] = figures
        self._laps[rule] = [[name, [*told]] for name, told in [*nodes.items()][-MAX_NODES:]]
        self._changed = True
        return [Decimal(str(each)) for each in figures]

    def written(self) -> Memory:
        """The memory as it is now; the one that was handed in, if nothing was taken down."""
        if not self._changed:
            return self._memory
        return {"measures": self._measures, "laps": self._laps}

    def _figures(self, metric: str) -> tuple[Decimal, Decimal, Decimal, Decimal, Decimal] | None:
        kept = self._measures.get(metric)
        if not isinstance(kept, list):
            return None
        count, total, most, least, last = (Decimal(str(each)) for each in kept)
        return count, total, most, least, last


def _nodes(kept: Json) -> dict[str, list[Json]]:
    """The figures of each node's laps, the one that reported last being last.

    As pairs: what is an object is written in the order of its names, as it was until now.
    """
    pairs = kept.items() if isinstance(kept, dict) else kept if isinstance(kept, list) else ()
    return {
        name: told
        for name, told in (pair for pair in pairs if isinstance(pair, list | tuple))
        if isinstance(name, str) and isinstance(told, list)
    }


def slope(figures: list[Decimal]) -> Decimal:
    """By how much figures grow from one to the next: that of the line of least squares."""
    middle = Decimal(len(figures) - 1) / 2
    away = [index - middle for index in range(len(figures))]
    return sum((each * value for each, value in zip(away, figures, strict=True)), Decimal(0)) / sum(
        (each * each for each in away), Decimal(0)
    )
