"""A server that is compatible with OpenAI's, on this machine: it answers as it is told to.

A script says what comes of each request: words and tools (`Say`), a refusal (`Refuse`), or something
that goes wrong on the way (`Raw`, `Hang`, and `Say` with `drop`). It counts tokens by itself, a word
being one, and keeps every request, so that a test can say what was asked how often.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request for a completion."""

    #: From 1, in the order in which they came.
    number: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["messages"]
        return found

    @property
    def turn(self) -> int:
        """Which turn of its conversation it is for, from 1: one more than the model has had."""
        return 1 + sum(message["role"] == "assistant" for message in self.messages)

    def text(self, role: str) -> str:
        """The last thing that somebody said."""
        said = [message["content"] for message in self.messages if message["role"] == role]
        return str(said[-1]) if said else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """The model says something, asks for tools, or both."""

    text: str = ""
    #: Name and arguments of each tool; text as arguments is sent as it is.
    calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    finish: str | None = None
    refusal: str | None = None
    #: Breaks off after so many pieces; None: it does not.
    drop: int | None = None
    #: Ends the stream there in order, as if that were all.
    cut: int | None = None
    #: Seconds before each piece.
    pause: float = 0.0
    #: Waited for before the second piece.
    hold: threading.Event | None = None
    #: Whether it says what was used.
    counted: bool = True
    #: So many tokens of the prompt were at hand.
    cached: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """A status that is no success."""

    status: int
    message: str = "not now"
    code: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Whatever bytes, as the body of a 200."""

    data: bytes
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Nothing, for as long as the server is there; after the headers, or before them."""

    headers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """The connection ends without an answer."""


Answer: TypeAlias = Say | Refuse | Raw | Hang | Close
Script: TypeAlias = Callable[[Request], Answer]


@dataclass(kw_only=True)
class Server:
    """Where it is, what it was asked, and what it said that it used."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    #: Set whenever a connection has been given up by the other side.
    left: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def tokens(self) -> int:
        """Of all answers that were said to their end."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def turns(self) -> Counter[int]:
        """How often it was asked for each turn."""
        return Counter(request.turn for request in self.requests)

    def cost(self, prompt: str, completion: str, cached: str | None = None) -> Decimal:
        """USD for all that was used, at prices per million."""
        fresh = self.prompt_tokens - self.cached_tokens
        return (
            fresh * Decimal(prompt)
            + self.cached_tokens * Decimal(cached or prompt)
            + self.completion_tokens * Decimal(completion)
        ) / 1_000_000


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    """A server for the length of a block. Every request has a thread of its own; a script may block."""
    state = Server()

    class Handler(_Handler):
        server_state = state
        answer_with = staticmethod(script)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.closing.set()
            server.shutdown()
            thread.join()


def scripted(*answers: Answer) -> Script:
    """One answer after the other; the last one for all that follow."""
    return lambda request: answers[min(request.number, len(answers)) - 1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server
    answer_with: Script

    def do_POST(self) -> None:
        state = self.server_state
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/chat/completions":
            self._send(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        with state.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            number = len(state.requests) + 1
            request = Request(number=number, body=json.loads(data), headers=headers)
            state.requests.append(request)
        with suppress(ConnectionError):
            self._answer(request, type(self).answer_with(request))
            return
        state.left.set()
        self.close_connection = True

    def _answer(self, request: Request, answer: Answer) -> None:
        match answer:
            case Refuse():
                error = {"message": answer.message, "code": answer.code}
                after = {} if answer.retry_after is None else {"Retry-After": answer.retry_after}
                self._send(answer.status, {"error": error}, after)
            case Raw():
                self._head(answer.content_type, answer.headers, len(answer.data))
                self.wfile.write(answer.data)
            case Hang():
                if answer.headers:
                    self._head("text/event-stream", {"Transfer-Encoding": "chunked"})
                    self.wfile.flush()
                self._wait()
            case Close():
                self._drop()
            case Say():
                self._say(request, answer)

    def _say(self, request: Request, said: Say) -> None:
        pieces = [*_pieces(said)]
        name = request.body["model"]
        finish = said.finish or ("tool_calls" if said.calls else "stop")
        if not request.body.get("stream"):
            whole = {
                "model": f"{name}-2026",
                "choices": [{"index": 0, "message": _message(said), "finish_reason": finish}],
            }
            usage = self._count(request, said)
            self._send(200, {**whole, **({"usage": usage} if said.counted else {})})
            return
        self._head("text/event-stream", {"Transfer-Encoding": "chunked"})
        for number, delta in enumerate(pieces, 1):
            if said.hold is not None and number == 2:
                while not (said.hold.wait(0.05) or self.server_state.closing.is_set()):
                    self._ask()
            if said.pause:
                self.server_state.closing.wait(said.pause)
            self._event({"choices": [{"index": 0, "delta": delta}], "model": f"{name}-2026"})
            if said.drop == number:
                self._drop()
                return
            if said.cut == number:
                self.wfile.write(b"0\r\n\r\n")
                return
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        usage = self._count(request, said)
        if said.counted and request.body.get("stream_options", {}).get("include_usage"):
            self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _count(self, request: Request, said: Say) -> dict[str, Any]:
        """What an answer used: a word of what was sent, or is said, is a token."""
        prompt = len(json.dumps(request.messages).split())
        spoken = [said.text, *(f"{name} {_arguments(given)}" for name, given in said.calls)]
        completion = len(" ".join(spoken).split())
        state = self.server_state
        with state.lock:
            state.prompt_tokens += prompt
            state.completion_tokens += completion
            state.cached_tokens += said.cached
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": said.cached},
        }

    def _event(self, data: object) -> None:
        self._chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self._head("application/json", headers or {}, len(data), status)
        self.wfile.write(data)

    def _head(
        self, kind: str, headers: Mapping[str, str], length: int | None = None, status: int = 200
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _wait(self) -> None:
        """Until the other side has left, or the server ends."""
        while not self.server_state.closing.wait(0.02):
            self._ask()

    def _ask(self) -> None:
        """Look whether the other side is there. Raises `ConnectionError`."""
        self.connection.setblocking(False)
        try:
            if not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError
        except BlockingIOError:
            pass
        finally:
            self.connection.setblocking(True)

    def _drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_given: object) -> None:
        """Say nothing."""


def _pieces(said: Say) -> Iterator[dict[str, Any]]:
    """A message in pieces: its words, then its tools, their arguments in two halves."""
    words = said.text.split(" ") if said.text else []
    yield {"role": "assistant", "content": words[0] if words else ""}
    for word in words[1:]:
        yield {"content": f" {word}"}
    if said.refusal:
        yield {"refusal": said.refusal}
    for index, (name, given) in enumerate(said.calls):
        text = _arguments(given)
        half = len(text) // 2
        function = {"name": name, "arguments": text[:half]}
        first = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        yield {"tool_calls": [first]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": text[half:]}}]}


def _message(said: Say) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if said.refusal:
        message["refusal"] = said.refusal
    if said.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{index}",
                "type": "function",
                "function": {"name": name, "arguments": _arguments(given)},
            }
            for index, (name, given) in enumerate(said.calls)
        ]
    return message


def _arguments(given: Mapping[str, Any] | str) -> str:
    return given if isinstance(given, str) else json.dumps(dict(given))
