"""Values that are typed: JSON where it is that, else text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from celeriac.cli import files
from engine.core import values
from engine.core.values import InvalidJson


def pairs(typed: Iterable[str], hint: str) -> dict[str, Any]:
    """What stands behind each KEY=; what is no such pair is wrong usage."""
    found: dict[str, Any] = {}
    for pair in typed:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint=hint)
        found[key] = value(text)
    return found


def whole(text: str, hint: str) -> dict[str, Any]:
    """A JSON object, as it stands or from @FILE."""
    found = anything(text, hint)
    if not isinstance(found, dict):
        raise click.BadParameter("must be a JSON object: {…}", param_hint=hint)
    return found


def anything(text: str, hint: str) -> Any:
    """A JSON value, as it stands or from @FILE."""
    if text.startswith("@"):
        text = files.text_of(text[1:])
    try:
        return values.parse(text)
    except InvalidJson as error:
        raise click.BadParameter(str(error), param_hint=hint) from error


def value(text: str) -> Any:
    """JSON where it is that, else text."""
    try:
        return values.parse(text)
    except InvalidJson:
        return text
