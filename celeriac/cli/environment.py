"""What commands take from the environment: settings, and a client of the platform's API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from celeriac.cli.failures import Misused
from engine.settings import Settings, SettingsError


def settings(**given: Any) -> Settings:
    """The settings of this process; those given as options, where they are given, come first."""
    try:
        found = Settings.from_environment()
    except SettingsError as error:
        raise Misused(str(error)) from error
    return replace(found, **{name: value for name, value in given.items() if value is not None})


def attached(**given: Any) -> Settings:
    """Settings with the URLs of a fleet, else of the embedded platform that is up."""
    found = settings(**given)
    if found.database_url is not None:
        return found
    # A fleet's processes have no use for embedded servers.
    from celeriac.embedded import supervisor  # noqa: PLC0415

    return supervisor.attach(found)
