"""The control-flow patterns, one graph and one test each, on the runner in memory.

The core that decides there is the one that decides on the platform, on which
`test_on_the_platform.py` runs each of them. `README.md` says how each pattern is said.
"""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

import pytest

from celeriac.testing import Act, Added, Completed, Record, Sent, runner
from celeriac.testing import run as run_in_memory
from engine.core import messages as msg
from tests.support import play as core
from tests.support.patterns import (
    ACTS,
    FOLDER,
    FUNCTIONS,
    GRAPHS,
    INPUTS,
    RACES,
    WORKFLOWS,
    heard,
    read,
)


def run(name: str, *acts: Act, **inputs: Any) -> Record:
    """A run of a pattern to its end: with its own inputs and acts, or others."""
    record = run_in_memory(
        read(name),
        inputs or INPUTS.get(name, {}),
        functions=FUNCTIONS,
        workflows=WORKFLOWS,
        acts=acts or ACTS.get(name, ()),
    )
    assert record.status == "completed", record.message
    assert (record.state.live, record.state.tokens, record.unused) == (0, (), ())
    return record


def keys(record: Record) -> list[str]:
    """The visits, in order of request."""
    return [step.key for step in record.steps]


def done(record: Record) -> list[str]:
    """The visits that ended well, in order."""
    kinds = (msg.AttemptSucceeded, msg.WaitEnded)
    return [e.record.step for e in record.history if isinstance(e.record, kinds)]


def began(record: Record, key: str) -> int:
    """The line of history at which a visit was asked for."""
    kinds = (msg.RequestStart, msg.PassNode)
    return _line(record, lambda found: isinstance(found, kinds) and found.step == key)


def ended(record: Record, key: str) -> int:
    """The line of history at which a visit ended well."""
    kinds = (msg.AttemptSucceeded, msg.WaitEnded)
    return _line(record, lambda found: isinstance(found, kinds) and found.step == key)


def _line(record: Record, wanted: Any) -> int:
    return next(line for line, entry in enumerate(record.history) if wanted(entry.record))


def admitted(record: Record, key: str) -> int:
    """The line of history at which a visit was let start."""
    return _line(record, lambda found: isinstance(found, msg.Admitted) and found.step == key)


def alone(record: Record, *visits: str) -> bool:
    """Whether no two of some visits were under way at one time, those that waited to start aside."""
    times = sorted((admitted(record, key), ended(record, key)) for key in visits)
    return all(before[1] < after[0] for before, after in itertools.pairwise(times))


def beside(record: Record, *visits: str) -> bool:
    """Whether all of some visits were under way at one time."""
    last = max(began(record, key) for key in visits)
    return all(ended(record, key) > last for key in visits if key in done(record))


def joins(record: Record) -> list[tuple[str, int, str]]:
    """Where threads came together, how many, and what decided it."""
    found = record.records(msg.JoinThreads)
    return [(join.node, len(join.joined), join.because) for join in found]


def absorbed(record: Record) -> int:
    return len(record.records(msg.AbsorbToken))


# --- basic control flow ---------------------------------------------------------------------


def test_wcp_01_a_task_starts_when_the_one_before_it_has_ended() -> None:
    record = run("wcp_01_sequence")
    assert keys(record) == ["draft#1", "edit#1", "print#1"]
    assert ended(record, "draft#1") < began(record, "edit#1")
    assert ended(record, "edit#1") < began(record, "print#1")
    assert [step.parents for step in record.steps] == [(), ("draft#1",), ("edit#1",)]


def test_wcp_02_one_thread_goes_on_as_several() -> None:
    record = run("wcp_02_parallel_split")
    assert keys(record) == ["order#1", "pack#1", "bill#1"]
    assert beside(record, "pack#1", "bill#1")


def test_wcp_03_several_threads_go_on_as_one_when_all_are_there() -> None:
    record = run("wcp_03_synchronization")
    assert beside(record, "pack#1", "bill#1")
    assert joins(record) == [("ship", 2, "last")]
    assert max(ended(record, "pack#1"), ended(record, "bill#1")) < began(record, "ship#1")
    assert record.visits("ship")[0].parents == ("pack#1", "bill#1")


