"""A run as it enters the store: checked inputs, pinned versions, its first event.

Whoever submits one, a person (`launch`) or a step of another run (`children`), does it in a
transaction of theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from engine import documents, waiting
from engine.core import codec, remembered
from engine.core import messages as msg
from engine.core.decide import RULES
from engine.core.graph import Graph
from engine.core.overflow import Overflow
from engine.core.problem import Problem
from engine.core.values import VARIABLES_BYTES, Json, canonical
from engine.errors import Invalid
from engine.platform import Platform
from engine.runs import catalogue, identity, large, letters
from engine.store import inbox, payloads, runs
from engine.store.ids import RunId, StepId
from engine.waiting import Overflowing


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The step that starts a run, and what becomes of the run when the step is gone."""

    step: StepId
    attempt: int
    orphan: str
    depth: int


def enter(
    connection: Connection,
    tenant: str,
    version_id: str,
    graph: Graph,
    inputs: Mapping[str, Json],
    *,
    by: str,
    scopes: Collection[str] | None = None,
    run: RunId | None = None,
    origin: Origin | None = None,
    kept: Mapping[str, Json],
) -> RunId:
    """Create a run of a workflow version.

    `kept` are references to values that lie elsewhere, by digest. Raises `Invalid` with every
    problem of the inputs, and `Overflowing` with the values that must be kept first.
    """
    run = run or RunId(tenant, identity.new_run())
    given = _checked(graph, inputs, kept)
    found = pins(connection, tenant, graph, version_id)
    runs.create(
        connection,
        run,
        version_id=version_id,
        rules=RULES,
        pins=canonical(found),
        by=by,
        scopes=scopes,
        origin=None if origin is None else (origin.step, origin.attempt, origin.orphan),
        depth=0 if origin is None else origin.depth,
    )
    event = msg.RunSubmitted(
        at=codec.UNTIMED,
        by=by,
        version=version_id,
        inputs=given,
        pins=found,
        reducers=remembered.reducers(graph),
        shared=tuple(sorted(graph.shared)),
    )
    sealed = letters.sealed(run, event, "input")
    payloads.put_all(connection, [sealed.payload])
    large.refer(connection, run, given)
    inbox.put(connection, [sealed.letter])
    return run


def kept(
    platform: Platform, tenant: str, overflowing: Overflowing, before: Mapping[str, Json]
) -> Mapping[str, Json]:
    """References to values that do not fit, beside those from before; to try once more with, nothing being written.

    They are kept, and committed, before they are relied on. Raises `Invalid` for what is too large altogether.
    """
    try:
        return {**before, **large.keep_all(platform, tenant, overflowing.values)}
    except large.ValueTooLarge as error:
        raise too_large(error.message) from error


def too_large(message: str) -> Invalid:
    """What a run would start with does not fit, and cannot be made to."""
    remedy = "pass a reference to large data"
    return Invalid([Problem(path="inputs", message=message, remedy=remedy)])


def _checked(graph: Graph, inputs: Mapping[str, Json], kept: Mapping[str, Json]) -> dict[str, Json]:
    """The variables that the run starts with: declared defaults, then the inputs."""
    given = documents.with_defaults(graph, inputs)
    if problems := documents.input_problems(graph, given):
        raise Invalid(problems, "the inputs do not fit the workflow")
    variables = {**graph.variables, **given}
    try:
        return waiting.moved(variables, variables, graph.reducers.keys(), kept)
    except Overflow as overflow:
        message = f"inputs and variables take {overflow.taken} bytes, {VARIABLES_BYTES} are allowed"
        raise too_large(message) from None


def pins(
    connection: Connection, tenant: str, graph: Graph, version_id: str
) -> dict[str, int | str]:
    """The version of everything that the graph names, for the run to keep to. Raises `Invalid`.

    A workflow that runs itself runs the version that it is.
    """
    found, problems = catalogue.pins(connection, tenant, graph)
    if problems:
        raise Invalid(problems, "the workflow names what does not exist")
    itself = f"workflow:{graph.workflow}"
    return {**found, itself: version_id} if itself in found else found
