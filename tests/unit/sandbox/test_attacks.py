"""Strangers' code against the walls, in each mode, as the user that we are and as an ordinary one.

The cases are in `workers.sandbox.attacks`, with the table of what weaker modes let through. They
are made from a process of its own (`siege`): what gets out gets at that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeAlias

import pytest

from tests.unit.sandbox.jobs import deed, node
from tests.unit.sandbox.siege import NOBODY, Siege, python_for
from workers.sandbox import MODES, Job, Sandbox, SandboxUnavailable
from workers.sandbox.attacks import ATTACKS, MISSES, Attack

Key: TypeAlias = tuple[str, bool]

STRONG = ("full", "portable")


@pytest.fixture(scope="session")
def sieges() -> Iterator[dict[Key, Siege]]:
    begun: dict[Key, Siege] = {}
    yield begun
    for siege in begun.values():
        siege.end()


def begin(sieges: dict[Key, Siege], mode: str, *, ordinary: bool) -> Siege:
    """The siege of a mode; skips where the machine does not have what it takes, and says what."""
    if ordinary and os.geteuid() != 0:
        pytest.skip("we are an ordinary user already")
    if ordinary and python_for(NOBODY) is None:
        pytest.skip("no Python here can be run by an ordinary user")
    siege = sieges.get((mode, ordinary))
    if siege is None:
        siege = sieges[mode, ordinary] = Siege(mode, user=NOBODY if ordinary else None)
    if siege.standing["mode"] is None:
        pytest.skip(f"not on this machine: {siege.standing['lacking']}")
    return siege


def name_of(value: object) -> str:
    return value.name.replace(" ", "-") if isinstance(value, Attack) else str(value)


def test_there_are_the_attacks_of_the_research_and_more_of_ours() -> None:
    numbers = [attack.number for attack in ATTACKS]
    assert numbers == sorted(set(numbers))
    assert [number for number in numbers if number <= 37] == [*range(1, 38)]
    assert len([number for number in numbers if number > 40]) >= 10


def test_each_weaker_mode_has_its_misses_and_full_has_none() -> None:
    assert MISSES.keys() == set(MODES)
    assert MISSES["full"] == frozenset()
    # Of what is known and cannot be changed by anything: that a file is there, and its size.
    assert MISSES["portable"] == {33}
    assert all(MISSES[mode] for mode in MODES if mode != "full")


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
@pytest.mark.parametrize("mode", STRONG)
def test_what_strangers_try_is_held_and_hurts_nobody_beside(
    sieges: dict[Key, Siege], mode: str, attack: Attack
) -> None:
    siege = begin(sieges, mode, ordinary=False)
    ended = siege.ask(f"{attack.number} 20")
    assert ended["held"] or attack.number in MISSES[mode], ended["how"]
    assert ended["innocent"] == [True] * 20
    assert ended["after"]


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
@pytest.mark.parametrize("mode", STRONG)
def test_it_is_held_where_the_worker_is_an_ordinary_user(
    sieges: dict[Key, Siege], mode: str, attack: Attack
) -> None:
    siege = begin(sieges, mode, ordinary=True)
    ended = siege.ask(f"{attack.number} 0")
    assert ended["held"] or attack.number in MISSES[mode], ended["how"]
    assert ended["after"]


@pytest.mark.parametrize("ordinary", [False, True])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in STRONG])
def test_weaker_modes_miss_what_is_written_that_they_miss(
    sieges: dict[Key, Siege], mode: str, ordinary: bool
) -> None:
    siege = begin(sieges, mode, ordinary=ordinary)
    missed = {
        attack.number
        for attack in ATTACKS
        if attack.quick and not siege.ask(f"{attack.number} 0")["held"]
    }
    assert missed <= MISSES[mode]
    # Else the mode would be no weaker, and the test could not fail.
    assert missed & MISSES[mode]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in STRONG])
def test_weaker_modes_are_refused_unless_they_are_asked_for(mode: str) -> None:
    with Sandbox(mode=mode) as sandbox:
        refusal = sandbox.standing().refusal
        assert refusal is not None
        assert mode in refusal
        assert "CELERIAC_SANDBOX_MINIMUM" in refusal
        with pytest.raises(SandboxUnavailable, match="portable"):
            sandbox.run(node("return 1"))
        template = Job(mode="template", name="t", source="x", arguments={"variables": {}})
        with pytest.raises(SandboxUnavailable, match="portable"):
            sandbox.run(template)
        assert sandbox.run(deed("grow")).ok


def test_installed_code_cannot_trace_or_read_the_worker_whose_user_it_is(
    sieges: dict[Key, Siege],
) -> None:
    siege = begin(sieges, "full" if os.geteuid() else "limits", ordinary=os.geteuid() == 0)
    assert siege.ask("library") == "held"
