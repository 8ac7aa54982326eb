"""What people allow a step: that one rule is passed once, for exactly one thing.

A permit is a text: the moment at which it was asked for, the rule or budget that asks
(`policy:rule`, `tool:NAME`) and a digest of the thing. Change the thing, and nobody has allowed it.
"""

from __future__ import annotations


def permit(moment: str, rule: str, what: str) -> str:
    """`what` is a digest."""
    return f"{moment}:{rule}#{what}"


def moment_of(text: str) -> str:
    """At which moment it was asked for: `start`, `report` or `call`."""
    return text.partition(":")[0]


def rule_of(text: str) -> str:
    """Which rule asked for it."""
    return text.partition(":")[2].rpartition("#")[0]


def what_of(text: str) -> str:
    """The digest of the thing that it is about."""
    return text.rpartition("#")[2]


def is_for(text: str, what: str) -> bool:
    """Whether it is about just that thing."""
    return what_of(text) == what
