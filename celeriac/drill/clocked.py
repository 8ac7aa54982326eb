"""A process of the fleet whose clock can be set while it runs: `python -m celeriac.drill.clocked FILE KIND`.

The file says by how many seconds the clock is ahead, and is read again and again. What is shifted is
`time.time` and `time.time_ns` of that process: what Celery and kombu stamp, compare and wait by. Not
shifted are `datetime.now`, which is C, the clock of timeouts (`time.monotonic`), which no operating
system ever sets, and the processes in which user code runs.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path

_LOOK = 0.1
_NANO = 1_000_000_000


class Clock:
    """The clock of a process, ahead by what a file says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._time, self._time_ns = time.time, time.time_ns
        self._pause = threading.Event()
        self.ahead = 0.0

    def read(self) -> None:
        """See by how much it is ahead now."""
        # Half written, it is read again in a moment.
        with contextlib.suppress(OSError, ValueError):
            self.ahead = float(self._file.read_text())

    def set(self) -> None:
        """Have everybody in this process go by it, from now on."""
        self.read()
        time.time = lambda: self._time() + self.ahead
        time.time_ns = lambda: self._time_ns() + int(self.ahead * _NANO)
        threading.Thread(target=self._watch, name="clock", daemon=True).start()

    def _watch(self) -> None:
        while not self._pause.wait(_LOOK):
            self.read()


if __name__ == "__main__":
    Clock(Path(sys.argv[1])).set()
    # Not sooner: whoever imports `time` by name takes the function that is there.
    from celeriac.cli import main

    sys.argv = ["celeriac", *sys.argv[2:]]
    main()
