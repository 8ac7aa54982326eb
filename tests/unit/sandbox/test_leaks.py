"""Calls leave no process, no descriptor and no memory behind."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from tests.unit.sandbox.jobs import node, within
from workers.sandbox import Job, Sandbox, attacks

#: What ends well, what fails, what dies, what is killed.
JOBS: tuple[Job, ...] = (
    node("return state['n'] + 1", {"n": 1}),
    node("return 1 / 0"),
    node("print('x' * 1000)\nreturn invoke('nothing')"),
    node("kept = 'x' * 10**9"),
    attacks.ATTACKS[28].job({"arm": False}),
    Job(mode="template", name="t", source="{{ n }}", arguments={"variables": {"n": 1}}),
)


def held(pid: int) -> tuple[int, int, int]:
    """Descriptors, children and pages of a process."""
    proc = Path(f"/proc/{pid}")
    children = (proc / "task" / str(pid) / "children").read_text().split()
    pages = int((proc / "statm").read_text().split()[1])
    return len(list((proc / "fd").iterdir())), len(children), pages


def run(sandbox: Sandbox, count: int) -> None:
    for turn in range(count):
        sandbox.run(JOBS[turn % len(JOBS)])
        if turn % 500 == 499:
            # One that has to be killed takes as long as it is let live.
            sandbox.run(node("time.sleep(60)", limits=within(0.05)))


@pytest.mark.parametrize("mode", ["full", "portable"])
@pytest.mark.parametrize(
    ("count", "pages"),
    [(300, 512), pytest.param(10_000, 1024, marks=[pytest.mark.long, pytest.mark.timeout(1200)])],
)
def test_calls_leave_nothing_behind(mode: str, count: int, pages: int) -> None:
    with Sandbox(mode=mode) as sandbox:
        if sandbox.standing().mode is None:
            pytest.skip(str(sandbox.standing().lacking))
        zygote = sandbox._zygotes[False].pid
        run(sandbox, 60)
        gc.collect()
        before, own = held(zygote), held(os.getpid())
        run(sandbox, count)
        gc.collect()
        after, then = held(zygote), held(os.getpid())
        assert sandbox._zygotes[False].pid == zygote
        # It tells how an execution ended just before it closes that one's socket.
        assert after[0] <= before[0] + 1
        assert after[1] == 0
        assert after[2] <= before[2] + pages
        assert then[:2] == own[:2]
        assert then[2] <= own[2] + pages
