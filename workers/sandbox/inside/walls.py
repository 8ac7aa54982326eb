"""The walls around one child: which there are, and how they are raised.

`stand` is called once by the zygote, before it forks: it enters namespaces, changes its user and
makes what the walls of children are raised from. `raise_walls` is called by each child, after
its job is read and before any user code runs. Nothing else in the package needs to know which
walls stand.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import filters, landlock, namespaces, process
from .landlock import Opened

#: From the weakest to the strongest.
MODES = ("limits", "landlock", "seccomp", "portable", "full")
_WITH_LANDLOCK = frozenset({"landlock", "portable", "full"})
_WITH_SECCOMP = frozenset({"seccomp", "portable", "full"})

#: Descriptors of a child whose code is not trusted, besides its streams and its socket.
STATUS, RULES = 4, 5

#: How much more a child may take once it has run out of memory, to say so.
_LAST_WORDS = 16 * 1024 * 1024
#: With less than this left, what was asked for may well have been more: lists grow by an eighth.
_NEARLY = 64 * 1024 * 1024
#: Processes and threads of all children together, where they can be counted apart from others.
_THREADS = 128


#: The address space that this process was given for its execution.
_given = [0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What a kind of code may do beyond computing."""

    files: int  #: open descriptors
    file_bytes: int  #: size of any file it writes
    may_fork: bool
    #: Executions that one process carries out, one after the other, if they leave nothing behind.
    executions: int


#: Code registered as source computes, and asks tools for the rest.
SOURCE = Tier(files=64, file_bytes=0, may_fork=False, executions=1)
#: Installed code is trusted: its limits guard against accidents.
LIBRARY = Tier(files=1024, file_bytes=1024 * 1024 * 1024, may_fork=True, executions=1000)


class Lacking(Exception):
    """A wall cannot be had here; the message says which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What a zygote raises the walls of its children from."""

    tier: Tier
    mode: str = "limits"
    #: Whether children have a pid namespace each.
    shown: namespaces.Shown | None = None
    #: Landlock's rules for a child that opens no files.
    rules: int | None = None
    #: By whether files are written.
    filters: Mapping[bool, filters.Filter] = field(default_factory=dict)
    #: Processes and threads of the user that it runs as.
    processes: int = 0
    paths: tuple[str, ...] = ()
    #: Whether code runs as another user than the worker. A user has no other.
    other_user: bool = False

    def fork(self) -> int:
        """Fork, into a pid namespace of its own where there are any."""
        return os.fork() if self.shown is None else self.shown.fork()


def stand(tier: Tier, mode: str, folders: Sequence[Opened]) -> Walls:
    """Give up, for this process and all its children, what the mode takes.

    Raises `Lacking`. In mode `full` it returns in another process than it was called in.
    """
    if tier.may_fork:
        return Walls(tier=tier)
    process.give_up_privileges()
    paths = _needed()
    shown = _enter(paths, folders) if mode == "full" else None
    other_user = (
        _change_user() if shown is None and mode != "limits" else os.geteuid() == process.NOBODY
    )
    counted = mode in _WITH_SECCOMP and (shown is not None or other_user)
    rules = _rules(paths) if mode in _WITH_LANDLOCK else None
    made = _filters(threads=counted) if mode in _WITH_SECCOMP else {}
    process.hide()
    return Walls(
        tier=tier,
        mode=mode,
        shown=shown,
        rules=rules,
        filters=made,
        processes=_THREADS if counted else 0,
        paths=paths,
        other_user=other_user,
    )


def raise_walls(
    walls: Walls,
    *,
    cpu_seconds: int,
    memory_bytes: int,
    file_bytes: int = 0,
    files: Sequence[Opened] = (),
) -> None:
    """Limit this process for good. Raises `OSError` for files that cannot be opened.

    `memory_bytes` counts what it has already, which user code is not charged for.
    """
    tier = walls.tier
    _given[0] = memory_bytes
    if tier.may_fork:
        _bound(tier, cpu_seconds=cpu_seconds, memory=memory_bytes)
        return
    writing = any(file.write for file in files)
    # The soft limit ends the process with SIGXCPU, which names the reason; the hard one is
    # for code that catches that signal, and for the first process of a namespace, whom only
    # the kernel's last word reaches.
    _limit(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)
    _limit(resource.RLIMIT_AS, memory_bytes, memory_bytes + _LAST_WORDS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, tier.files)
    _limit(resource.RLIMIT_FSIZE, file_bytes if writing else tier.file_bytes)
    # Counted per user: any number but 0 would depend on what else a user of the system runs.
    _limit(resource.RLIMIT_NPROC, walls.processes)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    if walls.shown is not None:
        process.keep_capabilities()
    process.hide()
    if walls.rules is not None:
        rules = landlock.ruleset(walls.paths, files) if files else RULES
        landlock.enter(rules)
        if files:
            os.close(rules)
        os.close(RULES)
    if walls.filters:
        filters.enter(walls.filters[writing].of(os.getpid()))


