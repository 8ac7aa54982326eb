"""The steps that everybody runs: each reads an integer, adds one, and looks at the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any


def add_one(state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # as users write it
    """Add one."""
    now = time.time()
    return {"n": state["n"] + 1, "first": state["first"] or now, "last": now}


def add_one_working(state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Add one after 5 ms of CPU."""
    now = time.time()
    until = time.thread_time() + 0.005
    while time.thread_time() < until:
        pass
    return {"n": state["n"] + 1, "first": state["first"] or now, "last": now}


def add_one_waiting(state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Add one after 20 ms of sleep."""
    now = time.time()
    time.sleep(0.02)
    return {"n": state["n"] + 1, "first": state["first"] or now, "last": now}


def branch(state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """One branch of the fan-out: an item, and one."""
    return {"found": state["item"] + 1}


START = {"n": 0, "first": None, "last": None}

#: What a step does besides.
BODIES: Mapping[str, Callable[..., Any]] = {
    "noop": add_one,
    "cpu": add_one_working,
    "sleep": add_one_waiting,
}

# What a platform installs of a library.
FUNCTIONS = {
    f"library_{function.__name__}": function
    for function in (add_one, add_one_working, add_one_waiting, branch)
}
