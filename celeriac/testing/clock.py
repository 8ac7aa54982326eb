"""Time in memory: waiting costs none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

#: Where a clock stands unless it is told.
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that stands still until somebody waits; a *running* one is the time of day too."""

    def __init__(self, start: datetime = EPOCH, *, running: bool = False) -> None:
        self._behind = start - datetime.now(UTC) if running else None
        self._stands = start

    @classmethod
    def of_the_day(cls) -> Clock:
        """One that runs from now on, and is set forward by every wait."""
        return cls(datetime.now(UTC), running=True)

    def now(self) -> datetime:
        return self._stands if self._behind is None else datetime.now(UTC) + self._behind

    def advance(self, seconds: float) -> None:
        """Let time pass, at once."""
        self.until(self.now() + timedelta(seconds=seconds))

    def until(self, instant: datetime) -> None:
        """Let time pass up to an instant, at once. It never goes back."""
        ahead = max(instant - self.now(), timedelta())
        if self._behind is None:
            self._stands += ahead
        else:
            self._behind += ahead
