from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.guardrails import line
from engine.guardrails import vocabulary as words
from engine.guardrails.policy import Measure

LIMIT = Measure(
    metric="tokens_used", aggregate="sum", comparison=">", limit=Decimal(10_000), scope="run"
)


@pytest.mark.parametrize("arrow", ["→", "->", " → ", " -> "])
@pytest.mark.parametrize(
    "number",
    ["10 000", "10\u2009000", "10\u00a0000", "10\u202f000", "10_000", "10,000", "10000", "10000.0"],
)
def test_the_rule_of_the_seed_is_read_however_its_digits_are_grouped(number, arrow) -> None:
    read = line.parse(f"sum(tokens_used) > {number}{arrow}abort_lifetime")
    assert read == (LIMIT, "abort_lifetime")


@pytest.mark.parametrize(
    ("text", "scope", "window"),
    [
        ("sum(x) > 1 → warn", "run", "none"),
        ("per user: sum(x) > 1 → warn", "user", "none"),
        ("per hour: sum(x) > 1 → warn", "run", "hour"),
        ("per user per hour: sum(x) > 1 → warn", "user", "hour"),
        ("per day per tenant:sum(x)>1→warn", "tenant", "day"),
        ("Per Lifetime : sum(x) > 1 → warn", "run", "none"),
        ("per-request: sum(x) > 1 → warn", "execution", "none"),
        ("per workflow per minute: sum(x) > 1 → warn", "workflow", "minute"),
    ],
)
def test_scope_and_window_may_be_said(text, scope, window) -> None:
    measure = line.parse(text).measure
    assert (measure.scope, measure.window) == (scope, window)


@pytest.mark.parametrize(
    ("written", "action"),
    [
        ("REJECT_EXECUTION", "reject_execution"),
        ("reject execution", "reject_execution"),
        ("Deny", "reject_execution"),
        ("PAUSE_LIFETIME", "pause_lifetime"),
        ("pause-run", "pause_lifetime"),
        ("abort", "abort_lifetime"),
        ("Require Approval", "require_approval"),
        ("MODIFY", "modify"),
        ("warn", "warn"),
        ("allow", "allow"),
        ("ALLOW_WITH_AUDIT", "allow_with_audit"),
    ],
)
def test_actions_in_any_case(written, action) -> None:
    assert line.parse(f"sum(x) > 1 → {written}").action == action


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("", "what is measured is missing (at character 1)", "sum(tokens_used) > 10"),
        ("tokens_used > 1 → warn", "tokens_used is used up by many", "sum(tokens_used)"),
        ("total(x) > 1 → warn", "there is no 'total'", "sum"),
        ("smu(x) > 1 → warn", "there is no 'smu'", "did you mean sum?"),
        ("sum(X) > 1 → warn", "'X' is no metric (at character 5)", "small letters"),
        ("sum(x) 1 → warn", "a comparison is missing (at character 8)", ">="),
        ("sum(x) > → warn", "'' is no number", "10 000"),
        ("sum(x) > 0,5 → warn", "'0,5' is no number", "after a point"),
        ("sum(x) > 10 00 → warn", "'10 00' is no number", "10 000"),
        ("sum(x) > 10,000 000 → warn", "is no number", ""),
        ("sum(x) > 1e5 → warn", "'1e5' is no number", ""),
        ("sum(x) > 1 → explode", "there is no action 'explode'", "abort_lifetime"),
        ("sum(x) > 1 → abort_lifetim", "there is no action", "did you mean abort_lifetime?"),
        ("sum(x) > 1", "no arrow leads to an action", "→ abort_lifetime"),
        ("per galaxy: sum(x) > 1 → warn", "per galaxy means nothing here", "per SCOPE"),
        ("per usr: sum(x) > 1 → warn", "per usr means nothing here", "did you mean user?"),
        ("per user per tenant: sum(x) > 1 → warn", "per tenant is too much", ""),
        ("per user sum(x) > 1 → warn", "a colon is missing", "per user per hour: …"),
        ("sum(x) > " + "9" * 19 + " → warn", "is no number", ""),
        ("x" * 501, "a rule of 501 characters", "in fields"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(text, message, remedy) -> None:
    with pytest.raises(line.LineError) as caught:
        line.parse(text)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy
    assert caught.value.remedy


def grouped(number: Decimal, separator: str) -> str:
    whole, point, fraction = f"{number:f}".partition(".")
    return f"{int(whole):,}".replace(",", separator) + point + fraction


@given(
    number=st.decimals(min_value=0, max_value=10**15, places=4),
    separator=st.sampled_from(["", *line.GROUPING]),
    aggregate=st.sampled_from(words.AGGREGATES),
    metric=st.from_regex(words.METRIC.removesuffix("$") + r"\Z", fullmatch=True),
    sign=st.sampled_from([*words.COMPARISONS, "≥", "≤", "≠", "="]),
    scope=st.sampled_from(["", *words.SCOPES]),
    window=st.sampled_from(["", *words.WINDOWS[1:]]),
    arrow=st.sampled_from(["→", "->"]),
    action=st.sampled_from(words.ACTIONS),
    space=st.sampled_from(["", " ", "  ", "\u00a0", "\t"]),
)
def test_every_rule_that_the_grammar_allows_is_read_as_it_is_meant(
    *, number, separator, aggregate, metric, sign, scope, window, arrow, action, space
) -> None:
    per = " ".join([*([f"per {scope}"] if scope else []), *([f"per {window}"] if window else [])])
    text = (
        f"{per}{':' if per else ''}{space}{aggregate}{space}({space}{metric}{space}){space}"
        f"{sign}{space}{grouped(number, separator)}{space}{arrow}{space}{action}{space}"
    )
    read = line.parse(text)
    measure = read.measure
    assert measure.limit == number
    assert (measure.aggregate, measure.metric, read.action) == (aggregate, metric, action)
    assert measure.comparison == words.COMPARISON_WORDS[sign]
    assert (measure.scope, measure.window) == (scope or "run", window or "none")
    # Its own words mean the same.
    assert line.parse(f"{line.written(measure)} → {action}") == read


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_refused(text) -> None:
    position = 0
    try:
        read = line.parse(text)
    except line.LineError as error:
        position = error.position
    else:
        assert line.parse(f"{line.written(read.measure)} → {read.action}") == read
    assert 0 <= position <= len(text)


@given(st.decimals(min_value=-(10**17), max_value=10**17, places=6))
def test_a_number_is_read_exactly(number) -> None:
    assert line.number(f"{number:f}") == number
    assert line.number(line.grouped(number)) == number
