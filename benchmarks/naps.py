"""The steps of `abuse`: they take some time, and no processor."""

from __future__ import annotations

import time

#: How long a nap is, in seconds: threads are scarce then, and processors are not.
SECONDS = 0.1


def nap(state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # as users write it
    """Look at the clock, then rest."""
    now = time.time()
    time.sleep(SECONDS)
    return {"n": state["n"] + 1, "first": state["first"] or now, "last": now}


# What a platform installs of a library.
FUNCTIONS = {"nap": nap}
