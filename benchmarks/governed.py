"""What ten rules and a budget cost a step, beside none.

One fleet, as an operator starts it, carries out the same runs with the policy in force and without
it, in turns: A B A B. A ratio is taken of each pair, and of pairs the median is shown. The rules are
of every family that a step meets; none of them fires. Every step has an estimate, so that with the
policy each sets money aside and settles it. Installed code is the step: the sandbox, which would hide
the difference, is as quick as it gets.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import fleet
from benchmarks.fleet import Fleet
from benchmarks.servers import Servers
from benchmarks.workloads import Figures, Run
from engine.core.values import Json

POLICY: Mapping[str, Json] = {
    "policy": "benchmark",
    "rules": [
        "sum(tokens_used) > 1 000 000 → abort_lifetime",
        "sum(cost_usd) > 1 000 → pause_lifetime",
        "per user per hour: sum(cost_usd) > 1 000 000 → reject_execution",
        "per tenant per day: sum(cost_usd) > 1 000 000 → reject_execution",
        "steps > 100 000 → abort_lifetime",
        "seconds > 86 400 → pause_lifetime",
        "parallelism > 1 000 → reject_execution",
        {"tool": "delete_*", "action": "deny"},
        {"content": {"matches": "(?i)ignore all previous", "in": ["result"]}, "action": "deny"},
        {"no_progress": {"repeated_state": 64}, "action": "abort_lifetime"},
    ],
    "budgets": [
        {
            "name": "day",
            "scope": "tenant",
            "window": "day",
            "metric": "cost_usd",
            "limit": 1_000_000,
        }
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    pairs: int
    chain: int
    runs: int
    steps: int


WHOLE = Size(pairs=7, chain=100, runs=60, steps=10)
QUICK = Size(pairs=1, chain=5, runs=3, steps=3)


def measure(servers: Servers, size: Size) -> Figures:
    """The cost of a step with and without a policy, and the ratios of the two."""
    pairs: list[tuple[Figures, Figures]] = []
    with fleet.started(servers, worker_turns=False) as running:
        _costs(running, size)  # the first of everything
        with _in_force(running):
            _costs(running, size)
        for _ in range(size.pairs):
            without = _costs(running, size)
            with _in_force(running):
                governed = _costs(running, size)
            pairs.append((without, governed))
    found: dict[str, float] = {"pairs": len(pairs)}
    for name in pairs[0][0]:
        found[f"{name}_without"] = statistics.median(one[name] for one, _ in pairs)
        found[f"{name}_governed"] = statistics.median(two[name] for _, two in pairs)
        found[f"{name}_ratio"] = statistics.median(two[name] / one[name] for one, two in pairs)
    return found


def _costs(running: Fleet, size: Size) -> Figures:
    chain, many = (_version(running, steps) for steps in (size.chain, size.steps))
    one = running.ended(*running.submit(chain))
    _check([one], size.chain)
    runs = [running.ended(*sent) for sent in [running.submit(many) for _ in range(size.runs)]]
    _check(runs, size.steps)
    whole = max(run.last for run in runs) - min(run.submitted for run in runs)
    return {
        "chain_ms": 1e3 * (one.seen - one.submitted) / size.chain,
        "throughput_ms": 1e3 * whole / (size.runs * size.steps),
    }


def _version(running: Fleet, steps: int) -> str:
    nodes = [f"step{number}" for number in range(steps)]
    node: Json = {"uses": "library_add_one", "estimate": {"cost_usd": 0.000_001}}
    document: Json = {
        "workflow": f"governed-{steps}",
        "nodes": dict.fromkeys(nodes, node),
        "edges": [" -> ".join((*nodes, "end"))],
    }
    return running.published(document)


def _check(runs: list[Run], steps: int) -> None:
    if any(run.steps != steps for run in runs):
        raise AssertionError(f"runs of {steps} steps came to {sorted({run.steps for run in runs})}")


@contextmanager
def _in_force(running: Fleet) -> Iterator[None]:
    """The policy holds for the length of a block."""
    running.apply(json.dumps(POLICY))
    try:
        yield
    finally:
        running.withdraw(str(POLICY["policy"]))