@pytest.mark.parametrize(("amount", "way"), [(10, "pay"), (1000, "approve")])
def test_wcp_04_one_of_several_ways_is_taken(amount: int, way: str) -> None:
    record = run("wcp_04_exclusive_choice", amount=amount)
    assert keys(record) == ["read#1", f"{way}#1"]
    assert len(record.visits("read")[0].untaken) == 1


@pytest.mark.parametrize(("amount", "way"), [(10, "pay"), (1000, "approve")])
def test_wcp_05_ways_of_which_one_was_taken_lead_on_as_one(amount: int, way: str) -> None:
    record = run("wcp_05_simple_merge", amount=amount)
    assert keys(record) == ["read#1", f"{way}#1", "file#1"]
    assert joins(record) == []


# --- branching and synchronization ----------------------------------------------------------


@pytest.mark.parametrize(
    ("fire", "injured", "ways"),
    [
        (True, True, ["engine#1", "ambulance#1"]),
        (True, False, ["engine#1"]),
        (False, True, ["ambulance#1"]),
        (False, False, []),
    ],
)
def test_wcp_06_every_way_is_taken_that_holds(fire: bool, injured: bool, ways: list[str]) -> None:
    record = run("wcp_06_multi_choice", fire=fire, injured=injured)
    assert keys(record) == ["call#1", *ways]
    assert beside(record, *keys(record)[1:] or ["call#1"])


@pytest.mark.parametrize(
    ("fire", "injured", "parents"),
    [
        (True, True, [("engine#1", "ambulance#1")]),
        (True, False, [("engine#1",)]),
        (False, True, [("ambulance#1",)]),
        (False, False, []),
    ],
)
def test_wcp_07_the_ways_that_were_taken_are_waited_for(
    fire: bool, injured: bool, parents: list[tuple[str, ...]]
) -> None:
    record = run("wcp_07_structured_synchronizing_merge", fire=fire, injured=injured)
    assert [step.parents for step in record.visits("report")] == parents


def test_wcp_08_each_thread_that_arrives_starts_what_follows() -> None:
    record = run("wcp_08_multi_merge")
    assert [step.parents for step in record.visits("inspect")] == [("water#1",), ("weed#1",)]
    assert joins(record) == []


def test_wcp_09_the_first_thread_goes_on_and_the_others_end_on_arrival() -> None:
    record = run("wcp_09_structured_discriminator")
    assert joins(record) == [("answer", 1, "demand")]
    assert began(record, "answer#1") < ended(record, "south#1")
    assert keys(record).count("answer#1") == len(record.visits("answer")) == 1
    assert absorbed(record) == 1


def test_wcp_28_threads_of_two_visits_of_a_fork_do_not_meet() -> None:
    record = run("wcp_28_blocking_discriminator")
    assert beside(record, "north#1", "north#2")
    assert joins(record) == [("answer", 1, "demand")] * 2
    first, second = record.visits("answer")
    assert {*first.parents, *second.parents} == {"north#1", "north#2"}
    assert absorbed(record) == 2


def test_wcp_29_the_first_thread_goes_on_and_the_others_are_cancelled() -> None:
    record = run("wcp_29_cancelling_discriminator")
    assert joins(record) == [("answer", 1, "demand")]
    assert done(record) == ["ask#1", "north#1", "answer#1"]
    assert began(record, "south#1") < began(record, "answer#1")


def test_wcp_30_two_of_three_threads_are_enough_and_the_third_ends_on_arrival() -> None:
    record = run("wcp_30_structured_partial_join")
    assert joins(record) == [("meet", 2, "demand")]
    assert record.visits("meet")[0].parents == ("ada#1", "bob#1")
    assert "eve#1" in done(record)
    assert absorbed(record) == 1


