"""A walk over every route, with requests made from the description of the API.

Requests are Schemathesis's. Left to itself it would name things that are not there, and be told so
with 404; most requests are therefore led to what there is, and to bodies that are taken in part.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any
from urllib.parse import quote

import hypothesis
import schemathesis
from hypothesis import Phase, strategies
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.world import Operation, World
from tests.support import recorded

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: Something that is there is used up by some requests; so many go by until there is a new one.
_RENEWED = 3


@schemathesis.serializer(recorded.CONTENT)
def _written(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """The file of a run, as far as what is made looks like one."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


class Aim(Enum):
    """How far a request is led."""

    RIGHT = "to what there is, with a body that is taken"
    PARTLY = "to what there is, with a body that is partly as it should be"
    THERE = "to what there is"
    NOWHERE = "as it was made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What came of it."""

    #: How often each status was answered, by operation.
    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    #: What is wrong, by operation and kind, with one request that showed it.
    faults: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return sum(counts.total() for counts in self.answers.values())

    def share(self, label: str) -> float:
        """How many of the answers of an operation were 2xx."""
        counts = self.answers[label]
        return sum(counts[status] for status in counts if status < 300) / counts.total()


def over(world: World, operations: Iterable[Operation], *, examples: int) -> Walk:
    """Ask so many things of each operation."""
    schema, walk = _schema(world), Walk()
    for operation in operations:
        _ask(world, schema, operation, walk, examples=examples)
    return walk


def _ask(
    world: World, schema: BaseSchema, operation: Operation, walk: Walk, *, examples: int
) -> None:
    method, path = operation.where
    described = schema[path][method]
    made = strategies.one_of(
        described.as_strategy(generation_mode=GenerationMode.POSITIVE),
        described.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )
    things, asked = world.found(operation), 0

    @hypothesis.settings(max_examples=examples, phases=[Phase.generate])
    @hypothesis.given(
        case=made, aim=strategies.sampled_from(Aim), chance=strategies.integers(0, 2**32)
    )
    def ask(case: Case, aim: Aim, chance: int) -> None:
        nonlocal things, asked
        if operation.writes and asked % _RENEWED == 0:
            things = world.renewed(operation)
        asked += 1
        given = world.body(operation, things)
        if aim is Aim.RIGHT and "data" in given:
            # Schemathesis gives files no names, and an archive is told by its name.
            _note(walk, operation, *_uploaded(world, operation, given))
            return
        if aim is not Aim.NOWHERE:
            _lead(operation, case, aim, things, given.get("json"), random=Random(chance))
        response = case.call(headers=world.header)
        wrong = [
            (kind, f"{what}\n{_request(case)}")
            for kind, what in _wrong(world, operation, case, response)
        ]
        _note(walk, operation, response.status_code, wrong)

    ask()


def _note(walk: Walk, operation: Operation, status: int, wrong: Iterable[tuple[str, str]]) -> None:
    walk.answers[operation.label][status] += 1
    for kind, what in wrong:
        walk.faults.setdefault((operation.label, kind), what)


def _uploaded(
    world: World, operation: Operation, given: Mapping[str, Any]
) -> tuple[int, list[tuple[str, str]]]:
    response = world.api.send(operation.method, operation.where[1], **given)
    misfit = world.described.misfit(response)
    return response.status_code, [(misfit, response.text)] if misfit else []


def _lead(
    operation: Operation,
    case: Case,
    aim: Aim,
    things: Mapping[str, str],
    right: Any,
    *,
    random: Random,
) -> None:
    case.path_parameters = {name: quote(things[name], safe="") for name in operation.parameters}
    if aim is Aim.THERE:
        return
    if operation.writes and isinstance(right, Mapping):
        drawn = case.body if aim is Aim.PARTLY and isinstance(case.body, dict) else {}
        kept = right if aim is Aim.RIGHT else _some(right, random)
        case.body, case.media_type = {**drawn, **kept}, "application/json"
    if isinstance(case.query, dict):
        case.query = {
            name: things.get(_OF_QUERY.get(name, name), value)
            for name, value in case.query.items()
            if aim is Aim.PARTLY or name != "cursor"
        }


#: Parameters of queries that are called otherwise in addresses.
_OF_QUERY = {"run": "run_id", "workflow": "name", "tool": "name", "step": "key"}


def _some(body: Mapping[str, Any], random: Random) -> dict[str, Any]:
    return {name: value for name, value in body.items() if random.random() < 0.7}


def _wrong(
    world: World, operation: Operation, case: Case, response: Response
) -> Iterable[tuple[str, str]]:
    try:
        case.validate_response(response, checks=_CHECKS, headers=world.header)
    except FailureGroup as group:
        for failure in group.exceptions:
            yield type(failure).__name__, f"{failure}"
    kind = response.headers.get("content-type", [None])[0]
    misfit = world.described.differs(operation.where, response.status_code, kind, response.content)
    if misfit and response.status_code < 500:
        yield misfit.partition(":")[0], misfit


def _request(case: Case) -> str:
    """A request, in short."""
    told = (case.method, case.formatted_path, case.query, dict(case.headers or {}), case.body)
    return repr(told)[:2000]


def _schema(world: World) -> BaseSchema:
    """The description, with the languages of documents in it."""
    client, text = world.app.test_client(), json.dumps(world.described.spec)
    documents = {}
    for name, place in _DOCUMENTS.items():
        below = f"#/components/schemas/{name}"
        text = text.replace(f'{{"$ref": "{place}"}}', f'{{"$ref": "{below}"}}')
        document = json.dumps(client.get(place).json).replace('"#/', f'"{below}/')
        documents[name] = json.loads(document.replace(_OF_SCHEMAS, ""))
        documents[name].pop("$id", None)
    spec = json.loads(text)
    spec["components"]["schemas"].update(documents)
    found = schemathesis.openapi.from_dict(spec, config=SchemathesisConfig())
    found.app = world.app
    return found


_DOCUMENTS = {"WorkflowDocument": "/api/v1/schema", "PolicyDocument": "/api/v1/schema/policy"}
#: A schema in a document is a schema; Schemathesis has not got the schema of schemas.
_OF_SCHEMAS = ', "$ref": "https://json-schema.org/draft/2020-12/schema"'
