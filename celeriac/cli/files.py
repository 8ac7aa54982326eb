"""Files that commands are given."""

from __future__ import annotations

import click


def text_of(file: str) -> str:
    """The text of a file, `-` for stdin; what cannot be read is wrong usage."""
    try:
        with click.open_file(file, "rb") as opened:
            return bytes(opened.read()).decode()
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8 at byte {error.start}") from error
