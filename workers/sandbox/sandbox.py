"""A worker's sandbox: it keeps the zygotes and runs jobs in their children."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.core.values import Json
from workers.sandbox import grants, proof
from workers.sandbox.execution import Execution, OnCall, OnLog, OnPrevious, OnUse
from workers.sandbox.inside.landlock import Opened
from workers.sandbox.inside.walls import MODES
from workers.sandbox.job import CallAnswer, Job, Outcome, SandboxUnavailable
from workers.sandbox.standing import Standing
from workers.sandbox.zygote import Lane, WallsLacking, Zygote, ZygoteDied


class Sandbox:
    """Runs jobs in child processes; one per worker process, for all its threads.

    `environment` is what trusted code finds in its environment besides the two variables that
    everybody gets, `preload` what its zygote imports once, so that children need not.

    `mode` is one of `MODES`, or `auto`: the strongest that can be had. `minimum` is the weakest mode
    in which source is run at all. `folders` are those in which jobs may be granted files; they are
    looked up once, at the start.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
        python: str = sys.executable,
        mode: str = "auto",
        minimum: str = "portable",
        folders: Sequence[Opened] = (),
    ) -> None:
        if mode not in {"auto", *MODES} or minimum not in MODES:
            raise ValueError(f"modes are auto, {', '.join(MODES)}; not {mode} and {minimum}")
        self._environment = dict(environment or {})
        self._preload = tuple(preload)
        self._python = python
        self._mode = mode
        self._minimum = minimum
        self._folders = grants.resolved(folders)
        self._standing = Standing(mode=None, minimum=minimum)
        self._owner = 0
        self._starting = {False: threading.Lock(), True: threading.Lock()}
        self._zygotes: dict[bool, Zygote] = {}

    def start(self) -> None:
        """Start the zygotes, and prove the walls. Raises `SandboxUnavailable`.

        To be called in the process that runs jobs: after Celery has forked, not before. Where walls
        cannot be had or do not hold, it is no error: `standing` says so, and source is refused.
        """
        self._owner = os.getpid()
        try:
            self._raise_walls()
            self._zygote(library=True)
            if self._standing.refusal is None:
                self._prove()
        except (ZygoteDied, OSError) as error:
            self.close()
            raise SandboxUnavailable(f"the sandbox cannot be started: {error}") from error

    def standing(self) -> Standing:
        """Which walls stand around source, and whether it is run at all."""
        return self._standing

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
        where this machine has no process to give, or no walls: that says nothing of the job. The
        deadline goes on during a call and takes effect when the call returns: give `on_call` one of its own.
        """
        if self._owner != os.getpid():
            raise SandboxUnavailable("the sandbox of this process is not started, or closed")
        if cancelled is not None and cancelled.is_set():
            return Outcome(ok=False, reason="cancelled", message="it was cancelled")
        if not job.trusted:
            if (refusal := self._standing.refusal) is not None:
                raise SandboxUnavailable(refusal)
            if (refused := grants.refusal(job, self._folders)) is not None:
                return Outcome(ok=False, reason="refused", message=refused)
        return self._run(
            job,
            on_log=on_log,
            on_call=on_call,
            on_previous=on_previous,
            on_use=on_use,
            cancelled=cancelled,
        )

    def _run(
        self,
        job: Job,
        *,
        on_log: OnLog = lambda _stream, _line: None,
        on_call: OnCall | None = None,
        on_previous: OnPrevious | None = None,
        on_use: OnUse = lambda _used: None,
        cancelled: threading.Event | None = None,
    ) -> Outcome:
        try:
            zygote, lane = self._begin(library=job.trusted, whose=job.whose)
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

    def _raise_walls(self) -> None:
        """Start the zygote for source in the strongest mode that is wanted and can be had."""
        modes = MODES[MODES.index(self._minimum) :] if self._mode == "auto" else (self._mode,)
        lacking: dict[str, str] = {}
        for mode in reversed(modes):
            self._standing = Standing(mode=mode, minimum=self._minimum, lacking=lacking)
            try:
                zygote = self._zygote(library=False)
            except WallsLacking as error:
                lacking[mode] = str(error)
                continue
            self._standing = replace(
                self._standing, other_user=zygote.other_user, threads=zygote.threads
            )
            return
        self._standing = Standing(mode=None, minimum=self._minimum, lacking=lacking)

    def _prove(self) -> None:
        """Attack the walls; what gets through keeps source from being run."""
        zygote = self._zygotes[False].pid
        tried, breaches = proof.breaches(self._run, mode=self._standing.mode or "", zygote=zygote)
        self._standing = replace(self._standing, tried=tried, breaches=breaches)

    def _begin(self, *, library: bool, whose: str) -> tuple[Zygote, Lane]:
        zygote = self._zygote(library=library)
        if library and (lane := zygote.resume(whose)) is not None:
            return zygote, lane
        try:
            return zygote, zygote.begin(whose)
        except ZygoteDied:
            # It died while nobody looked; nothing of this job has begun.
            zygote.kill()
        zygote = self._zygote(library=library)
        return zygote, zygote.begin(whose)

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
                    mode="limits" if library else self._standing.mode or "limits",
                    folders=() if library else self._folders,
                    templates=() if library else template_folders(),
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


def template_folders() -> list[str]:
    """Where the template language is installed."""
    found = (importlib.util.find_spec(name) for name in ("jinja2", "markupsafe"))
    return sorted({str(Path(spec.origin).parents[1]) for spec in found if spec and spec.origin})


def _no_tools(tool: str, _args: list[Json], _kwargs: dict[str, Json]) -> CallAnswer:
    return CallAnswer(ok=False, reason="unknown_tool", message=f"there is no tool {tool}")


def _nothing() -> CallAnswer:
    return CallAnswer(ok=True, value=[])
