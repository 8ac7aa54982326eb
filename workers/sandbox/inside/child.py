"""The life of one execution: close everything, raise the walls, perform, report, end.

A report of failure (`failures`) is made here as well, with as little memory as is left.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
from typing import Any, NoReturn

from . import failures, log, process, remains, wire
from . import walls as around
from .calls import Calls
from .landlock import Opened
from .perform import Stage, perform

#: Where the socket to the worker lies in a child; 0, 1 and 2 are what they always are.
SOCKET = 3
#: The exit status of a child that had no memory left to say so.
OUT_OF_MEMORY = 77
_SEED_BYTES = 32
#: A job of so many bytes takes no memory that had to be counted.
_SHORT = 65_536


def live(*, parent: int, messages: int, output: int, errors: int, walls: around.Walls) -> NoReturn:
    """Be one execution, from the fork to the end of the process; or several, one after the other.

    `parent` is the zygote's id as it is seen from here.
    """
    os.setsid()
    process.name("celeriac-child")
    process.signal_when_parent_dies(signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    _take_descriptors(messages, output, errors, walls)
    _take_signals()
    first = remains.origin() if walls.tier.executions > 1 else None
    size: int | None = None
    for number in range(1, walls.tier.executions + 1):
        head, *parts = _carry_out(walls, size)
        size = None
        if first is not None and number < walls.tier.executions and head.get("reason") != "memory":
            size = remains.cleared(first)
        if size is not None:
            head |= {"stands": True, **_used()}
        wire.send(SOCKET, json.dumps(head).encode(), *parts)
        if size is None:
            break
    os._exit(0)


def _carry_out(walls: around.Walls, size: int | None) -> tuple[Any, ...]:
    """Carry out the next execution; the head of its report, and the rest.

    `size`: the address space of this process before, in bytes, where that is known.
    """
    try:
        letter = bytes(wire.receive(SOCKET)[0])
        job = json.loads(letter)
    except EOFError:  # nobody needs it any more
        os._exit(0)
    limits = job["limits"]
    log.redirect(limits["log_bytes"])
    _reseed()
    calls = Calls(SOCKET, limit=limits["result_bytes"])
    stage = Stage()
    try:
        around.raise_walls(
            walls,
            cpu_seconds=limits["cpu_seconds"],
            memory_bytes=_size(size, letter) + limits["memory_bytes"],
            file_bytes=limits["file_bytes"],
            files=[Opened(path=path, write=write) for path, write in job["files"]],
        )
        report = perform(job, calls, stage)
    except BaseException as error:  # noqa: BLE001  # whatever it was, it ends here
        report = _last_words(error, stage)
    log.flush()
    head, *parts = report
    return (json.loads(head), *parts)


def _size(before: int | None, letter: bytes) -> int:
    """What this process has by now, a job of some size included."""
    return remains.size() if before is None or len(letter) > _SHORT else before


def _used() -> dict[str, float]:
    """What this process has used so far: processor time in seconds, memory at most in bytes."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}


def _take_descriptors(messages: int, output: int, errors: int, walls: around.Walls) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # In this order no source is overwritten before it is used: all of them are above 2.
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.dup2(messages, SOCKET, inheritable=False)
    kept = SOCKET
    if not walls.tier.may_fork:
        # Its own status alone, and the rules that it is about to be held to.
        kept = around.STATUS
        os.dup2(os.open("/proc/self/status", os.O_RDONLY), kept, inheritable=False)
        if walls.rules is not None:
            kept = around.RULES
            os.dup2(walls.rules, kept, inheritable=False)
    os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _take_signals() -> None:
    signal.set_wakeup_fd(-1)
    process.handle(signal.SIGCHLD, int(signal.SIG_DFL))
    process.handle(signal.SIGUSR1, int(signal.SIG_DFL))


def _reseed() -> None:
    """Every fork of one zygote would else draw the same numbers."""
    # As many bytes as nobody guesses; by itself it asks the kernel for 2,500.
    random.seed(int.from_bytes(os.urandom(_SEED_BYTES), "big"))
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def _last_words(error: BaseException, stage: Stage) -> tuple[bytes, ...]:
    try:
        around.grant_last_words()
        reason, message = failures.told(error, stage)
        # What the error's frames hold is what filled the memory.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        head = {"type": "failed", "reason": reason, "message": failures.shown(message)}
        return (json.dumps(head).encode(),)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
