"""What becomes of hostile requests: each is answered in a known form, and none that is refused changes anything."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import quote

from werkzeug.test import TestResponse

from tests.fuzz.hostile import Request
from tests.fuzz.world import Operation, World
from tests.support import digests

#: So many are sent between two looks at the tables.
_AT_ONCE = 25
_REFUSED = 400
_BROKEN = 500
#: Nobody is told more than this of what is wrong with what he sent.
_MOST = 200_000
#: What is nobody's business.
_INNER = ("Traceback", 'File "', "psycopg2", "sqlalchemy", "site-packages")
_SEED = {"graph", "nodes", "tools"}
_PROBLEM = {"type", "title", "status", "detail", "request_id"}
_MORE = {"errors", "verdict"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Siege:
    """What came of it."""

    #: How often each status was answered, by operation.
    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    #: What is wrong, by operation and kind, with the requests that showed it.
    faults: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def requests(self) -> int:
        return sum(counts.total() for counts in self.answers.values())


def on(world: World, operation: Operation, requests: Iterable[Request], siege: Siege) -> None:
    """Send an operation what it is not meant for."""
    left, things = iter(requests), world.renewed(operation)
    while chunk := [*islice(left, _AT_ONCE)]:
        before = digests.of(world.owner)
        refused = _send(world, operation, chunk, siege, things)
        if len(refused) < len(chunk):
            # Some were taken, and changed what they may: only the others must change nothing.
            things = world.renewed(operation)
            before = digests.of(world.owner)
            if len(_send(world, operation, refused, siege, things)) < len(refused):
                things = world.renewed(operation)
                continue
        after = digests.of(world.owner)
        if after != before:
            changed = sorted(name for name in after if after[name] != before[name])
            which = "; ".join(request.what for request in refused)
            siege.faults[operation.label, f"refused, and changed {changed}"].append(which)


def _send(
    world: World,
    operation: Operation,
    requests: Sequence[Request],
    siege: Siege,
    things: dict[str, str],
) -> list[Request]:
    """Those that were refused."""
    refused = []
    for request in requests:
        response = _answer(world, operation, request, things)
        siege.answers[operation.label][response.status_code] += 1
        if wrong := _wrong(world, response):
            siege.faults[operation.label, wrong].append(request.what)
        if response.status_code >= _REFUSED:
            refused.append(request)
    return refused


def _answer(
    world: World, operation: Operation, request: Request, things: dict[str, str]
) -> TestResponse:
    path = request.path
    for name in operation.parameters:
        path = path.replace(f"{{{name}}}", quote(things[name], safe=""))
    return world.api.client.open(
        path,
        method=operation.method,
        data=request.data,
        content_type=request.content_type,
        query_string=request.query,
        headers={**world.header, **request.headers},
        environ_overrides=dict(request.environ),
    )


def _wrong(world: World, response: TestResponse) -> str:
    """What is wrong with an answer, whatever was asked; empty where nothing is."""
    text = response.get_data(as_text=True)
    if response.status_code >= _BROKEN:
        return f"{response.status_code}: {text[:200]}"
    if inner := [word for word in _INNER if word in text]:
        return f"tells of {inner}"
    if response.status_code < _REFUSED:
        return world.described.misfit(response)
    if len(text) > _MOST:
        return "says more than anybody reads"
    return _no_problem(response)


def _no_problem(response: TestResponse) -> str:
    """How a refusal differs from the documented form."""
    try:
        told = json.loads(response.get_data())
    except ValueError:
        return f"a refusal of {response.content_type}"
    if response.request.path.split("/")[1] in _SEED:
        kind, needed, more = "application/json", {"error", "detail"}, {"errors"}
    else:
        kind, needed, more = "application/problem+json", _PROBLEM, _MORE
    if response.content_type != kind:
        return f"a refusal of {response.content_type}"
    if not needed <= set(told) <= needed | more or not told["detail"]:
        return f"a refusal that tells {sorted(told)}"
    if told.get("status", response.status_code) != response.status_code:
        return "a refusal that tells another status"
    if any(set(problem) != {"path", "message", "remedy"} for problem in told.get("errors", ())):
        return "a problem of another form"
    return ""
