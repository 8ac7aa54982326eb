"""`python -m benchmarks.sandbox`: what a call of code behind the walls costs, by mode.

The function does nothing but count fifty numbers: what is measured is all the rest, from asking for
the call to its answer, the death of its process included. Beside it: a bare fork of an interpreter
that has loaded the same modules, which does nothing at all. Modes take turns, so that whatever else
the machine does meets all of them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from workers.sandbox import MODES, Job, Sandbox, sandbox

#: What a call may cost in the modes that are meant for strangers' code.
GATE_MS = 5.0
_BARE = "a bare fork"
_TURN = 20

_FORKS = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from inside import namespace, templates, zygote
namespace.warm()
templates.warm(json.loads(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    found = []
    for _ in range(int(line)):
        since = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        found.append(time.perf_counter() - since)
    print(json.dumps(found), flush=True)
"""


class _Bare:
    """Forks without anything around them."""

    def __init__(self) -> None:
        home = str(Path(sandbox.__file__).parent)
        folders = json.dumps(sandbox.template_folders())
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _FORKS, home, folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def measure(self, count: int) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, file=self._process.stdin, flush=True)
        found: list[float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, by mode; modes that this machine cannot have are left out."""
    job = Job(
        mode="tool",
        name="count",
        source="def count(items):\n    return len(items)",
        arguments={"args": [list(range(50))], "kwargs": {}},
    )
    with contextlib.ExitStack() as stack:
        bare = _Bare()
        stack.callback(bare.close)
        sandboxes: dict[str, Sandbox] = {}
        for mode in MODES:
            started = stack.enter_context(Sandbox(mode=mode, minimum="limits"))
            if started.standing().refusal is None:
                sandboxes[mode] = started
        found: dict[str, list[float]] = {_BARE: [], **{mode: [] for mode in sandboxes}}
        for turn in range(rounds + 1):
            taken = {_BARE: bare.measure(_TURN)}
            for mode, started in sandboxes.items():
                taken[mode] = [_call(started, job) for _ in range(_TURN)]
            if turn:  # the first is for warming up
                for name, seconds in taken.items():
                    found[name] += seconds
    return found


def _call(started: Sandbox, job: Job) -> float:
    since = time.perf_counter()
    outcome = started.run(job)
    taken = time.perf_counter() - since
    assert outcome.value == 50, outcome
    return taken


def figures(found: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Milliseconds, by mode: the least, the median, the 99th of a hundred."""
    return {
        name: {
            "min_ms": round(1000 * min(seconds), 2),
            "p50_ms": round(1000 * _quantile(seconds, 0.5), 2),
            "p99_ms": round(1000 * _quantile(seconds, 0.99), 2),
        }
        for name, seconds in found.items()
    }


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@click.command()
@click.option("--rounds", type=click.IntRange(1, 10_000), default=25, show_default=True)
@click.option("--gate", is_flag=True, help=f"Fail where the median is above {GATE_MS:g} ms.")
def main(*, rounds: int, gate: bool) -> None:
    """Measure calls behind the walls: a table, then one line of JSON."""
    found = figures(measure(rounds))
    table = Table(title=f"one call, milliseconds ({rounds * _TURN} each)")
    for column in ("", "min", "p50", "p99"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in found.items():
        table.add_row(name, *(f"{value:.2f}" for value in row.values()))
    Console(stderr=True, width=100).print(table)
    with tempfile.TemporaryDirectory() as folder:
        about = machine.describe(Path(folder))
    print(json.dumps({"benchmark": "sandbox", "machine": about, "figures": found}))
    slow = [
        name for name in ("portable", "full") if name in found and found[name]["p50_ms"] > GATE_MS
    ]
    if gate and slow:
        raise click.ClickException(f"above {GATE_MS:g} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
