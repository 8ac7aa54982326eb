"""Processes of fleets, forked from one that has imported everything.

A process of the platform imports for most of a second of a processor before it does anything, and the
tests start hundreds. Here that is done once for each process of pytest. What is forked then runs
`python -P -m celeriac KIND` from its first line, in a session, a folder and an environment of its own.
Its walls are those that others of the same nursery have: they are attacked here, once, which takes as
long as the imports.

What a process imports, whether it can, and that it attacks its walls at every start, is shown by those
that are really started (`celeriac up`, the Procfile, the drill), and by the tests of the sandbox.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from celeriac.embedded import processes
from celeriac.embedded.processes import Running
from tests.support.services import ROOT
from workers.sandbox import Sandbox, proof

#: What processes of a fleet import sooner or later.
_IMPORTED = (
    "celeriac.cli.fleet",
    "celeriac.cli.web",
    "celery.app.routes",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.events.dispatcher",
    "celery.utils.static",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "psycopg2.extras",
    "web.app",
    "workers.processes",
)
_PLAIN = [sys.executable, "-P", "-m", "celeriac"]
#: More than a request is long.
_LONG = 1 << 20


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    leash: int | None = None,
) -> Running:
    """As `processes.spawn` does it, for the commands of a fleet."""
    if list(command[: len(_PLAIN)]) != _PLAIN or leash != signal.SIGKILL:
        return processes.spawn(
            command, log=log, environment=environment, folder=folder, leash=leash
        )
    if not _nurseries:
        assert threading.current_thread() is threading.main_thread(), "it would end with the thread"
        _nurseries.append(_Nursery())
    (nursery,) = _nurseries
    pid = nursery.ask(
        fork=[str(word) for word in command[len(_PLAIN) :]],
        log=str(log),
        environment=dict(environment),
        folder=str(folder),
    )
    return Running(pid=pid, process=_Forked(nursery, pid))  # type: ignore[arg-type]


class _Forked:
    """What is asked of a `subprocess.Popen`. It is there until somebody has asked how it ended."""

    def __init__(self, nursery: _Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask(ended=self.pid, options=os.WNOHANG)
        return self.returncode

    def wait(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask(ended=self.pid, options=0)
        return self.returncode


class _Nursery:
    """Seen by who has it fork. It ends with the thread that makes it, and all that it forked with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(its.fileno())],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""},
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
                preexec_fn=processes._leash(signal.SIGKILL),  # noqa: PLW1509  # calls prctl alone
            )
        # It ends when this process does: nobody asks how.
        self._process.returncode = 0

    def ask(self, **what: Any) -> Any:
        with self._lock:
            self._channel.send(json.dumps(what).encode())
            said = self._channel.recv(_LONG)
        assert said, "the nursery has ended"
        return json.loads(said)


_nurseries: list[_Nursery] = []


# --- the nursery ------------------------------------------------------------------------------


def _serve(channel: socket.socket) -> list[str]:
    """Fork as often as it is asked to. Returns in what was forked: what is to be typed there."""
    for name in _IMPORTED:
        importlib.import_module(name)
    _prove()
    gc.collect()
    # What is there is shared by all: nobody need look through it.
    gc.freeze()
    tie = processes._leash(signal.SIGKILL)
    while said := channel.recv(_LONG):
        match json.loads(said):
            case {"fork": typed, **how}:
                # Read to its end before anybody is told of what was forked: whoever is told may kill
                # its group, and look into its log.
                ready, become = os.pipe()
                answer: int | None = os.fork()
                if answer == 0:
                    channel.close()
                    os.close(ready)
                    _become(tie, **how)
                    os.close(become)
                    return list(typed)
                os.close(become)
                os.read(ready, 1)
                os.close(ready)
            case {"ended": pid, "options": options}:
                ended, status = os.waitpid(pid, options)
                answer = os.waitstatus_to_exitcode(status) if ended else None
        channel.send(json.dumps(answer).encode())
    sys.exit()


def _prove() -> None:
    """Attack the walls of the mode that this machine has, for all that will be forked."""
    with Sandbox() as sandbox:
        standing = sandbox.standing()
    assert threading.active_count() == 1, "a thread would not be forked"
    whole = proof.breaches

    def known(run: Any, *, mode: str, zygote: int) -> tuple[int, tuple[str, ...]]:
        if mode == standing.mode:
            return standing.tried, standing.breaches
        return whole(run, mode=mode, zygote=zygote)

    proof.breaches = known


def _become(
    tie: Callable[[], None] | None, *, log: str, environment: Mapping[str, str], folder: str
) -> None:
    """Be what `processes.spawn` would have started."""
    os.setsid()
    if tie is not None:
        tie()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    sys.argv = ["celeriac", *_serve(socket.socket(fileno=int(sys.argv[1])))]
    runpy.run_module("celeriac", run_name="__main__", alter_sys=True)
