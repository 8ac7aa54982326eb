"""Variables fit, or do not, in memory as they do on the platform."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.testing import run
from engine.errors import Invalid

LONG = "x" * 300_000
DOCUMENT: dict[str, Any] = {
    "workflow": "w",
    "nodes": {"write": {"uses": "write"}, "look": {"uses": "look"}},
    "edges": [{"from": "write", "to": "look", "when": "$doc.good"}, "look -> end"],
}
CONTRIBUTING = {**DOCUMENT, "variables": {"doc": {"reduce": "merge"}}}
FUNCTIONS = {
    "write": lambda _state: {"doc": {"good": True, "text": LONG}},
    "look": lambda state: {"n": len(state["doc"]["text"])},
}


def test_a_large_variable_is_read_by_conditions_and_code() -> None:
    assert run(DOCUMENT, functions=FUNCTIONS).variables["n"] == len(LONG)


def test_contributions_that_do_not_fit_fail_for_good() -> None:
    record = run(CONTRIBUTING, functions=FUNCTIONS)
    assert record.reason == "variables_too_large"
    assert "262144 are allowed" in (record.message or "")


def test_inputs_that_have_to_stay_and_do_not_fit_are_refused() -> None:
    inputs = {"doc": {"text": LONG}}
    assert run(DOCUMENT, inputs, functions=FUNCTIONS).status == "completed"
    with pytest.raises(Invalid, match="262144 are allowed"):
        run(CONTRIBUTING, inputs, functions=FUNCTIONS)