def test_wcp_31_two_of_three_are_enough_in_each_visit_of_the_fork() -> None:
    record = run("wcp_31_blocking_partial_join")
    assert joins(record) == [("meet", 2, "demand")] * 2
    parents = {step.parents for step in record.visits("meet")}
    assert parents == {("ada#1", "bob#1"), ("ada#2", "bob#2")}
    assert absorbed(record) == 2


def test_wcp_32_two_of_three_threads_are_enough_and_the_third_is_cancelled() -> None:
    record = run("wcp_32_cancelling_partial_join")
    assert joins(record) == [("meet", 2, "demand")]
    assert done(record) == ["invite#1", "ada#1", "bob#1", "meet#1"]


def test_wcp_33_what_came_too_often_on_one_edge_waits_for_the_next_time() -> None:
    record = run("wcp_33_generalised_and_join")
    assert joins(record) == [("screw", 2, "demand")] * 2
    assert absorbed(record) == 0
    parents = [step.parents for step in record.visits("screw")]
    assert parents == [("bolt#1", "nut#1"), ("bolt#2", "nut#2")]


@pytest.mark.parametrize(
    ("abroad", "large", "parents"),
    [
        (True, True, ("customs#1", "crane#1")),
        (True, False, ("customs#1", "crate#1")),
        (False, True, ("crane#1",)),
        (False, False, ("crate#1",)),
    ],
)
def test_wcp_37_a_join_waits_for_what_can_still_come_to_it(
    abroad: bool, large: bool, parents: tuple[str, ...]
) -> None:
    record = run("wcp_37_local_synchronizing_merge", abroad=abroad, large=large)
    assert [step.parents for step in record.visits("load")] == [parents]


@pytest.mark.parametrize(
    ("found", "parents"), [(True, ("write#1", "search#3")), (False, ("write#1",))]
)
def test_wcp_38_a_join_waits_for_a_thread_in_a_loop_while_it_may_come(
    found: bool, parents: tuple[str, ...]
) -> None:
    record = run("wcp_38_general_synchronizing_merge", laps=3, found=found)
    assert [step.parents for step in record.visits("publish")] == [parents]
    assert ended(record, "search#3") < began(record, "publish#1")


def test_wcp_41_so_many_threads_of_one_branch_go_on_as_one() -> None:
    record = run("wcp_41_thread_merge")
    assert beside(record, "letter#1", "letter#2", "letter#3")
    assert joins(record) == [("bundle", 3, "demand")]
    assert record.visits("bundle")[0].parents == ("letter#1", "letter#2", "letter#3")


def test_wcp_42_so_many_threads_start_in_one_branch() -> None:
    record = run("wcp_42_thread_split")
    assert beside(record, "label#1", "label#2", "label#3")
    assert [step.parents for step in record.visits("shelve")] == [
        ("label#1",),
        ("label#2",),
        ("label#3",),
    ]


# --- multiple instances ---------------------------------------------------------------------


def test_wcp_12_a_task_is_started_several_times_and_nobody_waits() -> None:
    record = run("wcp_12_instances_without_synchronization")
    assert beside(record, "mail#1", "mail#2", "mail#3", "archive#1")
    assert joins(record) == []


def test_wcp_13_a_task_is_started_three_times_and_all_are_waited_for() -> None:
    record = run("wcp_13_instances_known_at_design_time")
    assert beside(record, "review#1", "review#2", "review#3")
    assert joins(record) == [("decide", 3, "last")]


@pytest.mark.parametrize("reviewers", [1, 5])
def test_wcp_14_how_often_a_task_is_started_is_known_when_it_starts(reviewers: int) -> None:
    record = run("wcp_14_instances_known_at_run_time", reviewers=reviewers)
    assert len(record.visits("review")) == reviewers
    assert joins(record) == [("decide", reviewers, "last")]


def test_wcp_14_no_instances_end_the_thread() -> None:
    assert keys(run("wcp_14_instances_known_at_run_time", reviewers=0)) == ["assign#1"]


