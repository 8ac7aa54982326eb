"""Named points of the protocol at which a test may kill the process.

A point is armed by a file of its name in `CELERIAC_FAULT_DIR`. The process that removes the
file dies there, so an armed point fires exactly once however many processes pass it.
Without the setting, as in every production, passing a point is one call that does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

SUBMIT_COMMITTED = "submit.committed"  #: after a submission's commit, before its nudge
LEASE_COMMITTED = "lease.committed"  #: after a lease's commit, its attempt begun, before user code
EFFECT_DONE = "effect.done"  #: after user code ran, before its report
REPORT_COMMITTED = "report.committed"  #: after a report's commit, before its nudge
TURN_INSIDE = "turn.inside"  #: before a turn's commit
TURN_COMMITTED = "turn.committed"  #: after a turn's commit, before it sends
SWEEP_INSIDE = "sweep.inside"  #: before a sweep's commit

POINTS = (
    SUBMIT_COMMITTED,
    LEASE_COMMITTED,
    EFFECT_DONE,
    REPORT_COMMITTED,
    TURN_INSIDE,
    TURN_COMMITTED,
    SWEEP_INSIDE,
)


def armed(folder: Path | None) -> Callable[[str], None]:
    """What to call at each point: it dies if the point is armed."""
    if folder is None:
        return _pass

    def reach(point: str) -> None:
        try:
            (folder / point).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return reach


def _pass(point: str) -> None:
    """Go on."""
