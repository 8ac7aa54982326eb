"""What is published of a benchmark: what it may be, and that everybody who was asked is in it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from benchmarks import picture, publish, reference, report
from benchmarks.report import RAW, Measured
from benchmarks.workloads import Unended

RATES = {"steps_per_second": 500.0, "chain_ms_per_step": 2.0, "fan_out_s": 1.0}
COST = {
    "cpu_us_per_step": 2000.0,
    "chain_ms_per_step": 4.0,
    "steps_per_second": 400.0,
    "cpu_us_per_step_ratio": 1.0,
    "chain_ms_per_step_ratio": 1.0,
    "steps_per_second_ratio": 1.0,
}


@pytest.fixture
def found():
    """A run with one peer that was measured and one that was not."""
    measured = [
        Measured(system=RAW, figures=RATES, raw=RATES),
        Measured(
            system="Celeriac",
            figures={"steps_per_second": 750.0, "chain_ms_per_step": 4.0},
            raw=RATES,
        ),
        Measured(
            system="Celeriac, sandboxed",
            figures={"steps_per_second": 375.0, "chain_ms_per_step": 6.0},
            raw=RATES,
        ),
        Measured(system="Swift", figures=RATES, raw=RATES, versions={"swift": "1.2"}),
        Measured(system="Absent", figures={}, raw=RATES, reason="does not install: no wheel"),
    ]
    peers = {
        "swift": {"title": "Swift", "size": {"runs": 30}},
        "absent": {"title": "Absent"},
    }
    return report.told(
        measured,
        {},
        {
            "active": {
                10: COST,
                10_000: {**COST, "cpu_us_per_step": 2200.0, "cpu_us_per_step_ratio": 1.1},
            },
            "history": {},
        },
        whole=True,
        quick=False,
        at="2026-11-21T10:00:00Z",
        machine={"cpus": 2, "processor": "P", "system": "Linux", "fdatasync_us_p50": 170},
        servers={
            "postgres server_version": "18",
            "postgres fsync": "on",
            "postgres synchronous_commit": "on",
            "valkey version": "9",
        },
        versions={"celery": "5.7.0"},
        less_durable={},
        configuration={"peers": peers},
        reference={"void": False, "why": ""},
    )


# --- sad paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"quick": True}, "it was quick"),
        ({"whole": False}, "it was stopped"),
        ({"reference": {"void": True, "why": "off"}}, "it is void: raw Celery is off"),
    ],
)
def test_a_run_that_says_little_is_not_published(found, changed, why):
    assert publish.unfit({**found, **changed}) == why


def test_a_peer_that_was_not_measured_is_named_with_its_reason(found):
    assert "- Absent: does not install: no wheel." in publish.text(found)


def test_a_rival_that_did_not_end_what_it_was_given_is_told_of(found):
    assert "had no result" not in publish.text({**found, "unended": 0})
    assert "had no result for something that it was given, once," in publish.text(
        {**found, "unended": 1}
    )
    assert "2 times" in publish.text({**found, "unended": 2})


def test_a_readme_without_its_markers_is_left_as_it_is(found):
    with pytest.raises(ValueError, match="lacks"):
        publish.placed("# Celeriac\n", publish.text(found))


def test_a_rival_that_was_not_at_its_best_makes_the_run_void():
    slow = {**RATES, "steps_per_second": 390.0}
    assert reference.verdict([(slow, RATES)])["void"] is True
    assert reference.verdict([(RATES, RATES), (slow, RATES), (RATES, RATES)])["void"] is False
    assert reference.verdict([({**RATES, "fan_out_s": 9.0}, RATES)])["void"] is False


def test_a_run_that_nobody_could_check_says_so():
    verdict = reference.verdict([])
    assert verdict["void"] is None
    assert verdict["why"]


# --- what is published ------------------------------------------------------------------------------


def test_a_script_that_tells_half_of_what_decides_has_not_ended() -> None:
    """Its workloads fail one by one; then it is run again, rather than that nobody can compare."""
    whole = {"W1": {"ms_per_step": 2.0}, "W2": {"steps_per_s": 700}, "W3": {"error": "hung"}}
    assert reference.read(json.dumps(whole)) == {
        "chain_ms_per_step": 2.0,
        "steps_per_second": 700.0,
    }
    with pytest.raises(Unended, match="steps_per_second"):
        reference.read(json.dumps({**whole, "W2": {"error": "hung"}}))


def test_a_run_that_is_whole_is_published(found):
    assert publish.unfit(found) == ""


def test_the_table_has_every_system_with_its_ratio_and_its_size(found):
    text = publish.text(found)
    assert f"| | {RAW} | Celeriac | Celeriac, sandboxed | Swift | Absent |" in text
    assert "| 500 (1.00x) | 750 (1.50x) | 375 (0.75x) | 500 (1.00x) | - |" in text
    assert "- Swift: swift 1.2; measured with runs 30." in text
    assert "| 10 000 | 2200 (1.10x) |" in text
    assert "In the sandbox over without: 200 runs of 10 steps, no-op, steps/s 0.50x" in text


def test_publishing_twice_leaves_what_publishing_once_does(found):
    text = publish.text(found)
    readme = f"before\n{publish.BEGIN}\nolder\n{publish.END}\nafter\n"
    once = publish.placed(readme, text)
    assert once == f"before\n{text}\nafter\n"
    assert publish.placed(once, text) == once


def test_a_run_that_nobody_could_check_is_published_as_such(found):
    unchecked = {**found, "reference": reference.verdict([])}
    assert publish.unfit(unchecked) == ""
    assert "somebody else's script: not checked with" in publish.text(unchecked)


def test_the_readme_has_the_markers():
    readme = publish.README.read_text()
    assert readme.count(publish.BEGIN) == readme.count(publish.END) == 1


def test_the_picture_is_one_and_shows_whoever_was_measured(found):
    root = ET.fromstring(picture.drawn(found))
    texts = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {RAW, "Celeriac", "Swift", "10 000"} <= set(texts)
    assert "Absent" not in texts


def test_a_run_of_nobody_is_still_a_picture(found):
    assert ET.fromstring(picture.drawn({**found, "systems": {}, "burden": {}})).tag.endswith("svg")
