"""What the tests of the sandbox say often."""

from __future__ import annotations

import os
import select
from typing import Any

from workers.sandbox import Choose, Job, Limits


def node(body: str, state: dict[str, Any] | None = None, **more: Any) -> Job:
    """A node `f` whose body is one line or several."""
    lines = "\n  ".join(body.splitlines())
    return Job(
        mode="node", name="f", source=f"def f(state):\n  {lines}", **_given(state or {}, more)
    )


def deed(name: str, state: dict[str, Any] | None = None, **more: Any) -> Job:
    """A node of `deeds`."""
    library = f"tests.unit.sandbox.deeds:{name}"
    return Job(mode="library-node", name=name, library=library, **_given(state or {}, more))


def tool(source: str, *args: Any, **kwargs: Any) -> Job:
    """A tool `f`, called with arguments."""
    return Job(
        mode="tool", name="f", source=source, arguments={"args": list(args), "kwargs": kwargs}
    )


def condition(body: str) -> Choose:
    return Choose(name="judge", source=f"def judge(state):\n  {body}")


def within(seconds: float, **more: Any) -> Limits:
    return Limits(seconds=seconds, **more)


class Watch:
    """Notices the end of processes, however they are related."""

    def __init__(self, *pids: int) -> None:
        self._fds = [os.pidfd_open(pid) for pid in pids]

    def all_end(self, seconds: float) -> bool:
        for fd in self._fds:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(seconds * 1000):
                return False
            os.close(fd)
        return True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _given(state: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {"arguments": {"state": state}, **more}
