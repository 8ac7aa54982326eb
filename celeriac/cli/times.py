"""Times that are typed."""

from __future__ import annotations

from datetime import UTC, datetime

import click


class Time(click.DateTime):
    """A time; without a time zone it is UTC."""

    name = "time"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; one looks like 2026-01-31T12:00Z", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
