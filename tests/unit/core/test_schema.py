from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from engine.core import document, overlays
from engine.core.document import vocabulary
from engine.core.schema import document_schema
from tests.support.documents import BAD, BAD_WAITS, GOOD, SMALL, WAITING, changed

VALIDATOR = jsonschema_rs.Draft202012Validator(document_schema(), offline=True)


@pytest.mark.parametrize("name", GOOD)
def test_what_the_reader_reads_the_schema_lets_pass(name: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(GOOD[name])] == []
    canonical = document.write(document.read(GOOD[name]))  # type: ignore[arg-type]  # it is good
    assert VALIDATOR.is_valid(canonical)


@pytest.mark.parametrize(("path", "value", "where", "message"), BAD)
def test_what_the_reader_refuses_the_schema_refuses(
    path: tuple[str | int, ...], value: Any, where: str, message: str
) -> None:
    assert VALIDATOR.is_valid(SMALL)
    assert not VALIDATOR.is_valid(changed(SMALL, path, value))


@pytest.mark.parametrize(("path", "value", "where", "message"), BAD_WAITS)
def test_what_the_reader_refuses_of_waits_the_schema_refuses(
    path: tuple[str | int, ...], value: Any, where: str, message: str
) -> None:
    assert not VALIDATOR.is_valid(changed(WAITING, path, value))


def test_it_is_a_schema() -> None:
    jsonschema_rs.meta.validate(document_schema())


def test_every_word_of_the_language_is_explained() -> None:
    silent = [name for name, schema in properties(document_schema()) if not meaning(schema)]
    assert silent == []


def test_it_knows_the_words_that_the_reader_knows() -> None:
    named = {name for name, _ in properties(document_schema())}
    nodes = {name for names in vocabulary.OWN.values() for name in names}
    edges = {name for names in vocabulary.EDGES.values() for name in names}
    assert named >= {*vocabulary.TOP, *vocabulary.NODE, *vocabulary.PLAN, *vocabulary.RULE}
    assert named >= {*vocabulary.JOIN, *vocabulary.VARIABLE, *nodes, *edges}


def test_it_knows_the_reducers_that_the_core_knows() -> None:
    assert {*vocabulary.REDUCED_TYPES} == {*overlays.REDUCERS}


def properties(schema: Any) -> list[tuple[str, Any]]:
    if isinstance(schema, list):
        return [found for entry in schema for found in properties(entry)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("properties", {}) if schema.get("type") == "object" else {}
    return [*own.items(), *(found for entry in schema.values() for found in properties(entry))]


def meaning(schema: Any) -> Any:
    if "description" not in schema and "$ref" in schema:
        definitions: Any = document_schema()["$defs"]
        return meaning(definitions[schema["$ref"].rpartition("/")[2]])
    return schema.get("description")
