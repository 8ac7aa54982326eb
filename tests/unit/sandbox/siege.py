"""A worker whose walls are attacked: it reads what to try, line by line, and says how it ended.

    python -m tests.unit.sandbox.siege MODE     (`32 20`: attack 32, beside 20 innocent runs)

A process of its own, because what gets through weaker walls gets at the process, and because it
may be started as another user.
"""

# ruff: noqa: T201  # what it prints is its answer

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.unit.sandbox.jobs import deed, node, within
from workers.sandbox import Outcome, Sandbox, proof
from workers.sandbox.attacks import ATTACKS
from workers.sandbox.inside import process

ROOT = Path(__file__).parents[3]
NOBODY = 65_534


class Siege:
    """The worker, seen by the test that started it."""

    def __init__(self, mode: str, *, user: int | None = None) -> None:
        python = sys.executable if user is None else python_for(user)
        assert python is not None
        self._process = subprocess.Popen(
            [python, "-m", __name__, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            env=_environment(),
            **({} if user is None else {"user": user, "group": user, "extra_groups": []}),  # type: ignore[call-overload]
        )
        assert self._process.stdout is not None
        self.standing: dict[str, Any] = json.loads(self._process.stdout.readline())

    def ask(self, text: str) -> Any:
        """Have something tried; how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(text, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(30)


@functools.cache
def python_for(user: int) -> str | None:
    """A Python that a user can run, with all that siege needs; None if there is none."""
    found = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"]
    for python in found:
        try:
            done = subprocess.run(
                [python, "-c", "import sys, ctypes, tests.unit.sandbox.siege"],
                user=user,
                group=user,
                extra_groups=[],
                cwd=ROOT,
                env=_environment(),
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def _environment() -> dict[str, str]:
    installed = [place for place in sys.path if place.endswith("-packages")]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), *installed]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DATABASE_PASSWORD": "canary",
        **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
    }


def _try(sandbox: Sandbox, known: Any, number: int, beside: int) -> dict[str, Any]:
    attack = next(attack for attack in ATTACKS if attack.number == number)
    zygote = sandbox._zygotes[False].pid
    ended: list[Outcome] = []

    def run() -> None:
        ended.append(sandbox.run(attack.job(known)))

    attacking = threading.Thread(target=run)
    attacking.start()
    # Within less than any attack may take: they end in their own time, or not at all.
    innocent = [
        sandbox.run(node(f"return sum(range({turn}))", limits=within(15))) for turn in range(beside)
    ]
    attacking.join()
    after = sandbox.run(node("return 1"))
    return {
        "held": proof.held(attack, ended[0]),
        "how": f"{ended[0].reason} {ended[0].message} {ended[0].value}"[:300],
        "innocent": [
            outcome.value == sum(range(turn)) or f"{outcome.reason} {outcome.message}"
            for turn, outcome in enumerate(innocent)
        ],
        "after": after.value == 1 and sandbox._zygotes[False].pid == zygote,
    }


def main(mode: str) -> None:
    process.hide()
    with Sandbox(mode=mode, minimum="limits") as sandbox:
        standing = sandbox.standing()
        print(json.dumps({**asdict(standing), "refusal": standing.refusal}), flush=True)
        if standing.mode is None:
            return
        with proof.targets(sandbox._zygotes[False].pid) as known:
            for line in sys.stdin:
                match line.split():
                    case ["library"]:
                        outcome = sandbox.run(deed("trace", {"worker": os.getpid()}))
                        answer: Any = outcome.value or outcome.message
                    case [number, beside]:
                        answer = _try(sandbox, known, int(number), int(beside))
                print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
