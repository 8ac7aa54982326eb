"""Histories in the words of seed 000: pure, line by line."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import messages as msg
from engine.core.graph import EdgeId, NodeId, Retry
from engine.core.transitions import TERMINAL, RunStatus
from tests.support import play
from web.seed000 import shape
from web.seed000.shape import Entry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = {
    *("started", "executing", "completed", "transition"),
    *("end_reached", "max_iterations", "timeout", "error"),
}


def entries(records: Iterable[msg.Entry]) -> list[Entry]:
    return [
        Entry(seq=seq, at=entry.at, record=entry.record)
        for seq, entry in enumerate(records, start=1)
    ]


def told(*events: msg.AnyEvent, template: object = play.LINE) -> shape.Told:
    return shape.tell(entries(play.play(template, *events).entries))  # type: ignore[arg-type]


def lines(of: shape.Told) -> list[tuple[str, int, str]]:
    return [(step["node"], step["iteration"], step["status"]) for step in of.steps]


def failing(reason: str, message: str = "boom") -> msg.AttemptFailed:
    return msg.AttemptFailed(
        at=NOW, step=msg.StepKey("a#1"), attempt=1, fence=1, reason=reason, message=message
    )


# --- what goes wrong ---------------------------------------------------------------------------


def test_a_failed_attempt_is_an_error_and_closes_the_log_as_one() -> None:
    steps = told(failing("error")).steps
    assert [(s["node"], s["status"]) for s in steps[-2:]] == [("a", "error"), ("workflow", "error")]
    assert steps[-2]["message"] == "Error in node a: boom"
    assert steps[-2]["data"] == {"reason": "error", "attempt": 1}
    assert steps[-1]["data"] == {"status": "error", "reason": "error"}


def test_a_timeout_is_a_timeout() -> None:
    assert told(failing("timeout", "after 5 s")).steps[-2]["status"] == "timeout"


def test_a_lost_worker_and_another_attempt_are_told() -> None:
    found = lines(told(play.lost("a#1"), play.succeeded("a#1", attempt=2)))
    assert found[3:7] == [
        ("a", 1, "error"),
        ("a", 1, "started"),
        ("a", 1, "executing"),
        ("a", 1, "completed"),
    ]


def test_a_cancelled_run_closes_its_log_and_says_so() -> None:
    last = told(msg.CancelRequested(at=NOW, by="ada", reason="enough")).steps[-1]
    assert (last["node"], last["status"]) == ("workflow", "error")
    assert last["message"] == "Workflow cancelled: enough"
    assert last["data"]["status"] == "cancelled"


def test_a_bound_that_is_reached_is_told_with_where_it_goes_on() -> None:
    template = play.graph(
        play.edge("start -> work"),
        play.edge("work -> work", label="loop"),
        play.edge("work -> end"),
        nodes=[play.node("work", max_iterations=2)],
    )
    (bound,) = (
        step
        for step in told(
            play.succeeded("work#1"), play.succeeded("work#2"), template=template
        ).steps
        if step["status"] == "max_iterations"
    )
    assert (bound["node"], bound["iteration"]) == ("work", 2)
    assert bound["data"] == {"to": ["end"], "max_iterations": 2}
    assert "end" in bound["message"]


def test_snapshots_beyond_the_bound_are_counted_and_left_out() -> None:
    big = "x" * 300_000
    template = play.graph(*(play.edge(f"n{n} -> n{n + 1}") for n in range(6)))
    found = told(
        *(play.succeeded(f"n{n}#1", patch={"big": big}) for n in range(6)), template=template
    )
    assert (len(found.snapshots), found.omitted) == (2, 4)
    assert all(step["data"] != {"big": big} for step in found.steps)


def test_large_values_are_told_by_their_size() -> None:
    found = told(play.succeeded("a#1", patch={"big": "x" * 70_000, "small": 1}))
    (data,) = (s["data"] for s in found.steps if (s["node"], s["status"]) == ("a", "completed"))
    assert data == {"big": {"$omitted": 70_002}, "small": 1}


# --- what is promised --------------------------------------------------------------------------


def test_a_line_of_nodes_is_told_in_order() -> None:
    assert lines(told(play.succeeded("a#1"), play.succeeded("b#1"))) == [
        ("start", 1, "started"),
        ("start", 1, "transition"),
        ("a", 1, "executing"),
        ("a", 1, "completed"),
        ("a", 1, "transition"),
        ("b", 1, "executing"),
        ("b", 1, "completed"),
        ("b", 1, "transition"),
        ("end", 1, "completed"),
        ("end", 1, "end_reached"),
        ("workflow", 0, "completed"),
    ]


def test_input_and_output_of_a_node_are_the_variables_before_and_after_it() -> None:
    found = shape.tell(
        entries(
            play.play(
                play.LINE,
                play.submitted(n=1),
                play.succeeded("a#1", patch={"n": 2}),
                play.succeeded("b#1", patch={"m": 0}),
            ).entries
        )
    )
    assert [(s["node"], s["input"], s["output"]) for s in found.snapshots] == [
        ("a", {"n": 1}, {"n": 2}),
        ("b", {"n": 2}, {"n": 2, "m": 0}),
    ]
    assert (found.transitions, found.final_node) == (3, "end")


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (RunStatus.QUEUED, "running"),
        (RunStatus.RUNNING, "running"),
        (RunStatus.PAUSED, "running"),
        (RunStatus.COMPLETED, "completed"),
        (RunStatus.FAILED, "error"),
        (RunStatus.CANCELLED, "cancelled"),
    ],
)
def test_every_status_has_a_word(status: RunStatus, word: str) -> None:
    assert shape.status(status) == word
    assert len(RunStatus) == 6


RECORDS: list[msg.Record] = [
    play.submitted(a=1),
    play.succeeded("a#1", patch={"a": 1}),
    failing("error"),
    failing("timeout"),
    play.lost("a#1"),
    play.woke("a#1"),
    play.ticked(),
    msg.CancelRequested(at=NOW, by="ada"),
    msg.Admitted(at=NOW, step=msg.StepKey("a#1")),
    msg.Refused(at=NOW, step=msg.StepKey("a#1"), rule="budget", message="spent"),
    msg.Deferred(at=NOW, step=msg.StepKey("a#1"), rule="limit", until=NOW),
    msg.RequestStart(step=msg.StepKey("a#1"), node=NodeId("a"), iteration=1, attempt=1),
    msg.RequestStart(
        step=msg.StepKey("a#1"), node=NodeId("a"), iteration=1, attempt=2, via=EdgeId("x")
    ),
    msg.PassNode(step=msg.StepKey("a#1"), node=NodeId("a"), iteration=1, via=EdgeId("x")),
    msg.TakeEdges(step=msg.StepKey("a#1")),
    msg.TakeEdges(
        step=msg.StepKey("a#1"),
        untaken=(msg.Untaken(edge=EdgeId("x"), why="condition"),),
    ),
    msg.RetryStep(step=msg.StepKey("a#1"), attempt=2, not_before=NOW, reason="error"),
    msg.Forked(at=NOW, by="ada", version="v", run="r0", seq=4, hash="", variables={"n": 1}),
    msg.PauseRequested(at=NOW, by="ada"),
    msg.ResumeRequested(at=NOW, by="ada"),
    msg.RollbackRequested(at=NOW, by="ada", seq=2, variables={"n": 1}),
    msg.RollBack(seq=2, anew={msg.StepKey("a#1"): msg.StepKey("a#2")}),
    msg.SkipRequested(at=NOW, step=msg.StepKey("a#1"), by="ada"),
    msg.ResultGiven(at=NOW, step=msg.StepKey("a#1"), by="ada"),
    msg.RetryRequested(at=NOW, step=msg.StepKey("a#1"), by="ada", attempt=1),
    msg.TerminateRequested(at=NOW, by="ada"),
    msg.JoinThreads(
        node=NodeId("a"), scope="f#1", joined=((EdgeId("x"), (("f#1", 0),)),), thread=msg.ROOT
    ),
    msg.AbsorbToken(edge=EdgeId("x"), thread=(("f#1", 0),)),
    msg.CloseScope(scope="f#1"),
    msg.MissMilestone(
        node=NodeId("a"),
        edge=EdgeId("x"),
        thread=msg.ROOT,
        because="expired",
        short=msg.Taken(edge=EdgeId("y"), target=NodeId("b")),
    ),
    msg.CancelRegion(step=msg.StepKey("a#1"), nodes=(NodeId("b"),)),
    msg.OpenWait(step=msg.StepKey("a#1"), kind="event"),
    msg.Opened(at=NOW, step=msg.StepKey("a#1"), until=NOW),
    msg.NotOpened(at=NOW, step=msg.StepKey("a#1"), reason="input_failed", message="no list"),
    msg.WaitEnded(at=NOW, step=msg.StepKey("a#1"), attempt=1, by=("user:ada",), choice="approve"),
    msg.WaitFailed(
        at=NOW, step=msg.StepKey("a#1"), attempt=1, reason="child_failed", message="boom"
    ),
    msg.SaveResult(step=msg.StepKey("a#1")),
    msg.Saved(at=NOW, step=msg.StepKey("a#1"), patch={"a": 1}),
    msg.NotSaved(at=NOW, step=msg.StepKey("a#1"), reason="save_failed", message="no number"),
    msg.ItemsAdded(at=NOW, step=msg.StepKey("a#1"), by="ada", items=(1,)),
    msg.AddItems(step=msg.StepKey("a#1"), first=3, count=1),
    msg.RequestStart(
        step=msg.StepKey("a#1.3"),
        node=NodeId("a/item"),
        iteration=1,
        attempt=1,
        of=msg.StepKey("a#1"),
        index=3,
    ),
    play.succeeded("a#1.3"),
    msg.SettleItem(step=msg.StepKey("a#1.3")),
    msg.CompleteRequested(at=NOW, step=msg.StepKey("a#1"), by="ada"),
    msg.GatherItems(step=msg.StepKey("a#1"), count=4, because="asked"),
    msg.FailStep(step=msg.StepKey("a#1"), reason="items_failed", message="too many"),
    msg.BeginUndo(status=RunStatus.FAILED, reason="error"),
    msg.FindUndo(),
    msg.UndoFound(at=NOW, step=msg.StepKey("a#1"), node=NodeId("a"), seq=3),
    msg.NothingToUndo(at=NOW),
    msg.Governed(at=NOW, number=1),
    msg.MigrateRequested(at=NOW, by="ada", request="r", version="v"),
    msg.Migrated(at=NOW, by="ada", request="r", version="v", was="u"),
    msg.NotMigrated(at=NOW, request="r", version="v", problems=({"path": "steps.a#1"},)),
    msg.Judged(at=NOW, step=msg.StepKey("a#1"), attempt=1, moment="start", rules=1),
    msg.Judged(
        at=NOW,
        step=msg.StepKey("a#1"),
        attempt=1,
        moment="report",
        rules=1,
        verdicts=(msg.Verdict(policy="p", version=1, rule="r", action="abort_lifetime"),),
    ),
    msg.AttemptSuspended(
        at=NOW, step=msg.StepKey("a#1"), attempt=1, fence=1, permits=("call:p:r#w",)
    ),
    msg.Parked(at=NOW, step=msg.StepKey("a#1"), permits=("start:p:r#w",)),
    msg.AttemptWithheld(
        at=NOW, step=msg.StepKey("a#1"), attempt=1, fence=1, permits=("report:p:r#w",)
    ),
    msg.SettleUndo(step=msg.StepKey("undo a#1")),
    *(msg.FinishRun(status=status, reason="end") for status in sorted(TERMINAL)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_record_gives_at_most_one_step_of_a_known_form(record: msg.Record) -> None:
    step = shape.step(Entry(seq=7, at=NOW, record=record))
    if step is not None:
        assert step["seq"] == 7
        assert step["status"] in STATUSES
        assert isinstance(step["node"], str)
        assert isinstance(step["iteration"], int)
        assert step["message"]
        assert step["data"] is None or isinstance(step["data"], dict)


def test_no_kind_of_record_is_forgotten() -> None:
    known = {*typing.get_args(msg.AnyEvent), *typing.get_args(msg.AnyCommand)}
    assert {type(record) for record in RECORDS} == known


@given(st.lists(st.sampled_from(RECORDS), max_size=20), st.integers(0, 20))
def test_a_log_that_is_told_in_two_parts_is_the_same_log(
    records: list[msg.Record], cut: int
) -> None:
    """Nothing of a step depends on what was told before it: streams rest on this."""
    whole = [
        Entry(seq=seq, at=NOW + timedelta(seconds=seq), record=record)
        for seq, record in enumerate(records, start=1)
    ]
    parts = [shape.step(entry) for entry in whole[:cut]] + [
        shape.step(entry) for entry in whole[cut:]
    ]
    assert [step for step in parts if step] == list(shape.tell(whole).steps)


def test_retries_of_a_node_are_told_with_their_number() -> None:
    template = play.graph(
        play.edge("start -> a"),
        play.edge("a -> end"),
        nodes=[play.node("a", retry=Retry(attempts=2, backoff=1, jitter=0.0))],
    )
    found = told(failing("error"), play.woke("a#1", seconds=5), template=template)
    (again,) = (step for step in found.steps[3:] if step["status"] == "started")
    assert again["data"] == {"attempt": 2, "reason": "error"}
