"""The JSON Schema says what the reader says, wherever a schema can."""

from __future__ import annotations

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import reading
from engine.errors import Invalid
from engine.guardrails import document, schema
from engine.guardrails import vocabulary as words
from tests.unit.guardrails.test_document import SPENDING, json_values

VALIDATOR = jsonschema_rs.Draft202012Validator(schema.policy_schema(), validate_formats=True)


def test_the_schema_is_one() -> None:
    assert jsonschema_rs.meta.is_valid(schema.policy_schema())
    assert VALIDATOR.is_valid(reading.read(SPENDING).data)


@pytest.mark.parametrize(
    "text",
    [
        "policy: p\nrules:\n  - per user per hour: sum(cost_usd) > 5 → reject_execution",
        "policy: p\nrules: [{metric: x, op: ≥, value: '1 000', action: Abort Lifetime}]",
        "policy: p\nrules: [{no_progress: {repeated_state: {times: 2, of: $result.a}}, action: pause}]",
        "policy: p\nrules: [{no_progress: {flat_score: {of: score}}, action: PAUSE_LIFETIME}]",
        "policy: p\nrules: [{arguments: [{path: a.*, in: [1]}, {path: b, regex: x}], action: deny}]",
        "policy: p\nbudgets: [{scope: request, metric: cost_usd, limit: '0.1'}]",
    ],
)
def test_what_the_reader_takes_the_schema_takes(text) -> None:
    document.read(text)
    assert VALIDATOR.is_valid(reading.read(text).data)


@pytest.mark.parametrize(
    "text",
    [
        "policy: p",
        "policy: p\nrules: []",
        "rules: [sum(x) > 1 → warn]",
        "policy: p\nrules: [sum(x) > 1]",
        "policy: p\nrulez: []\nrules: [sum(x) > 1 → warn]",
        "policy: p\nrules: [{tool: a}]",
        "policy: p\nrules: [{action: deny}]",
        "policy: p\nrules: [{tool: a, action: explode}]",
        "policy: p\nrules: [{metric: x, value: 1, action: deny}]",
        "policy: p\nrules: [{arguments: {path: a}, action: deny}]",
        "policy: p\nrules: [{arguments: {path: a, eq: 1, ne: 1}, action: deny}]",
        "policy: p\nrules: [{content: {in: [result]}, action: deny}]",
        "policy: p\nrules: [{no_progress: {same_call: 1}, action: deny}]",
        "policy: p\nrules: [{tool: a, action: ask, from: everybody}]",
        "policy: p\nbudgets: [{scope: galaxy, metric: x, limit: 1}]",
        "policy: p\nplugins: [{with: {}}]",
    ],
)
def test_what_a_schema_can_refuse_both_refuse(text) -> None:
    with pytest.raises(Invalid):
        document.read(text)
    assert not VALIDATOR.is_valid(reading.read(text).data)


@given(st.dictionaries(st.sampled_from([*words.TOP, "x"]), json_values, max_size=6))
def test_nothing_is_refused_by_the_schema_alone(data) -> None:
    try:
        document.policy(data)
    except Invalid:
        taken = False
    else:
        taken = True
    assert VALIDATOR.is_valid(data) or not taken
