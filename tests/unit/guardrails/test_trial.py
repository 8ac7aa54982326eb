from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.errors import Invalid
from engine.guardrails import document, trial
from engine.guardrails.facts import Total


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], "facts"),
        ([{}] * 1001, "facts"),
        (5, "facts"),
        ([{}, 5], "facts[1]"),
        ({"moment": "never"}, "facts.moment"),
        ({"moment": 5}, "facts.moment"),
        ({"tols": 1}, "facts.tols"),
        ({"user": 5}, "facts.user"),
        ({"tool": ""}, "facts.tool"),
        ({"iteration": 0}, "facts.iteration"),
        ({"repeats": -1}, "facts.repeats"),
        ({"usage": 5}, "facts.usage"),
        ({"usage": {"x": "much"}}, "facts.usage.x"),
        ({"live": {"steps": True}}, "facts.live.steps"),
        ({"totals": {"galaxy x": 1}}, "facts.totals.galaxy x"),
        ({"totals": {"user tenant x": 1}}, "facts.totals.user tenant x"),
        ({"waived": []}, "facts.waived"),
    ],
)
def test_facts_that_make_no_sense_are_refused_with_their_place(data: Any, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        trial.read(data)
    assert [each.path for each in caught.value.problems] == [path]


def test_facts_are_read_as_they_are_meant() -> None:
    (facts,) = trial.read(
        {
            "user": "ada",
            "usage": {"cost_usd": 0.1},
            "totals": {
                "tokens_used": "10 001",
                "user hour cost_usd": 5,
                "tenant x": 1,
                "day request y": 2,
            },
            "live": {"steps": 3},
            "inputs": {"a": 1},
        }
    )
    assert (facts.moment, facts.user, facts.content) == ("start", "ada", {"inputs": {"a": 1}})
    assert facts.usage == {"cost_usd": Decimal("0.1")}
    assert facts.totals == {
        Total("run", "none", "tokens_used"): 10_001,
        Total("user", "hour", "cost_usd"): 5,
        Total("tenant", "none", "x"): 1,
        Total("execution", "day", "y"): 2,
    }


@pytest.mark.parametrize(
    ("data", "moment"),
    [
        ({}, "start"),
        ({"tool": "t"}, "call"),
        ({"result": 1}, "report"),
        ({"tool": "t", "moment": "call_report"}, "call_report"),
    ],
)
def test_the_moment_may_be_left_out(data, moment) -> None:
    (facts,) = trial.read(data)
    assert facts.moment == moment


def test_moments_are_tried_as_those_of_one_run() -> None:
    policy = document.read("policy: p\nrules: [{no_progress: {repeated_state: 2}, action: pause}]")
    moments = trial.read([{"moment": "report", "node": "n", "state": each} for each in "aba"])
    tried = trial.attempt(policy, moments)
    assert [each.decides.action if each.decides else None for each in tried] == [
        None,
        None,
        "pause_lifetime",
    ]
    assert tried[-1].as_json()["action"] == "pause_lifetime"
    assert tried[0].as_json()["action"] == "allow"
