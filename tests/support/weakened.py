"""A process of a fleet without a part of the protocol: `python -m tests.support.weakened PART KIND`.

Drills that are played on such processes must fail, or they could not tell. No setting of the product
takes a part away: it is taken from here, by name, before the process starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.runs import sweep as sweeping
from engine.store import results
from workers import processes


def without_fence() -> None:
    """Whoever reports is believed, whosever the step is by now: as if it had been that attempt's."""
    sql = results._REPORT.sql
    owned = "s.status = 'leased' AND s.begun AND s.fence = w.fence AND s.attempt = w.attempt"
    theirs = "w.body::jsonb || jsonb_build_object('attempt', s.attempt, 'fence', s.fence)"
    for part, instead in (
        (owned, "s.status IN ('leased', 'ready', 'retrying')"),
        ("SET status = 'reported',", "SET status = 'reported', wake_at = NULL,"),
        ("s.key, w.attempt, w.fence, w.outcome", "s.key, s.attempt, s.fence, w.outcome"),
        ("w.kind, w.format, w.body,", f"w.kind, w.format, ({theirs})::text AS body,"),
    ):
        assert part in sql, f"there is no {part!r} to take away any more"
        sql = sql.replace(part, instead)
    results._REPORT = replace(results._REPORT, sql=sql)


def without_sweeper() -> None:
    """Nobody looks for what is overdue."""

    def sweep(_platform: object) -> sweeping.Swept:
        return sweeping.Swept(lost=0, woken=0, resent=0, turns=0)

    sweeping.sweep = sweep
    processes.sweep = sweep


PARTS: Mapping[str, Callable[[], None]] = {"fence": without_fence, "sweeper": without_sweeper}


if __name__ == "__main__":
    from celeriac.cli import main

    PARTS[sys.argv[1]]()
    sys.argv = ["celeriac", *sys.argv[2:]]
    main()
