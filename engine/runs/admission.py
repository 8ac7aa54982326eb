"""The one port through which every start must pass.

The core asks for a start; a turn puts all its requests to `admit` together, in the
transaction that decides, and records each answer with the values it saw. Here money will be
reserved and limits held against; for now nothing bounds a start beyond the run's own step
budget, which the core itself counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from engine.core import messages as msg
from engine.core.state import Step
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A step that should start."""

    run: RunId
    step: Step


def admit(
    _connection: Connection, requests: Sequence[Request], now: datetime
) -> tuple[msg.Admitted | msg.Refused | msg.Deferred, ...]:
    """Answer every request, in order."""
    return tuple(msg.Admitted(at=now, step=request.step.key) for request in requests)
