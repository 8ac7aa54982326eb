"""The walls of one child, raised after its job is read and before any user code runs.

This is the one place where the fuller walls go: what needs no privilege (Landlock, seccomp)
at the end of `raise_walls`, what the zygote must do first (namespaces) in `prepare`, which it
calls once before it forks. Nothing else in the package needs to know which walls stand.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from . import process

#: How much more a child may take once it has run out of memory, to say so.
_LAST_WORDS = 16 * 1024 * 1024
#: With less than this left, what was asked for may well have been more: lists grow by an eighth.
_NEARLY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What a kind of code may do beyond computing."""

    files: int  #: open descriptors
    file_bytes: int  #: size of any file it writes
    may_fork: bool


#: Code registered as source computes, and asks tools for the rest.
SOURCE = Tier(files=64, file_bytes=0, may_fork=False)
#: Installed code is trusted: its limits guard against accidents.
LIBRARY = Tier(files=1024, file_bytes=1024 * 1024 * 1024, may_fork=True)


def prepare(tier: Tier) -> None:
    """What the zygote gives up for itself and all its children."""
    if not tier.may_fork:
        process.hide()
        process.give_up_privileges()


def raise_walls(tier: Tier, *, cpu_seconds: int, memory_bytes: int) -> None:
    """Limit this process for good."""
    # The soft limit ends the process with SIGXCPU, which names the reason; the hard one is
    # for code that catches that signal.
    _limit(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)
    memory = _size() + memory_bytes
    _limit(resource.RLIMIT_AS, memory, memory + _LAST_WORDS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, tier.files)
    _limit(resource.RLIMIT_FSIZE, tier.file_bytes)
    if not tier.may_fork:
        # Counted per user, so any other number would depend on what else that user runs.
        _limit(resource.RLIMIT_NPROC, 0)
        _limit(resource.RLIMIT_MEMLOCK, 0)
        _limit(resource.RLIMIT_MSGQUEUE, 0)


def grant_last_words() -> None:
    """Raise the memory limit by the little that a report needs."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def was_full() -> bool:
    """Whether the memory that user code was given was used up once, or nearly."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    return hard != resource.RLIM_INFINITY and _peak() > hard - _LAST_WORDS - _NEARLY


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    _, allowed = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    resource.setrlimit(kind, (soft, hard))


def _size() -> int:
    """The address space this process has already, which user code is not charged for."""
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  # pathlib costs more than the read
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    """The largest address space that this process has had; an error frees what its frames held."""
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123  # as above
        lines = dict(line.split(b":", 1) for line in status.read().splitlines() if b":" in line)
    return int(lines[b"VmPeak"].split()[0]) * 1024
