"""One execution as the worker sees it: a loop over its descriptors until it is dead."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import orjson

from engine.core.records import replace
from engine.core.values import Json
from workers.sandbox import messages
from workers.sandbox.inside import child, wire
from workers.sandbox.inside.state import MODEL_CHARACTERS
from workers.sandbox.job import CallAnswer, Job, Outcome, Reason, SandboxUnavailable, Stream
from workers.sandbox.log import Log
from workers.sandbox.zygote import Lane, Zygote

OnLog: TypeAlias = Callable[[Stream, str], None]
OnCall: TypeAlias = Callable[[str, list[Json], dict[str, Json]], CallAnswer]
OnPrevious: TypeAlias = Callable[[], CallAnswer]
#: Gets all that was used so far; answers why it must not go on, or nothing.
OnUse: TypeAlias = Callable[[Mapping[str, float]], str | None]

#: How often a threading.Event is looked at: it cannot be polled together with descriptors.
_GLANCE_SECONDS = 0.2
#: How long a child may take to end by itself once it has reported.
_LEAVE_SECONDS = 1.0
#: How long the zygote may take to bury a child; then the zygote itself is at fault.
_BURIAL_SECONDS = 5.0
_CHUNK = 64 * 1024
_REPORT_BYTES = 4096


class Execution:
    """Watches one child; made and used by one thread."""

    def __init__(
        self,
        job: Job,
        lane: Lane,
        zygote: Zygote,
        *,
        on_log: OnLog,
        on_call: OnCall,
        on_previous: OnPrevious,
        on_use: OnUse,
        cancelled: threading.Event | None,
    ) -> None:
        self._job = job
        self._limits = job.limits
        self._lane = lane
        self._zygote = zygote
        self._on_call = on_call
        self._on_previous = on_previous
        self._on_use = on_use
        self._cancelled = cancelled
        self._log = Log(job.limits, on_log)
        # Three parts: the result, what is set in the state, and the rest, which is small.
        self._reader = wire.Reader(2 * self._limits.result_bytes + messages.OVERHEAD)
        self._outgoing = memoryview(wire.pack(orjson.dumps(messages.letter(job))))
        self._began = time.monotonic()
        self._deadline = self._began + self._limits.seconds
        #: When it may at the earliest have used more processor time than it should.
        self._overspent = self._began + messages.cpu_seconds(job) + 1
        self._used: dict[str, float] = {}
        self._model = ""
        #: What it was ended for, or has reported; the first one holds.
        self._verdict: Outcome | None = None
        self._killed = False
        self._buried: dict[str, Any] | None = None
        self._lost = False
        #: The child waits for another execution.
        self._stands = False
        self._poll = select.poll()

    def run(self) -> Outcome:
        """Watch until the child and all its descendants are dead; say how it ended."""
        lane = self._lane
        # The messages first: the kernel looks in this order, so what was printed before a message that
        # it has seen is seen with it.
        for source in (lane.messages, lane.status, lane.stdout, lane.stderr):
            self._poll.register(source, select.POLLIN)
        self._send()
        try:
            while self._buried is None and not self._lost and not self._stands:
                self._turn()
            if not self._stands:
                self._read_log()
                self._read_messages()
            self._log.close()
        except BaseException:
            self._stands = False
            raise
        finally:
            if self._stands:
                self._zygote.park(lane)
            else:
                self._zygote.drop(lane)
        return self._outcome()

    def _turn(self) -> None:
        ready = dict(self._poll.poll(self._patience() * 1000))
        # What was printed before a call or the end is handed on before it.
        if ready.keys() & {self._lane.stdout, self._lane.stderr}:
            self._read_log()
        heard = ready.get(self._lane.messages.fileno(), 0)
        if heard & select.POLLOUT:
            self._send()
        if heard & ~select.POLLOUT:
            self._read_messages()
        if self._verdict is not None:
            self._forget(self._lane.messages)
        if self._lane.status.fileno() in ready:
            self._read_status()
        self._watch()

    def _patience(self) -> float:
        left = max(0.0, self._deadline - time.monotonic())
        if self._verdict is not None:
            return left
        if self._cancelled is not None:
            return min(left, _GLANCE_SECONDS)
        if self._job.trusted:
            return min(left, max(_GLANCE_SECONDS, self._overspent - time.monotonic()))
        return left

    def _watch(self) -> None:
        """Look at what no descriptor tells: the deadline, and whether it is still wanted."""
        late = time.monotonic() >= self._deadline
        if self._killed:
            if late:
                self._lose()
        elif self._verdict is not None:
            if late:
                self._kill()
        elif self._cancelled is not None and self._cancelled.is_set():
            self._end("cancelled", "it was cancelled")
        elif late:
            self._end("timeout", f"it ran longer than {self._limits.seconds:g} s")
        elif self._job.trusted and time.monotonic() >= self._overspent:
            self._look_at_its_time()

    def _look_at_its_time(self) -> None:
        """End a child that does not heed the kernel's signal: of one that goes on, no limit is hard."""
        allowed = messages.cpu_seconds(self._job)
        used = _cpu_seconds(self._lane.pid) - self._lane.cpu
        if used > allowed + 1:
            self._end("cpu", f"it used more than {allowed} s of processor time")
        self._overspent = time.monotonic() + max(_GLANCE_SECONDS, allowed + 1 - used)

    def _end(self, reason: Reason, message: str) -> None:
        self._verdict = Outcome(ok=False, reason=reason, message=message)
        self._kill()

    def _kill(self) -> None:
        if self._buried is not None:
            return
        self._killed = True
        self._deadline = time.monotonic() + _BURIAL_SECONDS
        # When it cannot be sent, the zygote is dead or has buried the child already: its last
        # word, or its silence, is about to be read.
        with contextlib.suppress(OSError):
            self._lane.status.send(b"kill")

    def _lose(self) -> None:
        """The zygote is dead, or as good as dead; its children die with it."""
        self._lost = True
        self._zygote.kill()
        if self._lane.pid:
            # Programs that the child started: the kernel's signal reached the child alone.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._lane.pid, signal.SIGKILL)

    def _read_log(self) -> None:
        for stream, fd in self._streams():
            # Twice a pipe's content: who prints for ever shall not be listened to for ever.
            for _ in range(2):
                try:
                    data = os.read(fd, _CHUNK)
                except BlockingIOError:
                    break
                if not data:
                    self._forget(fd)
                    break
                self._log.feed(stream, data)
                if len(data) < _CHUNK:
                    break

    def _streams(self) -> tuple[tuple[Stream, int], ...]:
        return ("stdout", self._lane.stdout), ("stderr", self._lane.stderr)

    def _read_status(self) -> None:
        try:
            report = self._hear()
        except BlockingIOError:
            return
        if not report:
            self._lose()
            return
        found = json.loads(report)
        self._lane.pid = found.get("pid", self._lane.pid)
        if "failed" in found:
            raise SandboxUnavailable(f"no process could be made: {found['failed']}")
        if "status" in found:
            self._buried = found

    def _hear(self) -> bytes:
        try:
            return self._lane.status.recv(_REPORT_BYTES)
        except ConnectionResetError:
            # Our last word has crossed its last word, which lies behind this error.
            return self._lane.status.recv(_REPORT_BYTES)

    def _send(self) -> None:
        if not self._outgoing:
            return
        try:
            sent = self._lane.messages.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:  # it does not read any more; how it ended will say why
            sent = len(self._outgoing)
        self._outgoing = self._outgoing[sent:]
        wanted = select.POLLIN | select.POLLOUT if self._outgoing else select.POLLIN
        with contextlib.suppress(OSError):  # nothing more is heeded
            self._poll.modify(self._lane.messages, wanted)

    def _read_messages(self) -> None:
        """Heed what has come. What was printed before the first of it has been read."""
        first = True
        while self._verdict is None:
            try:
                data = self._lane.messages.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._forget(self._lane.messages)
                return
            self._reader.feed(data)
            try:
                for message in self._reader.messages():
                    if not first:
                        self._read_log()
                    first = False
                    self._heed(message)
                    if self._verdict is not None:
                        return
            except wire.TooLong as error:
                limit = self._limits.result_bytes
                self._end("output_too_large", f"it sent {error} at once and may send {limit}")
            except (messages.Forged, wire.Garbled) as error:
                self._end("killed", f"it sent what is not a message ({error})")

    def _heed(self, parts: tuple[memoryview, ...]) -> None:
        head = messages.head(parts)
        match head:
            case {"type": "done", "returned_state": bool(returned_state)}:
                self._verdict = messages.done(self._job, parts[1:], returned_state=returned_state)
            case {
                "type": "failed",
                "reason": "error" | "memory" | "output_too_large" as reason,
                "message": str(message),
            }:
                self._verdict = Outcome(
                    ok=False, reason=cast("Reason", reason), message=message[:2000]
                )
            case {"type": "call", "tool": str(tool)}:
                args, kwargs = messages.called(self._job, parts[1:])
                self._answer(partial(self._on_call, tool, args, kwargs))
            case {"type": "previous"}:
                self._answer(self._on_previous)
            case {"type": "used", "model": str(model)} if len(model) <= MODEL_CHARACTERS:
                self._model = model or self._model
                self._used = messages.used(self._used, parts[1:])
                if (why := self._on_use(dict(self._used))) is not None:
                    self._end("over_budget", why)
            case _:
                raise messages.Forged("it has no known type")
        if self._verdict is not None and not self._killed:
            self._deadline = time.monotonic() + _LEAVE_SECONDS
            self._stands = self._job.trusted and self._goes_on(head)

    def _goes_on(self, head: Json) -> bool:
        """Whether the child has said that it waits for more, and what it has used until then."""
        match head:
            case {"stands": True, "cpu": float(cpu), "rss": int(rss)}:
                self._lane.cpu, before = cpu, self._lane.cpu
                self._buried = {"cpu": cpu - before, "rss": rss}
                return True
            case _:
                return False

    def _answer(self, ask: Callable[[], CallAnswer]) -> None:
        """Have a question answered; meanwhile the child waits."""
        if self._buried is not None or self._lost:
            return  # nobody is there to hear the answer
        self._watch()
        if self._verdict is not None:
            return
        answer = ask()
        if answer.suspend:
            self._verdict = Outcome(ok=False, suspended=True, message=answer.message)
            self._kill()
            return
        self._watch()  # the deadline may have passed meanwhile
        if self._verdict is not None:
            return
        reply = {
            "ok": answer.ok,
            "value": answer.value,
            "reason": answer.reason,
            "message": answer.message,
        }
        self._outgoing = memoryview(bytes(self._outgoing) + wire.pack(json.dumps(reply).encode()))
        self._send()

    def _forget(self, source: int | socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(source)

    def _outcome(self) -> Outcome:
        buried = self._buried or {}
        cpu = float(buried.get("cpu", 0.0))
        verdict = self._verdict or self._death(buried, cpu)
        return replace(
            verdict,
            seconds=time.monotonic() - self._began,
            cpu_seconds=cpu,
            max_rss=int(buried.get("rss", 0)),
            log_truncated=self._log.truncated,
            used=self._used,
            model=self._model,
        )

    def _death(self, buried: Mapping[str, Any], cpu: float) -> Outcome:
        """Why a child ended that nobody ended and that said nothing."""
        if not buried:
            return messages.failed("killed", "the process that it ran under has died")
        number = os.waitstatus_to_exitcode(buried["status"])
        allowed = messages.cpu_seconds(self._job)
        if number == -signal.SIGXCPU or (number == -signal.SIGKILL and cpu >= allowed):
            return messages.failed("cpu", f"it used more than {allowed} s of processor time")
        if number == child.OUT_OF_MEMORY:
            return messages.failed("memory", "it needed more memory than its limit")
        if number < 0:
            return messages.failed("killed", f"it was ended by {_signal_name(-number)}")
        return messages.failed(
            "killed", f"it ended by itself, with exit status {number}, without a result"
        )


def _cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in seconds; 0 where there is none of that id."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return 0.0
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
