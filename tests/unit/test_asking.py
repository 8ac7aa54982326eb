"""When a question is settled by what was said, held against everything that could still be said."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from engine import asking
from engine.asking import Said
from engine.core.values import Json

PEOPLE = ("ada", "bob", "cid")


def said(people: tuple[str, ...], choices: tuple[str, ...]) -> list[Said]:
    pairs = zip(people, choices, strict=False)
    return [Said(by=by, of=by, choice=choice) for by, choice in pairs]


def counts(every: list[Said], needs: dict[str, Json]) -> bool:
    """Whether some choice has come to its number."""
    return any(
        sum(one.choice == choice for one in every) >= int(str(needs[choice])) for choice in needs
    )


@pytest.mark.parametrize("choices", [("approve", "deny"), ("x", "y"), ("x", "reject", "z")])
@pytest.mark.parametrize("barred", [None, "cid"])
def test_it_is_open_for_as_long_as_somebody_can_bring_a_choice_to_its_number(
    choices: tuple[str, ...], barred: str | None
) -> None:
    people = tuple(one for one in PEOPLE if one != barred)
    for numbers in product((1, 2, 3), repeat=len(choices)):
        needs: dict[str, Json] = dict(zip(choices, numbers, strict=True))
        asks = {"choices": [*choices], "quorum": needs}
        who = [f"user:{one}" for one in PEOPLE]
        for order, spoken in product(permutations(people), product(choices, repeat=len(people))):
            for number in range(1, len(people) + 1):
                every = said(order, spoken[:number])
                if counts(every[:-1], needs):
                    break
                found = asking.verdict(asks, who, every, barred=barred)
                endings = product(choices, repeat=len(people) - number)
                open_yet = any(counts(said(order, (*spoken[:number], *e)), needs) for e in endings)
                if counts(every, needs):
                    assert found is not None
                    assert (found.choice, found.why) == (every[-1].choice, "")
                elif open_yet:
                    assert found is None
                else:
                    assert found is not None
                    assert found.choice == asking.denial(choices)
                    assert found.why


def test_a_role_may_always_have_one_more_who_answers() -> None:
    asks = {"choices": ["approve", "deny"], "quorum": 9}
    every = said(PEOPLE, ("approve", "deny", "approve"))
    for who in ([], ["role:boss"], ["user:ada", "user:bob", "user:cid", "role:boss"]):
        assert asking.verdict(asks, who, every) is None
    late = {**asks, "escalate": {"after": 60, "to": ["role:boss"]}}
    assert asking.verdict(late, [f"user:{one}" for one in PEOPLE], every) is None


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (1, 1, []),
        (1, True, [""]),
        (1, 1.0, [""]),
        (None, {}, [""]),
        ({"a": 1}, {"a": 1}, []),
        (
            {"a": 1, "b": {"c": [1, {"d": 2}]}},
            {"b": {"c": [1, {"d": 3}, 4]}},
            ["a", "b.c[1].d", "b.c[2]"],
        ),
        ({"a": None}, {}, ["a"]),
        ([], [None], ["[0]"]),
        (list(range(500)), [], [f"[{n}]" for n in range(100)]),
    ],
)
def test_values_are_told_apart_by_their_paths(before: Json, after: Json, found: list[str]) -> None:
    assert asking.differences(before, after) == found
