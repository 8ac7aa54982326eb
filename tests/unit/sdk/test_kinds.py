"""Kinds of node other than functions, in memory: what stands for those that reach outside."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import ToolError
from celeriac.testing import Record, run
from engine.errors import Invalid


def one(node: dict[str, Any], inputs: dict[str, Any] | None = None, **given: Any) -> Record:
    document = {
        "workflow": "w",
        "inputs": {"who": {"type": "string", "default": "ada"}, "letter": {"default": None}},
        "nodes": {"a": {**node, "save": {"got": "$result"}}},
        "edges": ["a -> end"],
    }
    return run(document, inputs or {}, **given)


# --- templates --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "reason", "said"),
    [
        ({"template": "{{ whom }}"}, "error", "'whom' is undefined"),
        ({"template": "{% if %}"}, "error", "line 1"),
        ({"template": "{{ who.__class__.__mro__ }}"}, "error", "unsafe"),
        (
            {"template": "{{ kept.append(1) }}", "with": {"kept": []}},
            "error",
            "unsafe",
        ),
        ({"template": "$letter"}, "input_failed", "this is none"),
    ],
)
def test_a_template_that_cannot_be_filled_in_fails(
    node: dict[str, Any], reason: str, said: str
) -> None:
    record = one({"kind": "template", **node})
    assert (record.status, record.reason) == ("failed", reason)
    assert said in (record.message or "")


def test_a_template_is_filled_in_from_what_it_is_given_or_all_variables() -> None:
    assert one({"kind": "template", "template": "Hi {{ who }}\n"}).variables["got"] == "Hi ada\n"
    named = {"kind": "template", "template": "Hi {{ whom }}", "with": {"whom": "$who"}}
    assert one(named).variables["got"] == "Hi ada"
    letter = one({"kind": "template", "template": "$letter"}, {"letter": "Dear {{ who }}"})
    assert letter.variables["got"] == "Dear ada"


# --- services ---------------------------------------------------------------------------------

HTTP = {"kind": "http", "service": "api", "url": "$who", "method": "POST"}


def test_a_service_must_be_stood_in_for() -> None:
    with pytest.raises(Invalid, match=r"nodes\.a\.service.*\n?.*Tool not found: api"):
        one(HTTP)


def test_a_tool_of_the_services_name_stands_for_it() -> None:
    def api(url: str, method: str = "GET") -> dict[str, Any]:
        return {"status": 200, "json": [url, method]}

    record = one(HTTP, tools={"api": api})
    assert record.variables["got"] == {"status": 200, "json": ["ada", "POST"]}
    (call,) = record.calls
    assert (call.tool, call.kwargs) == ("api", {"url": "ada", "method": "POST"})


def test_a_service_that_fails_fails_its_node() -> None:
    def api(url: str, method: str) -> None:
        raise ToolError("api", "rate_limited", "slowly")

    record = one(HTTP, tools={"api": api})
    assert record.status == "failed"


# --- kinds of packages ------------------------------------------------------------------------

SHOUT = {"kind": "acme.shout", "with": {"text": "$who"}}


def test_a_kind_of_a_package_must_be_stood_in_for() -> None:
    with pytest.raises(Invalid, match=r"(?s)nodes\.a\.kind.*Kind not found: acme.shout.*tools="):
        one(SHOUT)


def test_a_tool_of_the_kinds_name_stands_for_it() -> None:
    record = one(SHOUT, tools={"acme.shout": lambda text: f"{text.upper()}!"})
    assert record.variables["got"] == "ADA!"
