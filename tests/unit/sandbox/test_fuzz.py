"""Random system calls from a child: whatever they do to itself, they do to nobody else."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.unit.sandbox.jobs import node, within
from workers.sandbox import Job, Sandbox, proof

#: Ends by itself, by its time, or by a crash that it has earned.
CALLS = """
def f(seed, rounds):
    for kind in object.__subclasses__():
        if kind.__name__ == "_wrap_close":
            load = kind.__init__.__globals__["__builtins__"]["__import__"]
    ctypes, numbers = load("ctypes"), load("random").Random(seed)
    libc = ctypes.CDLL(None)
    libc.syscall.restype = ctypes.c_long
    room = ctypes.addressof(ctypes.create_string_buffer(1 << 16))
    # Waiting, and going: what would leave nothing to be tried.
    dull = {0, 7, 23, 34, 35, 60, 202, 230, 231, 232, 270, 271, 281, 45, 11, 12, 13, 14, 15, 25}
    for turn in range(rounds):
        number = numbers.randrange(0, 471)
        if turn % 10 and number in dull:
            continue
        given = [numbers.choice([0, 1, 2, 3, 4, -1, -100, room, room + 4096, numbers.getrandbits(64), numbers.getrandbits(16)]) for _ in range(6)]
        libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(each & (2**64 - 1)) for each in given))
    return turn
"""


def fuzz(seed: int) -> Job:
    return Job(
        mode="tool",
        name="f",
        source=CALLS,
        arguments={"args": [seed, 2000], "kwargs": {}},
        limits=within(0.5, cpu_seconds=2),
    )


@pytest.mark.parametrize("mode", ["full", "portable"])
def test_random_calls_hurt_nobody_else(mode: str) -> None:
    with Sandbox(mode=mode) as sandbox:
        if sandbox.standing().mode is None:
            pytest.skip(str(sandbox.standing().lacking))
        zygote = sandbox._zygotes[False].pid
        with proof.targets(zygote) as targets:
            reasons = set()
            end = time.monotonic() + 4
            for seed in range(1000):
                reasons.add(sandbox.run(fuzz(seed)).reason)
                if time.monotonic() > end:
                    break
            folder = Path(str(targets["folder"]))
            assert {path.name for path in folder.iterdir()} == {
                "secret", "loose", "link", "socket", "datagram"
            }  # fmt: skip
            assert (folder / "secret").read_text() == (folder / "loose").read_text() == "canary"
            with socket.create_connection(("127.0.0.1", int(str(targets["tcp"])))):
                pass
        assert sandbox._zygotes[False].pid == zygote
        assert sandbox.run(node("return 1")).value == 1
        # That it went on and on shows that calls were refused, and that it was ended by crashes and
        # its time alone.
        assert reasons & {None, "timeout", "killed", "error"}
        assert reasons <= {None, "timeout", "killed", "error", "cpu", "memory", "output_too_large"}
