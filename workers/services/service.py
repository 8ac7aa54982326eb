"""What a carrier is asked for, and what it answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.capabilities import Host
from engine.core.values import Json
from engine.platform import Platform
from engine.runs.attempts import Leased
from engine.runs.calls import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of a service, to be carried out now."""

    #: As it was registered, with what is secret put in.
    config: Mapping[str, Json]
    #: By name, with the defaults of those that were not given.
    arguments: Mapping[str, Json]
    #: The same in every attempt: what a receiver tells repeats by.
    idempotency_key: str
    #: What is left of the time for it.
    seconds: float
    #: Set when the attempt has lost its step: nothing that follows would count.
    stopped: threading.Event = field(default_factory=threading.Event)
    #: Networks that whoever runs the platform lets services reach although they are private.
    private: tuple[str, ...] = ()
    #: Where the platform's own servers listen, `host:port` or a folder of sockets: no service reaches
    #: them, unless `private` names the very place.
    own: tuple[str, ...] = ()
    #: What of hosts was granted to the code that calls; None where nothing bounds the call.
    hosts: tuple[Host, ...] | None = None
    #: Who asks, and the platform on which: of what the platform does itself.
    platform: Platform | None = None
    lease: Leased | None = None
    #: Takes text as it comes, for the run's stream.
    say: Callable[[str], None] = lambda _text: None


#: The usage of a call that sent nothing; of one that does not speak of it the estimate is charged.
NOTHING: Mapping[str, float] = {"tokens_used": 0.0, "cost_usd": 0.0}

#: Carries a call out. It raises nothing for what the outside does: its answer says it.
Carrier = Callable[[Asked], Answer]

__all__ = ["NOTHING", "Answer", "Asked", "Carrier"]
