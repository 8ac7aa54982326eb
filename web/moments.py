"""Times that a client names."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime


def in_utc(at: datetime) -> datetime:
    """The same time, in UTC. Raises `ValueError` for one without a zone, and at the ends of the calendar.

    Texts may name zones, up to a day from UTC, that a database does not know.
    """
    if at.tzinfo is None:
        raise ValueError("names no time zone")
    try:
        found = at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is not within the calendar") from error
    # Whoever reads it may be in another zone, and the calendar has an end there as well.
    if found.year in (MINYEAR, MAXYEAR):
        raise ValueError("is not within the calendar")
    return found
