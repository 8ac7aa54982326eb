"""The step that everybody runs: it reads an integer, adds one, and looks at the clock."""

from __future__ import annotations

import time


def add_one(state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # as users write it
    """Add one."""
    now = time.time()
    return {"n": state["n"] + 1, "first": state["first"] or now, "last": now}


START = {"n": 0, "first": None, "last": None}

# What a platform installs of a library.
FUNCTIONS = {"library_add_one": add_one}