def test_wcp_34_two_of_three_visits_of_a_task_are_enough() -> None:
    record = run("wcp_34_static_partial_join_for_instances")
    assert joins(record) == [("decide", 2, "demand")]
    assert "review#3" in done(record)
    assert absorbed(record) == 1


def test_wcp_35_two_of_three_visits_of_a_task_are_enough_and_the_third_is_cancelled() -> None:
    record = run("wcp_35_cancelling_partial_join_for_instances")
    assert joins(record) == [("decide", 2, "demand")]
    assert "review#3" in keys(record)
    assert "review#3" not in done(record)


# --- cycles and ends ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("urgent", "path"),
    [
        (True, ["receive#1", "mend#1", "deliver#1"]),
        (
            False,
            [
                *("receive#1", "check#1", "mend#1", "check#2", "mend#2", "check#3"),
                "scrap#1",
            ],
        ),
    ],
)
def test_wcp_10_a_cycle_has_several_ways_in_and_out(urgent: bool, path: list[str]) -> None:
    assert keys(run("wcp_10_arbitrary_cycles", urgent=urgent)) == path


@pytest.mark.parametrize(("pages", "score"), [(2, 1), (0, 2), (1, 9)])
def test_wcp_21_a_task_is_repeated_while_a_condition_holds(pages: int, score: int) -> None:
    record = run("wcp_21_structured_loop", pages=pages, score=score)
    assert len(record.visits("scan")) == pages
    assert len(record.visits("refine")) == max(3 - score, 1)


def test_wcp_11_a_run_ends_when_nothing_is_left_to_do() -> None:
    record = run("wcp_11_implicit_termination")
    assert keys(record) == ["order#1", "pack#1", "bill#1", "remind#1"]
    assert record.reason == "end"


def test_wcp_43_a_run_has_ended_when_one_thread_gets_to_a_final_edge() -> None:
    record = run("wcp_43_explicit_termination")
    assert record.reason == "final"
    assert done(record) == ["search#1", "archive#1"]
    assert "library#1" in keys(record)


def test_wcp_18_a_task_may_start_only_while_another_thread_is_at_a_place() -> None:
    template = read("wcp_18_milestone")
    record = run("wcp_18_milestone")
    assert done(record) == ["order#1", "call#1", "pack#1", "change#1", "ship#1"]
    order, call, pack, ship = (
        core.succeeded(key) for key in ("order#1", "call#1", "pack#1", "ship#1")
    )
    assert sorted(core.play(template, order, call).state.steps) == ["change#1", "pack#1"]
    late = core.play(template, order, pack, call)
    assert sorted(late.state.steps) == ["ship#1"]
    refused = core.play(template, order, pack, call, ship)
    assert sorted(refused.state.steps) == ["refuse#1"]


def test_wcp_19_a_task_is_taken_back_before_it_ends() -> None:
    record = run("wcp_19_cancel_task")
    assert began(record, "produce#1") < ended(record, "recall#1")
    assert done(record) == ["order#1", "recall#1", "settle#1"]
    (join,) = record.records(msg.JoinThreads)
    assert join.cancels


def test_wcp_20_everything_of_a_run_is_taken_back() -> None:
    cancelled = msg.CancelRequested(at=core.NOW, by="ada", reason="no longer wanted")
    template = read("wcp_20_cancel_case")
    taken = core.play(template, core.succeeded("order#1"), core.succeeded("pack#1"), cancelled)
    assert (taken.state.status, taken.state.live, taken.state.tokens) == ("cancelled", 0, ())
    assert taken.state.ending.message == "no longer wanted"  # type: ignore[union-attr]
    late = core.play(template, core.succeeded("order#1"), cancelled, core.succeeded("bill#1"))
    assert late.state.status == "cancelled"
    assert "ship#1" not in core.visited(late)


