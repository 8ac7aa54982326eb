"""How things are printed: JSON for programs, tables and lines for people.

What users wrote is printed without the control characters that a terminal obeys: a log line or a
run's message must not be able to clear the screen or to retitle the window.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.core.problem import Problem

#: Wide enough for any row: what is piped is cut by nobody.
_PIPED_WIDTH = 10_000
#: Both sets of control characters but for newline and tab, and the marks that turn text around.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

#: As much of a variable as is shown; `--json` has them whole.
_LEGIBLE = 160
#: On every command that reads.
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")

STYLES: Mapping[str, str] = {
    "completed": "green",
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "cancelled": "yellow",
    "rolled_back": "dim",
    "retrying": "yellow",
}


def console(*, stderr: bool = False) -> Console:
    """Where people read; what is printed is taken as it is, without rich's markup."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = _PIPED_WIDTH
    return made


def document(value: Any) -> None:
    """One JSON document; records are objects of their fields."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def line(value: Any) -> None:
    """One JSON document on one line, of many."""
    click.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def record(value: Any) -> dict[str, Any]:
    """What a record of the client tells, without the client itself."""
    names = (item.name for item in fields(value) if item.name != "client")
    return {name: getattr(value, name) for name in names}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Rows under their headings; where there are none, what that means."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(legible(cell)) for cell in row))
    if not made.row_count:
        click.echo(empty, err=True)
        return
    shown = console()
    with shown.capture() as captured:
        shown.print(made)
    # Cells are filled up with spaces, which nobody wants in a pipe.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def variables(found: Mapping[str, Any]) -> None:
    """A run's variables, a line each, as far as they fit on it."""
    shown = console()
    for name, value in found.items():
        text = legible(value).replace("\n", "⏎")
        if len(text) > _LEGIBLE:
            text = f"{text[:_LEGIBLE]}… ({len(text)} characters)"
        shown.print(Text.assemble(("  ", ""), (legible(name), "cyan"), f"  {text}"), soft_wrap=True)


def problems(place: str, found: Sequence[Problem]) -> None:
    """Everything that is wrong with a document, on stderr."""
    count = "one problem" if len(found) == 1 else f"{len(found)} problems"
    click.echo(f"{place}: {count}", err=True)
    for problem in found:
        where = f"{problem.path}: " if problem.path else ""
        click.echo(legible(f"  {where}{problem.message}"), err=True)
        if problem.remedy:
            click.echo(legible(f"    {problem.remedy}"), err=True)


def status(word: str) -> Text:
    """A status in its colour."""
    return Text(word, STYLES.get(word, ""))


def legible(value: object) -> str:
    """A value as text that a terminal only shows; nothing for None."""
    text = "" if value is None else value if isinstance(value, str) else _compact(value)
    return _CONTROL.sub(_shown, text)


def time(at: datetime | None) -> str:
    """A time in the reader's own time zone, to the second."""
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def between(start: datetime | None, end: datetime | None) -> str:
    """How long it took, or has taken until now."""
    return "" if start is None else duration((end or datetime.now(UTC)) - start)


def amount(value: Decimal | None) -> str:
    """An amount with all of its digits, and no more."""
    if value is None:
        return ""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(length: timedelta) -> str:
    """A length of time with the two units that matter."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004  # a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return record(value)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _shown(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004  # one byte
