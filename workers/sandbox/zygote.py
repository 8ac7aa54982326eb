"""The worker's handle of one zygote process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.sandbox.inside import process
from workers.sandbox.inside.landlock import Opened

_HOME = str(Path(__file__).parent)
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from inside.zygote import main; main(int(sys.argv[2]))"

#: How long a zygote may take to warm up; importing trusted libraries is part of it.
_READY_SECONDS = 60.0
#: Children that wait for more to do, of all tenants; those that have waited longest go first.
_MOST_PARKED = 32
#: How long a living zygote may take to read one order.
_ORDER_SECONDS = 5.0
_REPORT_BYTES = 4096


#: A process, its user and its group, as the kernel vouches for them.
_CREDENTIALS = struct.Struct("3i")


class ZygoteDied(Exception):
    """The zygote could not be started, or has died."""


class WallsLacking(ZygoteDied):
    """A wall cannot be had on this machine; the message says which, and why."""


@dataclass(slots=True, kw_only=True)
class Lane:
    """The worker's ends of the descriptors of one child; none of them ever blocks."""

    status: socket.socket
    messages: socket.socket
    stdout: int
    stderr: int
    #: Whose code the child carries out, and nobody else's.
    whose: str = ""
    #: The child, once the zygote has told; 0 until then.
    pid: int = 0
    #: Processor time that it has used for what it has carried out already, in seconds.
    cpu: float = 0.0
    #: The zygote was asked whether the child is alone, and has not been heard yet.
    asked: bool = False

    def close(self) -> None:
        self.status.close()
        self.messages.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Zygote:
    """A clean interpreter that forks on request; started with an exec, never with a bare fork.

    In mode `full` the process that is started stays outside of the namespaces and waits for the
    zygote, which it forks and which dies with it; `pid` is the zygote's own.
    """

    def __init__(
        self,
        *,
        python: str,
        environment: Mapping[str, str],
        library: bool,
        path: Sequence[str] = (),
        preload: Sequence[str] = (),
        mode: str = "limits",
        folders: Sequence[Opened] = (),
        templates: Sequence[str] = (),
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._order = threading.Lock()
        self._parked: list[Lane] = []
        #: The children that have waited for more, and may live.
        self._pids: set[int] = set()
        self.closed = False
        # Without the `site` module there is nothing installed to be found. Trusted code needs
        # it, for `.pth` files and the import hooks of editable installs.
        flags = ["-I"] if library else ["-I", "-S", "-B"]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [python, *flags, "-c", _BOOT, _HOME, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=dict(environment),
                    cwd=None if library else "/",
                    # A stop sent to the worker's group is the worker's to handle.
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise ZygoteDied(f"{python} cannot be started: {error}") from error
        setup = {
            "parent": os.getpid(),
            "home": _HOME,
            "library": library,
            "path": list(path),
            "preload": list(preload),
            "mode": mode,
            "folders": [[folder.path, folder.write] for folder in folders],
            "templates": list(templates),
        }
        self._alive: int | None = None
        #: The zygote's id.
        self.pid = self._process.pid
        #: Whether code runs as another user than this process.
        self.other_user = False
        #: Whether code may start threads.
        self.threads = True
        try:
            self._await_ready(setup)
        except ZygoteDied:
            self.kill()
            raise

    def begin(self, whose: str = "") -> Lane:
        """Have a child forked for somebody's code. Raises `ZygoteDied`, and `OSError` when descriptors run out."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            status, their_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(status.close)
            theirs.callback(their_status.close)
            messages, their_messages = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.callback(messages.close)
            theirs.callback(their_messages.close)
            stdout, their_stdout = os.pipe()
            ours.callback(os.close, stdout)
            theirs.callback(os.close, their_stdout)
            stderr, their_stderr = os.pipe()
            ours.callback(os.close, stderr)
            theirs.callback(os.close, their_stderr)
            for end in (status.fileno(), messages.fileno(), stdout, stderr):
                os.set_blocking(end, False)
            handed = [their_status.fileno(), their_messages.fileno(), their_stdout, their_stderr]
            try:
                with self._order:
                    socket.send_fds(self._control, [b"begin"], handed)
            except OSError as error:
                raise ZygoteDied(str(error)) from error
            ours.pop_all()
        return Lane(status=status, messages=messages, stdout=stdout, stderr=stderr, whose=whose)

    def resume(self, whose: str = "") -> Lane | None:
        """The lane of a child that has carried out somebody's code and waits for more of it."""
        while True:
            with self._order:
                waiting = (each for each in reversed(self._parked) if each.whose == whose)
                lane = next(waiting, None)
                if self.closed or lane is None:
                    return None
                self._parked.remove(lane)
            if _waits(lane):
                return lane
            self.drop(lane)

    def park(self, lane: Lane) -> None:
        """Keep the lane of a child that waits for more.

        Whoever it has left behind is a child of the zygote by now. Where that has others than those that
        wait, or did, it is asked which of them are whose.
        """
        gone = lane
        self._pids.add(lane.pid)
        lane.asked = self._has_others(lane)
        try:
            if lane.asked:
                lane.status.send(b"look")
        except OSError:  # the zygote, or the child, is dead
            self.drop(lane)
            return
        with self._order:
            if not self.closed:
                self._parked.append(lane)
                if len(self._parked) <= _MOST_PARKED:
                    return
                gone = self._parked.pop(0)
        self.drop(gone)

    def drop(self, lane: Lane) -> None:
        """Let go of a lane: with its status socket closed, the zygote ends whatever still runs."""
        self._pids.discard(lane.pid)
        lane.close()

    def _has_others(self, lane: Lane) -> bool:
        """Whether the zygote has children besides a lane's that never waited for more, for all that is known."""
        try:
            told = self._children()
            # For each that is buried while it reads them, the kernel may leave out another.
            if len(told.split()) > 1 and self._children() != told:
                return True
        except OSError:
            return True
        found = {int(pid) for pid in told.split()}
        # The number of one that has died may be given to anybody.
        self._pids.intersection_update(found)
        return lane.pid not in found or not found <= self._pids

    def _children(self) -> bytes:
        return process.told(f"/proc/{self.pid}/task/{self.pid}/children")

    def kill(self) -> None:
        """End it and all its children at once, and reap it."""
        with self._order:
            if self._alive is None:
                self._process.kill()
            else:
                # Whoever stands by reaps it, and ends.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._alive, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Let it end its children, and reap it."""
        with self._order:
            self.closed = True
            for lane in self._parked:
                lane.close()
            self._parked.clear()
            self._control.close()
            alive, self._alive = self._alive, None
        try:
            self._process.wait(_ORDER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if alive is not None:
            # It may be another process than the one that was started, and dies with that.
            dying = select.poll()
            dying.register(alive, select.POLLIN)
            dying.poll(_ORDER_SECONDS * 1000)
            os.close(alive)

    def _await_ready(self, setup: Mapping[str, object]) -> None:
        try:
            self._control.settimeout(_READY_SECONDS)
            # Its own id, should it live in a namespace where it has another one.
            self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._control.send(json.dumps(setup).encode())
            room = socket.CMSG_SPACE(_CREDENTIALS.size)
            answer, vouched, _, _ = self._control.recvmsg(4096, room)
        except OSError as error:
            raise ZygoteDied(f"it did not get ready: {error}") from error
        if not answer:
            raise ZygoteDied("it ended before it was ready; its standard error says why")
        said = json.loads(answer)
        if "lacking" in said:
            raise WallsLacking(said["lacking"])
        self.other_user, self.threads = said["other_user"], said["threads"]
        for _level, kind, data in vouched:
            if kind == socket.SCM_CREDENTIALS:
                self.pid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
        with contextlib.suppress(ProcessLookupError):
            self._alive = os.pidfd_open(self.pid)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        self._control.settimeout(_ORDER_SECONDS)


def _waits(lane: Lane) -> bool:
    """Whether the child of a parked lane lives, left nobody behind, and says nothing unasked."""
    try:
        # Nothing, where it has ended meanwhile.
        while lane.asked and (report := _said(lane.status)):
            found = json.loads(report)
            if "status" in found:
                return False
            lane.pid = found.get("pid", lane.pid)
            lane.asked = "alone" not in found
    except OSError:
        return False
    return not lane.asked and not _ready(lane.status, lane.messages, lane.stdout, lane.stderr)


def _said(status: socket.socket) -> bytes:
    """What the zygote says next of a child. Raises `OSError` where it does not say it in time."""
    try:
        return status.recv(_REPORT_BYTES)
    except BlockingIOError:
        _ready(status, seconds=_ORDER_SECONDS)
        return status.recv(_REPORT_BYTES)


def _ready(*sources: socket.socket | int, seconds: float = 0) -> bool:
    """Whether one of them has something to say, or has been closed, within so many seconds."""
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
