"""Proving, at the start, that the walls hold: attacks on things put up for them."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from engine.core.values import Json
from workers.sandbox.attacks import ATTACKS, MISSES, Attack
from workers.sandbox.job import Job, Outcome

_HERE = Path(__file__)
_PREFIX = "celeriac-walls-"
#: A proof takes a second or two; a folder of this age has lost its worker.
_LEFT_SECONDS = 3600.0


def breaches(
    run: Callable[[Job], Outcome], *, mode: str, zygote: int
) -> tuple[int, tuple[str, ...]]:
    """Make the quick attacks; how many they were, and those that got through and should not.

    `run` carries a job out, `zygote` is the id of who forks for it. Takes about a quarter of a
    second. Raises `SandboxUnavailable` and `OSError`.
    """
    tried, found = 0, []
    with targets(zygote) as known:
        for attack in ATTACKS:
            if not attack.quick or attack.number in MISSES[mode]:
                continue
            tried += 1
            # Twice: on a machine that stands still an attack may not get to say that it failed.
            if not any(held(attack, run(attack.job(known))) for _ in range(2)):
                found.append(attack.name)
    return tried, tuple(found)


def held(attack: Attack, outcome: Outcome) -> bool:
    """Whether the walls held an attack that ended so."""
    if attack.end == "survived":
        return not (outcome.ok and str(outcome.value).startswith("BREACH"))
    if attack.end == "dies":
        return not outcome.ok and outcome.reason in attack.reasons
    return outcome.ok and str(outcome.value).startswith("held")


@contextlib.contextmanager
def targets(zygote: int) -> Iterator[Mapping[str, Json]]:
    """Things to be attacked, which anybody may use but for the walls; by name."""
    _tidy()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX)))
        folder.chmod(0o777)  # walls are to hold, not modes
        for name in ("secret", "loose"):
            (folder / name).write_text("canary")
            (folder / name).chmod(0o666)
        (folder / "link").symlink_to("secret")
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for name, kind in (("socket", socket.SOCK_STREAM), ("datagram", socket.SOCK_DGRAM)):
            bound = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            bound.bind(str(folder / name))
            (folder / name).chmod(0o777)
            if kind == socket.SOCK_STREAM:
                bound.listen()
        abstract = f"celeriac-walls-{os.getpid()}-{tcp.getsockname()[1]}"
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(f"\0{abstract}")
        listening.listen()
        yield {
            "arm": platform.machine() == "aarch64",
            "worker": os.getpid(),
            "zygote": zygote,
            "folder": str(folder),
            **{name: str(folder / name) for name in ("secret", "loose", "link")},
            **{name: str(folder / name) for name in ("socket", "datagram")},
            "abstract": abstract,
            "tcp": tcp.getsockname()[1],
            "packages": str(folder),
            "platform": str(_HERE.parent),
        }


def _tidy() -> None:
    """Remove what workers left that were killed while they proved their walls."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            known = folder.lstat()
            if known.st_uid == os.geteuid() and time.time() - known.st_mtime > _LEFT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