def test_wcp_25_whatever_is_in_a_region_is_taken_back_and_the_rest_goes_on() -> None:
    template = read("wcp_25_cancel_region")
    record = run("wcp_25_cancel_region")
    assert done(record) == ["claim#1", "estimate#1", "withdraw#1", "notify#1", "close#1"]
    assert joins(record) == [("close", 2, "last")]
    (region,) = record.records(msg.CancelRegion)
    assert (region.step, region.steps) == ("withdraw#1", {"repair": 1})
    early = core.play(template, core.succeeded("claim#1"), core.succeeded("withdraw#1"))
    assert sorted(early.state.steps) == ["notify#1"]
    late = [core.succeeded(key) for key in ("claim#1", "estimate#1", "repair#1", "withdraw#1")]
    assert not any(
        isinstance(c, msg.CancelRegion) for c in core.commands(core.play(template, *late))
    )


# --- people, events and other runs ----------------------------------------------------------


def test_wcp_15_a_task_is_started_for_more_items_while_it_goes_on() -> None:
    record = run("wcp_15_instances_added_at_run_time")
    assert len(record.visits("hear/item")) == len(record.children) == 4
    assert began(record, "hear#1.3") < ended(record, "hear#1.0")
    assert [found["said"] for found in record.variables["heard"]] == [
        *("no", "yes", "maybe", "never")
    ]


@pytest.mark.parametrize("added", [[], ["dan"], ["dan", "eve"]])
def test_wcp_15_how_often_is_known_when_all_are_done(added: list[str]) -> None:
    said = [heard("no") for _ in ["ann", *added]]
    acts = [*([Added("hear", added)] if added else []), *said]
    record = run("wcp_15_instances_added_at_run_time", *acts, witnesses=["ann"])
    assert len(record.variables["heard"]) == 1 + len(added)


@pytest.mark.parametrize(("days", "way"), [(13, "book"), (15, "withdraw")])
def test_wcp_16_what_comes_first_decides_and_the_other_is_withdrawn(days: int, way: str) -> None:
    record = run_in_memory(
        read("wcp_16_deferred_choice"),
        functions=FUNCTIONS,
        acts=[Sent("accepted", True, after=days * 86_400)],
    )
    assert (record.status, record.path[-1]) == ("completed", way)
    assert beside(record, "accepted#1", "lapsed#1")
    (join,) = record.records(msg.JoinThreads)
    assert (join.because, len(join.joined), join.cancels) == ("demand", 1, True)


def test_wcp_17_branches_take_turns_and_each_keeps_its_order() -> None:
    record = run("wcp_17_interleaved_parallel_routing")
    assert began(record, "scan#1") < ended(record, "blood#1")
    assert alone(record, "blood#1", "sugar#1", "scan#1")
    assert ended(record, "blood#1") < began(record, "sugar#1")
    assert joins(record) == [("discharge", 2, "last")]


@pytest.mark.parametrize("boxes", [1, 4])
def test_wcp_22_a_workflow_runs_itself(boxes: int) -> None:
    record = run("wcp_22_recursion", boxes=boxes)
    assert record.outputs == {"opened": boxes}
    depth, deepest = 0, record
    while deepest.children:
        (deepest,) = deepest.children
        depth += 1
    assert (depth, deepest.path) == (boxes - 1, ("open", "end"))


def test_wcp_23_what_nobody_waits_for_is_lost() -> None:
    called = Sent("boarding", at="called", after=60)
    assert run("wcp_23_transient_trigger", Sent("boarding"), called).path[-1] == "board"
    missed = run("wcp_23_transient_trigger", Sent("boarding"))
    assert missed.path == ("check_in", "called", "rebook")


def test_wcp_24_what_nobody_waits_for_is_kept() -> None:
    paid = Sent("paid", match={"order": 7})
    assert run("wcp_24_persistent_trigger", paid).path == ("pack", "paid", "ship")
    late = Sent("paid", match={"order": 7}, at="paid", after=60)
    assert run("wcp_24_persistent_trigger", late).path == ("pack", "paid", "ship")
    other = run_in_memory(
        read("wcp_24_persistent_trigger"),
        {"order": 7},
        functions=FUNCTIONS,
        acts=[Sent("paid", match={"order": 8})],
    )
    assert (other.status, [wait.node for wait in other.waiting]) == ("running", ["paid"])


