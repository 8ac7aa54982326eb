"""A server that is compatible with OpenAI's, on this machine, and answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request for a completion."""

    system: str
    prompt: str
    key: str | None


@dataclass(kw_only=True)
class Model:
    """What a server was asked, and where it is."""

    base_url: str
    asked: list[tuple[str, Asked]] = field(default_factory=list)
    #: What it said that it used.
    tokens: int = 0

    @property
    def counts(self) -> Counter[str]:
        """How often it was asked about each thing."""
        return Counter(about for about, _ in self.asked)

    def prompts(self, about: str) -> list[str]:
        return [one.prompt for name, one in self.asked if name == about]


@contextmanager
def serving(
    about: Callable[[Asked], str], answer: Callable[[str, int], str | int]
) -> Iterator[Model]:
    """A server for the length of a block.

    `about` names what a request is for; `answer` is given that name, and how often it was asked for
    by now, from 1. It says a text, or the status of a refusal. It may block: every request has a
    thread of its own.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions", self.path
            texts = {message["role"]: message["content"] for message in body["messages"]}
            one = Asked(
                system=texts["system"], prompt=texts["user"], key=self.headers["Authorization"]
            )
            name = about(one)
            with lock:
                model.asked.append((name, one))
                number = model.counts[name]
            said = answer(name, number)
            if isinstance(said, int):
                self._send(said, {"error": {"message": "not now"}})
                return
            message = {"role": "assistant", "content": said}
            tokens = len((one.system + one.prompt + said).split())
            with lock:
                model.tokens += tokens
            self._send(
                200,
                {
                    "model": body["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"total_tokens": tokens},
                },
            )

        def _send(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_given: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        model = Model(base_url=f"http://127.0.0.1:{server.server_address[1]}/v1")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield model
        finally:
            server.shutdown()
            thread.join()
