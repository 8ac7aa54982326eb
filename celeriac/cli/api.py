"""The platform that commands speak to, as anybody's program would: over REST."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from celeriac.cli import environment
from celeriac.cli.failures import Misused, Unreachable
from celeriac.client import Client, Unauthenticated
from celeriac.embedded import folders
from celeriac.embedded.folders import Home


@contextmanager
def connected() -> Iterator[Client]:
    """A client for a block: of `--url` or CELERIAC_URL, else of the embedded platform that is up."""
    url = click.get_current_context().find_root().params.get("url") or _embedded()
    with Client(url) as client:
        try:
            yield client
        except Unauthenticated as error:
            raise Misused(
                f"{url}: {error.message}; set CELERIAC_API_KEY to a key of that platform"
            ) from error


def _embedded() -> str:
    home = Home(folder=environment.settings().home)
    state = folders.read_state(home)
    if state is None:
        raise Unreachable(
            f"no platform runs on {home.folder}; start it with: celeriac up,"
            " or name another in CELERIAC_URL"
        )
    return str(state["url"])
