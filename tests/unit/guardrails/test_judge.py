from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import values
from engine.core.values import Json
from engine.guardrails import document, governance, judge, plugins, verdicts
from engine.guardrails import vocabulary as words
from engine.guardrails.facts import Facts, Total
from engine.guardrails.governance import Active, Governance
from engine.guardrails.plugins import Decision, PolicyDecision
from engine.guardrails.verdicts import Judgement, Memory, Verdict


def govern(*texts: str, **installed: Any) -> Governance:
    active = [Active(policy=document.read(text), version=3) for text in texts]
    return governance.govern(1, active, installed)


def rules(*lines: str, top: str = "") -> Governance:
    return govern(f"policy: p\n{top}\nrules:\n" + "".join(f"  - {each}\n" for each in lines))


def judged(
    held: Governance, moment: Any = "start", memory: Memory | None = None, **known: Any
) -> Judgement:
    return judge.judge(held, Facts(moment=moment, **known), memory or {})


def one(held: Governance, moment: Any = "start", **known: Any) -> Verdict:
    (verdict,) = judged(held, moment, **known).verdicts
    return verdict


def total(
    value: int | str, scope: Any = "run", window: Any = "none", metric: str = "tokens_used"
) -> dict[Total, Decimal]:
    return {Total(scope, window, metric): Decimal(value)}


SEED = "sum(tokens_used) > 10\u2009000 → abort_lifetime"


@pytest.mark.parametrize("moment", words.MOMENTS)
def test_the_seeds_rule_fires_at_10_001_and_not_at_10_000(moment) -> None:
    held = rules(SEED)
    assert judged(held, moment, totals=total(10_000)).verdicts == ()
    verdict = one(held, moment, totals=total(10_001))
    assert verdict == Verdict(
        id="p:sum(tokens_used) > 10 000 → abort_lifetime",
        policy="p",
        version=3,
        rule="sum(tokens_used) > 10 000 → abort_lifetime",
        action="abort_lifetime",
        would="abort_lifetime",
        observed=10_001,
        limit=10_000,
        message="policy p: sum(tokens_used) > 10 000, and it is 10 001",
        scope="run",
        window="none",
    )
    assert values.canonical(verdict.as_json())


COMPARED = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@given(
    observed=st.decimals(min_value=0, max_value=10**6, places=9),
    limit=st.decimals(min_value=0, max_value=10**6, places=9),
    near=st.sampled_from([None, Decimal("-1e-9"), Decimal(0), Decimal("1e-9")]),
    sign=st.sampled_from(words.COMPARISONS),
)
def test_comparisons_are_exact(observed, limit, near, sign) -> None:
    if near is not None:
        observed = limit + near
    held = rules(f"sum(cost_usd) {sign} {limit:f} → warn")
    fired = judged(held, totals=total(str(observed), metric="cost_usd")).verdicts
    assert bool(fired) == COMPARED[sign](observed, limit)


@pytest.mark.parametrize("window", words.WINDOWS)
@pytest.mark.parametrize("scope", ["run", "workflow", "user", "tenant"])
def test_each_scope_and_window_is_a_sum_of_its_own(scope, window) -> None:
    per = f"per {scope}" + ("" if window == "none" else f" per {window}")
    held = rules(f"'{per}: sum(cost_usd) > 5 → reject_execution'")
    wanted = Total(scope, window, "cost_usd")
    assert governance.wants(held, "start").totals == {wanted}
    verdict = one(held, totals={wanted: Decimal("5.000000001")})
    assert (verdict.scope, verdict.window) == (scope, window)
    others = {
        Total(other, since, "cost_usd"): Decimal(100)
        for other in words.SCOPES
        for since in words.WINDOWS
    }
    assert judged(held, totals={**others, wanted: Decimal(5)}).verdicts == ()
    assert judged(held, totals={}).verdicts == ()


def test_an_execution_is_judged_by_its_own_usage() -> None:
    held = rules("'per execution: sum(tokens_used) > 100 → reject_execution'")
    assert governance.wants(held, "report").totals == frozenset()
    assert judged(held, "report", usage={"tokens_used": Decimal(100)}).verdicts == ()
    assert one(held, "report", usage={"tokens_used": Decimal(101)}).observed == 101
    assert judged(held, "report", usage={}, totals=total(1000)).verdicts == ()


