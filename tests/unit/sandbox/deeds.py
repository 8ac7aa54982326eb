"""Library code that does what no library should, for the tests: it runs in children alone."""

# ruff: noqa: T201  # what it prints is looked at

from __future__ import annotations

import _thread
import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SOCKET = 3
IMPORTER = os.getpid()
HANDLED = (signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGPIPE)
HOARD: list[bytearray] = []


def importer(state: Any) -> int:
    return IMPORTER


def trace(state: Any) -> str:
    """Trace, read and write the worker, as far as it lets whoever runs as its user."""
    pid = state["worker"]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, pid, None, None) == 0:
        libc.ptrace(17, pid, None, None)
        return "BREACH traced"
    for name in ("environ", "mem", "maps", "fd"):
        try:
            path = Path(f"/proc/{pid}/{name}")
            _ = list(path.iterdir()) if name == "fd" else path.open("rb").close()
        except OSError:
            continue
        return f"BREACH {name}"
    return "held"


def process(state: Any) -> int:
    """Which process this is; it may leave a thread or a process behind, or print."""
    if state.get("leaves") == "a thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if state.get("leaves") == "a thread that Python does not count":
        _thread.start_new_thread(time.sleep, (60,))
    if state.get("leaves") == "a process":
        subprocess.Popen(["sleep", "60"])
    if state.get("leaves") == "a signal that it has blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        os.kill(os.getpid(), signal.SIGUSR2)
    if state.get("leaves") == "a hard limit":
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    if state.get("leaves") == "its output closed":
        os.close(2)
    if state.get("raises"):
        raise ValueError("as it should")
    if "says" in state:
        print(state["says"])
    return os.getpid()


def surroundings(state: Any) -> dict[str, Any]:
    """What code of one process shares; then it may change all of that."""
    umask = os.umask(0o022)
    os.umask(umask)
    found = {
        "process": os.getpid(),
        "environment": dict(os.environ),
        "kernel's": subprocess.run(["env"], capture_output=True, check=True).stdout.decode(),
        "folder": str(Path.cwd()),
        "umask": umask,
        "handlers": [str(signal.getsignal(number)) for number in HANDLED],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    if state.get("changes"):
        os.environ["LEFT"] = "secret"
        del os.environ["LANG"]
        if state["changes"] == "all, and its folder is gone":
            os.environ = dict(os.environ)  # type: ignore[assignment]  # noqa: B003
            folder = tempfile.mkdtemp()
            os.chdir(folder)
            Path(folder).rmdir()
        else:
            os.chdir("/")
        os.umask(0)
        for number in HANDLED:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    return found


def set_timer(state: Any) -> int:
    signal.setitimer(state["timer"], 0.2, 0.2)
    return os.getpid()


def orphan(state: Any) -> list[int]:
    """This process, and one that it started whose parent is gone, in this session or another."""
    program = "sleep 600 >/dev/null 2>&1 & echo $!"
    if state["leaves_session"]:
        program = "setsid -f sh -c 'echo $$; exec sleep 600 >/dev/null 2>&1'"
    done = subprocess.run(["sh", "-c", program], stdout=subprocess.PIPE, check=True)
    return [os.getpid(), int(done.stdout)]


def hoard(state: Any) -> list[int]:
    """This process, and how often it has kept some memory for good."""
    HOARD.append(bytearray(state["megabytes"] << 20))
    return [os.getpid(), len(HOARD)]


def speak_in_c(state: Any) -> int:
    ctypes.CDLL(None).printf(state["says"].encode())
    return os.getpid()


def spin(state: Any) -> None:
    """Half a second of processor time."""
    begun = time.process_time()
    while time.process_time() - begun < 0.5:
        pass


def fill(state: Any) -> int:
    return len(bytes(1 << 40))


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
