"""Calls of catalogue services: what `engine.runs.authorship` answers, or why it does not.

Nothing leaves the platform. What is wrong with a definition fails as `invalid`, with every problem;
what the run may not write any more as `over_quota`.
"""

from __future__ import annotations

from engine.errors import CeleriacError, Conflict, Invalid, NotFound, Unavailable
from engine.runs import authorship
from engine.runs.authorship import OverQuota
from engine.services import catalogue
from workers.services.service import NOTHING, Answer, Asked

_REASONS: tuple[tuple[type[CeleriacError], str], ...] = (
    (Invalid, "invalid"),
    (NotFound, "not_found"),
    (OverQuota, "over_quota"),
    (Conflict, "conflict"),
    (Unavailable, "unreachable"),
)


def carry(asked: Asked) -> Answer:
    """Read or write a definition of the tenant that the step is of."""
    assert asked.platform is not None
    assert asked.lease is not None
    config = catalogue.read(dict(asked.config))
    try:
        value = authorship.answer(asked.platform, asked.lease, config, asked.arguments)
    except tuple(kind for kind, _ in _REASONS) as error:
        reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
        return Answer(reason=reason, message=str(error), usage=NOTHING)
    return Answer(value=value, usage=NOTHING)
