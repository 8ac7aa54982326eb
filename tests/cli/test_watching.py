from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.cli import watching
from celeriac.cli.watching import Story
from engine.core import codec
from engine.core import messages as msg
from tests.support import play


def line(record: Any, seconds: float = 0) -> Mapping[str, Any]:
    """A line of history as the API shows it."""
    written = codec.write(record)
    return {
        "seq": 1,
        "at": play.at(seconds).isoformat(),
        "kind": written.kind,
        "body": written.body,
    }


def told(story: Story, *lines: Mapping[str, Any]) -> list[str]:
    return [text.plain for each in lines for text in story.tell(each)]


def admitted(key: str = "a#1", seconds: float = 0) -> Mapping[str, Any]:
    return line(msg.Admitted(at=play.at(seconds), step=msg.StepKey(key)), seconds)


def test_a_failed_attempt_says_why() -> None:
    story = Story()

    lines = told(story, admitted(), line(play.failed("a#1", reason="timeout"), seconds=2))

    assert lines == ["✗ a#1  2.0 s  timeout: boom"]
    assert story.live == {}


def test_a_lost_attempt_names_its_worker() -> None:
    lines = told(Story(), admitted(), line(play.lost("a#1"), seconds=31))

    assert lines == ["✗ a#1  lost: its worker is gone (w1)"]


def test_what_a_step_wrote_cannot_command_the_terminal() -> None:
    failed = msg.AttemptFailed(
        at=play.NOW,
        step=msg.StepKey("a#1"),
        attempt=1,
        fence=1,
        reason="error",
        message="\x1b]0;owned\x07",
    )

    (shown,) = told(Story(), line(failed))

    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_a_retry_says_when() -> None:
    retry = msg.RetryStep(step=msg.StepKey("a#1"), attempt=2, not_before=play.at(5), reason="error")

    assert told(Story(), line(retry, seconds=2)) == ["↻ a#1  attempt 2 in 3.0 s"]


def test_a_step_that_succeeded_says_how_long_it_took() -> None:
    lines = told(Story(), admitted(), line(play.succeeded("a#1"), seconds=0.25))

    assert lines == ["✓ a#1  250 ms"]


def test_a_choice_names_the_way_taken() -> None:
    taken = msg.TakeEdges(
        step=msg.StepKey("grade#1"),
        taken=(msg.Taken(edge=play.edge("grade -> draft").id, target=play.NodeId("draft")),),
        untaken=(msg.Untaken(edge=play.edge("grade -> end").id, why="earlier"),),
    )

    assert told(Story(), line(taken)) == ["  → draft"]


def test_the_only_way_on_is_not_worth_a_line() -> None:
    taken = msg.TakeEdges(
        step=msg.StepKey("a#1"),
        taken=(msg.Taken(edge=play.edge("a -> b").id, target=play.NodeId("b")),),
    )

    assert told(Story(), line(taken)) == []


def test_a_bound_that_ends_a_loop_is_said() -> None:
    taken = msg.TakeEdges(
        step=msg.StepKey("a#3"),
        taken=(msg.Taken(edge=play.edge("a -> end").id, target=play.NodeId("end")),),
        untaken=(msg.Untaken(edge=play.edge("a -> a", label="loop").id, why="max_iterations"),),
    )

    assert told(Story(), line(taken)) == [
        "  ∎ no further lap: max_iterations is reached",
        "  → end",
    ]


def test_what_is_live_is_said_with_its_time() -> None:
    story = Story()
    told(story, admitted("a#1"), admitted("b#1", seconds=1))

    assert watching.waiting(story, play.at(3)) == "a#1 (3.0 s), b#1 (2.0 s)"


def test_a_run_that_failed_says_where_and_why() -> None:
    run = {
        "status": "failed",
        "created_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:00:03Z",
        "ended_step": "a#1",
        "reason": "timeout",
        "message": "took longer than 3 s",
    }

    assert watching.ending(run).plain == (
        "failed after 3.0 s at a#1: timeout: took longer than 3 s"
    )


def test_a_run_that_completed_says_so() -> None:
    run = {
        "status": "completed",
        "created_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:00:03Z",
        "ended_step": "end#1",
        "reason": "end",
        "message": None,
    }

    assert watching.ending(run).plain == "completed after 3.0 s"