@pytest.mark.parametrize(
    ("line", "known", "observed"),
    [
        ("steps > 3 → abort_lifetime", {"live": {"steps": Decimal(4)}}, 4),
        ("sum(steps) > 3 → abort_lifetime", {"live": {"steps": Decimal(4)}}, 4),
        ("iterations > 3 → abort_lifetime", {"iteration": 4}, 4),
        ("seconds >= 60.5 → pause_lifetime", {"live": {"seconds": Decimal("60.5")}}, 60.5),
        ("parallelism > 2 → reject_execution", {"live": {"parallelism": Decimal(3)}}, 3),
        ("max(iterations) > 3 → abort_lifetime", {"iteration": 4}, 4),
    ],
)
def test_what_the_run_itself_knows(line, known, observed) -> None:
    assert one(rules(line), **known).observed == observed
    assert judged(rules(line), live={each: Decimal(1) for each in words.LIVE}).verdicts == ()


@pytest.mark.parametrize(
    ("aggregate", "fires"),
    [("max", [5, 9]), ("min", [5, 9]), ("avg", [9]), ("count", [9]), ("last", [5, 9])],
)
def test_a_run_remembers_what_is_no_sum(aggregate, fires) -> None:
    limit = {"max": 4, "min": 0, "avg": 4, "count": 2, "last": 4}[aggregate]
    held = rules(f"{aggregate}(score) > {limit} → warn")
    assert governance.wants(held, "report").memory
    memory: Memory = {}
    fired = []
    for score in (2, 5, 9):
        found = judged(held, "report", memory, usage={"score": Decimal(score)})
        memory = found.memory
        assert values.canonical(dict(memory))
        if found.verdicts:
            fired.append(score)
    expected = [2, 5, 9] if aggregate == "min" else fires
    assert fired == expected
    # Asked again before the next step starts.
    assert judged(held, "start", memory).verdicts


@pytest.mark.parametrize(
    "action", [each for each in words.ACTIONS if each not in {"modify", "allow"}]
)
def test_each_action_is_told(action) -> None:
    held = rules(f"steps > 3 → {action}")
    verdict = one(held, live={"steps": Decimal(4)})
    assert (verdict.action, verdict.would) == (action, action)


def test_a_policy_that_is_not_enforced_warns_of_what_it_would_do() -> None:
    held = rules("steps > 3 → abort_lifetime", top="enforce: false")
    verdict = one(held, live={"steps": Decimal(4)})
    assert (verdict.action, verdict.would) == ("warn", "abort_lifetime")
    assert verdict.as_json()["would"] == "abort_lifetime"


def test_the_strongest_action_decides_and_a_denial_wins_over_any_leave() -> None:
    lines = [
        f"steps > {index} → {action}"
        for index, action in enumerate(reversed(words.ACTIONS))
        if action != "modify"
    ]
    held = rules(*lines, "{metric: steps, op: '>', value: 1, action: modify, set: {a: 1}}")
    call = judged(held, moment="call", tool="t", arguments={}, live={"steps": Decimal(100)})
    left = list(call.verdicts)
    order = []
    while left:
        decides = verdicts.strongest(left)
        order.append(decides.action)
        left.remove(decides)
    assert order == [each for each in words.ACTIONS if each != "allow"]
    assert verdicts.strongest([]) is None


def test_policies_are_asked_by_priority_then_by_name_then_in_order() -> None:
    texts = [
        f"policy: {name}\npriority: {priority}\nrules: [steps > 1 → warn, steps > 2 → warn]"
        for name, priority in [("c", 5), ("b", 5), ("a", 50), ("d", -1)]
    ]
    found = judged(govern(*texts), live={"steps": Decimal(9)}).verdicts
    assert [f"{each.policy}{each.limit}" for each in found] == [
        "d1",
        "d2",
        "b1",
        "b2",
        "c1",
        "c2",
        "a1",
        "a2",
    ]
    assert verdicts.strongest(found) is found[0]


def test_a_policy_is_for_some_workflows_and_users() -> None:
    held = rules("steps > 1 → warn", top="applies_to: {workflows: ['bill*'], users: [ada]}")
    live = {"steps": Decimal(9)}
    assert one(held, workflow="billing", user="ada", live=live)
    assert not judged(held, workflow="billing", user="bob", live=live).verdicts
    assert not judged(held, workflow="triage", user="ada", live=live).verdicts
    budgets = govern(
        "policy: p\napplies_to: {users: [ada]}\nenforce: false\n"
        "budgets: [{name: b, scope: user, metric: cost_usd, limit: 1}]"
    )
    (budget,) = budgets.budgets("any", "ada")
    assert (budget.id, budget.enforce, budget.budget.limit) == ("p:b", False, 1)
    assert budgets.budgets("any", "bob") == ()


