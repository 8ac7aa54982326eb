from __future__ import annotations

from typing import Any

from celeriac.cli import watching
from celeriac.cli.watching import Story
from celeriac.client import Client, Line, LogLine, Run
from engine.core import codec
from engine.core import messages as msg
from tests.support import play

#: A step as it stands in its column.
A = f"{'a#1':<24} "


def line(record: Any, seconds: float = 0) -> Line:
    """A line of history as the client reads it."""
    written = codec.write(record)
    return Line(
        seq=1,
        at=play.at(seconds),
        kind=written.kind,
        format=codec.FORMAT,
        body=written.body,
        hash="",
    )


def told(story: Story, *lines: Line | LogLine) -> list[str]:
    return [text.plain for each in lines for text in story.tell(each)]


def admitted(key: str = "a#1", seconds: float = 0) -> Line:
    return line(msg.Admitted(at=play.at(seconds), step=msg.StepKey(key)), seconds)


def test_a_failed_attempt_says_why() -> None:
    story = Story()

    lines = told(story, admitted(), line(play.failed("a#1", reason="timeout"), seconds=2))

    assert lines == [f"✗ {A} 2.0 s  timeout: boom"]
    assert story.live == {}


def said(text: str, *, call: int = 1, stream: str = "tokens") -> LogLine:
    return LogLine(step="a#1", attempt=1, line=1, stream=stream, text=text, at=play.NOW, call=call)


def test_what_a_model_says_is_shown_by_its_lines_and_what_it_is_saying_beside_the_clock() -> None:
    story = Story()

    assert told(story, admitted(), said("I lo"), said("ok\nand")) == ["  | I look"]
    assert watching.waiting(story, play.at(2)) == "a#1 (2.0 s): and"
    assert told(story, said(" find"), said("next", call=3)) == ["  | and find"]
    assert told(story, said("printed", stream="stdout")) == ["  | next", "  | printed"]
    assert told(story, said("the end"), line(play.succeeded("a#1"), seconds=2)) == [
        "  | the end",
        f"✓ {A} 2.0 s",
    ]
    told(story, said("left over"))
    assert [text.plain for text in story.rest()] == ["  | left over"]


def test_a_lost_attempt_names_its_worker() -> None:
    lines = told(Story(), admitted(), line(play.lost("a#1"), seconds=31))

    assert lines == [f"✗ {A} lost: its worker is gone (w1)"]


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

    assert told(Story(), line(retry, seconds=2)) == [f"↻ {A} attempt 2 in 3.0 s"]


def test_a_step_that_succeeded_says_how_long_it_took() -> None:
    lines = told(Story(), admitted(), line(play.succeeded("a#1"), seconds=0.25))

    assert lines == [f"✓ {A} 250 ms"]


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


def test_what_a_step_printed_is_told_as_it_is_but_legible() -> None:
    printed = LogLine(
        step="a#1", attempt=1, line=1, stream="stdout", text="50%\x1b[2J", at=play.NOW
    )

    assert told(Story(), printed) == ["  | 50%\\x1b[2J"]


def test_a_run_that_failed_says_where_and_why() -> None:
    run = ended("failed", step="a#1", reason="timeout", message="took longer than 3 s")

    assert watching.ending(run).plain == (
        "failed after 3.0 s at a#1: timeout: took longer than 3 s"
    )


def test_a_run_that_completed_says_so() -> None:
    run = ended("completed", step="end#1", reason="end", message=None)

    assert watching.ending(run).plain == "completed after 3.0 s"


def ended(status: str, *, step: str, reason: str, message: str | None) -> Run:
    return Run(
        id="r1",
        workflow="line",
        version="1.0.0",
        version_id="v1",
        status=status,
        seq=9,
        submitted_by="ada",
        created_at=play.NOW,
        started_at=play.NOW,
        finished_at=play.at(3),
        reason=reason,
        message=message,
        ended_step=step,
        stuck_error=None,
        stuck_until=None,
        client=Client("http://127.0.0.1:9", "none"),
    )
