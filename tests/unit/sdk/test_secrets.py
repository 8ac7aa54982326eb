"""`$env` in memory: what a test gives, and nothing else."""

from __future__ import annotations

import pytest

from celeriac import testing

WITH = {"key": "$env.KEY"}
NODES = {
    "function": {"uses": "f", "with": WITH, "save": {"said": "$result"}},
    "tool": {"kind": "tool", "tool": "f", "with": WITH, "save": {"said": "$result"}},
}


def said(kind: str, **secrets: str) -> testing.Record:
    def f(state=None, key=None):
        return len(key or state["key"])

    document = {"workflow": "w", "nodes": {"a": NODES[kind]}, "edges": ["a -> end"]}
    if kind == "list":
        document = {"workflow": "w", "steps": [{"agent": "f", "params": WITH, "output": ["said"]}]}
    return testing.run(document, functions={"f": f}, tools={"f": f}, secrets=secrets)


NODES["list"] = {}


@pytest.mark.parametrize("kind", NODES)
def test_what_is_given_is_read(kind: str) -> None:
    assert said(kind, KEY="four").variables["said"] == 4


@pytest.mark.parametrize("kind", NODES)
def test_what_is_not_given_fails_the_step_for_good(kind: str) -> None:
    record = said(kind, OTHER="x")
    assert (record.status, record.reason) == ("failed", "no_such_secret")
    assert "pass it in secrets=" in record.message
