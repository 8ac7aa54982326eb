"""One thing that is wrong with what somebody handed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong, where, and what to do about it."""

    #: JSON path of the field: `nodes.refine.retry.attempts`, `edges[3].when`.
    path: str
    message: str
    remedy: str = ""
