"""Every route that writes, sent what nobody sends who means well."""

from __future__ import annotations

import sys
from functools import wraps
from itertools import islice
from typing import Any

import pytest
from flask import Response, request

from engine.errors import Invalid
from tests.fuzz import hostile, siege
from tests.fuzz.siege import Siege
from tests.fuzz.world import Operation, World
from tests.support import belongings

PARTS = 4
AT_LEAST = 300
#: Of the whole corpus one in so many is sent in the short run.
EVERY = 83


def writable(here: World) -> list[Operation]:
    return [one for one in here.operations() if one.writes]


def faults(found: Siege) -> str:
    return "\n\n".join(
        f"{label}: {what}\n  {len(which)}: {which[:5]}"
        for (label, what), which in found.faults.items()
    )


@pytest.mark.timeout(300)
def test_each_route_withstands_some_of_what_is_hostile(here: World) -> None:
    found = Siege()
    for number, operation in enumerate(writable(here)):
        sent = hostile.requests(here, operation, here.found(operation))
        # Another part of the corpus for each.
        siege.on(here, operation, islice(sent, number % EVERY, None, EVERY), found)
    assert faults(found) == ""
    assert len(found.answers) == len(writable(here))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_each_route_withstands_all_that_is_hostile(here: World, part: int) -> None:
    found = Siege()
    for operation in writable(here)[part::PARTS]:
        sent = [*hostile.requests(here, operation, here.found(operation))]
        assert len({(one.what, one.path) for one in sent}) >= AT_LEAST, operation.label
        siege.on(here, operation, sent, found)
        told = dict(sorted(found.answers[operation.label].items()))
        sys.stdout.write(f"{len(sent)} to {operation.label}: {told}\n")
    assert faults(found) == ""


# --- what is planted, is found -----------------------------------------------------------------


def test_a_route_that_raises_at_what_it_is_sent_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(**given: Any) -> Any:
        if "cursor" in request.args:
            raise ZeroDivisionError
        return whole(**given)

    whole = here.app.view_functions["functions.register"]
    found = kinds(here, monkeypatch, "functions.register", raises)
    assert any(kind.startswith("500") for kind in found)


def test_a_taken_request_that_is_not_answered_as_described_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = kinds(here, monkeypatch, "functions.register", lambda **_: {"name": 7})
    assert any("not described" in kind for kind in found)


def test_a_refusal_that_is_no_problem_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Response("<html>", status=400, content_type="text/html")
    assert "a refusal of text/html" in kinds(
        here, monkeypatch, "functions.register", lambda **_: page
    )


def test_a_refusal_that_has_changed_something_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(**_: Any) -> None:
        belongings.key(here.control, "ada", {"viewer"})
        raise Invalid(())

    found = kinds(here, monkeypatch, "functions.register", refuses)
    assert "refused, and changed ['admin_act', 'api_key']" in found


def test_what_is_told_of_the_inside_is_found(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Response('{"detail": "psycopg2.errors"}', status=400)
    found = kinds(here, monkeypatch, "functions.register", lambda **_: told)
    assert "tells of ['psycopg2']" in found


def kinds(here: World, monkeypatch: pytest.MonkeyPatch, endpoint: str, view: Any) -> set[str]:
    """The kinds of faults that are found where a route answers otherwise."""
    whole = here.app.view_functions[endpoint]
    monkeypatch.setitem(here.app.view_functions, endpoint, wraps(whole)(view))
    (operation,) = [one for one in here.operations() if one.endpoint == endpoint]
    found = Siege()
    sent = hostile.requests(here, operation, here.found(operation))
    siege.on(here, operation, islice(sent, 0, None, 13), found)
    return {kind for _, kind in found.faults}
