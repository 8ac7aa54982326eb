"""What a route asks of whoever calls it: said where the route is declared, held everywhere.

Nothing is open by default. An app with a route that says nothing does not start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from flask import Flask

from engine.core.principal import Principal
from engine.errors import Forbidden

F = TypeVar("F", bound=Callable[..., Any])

#: For whoever asks, known or not.
PUBLIC: Final = "public"
#: For anybody who is known.
ANYBODY: Final = "anybody"

_KEY = "__needs__"
_WITHIN = "__sees_to_it__"


def needs(permission: str, *, within: bool = False) -> Callable[[F], F]:
    """Let only those call a route who hold a permission; or anybody, or anyone at all: `ANYBODY`, `PUBLIC`.

    `within`: the route itself asks for its principal (`principal.admit`), because it can say no
    only after it has begun. `Routes.on` takes the same as its argument `needs`.
    """

    def declared(view: F) -> F:
        setattr(view, _KEY, permission)
        setattr(view, _WITHIN, within)
        return view

    return declared


def of(app: Flask, endpoint: str) -> str | None:
    """What a route asks for; None for one that does not say."""
    found: str | None = getattr(app.view_functions[endpoint], _KEY, None)
    return found


def is_within(app: Flask, endpoint: str) -> bool:
    """Whether a route sees to its principal itself."""
    return bool(getattr(app.view_functions[endpoint], _WITHIN, False))


def check(who: Principal, permission: str) -> None:
    """Raise `Forbidden`, naming what is missing, unless somebody holds a permission."""
    if permission != ANYBODY and not who.may(permission):
        raise Missing(permission)


def check_declared(app: Flask) -> None:
    """Raise `Undeclared` where a route of an app does not say what it asks for."""
    silent = sorted(
        f"{rule.rule} ({rule.endpoint})"
        for rule in app.url_map.iter_rules()
        if of(app, rule.endpoint) is None
    )
    if silent:
        raise Undeclared(f"routes without a permission: {', '.join(silent)}")


class Missing(Forbidden):
    """A permission is missing."""

    def __init__(self, permission: str) -> None:
        self.permission = permission
        super().__init__(f"the permission {permission} is missing; ask an admin for it")


class Undeclared(RuntimeError):
    """A route does not say whom it is for."""
