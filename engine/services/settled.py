"""What configurations of several kinds of service have in common, read from a section."""

from __future__ import annotations

import re

from engine.core.section import Section, named
from engine.core.values import Json
from engine.services import addresses

#: A value that the worker puts in just before a call, if the service was granted it.
SECRET = re.compile(r"\$env\.[A-Za-z_][A-Za-z0-9_]*")
#: The same, after a word such as `Token ` or `session=`.
REFERENCE = re.compile(
    r"([A-Za-z][A-Za-z0-9_.-]{0,31}[ =])?\$env\.[A-Za-z_][A-Za-z0-9_]*", re.ASCII
)
#: What to do about a secret that somebody has written out.
REMEDY = "put it as a secret: celeriac secrets put NAME -, write $env.NAME"
#: Headers that are somebody's credentials, and how others end that are.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_ENDINGS = ("-token", "-key", "-secret")
#: The longest that a call may take, in seconds.
MAX_SECONDS = 3_600
_MOST_PLACES = 64


def private(section: Section) -> tuple[str, ...]:
    """The private places that a service wants to reach: networks, addresses, `address:port`, folders."""
    given = section.fields.get("allow_private", [])
    wanted = 'a list of addresses and networks, such as ["10.1.2.3", "10.0.0.0/8"]'
    if not isinstance(given, list) or len(given) > _MOST_PLACES:
        section.wrong(section.at("allow_private"), given, wanted)
        return ()
    found: list[str] = []
    for index, text in enumerate(given):
        name = f"allow_private[{index}]"
        if not isinstance(text, str):
            section.wrong(section.at(name), text, "an address or a network")
            continue
        try:
            addresses.places([text])
        except ValueError as error:
            section.fail(name, str(error), "write an address or a network, such as 10.0.0.0/8")
        else:
            found.append(text)
    return tuple(found)


def secret(section: Section, name: str, wanted: str) -> str | None:
    """A text that may be secret: no message quotes it."""
    if name not in section.fields:
        return None
    value = section.fields[name]
    if not isinstance(value, str):
        section.fail(name, f"{named(value)} stands here", f"write {wanted}")
    elif not value or not value.isprintable():
        section.fail(name, "it is empty, or holds control characters", f"write {wanted}")
    else:
        return value
    return None


def credential(section: Section, name: str, wanted: str, *, resolved: bool) -> str | None:
    """A text that is secret, so that only a secret's name may stand there until it is put in.

    A configuration is shown to whoever may see the service, and kept in the audit for good.
    """
    value = secret(section, name, wanted)
    if value is not None and not resolved and not REFERENCE.fullmatch(value):
        section.fail(name, "a secret is written out, for all who may see the service", REMEDY)
    return value


def is_credential(header: str) -> bool:
    """Whether a header is one that says who asks."""
    name = header.lower()
    return name in _CREDENTIALS or name.endswith(_ENDINGS)


def unresolved(text: str) -> bool:
    """Whether a text stands for a secret that has not been put in yet."""
    return SECRET.fullmatch(text) is not None


def missing(config: Json) -> tuple[str, ...]:
    """The names of secrets that a configuration waits for."""
    waiting, found = [config], set()
    while waiting:
        match waiting.pop():
            case str(text) if unresolved(text):
                found.add(text.removeprefix("$env."))
            case list(items):
                waiting.extend(items)
            case dict(fields):
                waiting.extend(fields.values())
            case _:
                pass
    return tuple(sorted(found))
