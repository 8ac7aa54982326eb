"""The worker's handle of one zygote process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HOME = str(Path(__file__).parent)
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from inside.zygote import main; main(int(sys.argv[2]))"

#: How long a zygote may take to warm up; importing trusted libraries is part of it.
_READY_SECONDS = 60.0
#: How long a living zygote may take to read one order.
_ORDER_SECONDS = 5.0


class ZygoteDied(Exception):
    """The zygote could not be started, or has died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The worker's ends of one execution's descriptors."""

    status: socket.socket
    messages: socket.socket
    stdout: int
    stderr: int

    def close(self) -> None:
        self.status.close()
        self.messages.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Zygote:
    """A clean interpreter that forks on request; started with an exec, never with a bare fork."""

    def __init__(
        self,
        *,
        python: str,
        environment: Mapping[str, str],
        library: bool,
        path: Sequence[str] = (),
        preload: Sequence[str] = (),
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._order = threading.Lock()
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
        }
        try:
            self._await_ready(setup)
        except ZygoteDied:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self) -> Lane:
        """Have a child forked. Raises `ZygoteDied`, and `OSError` when descriptors run out."""
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
            handed = [their_status.fileno(), their_messages.fileno(), their_stdout, their_stderr]
            try:
                with self._order:
                    socket.send_fds(self._control, [b"begin"], handed)
            except OSError as error:
                raise ZygoteDied(str(error)) from error
            ours.pop_all()
        return Lane(status=status, messages=messages, stdout=stdout, stderr=stderr)

    def kill(self) -> None:
        """End it and all its children at once, and reap it."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Let it end its children, and reap it."""
        with self._order:
            self.closed = True
            self._control.close()
        try:
            self._process.wait(_ORDER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await_ready(self, setup: Mapping[str, object]) -> None:
        try:
            self._control.settimeout(_READY_SECONDS)
            self._control.send(json.dumps(setup).encode())
            answer = self._control.recv(16)
        except OSError as error:
            raise ZygoteDied(f"it did not get ready: {error}") from error
        if answer != b"ready":
            raise ZygoteDied("it ended before it was ready; its standard error says why")
        self._control.settimeout(_ORDER_SECONDS)
