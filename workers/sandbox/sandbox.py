"""A worker's sandbox: it keeps the zygotes and runs jobs in their children."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.core.values import Json
from workers.sandbox.execution import Execution, OnCall, OnLog, OnPrevious, OnUse
from workers.sandbox.job import CallAnswer, Job, Outcome, SandboxUnavailable
from workers.sandbox.zygote import Lane, Zygote, ZygoteDied


class Sandbox:
    """Runs jobs in child processes; one per worker process, for all its threads.

    `environment` is what trusted code finds in its environment besides the two variables that
    everybody gets, `preload` what its zygote imports once, so that children need not.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
        python: str = sys.executable,
    ) -> None:
        self._environment = dict(environment or {})
        self._preload = tuple(preload)
        self._python = python
        self._owner = 0
        self._starting = {False: threading.Lock(), True: threading.Lock()}
        self._zygotes: dict[bool, Zygote] = {}

    def start(self) -> None:
        """Start the zygotes. Raises `SandboxUnavailable`.

        To be called in the process that runs jobs: after Celery has forked, not before.
        """
        self._owner = os.getpid()
        for library in (False, True):
            try:
                self._zygote(library=library)
            except ZygoteDied as error:
                self.close()
                raise SandboxUnavailable(f"the sandbox cannot be started: {error}") from error

    def close(self) -> None:
        """End the zygotes, and with them whatever still runs."""
        self._owner = 0
        for library, lock in self._starting.items():
            with lock:
                zygote = self._zygotes.pop(library, None)
            if zygote is not None:
                zygote.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def run(
        self,
        job: Job,
        *,
        on_log: OnLog = lambda _stream, _line: None,
        on_call: OnCall | None = None,
        on_previous: OnPrevious | None = None,
        on_use: OnUse = lambda _used: None,
        cancelled: threading.Event | None = None,
    ) -> Outcome:
        """Carry a job out and wait for its end.

        `on_log` gets each line as it is printed, `on_call` each tool call, `on_previous` the
        question what led to the job, `on_use` all that it has told so far to have used, and may say
        why it must not go on; all run in this thread, and what they raise ends the job and
        is raised here. Raises `SandboxUnavailable`
        where this machine has no process to give: that says nothing of the job. The deadline goes on
        during a call and takes effect when the call returns: give `on_call` one of its own.
        """
        if self._owner != os.getpid():
            raise SandboxUnavailable("the sandbox of this process is not started, or closed")
        if cancelled is not None and cancelled.is_set():
            return Outcome(ok=False, reason="cancelled", message="it was cancelled")
        try:
            zygote, lane = self._begin(library=job.trusted)
        except (ZygoteDied, OSError) as error:
            raise SandboxUnavailable(f"the sandbox cannot start: {error}") from error
        return Execution(
            job,
            lane,
            zygote,
            on_log=on_log,
            on_call=on_call or _no_tools,
            on_previous=on_previous or _nothing,
            on_use=on_use,
            cancelled=cancelled,
        ).run()

    def _begin(self, *, library: bool) -> tuple[Zygote, Lane]:
        zygote = self._zygote(library=library)
        try:
            return zygote, zygote.begin()
        except ZygoteDied:
            # It died while nobody looked; nothing of this job has begun.
            zygote.kill()
        zygote = self._zygote(library=library)
        return zygote, zygote.begin()

    def _zygote(self, *, library: bool) -> Zygote:
        with self._starting[library]:
            zygote = self._zygotes.get(library)
            if zygote is None or zygote.closed:
                zygote = Zygote(
                    python=self._python,
                    environment=self._variables(library=library),
                    library=library,
                    path=_path() if library else (),
                    preload=self._preload if library else (),
                )
                self._zygotes[library] = zygote
            return zygote

    def _variables(self, *, library: bool) -> dict[str, str]:
        # Each thread's arena would else count 64 MiB of address space against the limit.
        variables = {"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
        if "LD_LIBRARY_PATH" in os.environ:  # some interpreters do not start without it
            variables["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        return {**variables, **self._environment} if library else variables


def _path() -> list[str]:
    return [str(Path(place).absolute()) for place in sys.path]


def _no_tools(tool: str, _args: list[Json], _kwargs: dict[str, Json]) -> CallAnswer:
    return CallAnswer(ok=False, reason="unknown_tool", message=f"there is no tool {tool}")


def _nothing() -> CallAnswer:
    return CallAnswer(ok=True, value=[])
