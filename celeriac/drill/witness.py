"""The witness: a process outside of the platform that is told of every effect, and writes it down.

Steps tell it over a socket and go on when it has answered, so what it has written has happened. No
fault of a drill touches it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that was done in the world: by which attempt, under which idempotency key."""

    key: str
    run: str
    step: str
    attempt: int


def tell(place: str, effect: Effect) -> None:
    """Tell the witness, and wait until it has written that down. Raises `OSError`."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(_SECONDS)
        wire.connect(place)
        wire.sendall(f"{effect.key} {effect.run} {effect.step} {effect.attempt}\n".encode())
        if wire.recv(1) != b"+":
            raise OSError("the witness hung up")


def told(file: Path) -> Mapping[tuple[str, str], Counter[int]]:
    """What it was told: by run and step, how often by each attempt. The key is the step's own.

    Raises `ValueError` where one step came with two keys, or one key with two steps.
    """
    seen: dict[tuple[str, str], Counter[int]] = {}
    keys: dict[str, tuple[str, str]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        key, run, step, attempt = line.split()
        seen.setdefault((run, step), Counter())[int(attempt)] += 1
        if keys.setdefault(key, (run, step)) != (run, step):
            raise ValueError(f"the idempotency key {key} is of two steps")
    if len(keys) != len(seen):
        raise ValueError("a step had two idempotency keys")
    return seen


async def _serve(place: str, file: Path) -> None:
    book = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        # Whoever was killed while it spoke has done nothing yet.
        if line.endswith(b"\n"):
            os.write(book, line)
            writer.write(b"+")
        writer.close()

    server = await asyncio.start_unix_server(hear, place, backlog=128)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2])))
