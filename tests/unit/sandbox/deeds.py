"""Library code that does what no library should, for the tests: it runs in children alone."""

# ruff: noqa: T201  # what it prints is looked at

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SOCKET = 3
IMPORTER = os.getpid()


def importer(state: Any) -> int:
    return IMPORTER


def leave(state: Any) -> None:
    os._exit(state["status"])


def die(state: Any) -> None:
    os.kill(os.getpid(), state["signal"])


def crash(state: Any) -> None:
    ctypes.string_at(0)


def spin_deaf(state: Any) -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


def descriptors(state: Any) -> list[int]:
    return sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())


def environment(state: Any) -> dict[str, str]:
    return dict(os.environ)


def kernel_environment(state: Any) -> str:
    return Path("/proc/self/environ").read_text().replace("\0", "\n")


def limits(state: Any) -> dict[str, list[int]]:
    names = ["RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_NOFILE"]
    return {name: list(resource.getrlimit(getattr(resource, name))) for name in names}


def standing(state: Any) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
    }


def context_of(state: Any, context: Any) -> dict[str, Any]:
    names = ("run_id", "node", "iteration", "attempt", "step", "idempotency_key")
    return {name: getattr(context, name) for name in names}


def ask(state: Any, *, context: Any) -> Any:
    return context.invoke("add_one", state)


def grow(state: Any) -> Any:
    state.set("n", state.get("n", 0) + 1)
    return state


def small(state: Any) -> bool:
    return state["n"] < 3


def speak(state: Any) -> None:
    print("out")
    print("err", file=sys.stderr)
    os.write(1, b"raw \xff\0 bytes\r\nno end")


def pour(state: Any) -> None:
    while True:
        os.write(1, b"x" * 4096)


def leave_daemon(state: Any) -> int:
    """A grandchild that has left the session and whose parent is gone."""
    pipe, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(theirs, str(os.getpid()).encode())
            while True:
                time.sleep(60)
        os._exit(0)
    return int(os.read(pipe, 20))


def family(state: Any) -> None:
    """Say who is there: this process, a program it started, and one that left the session."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    near = subprocess.Popen(["sleep", "600"], **quiet)  # type: ignore[call-overload]
    far = subprocess.Popen(["sleep", "600"], start_new_session=True, **quiet)  # type: ignore[call-overload]
    print(json.dumps([os.getpid(), near.pid, far.pid]))
    near.wait()


def put(data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(SOCKET, data) :]


def pack(*parts: bytes) -> bytes:
    body = b"".join(struct.pack("!I", len(part)) + part for part in parts)
    return struct.pack("!I", len(body)) + body


DONE = b'{"type":"done","returned_state":false}'

FORGERIES = {
    "noise": b"\xff" * 100,
    "zeros": bytes(100),
    "nothing": struct.pack("!I", 0),
    "half a message": pack(DONE, b"1", b"{}", b"[]")[:-3],
    "a part that is too long": struct.pack("!III", 8, 1000, 0),
    "a part without a length": struct.pack("!IH", 2, 0),
    "no JSON": pack(b"hello"),
    "a list": pack(b"[]"),
    "a pickle": pack(b"cos\nsystem\n(S'true'\ntR."),
    "an unknown type": pack(b'{"type":"praise"}'),
    "an unknown reason": pack(b'{"type":"failed","reason":"cancelled","message":"x"}'),
    "a long head": pack(b" " * 100_000 + b"{}"),
    "too few parts": pack(DONE),
    "too many parts": pack(DONE, b"1", b"{}", b"[]", b"true", b"1"),
    "a patch that is a list": pack(DONE, b"1", b"[]", b"[]"),
    "deletions that are none": pack(DONE, b"1", b"{}", b"{}"),
    "NaN": pack(DONE, b"NaN", b"{}", b"[]"),
    "a NUL": pack(DONE, b'"\\u0000"', b"{}", b"[]"),
    "a surrogate": pack(DONE, b'"\\ud800"', b"{}", b"[]"),
    "a huge integer": pack(DONE, b"9" * 5000, b"{}", b"[]"),
    "depth": pack(DONE, b"[" * 200_000, b"{}", b"[]"),
    "a key given twice": pack(DONE, b"1", b'{"a":1,"a":2}', b"[]"),
    "bytes that are not UTF-8": pack(DONE, b'"\xff"', b"{}", b"[]"),
    "an oversize value": pack(DONE, b'"' + b"x" * 1_048_576 + b'"', b"{}", b"[]"),
    "a call without arguments": pack(b'{"type":"call","tool":"t"}'),
    "a call with a list of names": pack(b'{"type":"call","tool":"t"}', b"[]", b"[]"),
    "a call of no tool": pack(b'{"type":"call","tool":7}', b"[]", b"{}"),
    "an oversize call": pack(b'{"type":"call","tool":"t"}', b"[" + b" " * 1_048_576 + b"]", b"{}"),
}


def forge(state: Any) -> None:
    put(FORGERIES[state["forgery"]])
    os.close(SOCKET)
    while True:
        time.sleep(60)


STATUSES: dict[str, tuple[bytes, ...]] = {
    "missing": (b"1",),
    "too much": (b"1", b"null", b"null"),
    "a list": (b"1", b"[]"),
    "text": (b"1", b'"fine"'),
    "an object without a value": (b"1", b"{}"),
    "a value that is no number": (b"1", b'{"value":"1"}'),
}


def forge_status(which: str) -> None:
    put(pack(DONE, *STATUSES[which]))
    os.close(SOCKET)
    while True:
        time.sleep(60)


def announce_much(state: Any) -> None:
    put(struct.pack("!I", 2**32 - 1))
    while True:
        put(bytes(65536))


def report_and_stay(state: Any) -> None:
    put(pack(DONE, b'"reported"', b"{}", b"[]"))
    put(pack(b'{"type":"call","tool":"t"}', b"[]", b"{}"))
    while True:
        time.sleep(60)


def call_and_leave(state: Any) -> None:
    put(pack(b'{"type":"call","tool":"t"}', b"[]", b"{}"))
    os._exit(9)


def half_a_message_and_leave(state: Any) -> None:
    put(FORGERIES["half a message"])
    os._exit(0)


def slow_identity(state: Any) -> str:
    """Say who it is and end when two signals have been handled."""
    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        known = signal.getsignal(number)
        assert callable(known)
        signal.signal(
            number, lambda number, frame, known=known: handled.append(known(number, frame))
        )
    print(os.getpid())
    while len(handled) < 2:
        time.sleep(0.01)
    return "finished"


def close_streams(state: Any) -> str:
    sys.stdout.close()
    os.close(2)
    return "closed"