@pytest.mark.parametrize(
    ("given", "name", "alike"),
    [
        ("db_*", "db_drop", True),
        ("db_*", "db_", True),
        ("db_*", "adb_x", False),
        ("*", "", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "acb", False),
        ("a*a", "a", False),
        ("*.*", "a.b", True),
        ("exact", "exact", True),
        ("exact", "Exact", False),
    ],
)
def test_names_with_stars(given, name, alike) -> None:
    held = rules(f"{{tool: ['{given}'], action: deny}}")
    assert bool(judged(held, "call", tool=name).verdicts) == alike


def test_a_sensitive_tool_asks_whom_the_rule_names() -> None:
    held = rules(
        "{name: sensitive, tool: [file_delete], action: ask, from: [role:approver, user:ada], quorum: 2, expires: 1h}"
    )
    verdict = one(held, "call", tool="file_delete", arguments={"path": "/"})
    assert (verdict.action, verdict.observed) == ("require_approval", "file_delete")
    assert (verdict.asked, verdict.quorum, verdict.expires) == (
        ("role:approver", "user:ada"),
        2,
        3600,
    )
    assert verdict.as_json()["from"] == ["role:approver", "user:ada"]
    for moment, tool in [
        ("call", "file_read"),
        ("start", None),
        ("report", None),
        ("call_report", "file_delete"),
    ]:
        assert not judged(held, moment, tool=tool).verdicts


@pytest.mark.parametrize(
    ("condition", "arguments", "fires"),
    [
        ("path: a, eq: 1", {"a": 1}, True),
        ("path: a, eq: 1", {"a": 1.0}, True),
        ("path: a, eq: 1", {"a": True}, False),
        ("path: a, eq: 1", {}, False),
        ("path: a, eq: {x: [1, 2]}", {"a": {"x": [1, 2]}}, True),
        ("path: a, ne: 1", {"a": 2}, True),
        ("path: a, ne: 1", {"a": 1}, False),
        ("path: a, ne: 1", {}, True),
        ("path: a, in: [1, x]", {"a": "x"}, True),
        ("path: a, in: [1, x]", {"a": "y"}, False),
        ("path: a, in: [1, x]", {}, False),
        ("path: a, not_in: [x]", {"a": "x"}, False),
        ("path: a, not_in: [x]", {"a": "y"}, True),
        ("path: a, not_in: [x]", {"a": ["x"]}, True),
        ("path: a, not_in: [x]", {}, True),
        ("path: a, contains: b", {"a": "abc"}, True),
        ("path: a, contains: b", {"a": ["b"]}, True),
        ("path: a, contains: b", {"a": {"b": 1}}, True),
        ("path: a, contains: b", {"a": 5}, False),
        ("path: a, regex: '^b+$'", {"a": "bb"}, True),
        ("path: a, regex: '^b+$'", {"a": "abb"}, False),
        ("path: a, regex: '^b+$'", {"a": {"deep": ["x", "b"]}}, True),
        ("path: a, regex: '^5$'", {"a": 5}, True),
        ("path: a, regex: '^b'", {}, False),
        ("path: a, gt: 5", {"a": 5}, False),
        ("path: a, gt: 5", {"a": 5.1}, True),
        ("path: a, gte: 5", {"a": 5}, True),
        ("path: a, lt: 5", {"a": 4}, True),
        ("path: a, lte: 5", {"a": 5}, True),
        ("path: a, lte: 5", {"a": 6}, False),
        ("path: a, gt: 5", {"a": "1000"}, True),
        ("path: a, gt: 5", {"a": True}, True),
        ("path: a, gt: 5", {}, False),
        ("path: a.b.0.c, eq: 1", {"a": {"b": [{"c": 1}]}}, True),
        ("path: a.b.1.c, eq: 1", {"a": {"b": [{"c": 1}]}}, False),
        ("path: a.*, eq: 1", {"a": [0, 1]}, True),
        ("path: a.*, eq: 1", {"a": {"x": 1}}, True),
        ("path: a.*, not_in: [x, y]", {"a": ["x", "y"]}, False),
        ("path: a.*, not_in: [x, y]", {"a": ["x", "z"]}, True),
        ("path: a, eq: 1", "text", False),
        ("path: a, ne: 1", None, True),
    ],
)
def test_each_operator_on_arguments(condition, arguments, fires) -> None:
    held = rules(f"{{arguments: {{{condition}}}, action: deny}}")
    found = judged(held, "call", tool="t", arguments=arguments).verdicts
    assert bool(found) == fires
    assert all(each.observed in {"a", "a.b.0.c", "a.*"} for each in found)


