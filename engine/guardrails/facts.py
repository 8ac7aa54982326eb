"""What is known at one moment of a run, and nothing else: rules judge these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from engine.core.values import Json
from engine.guardrails.vocabulary import Moment, Scope, Window


class Total(NamedTuple):
    """A sum that is kept: of which usage, over whose executions, since when."""

    scope: Scope
    window: Window
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One moment of a run.

    `start`: a step is about to start; `report`: it has reported, and nothing has followed from
    that yet; `call`: a tool is about to be called; `call_report`: its result is there.
    """

    moment: Moment
    tenant: str = ""
    user: str = ""
    workflow: str = ""
    run: str = ""
    node: str = ""
    kind: str = ""
    step: str = ""
    attempt: int = 1
    iteration: int = 1
    #: Of a call. None: this is about a step.
    tool: str | None = None
    arguments: Json = None
    #: By place: `inputs`, `result`. What lies in the blob store is given as its reference.
    content: Mapping[str, Json] = field(default_factory=dict)
    #: Of this execution: what it reported, before that what it is estimated to use. Of a call,
    #: that of the call.
    usage: Mapping[str, Decimal] = field(default_factory=dict)
    #: This execution included.
    totals: Mapping[Total, Decimal] = field(default_factory=dict)
    #: Of the run: `steps`, `seconds` (on the clock), `parallelism` (steps that are at work).
    live: Mapping[str, Decimal] = field(default_factory=dict)
    #: How often this very call, tool and arguments, has been made in the run before.
    repeats: int = 0
    #: Digest of the variables that the step leaves; None: its result stands for them.
    state: str | None = None
    #: By rule id, the value at which a person let it pass. Of rules with a window, in this one.
    waived: Mapping[str, Json] = field(default_factory=dict)
