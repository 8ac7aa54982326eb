"""Who asks: the one place where a request becomes a `Principal`.

A credential is a token, an API key's or a JWT, in `Authorization: Bearer …` or in `X-API-Key`. Without one, and
only on the embedded platform started with `CELERIAC_ANONYMOUS=local`, the routes of seed 000
act as the local principal, and only for requests that the platform's own user made on purpose:
from loopback, by a process of that user (where the kernel tells), to a loopback name (a rebound
DNS name is not one), from no foreign page, and with `application/json` for a body, which no page
can send elsewhere without asking first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import cast

import structlog
from flask import Request, current_app, g

from engine.errors import Forbidden
from engine.runs import access
from engine.runs.access import Principal, Recognised, Refused
from engine.settings import Settings
from web import body, errors, peer, permissions, site
from web.errors import Unauthenticated, WrongMediaType

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_WRONG = "the credential is unknown, wrong or expired"
_PORTS = ("REMOTE_PORT", "SERVER_PORT")


def admit(request: Request, permission: str) -> Principal:
    """Who makes a request, if he may. Raises `Unauthenticated`, and `Forbidden`.

    From here on the request works within its tenant's wall (`site.current`).
    """
    who = _resolve(request)
    g.principal = who
    site.bind(who.tenant)
    structlog.contextvars.bind_contextvars(tenant=who.tenant, user=who.user)
    permissions.check(who, permission)
    return who


def again(request: Request, permission: str) -> Callable[[], None]:
    """Looks once more whether whoever made a request still may; for what outlasts the request.

    What is returned raises as `admit` does, and needs no request.
    """
    platform, token = site.of(current_app).platform, _token(request)

    def look() -> None:
        if token is None:
            who = access.local(platform)
        else:
            found = access.recognise(platform, token)
            who = found.principal if isinstance(found, Recognised) else None
        if who is None:
            raise Unauthenticated(_WRONG)
        permissions.check(who, permission)

    return look


def note_refusal(request: Request, error: Forbidden) -> None:
    """Have it written down that a principal asked for what he may not have."""
    who: Principal | None = g.get("principal")
    if who is not None:
        reason = (
            f"missing {error.permission}" if isinstance(error, permissions.Missing) else "not his"
        )
        refused = Refused(reason=reason, tenant=who.tenant, credential=who.credential)
        _note(request, refused, by=who.user)


def current() -> Principal:
    """Who makes the current request."""
    return cast("Principal", g.principal)


def _resolve(request: Request) -> Principal:
    here, token = site.of(current_app), _token(request)
    if token is None:
        return _anonymous(request)
    found = access.recognise(here.platform, token)
    if isinstance(found, Refused):
        _note(request, found, by=found.credential)
        # One answer for all: whoever guesses learns nothing from it.
        raise Unauthenticated(_WRONG)
    if found.unnoted:
        here.clerk.used(found.principal)
    return found.principal


def _anonymous(request: Request) -> Principal:
    platform = site.of(current_app).platform
    try:
        _check_anonymous(request, platform.settings)
    except Unauthenticated:
        _note(request, Refused(reason="none"), by="")
        raise
    who = access.local(platform)
    if who is None:
        _note(request, Refused(reason="none"), by="")
        raise Unauthenticated
    return who


def _note(request: Request, refused: Refused, *, by: str) -> None:
    rule = request.url_rule.rule if request.url_rule else ""
    site.of(current_app).clerk.refused(
        refused, by=by, route=f"{request.method} {rule}", peer=request.remote_addr or ""
    )


def _token(request: Request) -> str | None:
    """The token of a request; the empty one where a credential of another kind was sent."""
    if authorization := request.headers.get("Authorization"):
        scheme, _, token = authorization.partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""
    return request.headers.get("X-API-Key")


def _check_anonymous(request: Request, settings: Settings) -> None:
    if not (settings.anonymous and settings.embedded and errors.speaks_seed(request.path)):
        raise Unauthenticated
    if why := _foreign(request):
        raise Unauthenticated(
            f"{why}; without a credential only this machine is served"
            " (send `Authorization: Bearer clr_…`)"
        )
    if body.has_body(request) and request.mimetype != "application/json":
        raise WrongMediaType


def _foreign(request: Request) -> str:
    """Why a request may not have been made by this machine's user; empty when it was."""
    # On a unix socket there is no address: whoever may open the socket is the user.
    if request.remote_addr and not _is_loopback(request.remote_addr):
        return f"the request comes from {request.remote_addr}"
    if request.remote_addr and _is_other_user(request):
        return "the request comes from another user of this machine"
    if any(name in request.headers for name in _FORWARDED):
        return "the request was forwarded by a proxy"
    host = request.headers.get("Host", "")
    if not _is_loopback(_name(host)):
        return "the request names another host"
    origin = request.headers.get("Origin")
    if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
        return "the request was made by a page from elsewhere"
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return "the request was made by a page from elsewhere"
    return ""


def _is_other_user(request: Request) -> bool:
    peer_port, own_port = (int(request.environ.get(name) or 0) for name in _PORTS)
    return peer.is_same_user(peer_port, own_port) is False


def _name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
