"""Submitting runs: one transaction, no broker.

The run and its first event commit together; the nudge that follows is the caller's, in the
background, and may be lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from engine import documents, faults
from engine.core import codec
from engine.core import messages as msg
from engine.core.decide import RULES
from engine.core.graph import Graph
from engine.core.overflow import Overflow, overflowing
from engine.core.problem import Problem
from engine.core.values import VARIABLES_BYTES, Json, canonical, digest, plain
from engine.errors import Conflict, Invalid
from engine.platform import Platform
from engine.runs import catalogue, graphs, identity, large
from engine.store import idempotency, inbox, payloads, runs, session
from engine.store.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run that was accepted, now or by an earlier submission under the same key."""

    run: RunId
    replayed: bool


class _Overflowing(Exception):
    """What a run would start with is too large for its row; these values must lie elsewhere."""

    def __init__(self, values: Mapping[str, Json]) -> None:
        super().__init__(", ".join(values))
        self.values = values


def submit(
    platform: Platform,
    tenant: str,
    version_id: str,
    inputs: Mapping[str, Json],
    *,
    by: str,
    idempotency_key: str | None = None,
    asked: Json = None,
) -> Submitted:
    """Accept a run of a workflow version.

    `asked` is what the key stands for, where that is not the version itself: who asks for the
    latest version, and asks again, gets the run there is, although another is the latest by
    then. Raises `NotFound`, `Invalid` with every problem of the inputs, and `Conflict` when the
    key was used for another submission. Large values are kept as blobs.
    """
    run = RunId(tenant, identity.new_run())
    moved: Mapping[str, Json] = {}
    while True:
        try:
            return _submit(
                platform,
                run,
                version_id,
                inputs,
                moved,
                by=by,
                idempotency_key=idempotency_key,
                asked=asked,
            )
        except _Overflowing as overflowing:
            # Nothing was written: values are kept, and committed, before they are relied on.
            moved = _kept(platform, tenant, overflowing.values)


def _submit(
    platform: Platform,
    run: RunId,
    version_id: str,
    inputs: Mapping[str, Json],
    moved: Mapping[str, Json],
    *,
    by: str,
    idempotency_key: str | None,
    asked: Json,
) -> Submitted:
    """Accept a run, with references for values that were moved out."""
    tenant = run.tenant
    with session.transaction(platform.database) as connection:
        graph = graphs.load(connection, tenant, version_id)
        if idempotency_key is not None:
            said = digest([asked or {"version": version_id}, dict(inputs)])
            known = idempotency.claim(connection, idempotency_key, said, run)
            if known is not None:
                return _replayed(tenant, known.run_id, same=known.digest == said)
        given = _checked(graph, inputs, moved)
        pins = _pins(connection, tenant, graph)
        runs.create(
            connection, run, version_id=version_id, rules=RULES, pins=canonical(pins), by=by
        )
        event = msg.RunSubmitted(
            at=codec.UNTIMED,
            by=by,
            version=version_id,
            inputs=given,
            pins=pins,
            reducers=graph.reducers,
            shared=tuple(sorted(graph.shared)),
        )
        sealed = codec.seal(event, salt=os.urandom(16))
        payload_id = None
        if sealed.payload is not None:
            payload_id = "input"
            payloads.put(connection, run, payload_id, sealed.salt, sealed.payload)
        large.refer(connection, run, given)
        letter = inbox.Letter(
            run=run,
            kind=sealed.kind,
            format=codec.FORMAT,
            body=sealed.body,
            payload_id=payload_id,
        )
        inbox.put(connection, [letter])
    platform.fault(faults.SUBMIT_COMMITTED)
    return Submitted(run=run, replayed=False)


def _checked(
    graph: Graph, inputs: Mapping[str, Json], moved: Mapping[str, Json]
) -> dict[str, Json]:
    """The variables that the run starts with: declared defaults, then the inputs."""
    given = documents.with_defaults(graph, inputs)
    if problems := documents.input_problems(graph, given):
        raise Invalid(problems, "the inputs do not fit the workflow")
    variables = {**graph.variables, **given, **moved}
    try:
        names = overflowing(variables, variables, graph.reducers.keys())
    except Overflow as overflow:
        message = f"inputs and variables take {overflow.taken} bytes, {VARIABLES_BYTES} are allowed"
        raise _too_large(message) from None
    if names:
        raise _Overflowing({name: variables[name] for name in names})
    return variables


def _kept(platform: Platform, tenant: str, values: Mapping[str, Json]) -> dict[str, Json]:
    """References to values that are kept as blobs from now on."""
    try:
        return {name: plain(large.keep(platform, tenant, each)) for name, each in values.items()}
    except large.ValueTooLarge as error:
        raise _too_large(error.message) from error


def _too_large(message: str) -> Invalid:
    remedy = "pass a reference to large data"
    return Invalid([Problem(path="inputs", message=message, remedy=remedy)])


def _pins(connection: Connection, tenant: str, graph: Graph) -> dict[str, int]:
    """The version of everything that the graph names, for the run to keep to."""
    found, problems = catalogue.pins(connection, tenant, graph)
    if problems:
        raise Invalid(problems, "the workflow names what does not exist")
    return found


def _replayed(tenant: str, run: str, *, same: bool) -> Submitted:
    if not same:
        raise Conflict("this Idempotency-Key was used for another submission; use a new one")
    return Submitted(run=RunId(tenant, run), replayed=True)
