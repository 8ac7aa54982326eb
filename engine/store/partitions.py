"""Partitions of the append-only tables: one for each month of run ids.

A run lies in the partition of the month it was submitted in, whole, so that retention can
drop a month. Ids of months that have no partition fall into the default one and stay there.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import Connection, func, select

#: This month and the two that follow.
MONTHS_AHEAD = 3


def ensure(connection: Connection, today: date) -> int:
    """Make the partitions of this month and those ahead; how many were missing.

    Cheap when none is. Waits for another that is making them, but not for long.
    """
    statement = select(func.ensure_partitions(today, MONTHS_AHEAD))
    return int(connection.execute(statement).scalar_one())
