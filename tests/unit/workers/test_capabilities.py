"""What a profile makes of a job: narrower, or wider as far as the operator lets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.capabilities import NOTHING, File, Profile
from engine.settings import Settings
from workers import capabilities
from workers.sandbox import Job, Limits, Opened

MIB = 1024 * 1024
SETTINGS = Settings(blob_url="memory:///", home=Path("/nowhere"), sandbox_most_bytes=512 * MIB)
USUAL = Limits(seconds=10.0, memory_bytes=256 * MIB, result_bytes=128 * MIB)


@pytest.mark.parametrize("timed", [True, False])
def test_without_a_grant_nothing_changes(*, timed: bool) -> None:
    assert capabilities.within(NOTHING, USUAL, SETTINGS, timed=timed) == USUAL


@pytest.mark.parametrize(
    ("profile", "timed", "changed"),
    [
        ({"seconds": 3.0}, True, {"seconds": 3.0}),
        ({"seconds": 60.0}, True, {}),
        ({"seconds": 60.0}, False, {"seconds": 60.0}),
        ({"cpu_seconds": 2.0}, True, {"cpu_seconds": 2.0}),
        ({"cpu_seconds": 20.0}, True, {"cpu_seconds": 10.0}),
        ({"memory_bytes": 64 * MIB}, True, {"memory_bytes": 64 * MIB, "result_bytes": 32 * MIB}),
        # As far as the operator lets it.
        (
            {"memory_bytes": 4096 * MIB},
            True,
            {"memory_bytes": 512 * MIB, "result_bytes": 256 * MIB},
        ),
    ],
)
def test_a_grant_holds_within_bounds(
    profile: dict[str, float], *, timed: bool, changed: dict[str, float]
) -> None:
    found = capabilities.within(Profile(**profile), USUAL, SETTINGS, timed=timed)  # type: ignore[arg-type]
    assert found == replace(USUAL, **changed)  # type: ignore[arg-type]


def test_an_operator_who_gives_much_to_all_gives_as_much_to_whom_it_is_granted() -> None:
    generous = replace(SETTINGS, sandbox_bytes=1024 * MIB)
    found = capabilities.within(Profile(memory_bytes=800 * MIB), USUAL, generous, timed=True)
    assert found.memory_bytes == 800 * MIB


def test_files_and_modules_are_handed_to_source_and_bind_no_library() -> None:
    profile = Profile(files=(File(path="/srv/out", write=True),), modules=("csv",))
    source = Job(mode="node", name="f", source="def f(state): pass", arguments={"state": {}})
    given = capabilities.opened(profile, source)
    assert given.files == (Opened(path="/srv/out", write=True),)
    assert given.modules == ("csv",)
    library = Job(mode="library-node", name="f", library="a:b", arguments={"state": {}})
    assert capabilities.opened(profile, library) == library
