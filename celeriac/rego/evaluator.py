"""The process that evaluates Rego: it reads questions from a socket, and has nothing else.

Started as a script, without the project on its path: it imports regopy and the standard library.
"""

from __future__ import annotations

import json
import resource
import socket
from collections import OrderedDict
from typing import Any

#: Bytes of memory, and seconds of the processor over its life; then another one is started.
MEMORY = 1 << 30
PROCESSOR_SECONDS = 3600
#: Sources that are kept compiled.
KEPT = 64


def main() -> None:
    """Serve questions until the other side is gone."""
    wire = socket.socket(fileno=0)
    try:
        from regopy import Interpreter  # noqa: PLC0415  # it may not be installed: that is told
    except ImportError as error:
        _send(wire, {"error": f"regopy is not installed; pip install 'celeriac[rego]' ({error})"})
        return
    _bound()
    kept: OrderedDict[tuple[str, str], Any] = OrderedDict()
    _send(wire, {})
    while (question := _receive(wire)) is not None:
        key = (question["source"], question["package"])
        try:
            interpreter = kept.pop(key, None) or _compiled(Interpreter(), *key)
            kept[key] = interpreter
            while len(kept) > KEPT:
                kept.popitem(last=False)
            told = None
            if "input" in question:
                interpreter.set_input(question["input"])
                told = _asked(interpreter, question["package"])
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            kept.pop(key, None)
            _send(wire, {"error": _first_line(error)})
        else:
            _send(wire, {"told": told})


def _compiled(interpreter: Any, source: str, package: str) -> Any:
    interpreter.log_level = 0  # what goes wrong is told, not printed
    interpreter.add_module("policy", source)
    interpreter.set_input({})
    _asked(interpreter, package)
    return interpreter


def _asked(interpreter: Any, package: str) -> Any:
    """The document of the package; None if there is none."""
    try:
        # What has no value is no JSON, which regopy itself fails to read.
        output = json.loads(str(interpreter.query(f"data.{package}")))
    except ValueError:
        output = {}
    if "expressions" not in output:
        raise LookupError(f"package {package} is not there, or has no value")
    return output["expressions"][0]


def _first_line(error: Exception) -> str:
    text = str(error)
    if "errormsg" in text:
        # An s-expression; its messages are what a person can read: (errormsg 12:unclosed ...)
        found = [part.split(":", 1)[1] for part in text.split("errormsg ")[1:]]
        return "; ".join(dict.fromkeys(part.split(")")[0].strip() for part in found))
    return text.splitlines()[0] if text else type(error).__name__


def _bound() -> None:
    """No files, no children, no cores, so much memory and time and no more."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, PROCESSOR_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _send(wire: socket.socket, told: Any) -> None:
    body = json.dumps(told).encode()
    wire.sendall(len(body).to_bytes(4, "big") + body)


def _receive(wire: socket.socket) -> Any:
    head = _exactly(wire, 4)
    if not head:
        return None
    return json.loads(_exactly(wire, int.from_bytes(head, "big")))


def _exactly(wire: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        more = wire.recv(min(length - len(found), 65_536))
        if not more:
            return b""
        found += more
    return bytes(found)


if __name__ == "__main__":
    main()