def test_all_that_a_rule_asks_must_hold() -> None:
    held = rules(
        "{tool: pay, arguments: [{path: sum, gt: 10}, {path: to, ne: us}], metric: steps, op: '>', value: 1, when: $user == 'ada', action: deny}"
    )
    known: dict[str, Any] = {
        "tool": "pay",
        "arguments": {"sum": 11, "to": "them"},
        "user": "ada",
        "live": {"steps": Decimal(2)},
    }
    verdict = one(held, "call", **known)
    assert (verdict.observed, verdict.limit) == (2, 1)
    for change in (
        {"tool": "look"},
        {"arguments": {"sum": 10, "to": "them"}},
        {"arguments": {"sum": 11, "to": "us"}},
        {"user": "bob"},
        {"live": {"steps": Decimal(1)}},
    ):
        assert not judged(held, "call", **{**known, **change}).verdicts


@pytest.mark.parametrize(
    ("moment", "known"),
    [
        ("start", {"content": {"inputs": {"deep": [{"note": "SSN 123-45-6789."}]}}}),
        ("start", {"content": {"inputs": {"123-45-6789": 1}}}),
        ("report", {"content": {"result": "123-45-6789"}}),
        ("call", {"tool": "t", "arguments": {"to": ["123-45-6789"]}}),
        ("call_report", {"tool": "t", "content": {"result": ["123-45-6789"]}}),
    ],
)
def test_content_is_looked_through_and_not_repeated(moment, known) -> None:
    held = rules(r"{content: {matches: '\b\d{3}-\d{2}-\d{4}\b'}, action: deny}")
    verdict = one(held, moment, **known)
    assert verdict.observed in {"inputs", "result", "arguments"}
    assert "123-45" not in values.canonical(verdict.as_json())
    assert not judged(
        held, moment, content={"inputs": "123-456", "result": None}, tool="t", arguments=[1.5, True]
    ).verdicts


def test_content_that_cannot_be_looked_through_is_not_let_pass() -> None:
    held = rules("{content: {matches: needle, in: [result]}, action: deny}")
    for result in (
        {values.MARK: "0" * 64, "size": 5},
        "x" * (judge.MAX_CONTENT + 1),
        ["x"] * (judge.MAX_TEXTS + 1),
    ):
        assert "too large" in one(held, "report", content={"result": result}).message


def test_patterns_have_so_much_work_at_one_moment_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judge, "MAX_WORK", judge.MAX_WORK // 100)
    # No engine does better with such a pattern than instructions times characters.
    slow = [
        f"{{content: {{matches: '(a|b)*a(a|b){{{300 + n}}}c'}}, action: deny}}" for n in range(9)
    ]
    text = "ab" * 5_000
    found = judged(rules(*slow), "report", content={"result": text}).verdicts
    assert len(found) == 8
    assert all("too large" in each.message for each in found)
    # The usual ones look through all that there may be.
    usual = [
        f"{{content: {{matches: '[0-9]{{3}}-[0-9]{{2}}-{n:04}'}}, action: deny}}" for n in range(9)
    ]
    assert not judged(rules(*usual), "report", content={"result": text}).verdicts


def test_an_expression_without_a_value_is_not_let_pass() -> None:
    held = rules("{when: $arguments.sum > 100, action: deny}")
    assert not judged(held, "call", tool="t", arguments={"sum": 100}).verdicts
    assert one(held, "call", tool="t", arguments={"sum": 101}).observed is True
    assert "has no value" in one(held, "call", tool="t", arguments={}).message


