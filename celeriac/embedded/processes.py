"""Starting processes that are not ours to wait for, and knowing whether they still run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: How often a wait looks again; what we wait for takes a few of these.
TICK = 0.02

_PR_SET_PDEATHSIG = 1
_WORKING_IN = """
for process in /proc/[0-9]*; do [ "$process/cwd" -ef "$1" ] && echo "${process#/proc/}"; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account of the operating system that a server runs as, where that is not our own."""

    name: str
    user: int
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process that runs: started by us, or found running."""

    pid: int
    #: None for one that was found: it is not our child.
    process: subprocess.Popen[bytes] | None = None


def own_account() -> Account | None:
    """Who we are; None for a user without an entry in the system's list."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
    return Account(name=entry.pw_name, user=entry.pw_uid, group=entry.pw_gid)


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path = Path("/"),
    account: Account | None = None,
    leash: int | None = None,
) -> Running:
    """Start a process in a session of its own, with its output in a file.

    With a leash, the kernel sends it that signal when the thread that started it ends.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=[] if account else None,
            preexec_fn=None if leash is None else _leash(leash),  # noqa: PLW1509  # calls prctl alone
        )
    finally:
        os.close(output)
    return Running(pid=process.pid, process=process)


def alive(running: Running) -> bool:
    """Whether it still runs; collects it when it has ended."""
    if running.process is not None:
        return running.process.poll() is None
    return exists(running.pid)


def exists(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # One that has ended, but whose parent has not asked, still has its id.
    with contextlib.suppress(OSError):
        return _state(pid) not in {"Z", "X"}
    return True


def end(running: Running, with_signal: int, *, seconds: float) -> bool:
    """Send a signal and wait; whether the process has ended in time."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, with_signal)
    return wait_until(lambda: not alive(running), seconds=seconds)


def wait_until(holds: Callable[[], bool], *, seconds: float) -> bool:
    """Look until it holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(TICK)
    return True


def working_in(folder: Path, *, account: Account | None = None) -> Sequence[int]:
    """Processes whose working folder this is: a server of ours and what it forked.

    Nothing where the system does not tell (there is no /proc on macOS). It tells an account about its
    own processes only, and in a container root is no exception; so the account itself is asked.
    """
    asked = subprocess.run(
        ["/bin/sh", "-c", _WORKING_IN, "sh", folder],
        user=account.user if account else None,
        group=account.group if account else None,
        extra_groups=[] if account else None,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return [int(line) for line in asked.stdout.split()]


def started_with(variables: Mapping[str, str]) -> Iterator[int]:
    """Processes of ours that were started with these variables in their environment; see `working_in`."""
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                yield int(entry.name)


def tail(log: Path, *, lines: int = 12) -> str:
    """The last lines of a log, to show why something did not start."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


def _state(pid: int) -> str:
    # The name in parentheses may hold anything, parentheses too.
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()


def _leash(with_signal: int) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, with_signal)
        # The parent may have ended before the tie held.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
