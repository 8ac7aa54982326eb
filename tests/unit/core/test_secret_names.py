"""`$env.NAME`: known where workers evaluate, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core import document, expressions, tape
from engine.core.graph import Graph
from engine.core.references import Sought

SECRET = {"key": "$env.API_KEY", "head": ["$('Bearer ' + $env.API_KEY)"]}


def graph(nodes: dict[str, Any], **top: Any) -> dict[str, Any]:
    edges = [" -> ".join([*nodes, "end"])]
    return {"workflow": "w", "nodes": nodes, "edges": edges, **top}


def problems(given: dict[str, Any]) -> dict[str, str]:
    found = document.read(given)
    if isinstance(found, Graph):
        return {}
    assert all(problem.remedy for problem in found)
    return {problem.path: problem.message for problem in found}


@pytest.mark.parametrize(
    "given",
    [
        graph({"a": {"uses": "f", "with": SECRET}}),
        graph({"a": {"kind": "tool", "tool": "t", "with": SECRET}}),
        graph({"a": {"kind": "tool", "tool": "$name", "with": SECRET}}),
        graph({"a": {"uses": "f", "compensate": {"uses": "g", "with": SECRET}}}),
        graph({"a": {"kind": "map", "over": "$n", "do": {"uses": "f", "with": SECRET}}}),
        {"workflow": "w", "steps": [{"agent": "f", "params": SECRET}]},
        # There it is another param of the step.
        {
            "workflow": "w",
            "steps": [{"agent": "f", "params": {"env": {"a b": 1}, "x": '$env["a b"]'}}],
        },
    ],
)
def test_workers_know_it(given: dict[str, Any]) -> None:
    assert problems(given) == {}


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (graph({"a": {"uses": "f"}}, outputs={"x": "$env.K"}), "outputs.x"),
        (graph({"a": {"uses": "f", "save": {"x": "$env.K"}}}), "nodes.a.save.x"),
        (graph({"a": {"uses": "f", "lock": "$env.K"}}), "nodes.a.lock"),
        (graph({"a": {"kind": "tool", "tool": "$env.K"}}), "nodes.a.tool"),
        (graph({"a": {"kind": "workflow", "workflow": "$env.K"}}), "nodes.a.workflow"),
        (graph({"a": {"kind": "timer", "for": "$env.K"}}), "nodes.a.for"),
        (graph({"a": {"kind": "event", "name": "x", "match": {"m": "$env.K"}}}), "nodes.a.match.m"),
        (graph({"a": {"kind": "approval", "show": {"x": "$env.K"}}}), "nodes.a.show.x"),
        (
            graph({"a": {"kind": "workflow", "workflow": "v", "with": {"x": "$env.K"}}}),
            "nodes.a.with.x",
        ),
        (graph({"a": {"kind": "map", "over": "$env.K", "do": "f"}}), "nodes.a.over"),
        (
            graph(
                {
                    "a": {
                        "kind": "map",
                        "over": "$n",
                        "do": {"kind": "workflow", "workflow": "v", "with": {"x": "$env.K"}},
                    }
                }
            ),
            "nodes.a.do.with.x",
        ),
        (
            graph({"a": {"role": "plan", "rules": [{"when": "$env.K == 1", "next": ["end"]}]}}),
            "nodes.a.rules[0].when",
        ),
        (
            {
                "workflow": "w",
                "nodes": {"a": {"uses": "f"}},
                "edges": [{"from": "a", "to": "end", "when": "$env.K"}],
            },
            "edges[0].when",
        ),
        (
            {
                "workflow": "w",
                "steps": [{"agent": "v", "params": {"x": "$env.K"}}],
                "workflows": ["v"],
            },
            "steps[0].params.x",
        ),
    ],
)
def test_the_coordinator_does_not(given: dict[str, Any], path: str) -> None:
    found = problems(given)
    assert found == {path: "$env is not known here: secrets are given to workers alone"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$env", "$env does not say which secret"),
        ("$env[$name]", "$env does not say which secret"),
        ("$env[0]", "$env does not say which secret"),
        ('$env["a b"]', "'a b' is not the name of a secret"),
        (f"$env.{'A' * 65}", "is not the name of a secret"),
    ],
)
def test_it_says_which(text: str, message: str) -> None:
    found = problems(graph({"a": {"uses": "f", "with": {"x": text}}}))
    assert found.keys() == {"nodes.a.with.x"}
    assert message in found["nodes.a.with.x"]


def test_it_is_no_name_for_a_variable() -> None:
    assert problems(graph({"a": {"uses": "f"}}, variables={"env": 1})).keys() == {"variables.env"}


def test_an_expression_says_which_secrets_it_may_read() -> None:
    found = expressions.compile('default($env.A, "") + $env["B"] + $env[$c] + $d')
    assert found.secrets == {"A", "B", None}
    assert found.names == {"env", "c", "d"}


def test_a_step_is_given_them_beside_its_other_params() -> None:
    params = expressions.template({"url": "$('https://' + $host + '/' + $env.K)", "host": "h"})
    assert tape.given(params, {"env": {"K": "k"}}) == {"url": "https://h/k", "host": "h"}


def test_only_what_is_read_is_sought() -> None:
    sought: list[str] = []

    def seek(name: str) -> str:
        sought.append(name)
        return name.lower()

    params = expressions.template({"x": '$(1 == 2 and $env.A or $env["B"] == "b")', "y": "$env.C"})
    assert params.evaluate({"env": Sought(seek)}) == {"x": True, "y": "c"}
    assert sought == ["B", "C"]


@pytest.mark.parametrize(
    "text",
    [
        *("$env.K", '$env["K"]', "$('Bearer ' + $env.K)", "$env.K + ':' + $env.L"),
        *("$(($a.b[0] + 'x') + $env.K)", "$($rows[2].name + $env.K + 7)"),
    ],
)
def test_a_secret_is_handed_on_as_it_is_or_put_together(text: str) -> None:
    assert problems(graph({"a": {"uses": "f", "with": {"x": text}}})) == {}


@pytest.mark.parametrize(
    "text",
    [
        *("$(upper($env.K))", "$(len($env.K))", "$env.K == 'x'", "$env.K < 'I'", "$env.K in $x"),
        *("$($x[$env.K])", "$(not $env.K)", "$(!$env.K)", "$env.K * 2", "$(default($env.K, 1))"),
        *("$($n > 1 and $env.K)", "$('x' + upper($env.K))", "$env.K - 1", "$([1, $env.K])"),
    ],
)
def test_what_would_not_be_known_again_is_not_made_of_a_secret(text: str) -> None:
    found = problems(graph({"a": {"uses": "f", "with": {"x": text}}}))
    assert "handed on as it is" in found["nodes.a.with.x"]