def test_what_a_person_let_pass_passes_until_it_grows() -> None:
    held = rules(SEED)
    rule = f"p:{held.policies[0].policy.rules[0].name}"
    for observed, fires in [(10_500, False), (10_400, False), (10_501, True)]:
        found = judged(held, totals=total(observed), waived={rule: 10_500}).verdicts
        assert bool(found) == fires
    held = rules("'per hour: sum(cost_usd) < 5 → warn'")
    rule = f"p:{held.policies[0].policy.rules[0].name}"
    assert not judged(held, totals=total(4, "run", "hour", "cost_usd"), waived={rule: 4}).verdicts
    assert judged(held, totals=total(3, "run", "hour", "cost_usd"), waived={rule: 4}).verdicts
    held = rules("{name: r, tool: 'a*', action: ask}")
    assert not judged(held, "call", tool="ab", waived={"p:r": "ab"}).verdicts
    assert judged(held, "call", tool="ac", waived={"p:r": "ab"}).verdicts


def test_what_verdicts_modify_is_put_in_place_in_order() -> None:
    held = govern(
        "policy: a\nrules: [{tool: t, action: modify, set: {to: a@b.c, body.text: x, list.1: z}}]",
        "policy: b\nrules: [{tool: t, action: modify, set: {body: {}}}, {tool: t, action: warn}]",
        "policy: c\nenforce: false\nrules: [{tool: t, action: modify, set: {to: nobody}}]",
    )
    arguments: Json = {"to": "x", "list": [1, 2, 3], "body": {"text": "y", "kept": 1}}
    found = judged(held, "call", tool="t", arguments=arguments).verdicts
    assert verdicts.modified(arguments, found[:1]) == {
        "to": "a@b.c",
        "list": [1, "z", 3],
        "body": {"text": "x", "kept": 1},
    }
    assert verdicts.modified(arguments, found) == {"to": "a@b.c", "list": [1, "z", 3], "body": {}}
    assert arguments == {"to": "x", "list": [1, 2, 3], "body": {"text": "y", "kept": 1}}


# --- no progress ------------------------------------------------------------------------------


def laps(held: Governance, reports: list[dict[str, Any]]) -> list[bool]:
    memory: Memory = {}
    fired = []
    for known in reports:
        found = judged(held, "report", memory, **{"node": "n", **known})
        memory = found.memory
        assert len(values.canonical(dict(memory))) < 10_000
        fired.append(bool(found.verdicts))
    return fired


def test_the_same_state_again_and_again() -> None:
    held = rules("{no_progress: {repeated_state: 3}, action: pause}")
    states = [{"state": each} for each in "abcabda"]
    assert laps(held, states) == [False] * 6 + [True]
    # Another node's state is another state.
    assert not any(laps(held, [{"state": "a", "node": each} for each in "nmo"]))
    # Without a digest of the variables the result stands for them.
    assert laps(held, [{"content": {"result": {"b": 1, "a": 2}}}] * 3) == [False, False, True]
    held = rules("{no_progress: {repeated_state: {times: 2, of: $result.code}}, action: pause}")
    assert laps(
        held,
        [{"content": {"result": {"code": each, "lap": lap}}} for lap, each in enumerate("xyx")],
    ) == [False, False, True]


def test_a_state_is_forgotten_after_64_laps() -> None:
    held = rules("{no_progress: {repeated_state: 2}, action: pause}")
    fired = laps(held, [{"state": str(lap % 65)} for lap in range(200)])
    assert not any(fired)
    assert laps(held, [{"state": str(lap % 64)} for lap in range(65)])[-1] is False
    assert laps(held, [{"state": str(lap % 63)} for lap in range(65)])[-1] is True


