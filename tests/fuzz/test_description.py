"""Every route, asked what its description allows and what it does not: it answers as described."""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

import pytest

from engine.errors import NotFound
from tests.fuzz import walk
from tests.fuzz.walk import Walk
from tests.fuzz.world import Operation, World

#: The long walk is made in so many parts, side by side where there are processors for that.
PARTS = 4
IN_ALL = 20_000
EXAMPLES = 160


def operation(here: World, endpoint: str) -> Operation:
    (found,) = [one for one in here.operations() if one.endpoint == endpoint]
    return found


def faults(found: Walk) -> str:
    return "\n\n".join(f"{label}: {what}" for (label, _), what in found.faults.items())


@pytest.mark.timeout(300)
def test_each_route_is_asked_a_few_things(here: World) -> None:
    found = walk.over(here, here.operations(), examples=2)
    assert faults(found) == ""
    assert len(found.answers) == len(here.operations())


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_is_asked_of_any_route_is_answered_as_described(here: World, part: int) -> None:
    operations = here.operations()[part::PARTS]
    found = walk.over(here, operations, examples=EXAMPLES)
    for label, counts in found.answers.items():
        told = dict(sorted(counts.items()))
        sys.stdout.write(f"{found.share(label):6.1%} of {counts.total()}: {label} {told}\n")
    assert faults(found) == ""
    assert found.requests >= IN_ALL / PARTS
    never = {one.label for one in operations if here.refuses(one)}
    assert [
        label for label in found.answers if found.share(label) == 0 and label not in never
    ] == []


# --- what is planted, is found -----------------------------------------------------------------


def test_a_route_that_raises_is_found(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(**_: Any) -> None:
        raise ZeroDivisionError

    assert "ServerError" in of_planted(here, monkeypatch, "runs.show", raises)


def test_a_route_that_raises_where_it_should_refuse_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = here.app.view_functions["functions.newest"]

    def raises(**given: Any) -> Any:
        try:
            return whole(**given)
        except Exception as error:
            raise ZeroDivisionError from error

    assert "ServerError" in of_planted(here, monkeypatch, "functions.newest", raises)


@pytest.mark.parametrize(
    "answer",
    [
        {"items": 7, "next": None},
        {"items": [], "next": 7},
        {"items": [], "next": None, "more": 1},
        [],
        "text",
    ],
)
def test_an_answer_that_is_not_as_described_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    assert of_planted(here, monkeypatch, "functions.newest", lambda **_: answer)


@pytest.mark.parametrize("status", [204, 302, 206])
def test_a_status_that_is_not_described_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    found = of_planted(here, monkeypatch, "runs.show", lambda **_: ({}, status))
    assert f"the status {status} is not described" in found


def test_a_refusal_in_a_page_is_found(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"Content-Type": "text/html"}
    found = of_planted(here, monkeypatch, "runs.show", lambda **_: ("<html>", 404, page))
    assert "UndefinedContentType" in found


def test_who_only_ever_says_that_it_is_not_there_has_no_share(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(**_: Any) -> None:
        raise NotFound("nothing is ever here")

    asked = planted(here, monkeypatch, "runs.show", refuses)
    found = walk.over(here, [asked], examples=5)
    assert found.share(asked.label) == 0


def of_planted(here: World, monkeypatch: pytest.MonkeyPatch, endpoint: str, view: Any) -> set[str]:
    """The kinds of faults that are found where a route answers otherwise."""
    asked = planted(here, monkeypatch, endpoint, view)
    return {kind for _, kind in walk.over(here, [asked], examples=15).faults}


def planted(here: World, monkeypatch: pytest.MonkeyPatch, endpoint: str, view: Any) -> Operation:
    """A route that answers otherwise, until the test is over."""
    monkeypatch.setitem(
        here.app.view_functions, endpoint, wraps(here.app.view_functions[endpoint])(view)
    )
    return operation(here, endpoint)
