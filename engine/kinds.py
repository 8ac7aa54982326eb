"""Kinds of nodes that installed packages bring.

A package adds a kind by an entry point of the group `celeriac.kinds`, whose name is `PACKAGE.KIND`, as
nodes name it, and whose object is a function of one `workers.kinds.execution.Execution`, which
gives an outcome. Such code is trusted: it runs in the worker.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

GROUP = "celeriac.kinds"


def installed() -> frozenset[str]:
    """The names of the kinds that are installed here."""
    return frozenset(entry.name for entry in metadata.entry_points(group=GROUP))


def load(name: str) -> Any:
    """What carries a kind out; None where it is not installed. Raises whatever its import raises."""
    for entry in metadata.entry_points(group=GROUP, name=name):
        return entry.load()
    return None