def test_the_same_call_again_and_again() -> None:
    held = rules("{no_progress: {same_call: 3}, action: pause}")
    assert governance.wants(held, "call").repeats
    assert [bool(judged(held, "call", tool="t", repeats=made).verdicts) for made in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert one(held, "call", tool="t", repeats=2).observed == 3


def test_a_score_that_does_not_move() -> None:
    held = rules("{no_progress: {flat_score: {of: score, laps: 3, by: 0.01}}, action: pause}")

    def scores(*given: Any) -> list[bool]:
        return laps(held, [{"content": {"result": {"score": each}}} for each in given])

    assert scores(1, 1, 1) == [False, False, True]
    assert scores(0.5, 0.51, 0.509) == [False, False, True]
    assert scores(0.5, 0.52, 0.53, 0.53, 0.53) == [False, False, False, True, True]
    assert scores(1, None, 1, "1", 1) == [False, False, False, False, True]
    two = [{"node": node, "content": {"result": {"score": 1}}} for node in "abab"]
    assert not any(laps(held, two))


def test_cost_that_grows_with_every_lap() -> None:
    held = rules("{no_progress: {cost_slope: {laps: 3, above: 0.05}}, action: pause}")

    def costs(*given: str) -> list[bool]:
        return laps(held, [{"usage": {"cost_usd": Decimal(each)}} for each in given])

    assert costs("0.1", "0.15", "0.2") == [False, False, False]  # exactly 0.05 a lap
    assert costs("0.1", "0.15", "0.200000001") == [False, False, True]
    assert costs("1", "1", "1", "1") == [False] * 4
    assert not any(laps(held, [{}] * 4))


def test_a_lap_counts_though_the_rest_of_the_rule_does_not_hold() -> None:
    held = rules("{no_progress: {repeated_state: 3}, when: $iteration > 2, action: pause}")
    reports = [{"state": "a", "iteration": lap} for lap in (1, 2, 3)]
    assert laps(held, reports) == [False, False, True]


def test_a_run_forgets_with_the_rule_and_remembers_no_more_than_it_may() -> None:
    held = rules("{name: r, no_progress: {flat_score: {of: score, laps: 64}}, action: warn}")
    memory: Memory = {}
    for lap in range(2000):
        facts = Facts(moment="report", node=f"n{lap % 40}", content={"result": {"score": lap}})
        memory = judge.judge(held, facts, memory).memory
    assert len(memory["laps"]["p:r"]) == 16
    assert len(values.canonical(dict(memory))) < 10_000
    other = rules("{name: s, no_progress: {repeated_state: 2}, action: warn}")
    memory = judged(other, "report", memory, state="x").memory
    assert set(memory["laps"]) == {"p:s"}


def test_it_is_the_node_that_has_not_reported_for_longest_that_is_forgotten() -> None:
    """However the memory was written and read meanwhile: objects are written in the order of their names."""
    held = rules("{name: r, no_progress: {flat_score: {of: score, laps: 3}}, action: warn}")
    nodes = [*(f"n{number}" for number in range(15, -1, -1)), "z", "n14", "n14"]
    memory: Memory = {}
    for node in nodes:
        facts = Facts(moment="report", node=node, content={"result": {"score": 1}})
        memory = judge.judge(held, facts, memory).memory
        memory = json.loads(values.canonical(dict(memory)))
    assert {node: len(told) for node, told in memory["laps"]["p:r"]} == {
        **{f"n{number}": 1 for number in range(14)},
        "z": 1,
        "n14": 3,
    }


def test_what_an_earlier_release_remembered_of_nodes_is_still_known() -> None:
    held = rules("{name: r, no_progress: {flat_score: {of: score, laps: 3}}, action: warn}")
    memory: Memory = {"laps": {"p:r": {"a": ["1", "1"], "b": ["2"]}}}
    found = judged(held, "report", memory, node="a", content={"result": {"score": 1}})
    assert found.verdicts
    assert found.memory["laps"]["p:r"] == [["b", ["2"]], ["a", ["1", "1", "1"]]]


def test_memory_is_handed_back_untouched_where_nothing_is_remembered() -> None:
    memory: Memory = {"laps": {}}
    held = rules(SEED)
    assert judged(held, "report", memory, totals=total(5)).memory is memory
    assert judged(governance.NONE, "report", memory).memory is memory


# --- what must be collected -------------------------------------------------------------------


def test_nothing_is_wanted_where_nothing_is_judged() -> None:
    assert all(
        governance.wants(governance.NONE, moment) == governance.NOTHING for moment in words.MOMENTS
    )
    held = rules("{tool: a, action: deny}")
    assert [governance.wants(held, moment).anything for moment in words.MOMENTS] == [
        False,
        False,
        True,
        False,
    ]
    held = rules("{content: {matches: x, in: [result]}, action: deny}")
    assert [set(governance.wants(held, moment).places) for moment in words.MOMENTS] == [
        set(),
        {"result"},
        set(),
        {"result"},
    ]
    held = rules("{metric: x, agg: max, op: '>', value: 1, action: ask}")
    assert governance.wants(held, "report") == governance.Wants(anything=True, memory=True)


# --- plug-ins ---------------------------------------------------------------------------------


class NightShift:
    def __init__(self, closes: int = 22) -> None:
        self.closes = closes

    def evaluate(self, action, _context):
        answer = action["arguments"]["answer"]
        if answer == "raise":
            raise RuntimeError("no")
        if answer == "change":
            action["arguments"]["to"] = self.closes
            return PolicyDecision.MODIFY
        if answer == "take away":
            del action["arguments"]["answer"]
            return "MODIFY"
        return answer


class Theirs:
    name = "REQUIRE_APPROVAL"


async def later(action, context):
    return "ALLOW"


@pytest.mark.parametrize(
    ("answer", "action", "message"),
    [
        ("ALLOW", None, ""),
        ("allow", None, ""),
        (PolicyDecision.DENY, "reject_execution", "the plug-in shift says so"),
        (Theirs(), "require_approval", ""),
        (("DENY", "too late"), "reject_execution", "policy p: too late"),
        ({"decision": "deny", "reason": "why"}, "reject_execution", "policy p: why"),
        (Decision(decision=PolicyDecision.MODIFY, set={"to": 1}), "modify", ""),
        ("change", "modify", ""),
        # What is no answer denies.
        ("MODIFY", "reject_execution", "plug-in shift failed: ValueError: it answered MODIFY"),
        ("take away", "reject_execution", "it took away answer"),
        ({"decision": "MODIFY", "set": {"to": object()}}, "reject_execution", "to: object is not"),
        ({"decision": "MODIFY", "set": 5}, "reject_execution", "set is no object"),
        ("raise", "reject_execution", "the policy plug-in shift failed: RuntimeError: no"),
        ("maybe", "reject_execution", "it answered str, not ALLOW"),
        (None, "reject_execution", "it answered NoneType"),
        (True, "reject_execution", "it answered bool"),
    ],
)
def test_a_plug_in_is_obeyed_and_denies_when_it_fails(answer, action, message) -> None:
    held = govern("policy: p\nplugins: [{use: shift, with: {closes: 5}}]", shift=NightShift)
    arguments: Any = {"answer": answer}
    if not isinstance(answer, str):
        # What the port hands over is JSON; the answer is given by a function here.
        held = govern("policy: p\nplugins: [{use: shift}]", shift=lambda _action, _context: answer)
        arguments = {}
    found = judged(held, "call", tool="t", arguments=arguments).verdicts
    assert [each.action for each in found] == ([] if action is None else [action])
    assert all(message in each.message for each in found)
    if answer == "change":
        assert verdicts.modified(arguments, found) == {"answer": "change", "to": 5}
        assert arguments == {"answer": "change"}


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ({}, "the policy plug-in shift is not installed"),
        ({"shift": object}, "cannot be set up"),
        ({"shift": later}, "it answered coroutine"),
    ],
)
def test_a_plug_in_that_cannot_be_asked_denies(installed, message) -> None:
    held = govern("policy: p\nplugins: [{use: shift}]", **installed)
    verdict = one(held, "call", tool="t")
    assert verdict.action == "reject_execution"
    assert message in verdict.message


