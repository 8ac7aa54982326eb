"""Secrets: put, listed, deleted and sealed anew by admins; opened for one attempt by workers.

Each change is an act in its transaction, without the value and without a digest of it, from which a
short one could be guessed. Nothing here gives a value but `resolve`, which asks first whether it was
granted to whoever is to get it (`engine.runs.capabilities`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine import envelopes, redaction
from engine.capabilities import SECRET_NAME, Subject
from engine.core import values
from engine.core.problem import Problem
from engine.core.section import short
from engine.envelopes import Envelope
from engine.errors import Forbidden, Invalid, NotFound
from engine.keys import Ring
from engine.platform import Platform
from engine.runs import acts, capabilities
from engine.store import secrets, session
from engine.store.secrets import Sealed, Secret

#: Bytes that a value may have.
MOST_BYTES = 65_536
#: Secrets that one transaction seals anew.
_AT_ONCE = 100


class NotGranted(Forbidden):
    """A secret is asked for that was not granted to whoever asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A secret that was opened."""

    value: str = field(repr=False)
    #: Whether it is to be hidden wherever it turns up.
    sensitive: bool


def put(
    platform: Platform,
    tenant: str,
    name: str,
    value: str,
    *,
    by: str,
    sensitive: bool = True,
    why: str = "",
) -> Secret:
    """Keep a value as the newest version of a secret; what was sealed before is removed.

    Raises `Invalid`, in words that do not hold the value.
    """
    if problems := [*_problems(name, value, sensitive=sensitive)]:
        raise Invalid(problems, "the secret cannot be kept")
    with session.transaction(platform.database) as connection:
        version = secrets.lock(connection, tenant, name) + 1
        before = secrets.remove(connection, tenant, name)
        new = _sealed(_ring(platform), tenant, name, version, value, sensitive=sensitive)
        made = secrets.add(connection, tenant, new, by=by)
        acts.record(
            connection,
            tenant,
            by=by,
            action="secret.put",
            subject=f"secret:{name}",
            why=why,
            detail={
                "version": version,
                "before": None if before is None else before.version,
                "sensitive": sensitive,
                "key_id": made.key_id,
            },
        )
    return made


def page(platform: Platform, tenant: str, *, after: str = "", limit: int) -> tuple[Secret, ...]:
    """The secrets that there are, by name."""
    with session.transaction(platform.database) as connection:
        return tuple(secrets.page(connection, tenant, after=after, limit=limit))


def versions(platform: Platform, tenant: str, name: str) -> tuple[Secret, ...]:
    """Who has put a secret when, the newest version first. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = tuple(secrets.versions(connection, tenant, name))
    if not found:
        raise NotFound(f"Secret not found: {name}")
    return found


def delete(platform: Platform, tenant: str, name: str, *, by: str, why: str = "") -> Secret:
    """Remove what was sealed; from the next attempt on nobody gets it. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        secrets.lock(connection, tenant, name)
        gone = secrets.remove(connection, tenant, name)
        if gone is None:
            raise NotFound(f"Secret not found: {name}")
        acts.record(
            connection,
            tenant,
            by=by,
            action="secret.delete",
            subject=f"secret:{name}",
            why=why,
            detail={"version": gone.version},
        )
    return gone


def rotate(platform: Platform, tenant: str, *, by: str, why: str = "") -> int:
    """Seal all that another key sealed with the first one of the ring; how many that were.

    Raises `OutOfReach` where a key is missing, and `Damaged`; what was sealed anew until then is.
    """
    count, ring = 0, _ring(platform)
    first = ring.sealing().id
    while True:
        with session.transaction(platform.database) as connection:
            found = secrets.others(connection, tenant, first, _AT_ONCE)
            for each in found:
                value, sensitive = _opened(ring, tenant, each), each.sensitive
                anew = _sealed(ring, tenant, each.name, each.version, value, sensitive=sensitive)
                secrets.reseal(connection, tenant, anew)
            if found or not count:
                names: list[values.Json] = [each.name for each in found]
                acts.record(
                    connection,
                    tenant,
                    by=by,
                    action="secret.rotate",
                    subject=f"key:{first}",
                    why=why,
                    detail={"secrets": names},
                )
        count += len(found)
        if len(found) < _AT_ONCE:
            return count


def resolve(platform: Platform, tenant: str, whose: Subject, name: str) -> Resolved:
    """The value of a secret, for an attempt of a function, a tool or a workflow in one version.

    Nothing is kept of it. Raises `NotGranted`, `NotFound` for a secret that is not there (any more),
    `OutOfReach` without its key, and `Damaged`.
    """
    with session.transaction(platform.database) as connection:
        profile = capabilities.of(connection, tenant, whose)
        if name not in profile.secrets:
            raise NotGranted(
                f"secret {name} is not granted to {whose.text}; an admin grants it with "
                f"secrets: [{name}] in a profile: celeriac capabilities grant {whose.text} FILE"
            )
        found = secrets.sealed(connection, tenant, [name])
    if not found:
        raise NotFound(
            f"there is no secret {name}; an admin puts it: celeriac secrets put {name} -"
        )
    (sealed,) = found
    return Resolved(value=_opened(_ring(platform), tenant, sealed), sensitive=sealed.sensitive)


def _problems(name: str, value: str, *, sensitive: bool) -> Iterator[Problem]:
    if not re.fullmatch(SECRET_NAME, name):
        remedy = "use letters, digits and _, up to 64 of them"
        yield Problem(path="name", message=f"{short(name)} names no secret", remedy=remedy)
    if any(values.problems(value, path="value")):
        yield Problem(
            path="value", message="is no text that can be kept", remedy="send valid UTF-8"
        )
    elif not 0 < len(value.encode()) <= MOST_BYTES:
        remedy = f"send 1 to {MOST_BYTES} bytes"
        yield Problem(path="value", message="is empty, or too long", remedy=remedy)
    elif sensitive and len(value) < redaction.LEAST:
        yield Problem(
            path="value",
            message=f"a sensitive value has {redaction.LEAST} characters at least: to be hidden, it "
            "must not be found everywhere",
            remedy="send a longer one, or say that it is not sensitive",
        )
    elif sensitive and value in redaction.mark(name):
        yield Problem(
            path="value",
            message="is part of what stands in its place",
            remedy="send a value that its name does not tell",
        )


def _sealed(
    ring: Ring, tenant: str, name: str, version: int, value: str, *, sensitive: bool
) -> Sealed:
    made = envelopes.seal(value, ring, tenant, name, version)
    return Sealed(
        name=name,
        version=version,
        sensitive=sensitive,
        key_id=made.key_id,
        nonce=made.nonce,
        ciphertext=made.ciphertext,
    )


def _opened(ring: Ring, tenant: str, sealed: Sealed) -> str:
    envelope = Envelope(key_id=sealed.key_id, nonce=sealed.nonce, ciphertext=sealed.ciphertext)
    return envelopes.opened(envelope, ring, tenant, sealed.name, sealed.version)


def _ring(platform: Platform) -> Ring:
    return platform.settings.secret_keys
