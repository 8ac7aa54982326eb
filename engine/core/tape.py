"""The tape of a step list: what its steps are given of it, and what they leave there.

The variables of such a run are its tape. Two names on it have a meaning of their own:
`step_index`, the step that comes next once one is added to it, and `status`, how the last
step ended. While `dryrun` holds there, or in the params of a step, no service that the step calls
reaches outside. Everything else is whatever steps leave there for one another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from engine.core import expressions
from engine.core.expressions import Template
from engine.core.section import below
from engine.core.values import MAX_INTEGER, Json, is_bytes

#: Where on the list a run stands.
INDEX = "step_index"
#: How the last step ended: `{value: 0, reason: ""}`, or another value if it failed.
STATUS = "status"
NAMES = frozenset({INDEX, STATUS})
#: Whether steps are only tried: a name like any other, which lists hand on to those that they call.
DRY_RUN = "dryrun"
#: What the tape may hold as its index: JSON Schema.
INDEX_TYPE: Mapping[str, Json] = {"type": "integer"}

#: What expressions know by names of their own.
_NEVER = frozenset({"run", "result"})
_PARAM = re.compile(r"[A-Za-z0-9_]+")


def given(params: Template, scope: Mapping[str, Json]) -> dict[str, Json]:
    """What a step is given: its params, filled in.

    A name in one of them is another param of the step, where it has one of that name, and
    else what is on the tape. Raises `EvaluationError`.
    """
    source = params.source
    assert isinstance(source, dict)
    needs = needed(params)
    if not any(needs.values()):
        whole = params.evaluate(scope)
        assert isinstance(whole, dict)
        return whole
    found: dict[str, Json] = {}
    while len(found) < len(source):
        name = next(n for n in source if n not in found and needs[n] <= found.keys())
        above = {other: found[other] for other in needs[name]}
        try:
            found[name] = expressions.template(source[name]).evaluate({**scope, **above})
        except expressions.EvaluationError as error:
            error.path = below(name, error.path)
            raise
    return found


def needed(params: Template) -> dict[str, set[str]]:
    """The other params of a step that each of its params is made from."""
    source = params.source
    assert isinstance(source, dict)
    needs: dict[str, set[str]] = {name: set() for name in source}
    for path, expression in params.expressions.items():
        start = _PARAM.match(path)
        assert start is not None
        needs[start[0]] |= expression.names & beside(params, path)
    return needs


def beside(params: Template, path: str) -> frozenset[str]:
    """The names that, at a place in the params of a step, stand for others of them."""
    source, start = params.source, _PARAM.match(path)
    assert isinstance(source, dict)
    assert start is not None
    return frozenset(source) - {start[0]} - _NEVER


def circular(params: Template) -> Sequence[str]:
    """Params that are made from one another, so that none can be the first; empty when all can."""
    needs = needed(params)
    while ready := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in ready}
    return sorted(needs)


def left(output: Sequence[str], value: Json, status: Json) -> dict[str, Json]:
    """What a step leaves on the tape: the keys of an object, else one value by its first name.

    A step that says nothing of its status has succeeded.
    """
    named = {output[0]: value} if output else {}
    patch = dict(value) if isinstance(value, dict) and not is_bytes(value) else named
    if status is not None:
        return {**patch, STATUS: status}
    return {STATUS: ended(0, ""), **patch}


def ended(value: int, reason: str) -> dict[str, Json]:
    """A status."""
    return {"value": value, "reason": reason}


def failed(status: Json) -> bool:
    """Whether a status says that its step failed."""
    return isinstance(status, dict) and bool(status.get("value"))


def index(tape: Mapping[str, Json]) -> int | None:
    """Where on the list a run stands; None when the tape does not say it."""
    found = tape.get(INDEX)
    if isinstance(found, bool) or not isinstance(found, int | float) or found != int(found):
        return None
    return int(found)


def after(index: int) -> int:
    """The step after a step. Where numbers end, so does the counting: it is far off any list."""
    return max(min(index + 1, MAX_INTEGER), -MAX_INTEGER)
