"""What agents are called, and what their functions and workflows are."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Functions and workflows of agents begin so.
OWN = "agent."
#: The name of an agent; the `/` between namespaces of the seed is a dot here.
NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"

_REFERENCE = re.compile(
    r"/?(?P<name>[A-Za-z_][A-Za-z0-9_./-]{0,150}?)"
    r"(?:(?:@|/v)(?P<major>[0-9]{1,9})(?:\.(?P<minor>[0-9]{1,9}))?)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An agent as a step names it: `NAME`, `NAME@1`, `NAME@1.2`, or `/SPACE/NAME/v1.2`."""

    name: str
    major: int | None = None
    minor: int | None = None

    @property
    def text(self) -> str:
        if self.major is None:
            return self.name
        return f"{self.name}@{self.major}" + ("" if self.minor is None else f".{self.minor}")


def named(text: str) -> Named | None:
    """What a text names; None where it is no name of an agent."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return None
    name = found["name"].replace("/", ".")
    if not re.fullmatch(NAME, name):
        return None
    return Named(
        name=name,
        major=None if found["major"] is None else int(found["major"]),
        minor=None if found["minor"] is None else int(found["minor"]),
    )


def registered(name: str) -> str:
    """What the function and the workflow of an agent are called."""
    return OWN + name