def test_a_plug_in_learns_what_is_done_for_whom() -> None:
    told: list[Any] = []

    def listen(action, context, *, more):
        told.append((action, context, more))
        return "ALLOW"

    held = govern("policy: p\nplugins: [{use: ear, with: {more: 5}, at: [start]}]", ear=listen)
    judged(
        held,
        "start",
        tenant="t",
        user="ada",
        node="n",
        content={"inputs": {"a": 1}},
        usage={"cost_usd": Decimal("0.5")},
        totals=total(7),
    )
    judged(held, "call", tool="x")
    ((action, context, more),) = told
    assert (action["type"], action["node"], action["inputs"], action["cost_estimate_usd"]) == (
        "step",
        "n",
        {"a": 1},
        0.5,
    )
    assert (context["tenant"], context["user"], context["totals"]) == (
        "t",
        "ada",
        {"run none tokens_used": 7.0},
    )
    assert more == 5


def test_what_a_plug_in_asks_a_person_may_let_pass() -> None:
    held = govern(
        "policy: p\nplugins: [{use: ear}]", ear=lambda _action, _context: "REQUIRE_APPROVAL"
    )
    verdict = one(held, "call", tool="t")
    assert not judged(held, "call", tool="t", waived={verdict.id: None}).verdicts
    assert plugins.GROUP == "celeriac.policies"