def grant_last_words() -> None:
    """Raise the memory limit by the little that a report needs."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def was_full() -> bool:
    """Whether the memory that user code was given was used up once, or nearly."""
    return _peak() > _given[0] - _NEARLY


# --- what they are made of -------------------------------------------------------------------


def _needed() -> tuple[str, ...]:
    """What children may read: the standard library without what is installed beside it."""
    home = Path(os.__file__).parent
    installed = {"site-packages", "dist-packages"}
    library = [str(each) for each in sorted(home.iterdir()) if each.name not in installed]
    return (*library, "/usr/share/zoneinfo", "/dev/null", "/dev/urandom")


def _enter(paths: Sequence[str], folders: Sequence[Opened]) -> namespaces.Shown:
    home = str(Path(os.__file__).parent)
    # Whole folders: a mount for each file of the library would be many.
    shown = [home, *(path for path in paths if not path.startswith(f"{home}/"))]
    try:
        return namespaces.enter(shown, folders)
    except OSError as error:
        raise Lacking(f"namespaces: {error.strerror or error}") from error


def _change_user() -> bool:
    """Where this is root, be nobody, or at least a root without rights; whether it is nobody."""
    if os.geteuid() != 0:
        return False
    process.bound_capabilities()
    if _reachable_by(process.NOBODY):
        # A container may have taken root even that right.
        with contextlib.suppress(OSError):
            process.become(process.NOBODY)
            return True
    process.keep_capabilities()
    return False


def _reachable_by(user: int) -> bool:
    """Whether a user can read the standard library: root's own Python is root's alone."""
    try:
        os.seteuid(user)
    except OSError:  # a root that may not even do that
        return False
    try:
        os.close(os.open(os.__file__, os.O_RDONLY))
    except OSError:
        return False
    else:
        return True
    finally:
        os.seteuid(0)


def _rules(paths: Sequence[str]) -> int:
    if not landlock.version():
        raise Lacking("Landlock: the kernel has none (5.13 and newer do, if it is not turned off)")
    rules = landlock.ruleset(paths)
    # Out of the way of the descriptors that a child puts in their places.
    high = fcntl.fcntl(rules, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(rules)
    return high


def _filters(*, threads: bool) -> dict[bool, filters.Filter]:
    machine = filters.machine()
    if machine is None:
        known = " and ".join(filters.MACHINES)
        raise Lacking(f"seccomp: {os.uname().machine} is not known here; {known} are")
    if not filters.available():
        raise Lacking("seccomp: the kernel takes no filters")
    return {
        writing: filters.build(machine, writing=writing, threads=threads)
        for writing in (False, True)
    }


def _bound(tier: Tier, *, cpu_seconds: int, memory: int) -> None:
    """Limit one execution of a process that may carry out others after it: what is hard stays."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _soften(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds)
    _soften(resource.RLIMIT_AS, memory)
    _soften(resource.RLIMIT_CORE, 0)
    _soften(resource.RLIMIT_NOFILE, tier.files)
    _soften(resource.RLIMIT_FSIZE, tier.file_bytes)


def _soften(kind: int, soft: int) -> None:
    _, allowed = resource.getrlimit(kind)
    if allowed != resource.RLIM_INFINITY:
        soft = min(soft, allowed)
    resource.setrlimit(kind, (soft, allowed))


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    _, allowed = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    resource.setrlimit(kind, (soft, hard))


def _peak() -> int:
    """The largest address space that this process has had; an error frees what its frames held."""
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123  # as above
            status = file.read()
    except OSError:  # behind the walls: by the descriptor from before
        status = os.pread(STATUS, 1 << 16, 0)
    lines = dict(line.split(b":", 1) for line in status.splitlines() if b":" in line)
    return int(lines[b"VmPeak"].split()[0]) * 1024
