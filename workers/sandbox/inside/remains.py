"""What an execution leaves in a process that is to carry out another one.

`origin` is how the process was before the first one. `cleared` puts back what can be put back, and finds
whether the rest is as it was: a process of which it is not true carries out nothing more.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import process

#: Address space that a process may have taken since the fork, by what it imported and what it
#: leaks: the limit of each execution is counted from what there is already.
_GROWTH = 64 * 1024 * 1024
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Descriptors that are the same for every execution: its input, its output, the worker.
_OURS = range(4)
#: Limits that each execution is given anew, below what is hard, which nobody can raise again.
_GIVEN = frozenset(
    {
        resource.RLIMIT_CPU,
        resource.RLIMIT_AS,
        resource.RLIMIT_CORE,
        resource.RLIMIT_NOFILE,
        resource.RLIMIT_FSIZE,
    }
)
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_SIGNALS = tuple(sorted(signal.valid_signals()))
#: A thread that has been joined may take this long to be gone for the kernel, too.
_JOINED_SECONDS = 0.001
#: The number of threads and the address space in bytes, in what the kernel says of a process (proc(5)).
_THREADS, _SIZE = 20 - 3, 23 - 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A process before its first execution."""

    environment: Any  #: `os.environ` itself
    variables: Mapping[str, str]
    #: The same as it is kept.
    kept: object
    folder: str
    umask: int
    handlers: Mapping[int, Any]  #: by signal; None where Python did not set it
    blocked: frozenset[int]
    #: What `_fixed` found.
    fixed: tuple[object, ...]
    #: Bytes of address space.
    size: int


def origin() -> Origin | None:
    """How this process is; None where that cannot be said: its folder is gone."""
    try:
        folder = os.getcwd()  # noqa: PTH109  # a text, not a path
    except OSError:
        return None
    umask = os.umask(0o077)
    os.umask(umask)
    return Origin(
        environment=os.environ,
        variables=dict(os.environ),
        kept=_kept(),
        folder=folder,
        umask=umask,
        handlers={number: process.handler(number) for number in _SIGNALS},
        blocked=frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        fixed=_fixed(),
        size=size(),
    )


def cleared(first: Origin) -> int | None:
    """Put the process back to how it was; its address space in bytes, if it may carry out another execution."""
    try:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        if signal.sigpending():  # blocked until now, for nobody
            return None
        _restore(first)
        process.flush()
        grown = _single_size() if _fixed() == first.fixed and _childless() else None
        return grown if grown is not None and grown - first.size <= _GROWTH else None
    except BaseException:  # noqa: BLE001  # the last word of a handler that was just taken away
        return None


def size() -> int:
    """The address space of this process in bytes."""
    return int(process.told("/proc/self/statm").split()[0]) * _PAGE_BYTES


def _restore(first: Origin) -> None:
    signal.set_wakeup_fd(-1)
    for number, handler in first.handlers.items():
        if process.handler(number) != handler:
            process.handle(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, first.blocked)
    os.umask(first.umask)
    os.chdir(first.folder)
    os.environ = first.environment  # noqa: B003  # the one that it was
    if _kept() != first.kept:
        os.environ.clear()
        os.environ.update(first.variables)


def _kept() -> object:
    """The variables of the environment as `os` keeps them: to read each takes twenty times as long."""
    return dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001  # typeshed leaves it out


def _fixed() -> tuple[object, ...]:
    """What cannot be put back, or nobody has a reason to change: where descriptors lead, limits,
    priority.
    """
    places = tuple(_place(fd) for fd in _OURS)
    limits = tuple(resource.getrlimit(kind)[kind in _GIVEN :] for kind in _LIMITS)
    return (*places, *limits, os.getpriority(os.PRIO_PROCESS, 0))


def _place(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None
    return found.st_dev, found.st_ino


def _childless() -> bool:
    """Whether it has no children. Those that lost their parents are the zygote's, who looks."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _single_size() -> int | None:
    """The address space, where there is one thread, as the kernel counts: Python knows only of those it
    was told of.
    """
    if threading.active_count() > 1:
        return None
    until = time.monotonic() + _JOINED_SECONDS
    while True:
        # What stands behind the name, which may be any, from the third field on.
        fields = process.told("/proc/self/stat").rpartition(b")")[2].split(None, _SIZE + 1)
        if int(fields[_THREADS]) == 1:
            return int(fields[_SIZE])
        if time.monotonic() > until:
            return None
        time.sleep(_JOINED_SECONDS / 10)
