"""What an operator bounds for every run, whatever its graph says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's bounds."""

    #: How often the attempts of one step may be lost with their workers before it fails.
    #: Without it a step that kills its worker would go round for ever.
    lost_attempts: int = 5


DEFAULT = Policy()
