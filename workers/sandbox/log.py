"""What an execution prints, cut into lines and capped."""

from __future__ import annotations

from collections.abc import Callable

from workers.sandbox.job import Limits, Stream


class Log:
    """Hands lines on as they come; what is past a cap is dropped, and said to be."""

    def __init__(self, limits: Limits, on_line: Callable[[Stream, str], None]) -> None:
        self._bytes_left = limits.log_bytes
        self._lines_left = limits.log_lines
        self._on_line = on_line
        self._begun: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        self.truncated = False

    def feed(self, stream: Stream, data: bytes) -> None:
        kept = data[: self._bytes_left]
        self._bytes_left -= len(kept)
        self.truncated = self.truncated or len(kept) < len(data)
        *lines, rest = (self._begun[stream] + kept).split(b"\n")
        self._begun[stream] = rest
        for line in lines:
            self._hand_on(stream, line)

    def close(self) -> None:
        """Hand on what was printed without a line's end."""
        for stream, rest in self._begun.items():
            if rest:
                self._hand_on(stream, rest)
            self._begun[stream] = b""

    def _hand_on(self, stream: Stream, line: bytes) -> None:
        if not self._lines_left:
            self.truncated = True
            return
        self._lines_left -= 1
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        # Postgres takes no NUL.
        self._on_line(stream, text.replace("\0", "\N{REPLACEMENT CHARACTER}"))
