"""The zygote: a clean interpreter that forks one child per execution, and buries it.

It is one thread in one loop over the control socket (which brings the descriptors of an
execution, and whose end means that the worker is gone), the status socket of each execution
(by which the worker asks for its end, and learns how it ended) and the signals of its
children. It never reads a job, compiles or runs anything of a user's.

An execution has a session of its own. When its child ends, for whatever reason, the group is
killed before the child is reaped, so its id cannot belong to anybody else; then whatever has
left that session. The zygote is the subreaper of all its descendants, so a process that loses
its parent turns up as its child and, unless it belongs to the session of a live execution,
is killed. Only then the worker is told. A child of installed code that waits for another
execution is looked at in the same way when the worker asks for it, which sees by the kernel's list
of the zygote's children that there are others; it is ended unless it is the last one of its session.

Where each execution has a pid namespace of its own, the kernel does all that when the first
process of it ends; the zygote's own care is then the second one. It is the first process of a
namespace itself, and knows its children by other ids than the worker does.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from . import child, namespace, process, templates, walls
from .landlock import Opened

_SETUP_BYTES = 1 << 20
_DESCRIPTORS = 4
#: How long killed processes may take to vanish before the others are served again.
_BURIAL_SECONDS = 1.0


@dataclass(slots=True)
class _Execution:
    pid: int
    status: socket.socket


class _Zygote:
    def __init__(self, control: socket.socket, walls: walls.Walls) -> None:
        self._control = control
        self._walls = walls
        # 0, and the same for good, where the parent is outside of its namespace.
        self._parent = os.getppid()
        self._pid = os.getpid()
        self._by_pid: dict[int, _Execution] = {}
        self._by_status: dict[int, _Execution] = {}
        self._signals, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self._signals, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def serve(self) -> NoReturn:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._signals:
                    self._heed_signals()
                elif fd == self._control.fileno():
                    self._begin()
                elif fd in self._by_status:
                    self._heed(self._by_status[fd])

    def _begin(self) -> None:
        """Fork the child whose descriptors have come."""
        message, ancillary, _, _ = self._control.recvmsg(
            16, socket.CMSG_SPACE(_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            self._end_all()
        descriptors = array.array("i")
        for _level, _kind, data in ancillary:
            descriptors.frombytes(data)
        status_fd, messages, output, errors = descriptors
        status = socket.socket(fileno=status_fd)
        try:
            pid = self._walls.fork()
        except OSError as error:
            _tell(status, {"failed": str(error)})
            status.close()
        else:
            if pid == 0:
                self._become_child(messages, output, errors)
            execution = _Execution(pid, status)
            self._by_pid[pid] = self._by_status[status_fd] = execution
            self._poll.register(status, select.POLLIN)
            _tell(status, {"pid": pid if self._walls.shown is None else 0})
        for fd in (messages, output, errors):
            os.close(fd)

    def _become_child(self, messages: int, output: int, errors: int) -> NoReturn:
        try:
            child.live(
                parent=self._pid if self._walls.shown is None else 0,
                messages=messages,
                output=output,
                errors=errors,
                walls=self._walls,
            )
        finally:
            os._exit(1)

    def _heed(self, execution: _Execution) -> None:
        """The worker wants the end of an execution, does not listen any more, or wants to know
        whether the child may carry out another one.
        """
        try:
            asked = execution.status.recv(16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # What was to be read came to one that is buried by now, and whose descriptor is this one's.
            return
        except OSError:
            asked = b""
        if asked == b"look" and self._is_alone(execution):
            _tell(execution.status, {"alone": True})
            return
        _kill(execution.pid)
        if not asked:
            # At its end a socket stays readable; the child's death will close it.
            self._poll.unregister(execution.status)

    def _is_alone(self, execution: _Execution) -> bool:
        """Whether a child that waits for more is the last one of its session; else it is ended.

        Nobody but this process buries those who have lost their parents, so that nobody is
        missed between two lines of what the kernel says.
        """
        children = _children(self._pid)
        sessions = {_session(pid) for pid in children if pid not in self._by_pid}
        if sessions - {execution.pid}:
            self._kill_strays()
        return execution.pid in children and execution.pid not in sessions

    def _heed_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._signals, 4096)
        if os.getppid() != self._parent:
            self._end_all()
        self._bury()

    def _bury(self) -> None:
        """Reap whoever has died, with all that they leave behind."""
        ended: list[tuple[_Execution, Mapping[str, object]]] = []
        while dead := _dead_child():
            _kill_group(dead)
            _, status, usage = os.wait4(dead, 0)
            execution = self._by_pid.pop(dead, None)
            if execution is not None:
                cpu = usage.ru_utime + usage.ru_stime
                rss = usage.ru_maxrss * 1024
                ended.append((execution, {"status": status, "cpu": cpu, "rss": rss}))
        self._kill_strays()
        for execution, report in ended:
            del self._by_status[execution.status.fileno()]
            with contextlib.suppress(KeyError):
                self._poll.unregister(execution.status)
            _tell(execution.status, report)
            execution.status.close()

    def _kill_strays(self) -> None:
        """Kill whoever has lost its parent, until nobody turns up any more."""
        deadline = time.monotonic() + _BURIAL_SECONDS
        while strays := [pid for pid in _children(self._pid) if not self._belongs(pid)]:
            for pid in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in strays:
                # Never reaps an execution: those are not strays.
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)

    def _belongs(self, pid: int) -> bool:
        session = _session(pid)
        return session is None or pid in self._by_pid or session in self._by_pid

    def _end_all(self) -> NoReturn:
        """The worker is gone: leave nothing behind."""
        for pid in self._by_pid:
            _kill(pid)
        self._by_pid.clear()
        self._kill_strays()
        os._exit(0)


def main(fd: int) -> NoReturn:
    """Be a zygote on a control socket, whose first message says for whom."""
    process.name("celeriac-zygote")
    control = socket.socket(fileno=fd)
    setup = json.loads(control.recv(_SETUP_BYTES))
    # Its death also closes the control socket; this is for when a fork of it holds that open.
    process.signal_when_parent_dies(signal.SIGUSR1)
    if os.getppid() != setup["parent"]:
        os._exit(0)
    process.adopt_orphans()
    tier = walls.LIBRARY if setup["library"] else walls.SOURCE
    # `inside` itself has been imported by now, and shall not shadow anything.
    sys.path[:] = [place for place in sys.path if place != setup["home"]]
    sys.path.extend(place for place in setup["path"] if place not in sys.path)
    namespace.warm()
    if not setup["library"]:
        templates.warm(setup["templates"])
    for module in setup["preload"]:
        # A library that cannot be imported fails the jobs that name it, each with its reason.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    folders = [Opened(path=path, write=write) for path, write in setup["folders"]]
    try:
        standing = walls.stand(tier, setup["mode"], folders)
    except walls.Lacking as lacking:
        control.send(json.dumps({"lacking": str(lacking)}).encode())
        os._exit(0)
    if not tier.may_fork and standing.shown is None:
        # A change of user has made the kernel forget it.
        process.signal_when_parent_dies(signal.SIGUSR1)
        if os.getppid() != setup["parent"]:
            os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        # Stopping the worker's group must not end what the worker may still finish. A handler
        # and not SIG_IGN, which programs started by trusted code would inherit.
        signal.signal(number, _hear)
    gc.collect()
    gc.freeze()
    zygote = _Zygote(control, standing)
    ready = {
        "mode": standing.mode,
        "other_user": standing.other_user,
        "threads": tier.may_fork or standing.processes > 0,
    }
    control.send(json.dumps(ready).encode())
    zygote.serve()


def _hear(_number: int, _frame: object) -> None:
    """The wake-up descriptor has it."""


def _dead_child() -> int:
    """The id of a child that waits to be reaped, or 0."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found is not None else 0


def _kill(pid: int) -> None:
    """Kill an execution, whether or not it has its group already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in process.told(f"/proc/{pid}/task/{pid}/children").split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN: the groups are dead
        return []


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _tell(status: socket.socket, report: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):
        status.send(json.dumps(report).encode())
