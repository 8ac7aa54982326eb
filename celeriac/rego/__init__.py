"""Rego as a language of policies: a plug-in of the port that everybody's plug-ins have.

    policy: night
    plugins:
      - use: rego
        with:
          source: |
            package celeriac
            decision := "DENY" if input.action.tool == "file_delete"
            reason := "files are kept"

The document of the package is asked, with the port's `action` and `context` as `input`. It may say
`decision` (ALLOW, DENY, REQUIRE_APPROVAL, MODIFY) with `reason` and `set`; or, as policies of OPA
do, `deny` as a set of reasons, or `allow`. What says none of these, with `default` neither, denies:
nobody knows what it means.

Rego is evaluated by regopy (Microsoft's rego-cpp), which is installed with `celeriac[rego]`. A
source is a stranger's, and the evaluator is not safe for that by itself: deep nesting ends its
process, some regular expressions never end, `opa.runtime` tells the environment. So it runs in a
process of its own (`evaluator`), with an empty environment, no files, and bounds on memory and time;
the one who asks waits for half a second, then ends it and is denied. The next question starts
another. One process serves all policies of a process that asks; it compiles each source once.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.core import values
from engine.guardrails.plugins import Decision, PolicyDecision

#: Characters of a policy's source.
MAX_SOURCE = 32_768
#: Seconds that an answer may take, and the start of the process.
ANSWER_SECONDS = 0.5
START_SECONDS = 10.0
#: Bytes of a question and of an answer.
MAX_BYTES = 4 * 1_048_576


class RegoError(ValueError):
    """The source is no Rego, or has no answer."""


class Rego:
    """A policy written in Rego."""

    def __init__(self, source: Any, package: Any = "celeriac") -> None:
        """Raises `RegoError` if the source cannot be compiled."""
        if not isinstance(source, str) or len(source) > MAX_SOURCE:
            raise RegoError(f"source is no text of at most {MAX_SOURCE} characters")
        if not isinstance(package, str) or not all(map(str.isidentifier, package.split("."))):
            raise RegoError("package is no name such as celeriac or celeriac.mail")
        self._source = source
        self._package = package
        _EVALUATOR.ask({"source": source, "package": package})

    def evaluate(self, action: Mapping[str, Any], context: Mapping[str, Any]) -> Decision:
        """What the policy says. Raises `RegoError`."""
        question = {"action": action, "context": context}
        told = _EVALUATOR.ask({"source": self._source, "package": self._package, "input": question})
        return _decision(told, self._package)


def _decision(told: Any, package: str) -> Decision:
    """What a package's document comes to."""
    if not isinstance(told, dict):
        raise RegoError(f"package {package} says nothing")
    reason = told.get("reason")
    reason = reason if isinstance(reason, str) else ""
    if denied := told.get("deny"):
        reasons = sorted(map(str, denied)) if isinstance(denied, list) else [reason]
        return Decision(decision=PolicyDecision.DENY, reason="; ".join(filter(None, reasons)))
    word = told.get("decision")
    if word is None and isinstance(told.get("allow"), bool):
        word = "ALLOW" if told["allow"] else "DENY"
    if word is None and "deny" in told:
        word = "ALLOW"
    if not isinstance(word, str) or word.upper() not in PolicyDecision.__members__:
        raise RegoError(f"package {package} decides nothing that is known: {word!r:.100}")
    change = told.get("set", {})
    if not isinstance(change, dict):
        raise RegoError(f"set of package {package} is no object")
    return Decision(decision=PolicyDecision[word.upper()], reason=reason, set=change)


class _Evaluator:
    """The process that evaluates, started when it is needed and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known = False  #: whether the interpreter ends it, and forks forget it
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None

    def ask(self, question: Mapping[str, Any]) -> Any:
        """The answer to a question. Raises `RegoError`."""
        body = values.canonical(question).encode()
        if len(body) > MAX_BYTES:
            raise RegoError("there is too much to be told")
        with self._lock:
            wire = self._started()
            try:
                wire.settimeout(ANSWER_SECONDS)
                wire.sendall(len(body).to_bytes(4) + body)
                answer = json.loads(_read(wire))
            except TimeoutError:
                self._end()
                raise RegoError(f"no answer within {ANSWER_SECONDS:g} s") from None
            except (OSError, EOFError, ValueError) as error:
                self._end()
                raise RegoError("the evaluator died of it") from error
        if "error" in answer:
            raise RegoError(str(answer["error"])[:1000])
        return answer.get("told")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _started(self) -> socket.socket:
        if self._wire is not None:
            return self._wire
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("evaluator.py"))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
            )
        if not self._known:
            self._known = True
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self._forget)
        self._wire = ours
        try:
            ours.settimeout(START_SECONDS)
            hello = json.loads(_read(ours))
        except (OSError, EOFError, ValueError) as error:
            self._end()
            raise RegoError("the evaluator of Rego does not start") from error
        if "error" in hello:
            self._end()
            raise RegoError(str(hello["error"]))
        return ours

    def _forget(self) -> None:
        """In a child: who holds the lock is not there, and the process is the parent's."""
        self._lock = threading.Lock()
        if self._wire is not None:
            self._wire.close()
        if self._process is not None:
            self._process.returncode = 0  # not ours to wait for
        self._wire = self._process = None

    def _end(self) -> None:
        if self._wire is not None:
            self._wire.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._wire = self._process = None


def _read(wire: socket.socket) -> bytes:
    """One message. Raises `EOFError` if the other side is gone."""
    length = int.from_bytes(_exactly(wire, 4))
    if length > MAX_BYTES:
        raise EOFError("an answer that is too long")
    return _exactly(wire, length)


def _exactly(wire: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        more = wire.recv(min(length - len(found), 65_536))
        if not more:
            raise EOFError("the other side is gone")
        found += more
    return bytes(found)


_EVALUATOR = _Evaluator()