def test_wcp_26_all_instances_are_taken_back_and_the_rest_goes_on() -> None:
    record = run("wcp_26_cancel_multiple_instance_task")
    (region,) = record.records(msg.CancelRegion)
    assert (region.step, region.steps) == ("withdrawn#1", {"hear": 1})
    assert [child.status for child in record.children] == ["completed", "cancelled", "cancelled"]
    assert "judge" not in record.path
    assert "close#1" in done(record)


def test_wcp_27_what_is_done_counts_and_the_rest_is_taken_back() -> None:
    record = run("wcp_27_complete_multiple_instance_task")
    (gathered,) = record.records(msg.GatherItems)
    assert gathered.because == "asked"
    assert record.variables["heard"] == [{"said": "no"}, None, None]
    assert [child.status for child in record.children] == ["completed", "cancelled", "cancelled"]
    assert "judge#1" in done(record)


def test_wcp_27_nothing_done_is_enough_if_somebody_says_so() -> None:
    record = run("wcp_27_complete_multiple_instance_task", Completed("hear"))
    assert record.variables["heard"] == [None, None, None]


def test_wcp_36_how_many_are_enough_is_said_while_they_go_on() -> None:
    record = run("wcp_36_dynamic_partial_join_for_instances")
    (gathered,) = record.records(msg.GatherItems)
    assert (gathered.because, gathered.count) == ("enough", 4)
    assert [found and found["said"] for found in record.variables["heard"]] == [
        *("no", "yes", None, None)
    ]
    assert record.reason == "final"


def test_wcp_39_one_thread_at_a_time_is_in_a_section() -> None:
    record = run("wcp_39_critical_section")
    knee, heart = ("knee#1", "clean_after_knee#1"), ("heart#1", "clean_after_heart#1")
    first, second = sorted([knee, heart], key=lambda pair: ended(record, pair[0]))
    assert ended(record, first[1]) < admitted(record, second[0])
    assert beside(record, "knee#1", "heart#1", "bill#1")


def test_wcp_40_all_of_them_in_any_order_and_never_two_at_a_time() -> None:
    record = run("wcp_40_interleaved_routing")
    assert alone(record, "blood#1", "scan#1", "weigh#1")
    assert beside(record, "blood#1", "scan#1", "weigh#1")


# --- all of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_no_order_in_which_steps_end_changes_what_comes_of_a_graph(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(name)
    for seed in range(12):
        monkeypatch.setattr(runner, "_chosen", random.Random(seed).choice)
        record = run(name)
        assert (record.status, record.reason) == (expected.status, expected.reason)
        assert joins(record) == joins(expected)
        if name not in RACES:
            assert sorted(keys(record)) == sorted(keys(expected))
            assert sorted(done(record)) == sorted(done(expected))
        assert core.fold(record.history).variables == record.variables


def test_every_pattern_is_in_the_table_with_its_graph_and_its_test() -> None:
    table = (FOLDER / "README.md").read_text()
    rows = dict(re.findall(r"^\| WCP-(\d+) \| ([^|]+) \|", table, flags=re.MULTILINE))
    assert [int(number) for number in rows] == [*range(1, 44)]
    linked = set(re.findall(r"\(graphs/(wcp_\d\d_\w+)\.yaml\)", table))
    assert linked == {*GRAPHS}
    tested = {match[1] for name in globals() if (match := re.match(r"test_wcp_(\d\d)_", name))}
    assert tested == {name[4:6] for name in GRAPHS}
    for name in GRAPHS:
        title = rows[str(int(name[4:6]))].strip()
        first = (FOLDER / "graphs" / f"{name}.yaml").read_text().splitlines()[0]
        assert first.startswith(f"# WCP-{int(name[4:6])} {title}: "), name
