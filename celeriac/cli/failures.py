"""From what went wrong to what is typed back: one form on stderr, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from engine.errors import CeleriacError, Unavailable

FAILED: Final = 1
MISUSED: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130
EXPLAINED = "0 done, 1 the thing asked for failed, 2 wrong usage, 3 not reachable, 130 Ctrl-C"


class Failure(click.ClickException):
    """The thing asked for failed. Click prints it as `Error: …` on stderr and ends the command."""

    exit_code = FAILED


class Misused(Failure):
    """A setting or an argument cannot be used."""

    exit_code = MISUSED


class Unreachable(Failure):
    """The platform, or what it stands on, does not answer."""

    exit_code = UNREACHABLE


@contextmanager
def translated(ctx: click.Context) -> Iterator[None]:
    """Give the errors of a block their exit code; what is none of ours keeps its traceback."""
    try:
        yield
    except CeleriacError as error:
        raise failure(error) from error
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)


def failure(error: CeleriacError) -> Failure:
    """An error as the command line says it."""
    # Whoever asks for help shall not wait for what reads settings.
    from engine.settings import SettingsError  # noqa: PLC0415

    kind = Unreachable if isinstance(error, Unavailable) else Failure
    return (Misused if isinstance(error, SettingsError) else kind)(str(error).strip())
