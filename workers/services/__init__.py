"""Services, carried out: one module per kind, one function of one shape.

A carrier gets what was `Asked` and gives an `Answer`. Everything before it (may it be called, what
may it cost) and after it (what was it charged, what is recorded) is the same for all tools, and
none of its business.

Whatever connects to the outside does it by `connections`, and by `reach` where it speaks HTTP: a
service may be anybody's, and the worker stands where databases and metadata servers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.store.calls import NOT_SENT
from workers.services import catalogue, http, llm, mcp, sql
from workers.services.service import NOTHING, Answer, Asked, Carrier

#: By the kind of the service.
CARRIERS: Mapping[str, Carrier] = {
    "catalogue": catalogue.carry,
    "http": http.carry,
    "llm": llm.carry,
    "mcp": mcp.carry,
    "sql": sql.carry,
}

#: How calls end that cost nobody anything. Who turns one away because there are too many was asked.
_FREE = NOT_SENT - {"rate_limited"}


def carry(kind: str, asked: Asked) -> Answer:
    """Carry out a call of a service; one that sent nothing says that it used nothing."""
    carrier = CARRIERS.get(kind)
    if carrier is None:
        message = f"this worker knows no services of kind {kind!r}"
        return Answer(reason="no_such_service", message=message, usage=NOTHING)
    answer = carrier(asked)
    if answer.reason in _FREE and not answer.usage:
        return replace(answer, usage=NOTHING)
    return answer
