"""What a function prints, cut off inside already, so that a flood costs the worker nothing."""

from __future__ import annotations

import io
import os
import sys

#: How far past the cap a child writes, so that the worker sees that there was more.
_MARGIN = 1024


class _Capped(io.RawIOBase):
    def __init__(self, fd: int, cap: int) -> None:
        self._fd = fd
        self._left = cap + _MARGIN

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # a buffer, as RawIOBase promises
        length = view.nbytes
        keep = view.cast("B")[: max(self._left, 0)]
        self._left -= len(keep)
        while keep:
            keep = keep[os.write(self._fd, keep) :]
        return length


def redirect(cap: int) -> None:
    """Put capped, line-buffered streams in the place of standard output and error."""
    sys.stdout = _stream(1, cap)
    sys.stderr = _stream(2, cap)


def flush() -> None:
    """Send what was printed without a line's end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112  # user code may have closed or replaced it
            continue


def _stream(fd: int, cap: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Capped(fd, cap)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
